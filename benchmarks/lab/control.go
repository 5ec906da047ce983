package lab

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cleaveml/cleave/benchmarks/lab/shaper"
	"github.com/cleaveml/cleave/partition"
)

// Control is what a lab writes to the standard input of an agent that it has
// started, one JSON object a line:
//
//	{"links":[{"to":"edge","address":"192.0.2.10:7433","mbps":5.85,"delay":"15ms"}]}
//
// From then on these are all the links over which the agent sends; what it
// sends to others is not shaped. It answers with a line of its own; see
// AppliedLinks.
type Control struct {
	Links []Direction `json:"links"`
}

// Direction is one direction of a link, from the host that reads it.
type Direction struct {
	To partition.HostID `json:"to"`
	// Address is where the other host is reached now; "": where the cluster
	// file says.
	Address string   `json:"address,omitempty"`
	Mbps    float64  `json:"mbps"` // 0: the link is cut
	Delay   Duration `json:"delay"`
}

// Duration is written as "15ms".
type Duration time.Duration

// Duration as the standard library has it.
func (d Duration) Duration() time.Duration { return time.Duration(d) }

// String prints "15ms".
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	*d = Duration(parsed)
	return err
}

// ParseControl reads one line.
func ParseControl(line []byte) (Control, error) {
	var c Control
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&c); err != nil {
		return c, err
	}
	if dec.More() {
		return c, errors.New("more than one object on a line")
	}
	if c.Links == nil {
		return c, errors.New(`it has no "links"`)
	}
	for i, d := range c.Links {
		if err := d.check(); err != nil {
			return c, fmt.Errorf("links[%d]: %w", i, err)
		}
	}
	return c, nil
}

func (d Direction) check() error {
	switch {
	case d.To == "":
		return errors.New("to: no host is named")
	case !(d.Mbps >= 0 && d.Mbps <= 1e6):
		return fmt.Errorf("mbps %v: want 0 or more", d.Mbps)
	case d.Delay < 0 || d.Delay.Duration() > time.Minute:
		return fmt.Errorf("delay %v: want 0 to 1m", d.Delay)
	}
	return nil
}

// Rule is what a shaper makes of it.
func (d Direction) Rule() shaper.Rule {
	return shaper.Rule{Rate: partition.BitsPerSecond(d.Mbps) * partition.Mbps, Delay: d.Delay.Duration(), Cut: d.Mbps == 0}
}

// Directions are what A and B send over a link.
func (l Link) Directions() (fromA, fromB Direction) {
	return Direction{To: l.B, Mbps: l.Up, Delay: Duration(l.RTT / 2)}, Direction{To: l.A, Mbps: l.Down, Delay: Duration(l.RTT / 2)}
}

// CheckLinks tells whether links can join these hosts, each two at most once.
func CheckLinks(links []Link, hosts []partition.HostID) error {
	seen := map[[2]partition.HostID]bool{}
	for _, l := range links {
		pair := [2]partition.HostID{min(l.A, l.B), max(l.A, l.B)}
		switch {
		case !slices.Contains(hosts, l.A) || !slices.Contains(hosts, l.B) || l.A == l.B:
			return fmt.Errorf("%v: want two of the hosts", l)
		case seen[pair]:
			return fmt.Errorf("%v: these hosts have a link already", l)
		}
		seen[pair] = true
		fromA, fromB := l.Directions()
		for _, d := range []Direction{fromA, fromB} {
			if err := d.check(); err != nil {
				return fmt.Errorf("%v: %w", l, err)
			}
		}
	}
	return nil
}

// appliedPrefix starts the line with which an agent answers.
const appliedPrefix = "links: "

// AppliedLinks is the line with which an agent answers a Control: how many
// links it shapes now.
func AppliedLinks(n int) string { return fmt.Sprintf("%s%d\n", appliedPrefix, n) }

// parseApplied reads what AppliedLinks wrote.
func parseApplied(line string) (int, bool) {
	number, ok := strings.CutPrefix(line, appliedPrefix)
	n, err := strconv.Atoi(number)
	return n, ok && err == nil
}

// directionsFrom lists what a host sends over, with the addresses of now.
func directionsFrom(links []Link, host partition.HostID, addresses map[partition.HostID]string) []Direction {
	out := []Direction{} // not null
	for _, l := range links {
		fromA, fromB := l.Directions()
		fromA.Address, fromB.Address = addresses[l.B], addresses[l.A]
		switch host {
		case l.A:
			out = append(out, fromA)
		case l.B:
			out = append(out, fromB)
		}
	}
	return out
}
