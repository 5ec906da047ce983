package demo

import (
	"math"
	"slices"
	"time"

	"github.com/cleaveml/cleave/benchmarks"
	"github.com/cleaveml/cleave/benchmarks/lab"
	"github.com/cleaveml/cleave/models/pipeline"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/nodes"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/scheduler"
)

// Cleave is the strategy of the stream: whatever is best now.
const Cleave = "cleave"

// Outcome of one request.
type Outcome string

// The outcomes. Lost: by its deadline neither an answer nor a typed refusal.
const (
	Answered Outcome = "answered"
	Refused  Outcome = "refused"
	Lost     Outcome = "lost"
)

// Row is one strategy in one scene.
type Row struct {
	Kind       string  `json:"kind"` // "strategy"
	Scene      string  `json:"scene"`
	Strategy   string  `json:"strategy"`
	Infeasible string  `json:"infeasible,omitempty"`
	Plan       string  `json:"plan,omitempty"` // of the stream: by which most requests ran
	Split      bool    `json:"split"`
	Predicted  float64 `json:"predicted_ms"` // 0: not for the links of this scene
	// P50 and P95 are of the samples that are not Settling.
	P50       float64   `json:"p50_ms"`
	P95       float64   `json:"p95_ms"`
	Links     []Traffic `json:"links"`
	Sent      int       `json:"sent"`
	Answered  int       `json:"answered"`
	Refused   int       `json:"refused"`
	Lost      int       `json:"lost"`
	Wrong     int       `json:"wrong"`
	Fallbacks int       `json:"fallbacks"` // Elsewhere + Locally
	Elsewhere int       `json:"finished_elsewhere"`
	Locally   int       `json:"finished_locally"`
	// RawSent counts requests that began while raw-stays-on-device held and whose
	// plan sends raw input.
	RawSent int     `json:"raw_sent"`
	Drift   float64 `json:"drift"`
	// Times are the latencies that count, Samples all requests.
	Times   []float64 `json:"samples_ms"`
	Samples []Sample  `json:"samples"`
	Work    []Work    `json:"work"`

	plan    partition.Plan // what Plan says
	epoch   uint64         // of a fixed strategy
	lossy   bool           // an answer came by lossy codecs
	times   []time.Duration
	reports map[partition.HostID][]nodes.HostReport
}

// Sample is one request.
type Sample struct {
	At      float64 `json:"at_s"` // when it was sent, since the stream was opened
	Latency float64 `json:"ms"`   // 0 without an answer
	Outcome Outcome `json:"outcome"`
	// Settling: sent while the stream was finding its plan after a change, or to
	// warm up.
	Settling bool            `json:"settling,omitempty"`
	Wrong    bool            `json:"wrong,omitempty"`
	Epoch    scheduler.Epoch `json:"epoch,omitempty"` // of requests of the stream
	Finished Finish          `json:"finished,omitempty"`

	sent, done time.Time
}

// Finish says where a request ended whose next host failed; "" where none did.
type Finish string

// The places: another host, or the one that held the tensors.
const (
	Elsewhere Finish = "elsewhere"
	Locally   Finish = "locally"
)

// Work is what one host spent on a request, queue, decoding, segment and
// encoding together: predicted, and the median of what it was.
type Work struct {
	Host      partition.HostID `json:"host"`
	Predicted float64          `json:"predicted_ms"`
	P50       float64          `json:"p50_ms"`
	// Queue, Decode, Compute and Encode are the medians of its parts.
	Queue   float64 `json:"queue_ms"`
	Decode  float64 `json:"decode_ms"`
	Compute float64 `json:"compute_ms"`
	Encode  float64 `json:"encode_ms"`
}

// Traffic is the encoded tensor bytes of one request on one link.
type Traffic struct {
	From partition.HostID `json:"from"`
	To   partition.HostID `json:"to"`
	Up   tensor.Bytes     `json:"up"`
	Down tensor.Bytes     `json:"down"`
}

// SceneRow is one scene. Times in seconds are since the stream was opened.
type SceneRow struct {
	Kind  string `json:"kind"` // "scene"
	Scene string `json:"scene"`
	About string `json:"about"`
	// Emulation is what makes the links.
	Emulation lab.Emulation `json:"emulation"`
	Links     []Link        `json:"links"`
	RawStays  bool          `json:"raw_stays"`
	// The scene lasted from Start to End; from Settled on samples count.
	Start   float64  `json:"start_s"`
	Settled float64  `json:"settled_s"`
	End     float64  `json:"end_s"`
	Changes []Change `json:"changes"`
	// Replanned: a change changed the plan; Replan is the longest that it took.
	Replanned bool     `json:"replanned"`
	Replan    float64  `json:"replan_seconds"`
	Switches  []Switch `json:"switches"`
	// Late counts the switches after the stream had settled; Latest is when the
	// last of them was, since the last change.
	Late      int     `json:"late_switches"`
	Latest    float64 `json:"late_seconds"`
	Plan      string  `json:"plan"`
	Predicted float64 `json:"predicted_ms"`
	// Candidates at the end of the scene: what else the stream could do.
	Candidates []Candidate `json:"candidates"`
	// Best is the fixed strategy with the least p50, Over the stream's p50 over
	// that; "" and 0 when there is none.
	Best string  `json:"best_fixed"`
	Over float64 `json:"p50_over_best_fixed"`
	// Requests of the stream under way when a host was killed, by a plan that goes
	// through that host, and those that nobody answered.
	InFlight     int `json:"kill_inflight"`
	InFlightLost int `json:"kill_inflight_lost"`

	plan   partition.Plan
	killed bool
}

// Candidate is a plan of the stream, with its state and prediction.
type Candidate struct {
	Name      string  `json:"name"`
	State     string  `json:"state"`
	Predicted float64 `json:"predicted_ms"`
}

// Link is an emulated link of a scene.
type Link struct {
	A    partition.HostID `json:"a"`
	B    partition.HostID `json:"b"`
	Up   float64          `json:"up_mbps"`
	Down float64          `json:"down_mbps"`
	RTT  float64          `json:"rtt_ms"`
	// IP packets in the scene, and their bytes, where a network counts them.
	UpPackets   int64        `json:"up_packets,omitempty"`
	DownPackets int64        `json:"down_packets,omitempty"`
	UpBytes     tensor.Bytes `json:"up_bytes,omitempty"`
	DownBytes   tensor.Bytes `json:"down_bytes,omitempty"`
}

// Change is something that happens in a scene.
type Change struct {
	At   float64 `json:"at_s"`
	What string  `json:"what"`
	// Replan is the time from At to the first request by the plan that the
	// stream then kept, if that was another one than before.
	Replanned bool    `json:"replanned"`
	Replan    float64 `json:"replan_seconds"`
}

// Switch is a change of the stream's plan.
type Switch struct {
	At        float64 `json:"at_s"`
	From      string  `json:"from"`
	To        string  `json:"to"`
	Predicted float64 `json:"predicted_ms"`
	Before    float64 `json:"before_ms"`
	Reason    string  `json:"reason"`
}

// Result of a demo.
type Result struct {
	Rows   []Row
	Scenes []SceneRow
	// First is the stream's answer to the first frame.
	First pipeline.Answer
}

// Lost counts requests without an answer or a typed refusal by their deadline.
func (r Result) Lost() int { return r.sum(func(x Row) int { return x.Lost }) }

// Wrong counts answers that differ from the uncut network's.
func (r Result) Wrong() int { return r.sum(func(x Row) int { return x.Wrong }) }

// Refused counts requests that ended with a typed refusal.
func (r Result) Refused() int { return r.sum(func(x Row) int { return x.Refused }) }

func (r Result) sum(of func(Row) int) int {
	n := 0
	for _, row := range r.Rows {
		n += of(row)
	}
	return n
}

// Find returns the row of a strategy in a scene.
func (r Result) Find(scene, strategy string) (Row, bool) {
	for _, row := range r.Rows {
		if row.Scene == scene && row.Strategy == strategy {
			return row, true
		}
	}
	return Row{}, false
}

// leastSamples is how many frames a strategy answers in a scene, at least, for
// the figures of time to be judged.
const leastSamples = 10

// brief reports whether a run was too short to judge how fast things are: a
// quick one asks whether every answer is there and right.
func (r Result) brief() bool {
	return slices.ContainsFunc(r.Rows, func(x Row) bool { return x.Infeasible == "" && x.Answered < leastSamples })
}

// judged takes the goals off the figures that a brief run says nothing of.
func (r Result) judged(figures []benchmarks.Figure) []benchmarks.Figure {
	if !r.brief() {
		return figures
	}
	for i := range figures {
		switch f := &figures[i]; f.Name {
		case "lost", "wrong", "refused", "kill_inflight_lost", "switches":
		default:
			f.Goal, f.Holds = nil, true
		}
	}
	return figures
}

// Figures of a run, with their goals.
func (r Result) Figures() []benchmarks.Figure {
	e := Experiment()
	switches, late, replan, worst, killed, inFlight, lost := 0, 0, 0.0, math.NaN(), false, 0, 0
	for _, s := range r.Scenes {
		switches, late = switches+len(s.Switches), late+s.Late
		replan = max(replan, s.Replan)
		if s.Over > 0 {
			worst = max(s.Over, either(worst, 0))
		}
		killed = killed || s.killed
		inFlight, lost = inFlight+s.InFlight, lost+s.InFlightLost
	}
	figures := []benchmarks.Figure{
		e.Figure("lost", float64(r.Lost())),
		e.Figure("wrong", float64(r.Wrong())),
		e.Figure("refused", float64(r.Refused())),
		e.Figure("p50_over_best_fixed_worst_scene", worst),
	}
	ours, ok := r.Find("private", Cleave)
	alone, ok2 := r.Find("private", "device-only")
	if ok && ok2 && len(ours.Times) > 0 && len(alone.Times) > 0 {
		split := 0.0
		if ours.Split {
			split = 1
		}
		over := e.Figure("private_p50_over_device_only", ours.P50/alone.P50)
		// One frame of each strategy a round: without a gap, samples of the same index
		// are of the same round.
		if len(ours.Times) == len(alone.Times) {
			over = over.With(benchmarks.MedianRatio(ours.Times, alone.Times, 1))
		}
		figures = append(figures, e.Figure("private_is_split", split), over)
	}
	figures = append(figures, e.Figure("replan_seconds_max", replan), e.Figure("switches", float64(switches)), e.Figure("late_switches", float64(late)))
	if killed {
		figures = append(figures, e.Figure("kill_inflight", float64(inFlight)), e.Figure("kill_inflight_lost", float64(lost)))
	}
	return r.judged(figures)
}

// either is x, or otherwise when x is no number.
func either(x, otherwise float64) float64 {
	if math.IsNaN(x) {
		return otherwise
	}
	return x
}

// account notes an answer: what crossed the links, what hosts spent and where
// it was finished.
func (row *Row) account(report nodes.InferReport, counts bool) {
	if counts {
		row.Links = row.Links[:0]
		row.times = append(row.times, report.Elapsed)
		if row.reports == nil {
			row.reports = map[partition.HostID][]nodes.HostReport{}
		}
	}
	for i, h := range report.Hosts {
		if counts && i+1 < len(report.Hosts) {
			row.Links = append(row.Links, Traffic{From: h.Host, To: report.Hosts[i+1].Host, Up: h.Sent, Down: h.Received})
		}
		if counts {
			row.reports[h.Host] = append(row.reports[h.Host], h)
		}
	}
	switch finished(report) {
	case Elsewhere:
		row.Elsewhere++
	case Locally:
		row.Locally++
	}
	row.Fallbacks = row.Elsewhere + row.Locally
}

// finished says where a request ended whose next host failed.
func finished(report nodes.InferReport) Finish {
	at := Finish("")
	for i, h := range report.Hosts {
		switch {
		case h.Fallback == "":
		case i+1 < len(report.Hosts):
			at = Elsewhere
		default:
			at = Locally
		}
	}
	return at
}

// finish computes a row's statistics.
func (row *Row) finish() {
	row.P50, row.P95 = ms(benchmarks.Quantile(row.times, 0.5)), ms(benchmarks.Quantile(row.times, 0.95))
	row.Times, row.Work = []float64{}, []Work{}
	for _, t := range row.times {
		row.Times = append(row.Times, ms(t))
	}
	if row.Links == nil {
		row.Links = []Traffic{}
	}
	if row.Samples == nil {
		row.Samples = []Sample{}
	}
	for _, st := range row.plan.Stages {
		mid := func(of func(nodes.HostReport) time.Duration) float64 {
			var d []time.Duration
			for _, r := range row.reports[st.Host] {
				d = append(d, of(r))
			}
			return ms(benchmarks.Quantile(d, 0.5))
		}
		w := Work{
			Host: st.Host, Predicted: ms(st.Compute),
			P50:     mid(func(r nodes.HostReport) time.Duration { return r.Queue + r.Decode + r.Compute + r.Encode + r.Hidden }),
			Queue:   mid(func(r nodes.HostReport) time.Duration { return r.Queue }),
			Decode:  mid(func(r nodes.HostReport) time.Duration { return r.Decode }),
			Compute: mid(func(r nodes.HostReport) time.Duration { return r.Compute }),
			Encode:  mid(func(r nodes.HostReport) time.Duration { return r.Encode }),
		}
		for _, hops := range [][]partition.Hop{row.plan.Hops, row.plan.Back} {
			for _, h := range hops {
				if h.From == st.Host {
					w.Predicted += ms(h.Encode)
				}
				if h.To == st.Host {
					w.Predicted += ms(h.Decode)
				}
			}
		}
		row.Work = append(row.Work, w)
	}
}
