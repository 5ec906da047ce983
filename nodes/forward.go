package nodes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/scheduler"
	"github.com/cleaveml/cleave/transport"
)

// Passage tells of the agent that was asked and passed a request on to the
// origin.
type Passage struct {
	Host partition.HostID `json:"host"`
	// Extra is the time that the request was on the way to the origin and back
	// and, where that was not known, took to find it.
	Extra time.Duration `json:"extra"`
}

type findRequest struct {
	Stream scheduler.StreamID `json:"stream"`
}

type findReply struct {
	Open bool `json:"open"`
	// Stored: it has settings for a stream of that name, which is not open.
	Stored bool `json:"stored,omitempty"`
}

const (
	// findTimeout bounds the search for an origin: a member that takes longer
	// to say whether it is one has not answered.
	findTimeout = time.Second
	// originKept is how long an origin is taken for the only one of its stream
	// without asking again.
	originKept = 10 * time.Second
	// originsKept bounds the streams of others that are remembered.
	originsKept = 1024
)

// origins remembers where streams of others start.
type origins struct {
	mu sync.Mutex
	of map[scheduler.StreamID]knownOrigin
}

type knownOrigin struct {
	host  partition.HostID
	until time.Time // afterwards the members are asked again
}

// at returns the origin of a stream, "" if it was never known, and whether it
// is known well enough not to ask.
func (o *origins) at(id scheduler.StreamID, now time.Time) (partition.HostID, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	k := o.of[id]
	return k.host, now.Before(k.until)
}

func (o *origins) learn(id scheduler.StreamID, host partition.HostID, now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.of == nil || len(o.of) >= originsKept {
		o.of = map[scheduler.StreamID]knownOrigin{}
	}
	o.of[id] = knownOrigin{host, now.Add(originKept)}
}

func (o *origins) forget(id scheduler.StreamID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.of, id)
}

// doubt has the members asked again for what was known to start at a host.
func (o *origins) doubt(host partition.HostID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for id, k := range o.of {
		if k.host == host {
			o.of[id] = knownOrigin{host: host}
		}
	}
}

// has reports whether a stream starts here.
func (s *steering) has(id scheduler.StreamID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.streams[id] != nil
}

// originOf says where a stream starts: where the request says, here, or where
// a member says that it does.
func (a *Agent) originOf(ctx context.Context, id scheduler.StreamID, named partition.HostID) (partition.HostID, error) {
	if named != "" && a.tierOf(named) == "" {
		return "", &Error{Op: "find origin", Node: a.cfg.ID, Kind: Invalid, Err: fmt.Errorf("no host of this cluster is called %q", named)}
	}
	if named != "" {
		return named, nil
	}
	if a.steering.has(id) {
		return a.cfg.ID, nil
	}
	if host, sure := a.origins.at(id, time.Now()); sure {
		return host, nil
	}
	return a.find(ctx, id)
}

// find asks every member whether a stream starts there. The error is of kind
// Invalid where more than one has it, Unavailable where those that did not
// answer may have it, NotFound or Deadline.
func (a *Agent) find(ctx context.Context, id scheduler.StreamID) (partition.HostID, error) {
	at, silent, _ := a.askAll(ctx, id)
	refuse := func(kind Kind, format string, args ...any) (partition.HostID, error) {
		return "", &Error{Op: "find origin", Node: a.cfg.ID, Kind: kind, Err: fmt.Errorf(format, args...)}
	}
	last, _ := a.origins.at(id, time.Now())
	switch {
	case len(at) == 1:
		a.origins.learn(id, at[0], time.Now())
		return at[0], nil
	case len(at) > 1:
		a.origins.forget(id)
		return refuse(Invalid, "%d hosts have a stream called %q: %s; name the one that is meant: --origin %s", len(at), id, listed(at), at[0])
	case ctx.Err() != nil:
		return "", a.failed("find origin", ctx.Err())
	case last != "" && (slices.Contains(silent, last) || !a.present(last)):
		return refuse(Unavailable, "stream %s starts at %s, which does not answer", id, last)
	case len(silent) > 0:
		return refuse(Unavailable, "no host that answered has a stream called %q; %s did not answer", id, listed(silent))
	}
	a.origins.forget(id)
	return refuse(NotFound, "no stream is called %q on any host that is up; open it first", id)
}

// askAll asks every other member for a stream: those that have it, those that
// did not answer, and those that had it once and have its settings.
func (a *Agent) askAll(ctx context.Context, id scheduler.StreamID) (at, silent, stored []partition.HostID) {
	ctx, cancel := context.WithTimeout(ctx, findTimeout)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, h := range a.members() {
		if h.ID == a.cfg.ID {
			continue
		}
		wg.Go(func() {
			var reply findReply
			err := a.relay(ctx, h.ID, request{kind: kindFind, control: findRequest{id}}, &reply)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				silent = append(silent, h.ID)
			case reply.Open:
				at = append(at, h.ID)
			case reply.Stored:
				stored = append(stored, h.ID)
			}
		})
	}
	wg.Wait()
	for _, hosts := range [][]partition.HostID{at, silent, stored} {
		slices.Sort(hosts)
	}
	return at, silent, stored
}

// recalls reports whether there are settings here for a stream of that name.
func (a *Agent) recalls(id scheduler.StreamID) bool {
	if a.cfg.Memory == nil {
		return false
	}
	_, stored, err := a.cfg.Memory.Stream(id)
	return err == nil && stored
}

func listed(hosts []partition.HostID) string {
	var names []string
	for _, h := range hosts {
		names = append(names, string(h))
	}
	return strings.Join(names, ", ")
}

// toOrigin passes a request of a stream that does not start here on to its
// origin and returns the reply. It returns neither reply nor error when the
// request is this host's to answer.
func (a *Agent) toOrigin(ctx context.Context, f *transport.Frame, r inferRequest) (*transport.Frame, error) {
	if r.Via != "" {
		if !a.steering.has(r.Stream) || r.Origin != a.cfg.ID {
			return nil, &Error{Op: "infer", Node: a.cfg.ID, Kind: NotHere, Err: fmt.Errorf("no stream is called %q here, and what %s has passed on goes no further", r.Stream, r.Via)}
		}
		return nil, nil
	}
	start := time.Now()
	ctx, cancel := a.leavingTimeBack(ctx)
	defer cancel()
	origin, err := a.originOf(ctx, r.Stream, r.Origin)
	if err != nil || origin == a.cfg.ID {
		return nil, err
	}
	if err := a.mayPassOn("infer", r.Stream, origin); err != nil {
		return nil, err
	}
	reply, err := a.passOn(ctx, f, r, origin, start)
	if KindOf(err) != NotHere {
		return reply, err
	}
	// The origin has not begun: a second one may be asked, once.
	a.origins.forget(r.Stream)
	if r.Origin != "" {
		return nil, &Error{Op: "infer", Node: origin, Kind: NotFound, Err: fmt.Errorf("no stream is called %q there; open it first", r.Stream)}
	}
	if origin, err = a.find(ctx, r.Stream); err != nil {
		return nil, err
	}
	if reply, err = a.passOn(ctx, f, r, origin, start); KindOf(err) == NotHere {
		err = &Error{Op: "infer", Node: origin, Kind: Unavailable, Err: fmt.Errorf("stream %s does not start there any more", r.Stream)}
	}
	return reply, err
}

// mayPassOn refuses to hand what applications give to this host to the origin
// of a stream where its own policy is that raw input stays.
func (a *Agent) mayPassOn(op string, id scheduler.StreamID, origin partition.HostID) error {
	if !a.cfg.RawStays {
		return nil
	}
	return &Error{Op: op, Node: a.cfg.ID, Kind: Policy, Err: fmt.Errorf("stream %s starts at %s, and this host's own policy is raw-stays-on-device; open a stream of another name here", id, origin)}
}

// leavingTimeBack keeps a little of the deadline for the answer's, or the
// refusal's, way back.
func (a *Agent) leavingTimeBack(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, has := ctx.Deadline()
	if !has {
		deadline = time.Now().Add(a.cfg.Budget)
	}
	return context.WithDeadline(ctx, deadline.Add(-min(timeBack, time.Until(deadline)/20)))
}

const timeBack = 50 * time.Millisecond

// passOn has the origin answer a request. The tensors go on as they came,
// encoded, both ways. It sends the request once: an origin that breaks off may
// have answered it.
func (a *Agent) passOn(ctx context.Context, f *transport.Frame, r inferRequest, origin partition.HostID, start time.Time) (*transport.Frame, error) {
	conn, err := a.reach(ctx, origin)
	if err != nil {
		return nil, a.unpassed(origin, err)
	}
	r.Origin, r.Via = origin, a.cfg.ID
	var report InferReport
	f.Header.Timings = nil // of the connection that it came by
	reply, err := call(ctx, conn, request{kind: kindInfer, control: r, frame: f, id: f.Header.GetRequestId()}, &report)
	if err != nil {
		return nil, a.unpassed(origin, err)
	}
	total := time.Since(start)
	report.Via = &Passage{Host: a.cfg.ID, Extra: max(0, total-report.Elapsed)}
	report.Elapsed = total
	data, err := json.Marshal(report)
	if err != nil {
		reply.Release()
		return nil, a.failed("pass on", err)
	}
	reply.Header.Control, reply.Header.Timings = data, nil
	return reply, nil
}

// unpassed is why an origin's answer is not here: its own refusal, or what
// became of the way to it.
func (a *Agent) unpassed(origin partition.HostID, err error) error {
	var e *Error
	if errors.As(err, &e) && e.Refusal {
		return err
	}
	kind := KindOf(err)
	a.origins.doubt(origin)
	if kind == Deadline {
		err = errors.New("it has not answered in time")
	}
	return &Error{Op: "pass on to " + string(origin), Node: a.cfg.ID, Kind: kind, Err: err}
}

// whereToOpen says where a stream is opened: where the request says, where it
// is open already, else here.
func (a *Agent) whereToOpen(ctx context.Context, r OpenRequest) (partition.HostID, error) {
	if r.Via != "" && r.Origin != a.cfg.ID {
		return "", &Error{Op: "open stream", Node: a.cfg.ID, Kind: NotHere, Err: fmt.Errorf("what %s has passed on goes no further", r.Via)}
	}
	if a.cfg.RawStays && r.Origin == "" {
		return a.cfg.ID, nil // what it is opened with may go nowhere else
	}
	if r.Origin != "" || a.steering.has(r.Stream) {
		origin, err := a.originOf(ctx, r.Stream, r.Origin)
		if err == nil && origin != a.cfg.ID {
			err = a.mayPassOn("open stream", r.Stream, origin)
		}
		return origin, err
	}
	origin, err := a.find(ctx, r.Stream)
	switch KindOf(err) {
	case NotFound:
		return a.formerOrigin(ctx, r.Stream), nil
	case Unavailable: // a host alone can open its streams
		a.log.Warn("opening a stream that others may have", "stream", r.Stream, "cause", err)
		return a.cfg.ID, nil
	default:
		return origin, err
	}
}

// formerOrigin is where a stream that is nowhere open is opened: where it was
// before, if only one other host remembers that and this one does not.
func (a *Agent) formerOrigin(ctx context.Context, id scheduler.StreamID) partition.HostID {
	if a.recalls(id) {
		return a.cfg.ID
	}
	if _, _, stored := a.askAll(ctx, id); len(stored) == 1 {
		return stored[0]
	}
	return a.cfg.ID
}

// passOpen has the origin open or find a stream, and its progress told.
func (a *Agent) passOpen(ctx context.Context, s transport.Stream, f *transport.Frame, r OpenRequest, origin partition.HostID) (*transport.Frame, error) {
	conn, err := a.reach(ctx, origin)
	if err != nil {
		return nil, a.unpassed(origin, err)
	}
	r.Origin, r.Via = origin, a.cfg.ID
	f.Header.Timings = nil
	reply, err := call(ctx, conn, request{kind: kindOpen, control: r, frame: f, id: f.Header.GetRequestId(), onProgress: a.progressTo(ctx, s)}, nil)
	if err != nil {
		return nil, a.unpassed(origin, err)
	}
	reply.Header.Timings = nil
	return reply, nil
}
