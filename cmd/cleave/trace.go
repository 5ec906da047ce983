package main

import (
	"context"
	"os"

	"github.com/spf13/cobra"

	"github.com/cleaveml/cleave/nodes/telemetry"
)

// traceFlags say of which trace requests are.
type traceFlags struct{ parent string }

func (f *traceFlags) register(c *cobra.Command) {
	c.Flags().StringVar(&f.parent, "traceparent", "", "W3C trace context of which the requests are, for example 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01 (default: what TRACEPARENT in the environment says)")
}

// context is ctx within the trace. What the environment says and is no traceparent is
// ignored, as W3C has it; what the user says is not.
func (f traceFlags) context(ctx context.Context) (context.Context, error) {
	if f.parent == "" {
		return telemetry.W3C{}.Extract(ctx, os.Getenv("TRACEPARENT")), nil
	}
	ctx = telemetry.W3C{}.Extract(ctx, f.parent)
	if (telemetry.W3C{}).Inject(ctx) == "" {
		return nil, usagef("--traceparent %q: want 00-TRACE-PARENT-FLAGS in small hexadecimal digits, 32, 16 and 2 of them", f.parent)
	}
	return ctx, nil
}
