package nodes

import (
	"time"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/scheduler"
	"github.com/cleaveml/cleave/transport"
)

// OpenRequest opens a stream at its origin: the hosts are measured where they
// are not known, the candidates computed, the first plan made ready. A stream
// of that name that is open already keeps its settings. The frame carries a
// sample of the graph's inputs.
type OpenRequest struct {
	Stream scheduler.StreamID `json:"stream"`
	Model  models.Digest      `json:"model"`
	// Origin is where the stream starts; "": where a stream of that name is
	// open in the cluster, else the agent that is asked.
	Origin partition.HostID `json:"origin,omitempty"`
	// Via is set by the agent that passes the request on.
	Via partition.HostID `json:"via,omitempty"`
	// Settings to start with; those that the origin has stored under this
	// name take precedence.
	Settings scheduler.Settings `json:"settings"`
	// Refresh, Runs, Cuts and Codecs are as in PlanRequest.
	Refresh bool              `json:"refresh,omitempty"`
	Runs    int               `json:"runs,omitempty"`
	Cuts    int               `json:"cuts,omitempty"`
	Codecs  []transport.Codec `json:"codecs,omitempty"`
}

// StreamState is what an origin says of a stream.
type StreamState struct {
	Stream    scheduler.StreamID `json:"stream"`
	Origin    partition.HostID   `json:"origin"`
	Model     models.Digest      `json:"model"`
	ModelName string             `json:"model_name"`
	Settings  scheduler.Settings `json:"settings"`
	// Current is the name of the candidate that runs, Plan what it does, with
	// Total as predicted for the links and loads of now.
	Current    string           `json:"current"`
	Epoch      scheduler.Epoch  `json:"epoch"`
	Plan       partition.Plan   `json:"plan"`
	Candidates []CandidateState `json:"candidates"`
	// Unheld says why the stream does not run by the plan that it is pinned to.
	Unheld string `json:"unheld,omitempty"`
	// Switches are the latest 64, oldest first.
	Switches []SwitchRecord `json:"switches"`
	// Fixed are the single-host strategies, as planned when the stream was opened.
	Fixed []FixedPlan `json:"fixed,omitempty"`
	// Hosts of the candidates, and every link, as this origin knows them.
	Hosts []HostState `json:"hosts"`
	Links []LinkState `json:"links"`
	// Requests since the stream was opened.
	Sent      int `json:"sent"`
	Answered  int `json:"answered"`
	Refused   int `json:"refused"`
	Fallbacks int `json:"fallbacks"`
}

// CandidateState is one plan of a stream.
type CandidateState struct {
	Name string `json:"name"`
	// State: ready, cold, warming, refused, unreachable, forbidden.
	State     string        `json:"state"`
	Predicted time.Duration `json:"predicted"` // now
	// Why it could not be made ready when that was last tried.
	Why string `json:"why,omitempty"`
}

// SwitchRecord is one change of plan.
type SwitchRecord struct {
	At        time.Time       `json:"at"`
	From, To  string          // names of candidates; From is "" at the start
	Epoch     scheduler.Epoch `json:"epoch"` // the new one
	Predicted time.Duration   `json:"predicted"`
	Before    time.Duration   `json:"before"` // what the old one would take now
	Reason    string          `json:"reason"`
}

// HostState is a member of the cluster as one agent sees it.
type HostState struct {
	ID      partition.HostID `json:"id"`
	Tier    partition.Tier   `json:"tier"`
	Alive   bool             `json:"alive"`
	Whole   time.Duration    `json:"whole"`   // of the stream's model, as profiled; 0: not profiled
	Heavier float64          `json:"heavier"` // how many times longer than profiled it takes now
}

// LinkState is one direction of a link as the scheduler uses it.
type LinkState struct {
	From partition.HostID        `json:"from"`
	To   partition.HostID        `json:"to"`
	Rate partition.BitsPerSecond `json:"rate"`
	RTT  time.Duration           `json:"rtt"`
	Age  time.Duration           `json:"age"`
}

// SetRequest changes settings of a stream; nil fields stay as they are. The
// change holds for every request that arrives after the reply.
type SetRequest struct {
	Stream   scheduler.StreamID  `json:"stream"`
	Origin   partition.HostID    `json:"origin,omitempty"` // "" is the agent that is asked; it forwards to others
	RawStays *bool               `json:"raw_stays,omitempty"`
	Pin      *string             `json:"pin,omitempty"`
	Drain    *[]partition.HostID `json:"drain,omitempty"`
	// Objective and Within are as in scheduler.Settings. Latency takes the bound
	// back.
	Objective *scheduler.Objective `json:"objective,omitempty"`
	Within    *time.Duration       `json:"within,omitempty"`
	// Version, when not 0, must be the stream's own: else somebody else has
	// changed the settings meanwhile and the request is refused.
	Version uint64 `json:"version,omitempty"`
}
