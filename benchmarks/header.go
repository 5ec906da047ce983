package benchmarks

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"
)

const journalVersion = 1

// Header says what a journal's rows are rows of.
type Header struct {
	Journal int    `json:"journal"` // version of the form
	Bench   string `json:"bench"`
	Commit  string `json:"commit"`
	Machine string `json:"machine"` // Machine.Text
	Seed    uint64 `json:"seed"`
	// Config is every setting that rows depend on, by the name of its flag.
	Config map[string]string `json:"config"`
	Digest string            `json:"digest"` // of Config
	// Files are those that rows depend on, by how they are named: the SHA-256 of each.
	Files   map[string]string `json:"files,omitempty"`
	Started time.Time         `json:"started"`
}

func (h Header) digest() string {
	data, err := json.Marshal(h.Config) // sorts the keys
	if err != nil {
		return "" // a map of strings always has a form
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:8])
}

// match says how a run differs from the one that began the journal.
func (h Header) match(now Header) error {
	switch {
	case h.Bench != now.Bench:
		return fmt.Errorf("it is a run of %s, not of %s", h.Bench, now.Bench)
	case h.Commit != now.Commit:
		return fmt.Errorf("it was begun by cleave %s, this is %s: rows of two programs do not mix", h.Commit, now.Commit)
	case h.Machine != now.Machine:
		return fmt.Errorf("it was begun on %s, this is %s: rows of two machines do not mix", h.Machine, now.Machine)
	case h.Seed != now.Seed:
		return fmt.Errorf("it was begun with --seed %d, not %d", h.Seed, now.Seed)
	case h.Digest == now.digest():
		return h.sameFiles(now)
	}
	for _, name := range either(h.Config, now.Config) {
		if was, is := h.Config[name], now.Config[name]; was != is {
			return fmt.Errorf("it was begun with --%s %s, not %s", name, cmp.Or(was, "unset"), cmp.Or(is, "unset"))
		}
	}
	return fmt.Errorf("its configuration %v has not the digest %s", h.Config, h.Digest)
}

func (h Header) sameFiles(now Header) error {
	for _, name := range either(h.Files, now.Files) {
		if h.Files[name] != now.Files[name] {
			return fmt.Errorf("%s has changed since it was begun", name)
		}
	}
	return nil
}

// either are the keys that are in one of two maps, sorted.
func either(a, b map[string]string) []string {
	names := slices.AppendSeq(slices.Collect(maps.Keys(a)), maps.Keys(b))
	slices.Sort(names)
	return slices.Compact(names)
}
