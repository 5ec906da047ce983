package main

import (
	"bytes"
	"flag"
	"os"
	"regexp"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/cleaveml/cleave/benchmarks"
)

var rewrite = flag.Bool("rewrite", false, "write docs/benchmarks.md anew; review it as a diff")

// TestBenchmarksPage: docs/benchmarks.md is what `cleave bench docs` prints.
func TestBenchmarksPage(t *testing.T) {
	const path = "../../docs/benchmarks.md"
	want, err := benchPage(os.DirFS("../../docs"))
	if err != nil {
		t.Fatal(err)
	}
	if *rewrite {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("docs/benchmarks.md is not what cleave bench docs prints: make docs")
	}
}

func TestExperimentsAreWhole(t *testing.T) {
	names := map[string]bool{}
	for _, e := range experiments() {
		if names[e.Name] || !regexp.MustCompile(`^[a-z]{3,12}$`).MatchString(e.Name) {
			t.Errorf("the name %q is taken, or none", e.Name)
		}
		names[e.Name] = true
		if words := newBenchCommand(e).unusual(); len(words) > 0 {
			t.Errorf("%s: %v is not standard by default", e.Name, words)
		}
		if e.About == "" || e.Method == "" || len(e.Goals) == 0 {
			t.Errorf("%s does not say what it is about", e.Name)
		}
		for _, g := range e.Goals {
			if g.About == "" || g.Unit == "" {
				t.Errorf("%s: the figure %s has no meaning or no unit", e.Name, g.Figure)
			}
		}
		flags := pflag.NewFlagSet(e.Name, pflag.ContinueOnError)
		e.define(flags)
		flags.VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" {
				t.Errorf("%s: --%s has no help", e.Name, f.Name)
			}
		})
	}
}

// TestBuiltFrom: a program that the Makefile has not built tells its revision too.
func TestBuiltFrom(t *testing.T) {
	setting := func(key, value string) debug.BuildSetting { return debug.BuildSetting{Key: key, Value: value} }
	for want, settings := range map[string][]debug.BuildSetting{
		"dev":                {setting("vcs.modified", "true")},
		"0123456789ab":       {setting("vcs.revision", "0123456789abcdef"), setting("vcs.modified", "false")},
		"0123456789ab-dirty": {setting("vcs.revision", "0123456789abcdef"), setting("vcs.modified", "true")},
	} {
		if got := builtFrom(&debug.BuildInfo{Settings: settings}); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestCommandThatContinues: what Ctrl-C prints is a command line of the same
// settings.
func TestCommandThatContinues(t *testing.T) {
	e := experiment{Experiment: benchmarks.Experiment{Name: "x"}, quick: true}
	var names []string
	e.define = func(flags *pflag.FlagSet) measurement {
		flags.StringSliceVar(&names, "model", []string{"a"}, "")
		flags.String("store", "", "")
		flags.Duration("work", time.Second, "")
		return nil
	}
	b := newBenchCommand(e)
	if err := b.command.ParseFlags([]string{"--model", "b,c", "--store", "it's here", "--quick", "--check", "--out", "x", "--seed", "3"}); err != nil {
		t.Fatal(err)
	}
	if got, want := b.again("x y"), `cleave bench x --check --model b,c --quick --seed 3 --store 'it'\''s here' --resume 'x y'`; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	if got := strings.Join(b.unusual(), " "); got != "--quick --model b,c" {
		t.Errorf("unusual: %s", got)
	}
	config := b.config()
	if len(config) != 3 || config["model"] != "b,c" || config["quick"] != "true" || config["work"] != "1s" {
		t.Errorf("config %v", config)
	}
}

func TestBar(t *testing.T) {
	b := &benchProgress{name: "x"}
	for want, p := range map[string]benchmarks.Progress{
		"4 rows  ":                                  {Done: 4, Measured: 4},
		"[                    ] 0/8  ":              {Expected: 8},
		"[==========          ] 4/8, 20s left  ":    {Done: 4, Measured: 2, Expected: 8},
		"[====================] 8/8  ":              {Done: 8, Measured: 8, Expected: 8},
		"[====================] 9/8  ":              {Done: 9, Measured: 8, Expected: 8},
		"[==                  ] 1/10, 1m30s left  ": {Done: 1, Measured: 1, Expected: 10},
	} {
		if b.at = p; b.bar(10*time.Second) != want {
			t.Errorf("%+v: %q, want %q", p, b.bar(10*time.Second), want)
		}
	}
}
