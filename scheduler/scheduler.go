// Package scheduler decides by which plan each request runs. It is a pure
// state machine: Step takes the time and an event and returns what the agent
// shall do; Choose is the look-up per request. It has no clock, socket,
// goroutine, logger or random source.
//
// The origin agent of a stream runs one scheduler for its streams. A stream's
// candidates are plans that each are best for some state of the links
// (partition.Pareto). Which of them is best now follows from the links and the
// loads of this moment. Only candidates that were made ready on all their hosts
// serve requests (make before break).
package scheduler

import (
	"slices"
	"time"

	"github.com/cleaveml/cleave/partition"
)

// Scheduler decides for the streams of one origin. Its methods are not safe
// for concurrent use. Time never runs backwards for it: an earlier time counts
// as the latest that it was given.
type Scheduler struct {
	cfg     Config
	now     time.Time
	world   world
	streams []*stream // in the order of their opening
	byName  map[StreamID]*stream
	epoch   Epoch     // the last given
	probed  time.Time // the last probe
	faded   time.Time // when observations last lost weight
	actions []Action
}

// New returns a scheduler without streams. The error is an *Error of kind
// Invalid, which names the field of the configuration.
func New(cfg Config) (*Scheduler, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	return &Scheduler{cfg: cfg, world: newWorld(cfg.Self), byName: map[StreamID]*stream{}}, nil
}

// Step takes notice of an event and returns what the agent shall do, in this
// order. An event about a stream, an epoch or a change that is past is ignored.
func (s *Scheduler) Step(now time.Time, e Event) []Action {
	s.advance(now)
	s.actions = nil
	n := s.learn(e)
	for _, st := range s.streams {
		s.settle(st, n)
	}
	s.probe()
	return s.actions
}

// Choose answers by which candidate a request runs that arrives now, one that
// is ready; false if there is no such stream. It compares all ready candidates
// over the present estimates and may itself change the current one; the next
// Step returns the Switch.
func (s *Scheduler) Choose(now time.Time, id StreamID) (Choice, bool) {
	st, ok := s.byName[id]
	if !ok {
		return Choice{}, false
	}
	s.advance(now)
	before := st.current
	s.judge(st, news{})
	c := &st.candidates[st.current]
	return Choice{
		Epoch: c.epoch, Candidate: st.current, Switched: st.current != before,
		Predicted: duration(s.predict(c)),
	}, true
}

// Choice is the candidate by which one request runs.
type Choice struct {
	Epoch     Epoch
	Candidate int // index
	// Predicted latency, for the links and loads of now.
	Predicted time.Duration
	// Switched: it is another one than for the request before.
	Switched bool
}

func (s *Scheduler) advance(now time.Time) {
	if now.After(s.now) {
		s.now = now
	}
}

func (s *Scheduler) do(a Action) { s.actions = append(s.actions, a) }

// learn notes what an event says; what follows from it is up to settle.
func (s *Scheduler) learn(e Event) news {
	switch e := e.(type) {
	case Joined:
		s.joined(e)
	case Left:
		s.lost(e.Host, left)
	case Suspect:
		s.lost(e.Host, suspect)
	case LinkMeasured:
		return s.measured(e)
	case LoadChanged:
		return s.loaded(e)
	case Utilised:
		s.utilised(e)
	case Profiled:
		return s.profiled(e)
	case SettingsChanged:
		return s.settled(e)
	case Closed:
		s.closed(e.Stream)
	case Warmed:
		return s.warmed(e)
	case Done:
		return s.done(e)
	case Tick:
		s.fade()
	}
	return news{}
}

// news says what an event changed, hence for which plans a judgment after it
// is a new one.
type news struct {
	stream *stream // all of this stream's plans
	pair   int     // 1 + index of a pair of hosts
	host   int     // 1 + index of a host
}

func (n news) about(st *stream, plans ...*candidate) bool {
	if n.stream == st {
		return true
	}
	for _, c := range plans {
		if n.pair > 0 && slices.ContainsFunc(c.hops, func(h hopTerm) bool { return h.line/2 == n.pair-1 }) ||
			n.host > 0 && slices.ContainsFunc(c.hosts, func(h hostTerm) bool { return h.host == n.host-1 }) {
			return true
		}
	}
	return false
}

// settle brings a stream in line with what is known: the plan it runs by, what
// is released, what is made ready.
func (s *Scheduler) settle(st *stream, n news) {
	s.judge(st, n)
	s.tell(st)
	s.drain(st)
	s.provide(st)
	s.drain(st)
	s.warnOfPin(st)
}

func (s *Scheduler) drain(st *stream) {
	for _, e := range st.leaving {
		s.do(Drain{Stream: st.id, Epoch: e})
	}
	st.leaving = st.leaving[:0]
}

func (s *Scheduler) settled(e SettingsChanged) news {
	st, ok := s.byName[e.Stream]
	if !ok || e.Settings.Version <= st.settings.Version {
		return news{}
	}
	s.adopt(st, e.Settings)
	return news{stream: st}
}

// adopt takes settings over and releases what runs on drained hosts.
func (s *Scheduler) adopt(st *stream, settings Settings) {
	settings.Drain = slices.Clone(settings.Drain)
	before := st.settings
	st.settings = settings
	st.aspire(before)
	st.pin = -1
	for i := range st.candidates {
		c := &st.candidates[i]
		c.drained = i > 0 && slices.ContainsFunc(c.Plan.Path, func(h partition.HostID) bool {
			return h != s.cfg.Self && slices.Contains(settings.Drain, h)
		})
		c.forbidden = i > 0 && (c.drained || settings.RawStays && c.Raw)
		if c.drained {
			st.release(c)
		}
		if settings.Pin != "" && c.Name == settings.Pin {
			st.pin = i
		}
	}
}

func (s *Scheduler) closed(id StreamID) {
	st, ok := s.byName[id]
	if !ok {
		return
	}
	for i := range st.candidates {
		if c := &st.candidates[i]; c.phase != cold {
			st.leaving = append(st.leaving, c.epoch)
		}
	}
	s.drain(st)
	delete(s.byName, id)
	s.streams = slices.DeleteFunc(s.streams, func(other *stream) bool { return other == st })
	s.markUsed()
}
