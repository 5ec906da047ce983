package lab

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cleaveml/cleave/nodes/cluster"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport/sim/link"
)

// Link joins two hosts. Up is from A to B, Down from B to A, in Mbps; RTT is
// the way there and back without queues.
type Link struct {
	A, B     partition.HostID
	Up, Down float64
	RTT      time.Duration
	// FromA and FromB, when not nil, are all there is to say of that direction,
	// in place of Up or Down and half of RTT.
	FromA, FromB *link.Spec
}

// String prints "device–edge 18.88/40 Mbps, 5 ms", and what a direction is that
// is specified by itself.
func (l Link) String() string {
	if l.FromA == nil && l.FromB == nil {
		return fmt.Sprintf("%s–%s %g/%g Mbps, %v", l.A, l.B, l.Up, l.Down, l.RTT)
	}
	fromA, fromB := l.Specs()
	return fmt.Sprintf("%s–%s %v / %v", l.A, l.B, fromA, fromB)
}

// Specs are what becomes of the packets that A and B send. An Up or Down of 0
// cuts that direction.
func (l Link) Specs() (fromA, fromB link.Spec) {
	of := func(full *link.Spec, mbps float64) link.Spec {
		if full != nil {
			return *full
		}
		return link.Spec{Rate: partition.BitsPerSecond(mbps) * partition.Mbps, Delay: l.RTT / 2, Cut: mbps == 0}
	}
	return of(l.FromA, l.Up), of(l.FromB, l.Down)
}

// linksFrom lists what a host sends over, for its cluster file.
func linksFrom(links []Link, host partition.HostID) ([]cluster.EmulatedLink, error) {
	directions, err := directionsFrom(links, host, nil)
	if err != nil {
		return nil, err
	}
	var out []cluster.EmulatedLink
	for _, d := range directions {
		out = append(out, cluster.EmulatedLink{To: d.To, Description: d.Description})
	}
	return out, nil
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
		{A: "device", B: "edge", Up: edgeUp, Down: edgeDown, RTT: edgeRTT},
		{A: "device", B: "cloud", Up: edgeUp, Down: edgeDown, RTT: cloudRTT},
		{A: "edge", B: "cloud", Up: 100, Down: 100, RTT: 35 * time.Millisecond},
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
