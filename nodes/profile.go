package nodes

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
)

// Profile is what one host measured of one model. Times are this host's own,
// an emulated slowdown included.
type Profile struct {
	Model   models.Digest    `json:"model"`
	Host    partition.HostID `json:"host"`
	CPU     string           `json:"cpu"`
	Runtime string           `json:"runtime"`
	// StandIn: the host had not all weights and measured with others in their
	// place. Times and sizes of raw values are as good as any; compressed sizes
	// are not those of the model.
	StandIn bool `json:"stand_in,omitempty"`
	// Taken is when it was measured; Corrections counts how often live timings
	// have changed it since, Drift is by what all in all, 0: not at all.
	Taken       time.Time `json:"taken,omitzero"`
	Corrections int       `json:"corrections,omitempty"`
	Drift       float64   `json:"drift,omitempty"`
	// Whole is the time of the uncut network, decoding included.
	Whole time.Duration `json:"whole"`
	// Ops has one entry per op of the graph: the op profile, fitted to the timed segments.
	Ops []time.Duration `json:"ops"`
	// Timed holds real sessions that were run, by SetKey of their ops.
	Timed map[string]time.Duration `json:"timed"`
	// Codecs that were measured.
	Codecs []transport.Codec `json:"codecs"`
	// Values has the encodings of each value that may cross a cut.
	Values map[models.ValueID][]Encoding `json:"values"`
}

// covers reports whether all these codecs were measured.
func (p Profile) covers(codecs []transport.Codec) bool {
	for _, c := range allowed(codecs) {
		if !slices.Contains(p.Codecs, c) {
			return false
		}
	}
	return true
}

// Encoding is the measured cost of a codec on one value.
type Encoding struct {
	Codec  transport.Codec `json:"codec"`
	Bytes  tensor.Bytes    `json:"bytes"` // encoded
	Encode time.Duration   `json:"encode"`
	Decode time.Duration   `json:"decode"`
	// Error is what a lossy codec loses: the root mean square of the difference over
	// that of the value.
	Error float64 `json:"error,omitempty"`
}

// ProfileOptions bound the effort of a profile. Zero means the default.
type ProfileOptions struct {
	// Runs of each timed session; 0 means 5.
	Runs int
	// Cuts at which real sessions in front and behind are timed; 0 means 12.
	Cuts int
	// Codecs that the model's description allows; empty means the lossless ones.
	Codecs []transport.Codec
	// Progress may be nil.
	Progress func(done, total int, what string)
}

// maxEffort bounds what a request may ask to be measured.
const maxEffort = 1000

func (o ProfileOptions) withDefaults() (ProfileOptions, error) {
	if o.Runs < 0 || o.Cuts < 0 || o.Runs > maxEffort || o.Cuts > maxEffort {
		return o, &Error{Op: "profile", Kind: Invalid, Err: fmt.Errorf("%d runs, %d cuts: want 0 to %d of each", o.Runs, o.Cuts, maxEffort)}
	}
	if o.Runs == 0 {
		o.Runs = 5
	}
	if o.Cuts == 0 {
		o.Cuts = 12
	}
	o.Codecs = allowed(o.Codecs)
	for _, c := range o.Codecs {
		if !c.Known() {
			return o, &Error{Op: "profile", Kind: Invalid, Err: fmt.Errorf("no codec is called %q", string(c))}
		}
	}
	if o.Progress == nil {
		o.Progress = func(int, int, string) {}
	}
	return o, nil
}

// smallNetwork is below what an op profile can tell: such networks are timed
// as sessions only.
const smallNetwork = time.Millisecond

// Profile measures a graph on this host. input holds a sample of every input
// of the graph. It also returns every value of the graph on that sample.
func (c *Compute) Profile(ctx context.Context, g *models.Graph, input Values, opts ProfileOptions) (Profile, Values, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return Profile{}, nil, err
	}
	m := &measurement{c: c, g: g, opts: opts, p: Profile{Model: g.Digest, Timed: map[string]time.Duration{}, Values: map[models.ValueID][]Encoding{}}}
	if err := m.run(ctx, input); err != nil {
		return Profile{}, nil, fmt.Errorf("profile %s: %w", g.Name, err)
	}
	return m.p, m.sample, nil
}

type measurement struct {
	c      *Compute
	g      *models.Graph
	opts   ProfileOptions
	p      Profile
	sample Values // every value of the graph on the sample input
}

func (m *measurement) run(ctx context.Context, input Values) error {
	total := 3 + m.opts.Cuts
	m.opts.Progress(0, total, "one pass over all values")
	var err error
	if m.sample, err = m.c.capture(ctx, m.g, input); err != nil {
		return err
	}
	m.opts.Progress(1, total, "codecs on the values that may cross")
	if err := m.encodings(ctx); err != nil {
		return err
	}
	m.opts.Progress(2, total, "the whole network")
	if m.p.Whole, err = m.c.timeSegment(ctx, m.g, m.g.Whole().Ops, m.sample, m.opts.Runs); err != nil {
		return err
	}
	if m.p.Ops, err = m.opShares(ctx); err != nil {
		return err
	}
	cuts := m.anchors()
	segments := [][]models.OpID{m.g.Whole().Ops}
	for _, at := range cuts {
		segments = append(segments, m.g.Range(0, at), m.g.Range(at, len(m.g.Ops)))
	}
	times, err := m.c.timeSegments(ctx, m.g, segments, m.sample, m.opts.Runs, func(done int) {
		m.opts.Progress(3+done*m.opts.Cuts/len(segments), total, "sessions on both sides of cuts")
	})
	if err != nil {
		return err
	}
	for i, ops := range segments {
		m.p.Timed[opsKey(ops)] = times[i]
	}
	m.p.Whole = times[0]
	fit(m.p.Ops, cuts, m.p.Timed, m.p.Whole)
	m.opts.Progress(total, total, "done")
	return nil
}

// capture runs the graph once, part by part, and returns every value.
func (c *Compute) capture(ctx context.Context, g *models.Graph, input Values) (Values, error) {
	values := Values{}
	for id, t := range input {
		values[id] = t
	}
	stages, err := g.AllValues()
	if err != nil {
		return nil, err
	}
	for _, st := range stages {
		if err := c.captureStage(ctx, st, values); err != nil {
			return nil, err
		}
	}
	return values, nil
}

func (c *Compute) captureStage(ctx context.Context, st models.Stage, values Values) error {
	s, err := c.engine.Load(ctx, st)
	if err != nil {
		return err
	}
	inputs := make([]tensor.Tensor, len(st.Inputs))
	for i, id := range st.Inputs {
		inputs[i] = values[id]
	}
	out, err := s.Run(ctx, inputs)
	for i := range out {
		values[st.Outputs[i]] = out[i].Clone()
	}
	return errors.Join(err, s.Close())
}

// timeSegment returns the typical time of one segment's session.
func (c *Compute) timeSegment(ctx context.Context, g *models.Graph, ops []models.OpID, sample Values, runs int) (time.Duration, error) {
	times, err := c.timeSegments(ctx, g, [][]models.OpID{ops}, sample, runs, func(int) {})
	if err != nil {
		return 0, err
	}
	return times[0], nil
}

// timeSegments returns the typical time of each segment's session, after one
// run to warm up. The sessions run in turns, so that a disturbance hits one
// run of each rather than all runs of one; as many at once as the memory
// budget holds. done is told how many are finished.
func (c *Compute) timeSegments(ctx context.Context, g *models.Graph, segments [][]models.OpID, sample Values, runs int, done func(int)) ([]time.Duration, error) {
	var all [][]time.Duration
	for from := 0; from < len(segments); {
		to := from
		var held tensor.Bytes
		for to < len(segments) && (to == from || held+sessionSize(g, segments[to]) <= c.budget/2) {
			held += sessionSize(g, segments[to])
			to++
		}
		times, err := c.timeTogether(ctx, g, segments[from:to], sample, runs)
		if err != nil {
			return nil, err
		}
		all = append(all, times...)
		from = to
		done(to)
	}
	return typical(all), nil
}

// rest is how long the host waits before a timed run, about as long as between
// the frames of a camera.
const rest = 40 * time.Millisecond

func (c *Compute) timeTogether(ctx context.Context, g *models.Graph, segments [][]models.OpID, sample Values, runs int) ([][]time.Duration, error) {
	all := make([][]time.Duration, len(segments))
	var loaded []*Loaded
	defer func() {
		for _, l := range loaded {
			c.Release(l)
		}
	}()
	for _, ops := range segments {
		l, err := c.Load(ctx, g, ops)
		if err != nil {
			return nil, err
		}
		loaded = append(loaded, l)
	}
	for round := range runs + 1 {
		for i, l := range loaded {
			values := make(Values, len(l.Segment.Inputs)+len(l.Segment.Outputs))
			for _, id := range l.Segment.Inputs {
				values[id] = sample[id]
			}
			d, err := c.timeOnce(ctx, l, values)
			if err != nil {
				return nil, err
			}
			if round > 0 {
				all[i] = append(all[i], d)
			}
		}
	}
	return all, nil
}

// typical is what each of some segments takes that were timed in turns, equally
// often. A machine that is shared has fast and slow seconds. Into which of them
// the median of a few runs falls is chance, and the difference between plans is
// smaller; the shortest of them is from a fast one nearly always. By how much
// rounds exceed it is then the same for all segments: the median of that over
// the rounds.
func typical(runs [][]time.Duration) []time.Duration {
	out := make([]time.Duration, len(runs))
	var least time.Duration
	var rounds []time.Duration
	for i, times := range runs {
		out[i] = slices.Min(times)
		least += out[i]
		if rounds == nil {
			rounds = make([]time.Duration, len(times))
		}
		for r, d := range times {
			rounds[r] += d
		}
	}
	slices.Sort(rounds)
	for i := range out {
		out[i] = time.Duration(float64(out[i]) * float64(rounds[len(rounds)/2]) / float64(max(1, least)))
	}
	return out
}

// timeOnce keeps requests off the sessions meanwhile.
func (c *Compute) timeOnce(ctx context.Context, l *Loaded, values Values) (time.Duration, error) {
	n, err := c.take(ctx, l)
	if err != nil {
		return 0, err
	}
	defer l.give(n)
	return c.pace.Time(ctx, rest, func() error { return n.compute(ctx, l.Segment, values) })
}

// opShares returns the op profile scaled to the whole network's time: the
// runtime's profiler slows ops down, but alike.
func (m *measurement) opShares(ctx context.Context) ([]time.Duration, error) {
	ops := make([]time.Duration, len(m.g.Ops))
	timer, ok := m.c.engine.(OpTimer)
	if !ok || m.p.Whole < time.Duration(float64(smallNetwork)*m.c.pace.Factor()) {
		m.evenShares(ops)
		return ops, nil
	}
	stages, err := m.g.Whole().Stages()
	if err != nil {
		return nil, err
	}
	values := Values{}
	for id, t := range m.sample {
		values[id] = t
	}
	for _, st := range stages {
		inputs := make([]tensor.Tensor, len(st.Inputs))
		for i, id := range st.Inputs {
			inputs[i] = values[id]
		}
		whole, err := m.c.timeSegment(ctx, m.g, st.Ops, m.sample, m.opts.Runs)
		if err != nil {
			return nil, err
		}
		m.p.Timed[opsKey(st.Ops)] = whole
		shares := make([]time.Duration, len(st.Ops))
		if st.Executor == models.ORT && len(st.Ops) > 1 {
			if shares, err = timer.OpTimes(ctx, st, inputs, m.opts.Runs); err != nil {
				return nil, err
			}
		}
		scale(shares, whole)
		for i, op := range st.Ops {
			ops[op] = shares[i]
		}
	}
	scale(ops, m.p.Whole)
	return ops, nil
}

// evenShares divides the time of the whole evenly: the timed sessions decide.
func (m *measurement) evenShares(ops []time.Duration) {
	for i := range ops {
		ops[i] = m.p.Whole / time.Duration(len(ops))
	}
}

// scale makes the times sum to total, evenly where all are zero.
func scale(d []time.Duration, total time.Duration) {
	var sum time.Duration
	for _, x := range d {
		sum += x
	}
	for i, x := range d {
		if sum == 0 {
			d[i] = total / time.Duration(len(d))
		} else {
			d[i] = time.Duration(float64(x) * float64(total) / float64(sum))
		}
	}
}

// anchors chooses the cuts at which sessions are timed: legal ones, spread
// evenly over the op profile's time, of the fewest bytes within each slice.
func (m *measurement) anchors() []int {
	n := m.opts.Cuts
	best := make([]*models.Cut, n)
	cuts := m.g.Cuts()
	var sum time.Duration
	at := 0
	for i := range cuts {
		c := &cuts[i]
		for ; at < c.At; at++ {
			sum += m.p.Ops[at]
		}
		if c.At == 0 || c.At == len(m.g.Ops) {
			continue
		}
		slice := min(n-1, int(float64(n)*float64(sum)/float64(max(1, m.p.Whole))))
		if best[slice] == nil || c.Bytes < best[slice].Bytes {
			best[slice] = c
		}
	}
	var out []int
	for _, c := range best {
		if c != nil {
			out = append(out, c.At)
		}
	}
	return out
}

// fit rescales the op times between anchors so that their sums agree with the
// timed sessions. A prefix session tells what its ops cost, a suffix session
// what the others leave; the mean of both takes no side of the overhead that
// cutting adds.
func fit(ops []time.Duration, cuts []int, timed map[string]time.Duration, whole time.Duration) {
	bounds := append(slices.Clone(cuts), len(ops))
	var done time.Duration
	from := 0
	for _, to := range bounds {
		upTo := whole
		if to < len(ops) {
			prefix := timed[partition.SetKey(rangeInts(0, to))]
			suffix := timed[partition.SetKey(rangeInts(to, len(ops)))]
			upTo = (prefix + whole - suffix) / 2
		}
		upTo = max(upTo, done)
		scale(ops[from:to], upTo-done)
		done, from = upTo, to
	}
}

func rangeInts(from, to int) []int {
	out := make([]int, 0, to-from)
	for i := from; i < to; i++ {
		out = append(out, i)
	}
	return out
}

// encodings measures the codecs on every value that may cross.
func (m *measurement) encodings(ctx context.Context) error {
	for i := range m.g.Values {
		id := models.ValueID(i)
		t, ok := m.sample[id]
		if !ok || t.DType.Size() == 0 {
			continue
		}
		for _, codec := range m.opts.Codecs {
			e, ok, err := m.encoding(ctx, codec, t)
			if err != nil {
				return fmt.Errorf("value %q: %w", m.g.Values[i].Name, err)
			}
			if ok {
				m.p.Values[id] = append(m.p.Values[id], e)
			}
		}
	}
	return nil
}

// shortRest is enough for a codec's tables to leave the nearest caches.
const shortRest = 5 * time.Millisecond

// minCodec is the size below which only raw is worth considering.
const minCodec = 512

// encoding measures one codec on one value; ok is false where it does not apply.
func (m *measurement) encoding(ctx context.Context, codec transport.Codec, t tensor.Tensor) (Encoding, bool, error) {
	if codec == transport.Raw {
		return Encoding{Codec: codec, Bytes: t.Bytes()}, true, nil
	}
	if t.Bytes() < minCodec || !codec.Supports(t.DType) {
		return Encoding{}, false, nil
	}
	var encoded []byte
	decoded := make([]byte, t.Bytes())
	var enc, dec []time.Duration
	for range 2 {
		d, err := m.c.pace.Reckon(ctx, shortRest, func() (err error) { encoded, err = codec.Encode(encoded[:0], t); return err })
		if transport.KindOf(err) == transport.Unsupported {
			return Encoding{}, false, nil // this codec refuses this value
		} else if err != nil {
			return Encoding{}, false, err
		}
		enc = append(enc, d)
		d, err = m.c.pace.Reckon(ctx, shortRest, func() error { return codec.Decode(decoded, t.DType, encoded) })
		if err != nil {
			return Encoding{}, false, err
		}
		dec = append(dec, d)
	}
	lost := min(transport.RelativeError(t.DType, t.Data, decoded), math.MaxFloat64) // JSON has no infinity
	return Encoding{Codec: codec, Bytes: tensor.Bytes(len(encoded)), Encode: slices.Min(enc), Decode: slices.Min(dec), Error: lost}, true, nil
}
