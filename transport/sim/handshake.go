package sim

import (
	"fmt"
	"time"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/endpoint"
)

// flight is a part of the handshake, as TLS 1.3 with mutual certificates has
// them under QUIC. The sizes are of its packets' content.
type flight uint8

const (
	firstFlight  flight = iota // of who dials: client hello
	secondFlight               // of who listens: server hello, certificate
	thirdFlight                // of who dials: certificate
	fourthFlight               // of who listens: it is done, a ticket
	flights
)

var flightSizes = [flights][]tensor.Bytes{{1220, 1220}, {1220, 1220, 500}, {800}, {300}}

// hello is what a flight says.
type hello struct {
	flight flight
	from   certificate
	// streams that the sender lets the peer open.
	streams int64
}

func (h *hello) size(part int) tensor.Bytes { return flightSizes[h.flight][part] }

// greet sends a flight.
func (s *session) greet(f flight) {
	h := &hello{f, s.host.certificate, int64(s.host.cfg.Streams)}
	for part := range flightSizes[f] {
		s.control(frame{kind: frameHandshake, hello: h, part: part})
	}
}

// greeted takes in a part of a flight.
func (s *session) greeted(f frame, now time.Time) {
	bit := uint8(1) << f.part
	if s.flights[f.hello.flight]&bit != 0 {
		return
	}
	s.flights[f.hello.flight] |= bit
	if s.flights[f.hello.flight] != 1<<len(flightSizes[f.hello.flight])-1 {
		return
	}
	switch f.hello.flight {
	case firstFlight:
		s.greet(secondFlight)
	case secondFlight:
		s.meet(f.hello)
		if err := s.trust(f.hello.from); err != nil {
			s.refuse(err, now)
			return
		}
		s.greet(thirdFlight)
		s.establish()
	case thirdFlight:
		s.meet(f.hello)
		if f.hello.from.authority != s.host.certificate.authority {
			s.refuse(fmt.Errorf("the certificate of %s is of another authority", f.hello.from.id), now)
			return
		}
		s.greet(fourthFlight)
		s.recovery.confirmed = true
		s.establish()
	case fourthFlight:
		s.recovery.confirmed = true
	}
}

func (s *session) meet(h *hello) { s.peer, s.mayOpen = h.from, h.streams }

// trust is what who dials demands of a certificate.
func (s *session) trust(c certificate) error {
	switch {
	case c.authority != s.host.certificate.authority:
		return fmt.Errorf("the certificate of %s is of another authority", c.id)
	case s.want == "" && c.role != transport.Node:
		return fmt.Errorf("%s is a %s, not a node; correct the address", c.id, c.role)
	case s.want != "" && c.id != s.want:
		return fmt.Errorf("%s answered where %s was expected; correct the address", c.id, s.want)
	}
	return nil
}

// establish makes the session usable.
func (s *session) establish() {
	close(s.established)
	s.isEstablished = true
	if !s.client {
		s.host.accepted = append(s.host.accepted, s)
		wake(s.host.arrivals)
	}
}

// refuse ends a handshake because of the peer's certificate.
func (s *session) refuse(err error, now time.Time) {
	fault := &endpoint.Fault{Kind: transport.Refused,
		Err: fmt.Errorf("the peer has no certificate that this host accepts; are both from the same CA? (%w)", err)}
	s.end(fault, frame{kind: frameClose, fin: true, data: []byte(err.Error())}, now)
	s.report(fault)
}

// refused is the other side of it.
func (s *session) refused(reason string) error {
	fault := &endpoint.Fault{Kind: transport.Refused,
		Err: fmt.Errorf("the peer does not accept this host's certificate; are both from the same CA? (%s)", reason)}
	s.report(fault)
	return fault
}

// report tells the observer of who listens of a handshake that failed.
func (s *session) report(fault *endpoint.Fault) {
	if !s.client {
		e := transport.PeerRefused{Addr: s.remote, Err: &transport.Error{Op: "accept", Kind: fault.Kind, Err: fault.Err}}
		s.net.notices = append(s.net.notices, func() { s.host.cfg.Observe(e) })
	}
}

// Peer implements endpoint.Session.
func (s *session) Peer() (transport.Peer, error) {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	return transport.Peer{ID: s.peer.id, Role: s.peer.role, Addr: s.remote}, nil
}
