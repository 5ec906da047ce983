package tls

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/endpoint"
)

// sessions are both ends of one, without TLS, in virtual time.
func sessions(rate partition.BitsPerSecond, rtt time.Duration) (a, b *session) {
	here, there := connection(rate, rtt)
	la, lb := newLine(here), newLine(there)
	return newSession(la, la, settings{client: true, idle: 3 * time.Second, streams: 8}),
		newSession(lb, lb, settings{idle: 3 * time.Second, streams: 8})
}

func number(k kind, stream, n uint64) []byte { return appendNumber(nil, k, stream, n) }

func piece(stream uint64, fin bool, n int) []byte {
	return append(header{kind: kindData, fin: fin, length: n, stream: stream}.append(nil), make([]byte, n)...)
}

func flags(b []byte, flags byte) []byte {
	b[1] = flags
	return b
}

// beyond is one byte more than a stream may be ahead.
func beyond() []byte {
	var b []byte
	for sent := 0; sent <= streamWindow; sent += 16 << 10 {
		b = append(b, piece(1, false, pieceSize)...)
		b = append(b, piece(1, false, headerSize)...)
	}
	return b
}

// many opens one stream more than the eight that may be open.
func many() []byte {
	var b []byte
	for i := range uint64(9) {
		b = append(b, piece(2*i+1, false, 1)...)
	}
	return b
}

// TestViolations: whoever sends what the protocol does not allow loses the
// connection, and both ends know why.
func TestViolations(t *testing.T) {
	for name, said := range map[string][]byte{
		"unknown type":            number(77, 0, 0),
		"unknown flags":           flags(piece(1, false, 1), 2),
		"an end of no stream":     flags(number(kindPing, 0, 0), 1),
		"oversize":                header{kind: kindData, length: pieceSize + 1, stream: 1}.append(nil),
		"oversize control":        header{kind: kindReset, length: 9, stream: 1}.append(nil),
		"oversize datagram":       header{kind: kindDatagram, length: 1500}.append(nil),
		"data of no stream":       piece(0, false, 1),
		"datagram of a stream":    header{kind: kindDatagram, length: 1, stream: 1}.append(nil),
		"a stream out of turn":    piece(3, false, 1),
		"a stream of this host":   piece(2, false, 1),
		"a reset of nothing":      number(kindReset, 1, 0),
		"a reset after the end":   append(piece(1, true, 1), number(kindReset, 1, 0)...),
		"data after the end":      append(piece(1, true, 1), piece(1, false, 1)...),
		"an answer to no ping":    number(kindPong, 0, 1),
		"credit beyond numbers":   number(kindCredit, 0, 1<<63),
		"credit for no stream":    number(kindCredit, 9, 1),
		"streams beyond numbers":  number(kindStreams, 0, 1<<63),
		"settings again":          appendSettings(nil, 0, 1),
		"too much for the window": beyond(),
		"too many streams":        many(),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				violates(t, append(appendSettings(nil, 0, 8), said...), kindClose, transport.Protocol)
			})
		})
	}
	t.Run("no settings", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { violates(t, piece(1, false, 1), kindClose, transport.Protocol) })
	})
	t.Run("truncated", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			violates(t, append(appendSettings(nil, 0, 8), piece(1, false, 100)[:50]...), kindSettings, transport.Broken)
		})
	})
}

// violates says something to a session and wants it to end so, its last frame
// being of this kind.
func violates(t *testing.T, said []byte, last kind, want transport.Kind) {
	here, there := connection(0, time.Millisecond)
	l := newLine(there)
	s := newSession(l, l, settings{idle: 3 * time.Second, streams: 8})
	heard := make(chan []byte)
	go func() {
		b, _ := io.ReadAll(here)
		heard <- b
	}()
	if _, err := here.Write(said); err != nil && !errors.Is(err, io.ErrClosedPipe) {
		t.Error(err)
	}
	if want == transport.Broken {
		_ = here.CloseWrite()
	}
	b := <-heard
	_ = here.Close()
	s.wait()
	if err := context.Cause(s.Context()); kindOf(err) != want {
		t.Errorf("ended with %v", err)
	}
	if kinds := kindsIn(t, b); len(kinds) == 0 || kinds[len(kinds)-1] != last {
		t.Errorf("the peer hears frames of types %d", kinds)
	}
}

func kindsIn(t *testing.T, b []byte) (kinds []kind) {
	for len(b) >= headerSize {
		h, err := parseHeader((*[headerSize]byte)(b))
		if err != nil {
			t.Fatal(err)
		}
		kinds = append(kinds, h.kind)
		b = b[headerSize+h.length:]
	}
	return kinds
}

// TestClose: the code and the reason of a close reach the peer, past what is on
// its way, and everything ends.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := sessions(20*partition.Mbps, 20*time.Millisecond)
		st, err := a.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		wrote := make(chan error)
		go func() {
			_, err := st.Write(make([]byte, 8<<20))
			wrote <- err
		}()
		<-time.After(100 * time.Millisecond)
		long := strings.Repeat("x", 2*reasonSize)
		b.Close(5, long)
		b.Close(6, "again")
		var closed *endpoint.CloseError
		if err := <-wrote; !errors.As(err, &closed) || closed.Code != 5 || closed.Reason != long[:reasonSize] {
			t.Errorf("the writer hears %v", err)
		}
		for _, s := range []*session{a, b} {
			if _, err := s.Open(t.Context()); err == nil {
				t.Error("a stream of a closed session")
			}
			if _, err := s.ReceiveDatagram(t.Context()); err == nil {
				t.Error("a datagram of a closed session")
			}
			s.wait()
		}
	})
}

// TestCodes: who cancels a direction tells the other end which way and why.
func TestCodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := sessions(0, 10*time.Millisecond)
		for _, c := range []struct {
			name   string
			cancel func(endpoint.Stream)
			look   func(endpoint.Stream) error
		}{
			{"write", func(s endpoint.Stream) { s.CancelWrite(3) }, func(s endpoint.Stream) error { _, err := io.ReadAll(s); return err }},
			{"read", func(s endpoint.Stream) { s.CancelRead(3) }, func(s endpoint.Stream) error {
				<-s.Context().Done()
				_, err := s.Write([]byte("x"))
				if cause := context.Cause(s.Context()); !errors.Is(cause, err) {
					return cause
				}
				return err
			}},
		} {
			st, err := a.Open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := st.Write([]byte("first")); err != nil {
				t.Fatal(err)
			}
			c.cancel(st)
			other, err := b.Accept(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var by *endpoint.StreamError
			if err := c.look(other); !errors.As(err, &by) || by.Code != 3 || !by.Remote {
				t.Errorf("%s: %v", c.name, err)
			}
		}
		finish(t, a, b)
	})
}

func finish(t *testing.T, all ...*session) {
	t.Helper()
	for _, s := range all {
		s.Close(0, "over")
	}
	for _, s := range all {
		s.wait()
	}
}

// TestRandom: streams of random lengths, both ways, some cancelled, bring what
// was written and leave nothing behind.
func TestRandom(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { random(t, rand.New(rand.NewPCG(seed, 0))) })
		})
	}
}

func random(t *testing.T, source *rand.Rand) {
	a, b := sessions(500*partition.Mbps, time.Duration(source.IntN(20))*time.Millisecond)
	var serving sync.WaitGroup
	for _, s := range []*session{a, b} {
		serving.Go(func() {
			for {
				st, err := s.Accept(context.Background())
				if err != nil {
					return
				}
				serving.Go(func() { echoBack(st) })
			}
		})
	}
	var asking sync.WaitGroup
	for i := range 200 {
		size, give := source.IntN(1<<uint(source.IntN(20))), source.IntN(5) == 0
		s := []*session{a, b}[i%2]
		asking.Go(func() { ask(t, s, uint64(i), size, give) })
	}
	asking.Wait()
	<-time.After(time.Second) // the last frames arrive
	for _, s := range []*session{a, b} {
		s.mu.Lock()
		if len(s.streams)+len(s.unborn) > 0 || s.read != s.got || s.credit < sessionWindow*3/4-recordSize || len(s.out.turns)+len(s.out.debts) > 0 {
			t.Errorf("left: %d streams, %d unborn, %d of %d bytes read, credit %d", len(s.streams), len(s.unborn), s.read, s.got, s.credit)
		}
		s.mu.Unlock()
	}
	finish(t, a, b)
	serving.Wait()
}

func echoBack(st endpoint.Stream) {
	if _, err := io.Copy(st, st); err != nil {
		st.CancelWrite(transport.CancelUnfinished)
	}
	_ = st.Close() // after a cancel it says so
	st.CancelRead(transport.CancelUnwanted)
}

// ask sends bytes that no other stream has, and wants them back.
func ask(t *testing.T, s *session, i uint64, size int, give bool) {
	st, err := s.Open(t.Context())
	if err != nil {
		t.Error(err)
		return
	}
	defer st.CancelRead(transport.CancelUnwanted)
	defer st.CancelWrite(transport.CancelUnwanted)
	out := bytes.Repeat(binary.BigEndian.AppendUint64(nil, i), size/8)
	if give { // up, in the midst
		defer time.AfterFunc(time.Duration(size)*time.Nanosecond, func() { st.CancelWrite(1); st.CancelRead(1) }).Stop()
	}
	go func() {
		if _, err := st.Write(out); err == nil {
			_ = st.Close() // the reader sees what is missing
		}
	}()
	in, err := io.ReadAll(st)
	switch {
	case give && err != nil:
	case err != nil:
		t.Errorf("stream %d: %v", i, err)
	case !bytes.Equal(in, out) && !give:
		t.Errorf("stream %d: %d bytes came back of %d", i, len(in), len(out))
	}
}
