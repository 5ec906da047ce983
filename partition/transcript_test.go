package partition

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cleaveml/cleave/models/tensor"
)

var rewrite = flag.Bool("rewrite", false, "write what the solver says now into testdata; review it as a diff")

// TestTranscripts replays testdata/*.txt: a command, "----", its output, an
// empty line. See command for the options.
func TestTranscripts(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.txt")
	if len(files) == 0 {
		t.Fatal("no transcripts")
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			old, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var now strings.Builder
			for _, block := range strings.Split(strings.TrimSpace(string(old)), "\n\n") {
				head, body, isCommand := strings.Cut(block+"\n", "----\n")
				if !isCommand {
					now.WriteString(block + "\n\n") // a remark
					continue
				}
				got := command(t, strings.Fields(head))
				if got != body && !*rewrite {
					t.Errorf("%s--- got\n%s--- want\n%s", head, got, body)
				}
				now.WriteString(head + "----\n" + got + "\n")
			}
			if *rewrite {
				if err := os.WriteFile(file, []byte(strings.TrimSpace(now.String())+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// command runs one line of a transcript: a verb, then any of
//
//	near=RATE/DELAY  far=RATE/DELAY   the links device–edge and edge–cloud; device–cloud is both in a row, or direct=RATE/DELAY
//	input=BYTES      pin=OP:HOST      private (nothing before conv1's output leaves)
//	timed=HOST:OPS:DURATION           k=N (shortlist)
func command(t *testing.T, words []string) string {
	t.Helper()
	o := map[string]string{}
	for _, w := range words[1:] {
		key, value, _ := strings.Cut(w, "=")
		o[key] = value
	}
	p, err := residual(t, o)
	if err != nil {
		return err.Error() + "\n"
	}
	line := func(plan Plan, err error) string {
		if err != nil {
			return err.Error() + "\n"
		}
		return plan.String() + "\n"
	}
	var out strings.Builder
	switch words[0] {
	case "solve":
		return line(Solve(p))
	case "strategies":
		for _, s := range Strategies() {
			out.WriteString(fmt.Sprintf("%-11s  ", s.Name) + line(s.Strategy(p)))
		}
	case "paths":
		for _, plan := range SolvePaths(p) {
			out.WriteString(line(plan, nil))
		}
	case "shortlist":
		k, _ := strconv.Atoi(o["k"])
		for _, plan := range Shortlist(p, k) {
			out.WriteString(fmt.Sprintf("%-10s  ", plan.Strategy) + line(plan, nil))
		}
	case "picture":
		plan, err := Solve(p)
		if err != nil {
			return err.Error() + "\n"
		}
		return plan.Picture(p)
	default:
		t.Fatalf("no verb %q", words[0])
	}
	return out.String()
}

// residual is a network of nine ops with a skip connection on a slow device, an
// edge server and a fast cloud host.
func residual(t *testing.T, o map[string]string) (Problem, error) {
	t.Helper()
	near, nearDelay := link(t, cmp.Or(o["near"], "100Mbps/2ms"))
	far, farDelay := link(t, cmp.Or(o["far"], "50Mbps/10ms"))
	p := threeHosts(near, nearDelay, far, farDelay)
	if o["direct"] != "" {
		rate, delay := link(t, o["direct"])
		p.Links[0][2] = Link{Rate: rate, Latency: delay}
		p.Links[2][0] = p.Links[0][2]
	}
	for _, op := range []struct {
		name string
		ms   float64 // on the cloud host
		in   []int   // values; 0 is the input, i+1 what op i makes
		kb   float64 // of what it makes
	}{
		{"decode", 1, []int{0}, 900}, {"conv1", 4, []int{1}, 800}, {"pool1", 0.5, []int{2}, 200}, {"conv2", 6, []int{3}, 200}, {"conv3", 6, []int{4}, 200},
		{"add", 0.2, []int{3, 5}, 200}, {"pool2", 0.2, []int{6}, 50}, {"fc", 3, []int{7}, 4}, {"softmax", 0.1, []int{8}, 4},
	} {
		i := len(p.Ops)
		p.Ops = append(p.Ops, Op{Name: op.name, Cost: slower(op.ms), Pin: Anywhere})
		for _, v := range op.in {
			if v == len(p.Values) {
				kb, err := strconv.ParseFloat(cmp.Or(o["input"], "50"), 64)
				if err != nil {
					t.Fatal(err)
				}
				p.Values = append(p.Values, Value{Name: "jpeg", Producer: -1, Encodings: []Encoding{
					{Codec: Raw, Bytes: tensor.Bytes(kb * 1e3), Encode: slower(0), Decode: slower(0)}}})
			}
			consume(&p, v, i)
		}
		p.Values = append(p.Values, Value{Name: op.name, Producer: i, Encodings: []Encoding{
			{Codec: Raw, Bytes: tensor.Bytes(op.kb * 1e3), Encode: slower(0), Decode: slower(0)},
			{Codec: "fp16", Bytes: tensor.Bytes(op.kb * 500), Encode: slower(op.kb * 5e-4), Decode: slower(op.kb * 5e-4)},
		}})
	}
	p.Values[len(p.Values)-1].Output = true
	return options(t, p, o)
}

func options(t *testing.T, p Problem, o map[string]string) (Problem, error) {
	t.Helper()
	if pin := o["pin"]; pin != "" {
		for _, one := range strings.Split(pin, ",") {
			op, host, _ := strings.Cut(one, ":")
			for i := range p.Ops {
				if p.Ops[i].Name == op {
					p.Ops[i].Pin = map[string]int{"device": 0, "edge": 1, "cloud": 2}[host]
				}
			}
		}
	}
	if timed := o["timed"]; timed != "" {
		part := strings.Split(timed, ":")
		d, err := time.ParseDuration(part[2])
		if err != nil {
			t.Fatal(err)
		}
		p.Timed = map[Segment]time.Duration{{HostID(part[0]), part[1]}: d}
	}
	if _, private := o["private"]; private {
		raw := make([]bool, len(p.Values))
		raw[0], raw[1] = true, true
		return RawStaysOnDevice(p, raw)
	}
	return p, nil
}

func slower(ms float64) []time.Duration {
	d := time.Duration(ms * float64(time.Millisecond))
	return []time.Duration{16 * d, 2 * d, d}
}

func link(t *testing.T, s string) (BitsPerSecond, time.Duration) {
	t.Helper()
	rate, delay, _ := strings.Cut(s, "/")
	number, err := strconv.ParseFloat(strings.TrimSuffix(rate, "Mbps"), 64)
	if err != nil {
		t.Fatal(err)
	}
	d, err := time.ParseDuration(delay)
	if err != nil {
		t.Fatal(err)
	}
	return BitsPerSecond(number) * Mbps, d
}
