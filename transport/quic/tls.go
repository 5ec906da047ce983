package quic

import (
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"

	quicgo "github.com/quic-go/quic-go"

	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport/identity"
)

// listenTLS demands a certificate of the cluster from whoever connects.
func listenTLS(id identity.Identity) *tls.Config { return id.ListenTLS() }

// dialTLS demands the certificate of one host, of any node where want is empty.
func dialTLS(id identity.Identity, want partition.HostID) *tls.Config { return id.DialTLS(want) }

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
