// Package identity keeps a cluster's certificate authority and the certificates
// of its hosts on disk: PEM files, readable by their owner only.
//
//	ca.crt ca.key        the authority; ca.key stays where hosts are admitted
//	NAME.crt NAME.key    a host
//
// A host needs ca.crt and its own pair. Its name and role are URIs in the
// certificate: cleave://host/NAME and cleave://role/node or client.
package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
)

const lifetime = 10 * 365 * 24 * time.Hour

// Identity is a host's proof of who it is, and whom it trusts.
type Identity struct {
	ID          partition.HostID
	Role        transport.Role
	Certificate tls.Certificate
	CA          *x509.CertPool
}

// CreateCA makes a new certificate authority in dir, which it creates. It
// refuses to overwrite one: a new authority would lock every host out.
func CreateCA(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("create CA: %w", err)
	}
	template := &x509.Certificate{
		Subject:  pkix.Name{CommonName: "Cleave cluster CA"},
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		IsCA:     true, BasicConstraintsValid: true, MaxPathLenZero: true,
	}
	if err := create(dir, "ca", template, nil, nil); err != nil {
		return fmt.Errorf("create CA: %w", err)
	}
	return nil
}

// Issue signs a certificate for a host with the authority in dir, beside it.
// It refuses to overwrite one. Move NAME.crt, NAME.key and ca.crt to the host.
func Issue(dir string, id partition.HostID, role transport.Role) error {
	if err := checkName(id, role); err != nil {
		return fmt.Errorf("issue certificate: %w", err)
	}
	ca, err := tls.LoadX509KeyPair(filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.key"))
	if err != nil {
		return fmt.Errorf("issue certificate for %s: no usable CA in %s; run `cleave cluster ca` first: %w", id, dir, err)
	}
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: string(id), OrganizationalUnit: []string{string(role)}},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		URIs: []*url.URL{
			{Scheme: "cleave", Host: "host", Path: "/" + string(id)},
			{Scheme: "cleave", Host: "role", Path: "/" + string(role)},
		},
	}
	signer, ok := ca.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return fmt.Errorf("issue certificate for %s: %s/ca.key is no ECDSA key", id, dir)
	}
	if err := create(dir, string(id), template, ca.Leaf, signer); err != nil {
		return fmt.Errorf("issue certificate for %s: %w", id, err)
	}
	return nil
}

// Load reads a host's identity from dir.
func Load(dir string, id partition.HostID) (Identity, error) {
	if err := checkName(id, transport.Node); err != nil {
		return Identity{}, fmt.Errorf("load identity: %w", err)
	}
	authority, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		return Identity{}, fmt.Errorf("load identity of %s: no CA certificate; run `cleave cluster ca` or copy ca.crt here: %w", id, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(authority) {
		return Identity{}, fmt.Errorf("load identity of %s: %s/ca.crt is no PEM certificate", id, dir)
	}
	cert, err := tls.LoadX509KeyPair(filepath.Join(dir, string(id)+".crt"), filepath.Join(dir, string(id)+".key"))
	if err != nil {
		return Identity{}, fmt.Errorf("load identity of %s: issue a certificate for it where the CA is, and copy it here: %w", id, err)
	}
	named, role, err := Name(cert.Leaf)
	if err != nil {
		return Identity{}, fmt.Errorf("load identity of %s: %w", id, err)
	}
	if named != id {
		return Identity{}, fmt.Errorf("load identity of %s: the certificate in %s belongs to %s", id, dir, named)
	}
	return Identity{ID: id, Role: role, Certificate: cert, CA: pool}, nil
}

// Name reads host and role out of a verified certificate.
func Name(cert *x509.Certificate) (partition.HostID, transport.Role, error) {
	var id partition.HostID
	var role transport.Role
	for _, u := range cert.URIs {
		if u.Scheme != "cleave" {
			continue
		}
		switch value := strings.TrimPrefix(u.Path, "/"); u.Host {
		case "host":
			id = partition.HostID(value)
		case "role":
			role = transport.Role(value)
		}
	}
	if err := checkName(id, role); err != nil {
		return "", "", fmt.Errorf("certificate of %q: %w", cert.Subject.CommonName, err)
	}
	return id, role, nil
}

func checkName(id partition.HostID, role transport.Role) error {
	if role != transport.Node && role != transport.Client {
		return fmt.Errorf("role %q is neither %s nor %s", role, transport.Node, transport.Client)
	}
	if id == "" || len(id) > 63 || id == "ca" || id[0] == '.' || id[0] == '-' {
		return fmt.Errorf("host name %q: use 1 to 63 letters, digits, dots, dashes; not %q, no dot or dash in front", id, "ca")
	}
	for _, r := range id {
		if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_", r) {
			return fmt.Errorf("host name %q: %q is not allowed; use letters, digits, dots, dashes", id, r)
		}
	}
	return nil
}

// create writes NAME.key and NAME.crt, signed by parent or by itself.
func create(dir, name string, template, parent *x509.Certificate, signer *ecdsa.PrivateKey) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	if parent == nil {
		parent, signer = template, key
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return err
	}
	template.SerialNumber = serial
	template.NotBefore = time.Now().Add(-24 * time.Hour) // clocks of small devices are late
	template.NotAfter = time.Now().Add(lifetime)
	cert, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		return err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, name)
	if err := write(path+".key", &pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}); err != nil {
		return err
	}
	if err := write(path+".crt", &pem.Block{Type: "CERTIFICATE", Bytes: cert}); err != nil {
		return errors.Join(err, os.Remove(path+".key"))
	}
	return nil
}

// write makes a new file; it never overwrites.
func write(path string, p *pem.Block) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already; move it away if you mean to replace it", path)
	}
	if err != nil {
		return err
	}
	return errors.Join(pem.Encode(f, p), f.Close())
}
