package demo

import (
	_ "embed" // the text of method

	"github.com/cleaveml/cleave/benchmarks"
)

//go:embed method.md
var method string

// Experiment is what the demo is about.
func Experiment() benchmarks.Experiment {
	return benchmarks.Experiment{
		Name:   "demo",
		About:  "the main job: one stream through six scenes against every single-host strategy",
		Method: method,
		Goals: []benchmarks.Goal{
			benchmarks.AtMost("lost", "requests", 0, "requests with neither an answer nor a typed refusal by their deadline"),
			benchmarks.AtMost("wrong", "answers", 0, "answers that are not the uncut network's ([what is right](models.md#answers-that-are-right))"),
			benchmarks.AtMost("refused", "requests", 0, "requests that ended with a typed refusal"),
			benchmarks.AtMost("p50_over_best_fixed_worst_scene", "ratio", 1.10, "p50 of Cleave over that of the best fixed strategy that is possible in the scene, in the worst scene"),
			benchmarks.AtLeast("private_is_split", "bool", 1, "1 if the plan in `private` uses more than one host"),
			benchmarks.AtMost("private_p50_over_device_only", "ratio", 0.92, "p50 of Cleave over that of device-only, in `private`"),
			benchmarks.AtMost("replan_seconds_max", "s", 3, "the longest `replan_seconds`"),
			benchmarks.AtMost("switches", "switches", 8, "changes of the stream's plan after its start, whole run"),
			benchmarks.Told("late_switches", "switches", benchmarks.Lower, "those of them after the stream had settled"),
			benchmarks.AtLeast("kill_inflight", "requests", 1, "requests under way at the kill, by a plan that goes through the host"),
			benchmarks.AtMost("kill_inflight_lost", "requests", 0, "those under way at the kill without an answer"),
		},
	}
}
