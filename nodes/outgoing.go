package nodes

import (
	"context"
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
		r, o.err = o.forward(ctx)
		o.gone <- r
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
	return <-o.gone, o.err
}

// abandon ends a message that is not encoded any further.
func (o *outgoing) abandon(err error) {
	if o == nil || o.gone == nil {
		return
	}
	o.frame.Abandon(err)
	<-o.gone
}

func (o *outgoing) release() {
	if o.frame != nil {
		o.frame.Recycle()
	}
}

// decodeArriving decodes what comes in pieces while the next ones are on the way, and
// returns when all are here: how much work was done by then. What has come at the last is
// left for the phase of decoding.
func (a *Agent) decodeArriving(ctx context.Context, f *transport.Frame) (hidden time.Duration, err error) {
	for {
		more, err := f.WaitPiece(ctx)
		if err != nil {
			return hidden, a.failed("receive tensors", err)
		}
		if !more {
			return hidden, nil
		}
		spent, err := a.cfg.Compute.Pace().Do(ctx, f.Decode)
		if err != nil {
			return hidden, a.failed("receive tensors", err)
		}
		hidden += spent.Work()
	}
}
