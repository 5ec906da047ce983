// Package demo does the main job on one machine: three agents in three
// processes, one stream of frames through them while the network, the rules and
// the cluster change, and every answer compared with the uncut network's.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/cleaveml/cleave/benchmarks/lab"
	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/catalog"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/nodes"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/scheduler"
	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/identity"
	"github.com/cleaveml/cleave/transport/sim/link"
)

// Config of a demo.
type Config struct {
	Entry *catalog.Entry
	Graph *models.Graph
	// Frame returns the inputs of frame n, by name.
	Frame func(n int) (map[string]tensor.Tensor, error)
	// Uncut runs the whole network on this machine.
	Uncut func(ctx context.Context, inputs map[string]tensor.Tensor) (map[string]tensor.Tensor, error)
	// Lab describes the cluster; its links are those of the first scene of all.
	Lab lab.Config
	// Counters tell what a link has carried; nil where nobody counts.
	Counters func(from, to partition.HostID) link.Counters
	Scenes   []lab.Scene
	// Rounds is how many frames each strategy answers in a scene.
	Rounds int
	// Codecs that tensors may cross a link in; the lossless ones if there are none.
	Codecs []transport.Codec
	// Budget is the deadline of each request.
	Budget time.Duration
	// Runs and Cuts bound the effort of measuring, as in nodes.OpenRequest.
	Runs, Cuts int
	// Patience is how long a scene waits for a change of plan.
	Patience time.Duration
	// Say prints a line for a person; Step shows what is going on.
	Say  func(format string, args ...any)
	Step func(format string, args ...any)
}

// Stream is the name of the demo's stream.
const Stream scheduler.StreamID = "demo"

// cluster is what the demo does to a lab.
type cluster interface {
	SetLinks(links []lab.Link) error
	Kill(host partition.HostID) error
	Restart(ctx context.Context, host partition.HostID) error
	Close() error
}

// sender sends requests.
type sender interface {
	Send(ctx context.Context, g *models.Graph, id scheduler.StreamID, inputs map[string]tensor.Tensor) (map[string]tensor.Tensor, nodes.InferReport, error)
	Infer(ctx context.Context, g *models.Graph, epoch uint64, inputs map[string]tensor.Tensor) (map[string]tensor.Tensor, nodes.InferReport, error)
}

// steward looks after the stream and the plans beside it.
type steward interface {
	Open(ctx context.Context, g *models.Graph, r nodes.OpenRequest, inputs map[string]tensor.Tensor, report func(nodes.Progress)) (nodes.StreamState, error)
	Set(ctx context.Context, r nodes.SetRequest) (nodes.StreamState, error)
	Streams(ctx context.Context, origin partition.HostID) ([]nodes.StreamState, error)
	Adopt(ctx context.Context, r nodes.AdoptRequest) (uint64, error)
}

// Demo is a cluster and a stream of frames through it. Close it.
type Demo struct {
	Config
	// Address is where the stream's origin listens.
	Address string

	cluster cluster
	sender  sender
	steward steward
	frames  []frame
	start   time.Time // when the stream was open
	opened  nodes.StreamState
	fixed   []fixed
	// What holds now.
	links []lab.Link
	down  map[partition.HostID]bool
	noted time.Time // the latest switch of the stream that was taken in

	mu     sync.Mutex // guards what senders write: the rows of the scene, and the result
	plans  map[scheduler.Epoch]partition.Plan
	result Result
	// rawSince is since when raw-stays-on-device holds; zero while it does not.
	rawSince time.Time
}

// fixed is a strategy that runs everything on one host.
type fixed struct {
	nodes.FixedPlan
	epoch uint64
	stale bool // one of its hosts has a new process
}

// frame is the input of a request and the uncut network's answer to it.
type frame struct {
	inputs, uncut map[string]tensor.Tensor
}

// Start answers the frames with the uncut network and starts the agents.
func Start(ctx context.Context, cfg Config) (*Demo, error) {
	d := newDemo(cfg)
	// Before the agents run: this process must not disturb them.
	if err := d.prepare(ctx); err != nil {
		return nil, err
	}
	cfg.Lab.Links = d.links
	cfg.Step("starting %d agents", len(cfg.Lab.Hosts))
	l, err := lab.Start(ctx, cfg.Lab)
	if err != nil {
		return nil, err
	}
	origin := cfg.Lab.Hosts[0].Name
	d.cluster, d.Address = l, l.Address(origin)
	client, err := l.Client(ctx, origin)
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	d.sender, d.steward = client, client
	if cfg.Lab.Network != nil {
		cfg.Step("")
		for _, h := range cfg.Lab.Hosts {
			cfg.Say("  %-7s is at %s, in a network namespace of its own", h.Name, l.Address(h.Name))
		}
	}
	return d, nil
}

func newDemo(cfg Config) *Demo {
	return &Demo{Config: cfg, links: lab.Scenes()[0].Links,
		down: map[partition.HostID]bool{}, plans: map[scheduler.Epoch]partition.Plan{}}
}

// Close stops the agents and returns when they are gone.
func (d *Demo) Close() error { return d.cluster.Close() }

// Visitor issues a client certificate beside the agents' own, for somebody who
// looks at the cluster while the demo is connected, and returns its name.
func (d *Demo) Visitor() (partition.HostID, error) {
	const name = "visitor"
	return name, identity.Issue(d.Lab.Dir, name, transport.Client)
}

// Play opens the stream and plays the scenes one after the other.
func (d *Demo) Play(ctx context.Context) (Result, error) {
	if err := d.open(ctx); err != nil {
		return d.result, err
	}
	for _, s := range d.Scenes {
		if err := d.scene(ctx, s); err != nil {
			return d.result, fmt.Errorf("scene %s: %w", s.Name, err)
		}
	}
	return d.result, nil
}

// framesKept bounds the different frames of a run.
const framesKept = 64

// prepare makes the frames and runs the uncut network on them.
func (d *Demo) prepare(ctx context.Context) error {
	most := min(d.Rounds, framesKept)
	for n := range most {
		if err := ctx.Err(); err != nil {
			return err
		}
		d.Step("the uncut network answers frame %d of %d", n+1, most)
		inputs, err := d.Frame(n)
		if err != nil {
			return err
		}
		uncut, err := d.Uncut(ctx, inputs)
		if err != nil {
			return fmt.Errorf("run the uncut network: %w", err)
		}
		d.frames = append(d.frames, frame{inputs, uncut})
	}
	runtime.GC() // what it leaves behind must not disturb the agents either
	return nil
}

// open has hosts and links measured, the stream planned and the single-host
// strategies made ready.
func (d *Demo) open(ctx context.Context) error {
	state, err := d.steward.Open(ctx, d.Graph, nodes.OpenRequest{Stream: Stream, Runs: d.Runs, Cuts: d.Cuts, Codecs: d.Codecs},
		d.frames[0].inputs, func(p nodes.Progress) {
			d.Step("%s measures %s (%d of %d)", p.Host, p.What, p.Done, p.Total)
		})
	if err != nil {
		return err
	}
	for _, h := range d.Lab.Hosts {
		if !slices.ContainsFunc(state.Hosts, func(x nodes.HostState) bool { return x.ID == h.Name && x.Whole > 0 }) {
			return fmt.Errorf("host %s has not been measured; see what it logs with --verbose", h.Name)
		}
	}
	d.start, d.opened = time.Now(), state
	if n := len(state.Switches); n > 0 {
		d.noted = state.Switches[n-1].At // those of the start do not count
	}
	d.learn(state)
	d.Step("")
	d.sayMeasured(state)
	for _, f := range state.Fixed {
		d.fixed = append(d.fixed, fixed{FixedPlan: f, stale: true})
	}
	return nil
}

// state asks how the stream is doing.
func (d *Demo) state(ctx context.Context) (nodes.StreamState, error) {
	states, err := d.steward.Streams(ctx, "")
	if err != nil {
		return nodes.StreamState{}, err
	}
	i := slices.IndexFunc(states, func(s nodes.StreamState) bool { return s.Stream == Stream })
	if i < 0 {
		return nodes.StreamState{}, fmt.Errorf("the device's agent knows no stream %q any more", Stream)
	}
	d.learn(states[i])
	return states[i], nil
}

// learn notes which plan an epoch is.
func (d *Demo) learn(s nodes.StreamState) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.plans[s.Epoch] = s.Plan
}

// since is how long the stream has been open, in seconds.
func (d *Demo) since(t time.Time) float64 { return t.Sub(d.start).Seconds() }

func ms(d time.Duration) float64 { return float64(d) / 1e6 }

// Discard is a Say or Step that prints nothing.
func Discard(string, ...any) {}

// SayTo returns a Say that prints lines to w.
func SayTo(w io.Writer) func(string, ...any) {
	return func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }
}
