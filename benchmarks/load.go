package benchmarks

import (
	"fmt"
	"os"
	"path/filepath"
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
	p.own = familyTicks(os.Getpid())
	return p
}

// familyTicks is the time of a process, of all that it has started and of those
// among them that have ended.
func familyTicks(root int) float64 {
	parent, ticks := map[int]int{}, map[int]float64{}
	paths, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is good
	for _, path := range paths {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			continue
		}
		// Behind the name, which may hold anything: the state is field 3 of proc(5),
		// the parent 4; the times, with those of children that have ended, 14 to 17.
		text := procText(path)
		_, numbers, ok := strings.Cut(text[strings.LastIndexByte(text, ')')+1:], " ")
		if !ok || len(numbers) < 2 {
			continue // it has ended
		}
		if fields := floats(numbers[2:]); len(fields) > 13 {
			parent[pid] = int(fields[0])
			ticks[pid] = fields[10] + fields[11] + fields[12] + fields[13]
		}
	}
	sum := 0.0
	for pid := range parent {
		at := pid
		for range len(parent) { // not further, should the list be torn
			if at == root || at == 0 {
				break
			}
			at = parent[at]
		}
		if at == root {
			sum += ticks[pid]
		}
	}
	return sum
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
