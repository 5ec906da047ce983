package soak

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/identity"
	"github.com/cleaveml/cleave/transport/quic"
)

const (
	caller  partition.HostID = "caller"
	server  partition.HostID = "server"
	visitor partition.HostID = "visitor"
)

// issue makes a cluster of these hosts in a folder.
func issue(dir string) error {
	if err := identity.CreateCA(dir); err != nil {
		return err
	}
	for _, id := range []partition.HostID{caller, server, visitor} {
		if err := identity.Issue(dir, id, transport.Node); err != nil {
			return err
		}
	}
	return nil
}

// pair is two endpoints that are connected.
type pair struct {
	dir            string
	caller, server *quic.Endpoint
	conn           transport.Conn
	garbage        net.Conn

	visiting sync.Mutex // there is one visitor
	mu       sync.Mutex
	row      Row
}

func open(ctx context.Context, dir string) (_ *pair, err error) {
	p := &pair{dir: dir}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	if p.server, err = listen(dir, server, echo); err != nil {
		return nil, err
	}
	if p.caller, err = listen(dir, caller, nil); err != nil {
		return nil, err
	}
	p.caller.SetAddress(server, p.server.Addr().String())
	if p.conn, err = p.caller.Conn(ctx, server); err != nil {
		return nil, err
	}
	p.garbage, err = net.Dial("udp", p.server.Addr().String())
	return p, err
}

func listen(dir string, id partition.HostID, h transport.Handler) (*quic.Endpoint, error) {
	who, err := identity.Load(dir, id)
	if err != nil {
		return nil, err
	}
	return quic.Listen(quic.Config{Identity: who, Addr: "127.0.0.1:0", Handler: h})
}

func (p *pair) close() error {
	var errs []error
	for _, e := range []*quic.Endpoint{p.caller, p.server} {
		if e != nil {
			errs = append(errs, e.Close())
		}
	}
	if p.garbage != nil {
		errs = append(errs, p.garbage.Close())
	}
	return errors.Join(errs...)
}

// echo sends a tensor back as it came.
func echo(ctx context.Context, _ transport.Peer, s transport.Stream) {
	f, err := s.Receive(ctx)
	if err != nil {
		return
	}
	defer f.Release()
	x, err := f.Tensor(0)
	if err != nil {
		return
	}
	reply := transport.NewFrame(transport.KindReply)
	defer reply.Release()
	if reply.Add("x", transport.Raw, x) == nil && s.Send(ctx, reply) == nil {
		_ = s.CloseSend() // the caller sees what is missing
	}
}

func (p *pair) answered() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.row.Answered
}

func (p *pair) note(n *int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	*n++
}

// act does one thing of those that the method names.
func (p *pair) act(ctx context.Context, rng *rand.Rand) error {
	switch k := rng.IntN(20); {
	case k < 2:
		return p.cancelled(ctx, rng)
	case k < 4:
		return p.late(ctx, rng)
	case k == 4:
		return p.visit(ctx, rng)
	case k == 5:
		junk := make([]byte, 1+rng.IntN(1400))
		for i := range junk {
			junk[i] = byte(rng.Uint32())
		}
		_, _ = p.garbage.Write(junk) // a full socket drops it
		p.note(&p.row.Garbage)
	}
	return p.ask(ctx, p.conn, rng)
}

// ask sends a tensor and checks what comes back.
func (p *pair) ask(ctx context.Context, conn transport.Conn, rng *rand.Rand) error {
	x, codec := draw(rng)
	s, err := conn.Open(ctx)
	if err != nil {
		return unless(ctx, err)
	}
	defer s.Cancel(transport.CancelUnwanted)
	if err := send(ctx, s, codec, x); err != nil {
		return unless(ctx, err)
	}
	f, err := s.Receive(ctx)
	if err != nil {
		return unless(ctx, err)
	}
	defer f.Release()
	got, err := f.Tensor(0)
	if err != nil {
		return err
	}
	if len(got.Data) != len(x.Data) || codec.Lossless() && !bytes.Equal(got.Data, x.Data) {
		p.note(&p.row.Wrong)
	}
	p.note(&p.row.Answered)
	return nil
}

// unless ignores what fails because the time is over.
func unless(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	return nil
}

// draw makes a tensor of 1 kB to 1 MB, as a ReLU leaves it.
func draw(rng *rand.Rand) (tensor.Tensor, transport.Codec) {
	n := int(256 * math.Pow(1000, rng.Float64()))
	values := make([]float32, n)
	for i := range values {
		values[i] = max(0, float32(rng.NormFloat64()))
	}
	all := transport.Codecs()
	codec := all[rng.IntN(len(all))]
	x := tensor.FromFloat32(values, 1, int64(n))
	if !codec.Supports(tensor.Float32) {
		codec = transport.Raw
	}
	return x, codec
}

func send(ctx context.Context, s transport.Stream, codec transport.Codec, x tensor.Tensor) error {
	f := transport.NewFrame("echo")
	defer f.Release()
	if err := f.Add("x", codec, x); err != nil {
		return err
	}
	if err := s.Send(ctx, f); err != nil {
		return err
	}
	return s.CloseSend()
}

// cancelled asks and does not wait for the answer.
func (p *pair) cancelled(ctx context.Context, rng *rand.Rand) error {
	x, codec := draw(rng)
	s, err := p.conn.Open(ctx)
	if err != nil {
		return unless(ctx, err)
	}
	defer s.Cancel(transport.CancelUnwanted)
	p.note(&p.row.Cancelled)
	return unless(ctx, send(ctx, s, codec, x))
}

// late asks with a deadline that has passed before an answer can be here.
func (p *pair) late(ctx context.Context, rng *rand.Rand) error {
	x, codec := draw(rng)
	brief, cancel := context.WithTimeout(ctx, 50*time.Microsecond)
	defer cancel()
	s, err := p.conn.Open(brief)
	if err != nil {
		p.note(&p.row.Late)
		return unless(brief, err)
	}
	defer s.Cancel(transport.CancelTimeout)
	err = send(brief, s, codec, x)
	if err == nil {
		var f *transport.Frame
		if f, err = s.Receive(brief); err == nil {
			f.Release()
		}
	}
	p.note(&p.row.Late)
	if brief.Err() == nil && err != nil {
		return fmt.Errorf("before its deadline: %w", err)
	}
	return nil
}

// visit is an endpoint that comes, asks once and goes.
func (p *pair) visit(ctx context.Context, rng *rand.Rand) (err error) {
	p.visiting.Lock()
	defer p.visiting.Unlock()
	e, err := listen(p.dir, visitor, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	e.SetAddress(server, p.server.Addr().String())
	conn, err := e.Conn(ctx, server)
	if err != nil {
		return unless(ctx, err)
	}
	p.note(&p.row.Visits)
	return p.ask(ctx, conn, rng)
}
