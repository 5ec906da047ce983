package gossip

import (
	"crypto/sha256"
	"encoding/hex"
	"reflect"
	"strings"
	"testing"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
)

func digest(i int) models.Digest {
	sum := sha256.Sum256([]byte{byte(i), byte(i >> 8)})
	return models.Digest(hex.EncodeToString(sum[:]))
}

func TestFacts(t *testing.T) {
	f := Facts{Tier: partition.Edge, Address: "[2001:db8::1]:7946", Build: "v1.2.3 linux/arm64", Load: 1.25, Slots: 4, Profiles: 1<<32 - 1}
	for i := range 100 {
		f.Models = append(f.Models, digest(i))
	}
	b, err := f.encode()
	if err != nil || len(b) > MaxFacts {
		t.Fatalf("%d bytes, %v", len(b), err)
	}
	got, err := decodeFacts(b)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d models in %d bytes", len(got.Models), len(b))
	if len(got.Models) < 38 {
		t.Errorf("only %d models fit", len(got.Models))
	}
	for i, d := range got.Models {
		if d != models.Digest(f.Models[i].Short()) {
			t.Errorf("model %d is %s, not %s", i, d, f.Models[i])
		}
	}
	got.Models, f.Models = nil, nil
	if !reflect.DeepEqual(got, f) {
		t.Errorf("%+v came back as %+v", f, got)
	}
}

func TestBadFacts(t *testing.T) {
	long := strings.Repeat("x", 600)
	for _, f := range []Facts{{Address: long + ":1"}, {Address: "nowhere"}, {Build: long}, {Build: "a\nb"}, {Tier: "moon"}, {Load: -1},
		{Slots: -1}, {Models: []models.Digest{"not hex"}}} {
		if _, err := f.encode(); transport.KindOf(err) != transport.BadConfig {
			t.Errorf("%+v: %v", f, err)
		}
	}
	// Legal one by one, and too large when quoted.
	f := Facts{Address: strings.Repeat("<", 250) + ":1"}
	if _, err := f.encode(); err == nil || !strings.Contains(err.Error(), "limit of 512") {
		t.Errorf("got %v", err)
	}
}

func FuzzFacts(f *testing.F) {
	b, err := Facts{Tier: partition.Cloud, Address: "h:1", Load: 0.5, Models: []models.Digest{digest(1)}}.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"m":"AAAA"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		facts, err := decodeFacts(b)
		if err != nil {
			return
		}
		again, err := facts.encode()
		if err != nil {
			return // foreign JSON may be shorter than ours
		}
		if _, err := decodeFacts(again); err != nil {
			t.Errorf("%q: %v", again, err)
		}
	})
}
