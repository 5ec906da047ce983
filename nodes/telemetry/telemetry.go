// Package telemetry ties requests to the traces of whoever sent them, by W3C trace
// context and go.opentelemetry.io/otel. It records nothing itself.
package telemetry

import (
	"context"

	"go.opentelemetry.io/otel/propagation"
)

// longest is how many bytes of a traceparent are looked at. Version 00 has 55; later
// ones may append to it (W3C Trace Context, level 2, section 3.2.4).
const longest = 256

// field is the only one that a request carries; tracestate does not travel.
const field = "traceparent"

// W3C implements nodes.Tracer.
type W3C struct{}

// Inject returns the traceparent of ctx's span, "" where it has none.
func (W3C) Inject(ctx context.Context) string {
	var c carrier
	propagation.TraceContext{}.Inject(ctx, &c)
	return c.parent
}

// Extract returns ctx with the span of a traceparent as its parent. What is none, or is
// too long, leaves ctx as it is: a trace begins anew then, as W3C has it.
func (W3C) Extract(ctx context.Context, parent string) context.Context {
	if parent == "" || len(parent) > longest {
		return ctx
	}
	return propagation.TraceContext{}.Extract(ctx, &carrier{parent})
}

// carrier is a header that has one field.
type carrier struct{ parent string }

// Get implements propagation.TextMapCarrier.
func (c *carrier) Get(key string) string {
	if key == field {
		return c.parent
	}
	return ""
}

// Set implements propagation.TextMapCarrier.
func (c *carrier) Set(key, value string) {
	if key == field {
		c.parent = value
	}
}

// Keys implements propagation.TextMapCarrier.
func (c *carrier) Keys() []string { return []string{field} }
