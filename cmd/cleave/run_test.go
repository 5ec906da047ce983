package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/catalog"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/nodes"
	"github.com/cleaveml/cleave/partition"
)

// TestAnswersAreTold: of requests of which one fails, what was answered before
// is reported.
func TestAnswersAreTold(t *testing.T) {
	broken := errors.New("the agent died")
	s := &subject{graph: &models.Graph{Name: "net"}, entry: &catalog.Entry{}}
	for _, fails := range []int{1, 4} {
		sent := 0
		send := func(context.Context) (map[string]tensor.Tensor, nodes.InferReport, error) {
			if sent++; sent == fails {
				return nil, nodes.InferReport{}, broken
			}
			return nil, nodes.InferReport{Elapsed: time.Duration(sent) * time.Millisecond}, nil
		}
		o := &origin{host: "cam"}
		r, err := o.repeat(t.Context(), runFlags{n: 9, budget: time.Second, strategy: "cleave"}, s, partition.Plan{}, send, newProgress(os.Stderr))
		if !errors.Is(err, broken) || (r == nil) != (fails == 1) {
			t.Fatalf("the report is %+v, the error %v", r, err)
		}
		if r == nil {
			continue
		}
		var out bytes.Buffer
		r.print(&out)
		if !strings.Contains(out.String(), "3 requests: median 2.00 ms, fastest 1.00 ms, slowest 3.00 ms") {
			t.Errorf("it says %s", out.String())
		}
	}
}
