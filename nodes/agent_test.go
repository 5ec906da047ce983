package nodes_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/nodes"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/quic"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestEveryPlanGivesTheWholeAnswer: all monotone assignments of the diamond.
func TestEveryPlanGivesTheWholeAnswer(t *testing.T) {
	c := newTrio(t, nil)
	app := c.client(t, "device")
	plans := 0
	var try func(assign []int)
	try = func(assign []int) {
		if len(assign) < len(c.g.Ops) {
			low := 0
			for _, v := range c.g.Ops[len(assign)].Inputs {
				if p := c.g.Values[v].Producer; p != models.FromInput {
					low = max(low, assign[p])
				}
			}
			for h := low; h < 3; h++ {
				try(append(assign[:len(assign):len(assign)], h))
			}
			return
		}
		plans++
		plan := c.plan(t, assign...)
		epoch, err := app.Adopt(t.Context(), nodes.AdoptRequest{Model: c.g.Digest, Plan: plan})
		must(t, err)
		answers, report, err := app.Infer(t.Context(), c.g, epoch, input())
		if err != nil {
			t.Fatalf("%v: %v", plan, err)
		}
		check(t, answers)
		ops := 0
		within := report.Elapsed // the wait for a host holds all that it did
		for _, h := range report.Hosts {
			ops += h.Ops
			if spent := h.Queue + h.Decode + h.Compute + h.Encode + h.Other + h.Next; h.Other <= 0 || spent > within {
				t.Errorf("%v: %s says %+v, %v in all, of %v", plan, h.Host, h, spent, within)
			}
			within = h.Next
			if h.Fallback != "" {
				t.Errorf("%v: %s fell back: %s", plan, h.Host, h.Fallback)
			}
		}
		if ops != len(c.g.Ops) || report.Epoch != epoch {
			t.Errorf("%v: the report counts %d ops, epoch %d", plan, ops, report.Epoch)
		}
	}
	try(nil)
	if plans < 20 {
		t.Errorf("only %d plans", plans)
	}
}

// TestPeerDiesMidRequest: the sender still holds the cut tensor and finishes.
func TestPeerDiesMidRequest(t *testing.T) {
	c := newTrio(t, nil)
	app := c.client(t, "device")
	epoch, err := app.Adopt(t.Context(), nodes.AdoptRequest{Model: c.g.Digest, Plan: c.plan(t, 0, 0, 1, 1, 2)})
	must(t, err)
	edge := c.hosts["edge"]
	edge.engine.setHold(func(ctx context.Context, _ int) error {
		go edge.endpoint.Close() // the host goes down with the request in its hands
		<-ctx.Done()
		return ctx.Err()
	})
	answers, report, err := app.Infer(t.Context(), c.g, epoch, input())
	must(t, err)
	check(t, answers)
	if len(report.Hosts) != 1 || report.Hosts[0].Fallback == "" || report.Hosts[0].Ops != 5 {
		t.Errorf("the report is %+v", report.Hosts)
	}
	// and the next request does not even get through
	answers, _, err = app.Infer(t.Context(), c.g, epoch, input())
	must(t, err)
	check(t, answers)
}

// TestCloudDiesBehindTheEdge: the edge finishes what the cloud should have done.
func TestCloudDiesBehindTheEdge(t *testing.T) {
	c := newTrio(t, nil)
	app := c.client(t, "device")
	epoch, err := app.Adopt(t.Context(), nodes.AdoptRequest{Model: c.g.Digest, Plan: c.plan(t, 0, 0, 1, 1, 2)})
	must(t, err)
	c.hosts["cloud"].engine.setHold(func(context.Context, int) error { return errors.New("out of memory") })
	answers, report, err := app.Infer(t.Context(), c.g, epoch, input())
	must(t, err)
	check(t, answers)
	if len(report.Hosts) != 2 || !strings.Contains(report.Hosts[1].Fallback, "out of memory") {
		t.Errorf("the report is %+v", report.Hosts)
	}
}

// TestSlowPeerIsGivenUpInTime: a peer that never answers costs half of the
// budget, not all of it.
func TestSlowPeerIsGivenUpInTime(t *testing.T) {
	c := newTrio(t, nil)
	app := c.client(t, "device")
	_, err := app.Plan(t.Context(), c.g, nodes.PlanRequest{Runs: 1, Cuts: 1}, input(), nil) // the device learns what it takes itself
	must(t, err)
	epoch, err := app.Adopt(t.Context(), nodes.AdoptRequest{Model: c.g.Digest, Plan: c.plan(t, 0, 0, 1, 1, 1)})
	must(t, err)
	c.hosts["edge"].engine.setHold(func(ctx context.Context, _ int) error { <-ctx.Done(); return ctx.Err() })
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	answers, report, err := app.Infer(ctx, c.g, epoch, input())
	must(t, err)
	check(t, answers)
	if report.Hosts[0].Fallback == "" {
		t.Errorf("the report is %+v", report.Hosts)
	}
}

// TestDeadline: when no host can answer in time the refusal is typed.
func TestDeadline(t *testing.T) {
	c := newTrio(t, nil)
	device := c.hosts["device"]
	reply, err := device.agent.Adopt(t.Context(), nodes.AdoptRequest{Model: c.g.Digest, Plan: c.plan(t, 0, 0, 0, 0, 0)})
	must(t, err)
	device.engine.setHold(func(ctx context.Context, _ int) error { <-ctx.Done(); return ctx.Err() })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	x := nodes.Values{c.g.Inputs[0]: input()["x"]}
	_, _, err = device.agent.Infer(ctx, reply.Epoch, x)
	if nodes.KindOf(err) != nodes.Deadline {
		t.Errorf("got %v", err)
	}
}

// TestRawStaysOnDevice: planner, origin and receiver each refuse to let raw
// input cross, whoever asks.
func TestRawStaysOnDevice(t *testing.T) {
	c := newTrio(t, nil)
	app := c.client(t, "device")
	crossing := c.plan(t, 0, 1, 1, 1, 1) // a's output is still raw
	_, err := app.Adopt(t.Context(), nodes.AdoptRequest{Model: c.g.Digest, Plan: crossing, RawStays: true})
	if nodes.KindOf(err) != nodes.Policy || !strings.Contains(err.Error(), `"a"`) {
		t.Errorf("origin: got %v", err)
	}
	epoch, err := app.Adopt(t.Context(), nodes.AdoptRequest{Model: c.g.Digest, Plan: c.plan(t, 0, 0, 1, 1, 1), RawStays: true})
	must(t, err)
	answers, _, err := app.Infer(t.Context(), c.g, epoch, input())
	must(t, err)
	check(t, answers)
	reply, err := app.Plan(t.Context(), c.g, nodes.PlanRequest{Runs: 1, Cuts: 1, RawStays: true}, input(), nil)
	must(t, err)
	if v, crosses := reply.Chosen.CrossesRaw(nodes.RawValues(c.g)); crosses {
		t.Errorf("planner: %v sends %s", reply.Chosen, c.g.Values[v].Name)
	}
	for _, f := range reply.Fixed {
		if f.Strategy != "device-only" && f.Infeasible == "" {
			t.Errorf("planner: %s is allowed", f.Strategy)
		}
	}
}

// TestPolicyOfTheHostBindsEveryRequest: an operator's rule is not the client's to lift.
func TestPolicyOfTheHostBindsEveryRequest(t *testing.T) {
	c := newTrio(t, func(cfg *nodes.Config) { cfg.RawStays = cfg.ID == "device" })
	_, err := c.client(t, "device").Adopt(t.Context(), nodes.AdoptRequest{Model: c.g.Digest, Plan: c.plan(t, 1, 1, 1, 1, 1)})
	if nodes.KindOf(err) != nodes.Policy {
		t.Errorf("got %v", err)
	}
}

// send sends a frame of any kind as an application and returns the reply's error.
func (c *trio) send(t *testing.T, to partition.HostID, kind, control string, tensors map[string]tensor.Tensor) string {
	t.Helper()
	return sendFrom(t, c.app, to, kind, control, tensors)
}

func sendFrom(t *testing.T, from *quic.Endpoint, to partition.HostID, kind, control string, tensors map[string]tensor.Tensor) string {
	t.Helper()
	conn, err := from.Conn(t.Context(), to)
	must(t, err)
	s, err := conn.Open(t.Context())
	must(t, err)
	defer s.Cancel(transport.CancelUnwanted)
	f := transport.NewFrame(kind)
	f.Header.Control = []byte(control)
	for name, x := range tensors {
		must(t, f.Add(name, transport.Raw, x))
	}
	must(t, s.Send(t.Context(), f))
	must(t, s.CloseSend())
	reply, err := s.Receive(t.Context())
	must(t, err)
	defer reply.Release()
	if reply.Header.Kind != transport.KindError {
		return ""
	}
	return reply.Header.Error.GetKind() + ": " + reply.Header.Error.GetMessage()
}

// TestForgedRequestsAreRefused: every frame that makes no sense gets a typed
// refusal, and the agent goes on.
func TestForgedRequestsAreRefused(t *testing.T) {
	c := newTrio(t, nil)
	model := string(c.g.Digest)
	raw := input()["x"]
	for _, tc := range []struct {
		name, kind, control, want string
		tensors                   map[string]tensor.Tensor
	}{
		{"unknown kind", "dance", ``, `invalid: serve on edge: no request is called "dance"`, nil},
		{"no JSON", "segment", `{`, "invalid: run segment on edge: unreadable request", nil},
		{"no steps", "segment", `{"model":"` + model + `"}`, "invalid: run segment on edge: the plan's next step is not this host's", nil},
		{"another's step", "segment", `{"model":"` + model + `","steps":[{"host":"cloud","ops":[[0,5]]}]}`, "invalid: run segment on edge: the plan's next step is not this host's", nil},
		{"unknown model", "segment", `{"model":"beef","steps":[{"host":"edge","ops":[[0,5]]}]}`, "not found: open model on edge", nil},
		{"ops beyond the graph", "segment", `{"model":"` + model + `","steps":[{"host":"edge","ops":[[0,9]]}]}`, "invalid: read plan: ops [0,9)", map[string]tensor.Tensor{"0": raw}},
		{"ops backwards", "segment", `{"model":"` + model + `","steps":[{"host":"edge","ops":[[3,2]]}]}`, "invalid: read plan: ops [3,2)", map[string]tensor.Tensor{"0": raw}},
		{"missing tensor", "segment", `{"model":"` + model + `","steps":[{"host":"edge","ops":[[1,5]]}]}`, `needs value "a"`, nil},
		{"unknown value", "segment", `{"model":"` + model + `","steps":[{"host":"edge","ops":[[0,5]]}]}`, `no value "99"`, map[string]tensor.Tensor{"99": raw}},
		{"no number", "segment", `{"model":"` + model + `","steps":[{"host":"edge","ops":[[0,5]]}]}`, `no value "x"`, map[string]tensor.Tensor{"x": raw}},
		{"wrong shape", "segment", `{"model":"` + model + `","steps":[{"host":"edge","ops":[[0,5]]}]}`, `value "x" is float32[1 64], got float32[2 2]`, map[string]tensor.Tensor{"0": tensor.FromFloat32(make([]float32, 4), 2, 2)}},
		{"raw input under the policy", "segment", `{"model":"` + model + `","raw_stays":true,"steps":[{"host":"edge","ops":[[0,5]]}]}`, `policy: receive tensors on edge: value "x" is raw input`, map[string]tensor.Tensor{"0": raw}},
		{"ops twice", "adopt", `{"model":"` + model + `","plan":{"stages":[{"host":"edge","ops":[0,1,2,3,4,4]}]}}`, "invalid: adopt plan on edge: it runs op 4 (e) 2 times", nil},
		{"ops missing", "adopt", `{"model":"` + model + `","plan":{"stages":[{"host":"edge","ops":[0,1,2]}]}}`, "invalid: adopt plan on edge: it runs op 3 (d) 0 times", nil},
		{"ops against the flow", "adopt", `{"model":"` + model + `","plan":{"stages":[{"host":"edge","ops":[3,4]},{"host":"cloud","ops":[0,1,2]}]}}`, "which no step before it makes", nil},
		{"unknown epoch", "infer", `{"epoch":77}`, "not found: infer on edge: no plan of this model has epoch 77", nil},
		{"a good one", "segment", `{"model":"` + model + `","steps":[{"host":"edge","ops":[[0,5]]}]}`, "", map[string]tensor.Tensor{"0": raw}},
	} {
		got := sendFrom(t, c.hosts["device"].endpoint, "edge", tc.kind, tc.control, tc.tensors)
		if tc.want == "" && got != "" || !strings.Contains(got, tc.want) {
			t.Errorf("%s: got %q, want %q", tc.name, got, tc.want)
		}
	}
}

// TestMissingInput is refused before anything runs.
func TestMissingInput(t *testing.T) {
	c := newTrio(t, nil)
	app := c.client(t, "device")
	epoch, err := app.Adopt(t.Context(), nodes.AdoptRequest{Model: c.g.Digest, Plan: c.plan(t, 0, 0, 0, 0, 0)})
	must(t, err)
	if _, _, err := app.Infer(t.Context(), c.g, epoch, nil); nodes.KindOf(err) != nodes.Invalid {
		t.Errorf("got %v", err)
	}
	if got := c.send(t, "device", "infer", fmt.Sprintf(`{"epoch":%d,"model":%q}`, epoch, c.g.Digest), nil); !strings.Contains(got, `input "x" is missing`) {
		t.Errorf("got %q", got)
	}
}

// TestPlan measures three hosts and their links and chooses among all paths.
func TestPlan(t *testing.T) {
	c := newTrio(t, nil)
	var seen []nodes.Progress
	reply, err := c.client(t, "device").Plan(t.Context(), c.g, nodes.PlanRequest{Runs: 2, Cuts: 2, Shortlist: 3}, input(), func(p nodes.Progress) { seen = append(seen, p) })
	must(t, err)
	if len(reply.Lost) > 0 || len(reply.Profiles) != 3 || len(reply.Fixed) != 3 || len(seen) < 6 {
		t.Fatalf("lost %v, %d profiles, %d fixed strategies, %d progress notes", reply.Lost, len(reply.Profiles), len(reply.Fixed), len(seen))
	}
	for i, h := range []partition.HostID{"device", "edge", "cloud"} {
		if reply.Problem.Hosts[i].ID != h || reply.Profiles[i].Host != h {
			t.Errorf("host %d is %s", i, reply.Problem.Hosts[i].ID)
		}
		for k := range 3 {
			if i != k && reply.Problem.Links[i][k].Rate <= 0 {
				t.Errorf("link %d→%d was not measured", i, k)
			}
		}
	}
	for _, st := range reply.Chosen.Stages { // its very segments were timed
		if _, ok := reply.Problem.Timed[partition.Segment{Host: st.Host, Ops: partition.SetKey(st.Ops)}]; !ok && len(st.Ops) > 0 {
			t.Errorf("segment %v of %s was not timed", st.Ops, st.Host)
		}
	}
	for _, other := range reply.Others {
		if other.Total < reply.Chosen.Total {
			t.Errorf("%v is better than the chosen %v", other, reply.Chosen)
		}
	}
}

// TestPlanWithoutAHost: who does not answer is left out and named.
func TestPlanWithoutAHost(t *testing.T) {
	c := newTrio(t, nil)
	must(t, c.hosts["edge"].endpoint.Close())
	reply, err := c.client(t, "device").Plan(t.Context(), c.g, nodes.PlanRequest{Runs: 1, Cuts: 1}, input(), nil)
	must(t, err)
	if reply.Lost["edge"] == "" || len(reply.Problem.Hosts) != 2 {
		t.Errorf("lost %v, hosts %v", reply.Lost, reply.Problem.Hosts)
	}
}

// TestStatus names the host and its models.
func TestStatus(t *testing.T) {
	c := newTrio(t, nil)
	st, err := c.client(t, "cloud").Status(t.Context())
	must(t, err)
	if st.ID != "cloud" || len(st.Models) != 1 || st.Models[0].Digest != c.g.Digest {
		t.Errorf("got %+v", st)
	}
}

// FuzzSegmentRequest: no control part of a frame makes an agent panic.
func FuzzSegmentRequest(f *testing.F) {
	f.Add([]byte(`{"model":"","steps":[{"host":"edge","ops":[[0,5]],"send":{"1":"zstd"}}]}`))
	f.Add([]byte(`{"steps":[{"ops":[[9223372036854775807,1]]}]}`))
	f.Fuzz(func(t *testing.T, control []byte) {
		var fields map[string]any
		if json.Unmarshal(control, &fields) != nil || fields == nil {
			return
		}
		c := newTrio(t, nil) // one per input: slow, but nothing is left over
		fields["model"] = string(c.g.Digest)
		control, err := json.Marshal(fields)
		must(t, err)
		for _, kind := range []string{"segment", "adopt", "prepare", "time"} {
			sendFrom(t, c.hosts["device"].endpoint, "edge", kind, string(control), map[string]tensor.Tensor{"0": input()["x"]})
		}
	})
}

// TestClientsMayOnlyAsk: what agents ask of each other is not an application's.
func TestClientsMayOnlyAsk(t *testing.T) {
	c := newTrio(t, nil)
	for _, kind := range []string{"segment", "prepare", "profile", "time", "links"} {
		if got := c.send(t, "edge", kind, `{}`, nil); !strings.HasPrefix(got, "policy: ") {
			t.Errorf("%s: got %q", kind, got)
		}
	}
}

// TestLossyCodecsNeedPermission: a plan cannot bring its own.
func TestLossyCodecsNeedPermission(t *testing.T) {
	c := newTrio(t, nil)
	app := c.client(t, "device")
	plan := c.plan(t, 0, 0, 1, 1, 1)
	for i := range plan.Hops {
		for k := range plan.Hops[i].Tensors {
			plan.Hops[i].Tensors[k].Codec = "fp16"
		}
	}
	_, err := app.Adopt(t.Context(), nodes.AdoptRequest{Model: c.g.Digest, Plan: plan})
	if nodes.KindOf(err) != nodes.Policy {
		t.Errorf("got %v", err)
	}
	epoch, err := app.Adopt(t.Context(), nodes.AdoptRequest{Model: c.g.Digest, Plan: plan, Codecs: []transport.Codec{transport.Raw, transport.FP16}})
	must(t, err)
	answers, _, err := app.Infer(t.Context(), c.g, epoch, input())
	must(t, err)
	check(t, answers) // small integers survive fp16
	// A number that fp16 cannot hold goes raw instead of being refused.
	large := input()
	large["x"].Float32()[0] = 1e6
	answers, report, err := app.Infer(t.Context(), c.g, epoch, large)
	must(t, err)
	if got := answers["e"].Float32()[0]; got != answer(1e6) || report.Hosts[0].Fallback != "" {
		t.Errorf("got %v, %+v", got, report.Hosts)
	}
}

// TestRequestsAtOnceDoNotMix: many requests with different inputs, while the
// same sessions are being timed, each get their own answer.
func TestRequestsAtOnceDoNotMix(t *testing.T) {
	c := newTrio(t, func(cfg *nodes.Config) {})
	app := c.client(t, "device")
	epoch, err := app.Adopt(t.Context(), nodes.AdoptRequest{Model: c.g.Digest, Plan: c.plan(t, 0, 0, 1, 1, 2)})
	must(t, err)
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := app.Plan(t.Context(), c.g, nodes.PlanRequest{Runs: 3, Cuts: 2}, input(), nil); err != nil {
			t.Error(err)
		}
	})
	for k := range 40 {
		wg.Go(func() {
			x := make([]float32, width)
			for i := range x {
				x[i] = float32(k*100 + i)
			}
			answers, _, err := app.Infer(t.Context(), c.g, epoch, map[string]tensor.Tensor{"x": tensor.FromFloat32(x, 1, width)})
			if err != nil {
				t.Error(err)
				return
			}
			for i, y := range answers["e"].Float32() {
				if y != answer(x[i]) {
					t.Errorf("request %d, element %d: %v, want %v", k, i, y, answer(x[i]))
					return
				}
			}
		})
	}
	wg.Wait()
}

// TestEffortIsBounded: nobody can make an agent measure for ever.
func TestEffortIsBounded(t *testing.T) {
	c := newTrio(t, nil)
	app := c.client(t, "device")
	for _, r := range []nodes.PlanRequest{{Runs: 1 << 62}, {Cuts: 1 << 40}, {Runs: -1}, {Shortlist: 1 << 30}, {Codecs: []transport.Codec{"mp3"}}} {
		if _, err := app.Plan(t.Context(), c.g, r, input(), nil); nodes.KindOf(err) != nodes.Invalid {
			t.Errorf("%+v: got %v", r, err)
		}
	}
}
