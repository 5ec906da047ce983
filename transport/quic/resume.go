package quic

import (
	"context"
	"crypto/tls"
	"errors"

	quicgo "github.com/quic-go/quic-go"

	"github.com/cleaveml/cleave/transport/endpoint"
)

// ticketsKept is how many hosts can be dialled again without a whole handshake.
const ticketsKept = 256

// keyed is a cache of TLS sessions whose entries belong to a host at an address.
// crypto/tls would take those of two hosts at one IP address for each other's.
type keyed struct {
	tls.ClientSessionCache
	key string
}

// Get implements tls.ClientSessionCache.
func (k keyed) Get(string) (*tls.ClientSessionState, bool) { return k.ClientSessionCache.Get(k.key) }

// Put implements tls.ClientSessionCache.
func (k keyed) Put(_ string, s *tls.ClientSessionState) { k.ClientSessionCache.Put(k.key, s) }

// Proven implements endpoint.Early.
func (s session) Proven(ctx context.Context) error {
	select {
	case <-s.qc.HandshakeComplete(): // first, though ctx is done
		return nil
	default:
	}
	select {
	case <-s.qc.HandshakeComplete():
		return nil
	case <-s.qc.Context().Done():
		return context.Cause(s.qc.Context())
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Again implements endpoint.Early.
func (s session) Again(ctx context.Context, err error) (endpoint.Session, error) {
	if !errors.Is(err, quicgo.Err0RTTRejected) {
		return nil, err
	}
	qc, err := s.qc.NextConnection(ctx)
	if err != nil {
		return nil, err
	}
	return session{qc, s.repair}, nil
}
