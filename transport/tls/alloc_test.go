//go:build !race

// The race detector empties sync.Pool at random.

package tls

import (
	"io"
	"net"
	"testing"
	"time"
)

// TestSteadyState: an echo allocates nothing in either session.
func TestSteadyState(t *testing.T) {
	here, there := net.Pipe()
	la, lb := newLine(here), newLine(there)
	a, b := newSession(la, la, settings{client: true, idle: time.Minute, streams: 8}), newSession(lb, lb, settings{idle: time.Minute, streams: 8})
	st, err := a.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const size = 100_000
	out, in := make([]byte, size), make([]byte, size)
	if _, err := st.Write(out[:1]); err != nil {
		t.Fatal(err)
	}
	other, err := b.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(other, in[:1]); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		answer(other, size, size)
	}()
	allocs := testing.AllocsPerRun(100, func() {
		if _, err := st.Write(out); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(st, in); err != nil {
			t.Fatal(err)
		}
	})
	if allocs > 0 {
		t.Errorf("an echo of %d bytes allocates %v times", size, allocs)
	}
	finish(t, a, b)
	<-done
}
