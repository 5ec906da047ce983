package quic

import (
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	quicgo "github.com/quic-go/quic-go"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/wire"
)

// TestSlowSender: a member that stops within a frame, or lets it drip, loses
// the stream, and nothing but the stream.
func TestSlowSender(t *testing.T) {
	for _, c := range []struct {
		name  string
		every time.Duration // a byte
	}{{"stops", time.Hour}, {"drips", time.Second}} {
		t.Run(c.name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { sendSlowly(t, c.every) }) })
	}
}

func sendSlowly(t *testing.T, every time.Duration) {
	n := newNetwork(t)
	here, there := newPipe(1), newPipe(2)
	here.to, there.to = there, here
	refused := make(chan error, 1)
	b, err := Listen(Config{Identity: n.identity(t, "b", 0, ""), PacketConn: there, Observe: func(e transport.Event) {
		if r, ok := e.(transport.StreamRefused); ok {
			refused <- r.Err
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	tr := &quicgo.Transport{Conn: here}
	conf := dialTLS(n.identity(t, "a", 0, ""), "b")
	conn, err := tr.Dial(t.Context(), there.LocalAddr().(*net.UDPAddr), conf, &quicgo.Config{EnableDatagrams: true, KeepAlivePeriod: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	sayHello(t, conn)
	f := transport.NewFrame("run")
	if err := f.Add("x", transport.Raw, tensor.FromBytes(make([]byte, 10_000))); err != nil {
		t.Fatal(err)
	}
	bytes := frame(t, f)
	start := time.Now()
	s := say(t, conn, bytes[:100])
	go func() {
		for _, b := range bytes[100:] {
			select {
			case <-time.After(every):
			case <-conn.Context().Done():
				return
			}
			if _, err := s.Write([]byte{b}); err != nil {
				return
			}
		}
	}()
	if took := time.Since(start); transport.KindOf(<-refused) != transport.Timeout {
		t.Errorf("refused after %v", took)
	}
	if took := time.Since(start); took < 10*time.Second || took > 15*time.Second {
		t.Errorf("refused after %v", took)
	}
	_, err = io.ReadAll(s)
	var by *quicgo.StreamError
	if !errors.As(err, &by) || !by.Remote {
		t.Errorf("the sender hears %v", err)
	}
	other := say(t, conn, frame(t, transport.NewFrame("run"))) // for which there is no handler
	if _, err := io.ReadAll(other); !errors.As(err, &by) || conn.Context().Err() != nil {
		t.Errorf("another stream: %v, the connection: %v", err, conn.Context().Err())
	}
	_ = conn.CloseWithError(0, "")
	if err := errors.Join(tr.Close(), here.Close(), b.Close()); err != nil {
		t.Error(err)
	}
}

func sayHello(t *testing.T, conn *quicgo.Conn) {
	t.Helper()
	hello := transport.NewFrame("transport.hello")
	hello.Header.ProtocolVersion = transport.ProtocolVersion
	hello.Header.Hello = &wire.Hello{Host: "a", Role: string(transport.Node), Instance: 1}
	greeting := say(t, conn, frame(t, hello))
	if err := greeting.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(greeting); err != nil {
		t.Fatal(err)
	}
}

func frame(t *testing.T, f *transport.Frame) []byte {
	t.Helper()
	var out sink
	if _, err := transport.NewWriter(&out, transport.Limits{}).Write(f); err != nil {
		t.Fatal(err)
	}
	return out
}

type sink []byte

func (s *sink) Write(b []byte) (int, error) {
	*s = append(*s, b...)
	return len(b), nil
}

func say(t *testing.T, conn *quicgo.Conn, b []byte) *quicgo.Stream {
	t.Helper()
	s, err := conn.OpenStreamSync(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write(b); err != nil {
		t.Fatal(err)
	}
	return s
}
