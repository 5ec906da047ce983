package nodes

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/scheduler"
	"github.com/cleaveml/cleave/transport"
)

// job is this host's step of a request and the steps behind it.
type job struct {
	came     time.Time // the request, to this host
	g        *models.Graph
	steps    []step // this host's first
	rest     [][]models.OpID
	rawStays bool
	epoch    uint64
	holder   partition.HostID          // of the stream that it is of, if any
	stream   scheduler.StreamID        // likewise
	given    func(models.ValueID) bool // what arrives with the request
	values   Values
	decode   func() error // fills values with what is given; may be nil
	// Of decoding what came in pieces: work while it arrived, and waiting and work
	// behind the last byte.
	hidden, queued, decoded time.Duration
	// patience is how long the next host may take before it is given up; 0: as
	// long as the deadline lets it. elsewhere names other steps that do the
	// same when the next host fails; it may be nil, and may return nil.
	patience  time.Duration
	expected  time.Duration // the whole was predicted to take; 0: not known
	elsewhere func(failed partition.HostID) []step
	behind    []models.OpID    // the ops of the steps after this host's, ascending
	onward    []models.ValueID // what they need of this host
}

// newJob resolves the steps' ops and checks that together they can run: every
// value that a step reads is given, or made by a step before it.
func newJob(g *models.Graph, steps []step, rawStays bool, given func(models.ValueID) bool) (*job, error) {
	j := &job{came: time.Now(), g: g, steps: steps, rawStays: rawStays, given: given, values: Values{}}
	made := make([]bool, len(g.Values))
	for i, st := range steps {
		ops, err := opsOf(st.Ops, g)
		if err != nil {
			return nil, err
		}
		for _, op := range ops {
			for _, v := range g.Ops[op].Inputs {
				if !made[v] && !given(v) {
					return nil, &Error{Op: "read plan", Kind: Invalid, Err: fmt.Errorf("step %d (%s) needs value %q, which no step before it makes", i+1, st.Host, g.Values[v].Name)}
				}
			}
			for _, v := range g.Ops[op].Outputs {
				made[v] = true
			}
		}
		j.rest = append(j.rest, ops)
	}
	if j.behind = union(j.rest[1:], len(g.Ops)); len(j.behind) > 0 {
		seg, err := g.Segment(j.behind)
		if err != nil {
			return nil, err
		}
		j.onward = seg.Inputs
	}
	return j, nil
}

// union of sets of ops, ascending.
func union(sets [][]models.OpID, n int) []models.OpID {
	in := make([]bool, n)
	for _, ops := range sets {
		for _, op := range ops {
			in[op] = true
		}
	}
	var ops []models.OpID
	for i, is := range in {
		if is {
			ops = append(ops, models.OpID(i))
		}
	}
	return ops
}

// execute runs this host's step and lets the next host do the rest. If that
// fails, this host, which still holds what it sent, does the rest itself. The
// answers are the values of the graph's outputs that these steps make.
func (a *Agent) execute(ctx context.Context, j *job) (Values, []HostReport, error) {
	report := HostReport{Host: a.cfg.ID, Ops: len(j.rest[0]), Hidden: j.hidden}
	var out *outgoing
	var after []func() error
	if len(j.behind) > 0 {
		out = &outgoing{a: a, j: j}
		defer out.end()
		after = []func() error{out.encode, func() error { return out.stream(ctx) }}
	}
	spent, err := a.runStep(ctx, j, after...)
	if err != nil {
		return nil, nil, a.failed("run segment", err)
	}
	report.spend(spent, out != nil && out.gone != nil)
	report.Queue, report.Decode = report.Queue+j.queued, report.Decode+j.decoded
	reports := []HostReport{report}
	answers := Values{}
	if len(j.behind) > 0 {
		remote, err := out.reply(ctx)
		reports[0].add(out.report)
		if err != nil {
			remote, err = a.retry(ctx, j, out.frame, j.behind, err, &reports[0])
		}
		if err == nil {
			reports = append(reports, remote.reports...)
			answers = remote.answers
		} else if err := a.finish(ctx, j, j.behind, err, &reports[0]); err != nil {
			return nil, nil, err
		}
	}
	for _, id := range j.g.Outputs {
		if t, ok := j.values[id]; ok && !j.given(id) {
			answers[id] = t
		}
	}
	reports[0].rest(j.came)
	return answers, reports, nil
}

// failed puts this host's name to an error.
func (a *Agent) failed(op string, err error) error {
	var e *Error
	if errors.As(err, &e) && e.Node != "" {
		return err
	}
	kind := KindOf(err)
	if kind == Deadline {
		err = errors.New("the request's deadline has passed")
	}
	return &Error{Op: op, Node: a.cfg.ID, Kind: kind, Err: err}
}

func (a *Agent) runStep(ctx context.Context, j *job, after ...func() error) (Spent, error) {
	if len(j.rest[0]) == 0 { // a relay
		return a.cfg.Compute.Pace().Do(ctx, append([]func() error{j.decode, nil}, after...)...)
	}
	l, err := a.cfg.Compute.Load(ctx, j.g, j.rest[0])
	if err != nil {
		return Spent{}, err
	}
	defer a.cfg.Compute.Release(l)
	return a.cfg.Compute.Run(ctx, l, j.values, j.decode, after...)
}

// frame has what the ops behind need of this host's values: first what can be sent
// at once, then large tensors that are announced only and Fill encodes.
func (j *job) frame() (*transport.Frame, error) {
	f := transport.NewFrame(kindSegment)
	pieces := func(id models.ValueID) int {
		return transport.Chunks(j.steps[0].Send[id], j.values[id].DType, j.values[id].Shape, j.values[id].Bytes())
	}
	ready := slices.Clone(j.onward)
	slices.SortStableFunc(ready, func(a, b models.ValueID) int { return cmp.Compare(pieces(a), pieces(b)) })
	for _, id := range ready {
		v := j.g.Values[id]
		if v.Raw && j.rawStays {
			f.Release()
			return nil, &Error{Op: "send tensors", Kind: Policy, Err: fmt.Errorf("value %q is raw input, which the policy raw-stays-on-device keeps on this host", v.Name)}
		}
		if err := addValue(f, id, j.steps[0].Send[id], j.values[id], f.AddStreamed); err != nil {
			f.Release()
			return nil, err
		}
	}
	return f, nil
}

func addValue(f *transport.Frame, id models.ValueID, codec transport.Codec, t tensor.Tensor,
	add func(string, transport.Codec, tensor.Tensor) error) error {
	if codec == "" {
		codec = transport.Raw
	}
	err := add(wireName(id), codec, t)
	if transport.KindOf(err) == transport.Unsupported { // a number that fp16 cannot hold
		return f.Add(wireName(id), transport.Raw, t)
	}
	return err
}

// remote is what the hosts behind gave back.
type remote struct {
	answers Values
	reports []HostReport
}

// retry sends the frame to another host that has the rest ready, when the next
// one failed. It returns the cause when there is none or that fails too.
func (a *Agent) retry(ctx context.Context, j *job, next *transport.Frame, behind []models.OpID, cause error, report *HostReport) (remote, error) {
	failed := j.steps[1].Host
	if KindOf(cause) == Unavailable {
		report.Failed = failed
	}
	if j.elsewhere == nil || KindOf(cause) == Policy || ctx.Err() != nil {
		return remote{}, cause
	}
	steps := j.elsewhere(failed)
	if steps == nil {
		return remote{}, cause
	}
	within := time.Duration(0)
	if deadline, ok := ctx.Deadline(); ok {
		rest, left := a.rest(j.g, behind), time.Until(deadline)
		if within = scheduler.Retry(rest, left, j.expected); within <= 0 {
			return remote{}, cause
		}
		if j.patience > 0 && scheduler.Fits(rest, left) { // else nobody but the other host can
			within = min(within, j.patience)
		}
	}
	other := *j
	other.steps = steps
	a.log.Warn("sending the rest elsewhere", "failed", failed, "next", steps[1].Host, "cause", cause)
	r, err := a.forward(ctx, &other, next, behind, within, report)
	if err != nil {
		return remote{}, cause
	}
	report.Fallback = cause.Error()
	return r, nil
}

// firstTry is how long the next host may take, 0: as long as it likes. It leaves
// time to finish locally.
func (a *Agent) firstTry(ctx context.Context, j *job, behind []models.OpID) time.Duration {
	within := j.patience
	if deadline, ok := ctx.Deadline(); ok {
		left := time.Until(deadline)
		left -= scheduler.Reserve(a.rest(j.g, behind), left, j.expected)
		if within == 0 || left < within {
			within = max(left, 1)
		}
	}
	return within
}

// forward sends the frame to the next host and takes in its reply.
func (a *Agent) forward(ctx context.Context, j *job, next *transport.Frame, behind []models.OpID, within time.Duration, report *HostReport) (remote, error) {
	if within > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, within)
		defer cancel()
	}
	host := j.steps[1].Host
	start := time.Now()
	conn, err := a.reach(ctx, host)
	if err != nil {
		return remote{}, err
	}
	var rep segmentReply
	next.Header.Epoch = j.epoch
	reply, err := call(ctx, conn, request{kind: kindSegment, frame: next,
		control: segmentRequest{Model: j.g.Digest, Steps: j.steps[1:], RawStays: j.rawStays, Holder: j.holder, Stream: j.stream}}, &rep)
	report.Sent = next.Payload()
	if err != nil {
		return remote{}, err
	}
	defer reply.Recycle()
	report.Next = time.Since(start)
	report.Received = reply.Payload()
	r := remote{answers: Values{}, reports: rep.Hosts}
	spent, err := a.cfg.Compute.Pace().Do(ctx, func() error {
		for i := range reply.Len() {
			id, err := valueAt(reply, i, j.g)
			if err != nil {
				return err
			}
			t, err := reply.Tensor(i)
			if err != nil {
				return err
			}
			r.answers[id] = t.Clone()
		}
		return nil
	})
	report.Queue += spent.Queue
	report.Decode += spent.Work()
	if err == nil {
		err = j.complete(behind, r.answers)
	}
	return r, err
}

// reachTimeout bounds the dial of a request to a host that was connected
// before; restTime is how long a host that could not be reached is left alone,
// so that requests in the meantime finish locally without waiting.
const (
	reachTimeout = 2 * time.Second
	restTime     = 3 * time.Second
)

// reach returns the connection with a host.
func (a *Agent) reach(ctx context.Context, host partition.HostID) (transport.Conn, error) {
	a.mu.Lock()
	rest := time.Until(a.resting[host])
	a.mu.Unlock()
	if rest > 0 {
		return nil, &Error{Op: "reach", Node: host, Kind: Unavailable, Err: errors.New("it could not be reached a moment ago")}
	}
	limited, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	conn, err := a.net.Conn(limited, host)
	if err != nil && ctx.Err() == nil { // else it was the request that ran out of time
		a.mu.Lock()
		a.resting[host] = time.Now().Add(restTime)
		a.mu.Unlock()
	}
	return conn, err
}

// complete checks that a reply has every answer that its steps make.
func (j *job) complete(behind []models.OpID, answers Values) error {
	made := map[models.OpID]bool{}
	for _, op := range behind {
		made[op] = true
	}
	for _, id := range j.g.Outputs {
		v := j.g.Values[id]
		if _, ok := answers[id]; !ok && v.Producer != models.FromInput && made[v.Producer] {
			return &Error{Op: "read reply", Node: j.steps[1].Host, Kind: Failed, Err: fmt.Errorf("the answer %q is missing", v.Name)}
		}
	}
	return nil
}

// rest is what this host measured for some ops, 0 where it did not.
func (a *Agent) rest(g *models.Graph, ops []models.OpID) time.Duration {
	a.mu.Lock()
	p, ok := a.profiles[profileKey{g.Digest, a.cfg.ID}]
	a.mu.Unlock()
	var rest time.Duration
	if ok {
		for _, op := range ops {
			rest += p.Ops[op]
		}
	}
	return rest
}

// finish runs the ops that others should have run, unless there is no time for
// them: then it says so while the refusal is still of use.
func (a *Agent) finish(ctx context.Context, j *job, behind []models.OpID, cause error, report *HostReport) error {
	if KindOf(cause) == Policy {
		return cause
	}
	if deadline, ok := ctx.Deadline(); ok {
		rest, left := a.rest(j.g, behind), time.Until(deadline)
		if !scheduler.Fits(rest, left) {
			return &Error{Op: "finish locally", Node: a.cfg.ID, Kind: Deadline, Err: fmt.Errorf(
				"%v of the deadline are left and the rest takes %v here; before: %w",
				max(0, left).Round(time.Millisecond), rest.Round(time.Millisecond), cause)}
		}
	}
	a.log.Warn("finishing locally", "next", j.steps[1].Host, "cause", cause)
	l, err := a.cfg.Compute.Load(ctx, j.g, behind)
	if err != nil {
		return a.failed("finish locally", err)
	}
	defer a.cfg.Compute.Release(l)
	spent, err := a.cfg.Compute.Run(ctx, l, j.values, nil)
	if err != nil {
		return a.failed("finish locally", err)
	}
	report.Fallback = cause.Error()
	report.Queue += spent.Queue
	report.Compute += spent.Work()
	report.Ops += len(behind)
	return nil
}

// serveSegment runs this host's step for a peer.
func (a *Agent) serveSegment(ctx context.Context, f *transport.Frame) (*transport.Frame, error) {
	came := time.Now()
	var r segmentRequest
	if err := json.Unmarshal(f.Header.Control, &r); err != nil {
		return nil, &Error{Op: "run segment", Node: a.cfg.ID, Kind: Invalid, Err: fmt.Errorf("unreadable request: %w", err)}
	}
	if len(r.Steps) == 0 || r.Steps[0].Host != a.cfg.ID {
		return nil, &Error{Op: "run segment", Node: a.cfg.ID, Kind: Invalid, Err: errors.New("the plan's next step is not this host's")}
	}
	if len(r.Steps[0].Ops) > 0 { // else it only passes tensors on
		if err := a.admit(r.Holder, r.Stream); err != nil {
			return nil, err
		}
	}
	g, err := a.graph(r.Model)
	if err != nil {
		return nil, err
	}
	arrived := map[models.ValueID]int{}
	for i := range f.Len() {
		id, err := valueAt(f, i, g)
		if err != nil {
			return nil, err
		}
		if (r.RawStays || a.cfg.RawStays) && g.Values[id].Raw {
			return nil, &Error{Op: "receive tensors", Node: a.cfg.ID, Kind: Policy, Err: fmt.Errorf("value %q is raw input, which the policy raw-stays-on-device keeps on its device", g.Values[id].Name)}
		}
		arrived[id] = i
	}
	j, err := newJob(g, r.Steps, r.RawStays || a.cfg.RawStays, func(id models.ValueID) bool { _, ok := arrived[id]; return ok })
	if err != nil {
		return nil, err
	}
	if j.hidden, j.queued, j.decoded, err = a.decodeArriving(ctx, f); err != nil {
		return nil, err
	}
	if whole := f.Arrival.Last; f.Streams() && whole.After(came) {
		came = whole
	}
	j.came, j.epoch, j.holder, j.stream = came, f.Header.GetEpoch(), r.Holder, r.Stream
	j.decode = func() error {
		for id, i := range arrived {
			t, err := f.Tensor(i)
			if err != nil {
				return err
			}
			j.values[id] = t
		}
		return nil
	}
	answers, reports, err := a.execute(ctx, j)
	if err != nil {
		return nil, err
	}
	return a.answerFrame(ctx, j, answers, reports)
}

// answerFrame encodes the answers in the codecs that the plan chose for the
// way back.
func (a *Agent) answerFrame(ctx context.Context, j *job, answers Values, reports []HostReport) (*transport.Frame, error) {
	var reply *transport.Frame
	spent, err := a.cfg.Compute.Pace().Do(ctx, func() (err error) {
		if reply, err = jsonReply(nil); err != nil {
			return err
		}
		for _, id := range j.g.Outputs {
			if t, ok := answers[id]; ok {
				if err := addValue(reply, id, j.steps[0].Back[id], t, reply.Add); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		if reply != nil {
			reply.Release()
		}
		return nil, a.failed("answer", err)
	}
	reports[0].Queue += spent.Queue
	reports[0].Encode += spent.Work()
	reports[0].rest(j.came)
	reply.Header.Timings = reports[0].timings()
	reply.Header.Control, err = json.Marshal(segmentReply{Hosts: reports})
	return reply, err
}
