package nodes

import (
	"math"
	"testing"
	"time"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/transport"
)

// TestDriftIsDue: what it takes to correct a profile, and what is not enough.
func TestDriftIsDue(t *testing.T) {
	type stretch struct {
		ratio float64
		runs  int
		every time.Duration
	}
	for name, c := range map[string]struct {
		of   []stretch
		want []float64
	}{
		"as profiled":            {[]stretch{{1, 500, 100 * time.Millisecond}}, nil},
		"heat":                   {[]stretch{{1, 50, 100 * time.Millisecond}, {1.5, 200, 100 * time.Millisecond}}, []float64{1.5}},
		"faster":                 {[]stretch{{0.5, 110, 100 * time.Millisecond}}, []float64{0.5}},
		"many in a short time":   {[]stretch{{3, 900, 10 * time.Millisecond}, {1, 500, 10 * time.Millisecond}}, nil},
		"few in a long time":     {[]stretch{{3, 25, 20 * time.Second}, {1, 40, time.Second}}, nil},
		"with pauses":            {[]stretch{{3, 20, time.Second}, {3, 1, 2 * time.Minute}, {3, 20, time.Second}}, nil},
		"every third run":        {[]stretch{{1, 1, time.Second}, {1, 1, time.Second}, {9, 1, time.Second}, {1, 1, time.Second}, {1, 1, time.Second}, {9, 1, time.Second}}, nil},
		"to one side then other": {[]stretch{{1.5, 40, 200 * time.Millisecond}, {0.5, 45, 200 * time.Millisecond}}, nil},
		"just below":             {[]stretch{{1.19, 500, time.Second}}, nil},
	} {
		d, err := Drift{}.withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		var got []float64
		now, scale := time.Unix(1e9, 0), 1.0 // a corrected profile is what later runs are compared with
		l := &live{}
		for _, s := range c.of {
			for range s.runs {
				now = now.Add(s.every)
				if f, due := l.add(now, s.ratio/scale, d); due {
					got = append(got, f)
					scale *= f
				}
			}
		}
		if len(got) != len(c.want) || len(got) > 0 && math.Abs(got[0]-c.want[0]) > 1e-9 {
			t.Errorf("%s: corrected by %v, want %v", name, got, c.want)
		}
	}
	for _, d := range []Drift{{Share: -1}, {Share: math.NaN()}, {Runs: -1}, {For: -1}} {
		if _, err := d.withDefaults(); err == nil {
			t.Errorf("%+v is accepted", d)
		}
	}
}

// TestReferencesAreOfTheProfilesTime: a session that is timed on a hot host is
// compared with what it would have taken when the profile was.
func TestReferencesAreOfTheProfilesTime(t *testing.T) {
	o := &ownProfiles{}
	o.keep("one", Profile{Model: "m", Whole: 100, Timed: map[string]time.Duration{"0-9": 100}})
	o.timed("m", []string{"0-9", "3-9"}, []time.Duration{150, 60})
	p, _ := o.named("one")
	if d, ok := o.expected(p, "3-9"); !ok || d != 40 {
		t.Errorf("expected %v, %v", d, ok)
	}
	if _, ok := o.expected(p, "0-3"); ok {
		t.Error("a session that nobody timed has a reference")
	}
}

// TestSizesAreOfTheTrueWeights: how a value compresses comes from a host that
// computed it with the model's weights.
func TestSizesAreOfTheTrueWeights(t *testing.T) {
	profile := func(standIn bool, zstd tensor.Bytes) Profile {
		return Profile{StandIn: standIn, Values: map[models.ValueID][]Encoding{3: {
			{Codec: transport.Raw, Bytes: 1000}, {Codec: transport.Zstd, Bytes: zstd, Encode: time.Duration(zstd), Decode: 1}}}}
	}
	for _, c := range []struct {
		profiles []Profile
		want     tensor.Bytes
	}{
		{[]Profile{profile(false, 300), profile(true, 900)}, 300},
		{[]Profile{profile(true, 900), profile(false, 300)}, 300},
		{[]Profile{profile(true, 900), profile(true, 800)}, 0},
	} {
		out := encodingsOf(3, tensor.Float32, tensor.Shape{250}, 1000, c.profiles, allowed(nil))
		if out[0].Bytes != 1000 || len(out) == 2 != (c.want > 0) || c.want > 0 && (out[1].Bytes != c.want || out[1].Encode[1] != time.Duration(c.profiles[1].Values[3][1].Bytes)) {
			t.Errorf("%v", out)
		}
	}
}
