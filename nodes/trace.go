package nodes

import (
	"context"
	"log/slog"
	"strings"
)

// Tracer knows the trace that a context is of; nodes/telemetry has it. A request is
// of its sender's trace on every host.
type Tracer interface {
	// Inject returns the W3C traceparent of ctx, "" where it is of no trace.
	Inject(ctx context.Context) string
	// Extract returns ctx with that parent; what is no traceparent, it ignores.
	Extract(ctx context.Context, traceparent string) context.Context
}

// tracerKey is of the Tracer by which requests of a context are sent.
type tracerKey struct{}

func withTracer(ctx context.Context, t Tracer) context.Context {
	if t == nil {
		return ctx
	}
	return context.WithValue(ctx, tracerKey{}, t)
}

// traceparentOf is what the requests of a context carry, "" for nothing.
func traceparentOf(ctx context.Context) string {
	if t, ok := ctx.Value(tracerKey{}).(Tracer); ok {
		return t.Inject(ctx)
	}
	return ""
}

// traceOf is the id of the trace that a context is of, "" for none: the second part of
// version-id-parent-flags.
func traceOf(ctx context.Context) string {
	if parts := strings.Split(traceparentOf(ctx), "-"); len(parts) >= 4 {
		return parts[1]
	}
	return ""
}

// traced puts a request that came in into its sender's trace.
func (a *Agent) traced(ctx context.Context, traceparent string) context.Context {
	if a.cfg.Tracer == nil {
		return ctx
	}
	if traceparent != "" {
		ctx = a.cfg.Tracer.Extract(ctx, traceparent)
	}
	return withTracer(ctx, a.cfg.Tracer)
}

// logOf is the log for what becomes of a request, which names its trace.
func (a *Agent) logOf(ctx context.Context) *slog.Logger {
	if id := traceOf(ctx); id != "" {
		return a.log.With("trace", id)
	}
	return a.log
}
