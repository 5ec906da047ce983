package rivals

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Windows of gRPC, as large as Cleave's, so that they are not what holds it up.
const (
	streamWindow = 16 << 20
	connWindow   = 32 << 20
)

const (
	service    = "cleave.rivals.Bytes"
	takeMethod = "/" + service + "/Take"
	echoMethod = "/" + service + "/Echo"
)

// GRPC is unary calls of a message of bytes, over TLS, with windows of 16 and
// 32 MiB. The congestion control is the kernel's default.
func GRPC() Adapter {
	return Adapter{Name: "grpc", Open: func(s *Site) (Pair, error) {
		ln, err := listenTCP(s, "")
		if err != nil {
			return nil, err
		}
		conf := s.ids[Server].ListenTLS()
		conf.NextProtos = []string{"h2"}
		p := &grpcPair{site: s, addr: ln.Addr().String(), server: grpc.NewServer(grpc.Creds(credentials.NewTLS(conf)), grpc.MaxRecvMsgSize(mostBytes),
			grpc.InitialWindowSize(streamWindow), grpc.InitialConnWindowSize(connWindow))}
		p.server.RegisterService(&grpc.ServiceDesc{ServiceName: service, Methods: []grpc.MethodDesc{
			{MethodName: "Take", Handler: handle(func(*wrapperspb.BytesValue) []byte { return make([]byte, confirmed) })},
			{MethodName: "Echo", Handler: handle((*wrapperspb.BytesValue).GetValue)},
		}}, nil)
		p.serving.Go(func() { p.failed = p.server.Serve(ln) })
		return p, nil
	}}
}

func handle(answer func(*wrapperspb.BytesValue) []byte) grpc.MethodHandler {
	return func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		in := &wrapperspb.BytesValue{}
		if err := decode(in); err != nil {
			return nil, err
		}
		return wrapperspb.Bytes(answer(in)), nil
	}
}

type grpcPair struct {
	site    *Site
	addr    string
	server  *grpc.Server
	conn    *grpc.ClientConn
	way     atomic.Pointer[string] // congestion control of the latest connection
	serving sync.WaitGroup
	failed  error // of the server
}

// Connect implements Pair.
func (p *grpcPair) Connect(ctx context.Context) error {
	if err := p.drop(); err != nil {
		return err
	}
	conf := p.site.ids[Caller].DialTLS(Server)
	conf.NextProtos = []string{"h2"}
	var err error
	p.conn, err = grpc.NewClient("passthrough:///"+p.addr, grpc.WithTransportCredentials(credentials.NewTLS(conf)),
		grpc.WithContextDialer(p.dial),
		grpc.WithInitialWindowSize(streamWindow), grpc.WithInitialConnWindowSize(connWindow),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(mostBytes)))
	if err != nil {
		return err
	}
	p.conn.Connect()
	for s := p.conn.GetState(); s != connectivity.Ready; s = p.conn.GetState() {
		if !p.conn.WaitForStateChange(ctx, s) {
			return ctx.Err()
		}
	}
	return nil
}

func (p *grpcPair) dial(ctx context.Context, addr string) (net.Conn, error) {
	c, err := dialFrom(ctx, p.site, Caller, "", addr)
	if err == nil {
		way := congestionOf(c)
		p.way.Store(&way)
	}
	return c, err
}

func (p *grpcPair) drop() error {
	if p.conn == nil {
		return nil
	}
	err := p.conn.Close()
	p.conn = nil
	return err
}

// Ask implements Pair.
func (p *grpcPair) Ask(ctx context.Context, data []byte, echo bool) error {
	method := takeMethod
	if echo {
		method = echoMethod
	}
	return p.conn.Invoke(ctx, method, wrapperspb.Bytes(data), &wrapperspb.BytesValue{})
}

// Way implements Pair.
func (p *grpcPair) Way() string {
	if way := p.way.Load(); way != nil {
		return *way
	}
	return ""
}

// Close implements Pair.
func (p *grpcPair) Close() error {
	err := p.drop()
	p.server.Stop()
	p.serving.Wait()
	if errors.Is(p.failed, grpc.ErrServerStopped) {
		p.failed = nil // it was closed before it began
	}
	return errors.Join(err, p.failed)
}
