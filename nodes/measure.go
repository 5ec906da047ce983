package nodes

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
)

// Sampler makes an input to measure with when nobody gave one; package
// nodes/goop has one for images.
type Sampler func(g *models.Graph, id models.ValueID) (tensor.Tensor, error)

// alone runs a measurement with no other one beside it.
func (a *Agent) alone(ctx context.Context, measure func() error) error {
	select {
	case a.measuring <- struct{}{}:
	case <-ctx.Done():
		return a.failed("measure", ctx.Err())
	}
	defer func() { <-a.measuring }()
	return measure()
}

// profileSelf measures a model on this host, with a stand-in for weights that
// are not here where they may still come, that is where somebody else asks.
// input may be nil: then a sample is made up.
func (a *Agent) profileSelf(ctx context.Context, r profileRequest, input Values, report func(progress)) (Profile, error) {
	if r.Have != nil {
		if p, ok := a.newer(r); ok {
			return p, nil
		}
	}
	g, err := a.obtain(ctx, r.Model, wantMeasure, r.Source, report)
	if err != nil {
		return Profile{}, err
	}
	if input == nil {
		if input, err = a.madeUp(g); err != nil {
			return Profile{}, err
		}
	}
	if p, ok := a.rememberedProfile(g, r); ok {
		a.adoptProfile(p, r)
		return p, nil
	}
	opts := ProfileOptions{Runs: r.Runs, Cuts: r.Cuts, Codecs: r.Codecs, Progress: func(done, total int, what string) {
		report(progress{Host: a.cfg.ID, Done: done, Total: total, What: what})
	}}
	var p Profile
	err = a.alone(ctx, func() error {
		var values Values
		if len(r.Source) > 0 && !complete(g) {
			p, values, err = a.cfg.Compute.ProfileStandIn(ctx, g, input, opts)
		} else {
			p, values, err = a.cfg.Compute.Profile(ctx, g, input, opts)
		}
		if err == nil {
			a.keepSample(r.Model, values)
		}
		return err
	})
	if err != nil {
		return Profile{}, a.failed("profile", err)
	}
	p.Host, p.CPU, p.Runtime = a.cfg.ID, a.cfg.CPU, a.cfg.Runtime
	p.Codecs, p.Taken = allowed(r.Codecs), time.Now().UTC().Round(0)
	a.rememberProfile(a.profileName(p.Model, r), p)
	a.adoptProfile(p, r)
	return p, nil
}

// madeUp makes an input of the graph that resembles what it is for.
func (a *Agent) madeUp(g *models.Graph) (Values, error) {
	input := Values{}
	for _, id := range g.Inputs {
		t, err := a.cfg.Sample(g, id)
		if err != nil {
			return nil, a.failed("make a sample input", err)
		}
		input[id] = t
	}
	return input, nil
}

// keepSample remembers every value of a graph for timing segments of it; only
// the latest graph's, they can be large.
func (a *Agent) keepSample(model models.Digest, values Values) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sample = sample{model, values}
}

// sampled returns every value of a model on the latest input, nil where there
// was none.
func (a *Agent) sampled(model models.Digest) Values {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.sample.model == model {
		return a.sample.values
	}
	return nil
}

// sampleOf returns every value of a model on its latest or a made-up input. g
// is the model or a stand-in of it.
func (a *Agent) sampleOf(ctx context.Context, model models.Digest, g *models.Graph) (Values, error) {
	if values := a.sampled(model); values != nil {
		return values, nil
	}
	input, err := a.madeUp(g)
	if err != nil {
		return nil, err
	}
	values, err := a.cfg.Compute.capture(ctx, g, input)
	if err == nil {
		a.keepSample(model, values)
	}
	return values, err
}

// timeSegments times sessions of whole segments, of a stand-in where weights of
// one of them are not here.
func (a *Agent) timeSegments(ctx context.Context, r timeRequest) (timeReply, error) {
	g, err := a.obtain(ctx, r.Model, wantMeasure, r.Source, nil)
	if err != nil {
		return timeReply{}, err
	}
	if len(r.Segments) > maxEffort || r.Runs < 0 || r.Runs > maxEffort {
		return timeReply{}, &Error{Op: "time segments", Node: a.cfg.ID, Kind: Invalid, Err: fmt.Errorf("%d segments, %d runs: want at most %d of each", len(r.Segments), r.Runs, maxEffort)}
	}
	var segments [][]models.OpID
	var keys []string
	for _, s := range r.Segments {
		ops, err := opsOf(s, g)
		if err != nil {
			return timeReply{}, err
		}
		segments, keys = append(segments, ops), append(keys, opsKey(ops))
	}
	var reply timeReply
	measure := func(g *models.Graph) error {
		values, err := a.sampleOf(ctx, r.Model, g)
		if err != nil {
			return err
		}
		return a.alone(ctx, func() error {
			reply.Times, err = a.cfg.Compute.timeSegments(ctx, g, segments, values, max(1, r.Runs), func(int) {})
			return err
		})
	}
	if len(r.Source) > 0 && !complete(g) && (a.sampled(r.Model) == nil || !g.Has(union(segments, len(g.Ops)))) {
		err = a.cfg.Compute.standIn(g, measure)
	} else {
		err = measure(g)
	}
	if err != nil {
		return timeReply{}, a.failed("time segments", err)
	}
	a.own.timed(r.Model, keys, reply.Times)
	return reply, nil
}

// probes is how often a link is probed at most: a connection's window may need
// more than one to fill it, and until it does the rate is a lower bound.
const probes = 3

// pings is how often the way there and back is measured, pingsAgain when it was
// before; the median counts. Between them lies a gap, as between requests: what
// has just run is done faster.
const (
	pings      = 9
	pingsAgain = 3
	pingGap    = 20 * time.Millisecond
)

// measureLinks probes the links to the given hosts, one after the other.
// Those that do not answer are left out.
func (a *Agent) measureLinks(ctx context.Context, to []partition.HostID) ([]MeasuredLink, error) {
	var out []MeasuredLink
	err := a.alone(ctx, func() error {
		for _, host := range to {
			l, err := a.measureLink(ctx, host)
			if err != nil {
				a.log.Warn("link not measured", "to", host, "err", err)
				if ctx.Err() != nil {
					return err
				}
				continue
			}
			out = append(out, l)
		}
		return nil
	})
	return out, err
}

func (a *Agent) measureLink(ctx context.Context, host partition.HostID) (MeasuredLink, error) {
	conn, err := a.reach(ctx, host)
	if err != nil {
		return MeasuredLink{}, a.failed("reach", err)
	}
	if err := a.net.Warm(ctx, host); err != nil {
		return MeasuredLink{}, a.failed("warm link", err)
	}
	links, err := a.net.Probe(ctx, host)
	for try := 1; try < probes && err == nil && (links.Out.LowerBoundOnly || links.In.LowerBoundOnly); try++ {
		links, err = a.net.Probe(ctx, host)
	}
	if err != nil {
		return MeasuredLink{}, a.failed("probe link", err)
	}
	a.mu.Lock()
	_, again := a.links[linkKey{a.cfg.ID, host}]
	a.mu.Unlock()
	n := pings
	if again {
		n = pingsAgain
	}
	var trips []time.Duration
	for range n {
		if err := wait(ctx, pingGap); err != nil {
			return MeasuredLink{}, a.failed("ping", err)
		}
		start := time.Now()
		reply, err := call(ctx, conn, request{kind: kindPing}, nil)
		if err != nil {
			return MeasuredLink{}, a.failed("ping", err)
		}
		reply.Release()
		trips = append(trips, time.Since(start))
	}
	slices.Sort(trips)
	m := MeasuredLink{Host: host, Out: link(links.Out, trips), In: link(links.In, trips), Rel: links.Out.Spread}
	if m.Out.Rate <= 0 || m.In.Rate <= 0 {
		return m, a.failed("probe link", errors.New("the probe gave no rate"))
	}
	return m, nil
}

// link puts an estimate into the solver's terms. What a request's round trip
// takes beyond the network's is software: half of it is charged to each way.
func link(e transport.Estimate, trips []time.Duration) partition.Link {
	rtt := e.RTT
	if rtt <= 0 || rtt > trips[0] || trips[0] > rtt+max(2*time.Millisecond, rtt/4) { // unknown, or of another day
		rtt = trips[0]
	}
	return partition.Link{Rate: e.Rate, Latency: rtt / 2, Fixed: (trips[len(trips)/2] - rtt) / 2}
}

// profiles collects the profile of every host, in order; a host that does not
// answer has none and is reported in lost.
func (a *Agent) gatherProfiles(ctx context.Context, g *models.Graph, input Values, r PlanRequest, report func(progress)) (known []Profile, lost map[partition.HostID]error) {
	lost = a.missing()
	for _, h := range a.members() {
		p, err := a.profileOf(ctx, g, h.ID, input, r, report)
		if err != nil {
			lost[h.ID] = err
			continue
		}
		known = append(known, p)
	}
	if !r.Refresh { // else the caller is about to replace a stream
		a.steering.rebase(g.Digest)
	}
	return known, lost
}

// profileOf is the latest profile of a host, which is kept.
func (a *Agent) profileOf(ctx context.Context, g *models.Graph, host partition.HostID, input Values, r PlanRequest, report func(progress)) (Profile, error) {
	p, err := a.latestProfile(ctx, g, host, input, r, report)
	if err == nil {
		err = a.fits(g, p)
	}
	if err != nil {
		return Profile{}, err
	}
	if host != a.cfg.ID { // its own it keeps itself
		a.mu.Lock()
		defer a.mu.Unlock()
		a.profiles[profileKey{g.Digest, host}] = p
	}
	return p, nil
}

// latestProfile is the profile of a host: the one that is known unless the host
// has a newer one. That it does not answer now is no matter then.
func (a *Agent) latestProfile(ctx context.Context, g *models.Graph, host partition.HostID, input Values, r PlanRequest, report func(progress)) (Profile, error) {
	a.mu.Lock()
	known, ok := a.profiles[profileKey{g.Digest, host}]
	a.mu.Unlock()
	ok = ok && !r.Refresh && known.covers(r.Codecs)
	pr := profileRequest{Model: g.Digest, Runs: r.Runs, Cuts: r.Cuts, Codecs: r.Codecs, Refresh: r.Refresh}
	if host == a.cfg.ID {
		if ok && !known.StandIn {
			return known, nil
		}
		return a.profileSelf(ctx, pr, input, report)
	}
	if ok {
		v := known.version()
		pr.Have = &v
	}
	p, err := a.askProfile(ctx, host, pr, report)
	if ok && ctx.Err() == nil && (err != nil || p.Model == "") {
		return known, nil //nolint:nilerr // that it does not answer now says nothing of its speed
	}
	return p, err
}

// fits checks that a host's profile is of this graph, and that the host may
// share it: the exact form is for equal CPUs and runtimes.
func (a *Agent) fits(g *models.Graph, p Profile) error {
	if len(p.Ops) != len(g.Ops) {
		return &Error{Op: "profile", Node: p.Host, Kind: Failed, Err: fmt.Errorf("it has %d ops, the model %d", len(p.Ops), len(g.Ops))}
	}
	if g.Form == models.Exact && (p.CPU != a.cfg.CPU || p.Runtime != a.cfg.Runtime) {
		return &Error{Op: "profile", Node: p.Host, Kind: Invalid, Err: fmt.Errorf(
			"the exact form needs equal CPU features and runtimes: it has %s, %s, this host %s, %s; use the portable form", p.CPU, p.Runtime, a.cfg.CPU, a.cfg.Runtime)}
	}
	return nil
}

func (a *Agent) askProfile(ctx context.Context, host partition.HostID, r profileRequest, report func(progress)) (Profile, error) {
	conn, err := a.reach(ctx, host)
	if err != nil {
		return Profile{}, err
	}
	r.Source = []partition.HostID{a.cfg.ID}
	var p Profile
	reply, err := call(ctx, conn, request{kind: kindProfile, control: r, onProgress: report}, &p)
	if err != nil {
		return Profile{}, err
	}
	reply.Release()
	if p.Model != r.Model && (r.Have == nil || p.Model != "") {
		return Profile{}, &Error{Op: "profile", Node: host, Kind: Failed, Err: fmt.Errorf("it measured model %s, not %s", p.Model.Short(), r.Model.Short())}
	}
	return p, nil
}

// gatherLinks measures every link between the hosts: this host its own, each
// other host those to the hosts behind it.
func (a *Agent) gatherLinks(ctx context.Context, hosts []partition.Host, refresh bool, report func(progress)) ([][]partition.Link, error) {
	n := len(hosts)
	links := make([][]partition.Link, n)
	for i := range links {
		links[i] = make([]partition.Link, n)
	}
	at := map[partition.HostID]int{}
	for i, h := range hosts {
		at[h.ID] = i
	}
	for i, h := range hosts {
		var to []partition.HostID
		for _, far := range hosts[i+1:] {
			to = append(to, far.ID)
		}
		if len(to) == 0 {
			break
		}
		report(progress{Host: h.ID, What: "links", Done: i, Total: n - 1})
		measured, err := a.linksOf(ctx, h.ID, to, refresh)
		if err != nil {
			return nil, err
		}
		for _, m := range measured {
			links[i][at[m.Host]], links[at[m.Host]][i] = m.Out, m.In
		}
	}
	return links, nil
}

func (a *Agent) linksOf(ctx context.Context, host partition.HostID, to []partition.HostID, refresh bool) ([]MeasuredLink, error) {
	var links []MeasuredLink
	var want []partition.HostID
	a.mu.Lock()
	for _, h := range to {
		if m, ok := a.links[linkKey{host, h}]; ok && !refresh {
			links = append(links, m)
		} else {
			want = append(want, h)
		}
	}
	a.mu.Unlock()
	if len(want) == 0 {
		return links, nil
	}
	fresh, err := a.askLinks(ctx, host, want)
	if err != nil {
		return nil, err
	}
	a.keepLinks(host, fresh)
	return append(links, fresh...), nil
}

// keepLinks remembers what a host measured.
func (a *Agent) keepLinks(host partition.HostID, links []MeasuredLink) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, m := range links {
		m.at = time.Now()
		a.links[linkKey{host, m.Host}] = m
	}
}

func (a *Agent) askLinks(ctx context.Context, host partition.HostID, to []partition.HostID) ([]MeasuredLink, error) {
	if host == a.cfg.ID {
		return a.measureLinks(ctx, to)
	}
	conn, err := a.reach(ctx, host)
	if err != nil {
		a.log.Warn("links not measured, paths through the host are not considered", "host", host, "err", err)
		return nil, nil
	}
	var measured []MeasuredLink
	reply, err := call(ctx, conn, request{kind: kindLinks, control: linksRequest{To: to}}, &measured)
	if err != nil {
		return nil, a.failed("measure links", err)
	}
	reply.Release()
	return measured, nil
}
