package nodes

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/cleaveml/cleave/models"
)

// ownProfiles are what this host measured and has been asked for in this life.
type ownProfiles struct {
	drift Drift

	mu     sync.Mutex
	byName map[string]Profile
	lives  map[models.Digest]*live
}

// profileVersion tells one profile of a host from the next.
type profileVersion struct {
	Taken       time.Time `json:"taken"`
	Corrections int       `json:"corrections"`
}

func (p Profile) version() profileVersion { return profileVersion{p.Taken, p.Corrections} }

func (v profileVersion) equal(o profileVersion) bool {
	return v.Taken.Equal(o.Taken) && v.Corrections == o.Corrections
}

// keep takes a profile up.
func (o *ownProfiles) keep(name string, p Profile) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.byName == nil {
		o.byName = map[string]Profile{}
	}
	if was, ok := o.byName[name]; !ok || !was.version().equal(p.version()) {
		delete(o.lives, p.Model) // what was observed goes with what it was compared with
	}
	o.byName[name] = p
}

// named is the profile of this life under a name.
func (o *ownProfiles) named(name string) (Profile, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	p, ok := o.byName[name]
	return p, ok
}

// taken is the profile that was measured at a time, with what live timings have
// made of it.
func (o *ownProfiles) taken(model models.Digest, at time.Time) (Profile, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, p := range o.byName {
		if p.Model == model && p.Taken.Equal(at) {
			return p, true
		}
	}
	return Profile{}, false
}

// of is the latest profile of a model. o.mu is held.
func (o *ownProfiles) of(model models.Digest) (Profile, bool) {
	var latest Profile
	found := false
	for _, p := range o.byName {
		if p.Model == model && (!found || p.Taken.After(latest.Taken)) {
			latest, found = p, true
		}
	}
	return latest, found
}

// rescale multiplies the times of a model's profiles and returns them by name.
// o.mu is held.
func (o *ownProfiles) rescale(model models.Digest, factor float64) map[string]Profile {
	out := map[string]Profile{}
	for name, p := range o.byName {
		if p.Model == model {
			out[name] = p.rescaled(factor)
		}
	}
	maps.Copy(o.byName, out)
	return out
}

// rescaled is the profile of a host that computes so many times longer. Codecs
// stay as they are: requests do not tell what each takes.
func (p Profile) rescaled(factor float64) Profile {
	times := func(d time.Duration) time.Duration { return time.Duration(float64(d) * factor) }
	p.Whole = times(p.Whole)
	p.Ops = slices.Clone(p.Ops)
	for i, d := range p.Ops {
		p.Ops[i] = times(d)
	}
	p.Timed = maps.Clone(p.Timed)
	for ops, d := range p.Timed {
		p.Timed[ops] = times(d)
	}
	if p.Corrections == 0 {
		p.Drift = 1
	}
	p.Drift *= factor
	p.Corrections++
	return p
}

// profileName is under what a profile is remembered: whatever it depends on.
func (a *Agent) profileName(model models.Digest, r profileRequest) string {
	return fmt.Sprintf("%s %s %s x%g slots %d runs %d cuts %d", model, a.cfg.CPU, a.cfg.Runtime,
		a.cfg.Compute.Pace().Factor(), a.cfg.Compute.Pace().Slots(), r.Runs, r.Cuts)
}

// rememberedProfile is what this host measured of the model in an earlier life.
// What it measured without the weights counts for as long as it lacks them.
func (a *Agent) rememberedProfile(g *models.Graph, r profileRequest) (Profile, bool) {
	if r.Refresh {
		return Profile{}, false
	}
	p, ok := a.own.named(a.profileName(g.Digest, r))
	if !ok {
		p, ok = a.profileOnDisk(g, r)
	}
	if !ok || p.Model != g.Digest || len(p.Ops) != len(g.Ops) || !p.covers(r.Codecs) || p.StandIn && complete(g) {
		return Profile{}, false
	}
	p.Host = a.cfg.ID
	return p, true
}

func (a *Agent) profileOnDisk(g *models.Graph, r profileRequest) (p Profile, ok bool) {
	if a.cfg.Memory == nil {
		return p, false
	}
	data, ok, err := a.cfg.Memory.Profile(a.profileName(g.Digest, r))
	if err != nil {
		a.log.Warn("profile not readable, measuring anew", "model", g.Name, "err", err)
	}
	return p, ok && err == nil && json.Unmarshal(data, &p) == nil
}

// complete reports whether all weights of a model are here.
func complete(g *models.Graph) bool { return g.Has(g.Range(0, len(g.Ops))) }

// newer answers a host that has a profile of this one; ok is false where it has
// to be measured: this host lacked weights then and has them now.
func (a *Agent) newer(r profileRequest) (p Profile, ok bool) {
	g, err := a.graph(r.Model)
	if err != nil {
		return Profile{}, true // what was measured stands
	}
	p, known := a.own.taken(r.Model, r.Have.Taken)
	if !known {
		if p, known = a.rememberedProfile(g, r); known {
			a.adoptProfile(p, r)
		}
	}
	switch {
	case known && p.StandIn && complete(g):
		return Profile{}, false
	case known && !p.version().equal(*r.Have):
		return p, true
	}
	return Profile{}, true
}

// adoptProfile makes a profile the one that this host goes by.
func (a *Agent) adoptProfile(p Profile, r profileRequest) {
	a.own.keep(a.profileName(p.Model, r), p)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.profiles[profileKey{p.Model, a.cfg.ID}] = p
}

// rememberProfile puts a profile on disk.
func (a *Agent) rememberProfile(name string, p Profile) {
	if a.cfg.Memory == nil {
		return
	}
	data, err := json.Marshal(p)
	if err == nil {
		err = a.cfg.Memory.PutProfile(name, data)
	}
	if err != nil {
		a.log.Warn("profile not remembered", "err", err)
	}
}
