package nodes

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
)

const (
	blocksPerReply = 2 * models.MaxBlock
	pullsInFlight  = 3               // requests for blocks to one peer
	pullAttempts   = 3               // of one request, each on a connection of its own
	pullReach      = 5 * time.Second // bounds the dial of a peer that has blocks
)

type manifestRequest struct {
	Model models.Digest `json:"model"`
}

type blocksRequest struct {
	Model models.Digest `json:"model"`
	// Blocks that are wanted. The reply has as many of them as fit, those
	// that the host has.
	Blocks []models.BlockRef `json:"blocks"`
	// Refused tells, one line each, what By found wrong with blocks that it got
	// from this host.
	Refused []string         `json:"refused,omitempty"`
	By      partition.HostID `json:"by,omitempty"`
}

// wants says which blocks of a model a host needs; nil: all of them.
type wants func(*models.Graph) ([]models.BlockRef, error)

// wantSpans wants what it takes to run these ops.
func wantSpans(s []Span) wants {
	return func(g *models.Graph) ([]models.BlockRef, error) {
		ops, err := opsOf(s, g)
		if err != nil {
			return nil, err
		}
		return g.BlocksOf(ops)
	}
}

// wantMeasure wants what it takes to measure the model: all of it only where
// its time depends on the values of the weights.
func wantMeasure(g *models.Graph) ([]models.BlockRef, error) {
	if g.DependsOnValues() == "" {
		return g.Essential()
	}
	return g.BlocksOf(g.Range(0, len(g.Ops)))
}

// has reports whether the graph has all blocks that w needs.
func (w wants) has(g *models.Graph) bool {
	if w == nil || !g.Partial() {
		return !g.Partial()
	}
	refs, err := w(g)
	return err != nil || len(g.Lacks(refs)) == 0 // whoever asked hears of the error elsewhere
}

// Pull fetches what is missing of a model, from the first of these hosts that
// has it or from members that say they do, and returns its graph: the blocks that segments of these ops need, or
// all of them for nil. Every block is checked before it is written; what has
// arrived stays when Pull fails. report, which may be nil, counts blocks.
func (a *Agent) Pull(ctx context.Context, digest models.Digest, from []partition.HostID, ops [][]models.OpID, report func(Progress)) (*models.Graph, error) {
	if ops == nil {
		return a.pull(ctx, digest, from, nil, report)
	}
	return a.pull(ctx, digest, from, func(g *models.Graph) ([]models.BlockRef, error) { return g.BlocksOf(slices.Concat(ops...)) }, report)
}

// obtain returns a model with what is needed of it, pulling what is not here
// if there is a host to pull it from.
func (a *Agent) obtain(ctx context.Context, digest models.Digest, w wants, from []partition.HostID, report func(progress)) (*models.Graph, error) {
	g, err := a.graph(digest)
	others := a.without(from)
	if len(others) == 0 || err == nil && w.has(g) {
		return g, err
	}
	return a.pull(ctx, digest, others, w, report)
}

func (a *Agent) without(hosts []partition.HostID) []partition.HostID {
	return slices.DeleteFunc(slices.Clone(hosts), func(h partition.HostID) bool { return h == a.cfg.ID })
}

// turns admits one pull of a model at a time: the next finds what it fetched.
type turns struct {
	mu   sync.Mutex
	busy map[models.Digest]chan struct{} // closed when the turn ends
}

func (t *turns) take(ctx context.Context, digest models.Digest) (release func(), err error) {
	for {
		t.mu.Lock()
		before, busy := t.busy[digest]
		if !busy {
			if t.busy == nil {
				t.busy = map[models.Digest]chan struct{}{}
			}
			done := make(chan struct{})
			t.busy[digest] = done
			t.mu.Unlock()
			return func() {
				t.mu.Lock()
				defer t.mu.Unlock()
				delete(t.busy, digest)
				close(done)
			}, nil
		}
		t.mu.Unlock()
		select {
		case <-before:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// pulling is one pull under way.
type pulling struct {
	self    partition.HostID
	store   *models.Store
	log     *slog.Logger
	dial    func(context.Context, partition.HostID) (transport.Conn, error)
	digest  models.Digest
	arrival *models.Arrival

	mu          sync.Mutex // guards what follows
	report      func(progress)
	done, total int
}

func (a *Agent) pull(ctx context.Context, digest models.Digest, from []partition.HostID, w wants, report func(progress)) (*models.Graph, error) {
	release, err := a.pulls.take(ctx, digest)
	if err != nil {
		return nil, a.failed("pull", err)
	}
	defer release()
	p := &pulling{self: a.cfg.ID, store: a.cfg.Store, log: a.log, dial: a.net.Conn, digest: digest, report: report}
	if err := p.run(ctx, a.sources(digest, from), w); err != nil {
		return nil, a.failed("pull", err)
	}
	a.announced.pulled()
	return a.graph(digest)
}

// run fetches until nothing is missing of what is wanted.
func (p *pulling) run(ctx context.Context, from []partition.HostID, w wants) error {
	if p.report == nil {
		p.report = func(progress) {}
	}
	if err := p.begin(ctx, from); err != nil {
		return err
	}
	for {
		refs, err := p.missing(w)
		if err != nil || len(refs) == 0 {
			return err
		}
		if err := p.fetch(ctx, from, refs); err != nil {
			return err
		}
	}
}

// begin takes up what there is of the model, or asks for its manifest.
func (p *pulling) begin(ctx context.Context, from []partition.HostID) error {
	var ok bool
	if p.arrival, ok = p.store.Resume(p.digest); ok {
		return nil
	}
	var reasons []string
	for _, peer := range from {
		data, err := p.askManifest(ctx, peer)
		if err == nil {
			p.arrival, err = p.store.Begin(data)
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		reasons = append(reasons, fmt.Sprintf("%s: %v", peer, err))
	}
	return &Error{Op: "pull", Node: p.self, Kind: NotFound, Err: fmt.Errorf(
		"no host has model %s (%s)", p.digest.Short(), strings.Join(reasons, "; "))}
}

// askManifest returns a manifest that fits the digest.
func (p *pulling) askManifest(ctx context.Context, peer partition.HostID) ([]byte, error) {
	conn, err := p.reach(ctx, peer)
	if err != nil {
		return nil, err
	}
	reply, err := call(ctx, conn, request{kind: kindManifest, control: manifestRequest{p.digest}}, nil)
	if err != nil {
		return nil, err
	}
	defer reply.Release()
	if reply.Len() != 1 {
		return nil, fmt.Errorf("%d tensors for a manifest", reply.Len())
	}
	t, err := reply.Tensor(0)
	if err != nil {
		return nil, err
	}
	data := slices.Clone(t.Data)
	m, err := models.ParseManifest(data)
	if err == nil && m.Digest != p.digest {
		err = fmt.Errorf("it sent the manifest of model %s", m.Digest.Short())
	}
	return data, err
}

func (p *pulling) reach(ctx context.Context, peer partition.HostID) (transport.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, pullReach)
	defer cancel()
	return p.dial(ctx, peer)
}

// missing lists what to fetch next: the ONNX files, which tell the rest.
func (p *pulling) missing(w wants) ([]models.BlockRef, error) {
	if w == nil {
		return p.arrival.Missing(nil)
	}
	if refs, err := p.arrival.Missing([]models.OpID{}); err != nil || len(refs) > 0 {
		return refs, err
	}
	g, err := p.arrival.Graph()
	if err != nil {
		return nil, err
	}
	refs, err := w(g)
	if err != nil {
		return nil, err
	}
	return p.arrival.Lacks(refs), nil
}

// fetch gets blocks from the store's other models and from the peers, in order.
func (p *pulling) fetch(ctx context.Context, from []partition.HostID, refs []models.BlockRef) error {
	refs, err := p.arrival.Reuse(refs)
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.done, p.total = 0, len(refs)
	p.mu.Unlock()
	var reasons []string
	for _, peer := range from {
		if len(refs) == 0 {
			return nil
		}
		errand := &errand{pulling: p, peer: peer, todo: p.batches(refs)}
		errand.run(ctx)
		if errand.local != nil {
			return errand.local
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		refs = errand.left
		slices.Sort(refs)
		if errand.err != nil {
			reasons = append(reasons, fmt.Sprintf("%s: %v", peer, errand.err))
		}
	}
	if len(refs) == 0 {
		return nil
	}
	return &Error{Op: "pull", Node: p.self, Kind: Unavailable, Err: fmt.Errorf(
		"%d blocks of model %s are not to be had (%s)", len(refs), p.digest.Short(), strings.Join(reasons, "; "))}
}

// batches divides blocks into what one reply holds.
func (p *pulling) batches(refs []models.BlockRef) [][]models.BlockRef {
	var out [][]models.BlockRef
	size := blocksPerReply
	for _, ref := range refs {
		_, b, _ := p.arrival.Manifest().Block(ref)
		if size += b.Size; size > blocksPerReply {
			out = append(out, nil)
			size = b.Size
		}
		out[len(out)-1] = append(out[len(out)-1], ref)
	}
	return out
}

// arrived reports n more blocks.
func (p *pulling) arrived(peer partition.HostID, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += n
	p.report(progress{Host: p.self, Done: p.done, Total: p.total, What: fmt.Sprintf("blocks of %s from %s", p.digest.Short(), peer)})
}

// errand fetches blocks from one peer, several requests at a time.
type errand struct {
	*pulling
	peer partition.HostID

	mu    sync.Mutex // guards what follows
	todo  [][]models.BlockRef
	left  []models.BlockRef // what the peer could not give
	err   error             // why, the last reason
	local error             // what went wrong on this host: no other peer helps
}

// run returns when all requests have ended.
func (e *errand) run(ctx context.Context) {
	var wg sync.WaitGroup
	for range min(pullsInFlight, len(e.todo)) {
		wg.Go(func() {
			for refs := e.next(); refs != nil; refs = e.next() {
				if err := e.batch(ctx, refs); err != nil {
					e.giveUp()
				}
			}
		})
	}
	wg.Wait()
}

func (e *errand) next() []models.BlockRef {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.todo) == 0 {
		return nil
	}
	refs := e.todo[0]
	e.todo = e.todo[1:]
	return refs
}

// giveUp leaves what was not asked for yet to the next peer.
func (e *errand) giveUp() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.left = append(e.left, slices.Concat(e.todo...)...)
	e.todo = nil
}

func (e *errand) leave(err error, refs ...models.BlockRef) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.left = append(e.left, refs...)
	e.err = err
}

// batch fetches a few blocks, on a new connection where one breaks. The error
// says that there is no point in asking the peer for others.
func (e *errand) batch(ctx context.Context, refs []models.BlockRef) error {
	for attempt := 1; len(refs) > 0; {
		rest, err := e.ask(ctx, refs)
		switch {
		case err == nil && len(rest) == len(refs):
			e.leave(fmt.Errorf("it has none of the blocks %v", refs), rest...)
			return nil
		case err == nil:
			attempt = 1
		case transport.KindOf(err) != "" && ctx.Err() == nil && attempt < pullAttempts:
			attempt++
		default:
			e.leave(err, rest...)
			return err
		}
		refs = rest
	}
	return nil
}

// ask sends one request and takes in the reply. rest is what is still to be
// asked for; corrupt blocks are left to another peer.
func (e *errand) ask(ctx context.Context, refs []models.BlockRef) (rest []models.BlockRef, err error) {
	conn, err := e.reach(ctx, e.peer)
	if err != nil {
		return refs, err
	}
	reply, err := call(ctx, conn, request{kind: kindBlocks, control: blocksRequest{Model: e.digest, Blocks: refs}}, nil)
	if err != nil {
		return refs, err
	}
	defer reply.Release()
	var pieces []models.Piece
	for i := range reply.Len() {
		n, err := strconv.Atoi(reply.Header.Tensors[i].GetValue())
		if err != nil || !slices.Contains(refs, models.BlockRef(n)) {
			return refs, &Error{Op: "read blocks", Node: e.peer, Kind: Failed, Err: fmt.Errorf("it sent block %.20q, which nobody asked for", reply.Header.Tensors[i].GetValue())}
		}
		t, err := reply.Tensor(i)
		if err != nil {
			return refs, err
		}
		pieces = append(pieces, models.Piece{Ref: models.BlockRef(n), Data: t.Data})
	}
	if err := e.take(ctx, conn, pieces); err != nil {
		return refs, err
	}
	return slices.DeleteFunc(slices.Clone(refs), func(ref models.BlockRef) bool {
		return slices.ContainsFunc(pieces, func(p models.Piece) bool { return p.Ref == ref })
	}), nil
}

// take stores blocks and refuses those that are corrupt.
func (e *errand) take(ctx context.Context, conn transport.Conn, pieces []models.Piece) error {
	refused, err := e.arrival.PutAll(pieces)
	if err != nil {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.local = err
		return err
	}
	if n := len(pieces) - len(refused); n > 0 {
		e.arrived(e.peer, n)
	}
	if len(refused) == 0 {
		return nil
	}
	var lines []string
	for _, wrong := range refused {
		e.log.Warn("block refused", "peer", e.peer, "model", e.digest.Short(), "err", wrong)
		e.leave(wrong, wrong.Ref)
		lines = append(lines, wrong.Error())
	}
	// The peer's operator should know; that it hears of it is not needed here.
	if reply, err := call(ctx, conn, request{kind: kindBlocks, control: blocksRequest{Model: e.digest, Refused: lines, By: e.self}}, nil); err == nil {
		reply.Release()
	}
	return nil
}
