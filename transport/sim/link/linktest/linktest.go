// Package linktest is what every face of package link has to pass. Conform asks
// what no load on a machine can break: which packets are lost, doubled and held
// back, none earlier than its delay and none faster than the rate. Exact asks
// for the figures themselves and is for virtual time, in a bubble of
// testing/synctest.
package linktest

import (
	"encoding/binary"
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/transport/sim/link"
)

// Face is one direction of an emulated link. All fields are required.
type Face struct {
	// A sends to B.
	A, B net.PacketConn
	// Headers is what the link counts for each packet beside its payload.
	Headers tensor.Bytes
	// Set puts a spec into force, Counters tell what has happened.
	Set      func(link.Spec)
	Counters func() link.Counters
}

// patience bounds how long packets may take that are due.
const patience = time.Minute

// arrival of a packet at B.
type arrival struct {
	id int
	at time.Time
}

// exchange is what became of packets 0, 1, …
type exchange struct {
	sent     []time.Time
	arrived  []arrival
	counters link.Counters // of these packets
}

// traffic is packets of a payload, a burst at a time, with a gap between two.
// The next burst waits until all of the one before is accounted for.
type traffic struct {
	packets, burst int
	payload        tensor.Bytes
	gap            time.Duration
}

// play puts a spec into force and sends.
func (f Face) play(t *testing.T, s link.Spec, tr traffic) exchange {
	t.Helper()
	f.Set(link.Spec{Cut: true}) // so that it begins anew even if it holds
	f.Set(s)
	before := f.Counters()
	var e exchange
	for len(e.sent) < tr.packets {
		f.burst(t, &e, tr, before)
	}
	return e
}

// burst sends and receives until all that was sent has arrived or is lost.
func (f Face) burst(t *testing.T, e *exchange, tr traffic, before link.Counters) {
	t.Helper()
	first := len(e.sent)
	count := min(tr.burst, tr.packets-first)
	e.sent = append(e.sent, make([]time.Time, count)...)
	done := make(chan error, 1)
	go func() { done <- f.send(e.sent[first:], first, tr) }()
	sending := true
	last := time.Now()
	data := make([]byte, 1<<16)
	for {
		if sending {
			select {
			case err := <-done:
				if err != nil {
					t.Fatal(err)
				}
				sending = false
			default:
			}
		}
		if e.counters = minus(f.Counters(), before); !sending && e.complete() {
			return
		}
		if err := f.B.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		n, _, err := f.B.ReadFrom(data)
		now := time.Now()
		switch {
		case err == nil && n == int(tr.payload):
			e.arrived = append(e.arrived, arrival{int(binary.BigEndian.Uint32(data)), now})
			last = now
		case !errors.Is(err, os.ErrDeadlineExceeded):
			t.Fatalf("%d bytes came, %v", n, err)
		case !sending && now.Sub(last) > patience:
			t.Fatalf("of %d packets %d arrived; %+v", len(e.sent), len(e.arrived), e.counters)
		}
	}
}

func (f Face) send(sent []time.Time, first int, tr traffic) error {
	data := make([]byte, tr.payload)
	for i := range sent {
		binary.BigEndian.PutUint32(data, uint32(first+i))
		sent[i] = time.Now()
		if _, err := f.A.WriteTo(data, f.B.LocalAddr()); err != nil {
			return err
		}
		if tr.gap > 0 {
			<-time.After(tr.gap)
		}
	}
	return nil
}

// complete says whether every packet is accounted for.
func (e *exchange) complete() bool {
	c := e.counters
	return c.Packets+c.Dropped >= int64(len(e.sent)) && int64(len(e.arrived)) >= c.Packets-c.Lost+c.Doubled
}

func minus(a, b link.Counters) link.Counters {
	return link.Counters{Packets: a.Packets - b.Packets, Bytes: a.Bytes - b.Bytes,
		Dropped: a.Dropped - b.Dropped, DroppedBytes: a.DroppedBytes - b.DroppedBytes,
		Lost: a.Lost - b.Lost, Late: a.Late - b.Late, Doubled: a.Doubled - b.Doubled}
}

// copies is how often each packet arrived.
func (e *exchange) copies() []int {
	out := make([]int, len(e.sent))
	for _, a := range e.arrived {
		if a.id < len(out) {
			out[a.id]++
		}
	}
	return out
}

// ordered says whether no packet has overtaken another.
func (e *exchange) ordered() bool {
	for i := 1; i < len(e.arrived); i++ {
		if e.arrived[i].id < e.arrived[i-1].id {
			return false
		}
	}
	return true
}

// took is how long each arrival was under way.
func (e *exchange) took() []time.Duration {
	out := make([]time.Duration, len(e.arrived))
	for i, a := range e.arrived {
		out[i] = a.at.Sub(e.sent[a.id])
	}
	return out
}
