package tls

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
)

// exchange sends so many bytes and waits for the confirmation.
func exchange(t *testing.T, c transport.Conn, size int) error {
	return exchangeFor(t.Context(), c, size)
}

// exchangeFor is exchange until ctx is done.
func exchangeFor(ctx context.Context, c transport.Conn, size int) error {
	s, err := c.Open(ctx)
	if err != nil {
		return err
	}
	defer s.Cancel(transport.CancelUnwanted)
	f := transport.NewFrame("run")
	if err := f.Add("x", transport.Raw, tensor.FromBytes(make([]byte, size))); err != nil {
		return err
	}
	if err := s.Send(ctx, f); err != nil {
		return err
	}
	if err := s.CloseSend(); err != nil {
		return err
	}
	reply, err := s.Receive(ctx)
	if err == nil {
		reply.Release()
	}
	return err
}

func connect(t *testing.T, e *Endpoint) transport.Conn {
	t.Helper()
	c, err := e.Conn(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestPassesBulk: a short request beside transfers of 16 MB takes a round trip
// and a little.
func TestPassesBulk(t *testing.T) {
	for _, bulk := range []int{1, 4} {
		t.Run(fmt.Sprint(bulk), func(t *testing.T) { synctest.Test(t, func(t *testing.T) { passes(t, bulk) }) })
	}
}

func passes(t *testing.T, bulk int) {
	const rtt, more = 20 * time.Millisecond, 20 * time.Millisecond
	a, _, _ := hosts(t, 20*partition.Mbps, rtt, nil)
	c := connect(t, a)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, bulk)
	for range bulk {
		go func() { done <- exchangeFor(ctx, c, 16<<20) }()
	}
	var took []time.Duration
	for range 30 {
		<-time.After(37 * time.Millisecond)
		began := time.Now()
		if err := exchange(t, c, 10); err != nil {
			t.Fatal(err)
		}
		took = append(took, time.Since(began))
	}
	if len(done) > 0 {
		t.Fatal("the transfer is over")
	}
	slices.Sort(took)
	t.Logf("median %v, longest %v", took[len(took)/2], took[len(took)-1])
	if longest := took[len(took)-1]; longest > rtt+more || longest < rtt {
		t.Errorf("a ping takes %v, the link %v", longest, rtt)
	}
	cancel()
	for range bulk {
		if err := <-done; transport.KindOf(err) != transport.Cancelled {
			t.Error(err)
		}
	}
	if err := exchange(t, c, 10); err != nil { // what was cancelled does not hold the connection up
		t.Error(err)
	}
}

// TestFills: no window is in the way of large transfers on fast and long links.
func TestFills(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size, rtt = 3 << 20, 60 * time.Millisecond
		a, _, _ := hosts(t, 1000*partition.Mbps, rtt, nil)
		c := connect(t, a)
		for range 12 { // more than both windows hold
			began := time.Now()
			if err := exchange(t, c, size); err != nil {
				t.Fatal(err)
			}
			ideal := rtt + size*8*time.Nanosecond
			if took := time.Since(began); took > ideal*104/100 || took < ideal {
				t.Errorf("took %v, the link %v", took, ideal)
			}
		}
	})
}

// TestSilence: a peer that is silent counts as dead after the idle timeout, one
// that has nothing to say does not.
func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := make(chan error, 1)
		a, _, links := hosts(t, 0, 10*time.Millisecond, func(id partition.HostID, c *Config) {
			if id == "a" {
				c.Observe = func(e transport.Event) {
					if d, ok := e.(transport.PeerDown); ok {
						down <- d.Err
					}
				}
			}
		})
		c := connect(t, a)
		<-time.After(time.Minute)
		if err := exchange(t, c, 1000); err != nil || len(down) > 0 {
			t.Errorf("after a quiet minute: %v", err)
		}
		for _, end := range *links {
			end.out.update(func() { end.out.cut = true })
		}
		began := time.Now()
		err := <-down
		if took := time.Since(began); took < 2*time.Second || took > 4*time.Second || transport.KindOf(err) != transport.Broken {
			t.Errorf("missed after %v: %v", took, err)
		}
	})
}

// TestStreamsAreLimited: who may open no more waits, and goes on when others
// have ended.
func TestStreamsAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _, _ := hosts(t, 0, 10*time.Millisecond, func(_ partition.HostID, c *Config) { c.Streams = 2 })
		c := connect(t, a)
		done := make(chan error, 20)
		for range cap(done) {
			go func() { done <- exchange(t, c, 100) }()
		}
		began := time.Now()
		for range cap(done) {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if took := time.Since(began); took < 10*10*time.Millisecond || took > 30*10*time.Millisecond {
			t.Errorf("20 requests, two at a time, took %v", took)
		}
	})
}
