package scheduler

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

const ms = time.Millisecond

// TestReserve: the others get what the rest leaves, or all where that is too
// little for them.
func TestReserve(t *testing.T) {
	for _, test := range []struct{ rest, left, others, want time.Duration }{
		{600 * ms, 1000 * ms, 20 * ms, 760 * ms}, // more than half of the time
		{600 * ms, 1000 * ms, 300 * ms, 100 * ms},
		{600 * ms, 1000 * ms, 0, 760 * ms},
		{700 * ms, 1000 * ms, 0, 100 * ms},
		{3 * time.Second, 1000 * ms, 20 * ms, 100 * ms}, // it could not be finished anyway
		{0, 10 * time.Second, 0, 100 * ms},
		{10 * ms, 100 * ms, 0, 21 * ms},
	} {
		if got := Reserve(test.rest, test.left, test.others); got != test.want {
			t.Errorf("Reserve(%v, %v, %v) is %v, want %v", test.rest, test.left, test.others, got, test.want)
		}
	}
}

// TestHangingHosts: whichever hosts hang, what fits into the deadline and was
// not bet on the next host still fits when they are given up, and nobody is
// waited for beyond the deadline.
func TestHangingHosts(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		span := func(name string) time.Duration {
			return time.Duration(rapid.IntRange(0, 5000).Draw(r, name)) * ms
		}
		rest, deadline, others := span("rest"), span("deadline")+ms, span("others")
		keep := Reserve(rest, deadline, others)
		if keep < 0 || keep > deadline {
			r.Fatalf("of %v are kept %v", deadline, keep)
		}
		left := keep // the next host hangs
		if rapid.Bool().Draw(r, "fails early") {
			left = deadline
		}
		if left < deadline && keep < rest {
			return // it was bet on the next host
		}
		within := Retry(rest, left, others) // it hangs too
		if within < 0 || within > left {
			r.Fatalf("tried for %v of %v", within, left)
		}
		if Fits(rest, left) && !Fits(rest, left-within) {
			r.Fatalf("%v is left of %v for the %v that would have fitted", left-within, left, rest)
		}
	})
}
