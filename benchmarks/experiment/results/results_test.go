package results

import (
	"bytes"
	"encoding/xml"
	"errors"
	"image/png"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cleaveml/cleave/benchmarks"
	"github.com/cleaveml/cleave/benchmarks/archive"
	"github.com/cleaveml/cleave/benchmarks/experiment"
)

// row is a cell whose latencies lie around a median.
func row(network, strategy string, seed uint64, median float64) experiment.Row {
	r := experiment.Row{Model: "mobilenet_v2", Network: network, Strategy: strategy, Seed: seed, Engine: experiment.Simulated,
		N: 9, P50: experiment.Number(median), Predicted: experiment.Number(median), Up: 2e6, Down: 60, Placement: "edge", Plan: "device ─raw→ edge"}
	for i := range 9 {
		r.Samples = append(r.Samples, median*(1+float64(i-4)/100))
	}
	return r
}

func rows() []experiment.Row {
	nan := experiment.Number(math.NaN())
	return []experiment.Row{
		row("wifi", "cleave", 1, 50), row("wifi", "device-only", 1, 200), row("wifi", "cloud-only", 1, 100),
		row("wifi", "cleave", 2, 50), row("wifi", "device-only", 2, 200), row("wifi", "cloud-only", 2, 100),
		row("lte", "cleave", 1, 210), row("lte", "device-only", 1, 200),
		{Model: "mobilenet_v2", Network: "lte", Strategy: "cloud-only", Seed: 1, Infeasible: "<b>no way & no link</b>", P50: nan, Predicted: nan, Up: nan, Down: nan, Samples: []float64{}},
	}
}

const hostile = `name: hostile
about: "</pre><script src=https://example.org/x.js>"
models: [{name: mobilenet_v2, profile: recorded}]
hosts: [{name: device, tier: device}, {name: cloud, tier: cloud}]
networks: [{name: wifi, links: [{between: [device, cloud], up: 1Mbps}]}]
goals: {speedup_min: 1}
`

func page(t *testing.T, rows []experiment.Row) Page {
	t.Helper()
	f, err := experiment.Parse("x.yaml", []byte(hostile))
	if err != nil {
		t.Fatal(err)
	}
	r := benchmarks.NewReport("experiment", "v1", "", "avx2")
	r.Seed = 1
	r.Figures = Figures(f.Experiment(), rows, r.Seed)
	for _, x := range rows {
		r.Rows = append(r.Rows, x)
	}
	return Page{File: f, Report: r, Rows: rows, Run: "cleave experiment run x.yaml --out x", Remake: "cleave experiment report x"}
}

func TestFigures(t *testing.T) {
	got := map[string]benchmarks.Figure{}
	for _, f := range page(t, rows()).Report.Figures {
		if got[f.Name] = f; f.Unit == "undeclared" {
			t.Errorf("%s is not declared", f.Name)
		}
	}
	for name, want := range map[string]float64{"speedup_min": 200.0 / 210, "speedup_max": 2, "lost": 0, "refused": 0, "p50_ms_max": 210} {
		if f := got[name]; math.Abs(f.Value-want) > 1e-9 {
			t.Errorf("%s is %v, want %v", name, f.Value, want)
		}
	}
	if f := got["speedup_min"]; f.Holds || f.Low == nil || *f.Low > f.Value || *f.High < f.Value {
		t.Errorf("%+v", f)
	}
	for _, f := range Figures(page(t, nil).File.Experiment(), nil, 1) {
		if f.Name == "speedup_min" && (f.Holds || !math.IsNaN(f.Value)) {
			t.Errorf("without rows %+v", f)
		}
	}
}

// unanswered takes so many answers from a row.
func unanswered(r experiment.Row, n int) experiment.Row {
	r.N, r.Refused, r.Samples = r.N-n, n, r.Samples[n:]
	return r
}

// TestFiguresOfUnanswered: requests without an answer make cleave no faster, and what
// is compared stays the medians of all answers.
func TestFiguresOfUnanswered(t *testing.T) {
	figure := func(rows []experiment.Row, name string) *benchmarks.Figure {
		for _, f := range Figures(experiment.File{}.Experiment(), rows, 1) {
			if f.Name == name {
				return &f
			}
		}
		return nil
	}
	none := []experiment.Row{unanswered(row("wifi", "cleave", 1, 50), 9), row("wifi", "device-only", 1, 200)}
	if f := figure(none, "speedup_min"); f == nil || f.Value != 0 || f.N != 0 {
		t.Errorf("without an answer of cleave %+v", f)
	}
	if f := figure(none, "p50_ms_max"); f == nil || f.Holds {
		t.Errorf("without an answer of cleave %+v", f)
	}
	// The best host answers with one seed only, for which cleave was quick.
	some := []experiment.Row{
		row("wifi", "cleave", 1, 50), row("wifi", "cloud-only", 1, 100),
		row("wifi", "cleave", 2, 400), unanswered(row("wifi", "cloud-only", 2, 100), 9),
	}
	median := benchmarks.QuantileOf(append(slices.Clone(some[0].Samples), some[2].Samples...), 0.5)
	if f := figure(some, "speedup_min"); f == nil || math.Abs(f.Value-100/median) > 1e-9 || f.Low != nil || f.N != 9 {
		t.Errorf("%+v, want the ratio of the medians, %v", f, 100/median)
	}
	alone := []experiment.Row{row("wifi", "cleave", 1, 50)}
	if f := figure(alone, "speedup_min"); f != nil {
		t.Errorf("with nobody to compare with %+v", f)
	}
	if f := figure(alone, "p50_ms_max"); f == nil || f.Value != 50 {
		t.Errorf("%+v", f)
	}
}

// TestCharts: each is there, well formed, and the picture is one.
func TestCharts(t *testing.T) {
	var names []string
	for _, c := range Charts(rows(), 1) {
		names = append(names, c.Name)
		var svg, picture bytes.Buffer
		if err := errors.Join(c.Draw(&svg, "svg"), c.Draw(&picture, "png")); err != nil {
			t.Fatal(err)
		}
		wellFormed(t, svg.String())
		img, err := png.Decode(&picture)
		if err != nil || img.Bounds().Dx() < 600 {
			t.Errorf("%s: %v, %v", c.Name, img.Bounds(), err)
		}
		for _, m := range c.key {
			if !strings.Contains(svg.String(), ">"+m.name+"<") || m.color.A == 0 {
				t.Errorf("%s does not say what %s is, or shows it not", c.Name, m.name)
			}
		}
	}
	if got := strings.Join(names, " "); got != "latency-mobilenet_v2 cdf-mobilenet_v2-wifi cdf-mobilenet_v2-lte speedup" {
		t.Errorf("%s", got)
	}
	if len(Charts(rows()[8:], 1)) > 0 || len(Charts(nil, 1)) > 0 {
		t.Error("charts of nothing")
	}
}

func wellFormed(t *testing.T, svg string) {
	t.Helper()
	dec := xml.NewDecoder(strings.NewReader(svg))
	for {
		if _, err := dec.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Errorf("no XML: %v", err)
			return
		}
	}
}

// TestPage: it shows everything, loads nothing, and what comes from the file is
// text.
func TestPage(t *testing.T) {
	var buf bytes.Buffer
	p := page(t, rows())
	if err := p.Write(&buf); err != nil {
		t.Fatal(err)
	}
	html := buf.String()
	for _, want := range []string{
		"&lt;/pre&gt;&lt;script", "&lt;b&gt;no way &amp; no link", "cannot run", "cleave experiment run x.yaml --out x", "cleave experiment report x",
		"speedup_min", "missed", "prefers-color-scheme: dark", `name="viewport"`, "models: [{name: mobilenet_v2, profile: recorded}]", p.Report.Machine.Text(),
	} {
		if !strings.Contains(html, want) {
			t.Errorf("it lacks %s", want)
		}
	}
	bare := strings.NewReplacer(`xmlns="http://www.w3.org/2000/svg"`, "", `xmlns:xlink="http://www.w3.org/1999/xlink"`, "", "https://example.org/x.js", "").Replace(html)
	if found := regexp.MustCompile(`(?i)https?:|<link|<img|<iframe|@import|url\(|\bsrc=[^h&]|<script [^>]*src`).FindString(bare); found != "" {
		t.Errorf("it loads something: %s", found)
	}
	if strings.Contains(html, "<script src") || strings.Count(html, "<script>") != 1 || strings.Contains(html, "ZgotmplZ") {
		t.Error("the file's text became part of the page")
	}
	if n := strings.Count(html, "<svg "); n != 2+2+2 || strings.Contains(html, "#000000") {
		t.Errorf("%d pictures", n)
	}
	buf.Reset()
	if err := page(t, nil).Write(&buf); err != nil || !strings.Contains(buf.String(), "nothing to plot") {
		t.Errorf("without rows: %v", err)
	}
}

// TestFolder: plots and page are made again from what a run has left, alike.
func TestFolder(t *testing.T) {
	dir, p := t.TempDir(), page(t, rows())
	if _, err := ReadFolder(dir); err == nil || strings.Contains(err.Error(), "\n") {
		t.Errorf("of nothing: %v", err)
	}
	if err := os.WriteFile(archive.Journal(dir), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadFolder(dir); err == nil || !strings.Contains(err.Error(), "continue it with: cleave experiment run FILE --resume") {
		t.Errorf("of a run that goes on: %v", err)
	}
	if err := errors.Join(archive.Write(dir, p.Report), os.WriteFile(Copy(dir), p.File.Text, 0o600), WritePlots(dir, p)); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join(dir, "report.html"))
	if err != nil {
		t.Fatal(err)
	}
	back, err := ReadFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	back.Run, back.Remake = p.Run, p.Remake
	if err := WritePlots(dir, back); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(dir, "report.html"))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("another page, %v", err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.png"))
	if err != nil || len(files) != 4 {
		t.Errorf("%v, %v", files, err)
	}
}
