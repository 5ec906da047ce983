package datagram_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport/identity"
	"github.com/cleaveml/cleave/transport/quic"
	"github.com/cleaveml/cleave/transport/sim/link"
)

// TestBulk: a small request beside a large transfer waits for the bottleneck's
// queue, which is the network's, and for nothing of ours.
func TestBulk(t *testing.T) {
	for _, mbps := range []float64{2, 20} {
		t.Run(fmt.Sprint(mbps), func(t *testing.T) { synctest.Test(t, func(t *testing.T) { besideBulk(t, mbps) }) })
	}
}

func besideBulk(t *testing.T, mbps float64) {
	n := joined(t, link.Spec{Rate: partition.BitsPerSecond(mbps) * partition.Mbps, Delay: 10 * time.Millisecond})
	dir := t.TempDir()
	if err := identity.CreateCA(dir); err != nil {
		t.Fatal(err)
	}
	b := endpoint(t, n, dir, "edge", edge, echo)
	a := endpoint(t, n, dir, "device", device, nil)
	a.SetAddress("edge", "10.0.0.2:7433")
	if err := ask(t, a, 100, 1); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	size := int(mbps * 1e6 / 8 * 1.5) // 1.5 s there, as much back
	go func() { done <- ask(t, a, size, 1) }()
	var times []time.Duration
	for len(done) == 0 {
		start := time.Now()
		if err := ask(t, a, 100, 1); err != nil {
			t.Error(err)
			break
		}
		times = append(times, time.Since(start))
		<-time.After(50 * time.Millisecond)
	}
	if err := <-done; err != nil || len(times) < 10 {
		t.Errorf("%d requests beside a transfer: %v", len(times), err)
	}
	slices.Sort(times)
	half, most := times[len(times)/2], times[len(times)-1]
	queue := max(200*time.Millisecond, time.Duration(64*8/mbps)*time.Millisecond)
	// A packet that finds the queue full is lost and goes once more.
	if alone := 40 * time.Millisecond; half > alone+queue || most > alone+3*queue {
		t.Errorf("small requests took %v, %v at most", half, most)
	}
	t.Logf("p50 %v, max %v of %d", half, most, len(times))
	for _, e := range []*quic.Endpoint{a, b} {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
}
