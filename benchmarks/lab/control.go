package lab

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport/sim/link"
)

// Control is what a lab writes to the standard input of an agent that it has
// started, one JSON object a line:
//
//	{"links":[{"to":"edge","address":"192.0.2.10:7433","rate":"5.85Mbps","delay":"15ms"}]}
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
	Address string `json:"address,omitempty"`
	link.Description
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
	if d.To == "" {
		return errors.New("to: no host is named")
	}
	return d.Check()
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
		fromA, fromB := l.Specs()
		for _, s := range []link.Spec{fromA, fromB} {
			if err := s.Validate(); err != nil {
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

// directionsFrom lists what a host sends over, with the addresses of now. A
// trace that no file holds cannot be told to another process.
func directionsFrom(links []Link, host partition.HostID, addresses map[partition.HostID]string) ([]Direction, error) {
	out := []Direction{} // not null
	for _, l := range links {
		to := l.B
		spec, back := l.Specs()
		switch host {
		case l.A:
		case l.B:
			to, spec = l.A, back
		default:
			continue
		}
		d, err := link.Describe(spec)
		if err != nil {
			return nil, fmt.Errorf("%s–%s: %w", l.A, l.B, err)
		}
		out = append(out, Direction{To: to, Address: addresses[to], Description: d})
	}
	return out, nil
}
