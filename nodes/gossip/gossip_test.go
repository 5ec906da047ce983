package gossip

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
)

// whole waits until every host has the others for members.
func whole(t *testing.T, within time.Duration, hosts ...*host) {
	t.Helper()
	for end := time.Now().Add(within); ; <-time.After(100 * time.Millisecond) {
		missing := ""
		for _, h := range hosts {
			if got := len(h.g.Members()); got != len(hosts) {
				missing += fmt.Sprintf(" %s has %d", h.id, got)
			}
		}
		if missing == "" {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("not whole after %v:%s", within, missing)
		}
	}
}

// quiet wants no member to have gone meanwhile.
func quiet(t *testing.T, hosts ...*host) {
	t.Helper()
	for _, h := range hosts {
		for len(h.events) > 0 {
			if l, ok := (<-h.events).(Left); ok {
				t.Errorf("%s says that %s has left, failed: %v", h.id, l.Host, l.Failed)
			}
		}
	}
}

func TestJoinLeaveKill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(5*time.Millisecond, 0)
		a := w.start(t, "a", "a:1", "a:1") // its own address among the seeds, as in a common configuration
		b, c := w.start(t, "b", "b:1", "a:1"), w.start(t, "c", "c:1", "a:1", "nobody:1")
		whole(t, 3*time.Second, a, b, c)
		await(t, b.events, 3*time.Second, "b hears of c", joined("c"))
		if w.linked(b, "c") == nil {
			t.Error("b and c, who both can be dialled, have no connection")
		}
		if err := b.g.Update(Facts{Tier: partition.Cloud, Address: "b:1", Load: 0.5, Models: []models.Digest{"0123456789abcdef"}}); err != nil {
			t.Fatal(err)
		}
		await(t, c.events, 2*time.Second, "c hears b's facts", func(e Event) bool {
			u, ok := e.(Updated)
			return ok && u.Host == "b" && u.Facts.Load == 0.5 && u.Facts.Tier == partition.Cloud && u.Facts.Models[0] == "0123456789ab"
		})
		if err := b.g.Leave(t.Context()); err != nil {
			t.Fatal(err)
		}
		await(t, a.events, time.Second, "a hears b leave", gone("b", false))
		await(t, c.events, time.Second, "c hears b leave", gone("b", false))
		finish(t, a, b, c)
	})
}

// TestDetection: killed at various moments, a member is missed soon. The limit
// is what memberlist's random order of probes may add up to.
func TestDetection(t *testing.T) {
	for n, limit := range map[int]time.Duration{2: 3100 * time.Millisecond, 3: 3600 * time.Millisecond, 6: 5 * time.Second} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(5*time.Millisecond, 0)
				hosts := []*host{w.start(t, "a", "a:1")}
				for i := 1; i < n; i++ {
					id := fmt.Sprintf("h%d", i)
					hosts = append(hosts, w.start(t, hostID(id), id+":1", "a:1"))
				}
				var worst, sum time.Duration
				const kills = 10
				for i := range kills {
					whole(t, 5*time.Second, hosts...)
					<-time.After(time.Duration(i) * 130 * time.Millisecond)
					last := hosts[n-1]
					last.kill()
					took := await(t, hosts[0].events, 10*time.Second, "a misses it", gone(last.id, true))
					worst, sum = max(worst, took), sum+took
					if err := last.g.Close(); err != nil {
						t.Error(err)
					}
					hosts[n-1] = w.start(t, last.id, fmt.Sprintf("%s:%d", last.id, i+2), "a:1")
				}
				t.Logf("%d members: %v on average, %v at worst", n, sum/kills, worst)
				if worst > limit || sum/kills > 2800*time.Millisecond {
					t.Errorf("took %v", worst)
				}
				finish(t, hosts...)
			})
		})
	}
}

// TestReturnElsewhere: a process is killed and comes back at another address,
// before anybody has missed it and after.
func TestReturnElsewhere(t *testing.T) {
	for _, after := range []time.Duration{300 * time.Millisecond, 10 * time.Second} {
		t.Run(after.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(5*time.Millisecond, 0)
				a, b, c := w.start(t, "a", "a:1"), w.start(t, "b", "b:1", "a:1"), w.start(t, "c", "c:1", "a:1")
				whole(t, 3*time.Second, a, b, c)
				c.kill()
				<-time.After(after)
				again := w.start(t, "c", "c:2", "a:1")
				for _, h := range []*host{a, b} {
					await(t, h.events, 2*time.Second, "the new address", func(e Event) bool {
						switch e := e.(type) {
						case Joined:
							return e.Host == "c" && e.Facts.Address == "c:2"
						case Updated:
							return e.Host == "c" && e.Facts.Address == "c:2"
						}
						return false
					})
				}
				<-time.After(20 * time.Second)
				quiet(t, a, b, again)
				whole(t, time.Millisecond, a, b, again)
				if w.linked(b, "c") != again || b.known["c"] != "c:2" {
					t.Error("b does not use the new address")
				}
				finish(t, a, b, c, again)
			})
		})
	}
}

// TestBehindNAT: two members that nobody can dial never meet and are members
// all the same, over a slow and lossy link; and are missed when they die.
func TestBehindNAT(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(55*time.Millisecond, 0.05)
		e := w.start(t, "edge", "edge:1")
		x, y, z := w.start(t, "x", "", "edge:1"), w.start(t, "y", "", "edge:1"), w.start(t, "z", "", "edge:1")
		whole(t, 5*time.Second, e, x, y, z)
		<-time.After(5 * time.Minute)
		quiet(t, e, x, y, z)
		if w.linked(x, "y") != nil {
			t.Error("x has dialled y, who cannot be dialled")
		}
		x.kill()
		for _, h := range []*host{e, y} {
			t.Logf("%s misses it after %v", h.id, await(t, h.events, 5*time.Second, "x is missed", gone("x", true)))
		}
		finish(t, e, x, y, z)
	})
}

// TestBusyUplink: a member whose packets wait longer than a probe does, and are
// lost sometimes, stays a member.
func TestBusyUplink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(55*time.Millisecond, 0.05)
		w.busy = map[hostID]time.Duration{"x": 500 * time.Millisecond}
		e, f, x := w.start(t, "edge", "edge:1"), w.start(t, "f", "f:1", "edge:1"), w.start(t, "x", "", "edge:1")
		whole(t, 5*time.Second, e, f, x)
		<-time.After(5 * time.Minute)
		quiet(t, e, f, x)
		finish(t, e, f, x)
	})
}

func TestCutHeals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(20*time.Millisecond, 0)
		a, b, c := w.start(t, "a", "a:1"), w.start(t, "b", "b:1", "a:1"), w.start(t, "c", "c:1", "a:1")
		whole(t, 3*time.Second, a, b, c)
		w.divide(true, "a", "b", "c")
		for _, h := range []*host{b, c} {
			await(t, h.events, 10*time.Second, "a is missed", gone("a", true))
		}
		<-time.After(2 * time.Minute)
		w.divide(false, "a", "b", "c")
		began := time.Now()
		whole(t, 10*time.Second, a, b, c)
		t.Logf("whole again after %v", time.Since(began))
		finish(t, a, b, c)
	})
}

// TestSuspect: a lost connection that is reported is not worse than none for a
// living member, and shortens the wait for a dead one.
func TestSuspect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(5*time.Millisecond, 0)
		a, b, c := w.start(t, "a", "a:1"), w.start(t, "b", "b:1", "a:1"), w.start(t, "c", "c:1", "a:1")
		whole(t, 3*time.Second, a, b, c)
		a.g.Suspect("c")
		a.g.Suspect("nobody")
		<-time.After(10 * time.Second)
		quiet(t, a, b, c)
		c.kill()
		a.g.Suspect("c")
		took := await(t, a.events, 3*time.Second, "c is missed", gone("c", true))
		if took > 1500*time.Millisecond {
			t.Errorf("took %v", took)
		}
		finish(t, a, b, c)
	})
}

// TestRefused: what is no gossip costs a line in the log, and no more.
func TestRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(time.Millisecond, 0)
		a, b := w.start(t, "a", "a:1"), w.start(t, "b", "b:1", "a:1")
		whole(t, 3*time.Second, a, b)
		huge := make([]byte, 10<<20)
		huge[0] = asPacket
		bomb := append([]byte{asPacket, msgCompress}, make([]byte, 100)...)
		for _, d := range [][]byte{huge, bomb, nil, {asPacket}, {asRelayed, 200, 'x'}, {asPacket, msgAlive, 0xdf, 0xff, 0xff, 0xff, 0xff},
			{asRelayed, 1, 'b', 1, 'c', msgPing}, {asPacket, msgCompound, 255, 0}, {asPacket, msgChecksum, 0, 0, 0, 0}} {
			<-time.After(2 * time.Second)
			a.g.Datagram(b.peer(), d)
			oneLine(t, a, fmt.Sprintf("datagram %.8x", d))
		}
		conn, err := b.Conn(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		header := []byte{msgPushPull, 0x83}
		for _, f := range []*transport.Frame{frame(asStream, huge), frame(asStream, header), frame(asPacket, huge), frame('?', nil),
			{Header: transport.NewFrame(Kind).Header}} {
			<-time.After(2 * time.Second)
			s, err := conn.Open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Send(t.Context(), f); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Receive(t.Context()); err == nil {
				t.Error("an answer")
			}
			oneLine(t, a, fmt.Sprintf("frame of %d bytes", len(f.Header.Control)))
		}
		<-time.After(10 * time.Second)
		quiet(t, a, b)
		whole(t, time.Millisecond, a, b)
		finish(t, a, b)
	})
}

func oneLine(t *testing.T, h *host, what string) {
	t.Helper()
	synctest.Wait()
	if got := h.log.take(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "gossip refused") || len(got) > 500 {
		t.Errorf("%s: the log has %q", what, got)
	}
}
