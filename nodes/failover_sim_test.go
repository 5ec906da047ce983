package nodes_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/nodes"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/endpoint"
	"github.com/cleaveml/cleave/transport/sim"
	"github.com/cleaveml/cleave/transport/sim/link"
)

// island is a device, an edge and a cloud in virtual time: agents as they are,
// on a simulated network, with an engine that takes a known time per op.
type island struct {
	t       *testing.T
	net     *sim.Network
	g       *models.Graph
	dir     string
	members []partition.Host
	hosts   map[partition.HostID]*islander
	app     *sim.Endpoint
}

// islander is one process.
type islander struct {
	agent    *nodes.Agent
	endpoint *sim.Endpoint
	stopped  bool
}

// costs per op: worth to leave the device, and the edge before the cloud.
var costs = map[partition.HostID]time.Duration{"device": 40 * time.Millisecond, "edge": 8 * time.Millisecond, "cloud": 2 * time.Millisecond}

// wires are the links of an island, the same in both directions.
var wires = map[[2]partition.HostID]link.Spec{
	{"device", "edge"}:  {Rate: 20 * partition.Mbps, Delay: 2 * time.Millisecond},
	{"device", "cloud"}: {Rate: 10 * partition.Mbps, Delay: 20 * time.Millisecond},
	{"edge", "cloud"}:   {Rate: 100 * partition.Mbps, Delay: 15 * time.Millisecond},
}

func newIsland(t *testing.T, seed uint64) *island {
	t.Helper()
	n, err := sim.NewNetwork(seed, link.Spec{Delay: 100 * time.Microsecond})
	must(t, err)
	t.Cleanup(n.Close)
	c := &island{t: t, net: n, dir: t.TempDir(), hosts: map[partition.HostID]*islander{},
		members: []partition.Host{{ID: "device", Tier: partition.Device}, {ID: "edge", Tier: partition.Edge}, {ID: "cloud", Tier: partition.Cloud}}}
	c.g, err = models.NewStore(filepath.Join(c.dir, "models")).Prepare(t.Context(), fakeRuntime{}, models.Recipe{
		Name: "diamond", Fingerprint: "1", Open: func() (*models.File, error) { return &models.File{Proto: network()}, nil },
	}, nil)
	must(t, err)
	for pair := range wires {
		c.wire(pair[0], pair[1], func(*link.Spec) {})
	}
	for _, m := range c.members {
		c.start(m.ID)
	}
	c.app, err = n.Listen(sim.Config{Config: endpoint.Config{ID: "app", Role: transport.Client}})
	must(t, err)
	t.Cleanup(func() { must(t, c.app.Close()) })
	c.app.SetAddress("device", c.hosts["device"].endpoint.Address())
	return c
}

// wire changes the link of a pair, both ways, from what wires says.
func (c *island) wire(a, b partition.HostID, change func(*link.Spec)) {
	c.t.Helper()
	s := wires[[2]partition.HostID{a, b}]
	change(&s)
	must(c.t, c.net.SetLink(a, b, s))
	must(c.t, c.net.SetLink(b, a, s))
}

// start starts a host's process. The others hear of it as gossip would tell.
func (c *island) start(id partition.HostID) {
	c.t.Helper()
	pace, err := nodes.NewPace(2, 1)
	must(c.t, err)
	engine := &fakeEngine{}
	engine.setHold(func(ctx context.Context, ops int) error {
		select {
		case <-time.After(time.Duration(ops) * costs[id]):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	h := &islander{}
	h.agent, err = nodes.New(nodes.Config{ID: id, Hosts: c.members, Store: models.NewStore(filepath.Join(c.dir, "models")),
		Compute: nodes.NewCompute(engine, pace, 0), Sample: sample, Log: slog.New(slog.DiscardHandler)})
	must(c.t, err)
	h.endpoint, err = c.net.Listen(sim.Config{Config: endpoint.Config{ID: id, Handler: h.agent.Handle, Observe: func(e transport.Event) {
		if d, ok := e.(transport.PeerDown); ok && d.Err != nil {
			h.agent.Broken(d.Peer.ID)
		}
	}}})
	must(c.t, err)
	h.agent.Attach(h.endpoint)
	c.hosts[id] = h
	c.t.Cleanup(func() { c.stop(h) })
	for other, o := range c.hosts {
		if other != id {
			o.endpoint.SetAddress(id, h.endpoint.Address())
			h.endpoint.SetAddress(other, o.endpoint.Address())
			o.agent.Joined(c.members[slices.IndexFunc(c.members, func(m partition.Host) bool { return m.ID == id })])
		}
	}
}

func (c *island) stop(h *islander) {
	c.t.Helper()
	if !h.stopped {
		h.stopped = true
		must(c.t, h.endpoint.Close())
		must(c.t, h.agent.Close())
	}
}

// open opens the stream "s" at the device.
func (c *island) open() {
	c.t.Helper()
	conn, err := c.app.Conn(c.t.Context(), "device")
	must(c.t, err)
	_, err = nodes.NewClient(conn).Open(c.t.Context(), c.g, nodes.OpenRequest{Stream: "s", Runs: 1, Cuts: 2}, input(), nil)
	must(c.t, err)
}

// served is one answered request.
type served struct {
	at    time.Duration // when it was sent, since the traffic began
	took  time.Duration
	hosts string // that ran it, joined by +
	fell  bool   // back, somewhere
}

// traffic sends a request every 250 ms, whether or not those before are
// answered, and wants each answered, once, with its own answer.
func (c *island) traffic(d time.Duration) []served {
	c.t.Helper()
	before, err := c.hosts["device"].agent.Stream("s")
	must(c.t, err)
	conn, err := c.app.Conn(c.t.Context(), "device")
	must(c.t, err)
	began := time.Now()
	out := make([]served, d/(250*time.Millisecond))
	var wg sync.WaitGroup
	for i := range out {
		wg.Go(func() {
			sent := time.Now()
			x := slices.Repeat([]float32{float32(i)}, width)
			answers, report, err := nodes.NewClient(conn).Send(c.t.Context(), c.g, "s", map[string]tensor.Tensor{"x": tensor.FromFloat32(x, 1, width)})
			if err != nil {
				c.t.Errorf("the request at %v: %v", sent.Sub(began), err)
				return
			}
			if y := answers["e"].Float32(); y[0] != answer(float32(i)) {
				c.t.Errorf("the request at %v has another's answer, %v", sent.Sub(began), y[0])
			}
			out[i] = served{at: sent.Sub(began), took: time.Since(sent)}
			var on []string
			for _, h := range report.Hosts {
				on = append(on, string(h.Host))
				out[i].fell = out[i].fell || h.Fallback != ""
			}
			out[i].hosts = strings.Join(on, "+")
		})
		<-time.After(250 * time.Millisecond)
	}
	wg.Wait()
	st, err := c.hosts["device"].agent.Stream("s")
	must(c.t, err)
	if n := st.Sent - before.Sent; n != len(out) || st.Answered-before.Answered != n || st.Refused != before.Refused {
		c.t.Errorf("of %d requests %d were counted, %d answered, %d refused", len(out), n, st.Answered-before.Answered, st.Refused-before.Refused)
	}
	return out
}

// uses wants all these requests to have run on such hosts, without a fallback.
func uses(t *testing.T, what string, requests []served, fits func(hosts string) bool) {
	t.Helper()
	if len(requests) == 0 {
		t.Errorf("%s: no request", what)
	}
	for _, r := range requests {
		if !fits(r.hosts) || r.fell {
			t.Errorf("%s: %+v", what, r)
		}
	}
}

func with(host string) func(string) bool {
	return func(s string) bool { return strings.Contains(s, host) }
}

func without(host string) func(string) bool {
	return func(s string) bool { return !strings.Contains(s, host) }
}

// TestFailover: the edge dies in the midst of traffic and comes back. Every
// request is answered, and the plan goes around the edge and returns to it.
func TestFailover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newIsland(t, 1)
		c.open()
		uses(t, "at first", c.traffic(5 * time.Second)[4:], with("edge"))
		time.AfterFunc(5100*time.Millisecond, func() { c.hosts["edge"].endpoint.Kill() })
		r := c.traffic(15 * time.Second)
		uses(t, "before it dies", r[:20], with("edge"))
		uses(t, "once it is missed", r[40:], without("edge"))
		for _, s := range r {
			if s.took > 3*time.Second {
				t.Errorf("it waits long for the dead: %+v", s)
			}
		}
		c.stop(c.hosts["edge"])
		c.start("edge")
		r = c.traffic(10 * time.Second)
		uses(t, "when it is back", r[20:], with("edge"))
	})
}

// TestPartition: device and edge lose each other, not the cloud, and find each
// other again.
func TestPartition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newIsland(t, 2)
		c.open()
		uses(t, "at first", c.traffic(5 * time.Second)[4:], with("edge"))
		c.wire("device", "edge", func(s *link.Spec) { s.Cut = true })
		uses(t, "divided", c.traffic(15 * time.Second)[40:], func(on string) bool { return !strings.HasPrefix(on, "device+edge") && !strings.HasPrefix(on, "edge") })
		c.wire("device", "edge", func(s *link.Spec) {})
		// Gossip, which goes by the cloud, tells nobody of a death; the device
		// looks again by itself.
		r := c.traffic(60 * time.Second)
		uses(t, "healed", r[len(r)-20:], with("edge"))
	})
}

// TestRateStep: a link becomes slower, and the origin of a stream that rests
// finds out by itself.
func TestRateStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newIsland(t, 3)
		c.open()
		rate := func() float64 {
			st, err := c.hosts["device"].agent.Stream("s")
			must(t, err)
			for _, l := range st.Links {
				if l.From == "device" && l.To == "edge" {
					return float64(l.Rate / partition.Mbps)
				}
			}
			return 0
		}
		c.traffic(5 * time.Second)
		if got := rate(); got < 18 || got > 20 {
			t.Errorf("%.1f Mbps, want 20 less headers", got)
		}
		c.wire("device", "edge", func(s *link.Spec) { s.Rate = 5 * partition.Mbps })
		<-time.After(40 * time.Second)
		if got := rate(); got < 4.5 || got > 5 {
			t.Errorf("%.1f Mbps, want 5 less headers", got)
		}
	})
}
