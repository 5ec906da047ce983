package scheduler

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
)

var rewrite = flag.Bool("rewrite", false, "write what the scheduler does now into testdata; review it as a diff")

// TestTranscripts replays testdata/*.txt: lines of commands, "----", what the
// scheduler did, an empty line. A block without "----" is a remark. Every file
// is the life of one scheduler; see scene.run for the commands.
func TestTranscripts(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.txt")
	if len(files) == 0 {
		t.Fatal("no transcripts")
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			old, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			sc := newScene(t)
			var now strings.Builder
			for _, block := range strings.Split(strings.TrimSpace(string(old)), "\n\n") {
				head, body, isCommand := strings.Cut(block+"\n", "----\n")
				if !isCommand {
					now.WriteString(block + "\n\n")
					continue
				}
				got := ""
				for line := range strings.Lines(head) {
					got += sc.run(strings.Fields(line))
				}
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

// scene is a scheduler whose clock starts at 0s, with what a transcript names.
type scene struct {
	t     testing.TB
	s     *Scheduler
	plans []Candidate
	names map[Epoch]string
	warm  map[string]Epoch // of the latest Warm of a name
	last  map[Probe]LinkMeasured
}

var dawn = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func newScene(t testing.TB) *scene {
	s, err := New(Config{Self: "device"})
	if err != nil {
		t.Fatal(err)
	}
	return &scene{t: t, s: s, names: map[Epoch]string{0: "nothing"}, warm: map[string]Epoch{}, last: map[Probe]LinkMeasured{}}
}

// run does one line of a transcript and returns what the scheduler did:
//
//	plan NAME [raw] HOST TIME [BYTES HOST TIME]… [BYTES]   a candidate; the last BYTES are the answer's
//
// or a time, then one of
//
//	joined|left|suspect HOST         link A B RATE DELAY [rel=SHARE]      load HOST FACTOR
//	says HOST LOAD                   what share of its slots is in use
//	profiled|set STREAM [PLAN…] [v=VERSION] [raw-stays] [pin=NAME] [drain=HOST,HOST]
//	                                 [objective=NAME] [within=TIME]
//	closed STREAM                    warmed STREAM NAME [refused] [err=WORD]
//	done STREAM NAME TIME [xTIMES] [fallback=HOST]
//	tick                             ticks (every second from the clock's time to this one), ticks answered (as the
//	                                 link was last, unseen)
//	choose STREAM                    state STREAM
func (sc *scene) run(words []string) string {
	if words[0] == "plan" {
		sc.plans = append(sc.plans, sc.plan(words[1:]))
		return ""
	}
	at := dawn.Add(sc.duration(words[0]))
	verb, args := words[1], words[2:]
	switch verb {
	case "ticks":
		out := ""
		for now := sc.s.now.Add(time.Second); !now.After(at); now = now.Add(time.Second) {
			actions := sc.s.Step(now, Tick{})
			for i := 0; i < len(actions); i++ {
				if p, ok := actions[i].(Probe); ok && len(args) > 0 {
					actions = append(actions, sc.s.Step(now, sc.last[p])...)
					continue
				}
				out += sc.line(now, "%s", sc.say(actions[i]))
			}
		}
		return out
	case "choose":
		c, ok := sc.s.Choose(at, StreamID(args[0]))
		if !ok {
			return sc.line(at, "no such stream")
		}
		changed := ""
		if c.Switched {
			changed = ", switched"
		}
		return sc.line(at, "runs %s, %s%s", sc.names[c.Epoch], brief(float64(c.Predicted)), changed)
	case "state":
		return sc.state(at, StreamID(args[0]))
	case "done":
		times := 1
		for _, a := range args[3:] {
			if n, ok := strings.CutPrefix(a, "x"); ok {
				times, _ = strconv.Atoi(n)
			}
		}
		out := ""
		for range times {
			out += sc.step(at, sc.event(verb, args))
		}
		return out
	}
	return sc.step(at, sc.event(verb, args))
}

func (sc *scene) event(verb string, args []string) Event {
	opt := map[string]string{}
	for _, a := range args {
		k, v, _ := strings.Cut(a, "=")
		opt[k] = v
	}
	host := func(i int) partition.HostID { return partition.HostID(args[i]) }
	switch verb {
	case "joined":
		return Joined{Host: host(0), Tier: partition.Tier(args[0])}
	case "left":
		return Left{Host: host(0)}
	case "suspect":
		return Suspect{Host: host(0)}
	case "load":
		return LoadChanged{Host: host(0), Factor: sc.number(args[1])}
	case "says":
		return Utilised{Host: host(0), Load: sc.number(args[1])}
	case "link":
		l := partition.Link{
			Rate:    partition.BitsPerSecond(sc.number(strings.TrimSuffix(args[2], "Mbps"))) * partition.Mbps,
			Latency: sc.duration(args[3]),
		}
		e := LinkMeasured{From: host(0), To: host(1), Out: l, In: l}
		if r, ok := opt["rel"]; ok {
			e.Rel = sc.number(r)
		}
		sc.last[Probe{e.From, e.To}] = e
		return e
	case "profiled", "set":
		return sc.settings(verb, args, opt)
	case "closed":
		return Closed{StreamID(args[0])}
	case "warmed":
		_, refused := opt["refused"]
		return Warmed{Stream: StreamID(args[0]), Epoch: sc.warm[args[1]], Refused: refused, Err: opt["err"]}
	case "done":
		return Done{Stream: StreamID(args[0]), Epoch: sc.warm[args[1]], Latency: sc.duration(args[2]), Fallback: partition.HostID(opt["fallback"])}
	case "tick":
		return Tick{}
	}
	sc.t.Fatalf("no verb %q", verb)
	return nil
}

func (sc *scene) settings(verb string, args []string, opt map[string]string) Event {
	v := Settings{Pin: opt["pin"], Objective: Objective(opt["objective"])}
	if d, ok := opt["within"]; ok {
		v.Within = sc.duration(d)
	}
	if n, ok := opt["v"]; ok {
		v.Version = uint64(sc.number(n))
	}
	_, v.RawStays = opt["raw-stays"]
	if d := opt["drain"]; d != "" {
		for _, id := range strings.Split(d, ",") {
			v.Drain = append(v.Drain, partition.HostID(id))
		}
	}
	stream := StreamID(args[0])
	if verb == "set" {
		return SettingsChanged{Stream: stream, Settings: v}
	}
	e := Profiled{Stream: stream, Settings: v}
	for _, c := range sc.plans {
		if slices.Contains(args[1:], c.Name) {
			e.Candidates = append(e.Candidates, c)
		}
	}
	if len(e.Candidates) == 0 {
		e.Candidates = sc.plans
	}
	return e
}

func (sc *scene) step(at time.Time, e Event) string {
	out := ""
	for _, a := range sc.s.Step(at, e) {
		out += sc.line(at, "%s", sc.say(a))
	}
	return out
}

func (sc *scene) say(a Action) string {
	switch a := a.(type) {
	case Warm:
		name := sc.s.byName[a.Stream].candidates[a.Candidate].Name
		sc.names[a.Epoch], sc.warm[name] = name, a.Epoch
		return fmt.Sprintf("warm %s (epoch %d)", name, a.Epoch)
	case Switch:
		was := ""
		if a.Before > 0 {
			was = ", was " + brief(float64(a.Before))
		}
		return fmt.Sprintf("switch %s → %s, %s%s: %s", sc.names[a.From], sc.names[a.To], brief(float64(a.Predicted)), was, a.Reason)
	case Drain:
		return fmt.Sprintf("drain %s (epoch %d)", sc.names[a.Epoch], a.Epoch)
	case Probe:
		return fmt.Sprintf("probe %s–%s", a.From, a.To)
	case Alarm:
		return "alarm: " + a.Reason
	}
	sc.t.Fatalf("no words for %T", a)
	return ""
}

func (sc *scene) state(at time.Time, id StreamID) string {
	sc.s.Choose(at, id)
	state, ok := sc.s.State(id)
	if !ok {
		return sc.line(at, "no such stream")
	}
	out := ""
	if state.Bound > 0 {
		out = sc.line(at, "%s within %s", state.Settings.Objective, brief(float64(state.Bound)))
	}
	for i, c := range state.Candidates {
		mark := ""
		if state.Bound > 0 {
			mark = fmt.Sprintf(", %v, %v of the source", c.Traffic, c.DeviceTime)
		}
		if i == state.Current {
			mark += "  ← current"
		}
		out += sc.line(at, "%-6s %-11s %s%s", c.Name, c.State, brief(float64(c.Predicted)), mark)
	}
	for _, l := range state.Links {
		known := "never measured"
		if l.Measured {
			known = fmt.Sprintf("%gMbps %v, %v ago", float64(l.Link.Rate/partition.Mbps), l.Link.Latency, l.Age)
		}
		out += sc.line(at, "%s→%s %s", l.From, l.To, known)
	}
	return out
}

func (sc *scene) line(at time.Time, format string, args ...any) string {
	return fmt.Sprintf("%-6v ", at.Sub(dawn)) + fmt.Sprintf(format, args...) + "\n"
}

// plan makes a candidate of its words.
func (sc *scene) plan(words []string) Candidate {
	c := Candidate{Name: words[0]}
	words = words[1:]
	if words[0] == "raw" {
		c.Raw, words = true, words[1:]
	}
	var sizes []tensor.Bytes
	for i := 0; i < len(words); i++ {
		if size, ok := strings.CutSuffix(words[i], "KB"); ok {
			sizes = append(sizes, tensor.Bytes(1000*sc.number(size)))
			continue
		}
		id := partition.HostID(words[i])
		i++
		c.Plan.Path = append(c.Plan.Path, id)
		c.Plan.Stages = append(c.Plan.Stages, partition.Stage{Host: id, Compute: sc.duration(words[i])})
	}
	c.Plan.Hops, c.Plan.Back = hops(c.Plan.Path, sizes)
	return c
}

// hops sends one size over each link out, and the last over each back.
func hops(path []partition.HostID, sizes []tensor.Bytes) (out, back []partition.Hop) {
	for i := range len(path) - 1 {
		hop := partition.Hop{From: path[i], To: path[i+1], Tensors: []partition.Crossing{{Value: i, Codec: partition.Raw, Bytes: sizes[i]}}}
		answer := partition.Hop{From: path[i+1], To: path[i], Tensors: []partition.Crossing{{Value: len(path), Codec: partition.Raw, Bytes: sizes[len(sizes)-1]}}}
		out = append(out, hop)
		back = append([]partition.Hop{answer}, back...)
	}
	return out, back
}

func (sc *scene) duration(s string) time.Duration {
	d, err := time.ParseDuration(s)
	if err != nil {
		sc.t.Fatal(err)
	}
	return d
}

func (sc *scene) number(s string) float64 {
	x, err := strconv.ParseFloat(s, 64)
	if err != nil {
		sc.t.Fatal(err)
	}
	return x
}
