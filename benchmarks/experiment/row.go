package experiment

import (
	"cmp"
	"encoding/json"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/cleaveml/cleave/benchmarks"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
)

// Row is one strategy in one cell: a model on a network with a seed.
type Row struct {
	Model    string `json:"model"`
	Network  string `json:"network"`
	Strategy string `json:"strategy"`
	Seed     uint64 `json:"seed"`
	Engine   Engine `json:"engine"`
	// Infeasible says why the strategy cannot run there; all else is empty then.
	Infeasible string `json:"infeasible,omitempty"`
	// N requests of those that count were answered, Fallbacks of them otherwise than
	// planned. Refused had a reason, Lost none.
	N         int `json:"n"`
	Refused   int `json:"refused"`
	Lost      int `json:"lost"`
	Fallbacks int `json:"fallbacks"`
	// Switches from one plan to another between requests that count.
	Switches int `json:"switches"`
	// Latencies of the answers.
	P50  Number `json:"p50_ms"`
	Low  Number `json:"p50_low_ms"` // with 95 % confidence
	High Number `json:"p50_high_ms"`
	P95  Number `json:"p95_ms"`
	Mean Number `json:"mean_ms"`
	// Predicted is the mean of what plans promised for the links and loads of then.
	Predicted Number `json:"predicted_ms"`
	// Encoded tensors that the device sent and received for a request, in the mean.
	Up   Number `json:"up_bytes"`
	Down Number `json:"down_bytes"`
	// Placement is the tiers by which most requests were computed, Plan what most ran by.
	Placement string    `json:"placement"`
	Plan      string    `json:"plan"`
	Samples   []float64 `json:"samples_ms"`
}

// Number is one that may be missing: NaN, which is null in JSON.
type Number float64

// Known reports whether there is one.
func (n Number) Known() bool { return !math.IsNaN(float64(n)) && !math.IsInf(float64(n), 0) }

// MarshalJSON implements json.Marshaler.
func (n Number) MarshalJSON() ([]byte, error) {
	if !n.Known() {
		return []byte("null"), nil
	}
	return json.Marshal(float64(n))
}

// UnmarshalJSON implements json.Unmarshaler.
func (n *Number) UnmarshalJSON(data []byte) error {
	*n = Number(math.NaN())
	if string(data) == "null" {
		return nil
	}
	return json.Unmarshal(data, (*float64)(n))
}

// request is how one went that counts.
type request struct {
	latency, predicted time.Duration
	outcome            outcome
	fallback           bool
	up, down           tensor.Bytes
	plan, placement    string
}

type outcome int

const (
	answered outcome = iota
	refused
	lost
)

// fill sums requests up, in their order. The seed is of the interval.
func (row *Row) fill(requests []request, seed uint64) {
	plans, places := map[string]int{}, map[string]int{}
	var promised, up, down float64
	before := ""
	row.Samples = []float64{}
	for _, q := range requests {
		if q.plan != "" {
			if before != "" && q.plan != before {
				row.Switches++
			}
			before = q.plan
			plans[q.plan]++
		}
		switch q.outcome {
		case refused:
			row.Refused++
			continue
		case lost:
			row.Lost++
			continue
		case answered:
		}
		row.N++
		if q.fallback {
			row.Fallbacks++
		}
		places[q.placement]++
		row.Samples = append(row.Samples, ms(q.latency))
		promised, up, down = promised+ms(q.predicted), up+float64(q.up), down+float64(q.down)
	}
	row.Plan, row.Placement = most(plans), most(places)
	n := float64(row.N) // 0/0 is NaN
	row.Predicted, row.Up, row.Down = Number(promised/n), Number(up/n), Number(down/n)
	sum := 0.0
	for _, x := range row.Samples {
		sum += x
	}
	e := benchmarks.Median(row.Samples, seed)
	row.P50, row.Low, row.High = Number(e.Value), Number(e.Low), Number(e.High)
	row.P95, row.Mean = Number(benchmarks.QuantileOf(row.Samples, 0.95)), Number(sum/n)
}

// none is a row without a number.
func none(row Row, why string) Row {
	row.fill(nil, 0)
	row.Infeasible = why
	return row
}

func ms(d time.Duration) float64 { return float64(d) / 1e6 }

// most is the word that was counted most often, of equals the first of the
// alphabet.
func most(counts map[string]int) string {
	best := ""
	for word, n := range counts {
		if c := cmp.Compare(n, counts[best]); best == "" || c > 0 || c == 0 && word < best {
			best = word
		}
	}
	return best
}

// placement names the tiers of hosts that compute, "device+edge" for example.
func placement(hosts []Host, computes []partition.HostID) string {
	var tiers []string
	for _, id := range computes {
		if i := slices.IndexFunc(hosts, func(h Host) bool { return h.Name == id }); i >= 0 {
			tiers = append(tiers, string(hosts[i].Tier))
		}
	}
	return strings.Join(tiers, "+")
}
