package nodes_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/onnx"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/nodes"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
)

// bulky is the test network whose b has weights of 10 MB and c of 1.2 MB,
// filled with fill.
func bulky(fill byte) *onnx.ModelProto {
	m := network()
	weight := func(name string, elements int, fill byte) *onnx.TensorProto {
		return &onnx.TensorProto{Name: proto.String(name), Dims: []int64{1, int64(elements)}, DataType: proto.Int32(int32(tensor.Float32)),
			RawData: bytes.Repeat([]byte{fill, 1, 2, 3}, elements)}
	}
	m.Graph.Initializer = []*onnx.TensorProto{weight("wb", 2_500_000, fill), weight("wc", 300_000, 0)}
	m.Graph.Node[1].Input[1], m.Graph.Node[2].Input[1] = "wb", "wc"
	return m
}

// The blocks of bulky: network.onnx, three of wb, one of wc.
const bulkyBlocks = 5

// blobRuntime moves weights into the blob.
type blobRuntime struct{ fakeRuntime }

func (blobRuntime) Optimize(_ context.Context, model []byte, _, out, blob string, _ models.Form) error {
	m := new(onnx.ModelProto)
	if err := proto.Unmarshal(model, m); err != nil {
		return err
	}
	var moved []byte
	for _, w := range m.Graph.Initializer {
		for _, kv := range [][2]string{{"location", blob}, {"offset", strconv.Itoa(len(moved))}, {"length", strconv.Itoa(len(w.RawData))}} {
			w.ExternalData = append(w.ExternalData, &onnx.StringStringEntryProto{Key: proto.String(kv[0]), Value: proto.String(kv[1])})
		}
		moved = append(moved, w.RawData...)
		w.RawData, w.DataLocation = nil, onnx.TensorProto_EXTERNAL.Enum()
	}
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(out), blob), moved, 0o600); err != nil {
		return err
	}
	return os.WriteFile(out, data, 0o600)
}

// loneStores is a trio of hosts with stores of their own.
type loneStores struct {
	*trio
	stores map[partition.HostID]*models.Store
	logs   map[partition.HostID]*lines
}

// lines is what a host logged.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), what)
}

// newLoneStores puts bulky into the device's store only.
func newLoneStores(t *testing.T) *loneStores {
	t.Helper()
	c := &loneStores{stores: map[partition.HostID]*models.Store{}, logs: map[partition.HostID]*lines{}}
	c.trio = newTrio(t, func(cfg *nodes.Config) {
		c.stores[cfg.ID], c.logs[cfg.ID] = models.NewStore(t.TempDir()), &lines{}
		cfg.Store, cfg.Log = c.stores[cfg.ID], slog.New(slog.NewTextHandler(c.logs[cfg.ID], nil))
	})
	c.g = c.build(t, "bulky", 7)
	return c
}

func (c *loneStores) build(t *testing.T, name string, fill byte) *models.Graph {
	t.Helper()
	g, err := c.stores["device"].Prepare(t.Context(), blobRuntime{}, models.Recipe{
		Name: name, Fingerprint: fmt.Sprint(fill), Open: func() (*models.File, error) { return &models.File{Proto: bulky(fill)}, nil },
	}, nil)
	must(t, err)
	return g
}

// whole checks that a host's model is the device's, byte for byte.
func (c *loneStores) whole(t *testing.T, host partition.HostID) {
	t.Helper()
	got, err := c.stores[host].Open(c.g.Digest)
	must(t, err)
	m, err := c.g.Manifest()
	must(t, err)
	if m.Len() != bulkyBlocks || got.Partial() {
		t.Fatalf("%d blocks, partial: %v", m.Len(), got.Partial())
	}
	for _, ref := range m.All() {
		want, err := c.g.ReadBlock(ref)
		must(t, err)
		if data, err := got.ReadBlock(ref); err != nil || !bytes.Equal(data, want) {
			t.Errorf("block %d on %s differs, %v", ref, host, err)
		}
	}
}

// tally counts the blocks that pulls report, by the host they come from.
type tally struct {
	mu   sync.Mutex
	from map[string]int
	last nodes.Progress
}

func (c *tally) count(p nodes.Progress) {
	what, peer, ok := strings.Cut(p.What, " from ")
	if !ok || !strings.HasPrefix(what, "blocks of ") {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.from == nil {
		c.from = map[string]int{}
	}
	if c.last.Host == p.Host && c.last.Total == p.Total && c.last.Done < p.Done { // the same list of blocks
		c.from[peer] -= c.last.Done
	}
	c.from[peer] += p.Done
	c.last = p
}

func (c *tally) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return fmt.Sprint(c.from)
}

// TestOnlyTheTailTravels: planning measures every host, for which no weights
// have to travel; a host that runs the tail gets the blocks of the tail, one
// that relays none. The answers are the network's. A host that has all weights
// after all measures again.
func TestOnlyTheTailTravels(t *testing.T) {
	c := newLoneStores(t)
	app := c.client(t, "device")
	var told tally
	plan := func() map[partition.HostID]bool {
		t.Helper()
		reply, err := app.Plan(t.Context(), c.g, nodes.PlanRequest{Runs: 1, Cuts: 2, Shortlist: 1}, input(), told.count)
		must(t, err)
		if len(reply.Lost) > 0 || len(reply.Profiles) != 3 {
			t.Fatalf("%d profiles, lost %v", len(reply.Profiles), reply.Lost)
		}
		out := map[partition.HostID]bool{}
		for _, p := range reply.Profiles {
			if p.Model != c.g.Digest || p.Whole <= 0 {
				t.Errorf("the profile of %s is %+v", p.Host, p)
			}
			out[p.Host] = p.StandIn
		}
		return out
	}
	if got := plan(); !maps.Equal(got, map[partition.HostID]bool{"device": false, "edge": true, "cloud": true}) {
		t.Errorf("stand-ins: %v", got)
	}
	if got := told.String(); got != "map[device:2]" { // network.onnx, to each
		t.Errorf("to measure came %s", got)
	}
	epoch, err := app.Adopt(t.Context(), nodes.AdoptRequest{Model: c.g.Digest, Plan: c.plan(t, 0, 0, 2, 2, 2)})
	must(t, err)
	answers, report, err := app.Infer(t.Context(), c.g, epoch, input())
	must(t, err)
	check(t, answers)
	for _, h := range report.Hosts {
		if h.Fallback != "" {
			t.Errorf("%s fell back: %s", h.Host, h.Fallback)
		}
	}
	for host, blocks := range map[partition.HostID][]models.BlockRef{"edge": {1, 2, 3, 4}, "cloud": {1, 2, 3}} {
		g, err := c.stores[host].Open(c.g.Digest)
		must(t, err)
		m, err := g.Manifest()
		must(t, err)
		if got := g.Lacks(m.All()); !slices.Equal(got, blocks) {
			t.Errorf("%s lacks the blocks %v, want %v", host, got, blocks)
		}
		here, total, err := g.Arrived()
		must(t, err)
		if most := total / 8; here > most || total < 11_200_000 {
			t.Errorf("%s has %v of %v, want at most %v", host, here, total, most)
		}
		if left, err := filepath.Glob(filepath.Join(c.stores[host].Dir(), ".*")); len(left) > 0 || err != nil {
			t.Errorf("left on %s: %v, %v", host, left, err)
		}
	}
	if _, err := c.hosts["edge"].agent.Pull(t.Context(), c.g.Digest, []partition.HostID{"device"}, nil, nil); err != nil {
		t.Fatal(err)
	}
	if got := plan(); !maps.Equal(got, map[partition.HostID]bool{"device": false, "edge": false, "cloud": true}) {
		t.Errorf("stand-ins once the edge has all: %v", got)
	}
}

// TestOnlyNeededBlocksTravel: hosts that are asked for a step have the blocks
// of the step, one that only relays has none of the weights.
func TestOnlyNeededBlocksTravel(t *testing.T) {
	c := newLoneStores(t)
	app := c.client(t, "device")
	epoch, err := app.Adopt(t.Context(), nodes.AdoptRequest{Model: c.g.Digest, Plan: c.plan(t, 0, 0, 2, 2, 2)})
	must(t, err)
	answers, _, err := app.Infer(t.Context(), c.g, epoch, input())
	must(t, err)
	check(t, answers)
	for host, want := range map[partition.HostID][]bool{"cloud": {true, false, false, false, true}, "edge": {true, false, false, false, false}} {
		g, err := c.stores[host].Open(c.g.Digest)
		must(t, err)
		var here []bool
		for ref := range bulkyBlocks {
			_, err := g.ReadBlock(models.BlockRef(ref))
			here = append(here, err == nil)
		}
		if !slices.Equal(here, want) || g.Has([]models.OpID{1}) || g.Has([]models.OpID{2, 3, 4}) != (host == "cloud") {
			t.Errorf("%s has the blocks %v, want %v", host, here, want)
		}
	}
	// Another step brings what is missing for it, from where it is.
	if _, err := app.Adopt(t.Context(), nodes.AdoptRequest{Model: c.g.Digest, Plan: c.plan(t, 0, 2, 2, 2, 2)}); err != nil {
		t.Fatal(err)
	}
	c.whole(t, "cloud")
}

// TestUpdateMovesWhatChanged: of a model that differs in one tensor, that
// tensor travels.
func TestUpdateMovesWhatChanged(t *testing.T) {
	c := newLoneStores(t)
	for _, step := range []struct {
		g    *models.Graph
		want string
	}{{c.g, "map[device:5]"}, {c.g, "map[]"}, {c.build(t, "next", 8), "map[device:3]"}} {
		var told tally
		_, err := c.hosts["cloud"].agent.Pull(t.Context(), step.g.Digest, []partition.HostID{"device"}, nil, told.count)
		must(t, err)
		if got := told.String(); got != step.want {
			t.Errorf("of %s came %s, want %s", step.g.Name, got, step.want)
		}
	}
}

// TestCorruptBlocksAreRefused: both sides log it, the block comes from the
// next host.
func TestCorruptBlocksAreRefused(t *testing.T) {
	c := newLoneStores(t)
	_, err := c.hosts["edge"].agent.Pull(t.Context(), c.g.Digest, []partition.HostID{"device"}, nil, nil)
	must(t, err)
	c.damage(t, "device", 5_000_000)
	cloud := c.hosts["cloud"].agent
	_, err = cloud.Pull(t.Context(), c.g.Digest, []partition.HostID{"cloud", "device"}, nil, nil)
	isKind(t, err, nodes.Unavailable)
	if !strings.Contains(err.Error(), "1 blocks of model") || !strings.Contains(err.Error(), "device: block 2 (bytes 4194304+4194304 of network.bin) is corrupt") {
		t.Errorf("got %v", err)
	}
	if _, err := cloud.Pull(t.Context(), c.g.Digest, []partition.HostID{"device", "edge"}, nil, nil); err != nil {
		t.Fatal(err)
	}
	if here, there := c.logs["cloud"].count("block refused"), c.logs["device"].count("a peer refused a block"); here != 2 || there != 2 {
		t.Errorf("refusals logged: %d here, %d there", here, there)
	}
	c.g, err = c.stores["edge"].Open(c.g.Digest)
	must(t, err)
	c.whole(t, "cloud")
}

// damage flips a bit of the only blob in a host's store.
func (c *loneStores) damage(t *testing.T, host partition.HostID, at int64) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(c.stores[host].Dir(), "*", "network.bin"))
	if err != nil || len(found) != 1 {
		t.Fatalf("found %v, %v", found, err)
	}
	f, err := os.OpenFile(found[0], os.O_RDWR, 0)
	must(t, err)
	b := make([]byte, 1)
	_, err = f.ReadAt(b, at)
	must(t, err)
	b[0] ^= 1
	_, err = f.WriteAt(b, at)
	must(t, err)
	must(t, f.Close())
}

// TestPullSurvivesABrokenConnection: it goes on over a new one.
func TestPullSurvivesABrokenConnection(t *testing.T) {
	c := newLoneStores(t)
	var once sync.Once
	_, err := c.hosts["cloud"].agent.Pull(t.Context(), c.g.Digest, []partition.HostID{"device"}, [][]models.OpID{c.g.Whole().Ops}, func(nodes.Progress) {
		once.Do(func() { // the ONNX file is here, the weights are not
			conn, err := c.hosts["cloud"].endpoint.Conn(t.Context(), "device")
			if err == nil {
				err = conn.Close()
			}
			if err != nil {
				t.Error(err)
			}
		})
	})
	must(t, err)
	c.whole(t, "cloud")
}

// TestPullGoesOnWhereItWasCut: what has arrived stays, even for an agent that
// is told of it by its disk only.
func TestPullGoesOnWhereItWasCut(t *testing.T) {
	c := newLoneStores(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err := c.hosts["cloud"].agent.Pull(ctx, c.g.Digest, []partition.HostID{"device"}, [][]models.OpID{c.g.Whole().Ops}, func(nodes.Progress) { cancel() })
	if err == nil {
		t.Fatal("it was not cut")
	}
	if got := c.stores["cloud"].ListPartial(); len(got) != 1 || got[0].Digest != c.g.Digest {
		t.Fatalf("partial: %v", got)
	}
	var told tally
	_, err = c.hosts["cloud"].agent.Pull(t.Context(), c.g.Digest, []partition.HostID{"device"}, nil, told.count)
	must(t, err)
	if got := told.String(); got != "map[device:4]" {
		t.Errorf("after the ONNX file came %s", got)
	}
	c.whole(t, "cloud")
}

// TestManyPullAtOnce: the model travels once.
func TestManyPullAtOnce(t *testing.T) {
	c := newLoneStores(t)
	var told tally
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			_, err := c.hosts["edge"].agent.Pull(t.Context(), c.g.Digest, []partition.HostID{"device"}, [][]models.OpID{{1}, {2, 3}}, told.count)
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := told.String(); got != "map[device:5]" {
		t.Errorf("blocks came as %s", got)
	}
	c.whole(t, "edge")
}

// TestHostsServeWhatTheyHave: hosts with different blocks complete each other.
func TestHostsServeWhatTheyHave(t *testing.T) {
	c := newLoneStores(t)
	for _, step := range []struct {
		to   partition.HostID
		ops  [][]models.OpID
		from []partition.HostID
		want string
	}{
		{"cloud", [][]models.OpID{{2}}, []partition.HostID{"device"}, "map[device:2]"},
		{"edge", [][]models.OpID{{1}}, []partition.HostID{"cloud", "device"}, "map[cloud:1 device:3]"},
		{"cloud", nil, []partition.HostID{"edge"}, "map[edge:3]"},
	} {
		var told tally
		_, err := c.hosts[step.to].agent.Pull(t.Context(), c.g.Digest, step.from, step.ops, told.count)
		must(t, err)
		if got := told.String(); got != step.want {
			t.Errorf("to %s came %s, want %s", step.to, got, step.want)
		}
	}
	c.whole(t, "cloud")
}

func TestNobodyHasIt(t *testing.T) {
	c := newLoneStores(t)
	_, err := c.hosts["device"].agent.Pull(t.Context(), "feed", []partition.HostID{"edge", "device", "cloud"}, nil, nil)
	isKind(t, err, nodes.NotFound)
	if !strings.Contains(err.Error(), "no host has model feed (edge: ") {
		t.Errorf("got %v", err)
	}
	_, err = c.hosts["device"].agent.Pull(t.Context(), c.g.Digest, []partition.HostID{"cloud"}, [][]models.OpID{{9}}, nil)
	isKind(t, err, nodes.Invalid)
}

// TestClientsGetNoWeights: blocks travel between agents.
func TestClientsGetNoWeights(t *testing.T) {
	c := newLoneStores(t)
	conn, err := c.app.Conn(t.Context(), "device")
	must(t, err)
	for _, kind := range []string{"manifest", "blocks"} {
		s, err := conn.Open(t.Context())
		must(t, err)
		f := transport.NewFrame(kind)
		f.Header.Control = fmt.Appendf(nil, `{"model":%q,"blocks":[0]}`, c.g.Digest)
		must(t, s.Send(t.Context(), f))
		must(t, s.CloseSend())
		reply, err := s.Receive(t.Context())
		must(t, err)
		if got := nodes.Kind(reply.Header.Error.GetKind()); got != nodes.Policy || reply.Len() > 0 {
			t.Errorf("%s is answered with %q, %d tensors", kind, got, reply.Len())
		}
		reply.Release()
		s.Cancel(transport.CancelUnwanted)
	}
}

func isKind(t *testing.T, err error, kind nodes.Kind) {
	t.Helper()
	if err == nil || nodes.KindOf(err) != kind {
		t.Errorf("got %v, want kind %q", err, kind)
	}
}
