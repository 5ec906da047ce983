package netns

import (
	"testing"
	"time"

	"github.com/cleaveml/cleave/benchmarks/lab"
	"github.com/cleaveml/cleave/transport/sim/link"
	"github.com/cleaveml/cleave/transport/sim/link/linktest"
)

// TestConform has the suite between two namespaces, in real time.
func TestConform(t *testing.T) {
	n := newNet(t)
	a, b := listen(t, n, "device"), listen(t, n, "edge")
	if err := a.SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	linktest.Conform(t, linktest.Face{A: a, B: b, Headers: headers,
		Counters: func() link.Counters { return n.Counters("device", "edge") },
		Set: func(s link.Spec) {
			if err := n.SetLinks([]lab.Link{{A: "device", B: "edge", FromA: &s, FromB: &link.Spec{}}}); err != nil {
				t.Fatal(err)
			}
		}})
}
