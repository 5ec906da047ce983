package partition

import (
	"math"
	"time"
)

// weathers is the number of combinations of rates by which plans are weighed.
const weathers = 512

// choose returns the indices of at most so many members: those that are forced,
// up to a third that are thrifty, then the most useful one after the other.
func (f *front) choose(rates []BitsPerSecond, most int) []int {
	regret := f.regrets(rates)
	chosen := make([]int, 0, most)
	taken := make([]bool, len(f.members))
	var sofar []float64 // by weather, of the best that is chosen
	take := func(i int) {
		chosen, taken[i] = append(chosen, i), true
		if sofar == nil {
			sofar = make([]float64, len(regret[i]))
			for w := range sofar {
				sofar[w] = math.Inf(1)
			}
		}
		for w, r := range regret[i] {
			sofar[w] = min(sofar[w], r)
		}
	}
	for i := range min(f.forced, most) {
		take(i)
	}
	for _, i := range f.thrifty(regret, most/3) {
		if !taken[i] && len(chosen) < most {
			take(i)
		}
	}
	for len(chosen) < min(most, len(f.members)) {
		best, least := -1, math.Inf(1)
		for i := range f.members {
			if taken[i] {
				continue
			}
			sum := 0.0
			for w, r := range regret[i] {
				if sofar != nil {
					r = min(r, sofar[w])
				}
				sum += min(r, hopeless)
			}
			if best < 0 || sum < least {
				best, least = i, sum
			}
		}
		take(best)
	}
	return chosen
}

// hopeless is the regret of having no plan at all, in natural logarithms.
const hopeless = 10

// regrets returns for every member and weather the logarithm of what it takes
// over what the best member takes. The weathers of the policy under which raw
// values stay, if any, come after the others; a plan that breaks it is out of
// the question there.
func (f *front) regrets(rates []BitsPerSecond) [][]float64 {
	worlds := 1
	if f.pinned != nil {
		worlds = 2
	}
	regret := make([][]float64, len(f.members))
	for i := range regret {
		regret[i] = make([]float64, weathers*worlds)
	}
	hosts := len(f.p.Hosts)
	perByte := make([]float64, hosts*hosts) // ns
	for w := range weathers {
		f.weather(w, rates, perByte)
		for world := range worlds {
			at := world*weathers + w
			least := math.Inf(1)
			for i := range f.members {
				m := &f.members[i]
				t := float64(max(1, m.work+m.fixed))
				for l, b := range m.bytes {
					if b > 0 {
						t += float64(b) * perByte[l]
					}
				}
				for k := range m.flows {
					t -= m.flows[k].hidden(perByte[m.flows[k].link])
				}
				if world == 1 && m.breaks {
					t = math.Inf(1)
				}
				regret[i][at] = math.Log(t)
				least = min(least, regret[i][at])
			}
			for i := range regret {
				regret[i][at] -= least
			}
		}
	}
	return regret
}

// weather fills in one of the combinations of rates, both directions alike. They
// follow the additive recurrence of Roberts, "The Unreasonable Effectiveness of
// Quasirandom Sequences" (2018), which spreads points evenly in any number of
// dimensions, here the links.
func (f *front) weather(w int, rates []BitsPerSecond, perByte []float64) {
	hosts := len(f.p.Hosts)
	links := float64(hosts * (hosts - 1) / 2)
	phi := 2.0 // the root of x^(links+1) = x+1
	for range 40 {
		phi = math.Pow(1+phi, 1/(links+1))
	}
	lo, hi := math.Log(float64(rates[0])), math.Log(float64(rates[len(rates)-1]))
	step := 1.0
	for a := range hosts {
		for b := a + 1; b < hosts; b++ {
			step /= phi
			_, at := math.Modf(0.5 + float64(w+1)*step)
			t := 8 * float64(time.Second) / math.Exp(lo+at*(hi-lo))
			perByte[a*hosts+b], perByte[b*hosts+a] = t, t
		}
	}
}
