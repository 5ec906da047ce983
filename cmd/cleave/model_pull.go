package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/nodes"
	"github.com/cleaveml/cleave/nodes/cluster"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/identity"
)

type pullFlags struct {
	clusterFlags
	from, store string
	asJSON      bool
}

func newModelPull() *cobra.Command {
	var f pullFlags
	c := &cobra.Command{
		Use:   "pull MODEL|DIGEST",
		Short: "Fetch a model from a host of the cluster",
		Long: `Fetch a model, given by its name or by four or more digits of its digest, from
the host at an address or from those of a cluster file, into the store of this
machine. Every block is checked; a pull that was cut goes on where it was.

Agents do this by themselves, as far as they need the model. Hosts give their
weights to hosts only: it takes a host's certificate, and no agent of that name
may be running.`,
		Example: `  cleave model pull mobilenet_v2 --at 192.0.2.10:7433 --identity /etc/cleave/pki
  cleave model pull 3f2a9c --config cluster.yaml --from edge --as cam-1`,
		Args: exactArgs(1, "one argument, a model's name or digest"),
		RunE: func(c *cobra.Command, args []string) error { return f.run(c, args[0]) },
	}
	c.Flags().StringVar(&f.config, "config", "cluster.yaml", "cluster file")
	c.Flags().StringVar(&f.from, "from", "", "with --config, host to fetch from (default: whichever has it)")
	f.registerAt(c)
	c.Flags().Lookup("at").Usage = "address of the host to fetch from, host:port, in place of a cluster file"
	c.Flags().StringVar(&f.as, "as", "", "name of the host's certificate to connect with (default: the only one in the folder)")
	c.Flags().StringVar(&f.store, "store", "", "folder of models (default: cleave/models in the user's cache folder)")
	c.Flags().BoolVar(&f.asJSON, "json", false, "print what came as JSON")
	return c
}

// pulledModel is what `model pull` prints.
type pulledModel struct {
	listedModel
	Arrived tensor.Bytes `json:"arrived"` // of which so much came now
	Total   tensor.Bytes `json:"total"`
	Seconds float64      `json:"seconds"`
	Store   string       `json:"store"`
}

func (f pullFlags) run(c *cobra.Command, which string) error {
	store, err := openStore(f.store)
	if err != nil {
		return err
	}
	if f.as == "" {
		if f.as, err = f.onlyHost(); err != nil {
			return err
		}
	}
	net, err := f.dial()
	if err != nil {
		return err
	}
	defer net.Close()
	start := time.Now()
	show := newProgress(os.Stderr)
	defer show.Done()
	show.Step("looking for %s", which)
	digest, from, err := f.find(c.Context(), net, which)
	if err != nil {
		return err
	}
	before := arrivedOf(store, digest)
	fetch := nodes.Fetch{Store: store, Model: digest, Self: partition.HostID(f.as), From: from, Report: func(p nodes.Progress) {
		show.Step("%d/%d %s", p.Done, p.Total, p.What)
	}}
	fetch.Dial = func(ctx context.Context, host partition.HostID) (transport.Conn, error) { return net.Conn(ctx, host) }
	g, err := fetch.Run(c.Context())
	if err != nil {
		return f.explain(err)
	}
	show.Done()
	_, total, err := g.Arrived()
	if err != nil {
		return err
	}
	p := pulledModel{listedModel: listed(g), Arrived: total - before, Total: total, Seconds: time.Since(start).Seconds(), Store: store.Dir()}
	if f.asJSON {
		return printJSON(c.OutOrStdout(), p)
	}
	p.print(c.OutOrStdout())
	return nil
}

func (p pulledModel) print(w io.Writer) {
	if p.Arrived == 0 {
		fmt.Fprintf(w, "%s (%s, %s) is in %s already\n", p.Name, p.Form, p.Digest.Short(), p.Store)
		return
	}
	fmt.Fprintf(w, "%s (%s, %s): %v of %v came in %.1f s, all is in %s\n", p.Name, p.Form, p.Digest.Short(), p.Arrived, p.Total, p.Seconds, p.Store)
}

// explain tells what to do where the cause alone does not.
func (f pullFlags) explain(err error) error {
	if nodes.KindOf(err) == nodes.Policy || strings.Contains(err.Error(), "has a client's certificate") {
		return fmt.Errorf("%w; weights go to hosts only: name the certificate of one with --as", err)
	}
	if errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("%w; what has arrived is kept, the same command goes on from there", err)
}

// arrivedOf is how much of a model is in the store.
func arrivedOf(store *models.Store, digest models.Digest) tensor.Bytes {
	whole, _ := store.List() // what is damaged is fetched again or told of later
	for _, g := range append(whole, store.ListPartial()...) {
		if here, _, err := g.Arrived(); g.Digest == digest && err == nil {
			return here
		}
	}
	return 0
}

// onlyHost is the host whose certificate and key are in the identity folder.
func (f pullFlags) onlyHost() (string, error) {
	dir := f.identity
	if f.at == "" {
		file, err := cluster.Read(f.config)
		if err != nil {
			return "", fmt.Errorf("%w; or name a host's address with --at", err)
		}
		dir = file.Identity
	} else if dir == "" {
		dir = "pki"
	}
	keys, _ := filepath.Glob(filepath.Join(dir, "*.key")) // the pattern is well formed
	var hosts []string
	for _, key := range keys {
		name := strings.TrimSuffix(filepath.Base(key), ".key")
		if id, err := identity.Load(dir, partition.HostID(name)); err == nil && id.Role == transport.Node {
			hosts = append(hosts, name)
		}
	}
	switch len(hosts) {
	case 1:
		return hosts[0], nil
	case 0:
		return "", fmt.Errorf("%s holds no host's certificate and key; name the folder with --identity, or issue one: cleave cluster issue %s NAME", dir, dir)
	}
	return "", usagef("%s holds the certificates of several hosts (%s): say with --as which one this machine is", dir, strings.Join(hosts, ", "))
}

var fullDigest = regexp.MustCompile(`^[0-9a-f]{64}$`)

// find resolves a model's name or digest and says which hosts to ask for it.
func (f pullFlags) find(ctx context.Context, net *contacts, which string) (models.Digest, []partition.HostID, error) {
	hosts, err := f.sources(ctx, net)
	if err != nil {
		return "", nil, err
	}
	which = strings.ToLower(which)
	if fullDigest.MatchString(which) { // hosts that have a part of it are of use too
		return models.Digest(which), hosts, nil
	}
	found := map[models.Digest][]partition.HostID{}
	var digests, silent []string
	for _, h := range hosts {
		st, err := statusOf(ctx, net, h)
		if err != nil {
			silent = append(silent, fmt.Sprintf("%s: %s", h, oneLine(err)))
			continue
		}
		for _, m := range st.Models {
			if strings.ToLower(m.Name) != which && (len(which) < minPrefix || !strings.HasPrefix(string(m.Digest), which)) {
				continue
			}
			if found[m.Digest] == nil {
				digests = append(digests, fmt.Sprintf("%s %s %s", m.Name, m.Form, m.Digest.Short()))
			}
			found[m.Digest] = append(found[m.Digest], h)
		}
	}
	switch {
	case len(found) == 1:
		for digest, from := range found {
			return digest, from, nil
		}
	case len(found) > 1:
		return "", nil, usagef("%q is the name of several models (%s): give a digest", which, strings.Join(digests, ", "))
	case len(silent) > 0:
		return "", nil, fmt.Errorf("no host that answers has a model %q (%s)", which, strings.Join(silent, "; "))
	}
	var names []string
	for _, h := range hosts {
		names = append(names, string(h))
	}
	return "", nil, fmt.Errorf("no model on %s is called %q or has a digest that begins so (%d digits or more); cleave cluster status tells which hosts have it: give the address of one with --at", strings.Join(names, ", "), which, minPrefix)
}

// sources are the hosts to ask: the one that is named, the one at the address,
// or all of the cluster file that have an address.
func (f pullFlags) sources(ctx context.Context, net *contacts) ([]partition.HostID, error) {
	if f.at != "" {
		host, _, err := net.greet(ctx, "")
		if err == nil && f.from != "" && f.from != string(host.Name) {
			err = usagef("--from %s: the agent at %s is %s; give the address of %s with --at", f.from, f.at, host.Name, f.from)
		}
		return []partition.HostID{host.Name}, err
	}
	if f.from != "" {
		host, err := net.file.Find(partition.HostID(f.from))
		return []partition.HostID{host.Name}, err
	}
	var out []partition.HostID
	for _, h := range net.file.Hosts {
		if h.Name != partition.HostID(f.as) {
			out = append(out, h.Name)
		}
	}
	return out, nil
}

func statusOf(ctx context.Context, net *contacts, host partition.HostID) (nodes.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	conn, err := net.Conn(ctx, host)
	if err != nil {
		return nodes.Status{}, err
	}
	return nodes.NewClient(conn).Status(ctx)
}
