package nodes

import (
	"encoding/json"
	"errors"
	"strconv"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/transport"
)

// serveManifest sends the manifest of a model that is here, all or part.
func (a *Agent) serveManifest(f *transport.Frame) (*transport.Frame, error) {
	var r manifestRequest
	if err := json.Unmarshal(f.Header.Control, &r); err != nil {
		return nil, &Error{Op: "send manifest", Node: a.cfg.ID, Kind: Invalid, Err: errors.New("unreadable request")}
	}
	g, err := a.graph(r.Model)
	if err != nil {
		return nil, err
	}
	m, err := g.Manifest()
	if err != nil {
		return nil, a.failed("send manifest", err)
	}
	reply := transport.NewFrame(transport.KindReply)
	return reply, reply.Add("manifest", transport.Zstd, tensor.FromBytes(m.Bytes()))
}

// serveBlocks sends blocks of a model that are here, as many as one reply holds.
func (a *Agent) serveBlocks(f *transport.Frame) (*transport.Frame, error) {
	var r blocksRequest
	if err := json.Unmarshal(f.Header.Control, &r); err != nil {
		return nil, &Error{Op: "send blocks", Node: a.cfg.ID, Kind: Invalid, Err: errors.New("unreadable request")}
	}
	for _, why := range r.Refused {
		a.log.Warn("a peer refused a block of this host; check its disk", "peer", r.By, "model", r.Model.Short(), "err", why)
	}
	g, err := a.graph(r.Model)
	if err != nil {
		return nil, err
	}
	reply := transport.NewFrame(transport.KindReply)
	for _, ref := range r.Blocks {
		data, err := g.ReadBlock(ref)
		if err != nil && KindOf(err) == NotFound {
			continue // another peer may have it
		}
		if err != nil {
			return nil, a.failed("send blocks", err)
		}
		if reply.Len() > 0 && reply.Payload()+tensor.Bytes(len(data)) > blocksPerReply {
			break
		}
		if err := reply.Add(strconv.Itoa(int(ref)), transport.Raw, tensor.FromBytes(data)); err != nil {
			return nil, a.failed("send blocks", err)
		}
	}
	return reply, nil
}
