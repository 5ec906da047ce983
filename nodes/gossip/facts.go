package gossip

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"net"
	"strings"
	"unicode"

	"github.com/hashicorp/memberlist"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
)

// Facts is what gossip carries of a member. It has to be small: MaxFacts.
type Facts struct {
	Tier partition.Tier
	// Address is where others can dial it, host:port; "" behind NAT.
	Address string
	// Build is for people.
	Build string
	// Load is compute slots in use, as a fraction; may be above 1.
	Load float64
	// Slots is the number of requests it computes at once.
	Slots int
	// Profiles changes whenever what the host measured of a model does.
	Profiles uint32
	// Models are the short digests of what it holds, newest first, as many as
	// fit: about 40. Update takes whole digests and shortens them.
	Models []models.Digest
}

// MaxFacts is the most bytes that Facts may take when encoded.
const MaxFacts = memberlist.MetaMaxSize

const (
	digestBytes = 6  // of a digest that travel: 12 hexadecimal digits
	buildLength = 64 // bytes
)

// written is how Facts travel. Names are short, and unknown ones are ignored,
// so that newer members may say more.
type written struct {
	Tier    partition.Tier `json:"t,omitempty"`
	Address string         `json:"a,omitempty"`
	Build   string         `json:"b,omitempty"`
	Load    float64        `json:"l,omitempty"`
	Slots   int            `json:"s,omitempty"`
	Models  []byte         `json:"m,omitempty"` // digestBytes of each

	Profiles uint32 `json:"p,omitempty"`
}

// encode writes the facts with as many models as fit. The error is of kind
// BadConfig.
func (f Facts) encode() ([]byte, error) {
	w := written{f.Tier, f.Address, f.Build, math.Round(f.Load*100) / 100, f.Slots, nil, f.Profiles}
	if err := w.check(); err != nil {
		return nil, fail(transport.BadConfig, "", err)
	}
	for _, d := range f.Models {
		short, err := hex.DecodeString(string(d))
		if err != nil || len(short) < digestBytes {
			return nil, fail(transport.BadConfig, "", fmt.Errorf("model %q is no digest", d))
		}
		w.Models = append(w.Models, short[:digestBytes]...)
	}
	for {
		b, err := json.Marshal(w)
		switch {
		case err != nil:
			return nil, fail(transport.BadConfig, "", err)
		case len(b) <= MaxFacts:
			return b, nil
		case len(w.Models) == 0:
			return nil, fail(transport.BadConfig, "", fmt.Errorf("facts of %d bytes exceed the limit of %d", len(b), MaxFacts))
		}
		over := (len(b) - MaxFacts + 7) / 8 // base64: 8 bytes a digest
		w.Models = w.Models[:max(0, len(w.Models)-over*digestBytes)]
	}
}

func decodeFacts(b []byte) (Facts, error) {
	if len(b) > MaxFacts {
		return Facts{}, fmt.Errorf("facts of %d bytes exceed the limit of %d", len(b), MaxFacts)
	}
	var w written
	if err := json.Unmarshal(b, &w); err != nil {
		return Facts{}, fmt.Errorf("facts: %w", err)
	}
	if err := w.check(); err != nil {
		return Facts{}, err
	}
	f := Facts{Tier: w.Tier, Address: w.Address, Build: w.Build, Load: w.Load, Slots: w.Slots, Profiles: w.Profiles}
	for m := w.Models; len(m) > 0; m = m[digestBytes:] {
		f.Models = append(f.Models, models.Digest(hex.EncodeToString(m[:digestBytes])))
	}
	return f, nil
}

func (w written) check() error {
	switch {
	case w.Tier != "" && w.Tier != partition.Device && w.Tier != partition.Edge && w.Tier != partition.Cloud:
		return fmt.Errorf("facts: %.20q is no tier", w.Tier)
	case len(w.Build) > buildLength || strings.ContainsFunc(w.Build, unicode.IsControl):
		return fmt.Errorf("facts: a build has at most %d bytes and no control characters", buildLength)
	case w.Load < 0 || math.IsInf(w.Load, 0) || math.IsNaN(w.Load):
		return fmt.Errorf("facts: load %v", w.Load)
	case w.Slots < 0 || w.Slots > 1<<20:
		return fmt.Errorf("facts: %d slots", w.Slots)
	case len(w.Models)%digestBytes != 0:
		return fmt.Errorf("facts: models of %d bytes", len(w.Models))
	case w.Address == "":
		return nil
	}
	if _, port, err := net.SplitHostPort(w.Address); err != nil || port == "" || len(w.Address) > 253+6 || strings.ContainsFunc(w.Address, unicode.IsControl) {
		return fmt.Errorf("facts: address %.80q is not host:port", w.Address)
	}
	return nil
}
