package shaper

import (
	"encoding/binary"
	"errors"
	"math"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport/sim/link"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sink notes what is written to it, and when.
type sink struct {
	net.PacketConn
	mu     sync.Mutex
	at     []time.Time
	ids    []uint32
	closed bool
}

func (s *sink) WriteTo(p []byte, _ net.Addr) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, errors.New("closed")
	}
	s.at, s.ids = append(s.at, time.Now()), append(s.ids, binary.BigEndian.Uint32(p))
	return len(p), nil
}

func (s *sink) Close() error { s.closed = true; return nil }

var to = &net.UDPAddr{IP: net.IPv4(10, 0, 0, 2), Port: 4433}

var addr = netip.MustParseAddrPort("10.0.0.2:4433")

func send(t *testing.T, c *Conn, id uint32, size int) {
	t.Helper()
	p := make([]byte, size)
	binary.BigEndian.PutUint32(p, id)
	if n, err := c.WriteTo(p, to); n != size || err != nil {
		t.Fatal(n, err)
	}
}

// pass lets time go by, in most tests virtual time.
func pass(d time.Duration) { <-time.After(d) }

func TestRateDelayOrder(t *testing.T) {
	for _, rate := range []partition.BitsPerSecond{1.1 * partition.Mbps, 18.88 * partition.Mbps, 100 * partition.Mbps} {
		synctest.Test(t, func(t *testing.T) {
			s := &sink{}
			c := Wrap(s)
			c.SetSpec(addr, link.Spec{Rate: rate, Delay: 30 * time.Millisecond, Queue: 10 << 20})
			start := time.Now()
			const packets, size = 1000, 1222
			for i := range packets {
				send(t, c, uint32(i), size)
			}
			pass(time.Minute)
			synctest.Wait()
			want := time.Duration(packets * (size + headers) * 8 / float64(rate) * float64(time.Second))
			got := s.at[len(s.at)-1].Sub(start) - 30*time.Millisecond
			if math.Abs(float64(got-want)) > 0.01*float64(want) {
				t.Errorf("%v: took %v, want %v", rate, got, want)
			}
			if first := s.at[0].Sub(start); first < 30*time.Millisecond || first > 42*time.Millisecond {
				t.Errorf("%v: the first packet came after %v", rate, first)
			}
			if len(s.ids) != packets || !slices.IsSorted(s.ids) {
				t.Errorf("%v: %d packets came, in order: %v", rate, len(s.ids), slices.IsSorted(s.ids))
			}
			if got := c.Counters(addr); got != (link.Counters{Packets: packets, Bytes: packets * (size + headers)}) {
				t.Errorf("%v: counters %+v", rate, got)
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestDropTail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sink{}
		c := Wrap(s)
		defer c.Close()
		c.SetSpec(addr, link.Spec{Rate: 8 * partition.Mbps, Queue: 10_000})
		for i := range 100 {
			send(t, c, uint32(i), 1000-headers)
		}
		pass(time.Second)
		synctest.Wait()
		// One packet is on the wire, ten wait.
		if len(s.ids) < 10 || len(s.ids) > 11 || !slices.IsSorted(s.ids) || s.ids[0] != 0 {
			t.Errorf("came: %v", s.ids)
		}
		got := c.Counters(addr)
		if got.Packets != int64(len(s.ids)) || got.Packets+got.Dropped != 100 || got.DroppedBytes != tensor.Bytes(got.Dropped*1000) {
			t.Errorf("counters %+v", got)
		}
	})
}

func TestSpecsChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sink{}
		c := Wrap(s)
		start := time.Now()
		send(t, c, 1, 100) // no spec: passes at once
		c.SetSpec(addr, link.Spec{Delay: time.Second})
		send(t, c, 2, 100)
		c.SetSpec(addr, link.Spec{Delay: time.Millisecond})
		send(t, c, 3, 100) // never before the one in front
		pass(2 * time.Second)
		send(t, c, 4, 100)
		pass(time.Second)
		c.RemoveSpec(addr)
		send(t, c, 5, 100)
		if !slices.Equal(s.ids, []uint32{1, 2, 3, 4, 5}) {
			t.Fatalf("came: %v", s.ids)
		}
		for i, want := range []time.Duration{0, time.Second, time.Second, 2*time.Second + time.Millisecond, 3 * time.Second} {
			if got := s.at[i].Sub(start); got != want {
				t.Errorf("packet %d came after %v, want %v", i+1, got, want)
			}
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestCloseSendsWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sink{}
		c := Wrap(s)
		c.SetSpec(addr, link.Spec{Delay: time.Hour})
		for i := range 3 {
			send(t, c, uint32(i), 100)
		}
		if err := c.Close(); err != nil || !slices.Equal(s.ids, []uint32{0, 1, 2}) {
			t.Errorf("came: %v %v", s.ids, err)
		}
	})
}

// clock tells when packets are written to it.
type clock struct {
	net.PacketConn
	at chan time.Time
}

func (c clock) WriteTo(p []byte, _ net.Addr) (int, error) {
	c.at <- time.Now()
	return len(p), nil
}

func (clock) Close() error { return nil }

// BenchmarkLateness measures how late packets leave in real time.
func BenchmarkLateness(b *testing.B) {
	s := clock{at: make(chan time.Time, 1)}
	c := Wrap(s)
	defer c.Close()
	const delay = 5 * time.Millisecond
	c.SetSpec(addr, link.Spec{Delay: delay})
	var late []time.Duration
	p := make([]byte, 1200)
	for range b.N {
		start := time.Now()
		if _, err := c.WriteTo(p, to); err != nil {
			b.Fatal(err)
		}
		late = append(late, (<-s.at).Sub(start)-delay)
		pass(3 * time.Millisecond)
	}
	slices.Sort(late)
	b.ReportMetric(float64(late[len(late)/2].Microseconds()), "µs-late-p50")
	b.ReportMetric(float64(late[len(late)*95/100].Microseconds()), "µs-late-p95")
}
