package benchmarks

import (
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
)

func TestMachine(t *testing.T) {
	m := thisMachine("", "avx2")
	if m.Runtime != "none" || m.Cores != runtime.NumCPU() || !strings.Contains(m.CPU, "avx2") || !strings.HasPrefix(m.Go, "go") {
		t.Errorf("%+v", m)
	}
	if runtime.GOOS == "linux" && (m.Kernel == "" || m.MemoryMB < 16) {
		t.Errorf("the system told nothing: %+v", m)
	}
	if text := m.Text(); strings.Contains(text, "\n") || !strings.Contains(text, "avx2") {
		t.Errorf("%q", text)
	}
	if !dirty("v1-2-gabc-dirty") || dirty("v1-2-gabc") {
		t.Error("what is built from changed files is not told")
	}
}

func TestBusyMachine(t *testing.T) {
	for want, l := range map[string]Load{
		"":                          {Start: 0.9, End: 5, Others: 0.05},
		"load average 1.5":          {Start: 1.5},
		"took 20 % of the processo": {Others: 0.2},
	} {
		got := strings.Join(l.warnings(2), "; ")
		if !strings.Contains(got, want) || (want == "") != (got == "") {
			t.Errorf("%+v: %q, want %q", l, got, want)
		}
	}
	start := processor{busy: 100, total: 1000, own: 40}
	if got := start.others(processor{busy: 160, total: 1200, own: 80}); got != 0.1 {
		t.Errorf("others took %v, want 20 of 200 ticks", got)
	}
	if got := start.others(start); got != 0 {
		t.Errorf("in no time others took %v", got)
	}
}

func TestOwnTimeIsPartOfAll(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("looks into /proc")
	}
	p := readProcessor()
	if p.total <= 0 || p.busy <= 0 || p.busy > p.total || p.own > p.busy {
		t.Errorf("%+v", p)
	}
	if parent := familyTicks(os.Getppid()); parent < p.own {
		t.Errorf("the parent and all its children took %v, this process alone %v", parent, p.own)
	}
}

func TestFinish(t *testing.T) {
	r := NewReport("x", "v1-dirty", "", "")
	r.Finish()
	if !slices.Contains(r.Warnings, "built from changed files: v1-dirty") || r.Seconds < 0 || !r.Dirty {
		t.Errorf("%+v", r)
	}
	r.Figures = []Figure{Told("a", "s", Lower, "").Of(1), AtMost("b", "s", 1, "").Of(2), AtLeast("c", "s", 1, "").Of(0)}
	if r.Missed() != "b, c" || r.Holds() {
		t.Errorf("missed %q", r.Missed())
	}
	if got := r.Missed(AtMost("b", "s", 1, ""), AtMost("d", "s", 1, ""), Told("e", "s", Lower, "")); got != "b, c, d (not measured)" {
		t.Errorf("missed %q", got)
	}
}
