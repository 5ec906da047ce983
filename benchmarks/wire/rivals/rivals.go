package rivals

import (
	"context"

	"github.com/cleaveml/cleave/partition"
)

// The two hosts.
const (
	Caller partition.HostID = "caller"
	Server partition.HostID = "server"
)

// Adapter is a way to ask another host.
type Adapter struct {
	Name string
	// Open lets both hosts of a site listen. There is no connection yet.
	Open func(s *Site) (Pair, error)
}

// Pair is two hosts that one adapter joins. Close it.
type Pair interface {
	// Connect drops the connection there is, if any, and makes a new one, ready
	// for use: by Cleave, its congestion windows are opened, too.
	Connect(ctx context.Context) error
	// Ask sends bytes as one request and returns when the answer is here: a few
	// bytes, or what was sent if it is to be echoed. It is safe for concurrent
	// use where the adapter has streams.
	Ask(ctx context.Context, data []byte, echo bool) error
	// Way is what the connection goes by, "bbr" or "quic+fec" for example.
	Way() string
	// Close ends both hosts.
	Close() error
}

// Ours are Cleave's endpoints.
func Ours() []Adapter { return []Adapter{CleaveQUIC(), CleaveTLS()} }

// Others are the rivals, of which the machine may lack some: see Missing.
func Others() []Adapter {
	return []Adapter{QUIC(), TCP("cubic"), TCP("bbr"), GRPC()}
}

// Missing says in one line why adapters do not work at a site, by name. It
// opens each once.
func Missing(s *Site, adapters []Adapter) (there []Adapter, missing map[string]string) {
	missing = map[string]string{}
	for _, a := range adapters {
		p, err := a.Open(s)
		if err == nil {
			err = p.Close()
		}
		if err != nil {
			missing[a.Name] = err.Error()
			continue
		}
		there = append(there, a)
	}
	return there, missing
}
