package benchmarks

import (
	"fmt"
	"strconv"
	"strings"
)

// Load is what else a machine did while an experiment ran; zeros where the
// system does not tell.
type Load struct {
	Start float64 `json:"start"` // average of the minute before
	End   float64 `json:"end"`
	// Others is the share of all processor time that other processes than this one
	// and those that it started took during the run.
	Others float64 `json:"others_cpu_share"`
}

// What makes a machine a busy one.
const (
	busyStart  = 0.5 // runnable processes per core
	busyOthers = 0.1
)

func (l Load) warnings(cores int) []string {
	var out []string
	if l.Start > busyStart*float64(cores) {
		out = append(out, fmt.Sprintf("the machine was busy before the start: load average %.1f on %d cores", l.Start, cores))
	}
	if l.Others > busyOthers {
		out = append(out, fmt.Sprintf("other processes took %.0f %% of the processor meanwhile", 100*l.Others))
	}
	return out
}

func loadAverage() float64 {
	first, _, _ := strings.Cut(procText("/proc/loadavg"), " ")
	load, err := strconv.ParseFloat(first, 64)
	if err != nil {
		return 0
	}
	return load
}

// processor is a reading of the system's accounts, in ticks since its start.
type processor struct{ busy, total, own float64 }

func readProcessor() processor {
	var p processor
	for i, ticks := range floats(procField("/proc/stat", "cpu ")) {
		if i > 7 {
			break // guests are part of user and nice
		}
		p.total += ticks
		if i != 3 && i != 4 { // idle, waiting for a disk
			p.busy += ticks
		}
	}
	// Behind the name, which may hold anything: the state is field 3 of proc(5),
	// the times of this process and of children that have ended are 14 to 17.
	_, after, _ := strings.Cut(procText("/proc/self/stat"), ") ")
	if _, numbers, ok := strings.Cut(after, " "); ok {
		if fields := floats(numbers); len(fields) > 13 {
			p.own = fields[10] + fields[11] + fields[12] + fields[13]
		}
	}
	return p
}

// others is the share that other processes took from p to now.
func (p processor) others(now processor) float64 {
	if now.total <= p.total {
		return 0
	}
	return max(0, (now.busy-p.busy-(now.own-p.own))/(now.total-p.total))
}

func floats(line string) []float64 {
	var out []float64
	for field := range strings.FieldsSeq(line) {
		x, err := strconv.ParseFloat(field, 64)
		if err != nil {
			return out
		}
		out = append(out, x)
	}
	return out
}
