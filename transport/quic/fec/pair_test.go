package fec

import (
	"bytes"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// wirePair is a sender and a receiver with a wire that loses, doubles and
// reorders what a test says.
type wirePair struct {
	t       *rapid.T
	send    sender
	recv    receiver
	now     time.Time
	begun   time.Time
	wire    [][]byte
	up      [][]byte
	repairs int
}

func newWirePair(t *rapid.T, parity, lanes int) *wirePair {
	at := time.Unix(0, 0)
	return &wirePair{t: t, send: sender{parity: parity, lanes: lanes}, now: at, begun: at}
}

func (p *wirePair) protect(g *group) {
	if err := p.send.protect(g, p.now.Sub(p.begun), func(b []byte) { p.wire = append(p.wire, bytes.Clone(b)) }); err != nil {
		p.t.Fatal(err)
	}
}

func (p *wirePair) add(packet []byte) {
	var frame [Overhead + packetMost]byte
	framed, full := p.send.add(p.now, p.now.Sub(p.begun), frame[:], packet)
	p.wire = append(p.wire, bytes.Clone(framed))
	if full != nil {
		p.protect(full)
	}
}

// end flushes what is open.
func (p *wirePair) end() {
	p.now = p.now.Add(longest)
	groups, _ := p.send.due(p.now)
	for _, g := range groups {
		p.protect(g)
	}
}

func (p *wirePair) take(b []byte) {
	up, made := p.recv.take(p.now, p.now.Sub(p.begun), b)
	p.repairs += made
	for _, u := range up {
		p.up = append(p.up, bytes.Clone(u))
	}
}

// TestWhatParityCoversArrivesInOrder: whatever is lost of a group, up to its
// parity packets, all packets come, once and in the order they were sent.
func TestWhatParityCoversArrivesInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		parity, lanes := rapid.IntRange(1, parityMost).Draw(t, "parity"), rapid.IntRange(1, lanesMost).Draw(t, "lanes")
		p := newWirePair(t, parity, lanes)
		n := rapid.IntRange(1, 130).Draw(t, "packets")
		var sent [][]byte
		for i := range n {
			packet := bytes.Repeat([]byte{byte(i)}, rapid.IntRange(1, packetMost).Draw(t, "size"))
			sent = append(sent, packet)
			p.add(packet)
		}
		p.end()
		groups, have := map[uint16]int{}, map[uint16]int{}
		for _, b := range p.wire {
			h, ok := parse(b)
			if !ok {
				t.Fatalf("malformed: %v", b[:Overhead])
			}
			if h.kind == kindParity {
				have[h.group]++
			}
		}
		lost := 0
		for _, b := range p.wire {
			h, _ := parse(b)
			// The first packet of all is never lost: nobody could know of it.
			if groups[h.group] < have[h.group] && !(h.kind == kindData && h.number == 0) && rapid.Bool().Draw(t, "lost") {
				groups[h.group]++
				if h.kind == kindData {
					lost++
				}
				continue
			}
			p.take(b)
			if rapid.IntRange(0, 9).Draw(t, "double") == 0 {
				p.take(b)
			}
		}
		if len(p.up) != n || p.repairs != lost {
			t.Fatalf("%d packets of %d came, %d of %d lost ones were made", len(p.up), n, p.repairs, lost)
		}
		for i := range sent {
			if !bytes.Equal(p.up[i], sent[i]) {
				t.Fatalf("packet %d is another", i)
			}
		}
	})
}

// TestNobodyWaitsForever: a packet that cannot be made is given up in time, and
// what came is handed up in order.
func TestNobodyWaitsForever(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := newWirePair(t, 1, 1)
		n := rapid.IntRange(2, 60).Draw(t, "packets")
		for i := range n {
			p.add([]byte{byte(i), 1, 2, 3})
		}
		came := 0
		for i, b := range p.wire {
			if i > 0 && rapid.Bool().Draw(t, "lost") {
				continue
			}
			if h, _ := parse(b); h.kind == kindData {
				came++
			}
			p.take(b)
		}
		for !p.recv.order.until().IsZero() {
			if at := p.recv.order.until(); at.Sub(p.now) > waitMost {
				t.Fatalf("waits for %v", at.Sub(p.now))
			}
			p.now = p.now.Add(waitMost)
			for _, b := range p.recv.order.late(p.now) {
				p.up = append(p.up, bytes.Clone(b))
			}
		}
		if len(p.up) != came+p.repairs {
			t.Fatalf("%d packets handed up, %d came and %d were made", len(p.up), came, p.repairs)
		}
		for i := 1; i < len(p.up); i++ {
			if p.up[i][0] <= p.up[i-1][0] {
				t.Fatalf("%d comes after %d", p.up[i][0], p.up[i-1][0])
			}
		}
	})
}

// TestParityFollowsLoss: none on a clean path, more than the groups of nearly
// all times lose on another, and a full queue's losses do not count.
func TestParityFollowsLoss(t *testing.T) {
	for _, c := range []struct {
		name        string
		lost        func(group int) int
		least, most int
	}{
		{"clean", func(int) int { return 0 }, 0, 0},
		{"1 in 20 groups", func(g int) int { return boolInt(g%20 == 0) }, 1, 1},
		{"1 in 5 groups, 2 in 50", func(g int) int { return boolInt(g%5 == 0) + boolInt(g%50 == 0) }, 3, 3},
		{"9 in each", func(int) int { return 9 }, parityMost, parityMost},
	} {
		var n need
		if got := n.parity(); got != unknown {
			t.Errorf("%s: %d parity packets before anything is known", c.name, got)
		}
		for g := range 2 * groupsWatched {
			n.add(groupMost, c.lost(g))
		}
		if got := n.parity(); got < c.least || got > c.most {
			t.Errorf("%s: %d parity packets, want %d to %d", c.name, got, c.least, c.most)
		}
	}
	var q queue
	for range 100 {
		q.add(true, groupMost, 1)
		q.add(false, groupMost, 1)
	}
	if q.overflows() {
		t.Error("loss that does not know the queue is taken for its overflow")
	}
	for range 100 {
		q.add(true, groupMost, 4)
		q.add(false, groupMost, 0)
	}
	if !q.overflows() {
		t.Error("loss near the full queue alone is taken for random")
	}
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// FuzzReceive: nothing that arrives does harm, and what is handed up is no
// longer than a packet.
func FuzzReceive(f *testing.F) {
	p := newWirePair(nil, 2, 1)
	for i := range 25 {
		p.add(bytes.Repeat([]byte{byte(i)}, 40))
	}
	f.Add(bytes.Join(p.wire, nil), uint16(Overhead+40))
	f.Fuzz(func(t *testing.T, data []byte, size uint16) {
		data = data[:min(len(data), 1<<14)]
		var r receiver
		now := time.Unix(0, 0)
		for n := int(size)%(Overhead+shardMost+2) + 1; len(data) > 0; {
			b := data[:min(n, len(data))]
			data = data[len(b):]
			if rep, ok := parseReport(b); ok && (rep.lanes == 0 || rep.parity > parityMost) {
				t.Fatalf("%+v", rep)
			}
			up, _ := r.take(now, 0, b)
			for _, u := range up {
				if len(u) > packetMost {
					t.Fatalf("%d bytes handed up", len(u))
				}
			}
			now = now.Add(time.Millisecond)
			r.settle(now)
			r.order.late(now)
		}
	})
}
