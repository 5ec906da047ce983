package nodes

import (
	"encoding/json"
	"fmt"

	"github.com/cleaveml/cleave/models"
)

// profileName is under what a profile is remembered: whatever it depends on.
func (a *Agent) profileName(model models.Digest, r profileRequest) string {
	return fmt.Sprintf("%s %s %s x%g slots %d runs %d cuts %d", model, a.cfg.CPU, a.cfg.Runtime,
		a.cfg.Compute.Pace().Factor(), a.cfg.Compute.Pace().Slots(), r.Runs, r.Cuts)
}

// rememberedProfile is what this host measured of the model in an earlier life.
func (a *Agent) rememberedProfile(g *models.Graph, r profileRequest) (Profile, bool) {
	if a.cfg.Memory == nil || r.Refresh {
		return Profile{}, false
	}
	data, ok, err := a.cfg.Memory.Profile(a.profileName(g.Digest, r))
	if err != nil {
		a.log.Warn("profile not readable, measuring anew", "model", g.Name, "err", err)
	}
	var p Profile
	if !ok || err != nil || json.Unmarshal(data, &p) != nil || p.Model != g.Digest || len(p.Ops) != len(g.Ops) || !p.covers(r.Codecs) {
		return Profile{}, false
	}
	p.Host = a.cfg.ID
	return p, true
}

func (a *Agent) rememberProfile(p Profile, r profileRequest) {
	if a.cfg.Memory == nil {
		return
	}
	data, err := json.Marshal(p)
	if err == nil {
		err = a.cfg.Memory.PutProfile(a.profileName(p.Model, r), data)
	}
	if err != nil {
		a.log.Warn("profile not remembered", "err", err)
	}
}
