package telemetry

import (
	"context"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/trace"

	"github.com/cleaveml/cleave/nodes"
)

var _ nodes.Tracer = W3C{}

const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

func TestSpanOfTheCallerIsCarried(t *testing.T) {
	sc := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: trace.FlagsSampled})
	sent := W3C{}.Inject(trace.ContextWithSpanContext(t.Context(), sc))
	got := trace.SpanContextFromContext(W3C{}.Extract(t.Context(), sent))
	if !got.IsRemote() || got.TraceID() != sc.TraceID() || got.SpanID() != sc.SpanID() || !got.IsSampled() {
		t.Errorf("%q became %+v", sent, got)
	}
	if sent := (W3C{}).Inject(t.Context()); sent != "" {
		t.Errorf("a context without a span is sent as %q", sent)
	}
}

// What is no traceparent leaves the trace, or the lack of one, as it was.
func TestWhatIsNoTraceparentIsIgnored(t *testing.T) {
	for _, bad := range []string{
		"", "-", "00", parent[:54], parent + "0", parent + "-00", "ff" + parent[2:], strings.ToUpper(parent),
		strings.Replace(parent, "0af7651916cd43dd8448eb211c80319c", strings.Repeat("0", 32), 1),
		strings.Replace(parent, "b7ad6b7169203331", strings.Repeat("0", 16), 1),
		"01" + parent[2:] + "-" + strings.Repeat("0", longest), "\x00\xff", "€",
	} {
		if got := trace.SpanContextFromContext(W3C{}.Extract(t.Context(), bad)); got.IsValid() {
			t.Errorf("%q is taken for %+v", bad, got)
		}
		if got := (W3C{}).Inject(W3C{}.Extract(W3C{}.Extract(t.Context(), parent), bad)); got != parent {
			t.Errorf("%q turned %q into %q", bad, parent, got)
		}
	}
	later := "01" + parent[2:] + "-more"
	if got := (W3C{}).Inject(W3C{}.Extract(t.Context(), later)); got != parent {
		t.Errorf("a later version %q went on as %q, want %q", later, got, parent)
	}
}

// Whatever comes from outside, what goes on is nothing or a traceparent that comes out
// as it went in.
func FuzzTraceparent(f *testing.F) {
	f.Add(parent)
	f.Add("01" + parent[2:] + "-more")
	f.Add("00-" + strings.Repeat("0", 32))
	f.Fuzz(func(t *testing.T, from string) {
		sent := W3C{}.Inject(W3C{}.Extract(context.Background(), from))
		if sent == "" {
			return
		}
		if len(sent) != len(parent) || !strings.HasPrefix(from[2:], sent[2:53]) {
			t.Fatalf("%q went on as %q", from, sent)
		}
		if again := (W3C{}).Inject(W3C{}.Extract(context.Background(), sent)); again != sent {
			t.Fatalf("%q went on as %q", sent, again)
		}
	})
}
