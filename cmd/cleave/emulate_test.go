package main

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/cleaveml/cleave/nodes/cluster"
	"github.com/cleaveml/cleave/transport/sim/link"
)

// nowhere takes every packet.
type nowhere struct{ net.PacketConn }

func (nowhere) WriteTo(p []byte, _ net.Addr) (int, error) { return len(p), nil }
func (nowhere) Close() error                              { return nil }

func testFile() cluster.File {
	return cluster.File{
		Hosts: []cluster.Host{{Name: "device"}, {Name: "edge", Address: "10.0.0.2:7433"}, {Name: "cloud", Address: "10.0.0.3:7433"}},
		Emulate: cluster.Emulate{Links: []cluster.EmulatedLink{
			{To: "edge", Mbps: 8}, {To: "cloud", Description: link.Description{Loss: "1%", Delay: "1ms"}}}},
	}
}

// TestEmulationFollows: links are those of the file, then those of the latest
// line; a line that cannot be followed is told and changes nothing.
func TestEmulationFollows(t *testing.T) {
	var log, answers bytes.Buffer
	e := newEmulation(testFile(), true, slog.New(slog.NewTextHandler(&log, nil)))
	conn := e.wrapper()(nowhere{})
	defer conn.Close()
	shaped := func(addr string) bool {
		to := net.UDPAddrFromAddrPort(netip.MustParseAddrPort(addr))
		before := e.conn.Counters(to.AddrPort())
		if _, err := conn.WriteTo(make([]byte, 100), to); err != nil {
			t.Fatal(err)
		}
		return e.conn.Counters(to.AddrPort()) != before
	}
	for _, step := range []struct {
		lines, answers, log string
		shaped              string // of the addresses below
	}{
		{"", "", "", "10.0.0.2:7433 10.0.0.3:7433"},
		{`{"links":[{"to":"edge","rate":"5.85Mbps","delay":"15ms"}]}`, "links: 1\n", "", "10.0.0.2:7433"},
		{`{"links":[{"to":"edge","address":"10.0.0.9:4711","cut":true}]}`, "links: 1\n", "", "10.0.0.9:4711"},
		{`links please`, "", "a line on standard input is ignored", "10.0.0.9:4711"},
		{`{"links":[{"to":"edge","rate":"-5Mbps","delay":"15ms"}]}`, "", `want a rate such as 18.88Mbps`, "10.0.0.9:4711"},
		{`{"links":[{"to":"moon","rate":"1Mbps"},{"to":"device","rate":"1Mbps"},{"to":"cloud","rate":"1Mbps"}]}`,
			"links: 1\n", "to=moon", "10.0.0.3:7433"},
		{`{"links":[]}`, "links: 0\n", "", ""},
		{strings.Repeat("x", 1<<20), "", "", ""},
	} {
		log.Reset()
		answers.Reset()
		e.follow(strings.NewReader(step.lines), &answers)
		if answers.String() != step.answers || !strings.Contains(log.String(), step.log) || step.log == "" && log.Len() > 0 {
			t.Errorf("%.100s: answers %q, logs %q", step.lines, answers.String(), log.String())
		}
		var got []string
		for _, addr := range []string{"10.0.0.2:7433", "10.0.0.3:7433", "10.0.0.9:4711"} {
			if shaped(addr) {
				got = append(got, addr)
			}
		}
		if strings.Join(got, " ") != step.shaped {
			t.Errorf("%.100s: shapes %v, want %s", step.lines, got, step.shaped)
		}
	}
}

// TestEmulationBeforeListening: links that come before there is a socket hold
// for it; an agent that no lab holds and whose file has no links is not shaped.
func TestEmulationBeforeListening(t *testing.T) {
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	if newEmulation(cluster.File{}, false, log).wrapper() != nil {
		t.Error("an agent without links is shaped")
	}
	e := newEmulation(cluster.File{}, true, log)
	e.follow(strings.NewReader(`{"links":[{"to":"edge","address":"10.0.0.2:7433","rate":"1Mbps"}]}`), io.Discard)
	conn := e.wrapper()(nowhere{})
	defer conn.Close()
	to := netip.MustParseAddrPort("10.0.0.2:7433")
	if _, err := conn.WriteTo(make([]byte, 100), net.UDPAddrFromAddrPort(to)); err != nil || e.conn.Counters(to).Packets != 1 {
		t.Errorf("%v, %+v", err, e.conn.Counters(to))
	}
}
