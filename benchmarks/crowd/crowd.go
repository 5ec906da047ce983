// Package crowd measures how many devices the simulated cluster carries, and
// how their requests fare when they share edge servers and a cloud.
package crowd

import (
	"bytes"
	"compress/gzip"
	"context"
	_ "embed" // the recorded model
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cleaveml/cleave/benchmarks"
	"github.com/cleaveml/cleave/benchmarks/lab/simulation"
)

// The goals.
const (
	GoalWall = 60   // s
	GoalRSS  = 2048 // MB
)

// Experiment is what it is about.
func Experiment() benchmarks.Experiment {
	return benchmarks.Experiment{
		Name:  "crowd",
		About: "1 to 10,000 simulated devices share eight edge servers and a cloud",
		Method: `The simulated cluster with ever more devices, each of which sends one request of MobileNetV2 a second: its wall time and memory, and
how the requests fare. Devices are 8, 16 or 32 times slower than the machine on which the model was recorded, and on Wi-Fi, LTE or 3G
(rates vary by device, σ 0.3 of the logarithm); one in five changes its network about every 20 s. Each belongs to one of eight edge servers of 16 slots,
twice as slow as the cloud, which has 256 slots; all devices of an edge share its backbone of 1 Gbps and 35 ms to the cloud. Every device runs a real
scheduler and decides for itself; edges and cloud promise capacity to whom they can. What a stage takes was measured on real agents
(` + "`cleave bench fidelity --record FILE`" + `) and varies by 5 %. A request that has no answer within 2 s is refused; one that is neither is lost. The wall
time and the peak of the memory are of this process, for the largest crowd.`,
		Goals: []benchmarks.Goal{
			benchmarks.AtMost("wall_s", "s", GoalWall, "of the largest crowd"),
			benchmarks.AtMost("rss_mb", "MB", GoalRSS, "peak of the process"),
			benchmarks.AtMost("lost", "requests", 0, "neither answered nor refused, or ended twice, in any crowd"),
			benchmarks.Told("events_per_s", "1/s", benchmarks.Higher, "of the largest crowd, by wall time"),
			benchmarks.Told("answered_share", "ratio", benchmarks.Higher, "of the largest crowd's requests"),
			benchmarks.Told("p95_ms", "ms", benchmarks.Lower, "latency in the largest crowd"),
		},
	}
}

// Config of the experiment.
type Config struct {
	Devices  []int         // of each crowd
	Duration time.Duration // virtual
	Seed     uint64
	Journal  *benchmarks.Journal
	Step     func(format string, args ...any)
}

// Row is one crowd.
type Row struct {
	Devices  int     `json:"devices"`
	Virtual  float64 `json:"virtual_s"`
	Wall     float64 `json:"wall_s"`
	RSS      float64 `json:"rss_mb"`
	Events   uint64  `json:"events"`
	Sent     int     `json:"sent"`
	Answered int     `json:"answered"`
	Refused  int     `json:"refused"`
	Lost     int     `json:"lost"`
	Rate     float64 `json:"answered_per_s"`
	P50      float64 `json:"p50_ms"`
	P95      float64 `json:"p95_ms"`
	Switches int     `json:"switches"`
	// Shares of the answers by the tiers that ran the network.
	OnDevice  float64 `json:"on_device"`
	OnEdge    float64 `json:"on_edge"`
	OnCloud   float64 `json:"on_cloud"`
	Split     float64 `json:"split"`
	Otherwise float64 `json:"fallback"` // answered otherwise than planned
	// Busy shares of the compute slots.
	EdgeBusy  float64 `json:"edge_busy"`
	EdgeMost  float64 `json:"edge_busy_max"`
	CloudBusy float64 `json:"cloud_busy"`
	Refusals  int     `json:"lease_refusals"`
}

//go:embed testdata/mobilenet_v2.json.gz
var recorded []byte

// Model is the recorded one.
func Model() (simulation.Model, error) {
	z, err := gzip.NewReader(bytes.NewReader(recorded))
	if err != nil {
		return simulation.Model{}, fmt.Errorf("recorded model: %w", err)
	}
	return simulation.ReadModel(z)
}

// Run plays every crowd, the smallest first.
func Run(ctx context.Context, cfg Config) ([]Row, error) {
	m, err := Model()
	if err != nil {
		return nil, err
	}
	cfg.Journal.Expect(len(cfg.Devices))
	sizes := slices.Sorted(slices.Values(cfg.Devices))
	var rows []Row
	for _, n := range sizes {
		if err := ctx.Err(); err != nil {
			return rows, err
		}
		cfg.Step("%d devices", n)
		row, err := benchmarks.Row(cfg.Journal, fmt.Sprintf("%d devices", n), func() (Row, error) { return cfg.crowd(ctx, m, n) })
		if err != nil {
			return rows, fmt.Errorf("%d devices: %w", n, err)
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// collect is by how many percent the memory grows between collections: of much
// that lives long little is garbage.
const collect = 300

func (cfg Config) crowd(ctx context.Context, m simulation.Model, devices int) (Row, error) {
	defer debug.SetGCPercent(debug.SetGCPercent(collect))
	start := time.Now()
	world, err := cfg.world(m, devices)
	if err != nil {
		return Row{}, err
	}
	r, err := simulation.Run(ctx, world)
	if err != nil {
		return Row{}, err
	}
	row := sum(r, devices, cfg.Duration)
	row.Wall = time.Since(start).Seconds()
	row.RSS, err = peak()
	runtime.KeepAlive(r)
	return row, err
}

// sum sums a run up.
func sum(r simulation.Result, devices int, d time.Duration) Row {
	row := Row{Devices: devices, Virtual: r.Virtual.Seconds(), Events: r.Events}
	var latencies []time.Duration
	placed := map[string]int{}
	for _, st := range r.Streams {
		row.Sent += st.Sent
		row.Answered += st.Answered
		row.Refused += st.Refused
		row.Lost += st.Lost + st.Twice
		row.Switches += st.Switches
		latencies = append(latencies, st.Latencies...)
		for label, n := range st.Placed {
			placed[label] += n
		}
	}
	share := func(n int) float64 { return float64(n) / float64(max(row.Answered, 1)) }
	for label, n := range placed {
		switch label {
		case "device":
			row.OnDevice += share(n)
		case "edge":
			row.OnEdge += share(n)
		case "cloud":
			row.OnCloud += share(n)
		case "fallback":
			row.Otherwise += share(n)
		default:
			row.Split += share(n)
		}
	}
	for _, h := range r.Hosts[:edges+1] {
		if h.ID == cloud {
			row.CloudBusy = h.Busy
		} else {
			row.EdgeBusy += h.Busy / edges
			row.EdgeMost = max(row.EdgeMost, h.Busy)
		}
		row.Refusals += h.Refusals
	}
	row.Rate = float64(row.Answered) / d.Seconds()
	row.P50, row.P95 = ms(benchmarks.Quantile(latencies, 0.5)), ms(benchmarks.Quantile(latencies, 0.95))
	return row
}

func ms(d time.Duration) float64 { return float64(d) / 1e6 }

// peak is the most memory that this process has had, in MB; where the system
// does not tell, what Go has taken of it.
func peak() (float64, error) {
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.Sys) / (1 << 20), nil
	}
	for line := range strings.Lines(string(data)) {
		if kb, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(kb), " kB"), 64)
			return n / 1024, err
		}
	}
	return 0, errors.New("/proc/self/status tells no VmHWM")
}

// Figures are of the largest crowd, but for what is lost.
func Figures(rows []Row) []benchmarks.Figure {
	e := Experiment()
	if len(rows) == 0 {
		return nil
	}
	last, lost := rows[len(rows)-1], 0
	for _, r := range rows {
		lost += r.Lost
	}
	return []benchmarks.Figure{
		e.Figure("wall_s", last.Wall), e.Figure("rss_mb", last.RSS), e.Figure("lost", float64(lost)),
		e.Figure("events_per_s", float64(last.Events)/last.Wall),
		e.Figure("answered_share", float64(last.Answered)/float64(max(last.Sent, 1))),
		e.Figure("p95_ms", last.P95),
	}
}
