package link

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"

	"github.com/cleaveml/cleave/partition"
)

func TestDescription(t *testing.T) {
	const text = `{rate: 18.88Mbps, delay: 2.5ms, jitter: 1ms, queue: 64KB, loss: 1%, burst: 8, reorder: 0.5%,
 reorder_by: 5ms, duplicate: 0.001, seed: 7, outages: [{from: 10s, for: 2s, every: 30s}]}`
	var d Description
	if err := yaml.Unmarshal([]byte(text), &d); err != nil {
		t.Fatal(err)
	}
	got, err := d.Spec("")
	want := Spec{Rate: 18.88 * partition.Mbps, Delay: 2500 * time.Microsecond, Jitter: time.Millisecond, Queue: 64_000,
		Loss: Loss{Rate: 0.01, Burst: 8}, Reorder: 0.005, ReorderBy: 5 * time.Millisecond, Duplicate: 0.001, Seed: 7,
		Outages: []Outage{{From: 10 * time.Second, For: 2 * time.Second, Every: 30 * time.Second}}}
	if err != nil || !got.Equal(want) {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	if back, err := Describe(want); err != nil || back.Rate != "18.88Mbps" || back.Loss != "1%" || back.Queue != "64000B" {
		t.Errorf("%+v, %v", back, err)
	}
}

// TestDescriptionReadsBack: what Describe writes is the same spec again, in
// YAML and in JSON.
func TestDescriptionReadsBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSpec(t)
		s.Trace = nil // they come from files
		s.Loss = Loss{Rate: rapid.Float64Range(0, 0.3).Draw(t, "loss"), Burst: rapid.Float64Range(0, 9).Draw(t, "burst")}
		if rapid.Bool().Draw(t, "elliott") {
			s.Loss = Loss{Elliott: &Elliott{rapid.Float64Range(0, 1).Draw(t, "p"), 0.25, 0, 1}}
		}
		if s.Validate() != nil {
			t.Skip("no spec")
		}
		d, err := Describe(s)
		if err != nil {
			t.Fatal(err)
		}
		for _, form := range []struct {
			write func(any) ([]byte, error)
			read  func([]byte, any) error
		}{{yaml.Marshal, yaml.Unmarshal}, {json.Marshal, json.Unmarshal}} {
			text, err := form.write(d)
			var again Description
			if err == nil {
				err = form.read(text, &again)
			}
			got, err2 := again.Spec("")
			if err != nil || err2 != nil || !got.Equal(s) {
				t.Fatalf("%s: %+v, %v, %v, want %+v", text, got, err, err2, s)
			}
		}
	})
}

func TestDescriptionMalformed(t *testing.T) {
	for want, d := range map[string]Description{
		`rate: "fast": want a rate such as 18.88Mbps`: {Rate: "fast"},
		`rate: "8": want`: {Rate: "8"},
		`rate: "0Mbps": want more than 0; cut: true`:  {Rate: "0Mbps"},
		`delay: "5": want a duration such as 2.5ms`:   {Delay: "5"},
		`jitter: "-5ms": want`:                        {Jitter: "-5ms"},
		`queue: "64 boxes": want a size such as 64KB`: {Queue: "64 boxes"},
		`loss: "2": want a share such as 1% or 0.01`:  {Loss: "2"},
		`loss: "NaN"`:                              {Loss: "NaN"},
		`loss: 1 is no share from 0 to below 1`:    {Loss: "100%"},
		`elliott.to_bad: "often": want`:            {Elliott: &ElliottDescription{ToBad: "often"}},
		`reorder: say by how much with reorder_by`: {Reorder: "1%"},
		`duplicate: "1/2": want`:                   {Duplicate: "1/2"},
		`outages[1].for: "long": want`:             {Outages: []OutageDescription{{For: "1s"}, {For: "long"}}},
		`outage: from 0s for 0s`:                   {Outages: []OutageDescription{{}}},
		`rate and trace: give one`:                 {Rate: "1Mbps", Trace: "x"},
		"trace: open /nowhere/missing: no such ":   {Trace: "/nowhere/missing"},
	} {
		if _, err := d.Spec(""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", d, err, want)
		}
	}
}

// TestOpenTrace: the form follows from the name, the path from the folder.
func TestOpenTrace(t *testing.T) {
	folder := t.TempDir()
	for name, text := range map[string]string{"lte.up": "1\n1\n", "log.csv": "0,12\n1,12\n", "bad.csv": "0,1\nx,y\n"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, mbps := range map[string]float64{"lte.up": 24, "log.csv": 12} {
		s, err := Description{Trace: name}.Spec(folder)
		if err != nil || float64(s.Trace.Mean()) != mbps*1e6 {
			t.Fatalf("%s: %+v, %v", name, s, err)
		}
		if d, err := Describe(s); err != nil || d.Trace != filepath.Join(folder, name) {
			t.Errorf("%+v, %v", d, err)
		}
	}
	if _, err := OpenTrace(filepath.Join(folder, "bad.csv")); err == nil || !strings.Contains(err.Error(), "bad.csv: line 2") {
		t.Error(err)
	}
	trace, err := ReadMahimahi(strings.NewReader("1\n"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Describe(Spec{Trace: trace}); err == nil {
		t.Error("a trace of no file has a description")
	}
}

func FuzzDescription(f *testing.F) {
	f.Add("18.88Mbps", "64KB", "1%", "5ms")
	f.Fuzz(func(t *testing.T, rate, queue, share, duration string) {
		s, err := Description{Rate: rate, Queue: queue, Loss: share, Delay: duration, Duplicate: share}.Spec("")
		if err == nil && s.Validate() != nil {
			t.Errorf("%+v: %v", s, s.Validate())
		}
	})
}
