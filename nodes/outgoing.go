package nodes

import (
	"context"
	"errors"
	"runtime/debug"
	"time"

	"github.com/cleaveml/cleave/transport"
)

// outgoing is the message to the next host of a request. Its large tensors are on the
// way while the rest of them is encoded.
type outgoing struct {
	a      *Agent
	j      *job
	frame  *transport.Frame // nil before encode
	report HostReport       // what forwarding adds to this host's

	back  bool        // forward has returned, and reply told
	ready bool        // what was done before it has taken its time
	gone  chan remote // forward has been called; nil: not yet
	err   error       // its; valid after gone
}

// encode makes the frame and all of it that can be sent at once: small tensors,
// and the first piece of a large one. It is a phase of Pace.Do.
func (o *outgoing) encode() (err error) {
	if o.frame, err = o.j.frame(); err == nil {
		o.frame.Fill()
	}
	return err
}

// stream encodes the other pieces while the first are being sent. It is the phase
// behind encode.
func (o *outgoing) stream(ctx context.Context) error {
	switch {
	case !o.frame.Streams():
		return nil
	case !o.ready:
		o.ready = true
		return errAgain
	case o.gone == nil:
		o.send(ctx)
	}
	if o.frame.Fill() {
		return errAgain
	}
	return nil
}

func (o *outgoing) send(ctx context.Context) {
	o.gone = make(chan remote, 1)
	go func() {
		var r remote
		defer func() {
			if p := recover(); p != nil { // whatever a peer answers, the agent goes on
				o.a.log.Error("an answer made the agent panic", "panic", p, "stack", string(debug.Stack()))
				o.err = &Error{Op: kindSegment, Node: o.a.cfg.ID, Kind: Failed, Err: errors.New("internal error, see the host's log")}
			}
			o.gone <- r
		}()
		r, o.err = o.forward(ctx)
	}()
}

func (o *outgoing) forward(ctx context.Context) (remote, error) {
	return o.a.forward(ctx, o.j, o.frame, o.j.behind, o.a.firstTry(ctx, o.j, o.j.behind), &o.report)
}

// reply is what came back.
func (o *outgoing) reply(ctx context.Context) (remote, error) {
	if o.gone == nil {
		return o.forward(ctx)
	}
	r := <-o.gone
	o.back = true
	return r, o.err
}

// end ends a message that is on its way, and gives its memory back.
func (o *outgoing) end() {
	if o.gone != nil && !o.back {
		o.frame.Abandon(errors.New("the host that sends it has given up"))
		<-o.gone
	}
	if o.frame != nil {
		o.frame.Recycle()
	}
}

// decodeArriving decodes what comes in pieces while the next ones are on the way, and
// returns when all are here: the work that was done by then, and what waiting and work
// went on behind the last byte. What has come at the last is left for the phase of
// decoding.
func (a *Agent) decodeArriving(ctx context.Context, f *transport.Frame) (hidden, queued, decoded time.Duration, err error) {
	type turn struct{ began, ran, ended time.Time }
	var turns []turn
	for {
		more, err := f.WaitPiece(ctx)
		if err != nil {
			return 0, 0, 0, a.failed("receive tensors", err)
		}
		if !more {
			break
		}
		began := time.Now()
		spent, err := a.cfg.Compute.Pace().Do(ctx, f.Decode)
		if err != nil {
			return 0, 0, 0, a.failed("receive tensors", err)
		}
		turns = append(turns, turn{began, began.Add(spent.Queue), time.Now()})
	}
	behind := func(from, to time.Time) time.Duration {
		if from.Before(f.Arrival.Last) {
			from = f.Arrival.Last
		}
		return max(0, to.Sub(from))
	}
	for _, t := range turns {
		late := behind(t.ran, t.ended)
		hidden += t.ended.Sub(t.ran) - late
		queued, decoded = queued+behind(t.began, t.ran), decoded+late
	}
	return hidden, queued, decoded, nil
}
