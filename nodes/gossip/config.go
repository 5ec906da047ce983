package gossip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
)

// Network is what gossip needs of an endpoint; *quic.Endpoint has it.
type Network interface {
	// ID is this host's name.
	ID() partition.HostID
	// Conn returns the connection with a host, which it dials if need be.
	Conn(ctx context.Context, id partition.HostID) (transport.Conn, error)
	// Greet connects with the node at an address. Where this host itself
	// answers it returns its name with an error.
	Greet(ctx context.Context, addr string) (transport.Peer, error)
	// SendDatagram sends over the live connection, or fails with kind
	// Unreachable, or Unsupported where the bytes are too many. It does not block.
	SendDatagram(id partition.HostID, b []byte) error
	// SetAddress says where a host can be dialled; "" nowhere.
	SetAddress(id partition.HostID, addr string)
}

// Config describes a member. Network is required; zero fields mean the default
// named here. All members should use the same timing.
type Config struct {
	Network Network
	// Self is what the others shall know of this host.
	Self Facts
	// Seeds are addresses, host:port, of members to join through. Those that
	// are not members are tried again and again. None: others join this host.
	Seeds []string
	// Observe hears of members, from one goroutine, in order. It may call
	// methods, but not Close. nil: nobody listens.
	Observe func(Event)
	// Log is slog.Default. What memberlist says comes at level debug.
	Log *slog.Logger

	// ProbeInterval is how often a member is asked whether it is there, each
	// in turn: 500 ms.
	ProbeInterval time.Duration
	// ProbeTimeout is when others are asked to ask it too: 350 ms. It should
	// be three times the usual round trip; it is less than ProbeInterval.
	ProbeTimeout time.Duration
	// Suspicion is how many intervals a silent member has to contradict, for
	// up to ten members; times log₁₀ of their number beyond: 3. Together they
	// should be twice what a packet there and back takes on a busy uplink.
	Suspicion int
	// GossipInterval is how often news are passed on: 200 ms.
	GossipInterval time.Duration
	// PushPullInterval is how often the whole list is exchanged with one
	// member: 20 s.
	PushPullInterval time.Duration
	// RejoinInterval is how often missing seeds and connections are tried,
	// with ±25 % of jitter: 2 s.
	RejoinInterval time.Duration
	// DialTimeout bounds each such attempt: 5 s.
	DialTimeout time.Duration
}

func (c Config) withDefaults() (Config, error) {
	if c.Network == nil {
		return c, fail(transport.BadConfig, "", errors.New("Config.Network is missing"))
	}
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&c.ProbeInterval, 500 * time.Millisecond}, {&c.ProbeTimeout, 350 * time.Millisecond},
		{&c.GossipInterval, 200 * time.Millisecond}, {&c.PushPullInterval, 20 * time.Second},
		{&c.RejoinInterval, 2 * time.Second}, {&c.DialTimeout, 5 * time.Second},
	} {
		if *d.field < 0 {
			return c, fail(transport.BadConfig, "", errors.New("times cannot be negative"))
		}
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if c.ProbeTimeout >= c.ProbeInterval {
		return c, fail(transport.BadConfig, "", fmt.Errorf("ProbeTimeout %v must be less than ProbeInterval %v", c.ProbeTimeout, c.ProbeInterval))
	}
	if c.Suspicion < 0 {
		return c, fail(transport.BadConfig, "", fmt.Errorf("Suspicion %d cannot be negative", c.Suspicion))
	}
	if c.Suspicion == 0 {
		c.Suspicion = 3
	}
	if c.Observe == nil {
		c.Observe = func(Event) {}
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	return c, nil
}

func fail(kind transport.Kind, peer partition.HostID, err error) error {
	return &transport.Error{Op: "gossip", Peer: peer, Kind: kind, Err: err}
}
