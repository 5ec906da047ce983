package nodes_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.opentelemetry.io/otel/trace"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/nodes"
	"github.com/cleaveml/cleave/nodes/telemetry"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
)

const (
	traceID     = "0af7651916cd43dd8448eb211c80319c"
	traceparent = "00-" + traceID + "-b7ad6b7169203331-01"
)

// journal is what a host logs.
type journal struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.Write(p)
}

func (j *journal) has(parts ...string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	for line := range strings.Lines(j.buf.String()) {
		if !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(line, p) }) {
			return true
		}
	}
	return false
}

// spanNotes are the spans in which hosts ran their segment last. Sessions run beside
// requests, too, when they are built.
type spanNotes struct {
	mu sync.Mutex
	of map[partition.HostID]trace.SpanContext
}

func (n *spanNotes) note(ctx context.Context, id partition.HostID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.of[id] = trace.SpanContextFromContext(ctx)
}

func (n *spanNotes) at(id partition.HostID) trace.SpanContext {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.of[id]
}

// tracedTrio notes the span in which each host runs its segment.
func tracedTrio(t *testing.T) (c *trio, spans *spanNotes, logs map[partition.HostID]*journal) {
	spans, logs = &spanNotes{of: map[partition.HostID]trace.SpanContext{}}, map[partition.HostID]*journal{}
	c = newTrio(t, func(cfg *nodes.Config) {
		logs[cfg.ID] = &journal{}
		cfg.Tracer = telemetry.W3C{}
		cfg.Log = slog.New(slog.NewTextHandler(logs[cfg.ID], &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	for id, h := range c.hosts {
		h.engine.setHold(func(ctx context.Context, _ int) error {
			spans.note(ctx, id)
			return nil
		})
	}
	return c, spans, logs
}

// A request is of its sender's trace on every host that it comes to.
func TestTraceOfTheCallerReachesTheLastHost(t *testing.T) {
	c, spans, logs := tracedTrio(t)
	app := c.client(t, "device").Traced(telemetry.W3C{})
	epoch, err := app.Adopt(t.Context(), nodes.AdoptRequest{Model: c.g.Digest, Plan: c.plan(t, 0, 0, 1, 1, 2)})
	must(t, err)
	answers, report, err := app.Infer(telemetry.W3C{}.Extract(t.Context(), traceparent), c.g, epoch, input())
	must(t, err)
	check(t, answers)
	if report.Trace != traceID {
		t.Errorf("the report names the trace %q", report.Trace)
	}
	for id := range c.hosts {
		if got := spans.at(id); got.TraceID().String() != traceID || got.SpanID().String() != "b7ad6b7169203331" || !got.IsSampled() {
			t.Errorf("%s ran its segment as %+v", id, got)
		}
	}
	// Nobody's trace stays with the connection.
	_, report, err = app.Infer(t.Context(), c.g, epoch, input())
	must(t, err)
	if report.Trace != "" || spans.at("cloud").IsValid() {
		t.Errorf("a request of no trace ran as %q, %+v", report.Trace, spans.at("cloud"))
	}
	must(t, c.hosts["edge"].endpoint.Close()) // its handlers have returned
	if !logs["edge"].has("request answered", "kind=segment", "trace="+traceID) {
		t.Error("the log of edge does not name the trace")
	}
}

// garbage is a sender's tracer that sends what it should not.
type garbage string

func (g garbage) Inject(context.Context) string                         { return string(g) }
func (g garbage) Extract(ctx context.Context, _ string) context.Context { return ctx }

// What is no traceparent is ignored, whoever sends it.
func TestGarbageForATraceIsIgnored(t *testing.T) {
	c, spans, _ := tracedTrio(t)
	app := c.client(t, "device")
	epoch, err := app.Adopt(t.Context(), nodes.AdoptRequest{Model: c.g.Digest, Plan: c.plan(t, 0, 0, 1, 1, 2)})
	must(t, err)
	for _, bad := range []string{"-", "00-0-0-0", "ff" + traceparent[2:], traceparent + "0", strings.Repeat("0", 100<<10), strings.ToUpper(traceparent)} {
		answers, report, err := app.Traced(garbage(bad)).Infer(t.Context(), c.g, epoch, input())
		must(t, err)
		check(t, answers)
		if report.Trace != "" || spans.at("device").IsValid() || spans.at("cloud").IsValid() {
			t.Errorf("%.60q ran as %q, %+v", bad, report.Trace, spans.at("cloud"))
		}
	}
}

// exchange sends a frame and returns the header that answers it.
func exchange(t *testing.T, conn transport.Conn, kind string, control any, value string, x tensor.Tensor) *transport.Frame {
	t.Helper()
	f := transport.NewFrame(kind)
	defer f.Release()
	var err error
	f.Header.Control, err = json.Marshal(control)
	must(t, err)
	must(t, f.Add(value, transport.Raw, x))
	s, err := conn.Open(t.Context())
	must(t, err)
	defer s.Cancel(transport.CancelUnwanted)
	must(t, s.Send(t.Context(), f))
	must(t, s.CloseSend())
	reply, err := s.Receive(t.Context())
	must(t, err)
	if reply.Header.Kind != transport.KindReply {
		t.Fatalf("answered by %v", reply.Header)
	}
	return reply
}

// The header of a reply tells what the host that answers was about, and how the request
// arrived: what its control part says of that host.
func TestRepliesTellTheReceiversTimings(t *testing.T) {
	c := newTrio(t, nil)
	epoch, err := c.client(t, "device").Adopt(t.Context(), nodes.AdoptRequest{Model: c.g.Digest, Plan: c.plan(t, 0, 0, 1, 1, 2)})
	must(t, err)
	app, err := c.app.Conn(t.Context(), "device")
	must(t, err)
	edge, err := c.hosts["device"].endpoint.Conn(t.Context(), "edge")
	must(t, err)
	type step struct {
		Host partition.HostID `json:"host"`
		Ops  []nodes.Span     `json:"ops"`
	}
	whole := map[string]any{"model": c.g.Digest, "steps": []step{{"edge", []nodes.Span{{0, 3}}}, {"cloud", []nodes.Span{{3, 5}}}}}
	for name, reply := range map[string]*transport.Frame{
		"infer":   exchange(t, app, "infer", map[string]any{"model": c.g.Digest, "epoch": epoch}, "0", input()["x"]),
		"segment": exchange(t, edge, "segment", whole, "0", input()["x"]),
	} {
		var told struct {
			Hosts []nodes.HostReport `json:"hosts"`
		}
		must(t, json.Unmarshal(reply.Header.Control, &told))
		h, got := told.Hosts[0], reply.Header.GetTimings()
		if got.GetQueueNs() != uint64(h.Queue) || got.GetDecodeNs() != uint64(h.Decode) || got.GetComputeNs() != uint64(h.Compute) || got.GetEncodeNs() != uint64(h.Encode) {
			t.Errorf("%s: the header tells %v, the report %+v", name, got, h)
		}
		if got.GetComputeNs() == 0 || got.GetEncodeNs() == 0 || got.GetTransfer().GetBytes() < width*4 {
			t.Errorf("%s: the header tells %v", name, got)
		}
		reply.Release()
	}
}
