package nodes_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/nodes"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/scheduler"
	"github.com/cleaveml/cleave/transport"
)

// memory keeps profiles as a disk would.
type memory struct {
	mu       sync.Mutex
	profiles map[string][]byte
}

func (*memory) Stream(scheduler.StreamID) (s scheduler.Settings, ok bool, err error) { return }
func (*memory) SetStream(_ scheduler.StreamID, s scheduler.Settings, _ uint64) (scheduler.Settings, error) {
	return s, nil
}

func (*memory) ForgetStream(scheduler.StreamID) error { return nil }

func (m *memory) Profile(key string) ([]byte, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	data, ok := m.profiles[key]
	return data, ok, nil
}

func (m *memory) PutProfile(key string, data []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.profiles[key] = data
	return nil
}

// only is the one profile that is stored.
func (m *memory) only(t *testing.T) (p nodes.Profile) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	stored := slices.Collect(maps.Values(m.profiles))
	if len(stored) != 1 {
		t.Fatalf("%d profiles are stored", len(stored))
	}
	must(t, json.Unmarshal(stored[0], &p))
	return p
}

// nobody is a network without other hosts.
type nobody struct{}

var errNobody = errors.New("nobody is there")

func (nobody) Conn(context.Context, partition.HostID) (transport.Conn, error) { return nil, errNobody }
func (nobody) Warm(context.Context, partition.HostID) error                   { return errNobody }
func (nobody) Probe(context.Context, partition.HostID) (transport.Links, error) {
	return transport.Links{}, errNobody
}
func (nobody) Links() map[partition.HostID]transport.Links { return nil }

// clocked is one host in virtual time whose ops take 2 ms each, times slow.
type clocked struct {
	agent *nodes.Agent
	g     *models.Graph
	runs  int
	slow  float64
	log   lines
}

func newClocked(t *testing.T, store *models.Store, m nodes.Memory) *clocked {
	t.Helper()
	c := &clocked{slow: 1}
	var err error
	c.g, err = store.Prepare(t.Context(), fakeRuntime{}, models.Recipe{
		Name: "diamond", Fingerprint: "1", Open: func() (*models.File, error) { return &models.File{Proto: network()}, nil },
	}, nil)
	must(t, err)
	pace, err := nodes.NewPace(1, 1)
	must(t, err)
	engine := &fakeEngine{}
	engine.setHold(func(_ context.Context, ops int) error {
		c.runs++
		time.Sleep(time.Duration(float64(ops) * c.slow * float64(2*time.Millisecond)))
		return nil
	})
	c.agent, err = nodes.New(nodes.Config{ID: "device", Hosts: []partition.Host{{ID: "device", Tier: partition.Device}}, Store: store,
		Compute: nodes.NewCompute(engine, pace, 0), Sample: sample, Memory: m, Log: slog.New(slog.NewTextHandler(&c.log, nil))})
	must(t, err)
	c.agent.Attach(nobody{})
	return c
}

func (c *clocked) input() nodes.Values { return nodes.Values{c.g.Inputs[0]: input()["x"]} }

func (c *clocked) plan(t *testing.T) nodes.PlanReply {
	t.Helper()
	reply, err := c.agent.Plan(t.Context(), nodes.PlanRequest{Model: c.g.Digest}, c.input(), func(nodes.Progress) {})
	must(t, err)
	return reply
}

// serve sends a request every 100 ms for so long.
func (c *clocked) serve(t *testing.T, epoch uint64, slow float64, for_ time.Duration) {
	t.Helper()
	c.slow = slow
	for range for_ / (100 * time.Millisecond) {
		if _, _, err := c.agent.Infer(t.Context(), epoch, c.input()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	synctest.Wait()
}

// TestProfileFollowsDrift: timings that stay away from the profile rewrite it,
// on disk as well; a spike does not. A restart starts from what was true last,
// and a host that has cooled down gets its old profile back.
func TestProfileFollowsDrift(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		store, m := models.NewStore(dir), &memory{profiles: map[string][]byte{}}
		c := newClocked(t, store, m)
		chosen := c.plan(t).Chosen
		adopted, err := c.agent.Adopt(t.Context(), nodes.AdoptRequest{Model: c.g.Digest, Plan: chosen})
		must(t, err)
		is := func(when string, whole time.Duration, corrections int) {
			t.Helper()
			p := m.only(t)
			if (p.Whole-whole).Abs() > whole/100 || p.Corrections != corrections {
				t.Errorf("%s the profile has %v, %d corrections; want %v, %d", when, p.Whole, p.Corrections, whole, corrections)
			}
		}
		is("measured,", 10*time.Millisecond, 0)
		c.serve(t, adopted.Epoch, 1, 20*time.Second)
		c.serve(t, adopted.Epoch, 5, 6*time.Second)
		c.serve(t, adopted.Epoch, 1.15, 20*time.Second)
		is("after a spike and a little heat", 10*time.Millisecond, 0)
		c.serve(t, adopted.Epoch, 1.5, 30*time.Second)
		is("after lasting heat", 15*time.Millisecond, 1)
		if p := m.only(t); p.Ops[0] != 3*time.Millisecond || p.Timed["0-4"] != p.Whole || p.Drift != 1.5 {
			t.Errorf("the profile is %+v", p)
		}
		if n := c.log.count("profile corrected"); n != 1 || !strings.Contains(c.log.text.String(), "factor=1.50") {
			t.Errorf("%d lines: %s", n, c.log.text.String())
		}
		must(t, c.agent.Close())

		c = newClocked(t, store, m)
		c.slow = 1.5
		before := c.runs
		reply := c.plan(t)
		if p := reply.Profiles[0]; p.Whole != 15*time.Millisecond || reply.Chosen.Total != p.Whole {
			t.Errorf("after the restart the plan takes %v, the profile says %v", reply.Chosen.Total, p.Whole)
		}
		if most := 10; c.runs-before > most { // the plan's only segment, and the values to run it with
			t.Errorf("%d runs, want at most %d: it was measured anew", c.runs-before, most)
		}
		adopted, err = c.agent.Adopt(t.Context(), nodes.AdoptRequest{Model: c.g.Digest, Plan: reply.Chosen})
		must(t, err)
		c.serve(t, adopted.Epoch, 1.5, 30*time.Second)
		is("as long as it stays so", 15*time.Millisecond, 1)
		c.serve(t, adopted.Epoch, 1, 30*time.Second)
		is("cooled down", 10*time.Millisecond, 2)
		must(t, c.agent.Close())
	})
}
