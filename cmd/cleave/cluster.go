package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/nodes"
	"github.com/cleaveml/cleave/nodes/cluster"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/identity"
)

func newCluster() *cobra.Command {
	c := asGroup(&cobra.Command{
		Use:   "cluster",
		Short: "Make a cluster's certificates, check its file, see who is up",
		Long: `A cluster is a certificate authority, a certificate for every host, and a file
that names the hosts:

  identity: pki                  # folder with ca.crt, NAME.crt and NAME.key
  hosts:
    - {name: cam-1,  tier: device}
    - {name: edge-1, tier: edge,   address: "192.0.2.10:7433"}
    - {name: cloud,  tier: cloud,  address: "203.0.113.7:7433"}
  policy: {raw_stays_on_device: true}

A host without an address dials out only, a device behind NAT for example.`,
		Example: `  cleave cluster ca pki
  cleave cluster issue pki cam-1
  cleave cluster issue pki operator --client
  cleave cluster check cluster.yaml
  cleave cluster status`,
	})
	c.AddCommand(newClusterCA(), newClusterIssue(), newClusterCheck(), newClusterStatus())
	return c
}

func newClusterCA() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:     "ca DIR",
		Short:   "Create the certificate authority of a cluster",
		Example: "  cleave cluster ca pki",
		Args:    exactArgs(1, "one argument, a folder"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := identity.CreateCA(args[0]); err != nil {
				return err
			}
			if asJSON {
				return printJSON(c.OutOrStdout(), map[string]string{"certificate": filepath.Join(args[0], "ca.crt"), "key": filepath.Join(args[0], "ca.key")})
			}
			fmt.Fprintf(c.OutOrStdout(), "%s\n%s   keep it here: who has it can admit hosts\nnext: cleave cluster issue %s NAME, for every host\n",
				filepath.Join(args[0], "ca.crt"), filepath.Join(args[0], "ca.key"), args[0])
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print the files as JSON")
	return c
}

func newClusterIssue() *cobra.Command {
	var client, asJSON bool
	c := &cobra.Command{
		Use:   "issue DIR NAME",
		Short: "Issue a certificate for a host or a client",
		Long: `Sign a certificate with the authority in DIR, for the host of that name in the
cluster file, or with --client for whoever only sends requests.`,
		Example: `  cleave cluster issue pki edge-1
  cleave cluster issue pki operator --client`,
		Args: exactArgs(2, "two arguments, the folder of the authority and a name"),
		RunE: func(c *cobra.Command, args []string) error {
			role := transport.Node
			if client {
				role = transport.Client
			}
			if err := identity.Issue(args[0], partition.HostID(args[1]), role); err != nil {
				return err
			}
			files := []string{filepath.Join(args[0], "ca.crt"), filepath.Join(args[0], args[1]+".crt"), filepath.Join(args[0], args[1]+".key")}
			if asJSON {
				return printJSON(c.OutOrStdout(), map[string]any{"name": args[1], "role": role, "files": files})
			}
			fmt.Fprintf(c.OutOrStdout(), "%s needs these three files, in the folder that its cluster file names as identity:\n  %s\n", args[1], strings.Join(files, "\n  "))
			return nil
		},
	}
	c.Flags().BoolVar(&client, "client", false, "it sends requests and runs no agent")
	c.Flags().BoolVar(&asJSON, "json", false, "print the files as JSON")
	return c
}

func newClusterCheck() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "check FILE",
		Short: "Check a cluster file and the certificates beside it",
		Long: `Read a cluster file and every certificate in its identity folder. A host needs
its own certificate only, so those that are not here are no fault.`,
		Example: "  cleave cluster check cluster.yaml",
		Args:    exactArgs(1, "one argument, the cluster file"),
		RunE:    func(c *cobra.Command, args []string) error { return runClusterCheck(c, args[0], asJSON) },
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print the hosts as JSON")
	return c
}

// checkedHost is a row of `cluster check`: a host, or a client with a certificate here.
type checkedHost struct {
	Name        partition.HostID `json:"name"`
	Tier        partition.Tier   `json:"tier,omitempty"` // empty for clients
	Listen      string           `json:"listen,omitempty"`
	Address     string           `json:"address,omitempty"`
	Certificate string           `json:"certificate"`
	Fault       bool             `json:"fault,omitempty"`
}

func runClusterCheck(c *cobra.Command, path string, asJSON bool) error {
	file, err := cluster.Read(path)
	if err != nil {
		return err
	}
	rows, err := checkHosts(file)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if asJSON {
		err = printJSON(c.OutOrStdout(), rows)
	} else {
		t := newGrid(c.OutOrStdout(), []string{"host", "tier", "listens on", "reached at", "certificate"})
		for _, r := range rows {
			tier := string(r.Tier)
			if tier == "" {
				tier = "(client)"
			}
			t.row(r.Name, tier, orDash(r.Listen), orDash(r.Address), r.Certificate)
		}
		t.print()
	}
	for _, r := range rows {
		if r.Fault && err == nil {
			err = fmt.Errorf("certificate of %s in %s: %s", r.Name, file.Identity, r.Certificate)
		}
	}
	return err
}

// checkHosts looks at the certificate of every host of the file, then at those
// of others that are in the folder.
func checkHosts(file cluster.File) ([]checkedHost, error) {
	var rows []checkedHost
	found := 0
	for _, h := range file.Hosts {
		r := checkedHost{Name: h.Name, Tier: h.Tier, Listen: h.Listen, Address: h.Address, Certificate: "not here"}
		if _, err := os.Stat(filepath.Join(file.Identity, string(h.Name)+".crt")); err == nil {
			found++
			r.check(file.Identity, transport.Node)
		}
		rows = append(rows, r)
	}
	others, err := filepath.Glob(filepath.Join(file.Identity, "*.crt"))
	if err != nil {
		return nil, err
	}
	for _, path := range others {
		r := checkedHost{Name: partition.HostID(strings.TrimSuffix(filepath.Base(path), ".crt"))}
		if r.Name == "ca" || slices.ContainsFunc(rows, func(h checkedHost) bool { return h.Name == r.Name }) {
			continue
		}
		found++
		r.check(file.Identity, transport.Client)
		rows = append(rows, r)
	}
	if found == 0 {
		return nil, fmt.Errorf("identity %s holds no certificate of a host; see: cleave cluster issue --help", file.Identity)
	}
	return rows, nil
}

// check verifies a certificate as a peer would.
func (r *checkedHost) check(dir string, role transport.Role) {
	id, err := identity.Load(dir, r.Name)
	if err == nil {
		_, err = id.Certificate.Leaf.Verify(x509.VerifyOptions{Roots: id.CA, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}})
		var stranger x509.UnknownAuthorityError
		if errors.As(err, &stranger) {
			err = errors.New("it is signed by another authority than the ca.crt beside it")
		}
	}
	switch {
	case err != nil:
		r.Certificate, r.Fault = oneLine(err), true
	case id.Role != role && role == transport.Node:
		r.Certificate, r.Fault = "it is a client's; issue it again without --client", true
	case id.Role != role:
		r.Certificate, r.Fault = "it is a host's, but the file names no such host", true
	default:
		r.Certificate = "valid until " + id.Certificate.Leaf.NotAfter.Format(time.DateOnly)
	}
}

func newClusterStatus() *cobra.Command {
	var f clusterFlags
	var asJSON bool
	c := &cobra.Command{
		Use:   "status",
		Short: "Ask every agent who it is and what it has",
		Long: `Connect to every host of the cluster file, or with --agent to one, and show
what its agent says: its models, and by which way it reaches each other host (QUIC,
QUIC with repair of lost packets, or TLS where UDP is blocked). A host without an
address is looked for on this machine. Exits 1 when an agent that has an address
does not answer. With --at any one agent answers for the cluster that it sees, and
for all streams in it.`,
		Example: `  cleave cluster status
  cleave cluster status --config cluster.yaml --agent edge-1 --json
  cleave cluster status --at 127.0.0.1:7433 --identity pki`,
		Args: exactArgs(0, "no arguments"),
		RunE: func(c *cobra.Command, _ []string) error { return runClusterStatus(c, f, asJSON) },
	}
	c.Flags().StringVar(&f.config, "config", "cluster.yaml", "cluster file")
	c.Flags().StringVar(&f.agent, "agent", "", "ask this host only")
	f.registerAt(c)
	f.registerAs(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print the answers as JSON")
	return c
}

// agentStatus is a row of `cluster status`.
type agentStatus struct {
	Name    partition.HostID `json:"name"`
	Tier    partition.Tier   `json:"tier"`
	Up      bool             `json:"up"`
	Why     string           `json:"why,omitempty"` // it is not up
	Address string           `json:"address"`
	Status  *nodes.Status    `json:"status,omitempty"`

	dialable bool
}

// statusTimeout bounds the wait for one agent.
const statusTimeout = 6 * time.Second

func runClusterStatus(c *cobra.Command, f clusterFlags, asJSON bool) error {
	net, err := f.dial()
	if err != nil {
		return err
	}
	defer net.Close()
	if f.at != "" {
		return statusThrough(c, net, f, asJSON)
	}
	hosts := net.file.Hosts
	if f.agent != "" {
		host, err := net.file.Find(partition.HostID(f.agent))
		if err != nil {
			return err
		}
		hosts = []cluster.Host{host}
	}
	show := newProgress(os.Stderr)
	show.Step("asking %d agents", len(hosts))
	rows := make([]agentStatus, len(hosts))
	var wg sync.WaitGroup
	for i, h := range hosts {
		wg.Go(func() { rows[i] = askStatus(c.Context(), net, h) })
	}
	wg.Wait()
	show.Done()
	if err := c.Context().Err(); err != nil {
		return err
	}
	if asJSON {
		err = printJSON(c.OutOrStdout(), rows)
	} else {
		printStatus(c, rows)
	}
	if err == nil && slices.ContainsFunc(rows, func(r agentStatus) bool { return !r.Up && r.dialable }) {
		err = errSilent
	}
	return err
}

// statusThrough has one agent answer for the cluster that it sees.
func statusThrough(c *cobra.Command, net *contacts, f clusterFlags, asJSON bool) error {
	host, client, err := net.origin(c.Context(), f.agent)
	if err != nil {
		return err
	}
	own, err := client.Status(c.Context())
	if err != nil {
		return err
	}
	var rows []agentStatus
	for _, h := range own.Hosts {
		row := agentStatus{Name: h.ID, Tier: h.Tier, Address: "through " + string(host.Name), Up: true, Status: &own}
		if h.ID == own.ID {
			row.Address = f.at
		} else if st, err := client.StatusOf(c.Context(), h.ID); err == nil {
			row.Status = &st
		} else {
			row.Up, row.Why, row.Status = false, oneLine(err), nil
		}
		rows = append(rows, row)
	}
	streams, err := allStreams(c.Context(), client)
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(c.OutOrStdout(), struct {
			Hosts   []agentStatus       `json:"hosts"`
			Streams []nodes.StreamState `json:"streams"`
		}{rows, streams})
	}
	printStatus(c, rows)
	fmt.Fprintln(c.OutOrStdout())
	printStreams(c.OutOrStdout(), streams)
	return nil
}

func askStatus(ctx context.Context, net *contacts, h cluster.Host) agentStatus {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	row := agentStatus{Name: h.Name, Tier: h.Tier, Address: reach(h), dialable: h.Address != ""}
	conn, err := net.Conn(ctx, h.Name)
	if err == nil {
		var st nodes.Status
		if st, err = nodes.NewClient(conn).Status(ctx); err == nil {
			row.Up, row.Status = true, &st
			return row
		}
	}
	row.Why = oneLine(err)
	var known *transport.Error
	if errors.As(err, &known) && known.Err != nil {
		row.Why = fmt.Sprintf("%s: %s", known.Kind, oneLine(known.Err)) // the table names the host
	}
	if !row.dialable {
		row.Why = "has no address and is not on this machine"
	}
	return row
}

func printStatus(c *cobra.Command, rows []agentStatus) {
	t := newGrid(c.OutOrStdout(), []string{"host", "tier", "at", "state", "runtime", "cpu", "models"}, "models")
	for _, r := range rows {
		if !r.Up {
			t.row(r.Name, r.Tier, r.Address, "down", "–", "–", "–")
			continue
		}
		state := "up"
		if r.Status.Slowdown > 1 {
			state = fmt.Sprintf("up, slowed ×%g", r.Status.Slowdown)
		}
		t.row(r.Name, r.Tier, r.Address, state, r.Status.Runtime, fit(r.Status.CPU, 28), len(r.Status.Models))
	}
	t.print()
	for _, r := range rows {
		if !r.Up {
			fmt.Fprintf(c.OutOrStdout(), "%s: %s\n", r.Name, r.Why)
		}
	}
	printModels(c, rows)
	printLinks(c.OutOrStdout(), rows)
}

// printModels lists what the agents have in their stores, each model once.
func printModels(c *cobra.Command, rows []agentStatus) {
	var all []nodes.ModelStatus
	on := map[models.Digest][]string{}
	up := 0
	for _, r := range rows {
		if !r.Up {
			continue
		}
		up++
		for _, m := range r.Status.Models {
			if len(on[m.Digest]) == 0 {
				all = append(all, m)
			}
			on[m.Digest] = append(on[m.Digest], string(r.Name))
		}
	}
	if len(all) == 0 {
		return
	}
	slices.SortStableFunc(all, func(a, b nodes.ModelStatus) int { return strings.Compare(a.Name, b.Name) })
	fmt.Fprintln(c.OutOrStdout())
	t := newGrid(c.OutOrStdout(), []string{"model", "form", "digest", "ops", "weights", "on"}, "ops", "weights")
	for _, m := range all {
		on[m.Digest] = slices.Compact(on[m.Digest]) // a store may hold it under several recipes
		hosts := strings.Join(on[m.Digest], ", ")
		if len(on[m.Digest]) == up && up > 1 {
			hosts = "all that are up"
		}
		t.row(m.Name, m.Form, m.Digest.Short(), m.Ops, m.Weights, hosts)
	}
	t.print()
}
