package gossip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
)

// Kind is the kind of frames that carry gossip: the agent passes a stream that
// begins with one to Serve.
const Kind = "gossip"

// The first byte of a datagram, and of a frame's control message.
const (
	asPacket  byte = 'p' // a packet for memberlist
	asRelayed byte = 'r' // the same, through a third member: names, then the packet
	asStream  byte = 's' // one write to a stream
)

const (
	// packetSize is how much memberlist packs together: a relayed packet, with
	// two names in front, still fits a datagram.
	packetSize = 1024
	// largeAtOnce bounds packets on their way as frames.
	largeAtOnce = 4
)

// nowhere and nowherePort are every member's address as memberlist sees it, who
// cannot do without: names are what counts, and addresses never conflict.
var nowhere = net.IPv4(127, 0, 0, 1).To4()

const nowherePort = 1

var errClosed = errors.New("gossip is closed")

// named is a member's name as a net.Addr. Its text looks like host:port to
// memberlist, which parses it.
type named partition.HostID

// Network implements net.Addr.
func (n named) Network() string { return "udp" }

// String implements net.Addr.
func (n named) String() string { return fmt.Sprintf("%v:%d", nowhere, nowherePort) }

// carrier is memberlist's transport over the network.
type carrier struct {
	net     Network
	relays  func() []partition.HostID // members that can be dialled, in any order
	news    news
	refused func(from partition.HostID, err error)
	timeout time.Duration // of a packet sent as a frame

	ctx     context.Context //nolint:containedctx // of all goroutines and streams: done when it closes
	cancel  context.CancelFunc
	packets chan *memberlist.Packet
	streams chan net.Conn
	large   chan struct{} // tokens for packets sent as frames

	mu     sync.Mutex
	closed bool
	wg     sync.WaitGroup // of goroutines, and of streams that are served
}

var _ memberlist.NodeAwareTransport = (*carrier)(nil)

// begin counts the caller in as a goroutine, who calls wg.Done, unless the
// carrier is closed.
func (c *carrier) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.wg.Add(1)
	}
	return !c.closed
}

// start runs f in a goroutine, unless the carrier is closed.
func (c *carrier) start(f func()) {
	if c.begin() {
		go func() {
			defer c.wg.Done()
			f()
		}()
	}
}

// close ends what is under way and returns when it has ended.
func (c *carrier) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.cancel()
	c.wg.Wait()
}

// FinalAdvertiseAddr implements memberlist.Transport.
func (c *carrier) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return nowhere, nowherePort, nil
}

// PacketCh implements memberlist.Transport.
func (c *carrier) PacketCh() <-chan *memberlist.Packet { return c.packets }

// StreamCh implements memberlist.Transport.
func (c *carrier) StreamCh() <-chan net.Conn { return c.streams }

// Shutdown implements memberlist.Transport.
func (c *carrier) Shutdown() error {
	c.cancel()
	return nil
}

// WriteTo implements memberlist.Transport; nobody calls it.
func (c *carrier) WriteTo([]byte, string) (time.Time, error) {
	return time.Time{}, errors.New("a packet without a name")
}

// DialTimeout implements memberlist.Transport; nobody calls it.
func (c *carrier) DialTimeout(string, time.Duration) (net.Conn, error) {
	return nil, errors.New("a stream without a name")
}

// WriteToAddress sends a packet over the live connection with a member, else
// through another member. memberlist takes the *net.OpError for a sign that
// the member cannot be reached from here, and asks others to probe it.
func (c *carrier) WriteToAddress(b []byte, to memberlist.Address) (time.Time, error) {
	now, id := time.Now(), partition.HostID(to.Name)
	err := errClosed
	if c.ctx.Err() == nil {
		err = c.net.SendDatagram(id, append([]byte{asPacket}, b...))
	}
	switch transport.KindOf(err) {
	case transport.Unsupported:
		c.sendLarge(id, b)
		return now, nil
	case transport.Unreachable:
		if c.relay(id, b) {
			return now, nil
		}
	}
	if err != nil {
		return now, &net.OpError{Op: "write", Net: "udp", Addr: named(id), Err: err}
	}
	return now, nil
}

// relay sends a packet through the first member that is connected of those
// that everybody is.
func (c *carrier) relay(to partition.HostID, b []byte) bool {
	from := c.net.ID()
	d := []byte{asRelayed, byte(len(to))}
	d = append(append(d, to...), byte(len(from)))
	d = append(append(d, from...), b...)
	for _, id := range c.relays() {
		if id != to && id != from && c.net.SendDatagram(id, d) == nil {
			return true
		}
	}
	return false
}

// sendLarge sends a packet that no datagram holds as the only frame of a
// stream. It may be lost, like others.
func (c *carrier) sendLarge(to partition.HostID, b []byte) {
	select {
	case c.large <- struct{}{}:
	default:
		return
	}
	b = append([]byte(nil), b...)
	c.start(func() {
		defer func() { <-c.large }()
		ctx, cancel := context.WithTimeout(c.ctx, c.timeout)
		defer cancel()
		conn, err := c.net.Conn(ctx, to)
		if err != nil {
			return
		}
		s, err := conn.Open(ctx)
		if err != nil {
			return
		}
		defer s.Cancel(transport.CancelUnwanted)
		if s.Send(ctx, frame(asPacket, b)) == nil && s.CloseSend() == nil {
			if f, err := s.Receive(ctx); err == nil { // its end says that the packet is there
				f.Release()
			}
		}
	})
}

// datagram takes a packet from the network.
func (c *carrier) datagram(peer partition.HostID, b []byte) error {
	switch {
	case len(b) > maxPacket:
		return fmt.Errorf("datagram of %d bytes exceeds the limit of %d", len(b), maxPacket)
	case len(b) > 0 && b[0] == asPacket:
		return c.deliver(peer, b[1:])
	case len(b) == 0 || b[0] != asRelayed:
		return fmt.Errorf("no gossip datagram: %.8x", b)
	}
	to, rest, ok := cutName(b[1:])
	from, rest, ok2 := cutName(rest)
	if !ok || !ok2 {
		return errors.New("truncated relayed datagram")
	}
	if err := checkNames(string(to), string(from)); err != nil {
		return err
	}
	switch {
	case to == c.net.ID():
		return c.deliver(from, rest)
	case from != peer:
		return fmt.Errorf("relayed datagram for %s from %s, which is two steps", to, from)
	}
	_ = c.net.SendDatagram(to, b) // it may be lost
	return nil
}

func cutName(b []byte) (id partition.HostID, rest []byte, ok bool) {
	if len(b) == 0 || len(b) < 1+int(b[0]) {
		return "", nil, false
	}
	return partition.HostID(b[1 : 1+b[0]]), b[1+b[0]:], true
}

// deliver hands a packet to memberlist, or drops it where that is behind.
func (c *carrier) deliver(from partition.HostID, b []byte) error {
	if err := checkPacket(b, c.news); err != nil {
		return err
	}
	select {
	case c.packets <- &memberlist.Packet{Buf: b, From: named(from), Timestamp: time.Now()}:
	default:
	}
	return nil
}

// DialAddressTimeout opens a stream to a member.
func (c *carrier) DialAddressTimeout(to memberlist.Address, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(c.ctx, timeout)
	defer cancel()
	id := partition.HostID(to.Name)
	conn, err := c.net.Conn(ctx, id)
	if err != nil {
		return nil, err
	}
	s, err := conn.Open(ctx)
	if err != nil {
		return nil, err
	}
	return &stream{ctx: c.ctx, c: c, s: s, peer: id, dialed: true, over: make(chan struct{})}, nil
}

// serve answers a stream until memberlist has closed it.
func (c *carrier) serve(ctx context.Context, peer partition.HostID, s transport.Stream, first *transport.Frame) error {
	if !c.begin() {
		first.Release()
		s.Cancel(transport.CancelUnwanted)
		return nil
	}
	defer c.wg.Done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.ctx, cancel)()
	as, b, err := content(first)
	first.Release()
	switch {
	case err == nil && as == asPacket:
		err = c.deliver(peer, b)
	case err == nil && as == asStream:
		err = checkStream(b, c.news)
	case err == nil:
		err = fmt.Errorf("frame of unknown use %q", as)
	}
	switch {
	case err != nil:
		s.Cancel(transport.CancelProtocol)
		return err
	case as == asPacket:
		_ = s.CloseSend() // the packet is here, whatever the sender hears
		return nil
	}
	conn := &stream{ctx: ctx, c: c, s: s, peer: peer, arrived: b, over: make(chan struct{})}
	select {
	case c.streams <- conn:
		<-conn.over // memberlist closes every stream that it takes
	case <-ctx.Done():
		s.Cancel(transport.CancelUnwanted)
	}
	return nil
}
