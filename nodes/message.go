package nodes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/scheduler"
	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/wire"
)

// The kinds of request that an agent serves.
const (
	kindSegment  = "segment"  // run this host's step of a plan, and the rest through others
	kindInfer    = "infer"    // an application's request to its origin
	kindPrepare  = "prepare"  // build the sessions of a step
	kindProfile  = "profile"  // measure a model
	kindTime     = "time"     // time some segments
	kindLinks    = "links"    // measure the links to some hosts
	kindPing     = "ping"     // the way there and back through all software
	kindManifest = "manifest" // what a model consists of
	kindBlocks   = "blocks"   // blocks of a model
	kindPlan     = "plan"     // measure what is missing and plan
	kindAdopt    = "adopt"    // make a given plan ready
	kindStatus   = "status"   // who is there
	kindOpen     = "open"     // open a stream
	kindSet      = "set"      // change settings of a stream
	kindClose    = "close"    // end a stream
	kindStreams  = "streams"  // describe the streams of an origin
	kindNamesake = "namesake" // somebody else has tried to join by the receiver's name
	kindFind     = "find"     // does a stream start here
	kindLease    = "lease"    // keep a promise of capacity
	kindProgress = "progress" // between request and reply, any number
)

// Span is the ops from, …, to-1 of a graph.
type Span [2]int

// spans writes a set of ops as few spans.
func spans(ops []int) []Span {
	var out []Span
	for _, op := range ops {
		if n := len(out); n > 0 && out[n-1][1] == op {
			out[n-1][1]++
			continue
		}
		out = append(out, Span{op, op + 1})
	}
	return out
}

// opsOf is the inverse of spans; it checks them against the graph.
func opsOf(s []Span, g *models.Graph) ([]models.OpID, error) {
	var ops []models.OpID
	last := 0
	for _, r := range s {
		if r[0] < last || r[1] <= r[0] || r[1] > len(g.Ops) {
			return nil, &Error{Op: "read plan", Kind: Invalid, Err: fmt.Errorf("ops [%d,%d) are not in order or beyond the %d of %s", r[0], r[1], len(g.Ops), g.Name)}
		}
		ops = append(ops, g.Range(r[0], r[1])...)
		last = r[1]
	}
	return ops, nil
}

// step is what one host of a plan does.
type step struct {
	Host partition.HostID `json:"host"`
	Ops  []Span           `json:"ops"`
	// Send gives the codec of each value that goes on to the next host, by
	// place in the graph; Back that of answers returned. Raw where missing.
	Send map[models.ValueID]transport.Codec `json:"send,omitempty"`
	Back map[models.ValueID]transport.Codec `json:"back,omitempty"`
}

type segmentRequest struct {
	Model models.Digest `json:"model"`
	Steps []step        `json:"steps"` // the receiver's first
	// RawStays: no value that is raw input may cross a link.
	RawStays bool `json:"raw_stays,omitempty"`
	// Holder and Stream name the lease by which it is sent, where there is one.
	Holder partition.HostID   `json:"holder,omitempty"`
	Stream scheduler.StreamID `json:"stream,omitempty"`
}

// HostReport is what one host did for a request.
type HostReport struct {
	Host    partition.HostID `json:"host"`
	Ops     int              `json:"ops"`
	Queue   time.Duration    `json:"queue"`
	Decode  time.Duration    `json:"decode"`
	Compute time.Duration    `json:"compute"`
	Encode  time.Duration    `json:"encode"`
	// Other is what remains of the time that the request was at this host:
	// reading it, looking its segment up, and waiting in vain for a host that
	// gave no answer.
	Other time.Duration `json:"other"`
	// Next is the time from sending to the next host until its reply was here.
	Next time.Duration `json:"next,omitempty"`
	// Hidden is work of encoding and decoding beside that: while tensors in pieces
	// were on the way, and so part of Next, here or at the host before.
	Hidden time.Duration `json:"hidden,omitempty"`
	// Sent and Received are the encoded tensor bytes exchanged with the next host.
	Sent     tensor.Bytes `json:"sent,omitempty"`
	Received tensor.Bytes `json:"received,omitempty"`
	// Fallback tells why this host, or another than was planned, finished what
	// others should have done.
	Fallback string `json:"fallback,omitempty"`
	// Failed is the host that could not be reached or broke off; empty where it
	// was only late.
	Failed partition.HostID `json:"failed,omitempty"`
}

// rest sets Other of a request that came at the given time.
func (h *HostReport) rest(came time.Time) {
	h.Other = max(0, time.Since(came)-h.Queue-h.Decode-h.Compute-h.Encode-h.Next)
}

// spend takes in the phases of a step: decoding, computing, encoding what is sent
// first and, while that is on the way, the rest.
func (h *HostReport) spend(s Spent, streamed bool) {
	h.Queue, h.Decode, h.Compute = s.Queue, s.Phases[0], s.Phases[1]
	if len(s.Phases) > 2 {
		h.Encode = s.Phases[2]
	}
	if streamed {
		h.Hidden += s.Phases[3]
	}
}

// timings are what the header of a reply tells of this host, which has been this long
// about each. What was done while tensors were on the way, Hidden, is not in them.
func (h *HostReport) timings() *wire.Timings {
	return &wire.Timings{QueueNs: uint64(h.Queue), DecodeNs: uint64(h.Decode), ComputeNs: uint64(h.Compute), EncodeNs: uint64(h.Encode)}
}

// add takes in what forwarding has taken.
func (h *HostReport) add(o HostReport) {
	h.Queue, h.Decode = h.Queue+o.Queue, h.Decode+o.Decode
	h.Next, h.Sent, h.Received = o.Next, o.Sent, o.Received
}

type segmentReply struct {
	Hosts []HostReport `json:"hosts"`
}

type prepareRequest struct {
	Model models.Digest `json:"model"`
	Ops   []Span        `json:"ops"`
	// Source names hosts that have the model, for one that does not.
	Source []partition.HostID `json:"source,omitempty"`
	// Lease is the capacity that the plan asks of the host; nil: none.
	Lease *scheduler.Lease `json:"lease,omitempty"`
}

type statusRequest struct {
	// Of is the host that is meant; "" is the one that is asked.
	Of partition.HostID `json:"of,omitempty"`
}

type streamsRequest struct {
	Origin partition.HostID `json:"origin,omitempty"`
}

type profileRequest struct {
	Model  models.Digest     `json:"model"`
	Runs   int               `json:"runs,omitempty"`
	Cuts   int               `json:"cuts,omitempty"`
	Codecs []transport.Codec `json:"codecs,omitempty"`
	// Source is as in prepareRequest.
	Source []partition.HostID `json:"source,omitempty"`
	// Refresh measures anew what is remembered.
	Refresh bool `json:"refresh,omitempty"`
	// Have is the profile that the asker has: the reply is a profile of no model
	// if there is no newer one.
	Have *profileVersion `json:"have,omitempty"`
}

type timeRequest struct {
	Model    models.Digest `json:"model"`
	Segments [][]Span      `json:"segments"`
	Runs     int           `json:"runs"`
	// Source is as in prepareRequest.
	Source []partition.HostID `json:"source,omitempty"`
}

type timeReply struct {
	Times []time.Duration `json:"times"`
}

type linksRequest struct {
	To []partition.HostID `json:"to"`
}

// MeasuredLink is both directions between the host that measured and another.
type MeasuredLink struct {
	Host partition.HostID `json:"host"`
	Out  partition.Link   `json:"out"`
	In   partition.Link   `json:"in"`
	// Rel is the relative spread of late samples of Out's rate.
	Rel float64 `json:"rel,omitempty"`

	at time.Time // when it was taken in here
}

type progress struct {
	Host  partition.HostID `json:"host"`
	Done  int              `json:"done"`
	Total int              `json:"total"`
	What  string           `json:"what"`
}

// request is an outgoing request and what to do with frames before the reply.
type request struct {
	kind       string
	control    any
	frame      *transport.Frame // may be nil
	id         uint64           // 0: a new one
	onProgress func(progress)
}

// call sends one request and returns the reply, which the caller releases, and
// decodes its control part into reply, which may be nil.
func call(ctx context.Context, conn transport.Conn, r request, reply any) (*transport.Frame, error) {
	f, err := r.build(ctx)
	if err != nil {
		return nil, err
	}
	s, err := conn.Open(ctx)
	if err != nil {
		return nil, err
	}
	defer s.Cancel(transport.CancelUnwanted)
	if err := s.Send(ctx, f); err != nil {
		return nil, err
	}
	if err := s.CloseSend(); err != nil {
		return nil, err
	}
	got, err := r.receive(ctx, conn.Peer().ID, s)
	if err != nil || reply == nil {
		return got, err
	}
	data, err := controlOf(got)
	if err == nil {
		err = json.Unmarshal(data, reply)
	}
	if err != nil {
		got.Release()
		return nil, &Error{Op: r.kind, Node: conn.Peer().ID, Kind: Failed, Err: fmt.Errorf("unreadable reply: %w", err)}
	}
	return got, nil
}

// build fills in the frame of a request.
func (r request) build(ctx context.Context) (*transport.Frame, error) {
	f := r.frame
	if f == nil {
		f = transport.NewFrame(r.kind)
	}
	f.Header.Kind = r.kind
	if f.Header.RequestId = r.id; r.id == 0 {
		f.Header.RequestId = rand.Uint64()
	}
	f.Header.Traceparent = traceparentOf(ctx)
	if r.control != nil {
		data, err := json.Marshal(r.control)
		if err != nil {
			return nil, &Error{Op: r.kind, Kind: Invalid, Err: err}
		}
		f.Header.Control = data
	}
	if deadline, ok := ctx.Deadline(); ok {
		f.Header.BudgetMs = max(0.001, float64(time.Until(deadline))/1e6)
	}
	return f, nil
}

// receive returns the reply, after any number of progress frames.
func (r request) receive(ctx context.Context, peer partition.HostID, s transport.Stream) (*transport.Frame, error) {
	for {
		got, err := s.Receive(ctx)
		if errors.Is(err, io.EOF) {
			return nil, &Error{Op: r.kind, Node: peer, Kind: Unavailable, Err: errors.New("it closed the stream without an answer")}
		} else if err != nil {
			return nil, err
		}
		switch got.Header.Kind {
		case kindProgress:
			var p progress
			if r.onProgress != nil && json.Unmarshal(got.Header.Control, &p) == nil {
				r.onProgress(p)
			}
			got.Release()
		case transport.KindError:
			err := remoteError(r.kind, got.Header.Error)
			got.Release()
			return nil, err
		default:
			return got, nil
		}
	}
}

// wireName is how a value is called on the wire: its place in the graph, which
// both ends have by the same digest.
func wireName(id models.ValueID) string { return strconv.Itoa(int(id)) }

// valueAt reads tensor i of a frame and checks it against the graph.
func valueAt(f *transport.Frame, i int, g *models.Graph) (models.ValueID, error) {
	h := f.Header.Tensors[i]
	n, err := strconv.Atoi(h.GetValue())
	if err != nil || n < 0 || n >= len(g.Values) {
		return 0, &Error{Op: "read tensors", Kind: Invalid, Err: fmt.Errorf("no value %q in %s", h.GetValue(), g.Name)}
	}
	v := g.Values[n]
	shape := tensor.Shape(h.GetShape())
	fits := len(shape) == len(v.Shape) && tensor.DType(h.GetDtype()) == v.DType
	for k := range shape {
		fits = fits && (v.Shape[k] < 0 || v.Shape[k] == shape[k])
	}
	if !fits {
		return 0, &Error{Op: "read tensors", Kind: Invalid, Err: fmt.Errorf("value %q is %v%v, got %v%v", v.Name, v.DType, v.Shape, tensor.DType(h.GetDtype()), shape)}
	}
	return models.ValueID(n), nil
}
