package gossip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/hashicorp/memberlist"

	"github.com/cleaveml/cleave/partition"
)

// memberlist's kinds of message, by their first byte (its net.go).
const (
	msgPing byte = iota
	msgIndirectPing
	msgAck
	msgSuspect
	msgAlive
	msgDead
	msgPushPull
	msgCompound
	msgUser
	msgCompress
	msgEncrypt
	msgNack
	msgChecksum
	msgError
)

const (
	maxPacket  = 4 << 10          // bytes
	maxMessage = 1<<20 - 64<<10   // bytes of a state exchange; a frame's header holds 1 MiB
	maxMembers = maxMessage / 100 // a state takes more than 100 bytes
)

// Of its messages, the fields that are checked. Names are memberlist's.
type (
	msgNode struct { // ping, indirect ping
		Node, SourceNode string
	}
	rumour struct { // suspect, dead
		Incarnation uint32
		Node, From  string
	}
	state struct { // alive, part of a state exchange
		Incarnation uint32
		Node, Name  string // one of them
		Addr        []byte
		Port        uint16
		Meta        []byte
		Vsn         []uint8
		State       int
	}
	stateHeader struct {
		Nodes, UserStateLen int
		Join                bool
	}
)

// news is what a message says of members that memberlist does not report.
type news interface {
	alive(id partition.HostID, incarnation uint32)
	left(id partition.HostID, incarnation uint32)
}

// checkPacket refuses what memberlist would not have written as a packet.
func checkPacket(b []byte, n news) error {
	if len(b) > maxPacket {
		return fmt.Errorf("packet of %d bytes exceeds the limit of %d", len(b), maxPacket)
	}
	if len(b) > 5 && b[0] == msgChecksum {
		b = b[5:]
	}
	return guarded(func() error {
		if len(b) == 0 || b[0] != msgCompound {
			return checkMessage(b, n)
		}
		return checkCompound(b[1:], n)
	})
}

// checkStream does so with what memberlist writes on a stream in one piece.
func checkStream(b []byte, n news) error {
	if len(b) > maxMessage {
		return fmt.Errorf("message of %d bytes exceeds the limit of %d", len(b), maxMessage)
	}
	return guarded(func() error {
		switch {
		case len(b) > 0 && b[0] == msgPushPull:
			return checkStates(b[1:], n)
		case len(b) > 0 && (b[0] == msgPing || b[0] == msgAck):
			return checkMessage(b, n)
		case len(b) > 0 && b[0] == msgError:
			var e struct{ Error string }
			return decode(b[1:], &e)
		default:
			return fmt.Errorf("no stream message: %.8x", b)
		}
	})
}

// guarded makes an error of a panic in a decoder.
func guarded(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("malformed message: %v", p)
		}
	}()
	return f()
}

func decode(b []byte, into any) error {
	d := codec.NewDecoderBytes(b, &codec.MsgpackHandle{})
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("malformed message: %w", err)
	}
	return nil
}

func checkCompound(b []byte, n news) error {
	if len(b) == 0 || len(b) < 1+2*int(b[0]) {
		return errors.New("truncated compound message")
	}
	parts := int(b[0])
	sizes, rest := b[1:1+2*parts], b[1+2*parts:]
	for ; len(sizes) > 0; sizes = sizes[2:] {
		size := int(binary.BigEndian.Uint16(sizes))
		if size > len(rest) {
			return errors.New("truncated compound message")
		}
		if err := checkMessage(rest[:size], n); err != nil {
			return err
		}
		rest = rest[size:]
	}
	return nil
}

func checkMessage(b []byte, n news) error {
	if len(b) == 0 {
		return errors.New("empty message")
	}
	kind, b := b[0], b[1:]
	switch kind {
	case msgPing, msgIndirectPing:
		var m msgNode
		if err := decode(b, &m); err != nil {
			return err
		}
		return checkNames(m.Node, m.SourceNode)
	case msgAck, msgNack:
		var m struct{ SeqNo uint32 }
		return decode(b, &m)
	case msgSuspect, msgDead:
		var m rumour
		if err := decode(b, &m); err != nil {
			return err
		}
		if kind == msgDead && m.Node == m.From {
			n.left(partition.HostID(m.Node), m.Incarnation)
		}
		return checkNames(m.Node, m.From)
	case msgAlive:
		var m state
		if err := decode(b, &m); err != nil {
			return err
		}
		return m.check(m.Node, n)
	default:
		return fmt.Errorf("no packet message: %d", kind)
	}
}

func checkStates(b []byte, n news) error {
	d := codec.NewDecoderBytes(b, &codec.MsgpackHandle{})
	var h stateHeader
	if err := d.Decode(&h); err != nil {
		return fmt.Errorf("malformed state: %w", err)
	}
	if h.Nodes < 0 || h.Nodes > maxMembers || h.UserStateLen != 0 {
		return fmt.Errorf("state of %d members and %d bytes exceeds the limit of %d and 0", h.Nodes, h.UserStateLen, maxMembers)
	}
	for range h.Nodes {
		var s state
		if err := d.Decode(&s); err != nil {
			return fmt.Errorf("malformed state: %w", err)
		}
		if s.State < int(memberlist.StateAlive) || s.State > int(memberlist.StateLeft) {
			return fmt.Errorf("state %d of a member", s.State)
		}
		if err := s.check(s.Name, n); err != nil {
			return err
		}
	}
	return nil
}

// check also tells the news: by then the message is known to be taken.
func (s state) check(name string, n news) error {
	if err := checkNames(name); err != nil {
		return err
	}
	if len(s.Vsn) != 6 || s.Port != nowherePort || !nowhere.Equal(s.Addr) {
		return fmt.Errorf("member %s with address %v:%d and versions %v", name, s.Addr, s.Port, s.Vsn)
	}
	if _, err := decodeFacts(s.Meta); err != nil {
		return fmt.Errorf("member %s: %w", name, err)
	}
	if memberlist.NodeStateType(s.State) == memberlist.StateLeft {
		n.left(partition.HostID(name), s.Incarnation)
	} else {
		n.alive(partition.HostID(name), s.Incarnation)
	}
	return nil
}

// checkNames wants what a certificate may hold.
func checkNames(names ...string) error {
	for _, n := range names {
		if n == "" || len(n) > 63 || strings.ContainsFunc(n, func(r rune) bool {
			return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_", r)
		}) {
			return fmt.Errorf("%.80q is no host's name", n)
		}
	}
	return nil
}
