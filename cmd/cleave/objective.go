package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cleaveml/cleave/scheduler"
)

// objectiveFlags say what the plans of a stream are ranked by.
type objectiveFlags struct{ objective, within string }

// register adds the flags; when says when they hold.
func (f *objectiveFlags) register(c *cobra.Command, when string) {
	c.Flags().StringVar(&f.objective, "objective", "", "what plans of the stream are ranked by: latency, traffic (bytes over the device's links) or device-time (its computing and coding), for example --objective traffic"+when)
	c.Flags().StringVar(&f.within, "within", "", "latency that a plan must keep to be taken for traffic or device-time, for example 200ms; 0: twice what the fastest takes"+when)
}

func (f *objectiveFlags) given() bool { return f.objective != "" || f.within != "" }

// parse returns what was given, nil for what was not.
func (f *objectiveFlags) parse() (o *scheduler.Objective, within *time.Duration, err error) {
	if f.objective != "" {
		given := scheduler.Objective(f.objective)
		v := scheduler.Settings{Objective: given}
		if v.Check() != nil {
			var names []string
			for _, o := range scheduler.Objectives() {
				names = append(names, string(o))
			}
			return nil, nil, usagef("--objective %q: want one of %s", f.objective, strings.Join(names, ", "))
		}
		o = &given
	}
	if f.within != "" {
		d, err := time.ParseDuration(f.within)
		if err != nil || d < 0 {
			return nil, nil, usagef("--within %q: want a time such as 200ms, or 0 for twice what the fastest plan takes", f.within)
		}
		within = &d
	}
	if o != nil && *o == scheduler.Latency && within != nil && *within > 0 {
		return nil, nil, usagef("--within %s: latency always takes the fastest plan; the bound is for traffic and device-time", f.within)
	}
	return o, within, nil
}

// settings are those of a stream to open with what was given.
func (f *objectiveFlags) settings(rawStays bool) (scheduler.Settings, error) {
	s := scheduler.Settings{RawStays: rawStays}
	o, within, err := f.parse()
	if o != nil {
		s.Objective = *o
	}
	if within != nil {
		s.Within = *within
		if err == nil && o == nil && *within > 0 {
			err = usagef("--within %s: say for which objective, --objective traffic or --objective device-time", f.within)
		}
	}
	return s, err
}

// aimLine says in words what the plans are ranked by, "" where it is latency.
func aimLine(s scheduler.Settings) string {
	what := "the fewest bytes over the origin's links"
	switch s.Ranks() {
	case scheduler.Latency:
		return ""
	case scheduler.Traffic:
	case scheduler.DeviceTime:
		what = "the least time of the origin"
	}
	if s.Within == 0 {
		return what + " within twice what the fastest plan takes"
	}
	return fmt.Sprintf("%s within %v", what, s.Within)
}
