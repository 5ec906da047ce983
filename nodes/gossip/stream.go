package gossip

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
)

// frame holds bytes of gossip, which it copies.
func frame(as byte, b []byte) *transport.Frame {
	f := transport.NewFrame(Kind)
	f.Header.Control = append([]byte{as}, b...)
	return f
}

// content is what frame put in; it stays valid when the frame is released.
func content(f *transport.Frame) (as byte, b []byte, err error) {
	switch c := f.Header.GetControl(); {
	case f.Header.GetKind() != Kind:
		return 0, nil, fmt.Errorf("frame of kind %.40q among gossip", f.Header.GetKind())
	case f.Len() > 0:
		return 0, nil, fmt.Errorf("gossip frame with %d bytes of tensors, which has none", f.Payload())
	case len(c) == 0:
		return 0, nil, errors.New("empty gossip frame")
	default:
		return c[0], c[1:], nil
	}
}

// stream makes a net.Conn of a transport.Stream. Each Write is one frame and,
// as memberlist writes, one whole message, so that it can be checked before
// the first byte of it is read.
type stream struct {
	ctx    context.Context //nolint:containedctx // net.Conn has none; done when the stream must end
	c      *carrier
	s      transport.Stream
	peer   partition.HostID
	dialed bool // by this host

	arrived []byte // and not read yet

	mu              sync.Mutex
	readBy, writeBy time.Time // zero: never
	once            sync.Once
	over            chan struct{} // closed by Close
}

// Read returns the bytes of checked messages.
func (s *stream) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(s.arrived) == 0 {
		ctx, cancel := s.until(func() time.Time { return s.readBy })
		f, err := s.s.Receive(ctx)
		cancel()
		if errors.Is(err, io.EOF) {
			return 0, io.EOF
		}
		if err != nil {
			if transport.KindOf(err) == transport.Protocol { // too large, for one
				s.c.refused(s.peer, err)
			}
			return 0, &net.OpError{Op: "read", Net: "gossip", Addr: named(s.peer), Err: err}
		}
		as, b, err := content(f)
		f.Release()
		if err == nil && as != asStream {
			err = fmt.Errorf("frame of use %q on a stream", as)
		}
		if err == nil {
			err = checkStream(b, s.c.news)
		}
		if err != nil {
			s.s.Cancel(transport.CancelProtocol)
			s.c.refused(s.peer, err)
			return 0, &net.OpError{Op: "read", Net: "gossip", Addr: named(s.peer), Err: err}
		}
		s.arrived = b
	}
	n := copy(p, s.arrived)
	s.arrived = s.arrived[n:]
	return n, nil
}

// Write sends a message whole.
func (s *stream) Write(p []byte) (int, error) {
	if len(p) > maxMessage {
		return 0, fmt.Errorf("gossip message of %d bytes exceeds the limit of %d: too many members", len(p), maxMessage)
	}
	ctx, cancel := s.until(func() time.Time { return s.writeBy })
	defer cancel()
	if err := s.s.Send(ctx, frame(asStream, p)); err != nil {
		return 0, &net.OpError{Op: "write", Net: "gossip", Addr: named(s.peer), Err: err}
	}
	return len(p), nil
}

func (s *stream) until(deadline func() time.Time) (context.Context, context.CancelFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := deadline(); !d.IsZero() {
		return context.WithDeadline(s.ctx, d)
	}
	return context.WithCancel(s.ctx)
}

// Close ends the stream. What was written still arrives where the peer asked
// for it; whoever dialled has had its answer by then.
func (s *stream) Close() error {
	s.once.Do(func() {
		_ = s.s.CloseSend() // there is nothing to do about a stream that has ended
		if s.dialed {
			s.s.Cancel(transport.CancelUnwanted)
		}
		close(s.over)
	})
	return nil
}

// LocalAddr is this host's name.
func (s *stream) LocalAddr() net.Addr { return named(s.c.net.ID()) }

// RemoteAddr is the peer's name.
func (s *stream) RemoteAddr() net.Addr { return named(s.peer) }

// SetDeadline holds for later calls of Read and Write, as the other two do for
// one of them.
func (s *stream) SetDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readBy, s.writeBy = t, t
	return nil
}

// SetReadDeadline holds for later calls of Read.
func (s *stream) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readBy = t
	return nil
}

// SetWriteDeadline holds for later calls of Write.
func (s *stream) SetWriteDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writeBy = t
	return nil
}
