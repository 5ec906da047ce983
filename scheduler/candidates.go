package scheduler

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cleaveml/cleave/partition"
)

// Plans are those that a stream may run by: each is best for some state of the
// links, with and without raw-stays-on-device, at most so many, and those of
// the single-host strategies besides. The first runs everything on the source.
func Plans(p partition.Problem, raw []bool, most int) ([]partition.Plan, error) {
	plans := partition.Candidates(p, raw, nil, most)
	for _, s := range SingleHost() {
		if plan, err := s.Strategy(p); err == nil && !slices.ContainsFunc(plans, plan.Equal) {
			plans = append(plans, plan)
		}
	}
	alone := slices.IndexFunc(plans, func(plan partition.Plan) bool { return len(plan.Path) == 1 })
	if alone < 0 {
		return nil, errors.New("this host cannot run the network alone")
	}
	plans[0], plans[alone] = plans[alone], plans[0]
	return plans, nil
}

// SingleHost lists the strategies that run everything on one host.
func SingleHost() []partition.NamedStrategy {
	return slices.DeleteFunc(partition.Strategies(), func(s partition.NamedStrategy) bool {
		return s.Name != "device-only" && s.Name != "edge-only" && s.Name != "cloud-only"
	})
}

// Candidates gives plans names that say in a few words what each does. raw says
// of each value whether it is raw input.
func Candidates(plans []partition.Plan, raw []bool) []Candidate {
	var out []Candidate
	for _, plan := range plans {
		_, crosses := plan.CrossesRaw(raw)
		out = append(out, Candidate{Name: nameOf(plan, out), Plan: plan, Raw: crosses})
	}
	return out
}

// nameOf is a name unlike the others'.
func nameOf(plan partition.Plan, others []Candidate) string {
	var parts []string
	for _, st := range plan.Stages {
		if len(st.Ops) > 0 {
			parts = append(parts, fmt.Sprintf("%s:%s", st.Host, partition.SetKey(st.Ops)))
		}
	}
	name := strings.Join(parts, "+")
	base := name
	for n := 2; slices.ContainsFunc(others, func(c Candidate) bool { return c.Name == name }); n++ {
		name = fmt.Sprintf("%s#%d", base, n)
	}
	return name
}
