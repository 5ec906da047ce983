package link

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
)

// MTU is what one chance of a trace delivers at most.
const MTU tensor.Bytes = 1500

// maxChances bounds a trace: 80 MB of memory, 20 minutes at 100 Mbps.
const maxChances = 10_000_000

// Trace is a recording of when a wire could deliver: at each of its chances up
// to MTU bytes, which are lost if nothing waits. It begins anew when it ends
// (Netravali et al. 2015, Mahimahi, §4). It is not changed once made.
type Trace struct {
	chances []time.Duration // ascending, from 0 on; several may be equal
	period  time.Duration
	file    string // where OpenTrace found it
}

// NewTrace makes a trace of chances in ascending order that repeats after a
// period, which is not before the last.
func NewTrace(chances []time.Duration, period time.Duration) (*Trace, error) {
	switch {
	case len(chances) == 0:
		return nil, errors.New("trace: it never delivers")
	case len(chances) > maxChances:
		return nil, fmt.Errorf("trace: %d chances, want %d at most", len(chances), maxChances)
	case chances[0] < 0 || period <= 0 || period < chances[len(chances)-1]:
		return nil, fmt.Errorf("trace: chances from %v to %v in a period of %v", chances[0], chances[len(chances)-1], period)
	}
	for i := 1; i < len(chances); i++ {
		if chances[i] < chances[i-1] {
			return nil, fmt.Errorf("trace: chance %d at %v is before the one in front", i+1, chances[i])
		}
	}
	return &Trace{chances: chances, period: period}, nil
}

// OpenTrace reads the trace in a file: a log of throughput if its name ends in
// .csv, else Mahimahi's form.
func OpenTrace(path string) (*Trace, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("trace: %w", err)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("trace: %w", err)
	}
	defer f.Close()
	read := ReadMahimahi
	if strings.EqualFold(filepath.Ext(path), ".csv") {
		read = ReadCSV
	}
	t, err := read(f)
	if err != nil {
		return nil, fmt.Errorf("trace %s: %s", path, strings.TrimPrefix(err.Error(), "trace: "))
	}
	t.file = path
	return t, nil
}

// ReadMahimahi reads a trace in Mahimahi's form: one line per chance, its time
// in milliseconds. The trace repeats after the last of them.
func ReadMahimahi(r io.Reader) (*Trace, error) {
	var chances []time.Duration
	err := eachLine(r, func(line string) error {
		ms, err := strconv.ParseUint(line, 10, 32)
		if err != nil {
			return fmt.Errorf("%.20q is no time in milliseconds", line)
		}
		at := time.Duration(ms) * time.Millisecond
		if n := len(chances); n > 0 && at < chances[n-1] {
			return fmt.Errorf("%v is before the line in front, %v", at, chances[n-1])
		}
		if chances = append(chances, at); len(chances) > maxChances {
			return fmt.Errorf("more than %d chances", maxChances)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(chances) == 0 {
		return nil, errors.New("trace: it has no line")
	}
	return NewTrace(chances, max(chances[len(chances)-1], time.Millisecond))
}

// ReadCSV reads a log of throughput: lines of seconds and Mbps, each rate from
// its time to the next line's, the last for as long as the one in front. A
// first line without numbers is a heading.
func ReadCSV(r io.Reader) (*Trace, error) {
	type step struct{ at, mbps float64 }
	var steps []step
	first := true
	err := eachLine(r, func(line string) error {
		fields := strings.Split(line, ",")
		if len(fields) < 2 {
			return fmt.Errorf("%.40q: want seconds,Mbps", line)
		}
		at, err1 := strconv.ParseFloat(strings.TrimSpace(fields[0]), 64)
		mbps, err2 := strconv.ParseFloat(strings.TrimSpace(fields[1]), 64)
		heading := first && err1 != nil && err2 != nil
		first = false
		switch {
		case heading:
			return nil
		case err1 != nil || err2 != nil || !(at >= 0 && at < 1e7) || !(mbps >= 0 && mbps < 1e6):
			return fmt.Errorf("%.40q: want seconds,Mbps", line)
		case len(steps) > 0 && at <= steps[len(steps)-1].at:
			return fmt.Errorf("%v s is not after the line in front", at)
		}
		steps = append(steps, step{at, mbps})
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(steps) < 2 {
		return nil, errors.New("trace: a log of throughput has two lines at least")
	}
	n := len(steps)
	end := 2*steps[n-1].at - steps[n-2].at
	start := steps[0].at
	var chances []time.Duration
	bytes := 0.0 // since the last chance
	for i, s := range steps {
		until := end
		if i+1 < n {
			until = steps[i+1].at
		}
		perSecond := s.mbps * 1e6 / 8
		at := s.at
		for perSecond > 0 {
			next := at + (float64(MTU)-bytes)/perSecond
			if next > until {
				bytes += (until - at) * perSecond
				break
			}
			at, bytes = next, 0
			if chances = append(chances, seconds(at-start)); len(chances) > maxChances {
				return nil, fmt.Errorf("trace: more than %d packets of %d bytes", maxChances, MTU)
			}
		}
	}
	if len(chances) == 0 {
		return nil, errors.New("trace: it never delivers")
	}
	return NewTrace(chances, max(seconds(end-start), chances[len(chances)-1]))
}

func seconds(s float64) time.Duration { return time.Duration(math.Round(s * 1e9)) }

// eachLine calls f for every line that is not empty and no comment, and names
// the line in errors.
func eachLine(r io.Reader, f func(line string) error) error {
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		if err := f(line); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
	return lines.Err()
}

// Mean is the rate of a wire that always has something to send.
func (t *Trace) Mean() partition.BitsPerSecond {
	return partition.BitsPerSecond(float64(len(t.chances)) * float64(MTU) * 8 / t.period.Seconds())
}

// Period is after how long the trace begins anew.
func (t *Trace) Period() time.Duration { return t.period }

// chance is the time of the n-th, counted on through repetitions.
func (t *Trace) chance(n int64) time.Duration {
	size := int64(len(t.chances))
	return time.Duration(n/size)*t.period + t.chances[n%size]
}

// after is the first chance that is not before a time.
func (t *Trace) after(at time.Duration) int64 {
	size := int64(len(t.chances))
	round := int64(at / t.period)
	rest := at - time.Duration(round)*t.period
	if i := sort.Search(len(t.chances), func(i int) bool { return t.chances[i] >= rest }); i < len(t.chances) {
		return round*size + int64(i)
	}
	return (round + 1) * size
}
