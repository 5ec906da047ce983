package nodes

import (
	"context"
	"fmt"

	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/scheduler"
	"github.com/cleaveml/cleave/transport"
)

// CloseRequest ends a stream.
type CloseRequest struct {
	Stream scheduler.StreamID `json:"stream"`
	Origin partition.HostID   `json:"origin,omitempty"` // "" is the agent that is asked; it forwards to others
	// Forget removes the stored settings too, so that a stream of that name
	// starts with none.
	Forget bool `json:"forget,omitempty"`
}

// CloseStream ends a stream that starts here: it takes no new request, those
// under way are waited for, its hosts are released. It returns the last state.
func (a *Agent) CloseStream(ctx context.Context, r CloseRequest) (StreamState, error) {
	s := a.steering
	s.mu.Lock()
	st := s.streams[r.Stream]
	if st == nil {
		defer s.mu.Unlock()
		return StreamState{}, &Error{Op: "close stream", Node: a.cfg.ID, Kind: NotFound, Err: fmt.Errorf("no stream is called %q here%s", r.Stream, s.names())}
	}
	last := s.describe(st)
	s.take(scheduler.Closed{Stream: st.id})
	delete(s.streams, st.id)
	s.mu.Unlock()
	err := s.quiet(ctx, st)
	s.mu.Lock()
	last.Sent, last.Answered, last.Refused, last.Fallbacks = st.sent, st.answered, st.refused, st.fallbacks
	s.mu.Unlock()
	if err != nil {
		return last, a.failed("close stream", err)
	}
	if r.Forget && a.cfg.Memory != nil {
		if err := a.cfg.Memory.ForgetStream(st.id); err != nil {
			return last, &Error{Op: "close stream", Node: a.cfg.ID, Kind: Failed, Err: err}
		}
	}
	a.log.Info("stream closed", "stream", st.id, "forgotten", r.Forget)
	return last, nil
}

// quiet waits until no request of a stream is under way.
func (s *steering) quiet(ctx context.Context, st *stream) error {
	for {
		s.mu.Lock()
		under, changed := st.sent-st.answered-st.refused, s.changed
		s.mu.Unlock()
		if under == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (a *Agent) serveClose(ctx context.Context, f *transport.Frame) (*transport.Frame, error) {
	return serveJSON(f, func(r CloseRequest) (any, error) {
		if r.Origin == "" || r.Origin == a.cfg.ID {
			return a.CloseStream(ctx, r)
		}
		var state StreamState
		err := a.relay(ctx, r.Origin, request{kind: kindClose, control: r}, &state)
		return state, err
	})
}
