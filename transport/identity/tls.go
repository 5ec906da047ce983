package identity

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
)

// ALPN is the name of the protocol in the handshake of TLS.
const ALPN = "cleave"

// ListenTLS demands a certificate of the cluster from whoever connects.
func (id Identity) ListenTLS() *tls.Config {
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		NextProtos:   []string{ALPN},
		Certificates: []tls.Certificate{id.Certificate},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    id.CA,
		VerifyConnection: func(s tls.ConnectionState) error {
			_, _, err := Name(s.PeerCertificates[0])
			return err
		},
	}
}

// DialTLS demands the certificate of one host, of any node where want is empty.
// Names of hosts are no DNS names, so the chain is verified here and not by
// crypto/tls.
func (id Identity) DialTLS(want partition.HostID) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		NextProtos:         []string{ALPN},
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
	name, role, err := Name(leaf)
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
