package rivals

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// Striped is an adapter over so many connections at once: each carries a part of
// every request, and loses its own congestion window.
func Striped(a Adapter, connections int) Adapter {
	return Adapter{Name: fmt.Sprintf("%s, %d connections", a.Name, connections), Open: func(s *Site) (Pair, error) {
		var all striped
		for range connections {
			p, err := a.Open(s)
			if err != nil {
				return nil, errors.Join(err, all.Close())
			}
			all = append(all, p)
		}
		return all, nil
	}}
}

type striped []Pair

// each does something with all at once.
func (p striped) each(do func(i int, one Pair) error) error {
	errs := make([]error, len(p))
	var wg sync.WaitGroup
	for i, one := range p {
		wg.Go(func() { errs[i] = do(i, one) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Connect implements Pair.
func (p striped) Connect(ctx context.Context) error {
	return p.each(func(_ int, one Pair) error { return one.Connect(ctx) })
}

// Ask implements Pair.
func (p striped) Ask(ctx context.Context, data []byte, echo bool) error {
	return p.each(func(i int, one Pair) error {
		return one.Ask(ctx, data[len(data)*i/len(p):len(data)*(i+1)/len(p)], echo)
	})
}

// Way implements Pair.
func (p striped) Way() string { return p[0].Way() }

// Close implements Pair.
func (p striped) Close() error {
	return p.each(func(_ int, one Pair) error { return one.Close() })
}
