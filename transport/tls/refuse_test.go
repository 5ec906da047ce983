package tls

import (
	stdtls "crypto/tls"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
)

// TestRefused: strangers who cannot show a certificate of the cluster, or who do
// not speak TLS 1.3, are turned away, and the host serves others.
func TestRefused(t *testing.T) {
	n := newNetwork(t)
	refused := make(chan error, 16)
	server, err := Listen(Config{Identity: n.identity(t, "b", 0, ""), Addr: "127.0.0.1:0", Handler: confirm, Observe: func(e transport.Event) {
		if r, ok := e.(transport.PeerRefused); ok {
			refused <- r.Err
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	addr := server.Addr().String()
	good := n.identity(t, "a", 0, "").DialTLS("b")
	for name, alter := range map[string]func(*stdtls.Config){
		"no certificate": func(c *stdtls.Config) { c.Certificates = nil },
		"TLS 1.2":        func(c *stdtls.Config) { c.MinVersion, c.MaxVersion = stdtls.VersionTLS12, stdtls.VersionTLS12 },
		"another protocol": func(c *stdtls.Config) {
			c.NextProtos = []string{"h2"}
		},
		"no protocol": func(c *stdtls.Config) { c.NextProtos = nil },
	} {
		conf := good.Clone()
		alter(conf)
		c, err := stdtls.Dial("tcp", addr, conf)
		if err == nil { // it shows at first use
			_, err = c.Read(make([]byte, 1))
			_ = c.Close() // it has been refused
		}
		var op *net.OpError
		if hears := errors.As(err, &op) && op.Op == "remote error"; hears == (name == "no protocol") || err == nil {
			t.Errorf("%s: the stranger hears %v", name, err)
		}
		if err := <-refused; transport.KindOf(err) != transport.Refused || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
	plain, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(plain, "GET / HTTP/1.1\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	_, _ = io.ReadAll(plain) // until it is turned away
	_ = plain.Close()
	a, err := Listen(Config{Identity: n.identity(t, "c", 0, ""), Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	a.SetAddress("b", addr)
	if err := exchange(t, connect(t, a), 1000); err != nil {
		t.Error(err)
	}
}

// TestNoTLS: the error says so where something else answers.
func TestNoTLS(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if c, err := ln.Accept(); err == nil {
			_, _ = io.WriteString(c, "SSH-2.0-OpenSSH_9.2\r\n")
			_, _ = io.Copy(io.Discard, c) // until it has gone
			_ = c.Close()
		}
	}()
	a, err := Listen(Config{Identity: newNetwork(t).identity(t, "a", 0, ""), Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	a.SetAddress("b", ln.Addr().String())
	_, err = a.Conn(t.Context(), "b")
	if transport.KindOf(err) != transport.Unreachable || !strings.Contains(err.Error(), "does not speak TLS") {
		t.Errorf("got %v", err)
	}
	if err := errors.Join(a.Close(), ln.Close()); err != nil {
		t.Error(err)
	}
	<-done
}

// TestStrangers: who opens connections and says nothing takes the place of
// others like it, and nobody else's.
func TestStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var there net.Listener
		a, b, _ := hosts(t, 0, 10*time.Millisecond, func(id partition.HostID, c *Config) {
			if id == "b" {
				there = c.Listener
			}
		})
		var silent []*memory
		for range strangers + 10 {
			here, remote := connection(0, time.Millisecond)
			there.(*listener).conns <- remote
			silent = append(silent, here)
		}
		synctest.Wait()
		b.carrier.mu.Lock()
		if held := len(b.carrier.shaking); held != strangers {
			t.Errorf("%d strangers are held, want %d", held, strangers)
		}
		b.carrier.mu.Unlock()
		if err := exchange(t, connect(t, a), 1000); err != nil {
			t.Error(err)
		}
		<-time.After(b.carrier.cfg.DialTimeout + time.Second)
		for _, s := range silent {
			if _, err := io.ReadAll(s); err != nil {
				t.Error(err)
			}
			_ = s.Close() // it was let go
		}
		b.carrier.mu.Lock()
		defer b.carrier.mu.Unlock()
		if len(b.carrier.shaking) > 0 {
			t.Errorf("%d strangers are still held", len(b.carrier.shaking))
		}
	})
}

func TestCongestion(t *testing.T) {
	n := newNetwork(t)
	e, err := Listen(Config{Identity: n.identity(t, "b", 0, ""), Addr: "127.0.0.1:0", Congestion: "reno"})
	if runtime.GOOS != "linux" {
		if transport.KindOf(err) != transport.BadConfig {
			t.Errorf("a choice that this system does not give: %v", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	a, err := Listen(Config{Identity: n.identity(t, "a", 0, ""), Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	a.SetAddress("b", e.Addr().String())
	connect(t, a)
	if got := e.carrier.Congestion("a"); got != "reno" {
		t.Errorf("where reno was asked for: %q", got)
	}
	if a.carrier.Congestion("b") == "" || a.carrier.Congestion("c") != "" {
		t.Errorf("where nothing was asked for: %q; without a connection: %q", a.carrier.Congestion("b"), a.carrier.Congestion("c"))
	}
}
