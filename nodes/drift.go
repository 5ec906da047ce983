package nodes

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/cleaveml/cleave/models"
)

// Drift says when the times of requests correct a profile: once their median
// has been beyond it by Share, to the same side, for Runs runs and for For. A
// shorter disturbance is the load factor's business at the origin. Zero means
// the default.
type Drift struct {
	Share float64       // 0 means 0.2
	Runs  int           // 0 means 30
	For   time.Duration // 0 means 10 s
}

func (d Drift) withDefaults() (Drift, error) {
	if d.Share < 0 || math.IsNaN(d.Share) || d.Runs < 0 || d.For < 0 {
		return d, fmt.Errorf("drift of %v over %d runs and %v: want nothing negative", d.Share, d.Runs, d.For)
	}
	if d.Share == 0 {
		d.Share = 0.2
	}
	if d.Runs == 0 {
		d.Runs = 30
	}
	if d.For == 0 {
		d.For = 10 * time.Second
	}
	return d, nil
}

const (
	driftWindow   = 9                // the latest runs, whose median says how things are
	driftKept     = 101              // runs whose median is by how much a profile changes
	driftPause    = time.Minute      // after it, runs before say nothing of now
	driftLeast    = time.Millisecond // sessions that take less say more of the timer
	referencesMax = 512
)

// live compares the runs of one model with its profile. ownProfiles.mu guards it.
type live struct {
	// reference is what timed segments take by the profile, by opsKey, where the
	// profile itself does not hold them.
	reference map[string]time.Duration

	ratios []float64 // over the profile, the latest last
	last   time.Time
	side   int // 1: the median is slower than the profile by more than its share, -1: faster
	since  time.Time
	runs   int // since then
}

// add takes in how many times longer than profiled a run took; due is true when
// the profile has to change by the factor.
func (l *live) add(now time.Time, ratio float64, d Drift) (factor float64, due bool) {
	if now.Sub(l.last) > driftPause {
		l.ratios, l.side = nil, 0
	}
	l.last = now
	if l.ratios = append(l.ratios, ratio); len(l.ratios) > driftKept {
		l.ratios = l.ratios[1:]
	}
	side := 0
	switch of := medianOf(l.ratios, driftWindow); {
	case of > 1+d.Share:
		side = 1
	case of < 1/(1+d.Share):
		side = -1
	}
	if side != l.side {
		l.side, l.since, l.runs = side, now, 0
	}
	l.runs++
	if l.side == 0 || l.runs < d.Runs || now.Sub(l.since) < d.For {
		return 0, false
	}
	factor = medianOf(l.ratios, l.runs)
	l.ratios, l.side = nil, 0
	return factor, true
}

// medianOf the last n.
func medianOf(ratios []float64, n int) float64 {
	s := slices.Clone(ratios[max(0, len(ratios)-n):])
	slices.Sort(s)
	return s[len(s)/2]
}

// live finds or starts the comparison of a model. o.mu is held.
func (o *ownProfiles) live(model models.Digest) *live {
	l := o.lives[model]
	if l == nil {
		if o.lives == nil {
			o.lives = map[models.Digest]*live{}
		}
		l = &live{reference: map[string]time.Duration{}}
		o.lives[model] = l
	}
	return l
}

// expected is what the profile says of a session that was timed; an op profile
// is not exact enough to be a reference. o.mu is held.
func (o *ownProfiles) expected(p Profile, ops string) (time.Duration, bool) {
	if d, ok := p.Timed[ops]; ok {
		return d, true
	}
	d, ok := o.live(p.Model).reference[ops]
	return d, ok
}

// timed takes in sessions that were timed side by side. How far those that the
// profile knows have moved since is taken out of the others: they become what
// they would have been when it was measured.
func (o *ownProfiles) timed(model models.Digest, ops []string, times []time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	p, ok := o.of(model)
	if !ok {
		return
	}
	var moved []float64
	for i, key := range ops {
		if d, ok := o.expected(p, key); ok && d > 0 && times[i] > 0 {
			moved = append(moved, float64(times[i])/float64(d))
		}
	}
	by := 1.0
	if slices.Sort(moved); len(moved) > 0 {
		by = moved[len(moved)/2]
	}
	l := o.live(model)
	if len(l.reference) > referencesMax {
		clear(l.reference)
	}
	for i, key := range ops {
		if _, known := p.Timed[key]; !known {
			l.reference[key] = time.Duration(float64(times[i]) / by)
		}
	}
}

// correction is a change of a model's profiles.
type correction struct {
	factor   float64
	profiles map[string]Profile // by name, changed
	latest   Profile
}

// observe takes in a run of a session; ok is true when it was the last one to
// show that the profile is out of date.
func (o *ownProfiles) observe(now time.Time, key segmentKey, took time.Duration) (c correction, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	p, known := o.of(key.model)
	if !known {
		return c, false
	}
	want, known := o.expected(p, key.ops)
	if !known || want < driftLeast {
		return c, false
	}
	l := o.live(key.model)
	if c.factor, ok = l.add(now, float64(took)/float64(want), o.drift); !ok {
		return c, false
	}
	for ops, d := range l.reference {
		l.reference[ops] = time.Duration(float64(d) * c.factor)
	}
	c.profiles = o.rescale(key.model, c.factor)
	c.latest, _ = o.of(key.model)
	return c, true
}

// ran is told of every run of a request, the first ones of a session excepted.
func (a *Agent) ran(key segmentKey, took time.Duration) {
	c, ok := a.own.observe(time.Now(), key, took)
	if !ok {
		return
	}
	a.mu.Lock()
	a.profiles[profileKey{key.model, a.cfg.ID}] = c.latest
	a.mu.Unlock()
	a.log.Info("profile corrected: requests take another time than was measured", "model", key.model.Short(),
		"factor", fmt.Sprintf("%.2f", c.factor), "whole", c.latest.Whole, "measured", c.latest.Taken.Format(time.DateTime))
	s := a.steering
	s.rebase(key.model)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.start(func() { // a request does not wait for the disk
		for name, p := range c.profiles {
			a.rememberProfile(name, p)
		}
	})
}
