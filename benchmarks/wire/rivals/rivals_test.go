package rivals

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// TestAdapters: requests of any size are answered, echoed or not, at the same
// time, on a connection and on the one after it; nothing is left.
func TestAdapters(t *testing.T) {
	s, err := Loopback()
	if err != nil {
		t.Fatal(err)
	}
	there, missing := Missing(s, append(append(Ours(), Others()...), QUICOneStream(), Striped(QUIC(), 3)))
	for name, why := range missing {
		if !strings.Contains(name, "bbr") && !strings.Contains(name, "cubic") {
			t.Errorf("%s does not open: %s", name, why)
		}
	}
	for _, a := range there {
		t.Run(a.Name, func(t *testing.T) {
			p, err := a.Open(s)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := p.Close(); err != nil {
					t.Error(err)
				}
			}()
			ctx := testContext(t)
			for range 2 {
				if err := p.Connect(ctx); err != nil {
					t.Fatal(err)
				}
				askAll(ctx, t, p, a.Name != QUICOneStream().Name)
			}
		})
	}
}

func askAll(ctx context.Context, t *testing.T, p Pair, together bool) {
	t.Helper()
	var wg sync.WaitGroup
	for _, n := range []int{0, 1, 5000, joined, joined + 1, 1 << 20} {
		for _, echo := range []bool{false, true} {
			ask := func() {
				if err := p.Ask(ctx, bytes.Repeat([]byte{7}, n), echo); err != nil {
					t.Errorf("%d bytes, echo %v: %v", n, echo, err)
				}
			}
			if together {
				wg.Go(ask)
			} else {
				ask()
			}
		}
	}
	wg.Wait()
}

// TestDatagrams: whole requests are answered, one after the other.
func TestDatagrams(t *testing.T) {
	s, err := Loopback()
	if err != nil {
		t.Fatal(err)
	}
	p, err := Datagrams().Open(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 1, datagramBytes - datagramHead, datagramBytes, 20_000} {
		if err := p.Ask(testContext(t), make([]byte, n), false); err != nil {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

// TestRequestsAreBounded: the server does not make room for whatever is claimed.
func TestRequestsAreBounded(t *testing.T) {
	var r room
	claim := bytes.NewBuffer([]byte{0xff, 0xff, 0xff, 0xff, 0})
	if err := r.answer(claim); err == nil || !strings.Contains(err.Error(), "larger") {
		t.Errorf("4 GiB are claimed: %v", err)
	}
	cut := bytes.NewBuffer([]byte{0, 0, 0, 9, 0, 1, 2})
	if err := r.answer(cut); err == nil {
		t.Error("2 of 9 bytes are a request")
	}
}

// TestACongestionControlThatIsNotThere is missing by name, not replaced.
func TestACongestionControlThatIsNotThere(t *testing.T) {
	s, err := Loopback()
	if err != nil {
		t.Fatal(err)
	}
	there, missing := Missing(s, []Adapter{TCP("nonesuch"), TCP("")})
	if len(there) != 1 || there[0].Name != "tcp+tls" || missing["tcp+tls nonesuch"] == "" {
		t.Errorf("%v, %v", there, missing)
	}
}
