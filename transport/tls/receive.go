package tls

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"time"

	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/endpoint"
)

// violated is the code of a close after what the protocol does not allow. It is
// none of endpoint's.
const violated = 1 << 32

// receive reads until the session ends, and then what the peer still sends, so
// that the goodbye reaches it: TCP would throw it away otherwise.
func (s *session) receive() {
	defer close(s.heardAll)
	err := s.frames()
	var broken *violationError
	if errors.As(err, &broken) {
		s.end(&endpoint.Fault{Kind: transport.Protocol, Err: broken}, appendClose(nil, violated, "this host "+broken.Error()))
	}
	s.end(s.lost(err), nil)
	s.mu.Lock()
	drain := s.farewell != nil
	s.mu.Unlock()
	if drain {
		_, _ = io.Copy(io.Discard, s.line) // until the peer has closed, or the deadline
	}
}

// lost is the cause of an end that nobody has announced.
func (s *session) lost(err error) error {
	s.mu.Lock()
	fault := s.out.fault
	s.mu.Unlock()
	if fault != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		err = fault
	}
	var told *endpoint.CloseError
	var typed *endpoint.Fault
	switch {
	case errors.As(err, &told), errors.As(err, &typed):
		return err
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errGone
	default:
		return explain(err)
	}
}

// frames takes frames in until one ends the session.
func (s *session) frames() error {
	var head [headerSize]byte
	var small [smallSize]byte
	c := chunks.Get().(*chunk)
	defer func() { chunks.Put(c) }()
	for first := true; ; first = false {
		if _, err := io.ReadFull(s.conn, head[:]); err != nil {
			return err
		}
		h, err := parseHeader(&head)
		switch {
		case err != nil:
			return err
		case first != (h.kind == kindSettings):
			return violation("a frame of type %d where settings belong, or settings elsewhere", h.kind)
		case h.kind == kindData:
			if _, err := io.ReadFull(s.conn, c.b[:h.length]); err != nil {
				return err
			}
			c.n, c.from = h.length, 0
			if c, err = s.takeData(h, c); err != nil {
				return err
			}
			continue
		case h.kind == kindDatagram:
			if err := s.takeDatagram(h); err != nil {
				return err
			}
			continue
		}
		if _, err := io.ReadFull(s.conn, small[:h.length]); err != nil {
			return err
		}
		if err := s.takeControl(h, small[:h.length]); err != nil {
			return err
		}
	}
}

// takeData passes a part of a stream on, and returns the chunk for the next.
func (s *session) takeData(h header, c *chunk) (*chunk, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.received++
	if s.ended {
		return c, s.cause
	}
	st := s.streams[h.stream]
	switch {
	case st == nil && h.stream == s.peerNext:
		if (h.stream+1)/2 > s.allowed() {
			return c, violation("more streams than it may open")
		}
		st = newStream(s, h.stream)
		s.streams[st.id] = st
		s.peerNext += 2
		s.queue = append(s.queue, st)
		signal(s.arrivals)
	case st == nil, st.hasAll:
		return c, violation("bytes of stream %d, which is not open", h.stream)
	}
	s.got += uint64(h.length)
	if st.got+uint64(h.length) > st.allowed || s.got > s.window {
		return c, violation("more bytes than it may, on stream %d", h.stream)
	}
	if h.length > 0 {
		c = st.arrive(c)
	}
	if h.fin {
		st.hasAll = true
		signal(st.readable)
		s.settle(st)
	}
	return c, nil
}

func (s *session) takeDatagram(h header) error {
	b := make([]byte, h.length)
	if _, err := io.ReadFull(s.conn, b); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.received++
	if len(s.inbox) < inboxLength && !s.ended {
		s.inbox = append(s.inbox, b)
		signal(s.arrived)
	}
	return nil
}

// takeControl takes in a frame of a few bytes.
func (s *session) takeControl(h header, b []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.received++
	if s.ended {
		return s.cause
	}
	switch h.kind {
	case kindSettings:
		s.peer.Addr = s.peerAddr(binary.BigEndian.Uint16(b))
		return s.mayOpenTo(binary.BigEndian.Uint64(b[2:]))
	case kindStreams:
		return s.mayOpenTo(binary.BigEndian.Uint64(b))
	case kindPing:
		s.out.pong = true
		copy(s.out.pongBytes[:], b)
		s.wake()
	case kindPong:
		return s.takePong(time.Duration(binary.BigEndian.Uint64(b)))
	case kindClose:
		code := binary.BigEndian.Uint64(b)
		if code == violated {
			return &endpoint.Fault{Kind: transport.Protocol, Err: errors.New("the peer ended the connection: " + printable(b[8:]))}
		}
		return &endpoint.CloseError{Code: endpoint.CloseCode(code), Reason: printable(b[8:])}
	case kindCredit:
		if h.stream == 0 {
			return s.takeSessionCredit(binary.BigEndian.Uint64(b))
		}
		return s.takeStreamControl(h, binary.BigEndian.Uint64(b))
	default:
		return s.takeStreamControl(h, binary.BigEndian.Uint64(b))
	}
	return nil
}

// peerAddr is where the peer listens: who has dialled comes from another port.
func (s *session) peerAddr(port uint16) string {
	if s.client {
		return s.peer.Addr
	}
	return listensAt(s.peer.Addr, port)
}

func (s *session) mayOpenTo(n uint64) error {
	if n > 1<<62 {
		return violation("leave to open %d streams", n)
	}
	if n > s.mayOpen {
		s.mayOpen = n
		s.rouse()
	}
	return nil
}

func (s *session) takePong(sent time.Duration) error {
	rtt := s.line.now() - sent
	if !s.pinging || rtt < 0 {
		return violation("an answer to no ping")
	}
	s.pinging = false
	s.rtts.rtt = max(rtt, 1)
	if s.rtts.minRTT == 0 || s.rtts.rtt < s.rtts.minRTT {
		s.rtts.minRTT = s.rtts.rtt
	}
	return nil
}

// takeSessionCredit takes in what all streams together may have sent.
func (s *session) takeSessionCredit(limit uint64) error {
	if limit > 1<<62 {
		return violation("credit of %d bytes", limit)
	}
	if limit > s.out.told {
		s.credit += limit - s.out.told
		s.out.told = limit
		s.wake()
	}
	return nil
}

// takeStreamControl takes in what concerns one stream.
func (s *session) takeStreamControl(h header, n uint64) error {
	st := s.streams[h.stream]
	if st == nil {
		ours := h.stream%2 == s.nextID%2
		if over := ours && h.stream < s.nextID || !ours && h.stream < s.peerNext; over && h.kind != kindReset {
			return nil // it crossed with the end of the stream
		}
		return violation("a frame of type %d for stream %d, which is not open", h.kind, h.stream)
	}
	code := &endpoint.StreamError{Code: transport.CancelCode(n), Remote: true}
	switch h.kind {
	case kindCredit:
		if n > 1<<62 {
			return violation("credit of %d bytes", n)
		}
		st.limit = max(st.limit, n)
		s.ready(st)
		s.wake()
	case kindStop:
		if !st.sentAll {
			st.fail(code)
			if !st.owes.reset {
				st.owes.reset, st.owes.resetCode = true, code.Code
			}
			s.owe(st)
			s.wake()
		}
	case kindReset:
		if st.hasAll {
			return violation("a reset of stream %d, which it had ended", h.stream)
		}
		st.hasAll = true
		st.stopReading(code)
		s.settle(st)
	}
	return nil
}

// printable is a peer's text for a message of one line.
func printable(b []byte) string {
	out := []rune(string(b))
	for i, r := range out {
		if r < ' ' || r == 0x7f {
			out[i] = ' '
		}
	}
	return string(out)
}
