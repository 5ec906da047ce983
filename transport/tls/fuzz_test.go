package tls

import (
	"bytes"
	"context"
	stdtls "crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/endpoint"
)

// script is a connection on which a peer has said all it will say, and reads
// everything.
type script struct{ *bytes.Reader }

func (script) Write(p []byte) (int, error)      { return len(p), nil }
func (script) WriteTo(io.Writer) (int64, error) { return 0, errors.ErrUnsupported }
func (script) Close() error                     { return nil }
func (script) LocalAddr() net.Addr              { return memoryAddr("here") }
func (script) RemoteAddr() net.Addr             { return memoryAddr("there") }
func (script) SetDeadline(time.Time) error      { return nil }
func (script) SetReadDeadline(time.Time) error  { return nil }
func (script) SetWriteDeadline(time.Time) error { return nil }

// played is the end of a session that hears these bytes, while an application
// reads and answers all that comes.
func played(said []byte) error {
	l := newLine(script{bytes.NewReader(said)})
	s := newSession(l, l, settings{idle: time.Minute, streams: 4})
	for {
		st, err := s.Accept(context.Background())
		if err != nil {
			break
		}
		b, _ := io.ReadAll(st) // what it is is the fuzzer's affair
		if _, err := st.Write(b[:min(len(b), 1000)]); err == nil {
			_ = st.Close()
		}
		st.CancelRead(transport.CancelUnwanted)
	}
	s.wait()
	return context.Cause(s.Context())
}

// conversation is one that breaks no rule.
func conversation() []byte {
	b := appendSettings(nil, 7946, 10)
	b = append(header{kind: kindData, length: 5, stream: 1}.append(b), "hello"...)
	b = appendNumber(b, kindCredit, 1, streamWindow+100)
	b = appendNumber(b, kindCredit, 0, sessionWindow+100)
	b = header{kind: kindData, fin: true, stream: 1}.append(b)
	b = append(header{kind: kindDatagram, length: 4}.append(b), "gram"...)
	b = appendNumber(b, kindPing, 0, 1)
	b = appendNumber(b, kindStreams, 0, 20)
	b = append(header{kind: kindData, length: 2, stream: 3}.append(b), "hi"...)
	b = appendNumber(b, kindReset, 3, 1)
	b = appendNumber(b, kindStop, 3, 1)
	return appendClose(b, 4, "refused\n")
}

func FuzzSession(f *testing.F) {
	whole := conversation()
	f.Add(whole)
	for _, n := range []int{0, 1, headerSize, 22, 30, len(whole) - 1} {
		f.Add(whole[:n])
	}
	f.Add(append(appendSettings(nil, 0, 1<<63), whole...))
	f.Add(appendNumber(appendSettings(nil, 0, 1), kind(99), 0, 0))
	f.Add(header{kind: kindData, length: 1<<16 - 1, stream: 1}.append(appendSettings(nil, 0, 1)))
	f.Fuzz(func(t *testing.T, said []byte) {
		err := played(said)
		var closed *endpoint.CloseError
		var fault *endpoint.Fault
		if !errors.As(err, &closed) && !errors.As(err, &fault) {
			t.Errorf("ended with %v", err)
		}
		if bytes.HasPrefix(said, whole) && (closed == nil || closed.Code != 4 || closed.Reason != "refused ") {
			t.Errorf("a good conversation ended with %v", err)
		}
	})
}

// FuzzHandshake: bytes of a stranger, before anything is known of it.
func FuzzHandshake(f *testing.F) {
	n := newNetwork(f)
	c, err := NewCarrier(Config{Identity: n.identity(f, "a", 0, ""), Addr: "127.0.0.1:0"})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = c.Close() }) // nobody has connected
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Add([]byte{22, 3, 1, 0xff, 0xff})
	f.Add(firstFlight(f, n))
	f.Fuzz(func(t *testing.T, said []byte) {
		for _, role := range []func(net.Conn, *stdtls.Config) *stdtls.Conn{stdtls.Server, stdtls.Client} {
			l := newLine(script{bytes.NewReader(said)})
			conf := c.cfg.Identity.ListenTLS()
			conf.ServerName = "a"
			_, err := c.shake(t.Context(), l, role(l, conf))
			if kindOf(err) == "" {
				t.Errorf("%x: %v", said, err)
			}
		}
	})
}

// firstFlight is what a client of the cluster says first.
func firstFlight(f *testing.F, n *network) []byte {
	here, there := connection(0, 0)
	conf := n.identity(f, "b", 0, "").DialTLS("a")
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = stdtls.Client(here, conf).Handshake() // nobody answers
	}()
	said := make([]byte, 4096)
	k, err := there.Read(said)
	if err != nil {
		f.Fatal(err)
	}
	_ = there.CloseWrite() // now it gives up
	<-done
	return said[:k]
}
