package nodes

import (
	"context"
	"errors"
	"fmt"

	"github.com/cleaveml/cleave/models"
)

// ProfileStandIn is Profile with made-up numbers in place of the model's large
// weights, which need not be here; see models.Graph.StandIn for what it takes.
// The values that it returns are not the model's.
func (c *Compute) ProfileStandIn(ctx context.Context, g *models.Graph, input Values, opts ProfileOptions) (p Profile, values Values, err error) {
	err = c.standIn(g, func(made *models.Graph) (err error) {
		p, values, err = c.Profile(ctx, made, input, opts)
		return err
	})
	p.Model, p.StandIn = g.Digest, true
	return p, values, err
}

// standIn makes a stand-in of a graph, and removes it afterwards with the
// sessions that were built of it.
func (c *Compute) standIn(g *models.Graph, measure func(*models.Graph) error) error {
	made, err := g.StandIn()
	if err != nil {
		return fmt.Errorf("measure %s without its weights: %w", g.Name, err)
	}
	err = measure(made.Graph)
	return errors.Join(err, c.forget(made.Digest), made.Close())
}
