package main

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"

	"github.com/cleaveml/cleave/benchmarks/lab"
	"github.com/cleaveml/cleave/benchmarks/lab/shaper"
	"github.com/cleaveml/cleave/nodes/cluster"
	"github.com/cleaveml/cleave/transport/sim/link"
)

// emulation shapes what this host sends: at first as the cluster file asks,
// then, if the agent is tied to a lab, as the lab says.
type emulation struct {
	file cluster.File
	tied bool
	log  *slog.Logger

	mu    sync.Mutex
	conn  *shaper.Conn // nil until there is a socket
	specs map[netip.AddrPort]link.Spec
}

func newEmulation(file cluster.File, tied bool, log *slog.Logger) *emulation {
	e := &emulation{file: file, tied: tied, log: log}
	var links []lab.Direction
	for _, l := range file.Emulate.Links {
		spec, err := l.Spec()
		if err == nil {
			l.Description, err = link.Describe(spec)
		}
		if err != nil {
			log.Warn("link is not emulated", "to", l.To, "err", err)
			continue
		}
		links = append(links, lab.Direction{To: l.To, Description: l.Description})
	}
	e.set(links)
	return e
}

// wrapper is nil where no link is, or will be, emulated: shaping costs the
// socket its batches.
func (e *emulation) wrapper() func(net.PacketConn) net.PacketConn {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.tied && len(e.specs) == 0 {
		return nil
	}
	return func(inner net.PacketConn) net.PacketConn {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.conn = shaper.Wrap(inner)
		for to, spec := range e.specs {
			e.conn.SetSpec(to, spec)
		}
		return e.conn
	}
}

// set makes these the links from now on and returns how many are emulated: a
// host without a known address is told of and left out.
func (e *emulation) set(links []lab.Direction) int {
	specs := map[netip.AddrPort]link.Spec{}
	for _, l := range links {
		to, err := e.address(l)
		var spec link.Spec
		if err == nil {
			spec, err = l.Spec("") // the lab names traces by their full paths
		}
		if err != nil {
			e.log.Warn("link is not emulated", "to", l.To, "err", err)
			continue
		}
		specs[to] = spec
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.conn != nil {
		for to := range e.specs {
			if _, stays := specs[to]; !stays {
				e.conn.RemoveSpec(to)
			}
		}
		for to, spec := range specs {
			e.conn.SetSpec(to, spec)
		}
	}
	e.specs = specs
	return len(specs)
}

func (e *emulation) address(l lab.Direction) (netip.AddrPort, error) {
	if l.Address == "" {
		host, err := e.file.Find(l.To)
		if err != nil {
			return netip.AddrPort{}, err
		}
		if host.Address == "" {
			return netip.AddrPort{}, fmt.Errorf("%s has no address", l.To)
		}
		l.Address = host.Address
	}
	addr, err := net.ResolveUDPAddr("udp", l.Address)
	if err != nil {
		return netip.AddrPort{}, err
	}
	ap := addr.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), nil
}

// follow applies what a lab writes to in, a lab.Control a line, and answers on
// out, until in ends.
func (e *emulation) follow(in io.Reader, out io.Writer) {
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		c, err := lab.ParseControl(lines.Bytes())
		if err != nil {
			e.log.Warn("a line on standard input is ignored", "err", err)
			continue
		}
		fmt.Fprint(out, lab.AppliedLinks(e.set(c.Links)))
	}
	_, _ = io.Copy(io.Discard, in) // a line that was too long
}
