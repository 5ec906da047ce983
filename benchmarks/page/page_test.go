package page_test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/cleaveml/cleave/benchmarks"
	"github.com/cleaveml/cleave/benchmarks/page"
)

func section() page.Section {
	return page.Section{Command: "cleave bench self", Experiment: benchmarks.Experiment{
		Name: "self", About: "the bench itself", Method: "Two\nlines.\n",
		Goals: []benchmarks.Goal{
			benchmarks.AtMost("late_ms", "ms", 5, "how late it is"),
			benchmarks.AtLeast("share", "ratio", 0.9, "how much of it"),
			benchmarks.Told("clock_ns", "ns", benchmarks.Lower, "the clock"),
		},
	}}
}

func docs(t *testing.T, report *benchmarks.Report) fstest.MapFS {
	t.Helper()
	files := fstest.MapFS{page.Frame: {Data: []byte("# Benchmarks\n\n<!-- experiments -->\n\n## More\n")}}
	if report != nil {
		data, err := json.Marshal(report)
		if err != nil {
			t.Fatal(err)
		}
		files["results/self.json"] = &fstest.MapFile{Data: data}
	}
	return files
}

func TestPageWithoutARun(t *testing.T) {
	got, err := page.Build(docs(t, nil), []page.Section{section(), section()})
	if err != nil {
		t.Fatal(err)
	}
	want := "### `cleave bench self`\n\nThe bench itself.\n\nTwo\nlines.\n\n| figure | meaning | goal |\n|---|---|---|\n" +
		"| `late_ms` | how late it is | ≤ 5 ms |\n| `share` | how much of it | ≥ 0.9 |\n| `clock_ns` | the clock | none, in ns |\n\nNo run is on record.\n"
	_, rest, _ := strings.Cut(string(got), "\n")
	if rest != "# Benchmarks\n\n"+want+"\n"+want+"\n## More\n" {
		t.Errorf("%s", got)
	}
}

// TestPageWithARun: verdicts are by the goals of today, whatever the report says.
func TestPageWithARun(t *testing.T) {
	r := benchmarks.NewReport("self", "v1", "", "avx2")
	low, high := 3.0, 8.0
	r.Figures = []benchmarks.Figure{
		{Name: "late_ms", Value: 6, Unit: "ms", Holds: true, Low: &low, High: &high},
		{Name: "share", Value: math.NaN(), Unit: "ratio", Better: benchmarks.Higher},
	}
	r.Warnings = []string{"the machine was busy"}
	got, err := page.Build(docs(t, &r), []page.Section{section()})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| `late_ms` | how late it is | ≤ 5 ms | 6 | 3 to 8 | **no** |\n",
		"| `share` | how much of it | ≥ 0.9 | – |  | **no** |\n",
		"| `clock_ns` | the clock | none, in ns | not in this run | |  |\n",
		"`v1`", "avx2", "Note: the machine was busy.\n", "seed 0",
	} {
		if !strings.Contains(string(got), want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

func TestPageIsRefused(t *testing.T) {
	other := benchmarks.NewReport("predict", "v1", "", "")
	foreign := docs(t, &other)
	broken := docs(t, nil)
	broken["results/self.json"] = &fstest.MapFile{Data: []byte("{")}
	bare := fstest.MapFS{page.Frame: {Data: []byte("# Benchmarks\n")}}
	for want, files := range map[string]fstest.MapFS{
		`is a report of "predict"`:  foreign,
		"results/self.json: unexpe": broken,
		"has no line <!-- exper":    bare,
		"benchmarks.in.md":          {},
	} {
		if _, err := page.Build(files, []page.Section{section()}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
