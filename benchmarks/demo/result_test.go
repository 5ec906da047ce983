package demo

import (
	"bytes"
	"encoding/json"
	"image/png"
	"math"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
)

// story is a result of all kinds of scenes.
func story() Result {
	var r Result
	at := 1.0
	for _, c := range []struct {
		scene string
		p50   [4]float64 // as strategies; 0: barred
		row   SceneRow
	}{
		{"wifi", [4]float64{45, 180, 45, 75}, SceneRow{plan: on("edge")}},
		{"umts", [4]float64{209, 190, 415.25, 1480.2}, SceneRow{plan: on("device"), Replanned: true, Replan: 1.25, Late: 1, Latest: 10.42,
			Switches: []Switch{{At: 12, From: "edge:0-1", To: "device:0-1", Reason: "promises 190ms, 55 % less than edge:0-1"}}}},
		{"private", [4]float64{162, 180}, SceneRow{RawStays: true, plan: partition.Plan{Stages: []partition.Stage{{Host: "device", Ops: make([]int, 35)}, {Host: "edge", Ops: make([]int, 40)}}}}},
		{"edge-down", [4]float64{75, 180, 0, 76}, SceneRow{plan: on("cloud"), killed: true, InFlight: 3, InFlightLost: 1, Replanned: true, Replan: 0.2,
			Changes:  []Change{{At: 31, What: "the agent of edge is killed"}},
			Switches: []Switch{{At: 31.1, To: "device:0-1"}, {At: 31.2, To: "device:0+edge:1"}}}},
	} {
		s := c.row
		s.Kind, s.Scene, s.Start, s.End = "scene", c.scene, at, at+10
		s.Best, s.Over = "device-only", c.p50[0]/c.p50[1]
		for i, name := range strategies {
			row := Row{Kind: "strategy", Scene: c.scene, Strategy: name, P50: c.p50[i], P95: c.p50[i] * 1.1, Split: i == 0 && s.RawStays}
			if row.P50 == 0 {
				row.Infeasible = "barred"
			} else {
				row.Sent, row.Answered, row.Times = 30, 30, []float64{row.P50}
				for k := range 10 {
					row.Samples = append(row.Samples, Sample{At: at + float64(k), Latency: row.P50 * (1 + float64(k%3)/20), Outcome: Answered})
				}
			}
			if i == 0 && c.scene != "umts" {
				row.Links = []Traffic{{From: "device", To: "edge", Up: 42600, Down: 60}}
			}
			r.Rows = append(r.Rows, row)
		}
		r.Scenes = append(r.Scenes, s)
		at += 10
	}
	lost := &r.Rows[len(r.Rows)-4]
	lost.Sent, lost.Lost, lost.Elsewhere, lost.Locally, lost.lossy, lost.Drift = 31, 1, 2, 1, true, 0.003
	return r
}

// TestFigures: what each is of, and that those of scenes which were not played
// are not there.
func TestFigures(t *testing.T) {
	for _, c := range []struct {
		name   string
		result Result
		want   map[string]float64
	}{
		{"story", story(), map[string]float64{"lost": 1, "wrong": 0, "refused": 0, "p50_over_best_fixed_worst_scene": 1.1,
			"private_is_split": 1, "private_p50_over_device_only": 0.9, "replan_seconds_max": 1.25, "switches": 3, "late_switches": 1, "kill_inflight": 3, "kill_inflight_lost": 1}},
		{"nothing", Result{}, map[string]float64{"lost": 0, "wrong": 0, "refused": 0, "p50_over_best_fixed_worst_scene": math.NaN(),
			"replan_seconds_max": 0, "switches": 0, "late_switches": 0}},
	} {
		got := map[string]bool{}
		for _, f := range c.result.Figures() {
			want, ok := c.want[f.Name]
			if !ok || math.Abs(f.Value-want) > 1e-9 || math.IsNaN(f.Value) != math.IsNaN(want) || (f.Goal == nil) != (f.Name == "late_switches") {
				t.Errorf("%s: %+v, want %v", c.name, f, want)
			}
			got[f.Name] = true
		}
		if len(got) != len(c.want) {
			t.Errorf("%s: %d figures, want %d", c.name, len(got), len(c.want))
		}
	}
}

// TestBriefRunsAreNotJudged: a few frames say whether answers are there and
// right, not how fast they are.
func TestBriefRunsAreNotJudged(t *testing.T) {
	r := story()
	for i := range r.Rows {
		r.Rows[i].Sent, r.Rows[i].Answered = min(r.Rows[i].Sent, 2), min(r.Rows[i].Answered, 2)
	}
	for _, f := range r.Figures() {
		if judged := slices.Contains(strings.Fields("lost wrong refused switches kill_inflight_lost"), f.Name); (f.Goal != nil) != judged || !judged && !f.Holds {
			t.Errorf("%+v", f)
		}
	}
}

// TestPrint: the tables say what happened in 140 columns.
func TestPrint(t *testing.T) {
	var out bytes.Buffer
	r := story()
	r.Print(&out)
	PrintFigures(&out, r.Figures())
	for line := range strings.Lines(out.String()) {
		if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > 140 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	for _, want := range []string{
		"│ wifi      │ all on edge", "│ device 35 → edge 40 ops │", "│ 415.2 / 456.8 │", "│ 1480 / 1628 │", "│       1.10 │ 1.2 s, late 10.4 s │",
		"│ edge-down │   91 │       90 │       0 │    1 │     0 │         2 │       1 │        2 │ device–edge 42.6KB/60B  │ alike, drift 3e-03 │",
		"at the kill: 3 requests were under way, 2 of them were answered\n",
		"late_switches                           1 switches  no goal\n",
		"kill_inflight_lost                      1 requests  goal ≤ 0     missed\n", "private_is_split                        1 bool      goal ≥ 1     holds\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("lacks %q:\n%s", want, out.String())
		}
	}
}

// TestRowsInJSON: no list is null, and a row says what kind it is.
func TestRowsInJSON(t *testing.T) {
	row := Row{Kind: "strategy"}
	row.finish()
	data, err := json.Marshal(row)
	if err != nil || strings.Contains(string(data), "null") || !strings.Contains(string(data), `"kind":"strategy"`) {
		t.Errorf("%s, %v", data, err)
	}
}

// TestChart draws the story in both formats.
func TestChart(t *testing.T) {
	r := story()
	var svg, bits bytes.Buffer
	if err := r.Chart(&svg, "svg"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"edge-down", "private", "device-only", "cleave", "→ device+edge", "edge is killed"} {
		if !strings.Contains(svg.String(), want) {
			t.Errorf("the chart lacks %q", want)
		}
	}
	if err := r.Chart(&bits, "png"); err != nil {
		t.Fatal(err)
	}
	if img, err := png.Decode(&bits); err != nil || img.Bounds().Dx() < 1000 {
		t.Errorf("%v", err)
	}
	if err := (Result{}).Chart(&bits, "svg"); err == nil {
		t.Error("a chart of nothing")
	}
	for path, want := range map[string]string{"a.svg": "svg", "b/c.PNG": "png", "d.pdf": "", "svg": ""} {
		if got, err := ChartFormat(path); got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
}

// TestTraffic: a link a line.
func TestTraffic(t *testing.T) {
	row := Row{Links: []Traffic{{"device", "edge", 1000, 8}, {"edge", "cloud", tensor.Bytes(20), 0}}}
	if got := row.traffic(); got != "device–edge 1.00KB/8B\nedge–cloud 20B/0B" {
		t.Error(got)
	}
	if got := (Row{}).traffic(); got != "–" {
		t.Error(got)
	}
}
