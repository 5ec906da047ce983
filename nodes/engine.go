package nodes

import (
	"context"
	"time"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/tensor"
)

// Session runs one stage of a segment. A worker process could implement it as
// well as a library: nothing in it is shared but tensors.
type Session interface {
	// Run computes the stage's outputs, in order. They stay valid until the
	// next Run or Close. It returns ctx's error soon after ctx ends.
	Run(ctx context.Context, inputs []tensor.Tensor) ([]tensor.Tensor, error)
	Close() error
}

// Engine builds sessions. The call may take seconds and be made concurrently.
type Engine interface {
	Load(ctx context.Context, st models.Stage) (Session, error)
}

// OpTimer is an Engine that can tell how the time of a stage divides among
// its ops. Only the proportions are used: measuring slows the ops down.
type OpTimer interface {
	// OpTimes runs the stage once to warm up and runs times measured. The result
	// has one entry per op of the stage, in order.
	OpTimes(ctx context.Context, st models.Stage, inputs []tensor.Tensor, runs int) ([]time.Duration, error)
}
