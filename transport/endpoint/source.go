package endpoint

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/cleaveml/cleave/transport"
)

// slowest is what a frame has to come at after Config.Stall, on average: far
// below what any link carries, far above what holds memory for nothing.
const slowest = 128 // bytes per second

// source is the reading side of a stream. It gives up on a peer that stops
// within a frame: such a stream would hold its memory for as long as the
// connection lives.
type source struct {
	Stream
	stall time.Duration

	got   int // of the frame that is being read
	began time.Time
	timer *time.Timer
	late  atomic.Bool
	ended atomic.Bool // the peer has sent all that it will
}

// next makes what comes the beginning of a frame.
func (s *source) next() { s.got = 0 }

// Read implements io.Reader.
func (s *source) Read(p []byte) (int, error) {
	if s.got == 0 { // nobody has promised anything yet
		n, err := s.read(p)
		s.got, s.began = n, time.Now()
		return n, err
	}
	if s.timer == nil {
		s.timer = time.AfterFunc(s.stall, s.giveUp)
	} else {
		s.timer.Reset(s.stall)
	}
	n, err := s.read(p)
	s.timer.Stop()
	s.got += n
	if over := time.Since(s.began) - s.stall; float64(s.got) < slowest*over.Seconds() {
		s.giveUp()
	}
	return n, err
}

func (s *source) read(p []byte) (int, error) {
	n, err := s.Stream.Read(p)
	if errors.Is(err, io.EOF) {
		s.ended.Store(true)
	}
	return n, err
}

func (s *source) giveUp() {
	s.late.Store(true)
	s.CancelRead(transport.CancelTimeout)
}

// fault is the error that giving up has led to, or err.
func (s *source) fault(err error) error {
	if !s.late.Load() {
		return err
	}
	return &transport.Error{Op: "receive", Kind: transport.Timeout,
		Err: fmt.Errorf("the peer stopped within a frame: %d bytes came in %v", s.got, time.Since(s.began).Round(time.Millisecond))}
}
