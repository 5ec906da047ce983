package nodes

import (
	"context"

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
// Settings can be forgotten of a stream that is not open, too.
func (a *Agent) CloseStream(ctx context.Context, r CloseRequest) (StreamState, error) {
	s := a.steering
	st, last, err := a.release(r)
	if err != nil {
		return StreamState{}, err
	}
	if st != nil {
		err = s.quiet(ctx, st)
		s.mu.Lock()
		last.Sent, last.Answered, last.Refused, last.Fallbacks = st.sent, st.answered, st.refused, st.fallbacks
		s.mu.Unlock()
	}
	if err != nil {
		return last, a.failed("close stream", err)
	}
	a.log.Info("stream closed", "stream", r.Stream, "forgotten", r.Forget)
	return last, nil
}

// release takes a stream out, and its settings if they are to be forgotten. It
// returns no stream for one of which there were settings only.
func (a *Agent) release(r CloseRequest) (*stream, StreamState, error) {
	s := a.steering
	s.setting.Lock()
	defer s.setting.Unlock()
	forgotten, err := a.forget(r)
	if err != nil {
		return nil, StreamState{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.streams[r.Stream]
	if st == nil && forgotten {
		return nil, StreamState{Stream: r.Stream, Origin: a.cfg.ID}, nil
	} else if st == nil {
		return nil, StreamState{}, s.unknown("close stream", r.Stream)
	}
	last := s.describe(st)
	s.take(scheduler.Closed{Stream: st.id})
	delete(s.streams, st.id)
	return st, last, nil
}

// forget removes stored settings if that is asked for and there are any.
func (a *Agent) forget(r CloseRequest) (bool, error) {
	if !r.Forget || a.cfg.Memory == nil {
		return false, nil
	}
	_, stored, err := a.cfg.Memory.Stream(r.Stream)
	if err == nil && stored {
		err = a.cfg.Memory.ForgetStream(r.Stream)
	}
	if err != nil {
		return false, &Error{Op: "close stream", Node: a.cfg.ID, Kind: Failed, Err: err}
	}
	return stored, nil
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
