package nodes

import (
	"cmp"
	"context"
	"hash/fnv"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/scheduler"
)

// Announcement is what a host tells all others of itself as it changes.
type Announcement struct {
	// Load is compute slots in use, as a fraction; may be above 1.
	Load float64
	// Profiles changes whenever a profile of the host does.
	Profiles uint32
	// Models of which it has all blocks, newest first, by digest or its beginning.
	Models []models.Digest
}

// announcements are what other hosts told, and what this one holds.
type announcements struct {
	mu    sync.Mutex
	heard map[partition.HostID]Announcement
	held  []models.Digest
	at    time.Time // the change of the store that held is as of
}

// Announcement is what others should know of this host now.
func (a *Agent) Announcement() Announcement {
	return Announcement{Load: a.Load(), Profiles: a.own.revision(), Models: a.held()}
}

// revision is of all profiles of this host.
func (o *ownProfiles) revision() uint32 {
	o.mu.Lock()
	defer o.mu.Unlock()
	h := fnv.New32a()
	for _, name := range slices.Sorted(maps.Keys(o.byName)) {
		v := o.byName[name].version()
		_, _ = h.Write([]byte(name + v.Taken.Format(time.RFC3339Nano) + string(rune(v.Corrections))))
	}
	return h.Sum32()
}

// held lists the models of the store; it reads them again when one has come or gone.
func (a *Agent) held() []models.Digest {
	w := &a.announced
	w.mu.Lock()
	defer w.mu.Unlock()
	folder, err := os.Stat(a.cfg.Store.Dir())
	if err != nil || folder.ModTime().Equal(w.at) {
		return w.held
	}
	w.at, w.held = folder.ModTime(), nil
	graphs, _ := a.cfg.Store.List() // status tells of what is damaged
	for _, g := range graphs {
		w.held = append(w.held, g.Digest)
	}
	return w.held
}

// pulled has the store read again: a model that arrived is complete.
func (w *announcements) pulled() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.at = time.Time{}
}

// Announced tells the agent what another host says of itself.
func (a *Agent) Announced(host partition.HostID, is Announcement) {
	if host == a.cfg.ID {
		return
	}
	w := &a.announced
	w.mu.Lock()
	was := w.heard[host]
	if w.heard == nil {
		w.heard = map[partition.HostID]Announcement{}
	}
	w.heard[host] = is
	w.mu.Unlock()
	a.steering.step(scheduler.Utilised{Host: host, Load: is.Load})
	if is.Profiles != was.Profiles {
		a.steering.reprofile(host)
	}
}

// reprofile asks a host for profiles that are newer than those its streams
// follow from.
func (s *steering) reprofile(host partition.HostID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := map[models.Digest]bool{}
	for _, st := range s.streams {
		if _, known := st.profiled[host]; !known || asked[st.g.Digest] {
			continue
		}
		asked[st.g.Digest] = true
		g, input, r := st.g, st.input, st.survey(false)
		s.start(func() {
			ctx, cancel := context.WithTimeout(s.ctx, renewTimeout)
			defer cancel()
			if _, err := s.a.profileOf(ctx, g, host, input, r, func(progress) {}); err != nil {
				s.a.log.Info("no newer profile", "peer", host, "err", err)
				return
			}
			s.rebase(g.Digest)
		})
	}
}

// sources are where to pull a model from: the given hosts in their order, and
// the members that say they have it. One of these comes before a given one where a
// block takes less than half of the time from it.
func (a *Agent) sources(digest models.Digest, given []partition.HostID) []partition.HostID {
	out := a.without(given)
	links := a.net.Links()
	takes := func(h partition.HostID) float64 { // s, of one reply
		l, ok := links[h]
		if !ok || !(l.In.Rate > 0) {
			return math.Inf(1)
		}
		return l.In.RTT.Seconds() + 8*float64(blocksPerReply)/float64(l.In.Rate)
	}
	others := slices.DeleteFunc(a.holders(digest), func(h partition.HostID) bool { return slices.Contains(out, h) })
	slices.SortFunc(others, func(x, y partition.HostID) int { return cmp.Or(cmp.Compare(takes(x), takes(y)), cmp.Compare(x, y)) })
	for _, h := range others {
		at := slices.IndexFunc(out, func(g partition.HostID) bool { return takes(h) < takes(g)/2 })
		if at < 0 {
			at = len(out)
		}
		out = slices.Insert(out, at, h)
	}
	return out
}

// holders are the members that say they have a model, in any order.
func (a *Agent) holders(digest models.Digest) []partition.HostID {
	w := &a.announced
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []partition.HostID
	for host, is := range w.heard {
		has := slices.ContainsFunc(is.Models, func(d models.Digest) bool { return d != "" && strings.HasPrefix(string(digest), string(d)) })
		if has && a.alive(host) {
			out = append(out, host)
		}
	}
	return out
}
