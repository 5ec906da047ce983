package nodes_test

import (
	"strings"
	"testing"
	"time"

	"github.com/cleaveml/cleave/nodes"
	"github.com/cleaveml/cleave/scheduler"
)

// TestStreamObjective: what the plans of a stream are ranked by is set through
// any agent and holds for the next request; nonsense is refused with what would
// do, and changes nothing.
func TestStreamObjective(t *testing.T) {
	c := newTrio(t, nil)
	st := open(t, c)
	if st.Settings.Objective != scheduler.Latency {
		t.Errorf("a stream opens with the objective %q", st.Settings.Objective)
	}
	traffic, hour, none := scheduler.Traffic, time.Hour, time.Duration(0)
	st, err := c.client(t, "cloud").Set(t.Context(), nodes.SetRequest{Stream: "s", Origin: "device", Objective: &traffic, Within: &hour})
	must(t, err)
	if v := st.Settings; v.Objective != traffic || v.Within != hour || v.Version != 1 {
		t.Errorf("settings are %+v", v)
	}
	app := c.client(t, "device")
	answers, report, err := app.Send(t.Context(), c.g, "s", input())
	must(t, err)
	check(t, answers)
	if len(report.Hosts) != 1 || report.Hosts[0].Sent != 0 {
		t.Errorf("with an hour's time, a request for the least traffic ran on %+v", report.Hosts)
	}
	st, err = app.Set(t.Context(), nodes.SetRequest{Stream: "s", Within: &none})
	must(t, err)
	if v := st.Settings; v.Objective != traffic || v.Within != 0 || v.Version != 2 {
		t.Errorf("without a bound of its own the settings are %+v", v)
	}
	nonsense, never := scheduler.Objective("money"), -time.Second
	latency := scheduler.Latency
	for want, r := range map[string]nodes.SetRequest{
		`no "money"; want one of latency, traffic, device-time`: {Objective: &nonsense},
		"want more than 0":                      {Within: &never},
		"latency always takes the fastest plan": {Objective: &latency, Within: &hour},
	} {
		r.Stream = "s"
		_, err := app.Set(t.Context(), r)
		if nodes.KindOf(err) != nodes.Invalid || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%+v: %v, want %q", r, err, want)
		}
	}
	if now, err := c.hosts["device"].agent.Stream("s"); err != nil || now.Settings.Version != 2 || now.Settings.Objective != traffic {
		t.Errorf("nonsense left %+v, %v", now.Settings, err)
	}
	if st, err = app.Set(t.Context(), nodes.SetRequest{Stream: "s", Objective: &latency}); err != nil || st.Settings.Within != 0 {
		t.Errorf("back to latency: %+v, %v", st.Settings, err)
	}
}

// TestOpenWithObjective: a stream starts with it, and not with a bad one.
func TestOpenWithObjective(t *testing.T) {
	c := newTrio(t, nil)
	st := open(t, c, func(r *nodes.OpenRequest) {
		r.Settings = scheduler.Settings{Objective: scheduler.DeviceTime, Within: time.Hour}
	})
	if v := st.Settings; v.Objective != scheduler.DeviceTime || v.Within != time.Hour {
		t.Errorf("it opens with %+v", v)
	}
	for _, s := range st.Plan.Stages {
		if s.Host == "device" && len(s.Ops) > 0 && s.Compute > 0 {
			t.Errorf("with an hour's time, the device computes for %v: %v", s.Compute, st.Plan)
		}
	}
	_, err := c.client(t, "device").Open(t.Context(), c.g, nodes.OpenRequest{Stream: "t", Settings: scheduler.Settings{Objective: "money"}}, input(), nil)
	if nodes.KindOf(err) != nodes.Invalid || !strings.Contains(err.Error(), "want one of latency") {
		t.Errorf("a bad objective: %v", err)
	}
}
