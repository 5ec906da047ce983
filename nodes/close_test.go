package nodes_test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cleaveml/cleave/nodes"
	"github.com/cleaveml/cleave/nodes/settings"
	"github.com/cleaveml/cleave/scheduler"
)

// remembering gives the device a store of settings.
func remembering(t *testing.T) (*settings.Store, func(*nodes.Config)) {
	t.Helper()
	s, err := settings.Open(filepath.Join(t.TempDir(), "agent.db"))
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	return s, func(cfg *nodes.Config) {
		if cfg.ID == "device" {
			cfg.Memory = s
		}
	}
}

// TestForgetting: what is forgotten while a request is under way is forgotten
// at once, so that a stream opened meanwhile starts with settings that count.
func TestForgetting(t *testing.T) {
	memory, with := remembering(t)
	c := newTrio(t, with)
	open(t, c)
	pin, yes := through(t, c, "edge"), true
	for range 3 {
		_, err := c.client(t, "device").Set(t.Context(), nodes.SetRequest{Stream: "s", Pin: &pin})
		must(t, err)
	}
	sendUntil(t, c, "the edge has a part", usesOnly("device", "edge"))
	began, release := make(chan struct{}, 1), make(chan struct{})
	c.hosts["edge"].engine.setHold(func(ctx context.Context, _ int) error {
		began <- struct{}{}
		select {
		case <-release:
		case <-ctx.Done():
		}
		return nil
	})
	sent := make(chan error, 1)
	go func() {
		_, _, err := c.client(t, "device").Send(context.Background(), c.g, "s", input())
		sent <- err
	}()
	<-began
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := c.hosts["device"].agent.CloseStream(ctx, nodes.CloseRequest{Stream: "s", Forget: true}); nodes.KindOf(err) != nodes.Deadline {
		t.Errorf("closed while a request was under way: %v", err)
	}
	if left, ok, err := memory.Stream("s"); ok || err != nil {
		t.Errorf("settings are left: %+v, %v", left, err)
	}
	c.hosts["edge"].engine.setHold(nil)
	close(release)
	must(t, <-sent)

	again := open(t, c)
	if again.Settings.Version != 0 || again.Settings.Pin != "" {
		t.Errorf("opened again with %+v", again.Settings)
	}
	st, err := c.client(t, "device").Set(t.Context(), nodes.SetRequest{Stream: "s", RawStays: &yes})
	must(t, err)
	if st.Settings.Version != 1 {
		t.Errorf("settings are %+v", st.Settings)
	}
	sendUntil(t, c, "the policy holds", func(r nodes.InferReport) bool { return len(r.Hosts) >= 1 })

	// Of a stream that is not open, settings can be forgotten once.
	_, err = c.client(t, "device").CloseStream(t.Context(), nodes.CloseRequest{Stream: "s"})
	must(t, err)
	_, err = c.client(t, "device").CloseStream(t.Context(), nodes.CloseRequest{Stream: "s", Forget: true})
	must(t, err)
	if _, err = c.client(t, "device").CloseStream(t.Context(), nodes.CloseRequest{Stream: "s", Forget: true}); nodes.KindOf(err) != nodes.NotFound {
		t.Errorf("forgotten twice: %v", err)
	}
}

// TestPolicyIsNeverLess: an open that asks for the policy gets it or is
// refused, whatever is open or stored under the name.
func TestPolicyIsNeverLess(t *testing.T) {
	_, with := remembering(t)
	c := newTrio(t, with)
	private := nodes.OpenRequest{Stream: "s", Runs: 1, Cuts: 2, Settings: scheduler.Settings{RawStays: true}}
	open(t, c)
	pin := ""
	_, err := c.client(t, "device").Set(t.Context(), nodes.SetRequest{Stream: "s", Pin: &pin}) // now it is stored
	must(t, err)
	_, err = c.client(t, "device").Open(t.Context(), c.g, private, input(), nil)
	if nodes.KindOf(err) != nodes.Policy || !strings.Contains(err.Error(), "cleave stream set s --raw-stays on") {
		t.Errorf("opened without the policy that was asked for: %v", err)
	}
	_, err = c.client(t, "device").CloseStream(t.Context(), nodes.CloseRequest{Stream: "s"})
	must(t, err)
	st, err := c.client(t, "device").Open(t.Context(), c.g, private, input(), nil)
	must(t, err)
	if !st.Settings.RawStays {
		t.Errorf("opened with %+v", st.Settings)
	}
}

// TestPolicyKeepsInputHere: a host whose own policy is raw-stays-on-device
// hands nothing that it is given on to the origin of a stream.
func TestPolicyKeepsInputHere(t *testing.T) {
	c := newTrio(t, func(cfg *nodes.Config) { cfg.RawStays = cfg.ID == "edge" })
	open(t, c)
	if _, _, err := c.client(t, "edge").Send(t.Context(), c.g, "s", input()); nodes.KindOf(err) != nodes.Policy {
		t.Errorf("a request was passed on: %v", err)
	}
	r := nodes.OpenRequest{Stream: "s", Origin: "device", Runs: 1, Cuts: 2}
	if _, err := c.client(t, "edge").Open(t.Context(), c.g, r, input(), nil); nodes.KindOf(err) != nodes.Policy {
		t.Errorf("an open was passed on: %v", err)
	}
	r.Origin = ""
	st, err := c.client(t, "edge").Open(t.Context(), c.g, r, input(), nil)
	must(t, err)
	if st.Origin != "edge" || !st.Settings.RawStays {
		t.Errorf("opened at %s with %+v", st.Origin, st.Settings)
	}
}

// TestStreamReturns: a stream that is opened again through any agent starts
// where its settings are.
func TestStreamReturns(t *testing.T) {
	_, with := remembering(t)
	c := newTrio(t, with)
	open(t, c)
	pin := ""
	_, err := c.client(t, "device").Set(t.Context(), nodes.SetRequest{Stream: "s", Pin: &pin})
	must(t, err)
	_, err = c.client(t, "cloud").CloseStream(t.Context(), nodes.CloseRequest{Stream: "s", Origin: "device"})
	must(t, err)
	st, err := c.client(t, "edge").Open(t.Context(), c.g, nodes.OpenRequest{Stream: "s", Runs: 1, Cuts: 2}, input(), nil)
	must(t, err)
	if st.Origin != "device" || st.Settings.Version != 1 {
		t.Errorf("it starts at %s with %+v", st.Origin, st.Settings)
	}
}
