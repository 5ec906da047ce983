// Command cleave runs a neural network across an edge device, an edge server
// and the cloud.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"
)

// version is what the Makefile has put there, or else what Go knows of the source.
var version = unknownVersion

const unknownVersion = "dev"

// The exit codes of every command.
const (
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	if build, ok := debug.ReadBuildInfo(); ok && version == unknownVersion {
		version = builtFrom(build)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// builtFrom is the revision that go build found, "dev" where it looked for none. Rows of
// two programs must not mix, so each needs a name.
func builtFrom(build *debug.BuildInfo) string {
	revision, changes := "", ""
	for _, s := range build.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value[:min(12, len(s.Value))]
		case s.Key == "vcs.modified" && s.Value == "true":
			changes = "-dirty"
		}
	}
	if revision == "" {
		return unknownVersion
	}
	return revision + changes
}

// run executes one command line and returns its exit code.
func run(ctx context.Context, args []string) int {
	root := newRoot()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errSilent):
		return exitFailed
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		fmt.Fprintln(os.Stderr, "cleave: interrupted")
		return exitFailed
	}
	fmt.Fprintln(os.Stderr, "cleave:", oneLine(err))
	var usage usageError
	if errors.As(err, &usage) {
		return exitUsage
	}
	return exitFailed
}

// errSilent fails a command that has said all there is to say.
var errSilent = errors.New("failed")

// usageError is a command line that makes no sense.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

func newRoot() *cobra.Command {
	root := asGroup(&cobra.Command{
		Use:   "cleave",
		Short: "Run a neural network across device, edge and cloud, cut where measurements say",
		Long: `Cleave cuts an ONNX network across an edge device, an edge server and the cloud.
It measures each machine and each link, chooses the cut that answers fastest,
runs the pieces in ONNX Runtime and carries the tensors between them over QUIC.`,
		Example: `  cleave setup          # once: fetch ONNX Runtime
  cleave demo           # three agents on this machine, the main job`,
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
	})
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usagef("%w; see: %s --help", err, c.CommandPath())
	})
	root.AddCommand(newSetup(), newAgent(), newDemo(), newBench(), newExperiment(), newModel(), newProfile(), newPlan(), newRun(), newStream(), newCluster())
	return root
}

// exactArgs is cobra's check, as a usage error that names the command's help.
func exactArgs(n int, what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != n {
			return usagef("%s takes %s; see: %s --help", c.CommandPath(), what, c.CommandPath())
		}
		return nil
	}
}
