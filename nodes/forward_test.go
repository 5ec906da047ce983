package nodes_test

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cleaveml/cleave/nodes"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/identity"
	"github.com/cleaveml/cleave/transport/quic"
)

// openAlone opens stream s at the device and keeps its requests there.
func openAlone(t *testing.T, c *trio) {
	t.Helper()
	open(t, c)
	pin := "device-only"
	_, err := c.client(t, "device").Set(t.Context(), nodes.SetRequest{Stream: "s", Pin: &pin})
	must(t, err)
	sendUntil(t, c, "alone", usesOnly("device"))
}

func (e *fakeEngine) count() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.runs
}

// TestForward: whichever agent is asked, the origin answers, each request once,
// and the report tells the way. The parts follow each other on one cluster.
func TestForward(t *testing.T) {
	c := newTrio(t, nil)
	t.Run("around in circles", func(t *testing.T) { forwardCircle(t, c) })
	open(t, c)
	t.Run("from everywhere", func(t *testing.T) { forwardFromEverywhere(t, c) })
	t.Run("to where it was", func(t *testing.T) { forwardStale(t, c) })
	t.Run("two origins", func(t *testing.T) { forwardTwoOrigins(t, c) })
}

// forwardCircle: two agents that take each other for the origin do not send a
// request around.
func forwardCircle(t *testing.T, c *trio) {
	c.hosts["edge"].agent.Believe("s", "cloud")
	c.hosts["cloud"].agent.Believe("s", "edge")
	if _, _, err := c.client(t, "edge").Send(t.Context(), c.g, "s", input()); nodes.KindOf(err) != nodes.NotFound {
		t.Errorf("nobody has it: %v", err)
	}
}

// forwardFromEverywhere: no request is lost, none answered twice.
func forwardFromEverywhere(t *testing.T, c *trio) {
	const each = 8
	var wg sync.WaitGroup
	for _, asked := range []partition.HostID{"device", "edge", "cloud"} {
		app := c.client(t, asked)
		for range each {
			wg.Go(func() {
				answers, report, err := app.Send(t.Context(), c.g, "s", input())
				if err != nil {
					t.Errorf("asked at %s: %v", asked, err)
					return
				}
				if got := answers["e"].Float32(); len(got) != width || got[3] != answer(3) {
					t.Errorf("asked at %s, the answer is %v", asked, got)
				}
				if report.Stream != "s" || report.Hosts[0].Host != "device" || (report.Via != nil) != (asked != "device") {
					t.Errorf("asked at %s, the report is %+v", asked, report)
				}
				if v := report.Via; v != nil && (v.Host != asked || v.Extra <= 0 || v.Extra >= report.Elapsed) {
					t.Errorf("asked at %s, the way is %+v of %v", asked, v, report.Elapsed)
				}
			})
		}
	}
	wg.Wait()
	st, err := c.hosts["device"].agent.Stream("s")
	must(t, err)
	if st.Sent != 3*each || st.Answered != 3*each {
		t.Errorf("%d requests were sent, %d arrived, %d were answered", 3*each, st.Sent, st.Answered)
	}
}

// forwardStale: a request that goes where its stream does not start any more
// was not begun there, and finds its way.
func forwardStale(t *testing.T, c *trio) {
	before, err := c.hosts["device"].agent.Stream("s")
	must(t, err)
	c.hosts["edge"].agent.Believe("s", "cloud")
	answers, report, err := c.client(t, "edge").Send(t.Context(), c.g, "s", input())
	must(t, err)
	check(t, answers)
	if report.Hosts[0].Host != "device" || report.Via.Host != "edge" {
		t.Errorf("the report is %+v", report)
	}
	if st, err := c.hosts["device"].agent.Stream("s"); err != nil || st.Sent != before.Sent+1 {
		t.Errorf("the request arrived %d times, %v", st.Sent-before.Sent, err)
	}
}

// forwardTwoOrigins: a stream that is open elsewhere is found, unless the
// caller says where it shall start; where two hosts have one of the same name,
// only the caller can tell which is meant.
func forwardTwoOrigins(t *testing.T, c *trio) {
	edge := c.client(t, "edge")
	r := nodes.OpenRequest{Stream: "s", Runs: 1, Cuts: 2}
	st, err := edge.Open(t.Context(), c.g, r, input(), nil)
	must(t, err)
	if st.Origin != "device" || len(c.hosts["edge"].agent.Streams()) != 0 {
		t.Errorf("opened again from the edge: %+v", st)
	}
	told := 0
	r.Origin = "cloud"
	st, err = edge.Open(t.Context(), c.g, r, input(), func(nodes.Progress) { told++ })
	must(t, err)
	if st.Origin != "cloud" || told == 0 {
		t.Errorf("opened at the cloud by name, it starts at %s; progress came %d times", st.Origin, told)
	}
	c.hosts["edge"].agent.Broken("device") // what it knows of it is asked again
	_, _, err = edge.Send(t.Context(), c.g, "s", input())
	if nodes.KindOf(err) != nodes.Invalid || !strings.Contains(err.Error(), "cloud, device; name the one that is meant: --origin cloud") {
		t.Errorf("two origins: %v", err)
	}
	if _, err := edge.Open(t.Context(), c.g, nodes.OpenRequest{Stream: "s"}, input(), nil); nodes.KindOf(err) != nodes.Invalid {
		t.Errorf("opened between two origins: %v", err)
	}
	for _, origin := range []partition.HostID{"device", "cloud"} {
		answers, report, err := edge.SendTo(t.Context(), c.g, origin, "s", input())
		must(t, err)
		check(t, answers)
		if report.Hosts[0].Host != origin || report.Via.Host != "edge" {
			t.Errorf("sent to %s: %+v", origin, report)
		}
	}
	_, report, err := c.client(t, "cloud").Send(t.Context(), c.g, "s", input())
	must(t, err)
	if report.Via != nil || report.Hosts[0].Host != "cloud" {
		t.Errorf("its own stream comes first: %+v", report)
	}
}

// TestForwardFails: what the origin cannot answer is refused, with a kind, and
// not begun again. The parts follow each other on one cluster.
func TestForwardFails(t *testing.T) {
	c := newTrio(t, nil)
	openAlone(t, c)
	t.Run("deadline", func(t *testing.T) { forwardDeadline(t, c) })
	t.Run("origin dies", func(t *testing.T) { forwardOriginDies(t, c) })
}

// forwardDeadline: the time left travels; the origin stops in time.
func forwardDeadline(t *testing.T, c *trio) {
	const budget = 300 * time.Millisecond
	ctx, cancel := context.WithTimeout(t.Context(), budget)
	defer cancel()
	seen := make(chan time.Duration, 1)
	c.hosts["device"].engine.setHold(func(ctx context.Context, _ int) error {
		deadline, _ := ctx.Deadline()
		seen <- time.Until(deadline)
		<-ctx.Done()
		return ctx.Err()
	})
	_, _, err := c.client(t, "edge").Send(ctx, c.g, "s", input())
	if nodes.KindOf(err) != nodes.Deadline {
		t.Errorf("the origin takes too long: %v", err)
	}
	if left := <-seen; left < 0 || left >= budget {
		t.Errorf("the origin has %v, the client had %v", left, budget)
	}
}

// forwardOriginDies: a request whose origin dies with it is refused, is not
// begun again, and what comes later is refused as well, until the origin is back.
func forwardOriginDies(t *testing.T, c *trio) {
	edge, dying := c.client(t, "edge"), c.hosts["device"]
	dying.engine.setHold(nil)
	_, _, err := edge.Send(t.Context(), c.g, "s", input())
	must(t, err)
	before := dying.engine.count()
	dying.engine.setHold(func(ctx context.Context, _ int) error {
		go dying.endpoint.Close()
		<-ctx.Done()
		return ctx.Err()
	})
	_, _, err = edge.Send(t.Context(), c.g, "s", input())
	if nodes.KindOf(err) != nodes.Unavailable || !strings.Contains(err.Error(), "pass on to device") {
		t.Errorf("the origin died: %v", err)
	}
	if n := dying.engine.count() - before; n != 1 {
		t.Errorf("the request ran %d times", n)
	}
	_, _, err = edge.Send(t.Context(), c.g, "s", input())
	if nodes.KindOf(err) != nodes.Unavailable {
		t.Errorf("the origin is dead: %v", err)
	}
	c.hosts["edge"].agent.Left("device")
	_, _, err = edge.Send(t.Context(), c.g, "s", input())
	if nodes.KindOf(err) != nodes.Unavailable || !strings.Contains(err.Error(), "starts at device") {
		t.Errorf("the origin has left: %v", err)
	}
}

// TestForwardUnknown: a stream that nobody has is not found; it may be one of a
// host that does not answer, and then that is said.
func TestForwardUnknown(t *testing.T) {
	c := newTrio(t, nil)
	edge := c.client(t, "edge")
	if _, _, err := edge.Send(t.Context(), c.g, "s", input()); nodes.KindOf(err) != nodes.NotFound {
		t.Errorf("nobody has it: %v", err)
	}
	if _, _, err := edge.SendTo(t.Context(), c.g, "cloud", "s", input()); nodes.KindOf(err) != nodes.NotFound {
		t.Errorf("the cloud has it not: %v", err)
	}
	if _, _, err := edge.SendTo(t.Context(), c.g, "moon", "s", input()); nodes.KindOf(err) != nodes.Invalid || !strings.Contains(err.Error(), "moon") {
		t.Errorf("no such host: %v", err)
	}
	must(t, c.hosts["device"].endpoint.Close())
	if _, _, err := edge.Send(t.Context(), c.g, "s", input()); nodes.KindOf(err) != nodes.Unavailable || !strings.Contains(err.Error(), "device did not answer") {
		t.Errorf("the device may have it: %v", err)
	}
}

// imposter takes the cloud's place: it says that it has every stream and
// breaks off every request, which it keeps.
type imposter struct {
	mu   sync.Mutex
	kept []*transport.Frame
}

func (i *imposter) handle(ctx context.Context, _ transport.Peer, s transport.Stream) {
	f, err := s.Receive(ctx)
	if err != nil {
		return
	}
	if f.Header.Kind != "find" {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.kept = append(i.kept, f)
		return
	}
	f.Release()
	reply := transport.NewFrame(transport.KindReply)
	reply.Header.Control = []byte(`{"open":true}`)
	if s.Send(ctx, reply) == nil {
		_ = s.CloseSend() // whoever asked is gone
	}
}

// TestForwardOnce: the origin gets the very request, and once, though it
// breaks off.
func TestForwardOnce(t *testing.T) {
	c := newTrio(t, nil)
	must(t, c.hosts["cloud"].endpoint.Close())
	id, err := identity.Load(c.pki, "cloud")
	must(t, err)
	var i imposter
	e, err := quic.Listen(quic.Config{Identity: id, Addr: "127.0.0.1:0", Handler: i.handle})
	must(t, err)
	t.Cleanup(func() { must(t, e.Close()) })
	c.hosts["edge"].endpoint.SetAddress("cloud", e.Addr().String())

	conn, err := c.app.Conn(t.Context(), "edge")
	must(t, err)
	s, err := conn.Open(t.Context())
	must(t, err)
	defer s.Cancel(transport.CancelUnwanted)
	f := transport.NewFrame("infer")
	f.Header.RequestId, f.Header.BudgetMs = 42, 5000
	f.Header.Control, err = json.Marshal(map[string]any{"stream": "s", "model": c.g.Digest})
	must(t, err)
	must(t, f.Add("0", transport.Zstd, input()["x"]))
	must(t, s.Send(t.Context(), f))
	must(t, s.CloseSend())
	reply, err := s.Receive(t.Context())
	must(t, err)
	if reply.Header.RequestId != 42 || nodes.Kind(reply.Header.Error.GetKind()) != nodes.Unavailable || reply.Header.Error.GetHost() != "edge" {
		t.Errorf("the reply is %v", reply.Header)
	}

	must(t, e.Close()) // after which nothing more can arrive
	if len(i.kept) != 1 {
		t.Fatalf("the origin got it %d times", len(i.kept))
	}
	got := i.kept[0]
	var control struct{ Stream, Origin, Via string }
	must(t, json.Unmarshal(got.Header.Control, &control))
	if control.Stream != "s" || control.Origin != "cloud" || control.Via != "edge" {
		t.Errorf("it says %+v", control)
	}
	if got.Header.RequestId != 42 || got.Header.BudgetMs <= 0 || got.Header.BudgetMs >= 5000 {
		t.Errorf("the origin got request %d with %v ms", got.Header.RequestId, got.Header.BudgetMs)
	}
	if got.Len() != 1 || got.Header.Tensors[0].Codec != string(transport.Zstd) || !bytes.Equal(got.Encoded(0), f.Encoded(0)) {
		t.Error("the tensor did not travel as it came")
	}
}
