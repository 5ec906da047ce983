package lab

import (
	"fmt"
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

// Scene is a network for device, edge and cloud, and the rules that hold.
type Scene struct {
	Name     string
	About    string
	Links    []Link
	RawStays bool // policy raw-stays-on-device
}

func threeTier(edgeUp, edgeDown float64, edgeRTT time.Duration, cloudRTT time.Duration) []Link {
	return []Link{
		{"device", "edge", edgeUp, edgeDown, edgeRTT},
		{"device", "cloud", edgeUp, edgeDown, cloudRTT},
		{"edge", "cloud", 100, 100, 35 * time.Millisecond},
	}
}

// Scenes of the demo. The uplink rates are those that the field's papers use
// for Wi-Fi (Kang et al. 2017, Neurosurgeon).
func Scenes() []Scene {
	wifi := threeTier(18.88, 40, 5*time.Millisecond, 40*time.Millisecond)
	return []Scene{
		{Name: "wifi", About: "the device is on Wi-Fi, the edge server near, the cloud 40 ms away", Links: wifi},
		{Name: "private", About: "as wifi, and the policy raw-stays-on-device holds", Links: wifi, RawStays: true},
	}
}

// FindScene returns the scene of that name.
func FindScene(name string) (Scene, error) {
	var names []string
	for _, s := range Scenes() {
		if s.Name == name {
			return s, nil
		}
		names = append(names, s.Name)
	}
	return Scene{}, fmt.Errorf("no scene is called %q; there are %s", name, strings.Join(names, ", "))
}

// ThreeTiers are the demo's hosts at the given slowdowns.
func ThreeTiers(device, edge, cloud float64) []Host {
	return []Host{{"device", partition.Device, device}, {"edge", partition.Edge, edge}, {"cloud", partition.Cloud, cloud}}
}
