// Package cluster reads the file that names the hosts of a cluster. Gossip will
// find them; until then, and where an operator prefers it, the file does.
//
//	identity: /etc/cleave/pki      # folder with ca.crt, NAME.crt and NAME.key
//	hosts:
//	  - {name: cam-1,  tier: device, listen: ":7433"}
//	  - {name: edge-1, tier: edge,   address: "192.0.2.10:7433"}
//	  - {name: cloud,  tier: cloud,  address: "203.0.113.7:7433"}
//	policy: {raw_stays_on_device: true}
//	emulate: {slowdown: 16}        # for experiments only
//
// The same file serves every host. A host without an address is never
// dialled: it dials out, a device behind NAT for example.
package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport/sim/link"
)

// DefaultPort is where agents listen when a host names no port.
const DefaultPort = "7433"

// File is the content of a cluster file.
type File struct {
	// Identity is the folder of certificates, relative to the file.
	Identity string  `yaml:"identity"`
	Hosts    []Host  `yaml:"hosts"`
	Policy   Policy  `yaml:"policy,omitempty"`
	Emulate  Emulate `yaml:"emulate,omitempty"`
}

// Host is one machine.
type Host struct {
	Name partition.HostID `yaml:"name"`
	Tier partition.Tier   `yaml:"tier"`
	// Listen is the UDP address to listen on; by default the address's port on
	// every interface.
	Listen string `yaml:"listen,omitempty"`
	// Address is where others reach the host; empty if they cannot.
	Address string `yaml:"address,omitempty"`
}

// Policy holds for every request that starts at this cluster's devices.
type Policy struct {
	RawStaysOnDevice bool `yaml:"raw_stays_on_device,omitempty"`
}

// Emulate makes a host slower and its links worse than they are.
type Emulate struct {
	// Slowdown stretches all domain work; 0 means 1, not at all.
	Slowdown float64 `yaml:"slowdown,omitempty"`
	// Links shapes what this host sends to others.
	Links []EmulatedLink `yaml:"links,omitempty"`
}

// EmulatedLink is one direction, from this host to another.
type EmulatedLink struct {
	To partition.HostID `yaml:"to"`
	// Mbps is another way to write the rate.
	Mbps             float64 `yaml:"mbps,omitempty"`
	link.Description `yaml:",inline"`
}

// Spec is what the link does, with the trace that it names.
func (l EmulatedLink) Spec() (link.Spec, error) {
	s, err := l.Description.Spec("")
	if l.Mbps != 0 {
		s.Rate = partition.BitsPerSecond(l.Mbps) * partition.Mbps
	}
	return s, err
}

func (l EmulatedLink) check() error {
	switch {
	case l.Mbps != 0 && (l.Rate != "" || l.Trace != ""):
		return errors.New("mbps, rate and trace: give one of them")
	case !(l.Mbps >= 0 && l.Mbps <= 1e6):
		return fmt.Errorf("mbps %v: want more than 0", l.Mbps)
	case l.Mbps == 0 && reflect.DeepEqual(l.Description, link.Description{}):
		return errors.New("say what the link is like: rate: 18.88Mbps, for example")
	}
	return l.Check()
}

// Read parses and checks a cluster file. Errors are one line with the file and,
// where known, the line.
func Read(path string) (File, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return File{}, fmt.Errorf("cluster file: %w", err)
	}
	f, err := Parse(data)
	if err != nil {
		return f, fmt.Errorf("cluster file %s: %w", path, err)
	}
	if f.Identity != "" && !filepath.IsAbs(f.Identity) {
		f.Identity = filepath.Join(filepath.Dir(path), f.Identity)
	}
	for i := range f.Emulate.Links {
		l := &f.Emulate.Links[i]
		if l.Trace != "" && !filepath.IsAbs(l.Trace) {
			l.Trace = filepath.Join(filepath.Dir(path), l.Trace)
		}
		if _, err := l.Spec(); err != nil {
			return f, fmt.Errorf("cluster file %s: emulate.links[%d]: %w", path, i, err)
		}
	}
	return f, nil
}

// Parse reads the text of a cluster file. Unknown keys are errors.
func Parse(data []byte) (File, error) {
	var f File
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	if err := dec.Decode(&f); errors.Is(err, io.EOF) {
		return f, errors.New("it is empty")
	} else if err != nil {
		return f, errors.New(strings.Join(strings.Fields(strings.TrimPrefix(err.Error(), "yaml: ")), " "))
	}
	return f, f.check()
}

func (f *File) check() error {
	if f.Identity == "" {
		return errors.New("identity: name the folder of the cluster's certificates")
	}
	if len(f.Hosts) == 0 {
		return errors.New("hosts: name at least one")
	}
	seen := map[partition.HostID]bool{}
	for i := range f.Hosts {
		h := &f.Hosts[i]
		switch {
		case h.Name == "":
			return fmt.Errorf("hosts[%d]: it has no name", i)
		case seen[h.Name]:
			return fmt.Errorf("hosts[%d]: %q stands twice", i, h.Name)
		case !slices.Contains([]partition.Tier{partition.Device, partition.Edge, partition.Cloud}, h.Tier):
			return fmt.Errorf("hosts[%d] (%s): tier %q: want device, edge or cloud", i, h.Name, h.Tier)
		}
		seen[h.Name] = true
		if err := h.addresses(); err != nil {
			return fmt.Errorf("hosts[%d] (%s): %w", i, h.Name, err)
		}
	}
	return f.Emulate.check(seen)
}

// addresses fills in the default port and listening address.
func (h *Host) addresses() error {
	port := DefaultPort
	if h.Address != "" {
		host, p, err := net.SplitHostPort(h.Address)
		if err != nil {
			host, p = h.Address, DefaultPort
			if strings.Contains(host, ":") && net.ParseIP(host) == nil {
				return fmt.Errorf("address %q: want host:port", h.Address)
			}
		}
		port = p
		h.Address = net.JoinHostPort(host, port)
	}
	if h.Listen == "" {
		h.Listen = ":" + port
	}
	if _, _, err := net.SplitHostPort(h.Listen); err != nil {
		return fmt.Errorf("listen %q: want host:port or :port", h.Listen)
	}
	return nil
}

func (e Emulate) check(hosts map[partition.HostID]bool) error {
	if e.Slowdown != 0 && !(e.Slowdown >= 1 && e.Slowdown <= 1e4) {
		return fmt.Errorf("emulate.slowdown: %v: want 1 or more", e.Slowdown)
	}
	for i, l := range e.Links {
		if !hosts[l.To] {
			return fmt.Errorf("emulate.links[%d]: no host is called %q", i, l.To)
		}
		if err := l.check(); err != nil {
			return fmt.Errorf("emulate.links[%d]: %w", i, err)
		}
	}
	return nil
}

// Alone is the file of a host that finds the others by gossip. The error is of
// the kind that Parse returns.
func Alone(identity string, h Host) (File, error) {
	f := File{Identity: identity, Hosts: []Host{h}}
	err := f.check()
	return f, err
}

// Find returns the host of that name.
func (f File) Find(name partition.HostID) (Host, error) {
	var names []string
	for _, h := range f.Hosts {
		if h.Name == name {
			return h, nil
		}
		names = append(names, string(h.Name))
	}
	return Host{}, fmt.Errorf("no host is called %q; there are %s", name, strings.Join(names, ", "))
}

// Members lists the hosts as the solver sees them.
func (f File) Members() []partition.Host {
	out := make([]partition.Host, len(f.Hosts))
	for i, h := range f.Hosts {
		out[i] = partition.Host{ID: h.Name, Tier: h.Tier}
	}
	return out
}

// Marshal writes the file.
func (f File) Marshal() ([]byte, error) { return yaml.Marshal(f) }
