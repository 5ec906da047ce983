package lab

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cleaveml/cleave/nodes/cluster"
	"github.com/cleaveml/cleave/partition"
)

// Link joins two hosts. Up is from A to B, Down from B to A, in Mbps; RTT is
// the way there and back without queues.
type Link struct {
	A, B     partition.HostID
	Up, Down float64
	RTT      time.Duration
}

// String prints "device–edge 18.88/40 Mbps, 5 ms".
func (l Link) String() string {
	return fmt.Sprintf("%s–%s %g/%g Mbps, %v", l.A, l.B, l.Up, l.Down, l.RTT)
}

// linksFrom lists what a host sends over, for its cluster file.
func linksFrom(links []Link, host partition.HostID) []cluster.EmulatedLink {
	var out []cluster.EmulatedLink
	for _, l := range links {
		switch host {
		case l.A:
			out = append(out, cluster.EmulatedLink{To: l.B, Mbps: l.Up, Delay: l.RTT / 2})
		case l.B:
			out = append(out, cluster.EmulatedLink{To: l.A, Mbps: l.Down, Delay: l.RTT / 2})
		}
	}
	return out
}

// Scene is a network for device, edge and cloud, the rules that hold, and what
// happens when it begins.
type Scene struct {
	Name     string
	About    string
	Links    []Link // those of hosts that are down included
	RawStays bool   // policy raw-stays-on-device
	// Kill is the host that is ended at once, Restart the one that returns; ""
	// for none.
	Kill, Restart partition.HostID
	// After is the scene that has to be played before; "" for none.
	After string
}

func threeTier(edgeUp, edgeDown float64, edgeRTT time.Duration, cloudRTT time.Duration) []Link {
	return []Link{
		{"device", "edge", edgeUp, edgeDown, edgeRTT},
		{"device", "cloud", edgeUp, edgeDown, cloudRTT},
		{"edge", "cloud", 100, 100, 35 * time.Millisecond},
	}
}

// Scenes of the demo, in the order of the story; the first is where it starts.
// The uplink rates are those that the field's papers use for Wi-Fi, LTE and
// 3G (Kang et al. 2017, Neurosurgeon).
func Scenes() []Scene {
	wifi := threeTier(18.88, 40, 5*time.Millisecond, 40*time.Millisecond)
	lte := threeTier(5.85, 15, 30*time.Millisecond, 60*time.Millisecond)
	umts := threeTier(1.1, 2, 80*time.Millisecond, 110*time.Millisecond)
	return []Scene{
		{Name: "wifi", About: "the device is on Wi-Fi, the edge server near, the cloud 40 ms away", Links: wifi},
		{Name: "lte", About: "the device drives away: LTE", Links: lte},
		{Name: "umts", About: "it drives further away: 3G", Links: umts},
		{Name: "private", About: "back on Wi-Fi, and the policy raw-stays-on-device holds", Links: wifi, RawStays: true},
		{Name: "edge-down", About: "the policy is lifted, and the edge server dies under load", Links: wifi, Kill: "edge"},
		{Name: "edge-back", About: "the edge server returns, at another address", Links: wifi, Restart: "edge", After: "edge-down"},
	}
}

// ChooseScenes returns the named scenes and those that have to come before
// them, in the order of the story, each once; all when there are no names.
func ChooseScenes(names ...string) ([]Scene, error) {
	all := Scenes()
	if len(names) == 0 {
		return all, nil
	}
	var known []string
	for _, s := range all {
		known = append(known, s.Name)
	}
	chosen := map[string]bool{}
	for _, name := range names {
		for name != "" {
			i := slices.Index(known, name)
			if i < 0 {
				return nil, fmt.Errorf("no scene is called %q; there are %s", name, strings.Join(known, ", "))
			}
			chosen[name] = true
			name = all[i].After
		}
	}
	return slices.DeleteFunc(all, func(s Scene) bool { return !chosen[s.Name] }), nil
}

// ThreeTiers are the demo's hosts at the given slowdowns.
func ThreeTiers(device, edge, cloud float64) []Host {
	return []Host{{"device", partition.Device, device}, {"edge", partition.Edge, edge}, {"cloud", partition.Cloud, cloud}}
}
