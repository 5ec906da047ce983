package nodes

import (
	"context"
	"log/slog"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
)

// Fetch brings a whole model into a store for a program that is no agent but
// has the certificate of a host.
type Fetch struct {
	Store *models.Store
	Model models.Digest
	// Self is the name in the certificate.
	Self partition.HostID
	// From are hosts that may have the model; they are asked in turn.
	From []partition.HostID
	// Dial connects with one of them, again where a connection broke.
	Dial func(context.Context, partition.HostID) (transport.Conn, error)
	// Report counts blocks; it may be nil.
	Report func(Progress)
}

// Run fetches what is missing and returns the model. What has arrived stays
// when it fails; the next Run goes on from there.
func (f Fetch) Run(ctx context.Context) (*models.Graph, error) {
	p := &pulling{self: f.Self, store: f.Store, log: slog.New(slog.DiscardHandler), dial: f.Dial, digest: f.Model, report: f.Report}
	if err := p.run(ctx, f.From, nil); err != nil {
		return nil, err
	}
	return f.Store.Open(f.Model)
}
