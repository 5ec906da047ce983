package gossip

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
)

// refusedRest is how many times longer a seed that refuses is left alone.
const refusedRest = 5

// keeper joins through seeds that are no members, and dials members with whom
// there is no connection.
type keeper struct {
	g *Gossip

	mu    sync.Mutex
	seeds []*seed
	busy  map[partition.HostID]bool // members being dialled
}

// seed is an address to join through. keeper.mu guards it.
type seed struct {
	addr string
	host partition.HostID // who answered there; "" nobody yet
	self bool             // it is this host: nothing to do
	busy bool
	rest time.Time // not tried before
	said string    // the last refusal
}

func newKeeper(g *Gossip) *keeper {
	k := &keeper{g: g, busy: map[partition.HostID]bool{}}
	for _, addr := range g.cfg.Seeds {
		k.seeds = append(k.seeds, &seed{addr: addr})
	}
	return k
}

// run works until gossip ends.
func (k *keeper) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			if !k.g.isLeaving() {
				k.joinSeeds()
			}
			every := k.g.cfg.RejoinInterval
			timer.Reset(every*3/4 + rand.N(every/2+1))
		case <-k.g.hurry:
		case <-k.g.c.ctx.Done():
			return
		}
		k.dialMembers()
	}
}

func (k *keeper) joinSeeds() {
	members := map[partition.HostID]bool{}
	for _, m := range k.g.Members() {
		members[m.Host] = true
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, s := range k.seeds {
		if s.self || s.busy || members[s.host] || time.Now().Before(s.rest) {
			continue
		}
		s.busy = true
		k.g.c.start(func() {
			host, err := k.join(s.addr)
			k.mu.Lock()
			defer k.mu.Unlock()
			s.busy = false
			k.tried(s, host, err)
		})
	}
}

// join greets who is at an address and exchanges lists with it, twice: in the
// first exchange each may learn that the other took it for dead, or for a
// process before this one, and only then can it contradict.
func (k *keeper) join(addr string) (partition.HostID, error) {
	ctx, cancel := context.WithTimeout(k.g.c.ctx, k.g.cfg.DialTimeout)
	defer cancel()
	p, err := k.g.cfg.Network.Greet(ctx, addr)
	if err != nil {
		return p.ID, err
	}
	for range 2 {
		if _, err := k.g.m.Join([]string{fmt.Sprintf("%s/%v", p.ID, named(p.ID))}); err != nil {
			return p.ID, fail(transport.Unreachable, p.ID, err)
		}
	}
	return p.ID, nil
}

// tried notes how it went with a seed.
func (k *keeper) tried(s *seed, host partition.HostID, err error) {
	self := host == k.g.cfg.Network.ID()
	switch kind := transport.KindOf(err); {
	case err == nil:
		s.host, s.said = host, ""
	case self:
		s.self = true
	case k.g.c.ctx.Err() != nil:
	case kind == transport.Refused || kind == transport.Version || kind == transport.Protocol:
		s.rest = time.Now().Add(refusedRest * k.g.cfg.RejoinInterval)
		if s.said != err.Error() {
			s.said = err.Error()
			k.g.report(SeedRefused{s.addr, err})
		}
	default:
		k.g.log.Debug("no cluster at the seed yet", "seed", s.addr, "err", err)
	}
}

// dialMembers sees to a connection with every member that can be dialled.
func (k *keeper) dialMembers() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, m := range k.g.Members() {
		if m.Facts.Address == "" || m.Host == k.g.cfg.Network.ID() || k.busy[m.Host] {
			continue
		}
		k.busy[m.Host] = true
		k.g.c.start(func() {
			ctx, cancel := context.WithTimeout(k.g.c.ctx, k.g.cfg.DialTimeout)
			defer cancel()
			if _, err := k.g.cfg.Network.Conn(ctx, m.Host); err != nil {
				k.g.log.Debug("a member cannot be reached", "host", m.Host, "err", err)
			}
			k.mu.Lock()
			defer k.mu.Unlock()
			delete(k.busy, m.Host)
		})
	}
}
