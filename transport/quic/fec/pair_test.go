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

func newWirePair(t *rapid.T, parity int) *wirePair {
	at := time.Unix(0, 0)
	return &wirePair{t: t, send: sender{parity: parity}, now: at, begun: at}
}

func (p *wirePair) add(packet []byte) {
	var frame [Overhead + packetMost]byte
	framed, full := p.send.add(p.now, p.now.Sub(p.begun), frame[:], packet)
	p.wire = append(p.wire, bytes.Clone(framed))
	if full {
		p.end()
	}
}

// end has the group's parity follow.
func (p *wirePair) end() {
	if err := p.send.protect(p.now.Sub(p.begun), func(b []byte) { p.wire = append(p.wire, bytes.Clone(b)) }); err != nil {
		p.t.Fatal(err)
	}
}

func (p *wirePair) take(b []byte) {
	up, made := p.recv.take(p.now, p.now.Sub(p.begun), b)
	p.repairs += made
	for _, u := range up {
		p.up = append(p.up, bytes.Clone(u))
	}
}

// TestWhatParityCoversArrives: whatever is lost of a group, up to its parity
// packets, all packets come, and none that was not sent.
func TestWhatParityCoversArrives(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := newWirePair(t, rapid.IntRange(1, parityMost).Draw(t, "parity"))
		n := rapid.IntRange(1, 130).Draw(t, "packets")
		for i := range n {
			p.add(bytes.Repeat([]byte{byte(i)}, rapid.IntRange(1, packetMost).Draw(t, "size")))
		}
		if !p.send.due().IsZero() {
			p.end()
		}
		sent, spare := map[string]int{}, map[uint16]int{}
		for _, b := range p.wire {
			h, ok := parse(b)
			if !ok {
				t.Fatalf("malformed: %v", b[:Overhead])
			}
			if h.kind == kindParity {
				spare[h.group]++
			} else {
				sent[string(b[Overhead:])]++
			}
		}
		wire, lost := p.wire, 0
		if rapid.Bool().Draw(t, "reordered") {
			wire = rapid.Permutation(wire).Draw(t, "order")
		}
		for _, b := range wire {
			h, _ := parse(b)
			if spare[h.group] > 0 && rapid.Bool().Draw(t, "lost") {
				if spare[h.group]--; h.kind == kindData {
					lost++
				}
				continue
			}
			p.take(b)
		}
		came := map[string]int{}
		for _, b := range p.up {
			came[string(b)]++
		}
		for packet, times := range sent {
			if came[packet] < times {
				t.Fatalf("%d of %d packets like %d… came", came[packet], times, packet[0])
			}
		}
		// In another order parity may make what is only late.
		if len(came) > len(sent) || p.repairs < lost {
			t.Fatalf("%d kinds of packets of %d came, %d of %d lost ones were made", len(came), len(sent), p.repairs, lost)
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
		{"1 in 20 groups", func(g int) int { return boolInt(g%20 == 0) }, 1, 2},
		{"1 in 5 groups, 2 in 50", func(g int) int { return boolInt(g%5 == 0) + boolInt(g%50 == 0) }, 2, 3},
		{"12 in each", func(int) int { return 12 }, parityMost, parityMost},
		{"15 in each", func(int) int { return 15 }, 0, 0}, // more than parity repairs
		{"bursts of 8, and single ones", func(g int) int { return 15*boolInt(g%20 == 0) + boolInt(g%20 == 7) }, 0, 0},
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
	p := newWirePair(nil, 2)
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
			if rep, ok := parseReport(b); ok && (rep.parity > parityMost || rep.size < groupLeast || rep.size > groupMost) {
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
		}
	})
}

// TestPeerThatBeginsAnew: what a process sends that was started again at the same
// address comes, though its groups are those of long ago, and is repaired.
func TestPeerThatBeginsAnew(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := newWirePair(t, 8)
		p.send.group.number = rapid.Uint16().Draw(t, "group")
		move := func(n, lost int) (came int) {
			before := len(p.up)
			for i := range n {
				p.add([]byte{byte(i), 1})
			}
			for i, b := range p.wire {
				if i != lost {
					p.take(b)
				}
			}
			p.wire = nil
			return len(p.up) - before
		}
		move(groupMost*rapid.IntRange(1, 100).Draw(t, "groups"), -1)
		p.send = sender{parity: 8, group: group{number: p.send.group.number - uint16(rapid.IntRange(1, 60_000).Draw(t, "back"))}}
		p.now = p.now.Add(past)
		if came := move(2*groupMost, 5); came != 2*groupMost {
			t.Fatalf("%d packets came", came)
		}
	})
}

// TestGroupsEnd: when full, when nothing follows, and in any case in time.
func TestGroupsEnd(t *testing.T) {
	p := newWirePair(nil, 1)
	if !p.send.due().IsZero() {
		t.Error("an empty group is due")
	}
	p.add([]byte{1})
	if got := p.send.due().Sub(p.now); got != patience {
		t.Errorf("due after %v", got)
	}
	begun := p.now
	for range groupMost - 2 {
		p.now = p.now.Add(patience / 4)
		p.add([]byte{1})
	}
	if got := p.send.due().Sub(begun); got != longest {
		t.Errorf("due after %v", got)
	}
	p.add([]byte{1})
	if !p.send.due().IsZero() || p.send.group.number != 1 {
		t.Errorf("a full group is %+v", p.send.group.number)
	}
}

// TestGroupsLastNoLonger: the slower packets come, the sooner a group ends.
func TestGroupsLastNoLonger(t *testing.T) {
	for each, want := range map[time.Duration]uint8{time.Microsecond: groupMost, 500 * time.Microsecond: 32, 5 * time.Millisecond: groupLeast} {
		var p pace
		if p.size() != groupMost {
			t.Errorf("%d before anything is known", p.size())
		}
		p.add(paceOf-1, time.Hour) // too few to tell
		for range 10 {
			p.add(11, 10*each)
		}
		if p.size() != want {
			t.Errorf("%v: %d, want %d", each, p.size(), want)
		}
		s := sender{}
		s.hear(report{number: 1, size: want})
		var frame [Overhead + packetMost]byte
		n := 1
		for ; ; n++ {
			if _, full := s.add(time.Unix(0, 0), 0, frame[:], []byte{1}); full {
				break
			}
		}
		if n != int(want) {
			t.Errorf("a group has %d packets, want %d", n, want)
		}
	}
}

// TestParityOfShortGroups: never more than of a full one, never less than its part.
func TestParityOfShortGroups(t *testing.T) {
	for p := range parityMost + 1 {
		for n := 1; n <= groupMost; n++ {
			if r := parityOf(p, n); r > p || r*groupMost < p*n {
				t.Errorf("%d of %d for %d packets", r, p, n)
			}
		}
		if parityOf(p, groupMost) != p {
			t.Errorf("%d of %d for a full group", parityOf(p, groupMost), p)
		}
	}
}

// TestTail: against the sum of what two packets can lose.
func TestTail(t *testing.T) {
	if got := tail(2, 0, 0.1); got < 0.19-1e-9 || got > 0.19+1e-9 {
		t.Errorf("%g", got)
	}
	if got := tail(2, 1, 0.1); got < 0.01-1e-9 || got > 0.01+1e-9 {
		t.Errorf("%g", got)
	}
}
