package main

import (
	"log/slog"
	"net"

	"github.com/cleaveml/cleave/transport/endpoint"
	"github.com/cleaveml/cleave/transport/identity"
	"github.com/cleaveml/cleave/transport/tls"
)

// overTCP is the way to hosts that do not answer by UDP, where a firewall lets
// only TCP through for example: TLS at the same port.
func overTCP(cfg tls.Config) ([]endpoint.Way, error) {
	c, err := tls.NewCarrier(cfg)
	if err != nil {
		return nil, err
	}
	w := endpoint.Way{Name: "tls", Over: "TCP", Use: endpoint.Fallback, Carrier: c}
	if at, ok := c.Addr().(*net.TCPAddr); ok {
		w.Port = uint16(at.Port)
	}
	return []endpoint.Way{w}, nil
}

// dialsTCP is overTCP for who is not dialled.
func dialsTCP(id identity.Identity) ([]endpoint.Way, error) {
	return overTCP(tls.Config{Identity: id, DialOnly: true})
}

// servesTCP is overTCP for an agent; it does without where the port is taken.
// Links that are emulated on the UDP socket have no way around it.
func servesTCP(cfg tls.Config, links *emulation, log *slog.Logger) []endpoint.Way {
	if links.wrapper() != nil {
		return nil
	}
	ways, err := overTCP(cfg)
	if err != nil {
		log.Warn("hosts that UDP does not reach cannot connect", "err", err)
	}
	return ways
}
