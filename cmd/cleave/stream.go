package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cleaveml/cleave/nodes"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/scheduler"
)

func newStream() *cobra.Command {
	c := &cobra.Command{
		Use:   "stream",
		Short: "See and steer streams of requests",
		Long: `A stream is a sequence of requests for one model that starts at one host, its
origin. The origin keeps the stream's settings and moves the cut while requests
flow. Any agent passes a command on to the origin. cleave run MODEL --stream NAME
opens a stream.`,
		Example: `  cleave stream ls
  cleave stream show camera
  cleave stream set camera --raw-stays on`,
	}
	c.AddCommand(newStreamList(), newStreamShow(), newStreamSet(), newStreamClose())
	return c
}

func newStreamList() *cobra.Command {
	var f clusterFlags
	var asJSON bool
	c := &cobra.Command{
		Use:     "ls",
		Short:   "List the streams of the cluster",
		Example: "  cleave stream ls --at 127.0.0.1:7433 --identity pki",
		Args:    exactArgs(0, "no arguments"),
		RunE: func(c *cobra.Command, _ []string) error {
			return f.ask(c.Context(), func(ctx context.Context, client *nodes.Client) error {
				all, err := allStreams(ctx, client)
				if err != nil {
					return err
				}
				if asJSON {
					return printJSON(c.OutOrStdout(), all)
				}
				printStreams(c.OutOrStdout(), all)
				return nil
			})
		},
	}
	f.register(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print the streams as JSON")
	return c
}

func newStreamShow() *cobra.Command {
	var f streamFlags
	var asJSON bool
	c := &cobra.Command{
		Use:     "show NAME",
		Short:   "Show a stream: its plan, what else it could do, when and why it changed",
		Example: "  cleave stream show camera",
		Args:    exactArgs(1, "one argument, the stream"),
		RunE: func(c *cobra.Command, args []string) error {
			return f.ask(c.Context(), func(ctx context.Context, client *nodes.Client) error {
				st, err := findStream(ctx, client, args[0], f.origin)
				if err != nil {
					return err
				}
				if asJSON {
					return printJSON(c.OutOrStdout(), st)
				}
				printStream(c.OutOrStdout(), st)
				return nil
			})
		},
	}
	f.register(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print the stream as JSON")
	return c
}

// streamFlags name one stream.
type streamFlags struct {
	clusterFlags
	origin string
}

func (f *streamFlags) register(c *cobra.Command) {
	f.clusterFlags.register(c)
	c.Flags().StringVar(&f.origin, "origin", "", "host at which the stream starts, where several have one of that name")
}

type setFlags struct {
	streamFlags
	rawStays, pin, drain string
	objective            objectiveFlags
	version              uint64
	json                 bool
}

func newStreamSet() *cobra.Command {
	var f setFlags
	c := &cobra.Command{
		Use:   "set NAME",
		Short: "Change settings of a stream",
		Long: `Change settings of a stream. They hold for every request that arrives after the
command has returned, are kept by the origin across restarts, and carry a
version that grows by one with each change.`,
		Example: `  cleave stream set camera --raw-stays on
  cleave stream set camera --pin device-only
  cleave stream set camera --pin none --drain edge-1
  cleave stream set camera --objective traffic --within 200ms
  cleave stream set camera --objective latency`,
		Args: exactArgs(1, "one argument, the stream"),
		RunE: func(c *cobra.Command, args []string) error { return runStreamSet(c, f, args[0]) },
	}
	f.register(c)
	c.Flags().StringVar(&f.rawStays, "raw-stays", "", "policy raw-stays-on-device: on or off")
	c.Flags().StringVar(&f.pin, "pin", "", "hold the stream to this plan (a name of cleave stream show, or device-only, edge-only, cloud-only); none frees it")
	c.Flags().StringVar(&f.drain, "drain", "", "hosts that get no new requests of the stream, with commas; none: all may")
	f.objective.register(c, "")
	c.Flags().Uint64Var(&f.version, "version", 0, "change only if the settings are at this version")
	c.Flags().BoolVar(&f.json, "json", false, "print the stream as JSON")
	return c
}

// change turns the flags into what to ask for.
func (f setFlags) change(name string) (nodes.SetRequest, error) {
	r := nodes.SetRequest{Stream: scheduler.StreamID(name), Version: f.version}
	switch f.rawStays {
	case "":
	case "on", "off":
		on := f.rawStays == "on"
		r.RawStays = &on
	default:
		return r, usagef("--raw-stays %q: want on or off", f.rawStays)
	}
	if f.pin != "" {
		pin := f.pin
		if pin == "none" {
			pin = ""
		}
		r.Pin = &pin
	}
	if f.drain != "" {
		hosts := []partition.HostID{}
		if f.drain != "none" {
			for _, h := range strings.Split(f.drain, ",") {
				hosts = append(hosts, partition.HostID(strings.TrimSpace(h)))
			}
		}
		r.Drain = &hosts
	}
	var err error
	if r.Objective, r.Within, err = f.objective.parse(); err != nil {
		return r, err
	}
	if r.RawStays == nil && r.Pin == nil && r.Drain == nil && !f.objective.given() {
		return r, usagef("nothing to change: give --raw-stays, --pin, --drain, --objective or --within")
	}
	return r, nil
}

func runStreamSet(c *cobra.Command, f setFlags, name string) error {
	r, err := f.change(name)
	if err != nil {
		return err
	}
	return f.ask(c.Context(), func(ctx context.Context, client *nodes.Client) error {
		st, err := findStream(ctx, client, name, f.origin)
		if err != nil {
			return err
		}
		r.Origin = st.Origin
		if st, err = client.Set(ctx, r); err != nil {
			return err
		}
		if f.json {
			return printJSON(c.OutOrStdout(), st)
		}
		fmt.Fprintf(c.OutOrStdout(), "%s is at version %d: %s\n", name, st.Settings.Version, settingsLine(st.Settings))
		printUnheld(c.OutOrStdout(), st)
		return nil
	})
}

func newStreamClose() *cobra.Command {
	var f streamFlags
	var forget, asJSON bool
	c := &cobra.Command{
		Use:   "close NAME",
		Short: "End a stream",
		Long: `End a stream: it takes no new request, those under way are answered first, and
the hosts that were kept ready for it are released. Its settings stay at the
origin for a stream of that name that is opened again, unless --forget is given.`,
		Example: `  cleave stream close camera
  cleave stream close camera --forget`,
		Args: exactArgs(1, "one argument, the stream"),
		RunE: func(c *cobra.Command, args []string) error {
			return f.ask(c.Context(), func(ctx context.Context, client *nodes.Client) error {
				r := nodes.CloseRequest{Stream: scheduler.StreamID(args[0]), Origin: partition.HostID(f.origin), Forget: forget}
				st, err := findStream(ctx, client, args[0], f.origin)
				if err == nil {
					r.Origin = st.Origin
				} else if _, none := errors.AsType[noStreamError](err); !none || !forget { // of one that is not open settings may be stored
					return err
				}
				st, err = client.CloseStream(ctx, r)
				if err != nil {
					return err
				}
				if asJSON {
					return printJSON(c.OutOrStdout(), st)
				}
				fmt.Fprintf(c.OutOrStdout(), "%s is closed: %d requests sent, %d answered, %d refused\n", st.Stream, st.Sent, st.Answered, st.Refused)
				return nil
			})
		},
	}
	f.register(c)
	c.Flags().BoolVar(&forget, "forget", false, "remove the stored settings too")
	c.Flags().BoolVar(&asJSON, "json", false, "print the stream's last state as JSON")
	return c
}

// allStreams asks every member for the streams that start there.
func allStreams(ctx context.Context, client *nodes.Client) ([]nodes.StreamState, error) {
	all, _, err := askStreams(ctx, client)
	return all, err
}

// askStreams is allStreams and the members that did not answer.
func askStreams(ctx context.Context, client *nodes.Client) (all []nodes.StreamState, silent []string, err error) {
	status, err := client.Status(ctx)
	if err != nil {
		return nil, nil, err
	}
	all = []nodes.StreamState{}
	for _, h := range status.Hosts {
		streams, err := client.Streams(ctx, h.ID)
		if err != nil && h.ID == status.ID {
			return nil, nil, err
		} else if err != nil {
			silent = append(silent, string(h.ID))
			continue
		}
		all = append(all, streams...)
	}
	return all, silent, nil
}

// noStreamError says that no stream has the name.
type noStreamError string

// Error implements error.
func (e noStreamError) Error() string { return string(e) }

// findStream finds the one stream of a name; where there are several, origin
// says which.
func findStream(ctx context.Context, client *nodes.Client, name, origin string) (nodes.StreamState, error) {
	var none nodes.StreamState
	all, silent, err := askStreams(ctx, client)
	if err != nil {
		return none, err
	}
	var names, origins []string
	var found nodes.StreamState
	for _, st := range all {
		if string(st.Stream) == name && (origin == "" || origin == string(st.Origin)) {
			found = st
			origins = append(origins, string(st.Origin))
		}
		names = append(names, string(st.Stream))
	}
	if len(origins) == 1 {
		return found, nil
	}
	if len(origins) > 1 {
		return none, fmt.Errorf("%d hosts have a stream called %q: %s; name the one that is meant: --origin %s", len(origins), name, strings.Join(origins, ", "), origins[0])
	}
	at, hush := "", ""
	if origin != "" {
		at = " at " + origin
	}
	if len(silent) > 0 {
		hush = " (" + strings.Join(silent, ", ") + " did not answer)"
	}
	if len(names) == 0 {
		return none, noStreamError(fmt.Sprintf("no stream is called %q: none is open%s; open one with: cleave run MODEL --input FILE --stream %s", name, hush, name))
	}
	return none, noStreamError(fmt.Sprintf("no stream is called %q%s; there are %s%s", name, at, strings.Join(names, ", "), hush))
}

func settingsLine(s scheduler.Settings) string {
	parts := []string{"raw input may leave the device"}
	if s.RawStays {
		parts[0] = "raw input stays on the device"
	}
	if s.Pin != "" {
		parts = append(parts, "pinned to "+s.Pin)
	}
	if len(s.Drain) > 0 {
		var hosts []string
		for _, h := range s.Drain {
			hosts = append(hosts, string(h))
		}
		parts = append(parts, "draining "+strings.Join(hosts, ", "))
	}
	if o := aimLine(s); o != "" {
		parts = append(parts, o)
	}
	return strings.Join(parts, ", ")
}

// printUnheld tells when a pin is not in force.
func printUnheld(w io.Writer, st nodes.StreamState) {
	if st.Unheld != "" {
		fmt.Fprintf(w, "the pin does not hold now, %s runs by %s: %s\n", st.Stream, st.Current, st.Unheld)
	}
}

func printStreams(w io.Writer, all []nodes.StreamState) {
	if len(all) == 0 {
		fmt.Fprintln(w, "No stream is open.")
		return
	}
	t := newGrid(w, []string{"stream", "origin", "model", "plan", "objective", "predicted", "sent", "answered", "refused", "switches"}, "predicted", "sent", "answered", "refused", "switches")
	for _, st := range all {
		t.row(st.Stream, st.Origin, st.ModelName, st.Current, st.Settings.Ranks(), millis(st.Plan.Total), st.Sent, st.Answered, st.Refused, max(0, len(st.Switches)-1))
	}
	t.print()
}

func millis(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d)/1e6) }

func printStream(w io.Writer, st nodes.StreamState) {
	fmt.Fprintf(w, "%s on %s: %s, epoch %d, settings version %d: %s\n", st.Stream, st.Origin, st.ModelName, st.Epoch, st.Settings.Version, settingsLine(st.Settings))
	printUnheld(w, st)
	fmt.Fprintf(w, "requests: %d sent, %d answered, %d refused, %d finished elsewhere than planned\n\n", st.Sent, st.Answered, st.Refused, st.Fallbacks)
	t := newGrid(w, []string{"", "plan", "state", "predicted now"}, "predicted now")
	for _, c := range st.Candidates {
		mark := ""
		if c.Name == st.Current {
			mark = "▶"
		}
		predicted := "–"
		if c.Predicted > 0 && c.State != "unreachable" {
			predicted = millis(c.Predicted)
		}
		t.row(mark, c.Name, c.State, predicted)
	}
	t.print()
	for _, c := range st.Candidates {
		if c.Why != "" && c.State != "ready" && c.State != "forbidden" {
			fmt.Fprintf(w, "%s is not ready: %s\n", c.Name, c.Why)
		}
	}
	fmt.Fprintln(w)
	links := newGrid(w, []string{"link", "rate", "RTT", "measured"}, "rate", "RTT", "measured")
	for _, l := range st.Links {
		links.row(fmt.Sprintf("%s → %s", l.From, l.To), fmt.Sprintf("%.2f Mbps", float64(l.Rate)/1e6), millis(l.RTT), fmt.Sprintf("%.0f s ago", l.Age.Seconds()))
	}
	links.print()
	if len(st.Switches) > 0 {
		fmt.Fprintln(w)
	}
	for _, s := range st.Switches {
		fmt.Fprintf(w, "%s  %s: %s\n", s.At.Format("15:04:05.000"), s.To, s.Reason)
	}
}
