package nodes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/scheduler"
	"github.com/cleaveml/cleave/transport"
)

// Network is what an agent needs of its endpoint; transport/quic has it.
type Network interface {
	// Conn returns the connection with a host, dialling when there is none.
	Conn(ctx context.Context, host partition.HostID) (transport.Conn, error)
	// Warm opens a new connection's congestion window.
	Warm(ctx context.Context, host partition.HostID) error
	// Probe measures both directions of the link now.
	Probe(ctx context.Context, host partition.HostID) (transport.Links, error)
	// Links is what is known of the links with every host met so far.
	Links() map[partition.HostID]transport.Links
}

// Config of an agent. ID, Hosts, Compute and Store are required.
type Config struct {
	ID partition.HostID
	// Hosts of the cluster that are known from the start, this one included, in
	// any order; Joined and Left tell of others.
	Hosts []partition.Host
	// Compute runs segments on this host; the agent closes it.
	Compute *Compute
	// Store holds the models that this host may be asked to run.
	Store *models.Store
	// Sample makes an input to measure with when none is at hand.
	Sample Sampler
	// CPU and Runtime describe this host in profiles.
	CPU, Runtime string
	// RawStays: this host never lets raw input leave, whatever a request says.
	RawStays bool
	// Memory keeps settings and profiles across restarts; nil: nothing does.
	Memory Memory
	// Budget is the deadline of requests that name none: 10 s.
	Budget time.Duration
	// Drift says when live timings correct a profile.
	Drift Drift
	// Tracer ties requests to the traces of who sends them; nil: nothing does.
	Tracer Tracer
	// Log receives what an operator wants to read; nil: nothing.
	Log *slog.Logger
}

// Agent serves segments and originates requests. Attach a network before
// anything else; Close it.
type Agent struct {
	cfg      Config
	net      Network // valid once attached is closed
	attached chan struct{}
	log      *slog.Logger
	once     sync.Once

	steering *steering
	origins  origins

	mu       sync.Mutex
	hosts    []partition.Host
	gone     map[partition.HostID]bool // have left, or are dead
	suspects map[partition.HostID]bool // did not answer
	ledger   *scheduler.Ledger         // what this host has promised
	graphs   map[models.Digest]*models.Graph
	plans    map[uint64]*adopted
	order    []uint64 // of plans, oldest first
	epoch    uint64
	profiles map[profileKey]Profile
	links    map[linkKey]MeasuredLink
	sample   sample
	resting  map[partition.HostID]time.Time // hosts not to be dialled for a request before then
	// measuring admits one measurement at a time: two would slow each other.
	measuring chan struct{}
	pulls     turns
	imitators map[string]bool // addresses of other hosts of this one's name
	own       ownProfiles
	announced announcements
}

type profileKey struct {
	model models.Digest
	host  partition.HostID
}

type linkKey struct{ from, to partition.HostID }

// sample is every value of one graph on a sample input, for timing segments
// of it.
type sample struct {
	model  models.Digest
	values Values
}

const defaultRequestBudget = 10 * time.Second

// New makes an agent. The error is of kind Invalid.
func New(cfg Config) (*Agent, error) {
	invalid := func(format string, args ...any) (*Agent, error) {
		return nil, &Error{Op: "configure agent", Node: cfg.ID, Kind: Invalid, Err: fmt.Errorf(format, args...)}
	}
	if cfg.Compute == nil || cfg.Store == nil || cfg.Sample == nil {
		return invalid("it needs an engine, a model store and a sampler")
	}
	if cfg.Budget < 0 {
		return invalid("budget %v: want a positive duration", cfg.Budget)
	}
	known := map[partition.HostID]bool{}
	for _, h := range cfg.Hosts {
		if known[h.ID] {
			return invalid("two hosts are called %q", h.ID)
		}
		known[h.ID] = true
	}
	if !known[cfg.ID] {
		return invalid("the list of hosts does not name it")
	}
	drift, err := cfg.Drift.withDefaults()
	if err != nil {
		return invalid("%w", err)
	}
	if cfg.Budget == 0 {
		cfg.Budget = defaultRequestBudget
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	ledger := scheduler.NewLedger(float64(cfg.Compute.Pace().Slots()))
	a := &Agent{
		cfg: cfg, log: cfg.Log, hosts: slices.Clone(cfg.Hosts), gone: map[partition.HostID]bool{}, suspects: map[partition.HostID]bool{}, ledger: ledger,
		graphs: map[models.Digest]*models.Graph{}, plans: map[uint64]*adopted{},
		profiles: map[profileKey]Profile{}, links: map[linkKey]MeasuredLink{},
		resting:   map[partition.HostID]time.Time{},
		measuring: make(chan struct{}, 1),
		attached:  make(chan struct{}),
		// An old client's epoch must not name a plan of another run of this host.
		epoch: rand.Uint64() >> 16,
	}
	if a.steering, err = newSteering(a); err != nil {
		return invalid("%w", err)
	}
	a.own.drift = drift
	cfg.Compute.ran = a.ran
	return a, nil
}

// Attach gives the agent its network, once. Requests that come in before wait.
func (a *Agent) Attach(n Network) {
	a.net = n
	close(a.attached)
	a.steering.mu.Lock()
	defer a.steering.mu.Unlock()
	a.steering.start(a.steering.run)
}

// Close ends what goes on in the background and frees the sessions. The network
// must be closed before, so that no request is under way.
func (a *Agent) Close() error {
	var err error
	a.once.Do(func() {
		a.steering.close()
		err = a.cfg.Compute.Close()
	})
	return err
}

// graph opens a model of the store, once.
func (a *Agent) graph(digest models.Digest) (*models.Graph, error) {
	a.mu.Lock()
	g, ok := a.graphs[digest]
	a.mu.Unlock()
	if ok {
		return g, nil
	}
	g, err := a.cfg.Store.Open(digest)
	if err != nil {
		return nil, &Error{Op: "open model", Node: a.cfg.ID, Kind: NotFound, Err: err}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.graphs[digest] = g
	return g, nil
}

// Handle serves one request; it is the network's transport.Handler.
func (a *Agent) Handle(ctx context.Context, peer transport.Peer, s transport.Stream) {
	f, err := s.Begin(ctx)
	if err != nil {
		if !errors.Is(err, io.EOF) {
			a.log.Debug("request broken off", "peer", peer.ID, "err", err)
		}
		return
	}
	a.HandleFrame(ctx, peer, s, f)
}

// HandleFrame is Handle for a stream whose first frame was begun already. It
// releases the frame.
func (a *Agent) HandleFrame(ctx context.Context, peer transport.Peer, s transport.Stream, f *transport.Frame) {
	defer f.Recycle()
	select {
	case <-a.attached:
	case <-ctx.Done():
		return
	}
	if ms := f.Header.GetBudgetMs(); ms > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(ms*float64(time.Millisecond)))
		defer cancel()
	}
	ctx = a.traced(ctx, f.Header.GetTraceparent())
	came := time.Now()
	reply, err := a.serveSafely(ctx, peer, s, f)
	if err != nil {
		level := slog.LevelWarn
		if errors.Is(ctx.Err(), context.Canceled) { // whoever asked is gone or has changed its mind
			level = slog.LevelDebug
		}
		a.logOf(ctx).Log(ctx, level, "request refused", "peer", peer.ID, "kind", f.Header.Kind, "err", err)
		reply = transport.NewFrame(transport.KindError)
		reply.Header.Error = wireError(a.cfg.ID, err)
		// The deadline that ended the request must not keep its refusal back.
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
	}
	defer reply.Recycle()
	reply.Header.RequestId = f.Header.RequestId
	if err := s.Send(ctx, reply); err != nil {
		a.log.Debug("reply not delivered", "peer", peer.ID, "err", err)
		return
	}
	_ = s.CloseSend() // the reply is out; the peer may be gone already
	if err == nil && a.log.Enabled(ctx, slog.LevelDebug) {
		a.logOf(ctx).Debug("request answered", "peer", peer.ID, "kind", f.Header.Kind, "request", f.Header.GetRequestId(), "took", time.Since(came))
	}
}

// serveSafely turns a panic into a refusal: whatever a peer sends, the agent
// goes on.
func (a *Agent) serveSafely(ctx context.Context, peer transport.Peer, s transport.Stream, f *transport.Frame) (reply *transport.Frame, err error) {
	defer func() {
		if p := recover(); p != nil {
			a.log.Error("a request made the agent panic", "peer", peer.ID, "kind", f.Header.Kind, "panic", p, "stack", string(debug.Stack()))
			reply, err = nil, &Error{Op: f.Header.Kind, Node: a.cfg.ID, Kind: Failed, Err: errors.New("internal error, see the host's log")}
		}
	}()
	if peer.Role == transport.Client && !forClients[f.Header.Kind] {
		return nil, &Error{Op: f.Header.Kind, Node: a.cfg.ID, Kind: Policy, Err: fmt.Errorf("%s has a client's certificate, which may not ask for it", peer.ID)}
	}
	return a.serve(ctx, s, f)
}

// forClients are the kinds of request that applications may send; the others
// are between agents.
var forClients = map[string]bool{kindInfer: true, kindPlan: true, kindAdopt: true, kindStatus: true, kindPing: true,
	kindOpen: true, kindSet: true, kindClose: true, kindStreams: true}

func (a *Agent) serve(ctx context.Context, s transport.Stream, f *transport.Frame) (*transport.Frame, error) {
	if f.Header.Kind != kindSegment {
		if err := f.Wait(ctx); err != nil {
			return nil, err
		}
	}
	switch f.Header.Kind {
	case kindPing:
		return transport.NewFrame(transport.KindReply), nil
	case kindSegment:
		return a.serveSegment(ctx, f)
	case kindPrepare:
		return serveJSON(f, func(r prepareRequest) (any, error) { return struct{}{}, a.prepare(ctx, r) })
	case kindProfile:
		return serveJSON(f, func(r profileRequest) (any, error) { return a.profileSelf(ctx, r, nil, a.progressTo(ctx, s)) })
	case kindTime:
		return serveJSON(f, func(r timeRequest) (any, error) { return a.timeSegments(ctx, r) })
	case kindLinks:
		return serveJSON(f, func(r linksRequest) (any, error) { return a.measureLinks(ctx, r.To) })
	case kindManifest:
		return a.serveManifest(f)
	case kindBlocks:
		return a.serveBlocks(f)
	case kindStatus:
		return serveJSON(f, func(r statusRequest) (any, error) {
			if r.Of == "" || r.Of == a.cfg.ID {
				return a.status(), nil
			}
			var st Status
			err := a.relay(ctx, r.Of, request{kind: kindStatus}, &st)
			return st, err
		})
	case kindPlan:
		return a.servePlan(ctx, s, f)
	case kindAdopt:
		return serveJSON(f, func(r AdoptRequest) (any, error) { return a.Adopt(ctx, r) })
	case kindInfer:
		return a.serveInfer(ctx, f)
	case kindOpen:
		return a.serveOpen(ctx, s, f)
	case kindSet:
		return a.serveSet(ctx, f)
	case kindClose:
		return a.serveClose(ctx, f)
	case kindStreams:
		return a.serveStreams(ctx, f)
	case kindNamesake:
		return serveJSON(f, func(n namesake) (any, error) { a.imitated(n); return struct{}{}, nil })
	case kindFind:
		return serveJSON(f, func(r findRequest) (any, error) {
			return findReply{Open: a.steering.has(r.Stream), Stored: a.recalls(r.Stream)}, nil
		})
	case kindLease:
		return serveJSON(f, func(l scheduler.Lease) (any, error) { return struct{}{}, a.grant(&l) })
	}
	return nil, &Error{Op: "serve", Node: a.cfg.ID, Kind: Invalid, Err: fmt.Errorf("no request is called %q", f.Header.Kind)}
}

// serveJSON decodes the control part of a request and encodes what answers it.
func serveJSON[R any](f *transport.Frame, answer func(R) (any, error)) (*transport.Frame, error) {
	var r R
	if len(f.Header.Control) > 0 {
		if err := json.Unmarshal(f.Header.Control, &r); err != nil {
			return nil, &Error{Op: f.Header.Kind, Kind: Invalid, Err: fmt.Errorf("unreadable request: %w", err)}
		}
	}
	result, err := answer(r)
	if err != nil {
		return nil, err
	}
	return jsonReply(result)
}

func jsonReply(result any) (*transport.Frame, error) {
	reply := transport.NewFrame(transport.KindReply)
	data, err := json.Marshal(result)
	if err != nil {
		return nil, &Error{Op: "reply", Kind: Failed, Err: err}
	}
	if len(data) > maxControl {
		return reply, reply.Add(controlTensor, transport.Zstd, tensor.FromBytes(data))
	}
	reply.Header.Control = data
	return reply, nil
}

// A header is limited: control parts above maxControl, the plan of a large
// network for example, travel as a tensor of this name.
const (
	maxControl    = 256 << 10
	controlTensor = "control"
)

// controlOf is the control part of a reply.
func controlOf(f *transport.Frame) ([]byte, error) {
	if f.Len() == 1 && f.Header.Tensors[0].GetValue() == controlTensor {
		t, err := f.Tensor(0)
		return t.Data, err
	}
	return f.Header.Control, nil
}

// progressTo forwards progress to whoever asked. Failing to is no failure of
// the work.
func (a *Agent) progressTo(ctx context.Context, s transport.Stream) func(progress) {
	return func(p progress) {
		f := transport.NewFrame(kindProgress)
		f.Header.Control, _ = json.Marshal(p)
		_ = s.Send(ctx, f)
	}
}

// Status is what an agent says of itself.
type Status struct {
	ID       partition.HostID `json:"id"`
	Hosts    []partition.Host `json:"hosts"`
	CPU      string           `json:"cpu"`
	Runtime  string           `json:"runtime"`
	Slowdown float64          `json:"slowdown"`
	Models   []ModelStatus    `json:"models"`
	Peers    []PeerStatus     `json:"peers"` // the other hosts
}

// ModelStatus is a model in a host's store.
type ModelStatus struct {
	Name    string        `json:"name"`
	Digest  models.Digest `json:"digest"`
	Form    models.Form   `json:"form"`
	Ops     int           `json:"ops"`
	Weights tensor.Bytes  `json:"weights"`
}

func (a *Agent) status() Status {
	st := Status{ID: a.cfg.ID, Hosts: a.members(), CPU: a.cfg.CPU, Runtime: a.cfg.Runtime, Slowdown: a.cfg.Compute.Pace().Factor(), Peers: a.peers()}
	graphs, err := a.cfg.Store.List()
	if err != nil {
		a.log.Warn("part of the store is unreadable", "err", err)
	}
	for _, g := range graphs {
		st.Models = append(st.Models, ModelStatus{g.Name, g.Digest, g.Form, len(g.Ops), g.Weights(g.Range(0, len(g.Ops)))})
	}
	return st
}
