package scheduler

import (
	"time"

	"github.com/cleaveml/cleave/partition"
)

// StreamID names a stream of requests for one model, unique at its origin.
type StreamID string

// Epoch names one candidate made ready; every request carries the epoch by
// which it runs. Epochs of one scheduler never repeat. 0 is none.
type Epoch uint64

// Settings of a stream, as its owner wants them.
type Settings struct {
	// Version grows by one with every change.
	Version uint64 `json:"version"`
	// RawStays is the policy raw-stays-on-device.
	RawStays bool `json:"raw_stays"`
	// Pin holds the stream to the candidate of this name, "" to none. While
	// the pinned candidate cannot run, the stream runs on the source alone.
	Pin string `json:"pin,omitempty"`
	// Drain lists hosts that shall get no new requests of this stream.
	Drain []partition.HostID `json:"drain,omitempty"`
	// Objective ranks the plans that are allowed; "" is Latency.
	Objective Objective `json:"objective,omitempty"`
	// Within is the latency that a plan must be predicted to keep for the links
	// and loads of now to be taken for Traffic or DeviceTime: of such plans the
	// one with the least of that runs, ties by latency, and where there is none
	// the fastest. 0 is twice what the fastest plan would take now that is allowed
	// and reachable. Latency has no bound.
	Within time.Duration `json:"within,omitempty"`
}

// Candidate is a plan that a stream may run by. Its times and bytes are what
// was measured; its predicted total is only of the links of that day.
type Candidate struct {
	Name string         `json:"name"` // unique in its stream
	Plan partition.Plan `json:"plan"`
	// Raw: it sends raw input away, which the policy may forbid.
	Raw bool `json:"raw"`
}

// Event is something that happened.
type Event interface{ event() }

// Joined says that a host is a member, perhaps again.
type Joined struct {
	Host partition.HostID
	Tier partition.Tier
}

// Left says that a host has left or is dead.
type Left struct{ Host partition.HostID }

// Suspect says that a host did not answer, a connection broke for example;
// Joined or LinkMeasured takes it back.
type Suspect struct{ Host partition.HostID }

// LinkMeasured is news of both directions between two hosts. Rel is the
// relative standard deviation of late samples, 0 when unknown.
type LinkMeasured struct {
	From, To partition.HostID
	Out, In  partition.Link
	Rel      float64
	// Glance: only round trips were heard, the rates are those of before. It
	// does not make the link's measurement younger.
	Glance bool
}

// LoadChanged says how many times longer than profiled a host takes now: 1 as
// profiled, 2 twice as long.
type LoadChanged struct {
	Host   partition.HostID
	Factor float64
}

// Utilised says what share of its compute slots a host says are in use; it may be
// above 1.
type Utilised struct {
	Host partition.HostID
	Load float64
}

// Profiled gives a stream its candidates, for the first time or anew; the
// first is the one that runs everything on the source, which must be there.
// It opens the stream.
type Profiled struct {
	Stream     StreamID
	Candidates []Candidate
	Settings   Settings
}

// SettingsChanged replaces a stream's settings. Older versions are ignored.
type SettingsChanged struct {
	Stream   StreamID
	Settings Settings
}

// Closed ends a stream.
type Closed struct{ Stream StreamID }

// Warmed answers a Warm. Refused says that a host had no capacity to promise,
// Err that it went wrong otherwise.
type Warmed struct {
	Stream  StreamID
	Epoch   Epoch
	Refused bool
	Err     string
}

// Done is the outcome of a request. Fallback names the host that failed it,
// so that the source finished it locally; "" when all went well.
type Done struct {
	Stream   StreamID
	Epoch    Epoch
	Latency  time.Duration
	Fallback partition.HostID
}

// Tick lets time pass: it is due every second or so.
type Tick struct{}

func (Joined) event()          {}
func (Left) event()            {}
func (Suspect) event()         {}
func (LinkMeasured) event()    {}
func (LoadChanged) event()     {}
func (Utilised) event()        {}
func (Profiled) event()        {}
func (SettingsChanged) event() {}
func (Closed) event()          {}
func (Warmed) event()          {}
func (Done) event()            {}
func (Tick) event()            {}

// Action is something that the agent shall do.
type Action interface{ action() }

// Warm asks to make a candidate ready on all its hosts, under this epoch, with
// a capacity lease from each, and to answer with Warmed.
type Warm struct {
	Stream    StreamID
	Epoch     Epoch
	Candidate int // index
}

// Switch says that new requests run by another candidate. The agent need not
// do anything but tell: Choose already answers with it.
type Switch struct {
	Stream   StreamID
	From, To Epoch // From is 0 at the start
	// Candidate is the index of the new one; Predicted and Before are what it
	// and the old one would take now. Before is 0 where the old one cannot run,
	// and the median of its requests where those broke its promise.
	Candidate         int
	Predicted, Before time.Duration
	Reason            string // one line for a person
}

// Drain asks to release what an epoch holds once its requests under way have
// ended. No request will be given it again.
type Drain struct {
	Stream StreamID
	Epoch  Epoch
}

// Probe asks to measure the link between two hosts and to answer with
// LinkMeasured, or Suspect.
type Probe struct{ From, To partition.HostID }

// Alarm is for a person.
type Alarm struct {
	Stream StreamID
	Reason string
}

func (Warm) action()   {}
func (Switch) action() {}
func (Drain) action()  {}
func (Probe) action()  {}
func (Alarm) action()  {}
