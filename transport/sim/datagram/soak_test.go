package datagram_test

import (
	"context"
	"math"
	"math/rand/v2"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/identity"
	"github.com/cleaveml/cleave/transport/quic"
	"github.com/cleaveml/cleave/transport/sim/link"
)

// TestSoak: an hour of requests over a link that loses packets and fails every
// five minutes. Nobody waits for ever, nothing is wrong, nothing grows.
func TestSoak(t *testing.T) {
	synctest.Test(t, soak)
}

const (
	soakLength = time.Hour
	failsEvery = 5 * time.Minute
	failsFor   = 8 * time.Second
)

// downAt reports whether the link is down, or will be before an answer can be
// here, or was a moment ago.
func downAt(at time.Duration) bool {
	return at > failsEvery-5*time.Second && (at+5*time.Second)%failsEvery < failsFor+15*time.Second
}

func soak(t *testing.T) {
	s := link.Spec{Rate: 20 * partition.Mbps, Delay: 10 * time.Millisecond, Jitter: time.Millisecond, Loss: link.Loss{Rate: 0.005}}
	s.Outages = []link.Outage{{From: failsEvery, For: failsFor, Every: failsEvery}}
	n := joined(t, s)
	dir := t.TempDir()
	if err := identity.CreateCA(dir); err != nil {
		t.Fatal(err)
	}
	b := endpoint(t, n, dir, "edge", edge, echo)
	a := endpoint(t, n, dir, "device", device, nil)
	a.SetAddress("edge", "10.0.0.2:7433")
	began := time.Now()
	rng := rand.New(rand.NewPCG(1, 1))
	var answered, failed int
	var early, late [2]uint64 // goroutines and bytes of the heap
	for time.Since(began) < soakLength {
		at := time.Since(began)
		size := int(1000 * math.Pow(100, rng.Float64()))
		if err := ask(t, a, size, byte(answered)); err == nil {
			answered++
		} else if failed++; !downAt(at) {
			t.Errorf("after %v: %v", at, err)
		}
		<-time.After(3 * time.Second)
		if at := time.Since(began); early[0] == 0 && at > 9*time.Minute {
			early = still()
		}
	}
	<-time.After(time.Minute)
	if late = still(); answered < 1000 || failed == 0 {
		t.Errorf("%d answered, %d failed", answered, failed)
	}
	t.Logf("%d answered, %d failed; goroutines and heap %v after 9 minutes, %v after an hour", answered, failed, early, late)
	if late[0] > early[0] || float64(late[1]) > 1.05*float64(early[1]) {
		t.Errorf("goroutines and heap were %v, are %v", early, late)
	}
	for _, e := range []*quic.Endpoint{a, b} {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
}

// still waits until nothing is on its way and counts.
func still() [2]uint64 {
	<-time.After(20 * time.Second)
	for range 3 { // pools are emptied by the second
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return [2]uint64{uint64(runtime.NumGoroutine()), m.HeapAlloc}
}

func echo(ctx context.Context, _ transport.Peer, s transport.Stream) {
	got := receive(ctx, s)
	if got.err != nil {
		return
	}
	reply := transport.NewFrame(transport.KindReply)
	defer reply.Release()
	if reply.Add("x", transport.Raw, tensor.FromBytes(got.data)) == nil && s.Send(ctx, reply) == nil {
		_ = s.CloseSend() // the caller sees what is missing
	}
}

// ask sends bytes and wants them back within 5 s.
func ask(t *testing.T, from *quic.Endpoint, size int, fill byte) error {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	conn, err := from.Conn(ctx, "edge")
	if err != nil {
		return err
	}
	s, err := conn.Open(ctx)
	if err != nil {
		return err
	}
	defer s.Cancel(transport.CancelUnwanted)
	data := make([]byte, size)
	for i := range data {
		data[i] = fill + byte(i)
	}
	f := transport.NewFrame("echo")
	defer f.Release()
	if err := f.Add("x", transport.Raw, tensor.FromBytes(data)); err != nil {
		return err
	}
	if err := s.Send(ctx, f); err != nil {
		return err
	}
	if err := s.CloseSend(); err != nil {
		return err
	}
	got := receive(ctx, s)
	if got.err == nil && string(got.data) != string(data) {
		t.Errorf("%d bytes went out, %d others came back", len(data), len(got.data))
	}
	return got.err
}
