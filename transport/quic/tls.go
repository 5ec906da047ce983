package quic

import (
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"

	quicgo "github.com/quic-go/quic-go"

	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/identity"
)

const alpn = "cleave"

// listenTLS demands a certificate of the cluster from whoever connects.
func listenTLS(id identity.Identity) *tls.Config {
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		NextProtos:   []string{alpn},
		Certificates: []tls.Certificate{id.Certificate},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    id.CA,
		VerifyConnection: func(s tls.ConnectionState) error {
			_, _, err := identity.Name(s.PeerCertificates[0])
			return err
		},
	}
}

// dialTLS demands the certificate of one host, of any node where want is empty. Names of hosts are no DNS names,
// so the chain is verified here and not by crypto/tls.
func dialTLS(id identity.Identity, want partition.HostID) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		NextProtos:         []string{alpn},
		Certificates:       []tls.Certificate{id.Certificate},
		InsecureSkipVerify: true, // VerifyConnection does it
		VerifyConnection: func(s tls.ConnectionState) error {
			return verify(s, id.CA, want)
		},
	}
}

func verify(s tls.ConnectionState, ca *x509.CertPool, want partition.HostID) error {
	if len(s.PeerCertificates) == 0 {
		return errors.New("no certificate")
	}
	leaf := s.PeerCertificates[0]
	between := x509.NewCertPool()
	for _, c := range s.PeerCertificates[1:] {
		between.AddCert(c)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: ca, Intermediates: between,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err != nil {
		return err
	}
	name, role, err := identity.Name(leaf)
	if err != nil {
		return err
	}
	if want == "" && role != transport.Node {
		return fmt.Errorf("%s is a %s, not a node; correct the address", name, role)
	}
	if want != "" && name != want {
		return fmt.Errorf("%s answered where %s was expected; correct the address", name, want)
	}
	return nil
}

// resetKey is the same after a restart, so that peers hear at once that their
// connection is gone. nil when the key is of another type.
func resetKey(id identity.Identity) *quicgo.StatelessResetKey {
	key, ok := id.Certificate.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return nil
	}
	secret, err := key.Bytes()
	if err != nil {
		return nil
	}
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte("cleave stateless reset"))
	out := quicgo.StatelessResetKey(mac.Sum(nil))
	return &out
}
