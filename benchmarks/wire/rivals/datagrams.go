package rivals

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"sync"
	"time"
)

// Datagrams is bare UDP packets, sent as fast as the socket takes them: what a
// link that loses nothing, and its emulator, let through at best. It has no
// congestion control and no repair: requests must fit into the link's queue.
func Datagrams() Adapter {
	return Adapter{Name: "datagrams", Open: func(s *Site) (Pair, error) {
		from, err := s.udp(Caller)
		if err != nil {
			return nil, err
		}
		to, err := s.udp(Server)
		if err != nil {
			return nil, errors.Join(err, from.Close())
		}
		p := &datagramPair{from: from, to: to}
		p.serving.Go(p.serve)
		return p, nil
	}}
}

const (
	datagramBytes = 1472 // of UDP's payload in a packet of 1500
	datagramHead  = 8    // number of the request and of its packets
)

type datagramPair struct {
	from, to *net.UDPConn
	number   uint32
	serving  sync.WaitGroup
}

// serve answers a request when all its packets are here.
func (p *datagramPair) serve() {
	b := make([]byte, datagramBytes)
	var now, got uint32
	for {
		n, from, err := p.to.ReadFromUDPAddrPort(b)
		if err != nil {
			return // closed
		}
		if n < datagramHead {
			continue
		}
		if number := binary.BigEndian.Uint32(b); number != now {
			now, got = number, 0
		}
		if got++; got == binary.BigEndian.Uint32(b[4:]) {
			_, _ = p.to.WriteToUDPAddrPort(b[:datagramHead], from) // whoever asks waits no longer than its context
		}
	}
}

// Connect implements Pair: there is nothing to do.
func (*datagramPair) Connect(context.Context) error { return nil }

// Ask implements Pair. It echoes nothing, and one request is under way at a time.
func (p *datagramPair) Ask(ctx context.Context, data []byte, _ bool) error {
	if err := p.from.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = p.from.SetReadDeadline(time.Unix(1, 0)) })()
	p.number++
	const room = datagramBytes - datagramHead
	packets := max(1, (len(data)+room-1)/room)
	b := make([]byte, datagramBytes)
	binary.BigEndian.PutUint32(b, p.number)
	binary.BigEndian.PutUint32(b[4:], uint32(packets))
	to := p.to.LocalAddr().(*net.UDPAddr).AddrPort()
	for range packets {
		n := copy(b[datagramHead:], data)
		data = data[n:]
		if _, err := p.from.WriteToUDPAddrPort(b[:datagramHead+n], to); err != nil {
			return err
		}
	}
	for {
		_, _, err := p.from.ReadFromUDPAddrPort(b)
		if err != nil {
			return errors.Join(ctx.Err(), err)
		}
		if binary.BigEndian.Uint32(b) == p.number {
			return nil
		}
	}
}

// Way implements Pair.
func (*datagramPair) Way() string { return "" }

// Close implements Pair.
func (p *datagramPair) Close() error {
	err := errors.Join(p.from.Close(), p.to.Close())
	p.serving.Wait()
	return err
}
