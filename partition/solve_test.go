package partition

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestSolveEqualsBruteForce is the contract of the solver.
func TestSolveEqualsBruteForce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := smallProblem(t)
		if err := Validate(p); err != nil {
			t.Fatal(err)
		}
		want, wantErr := BruteForce(p)
		got, err := Solve(p)
		if KindOf(err) != KindOf(wantErr) {
			t.Fatalf("solve: %v, brute force: %v", err, wantErr)
		}
		if got.Total != want.Total {
			t.Fatalf("solve    %v %v\nbrute    %v %v", got, got.Total, want, want.Total)
		}
		if len(got.Path) > len(want.Path) {
			t.Fatalf("solve takes %v where %v is as fast", got, want)
		}
	})
}

// TestPartsSumToTotal holds for every strategy and every plan of a short list.
func TestPartsSumToTotal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := smallProblem(t)
		plans := Shortlist(p, 50)
		for _, s := range Strategies() {
			if plan, err := s.Strategy(p); err == nil {
				if plan.Strategy != s.Name {
					t.Fatalf("%s calls itself %s", s.Name, plan.Strategy)
				}
				plans = append(plans, plan)
			}
		}
		for _, plan := range plans {
			sum := plan.Compute()
			for i := range plan.Hops {
				sum += plan.Hops[i].Total() + plan.Back[i].Total()
			}
			path := pathOf(p, plan)
			if sum != plan.Total || newPricer(&p).total(path, plan.Assign) != plan.Total {
				t.Fatalf("%v: parts %v, total %v", plan, sum, plan.Total)
			}
			again, err := Evaluate(p, path, plan.Assign)
			if err != nil || !again.Equal(plan) || again.Total != plan.Total {
				t.Fatalf("%v evaluates to %v, %v", plan, again, err)
			}
		}
	})
}

func pathOf(p Problem, plan Plan) []int {
	var path []int
	for _, id := range plan.Path {
		path = append(path, slices.IndexFunc(p.Hosts, func(h Host) bool { return h.ID == id }))
	}
	return path
}

// TestBetterWorldIsNoWorse: a faster link, a faster host or one more host never
// makes the optimum worse.
func TestBetterWorldIsNoWorse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := smallProblem(t)
		before, err := Solve(p)
		if err != nil {
			return
		}
		q := clone(p)
		host := rapid.IntRange(0, len(p.Hosts)-1).Draw(t, "host")
		switch rapid.IntRange(0, 2).Draw(t, "change") {
		case 0:
			other := rapid.IntRange(0, len(p.Hosts)-1).Draw(t, "other")
			q.Links[host][other].Rate = 2*q.Links[host][other].Rate + 1e9
		case 1:
			for op := range q.Ops {
				q.Ops[op].Cost[host] /= 2
			}
		case 2:
			q = unlinked(q, host)
			if before, err = Solve(q); err != nil {
				return
			}
			q = p
		}
		after, err := Solve(q)
		if err != nil || after.Total > before.Total {
			t.Fatalf("%v was %v, becomes %v: %v, %v", before, before.Total, after, after.Total, err)
		}
	})
}

// unlinked is p as if the host were not there.
func unlinked(p Problem, host int) Problem {
	q := clone(p)
	for i := range q.Links {
		q.Links[i][host], q.Links[host][i] = Link{}, Link{}
	}
	return q
}

// TestFlowAgainstAugmentingPaths checks the network alone: the cut that it
// names has the capacity of a naive maximum flow, and no larger source's
// side does as well.
func TestFlowAgainstAugmentingPaths(t *testing.T) {
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 1))
		nodes := 1 + r.IntN(9)
		if seed%20 == 0 {
			nodes = 40
		}
		var n network
		n.reset(nodes)
		dense := make([][]int64, nodes+2)
		for i := range dense {
			dense[i] = make([]int64, nodes+2)
		}
		source, sink := nodes, nodes+1
		for v := range nodes {
			n.spare[v] = r.Int64N(21) - 10
			dense[source][v], dense[v][sink] = max(0, n.spare[v]), max(0, -n.spare[v])
			n.fixed[v] = []terminal{free, free, free, free, atSource, atSink}[r.IntN(6)]
			if n.fixed[v] == atSource {
				dense[source][v] = forever
			} else if n.fixed[v] == atSink {
				dense[v][sink] = forever
			}
		}
		for range r.IntN(3 * nodes) {
			u, v, c, d := r.IntN(nodes), r.IntN(nodes), r.Int64N(9), r.Int64N(3)
			if u == v {
				continue
			}
			n.connect(u, v, c, d)
			dense[u][v] += c
			dense[v][u] += d
		}
		side := append(n.cut(), true, false)
		var capacity int64
		for u := range side {
			for v := range side {
				if side[u] && !side[v] {
					capacity += dense[u][v]
				}
			}
		}
		flow, stranded := naiveFlow(dense, source, sink)
		if flow != capacity || !slices.Equal(stranded, side) {
			t.Fatalf("seed %d: cut %d %v, flow %d %v", seed, capacity, side, flow, stranded)
		}
	}
}

// naiveFlow is Ford and Fulkerson's (1956) on a matrix; it also returns
// what cannot reach the sink in the end.
func naiveFlow(room [][]int64, source, sink int) (int64, []bool) {
	var seen []bool
	var search func(v int, flow int64) int64
	search = func(v int, flow int64) int64 {
		if v == sink {
			return flow
		}
		seen[v] = true
		for u := range room {
			if !seen[u] && room[v][u] > 0 {
				if f := search(u, min(flow, room[v][u])); f > 0 {
					room[v][u] -= f
					room[u][v] += f
					return f
				}
			}
		}
		return 0
	}
	total := int64(0)
	for f := int64(-1); f != 0; total += max(f, 0) {
		seen = make([]bool, len(room))
		f = search(source, forever)
	}
	stranded := make([]bool, len(room))
	for v := range room {
		stranded[v] = v != sink
	}
	for range room {
		for v := range room {
			for u := range room {
				stranded[v] = stranded[v] && (room[v][u] == 0 || stranded[u])
			}
		}
	}
	return total, stranded
}

// TestTimedReplacesSums: a measured segment counts exactly where a plan runs
// that set of ops on that host.
func TestTimedReplacesSums(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := smallProblem(t)
		list := Shortlist(p, 20)
		if len(list) == 0 {
			return
		}
		plan := list[rapid.IntRange(0, len(list)-1).Draw(t, "plan")]
		stage := plan.Stages[rapid.IntRange(0, len(plan.Stages)-1).Draw(t, "stage")]
		measured := time.Duration(rapid.IntRange(0, 100).Draw(t, "measured"))
		p.Timed = map[Segment]time.Duration{{stage.Host, SetKey(stage.Ops)}: measured}
		got, err := Evaluate(p, pathOf(p, plan), plan.Assign)
		if err != nil || got.Total != plan.Total-stage.Compute+measured {
			t.Fatalf("%v with %v for %v: %v, %v", plan, measured, stage, got, err)
		}
		for _, q := range Shortlist(p, 1000) {
			again, err := Evaluate(p, pathOf(p, q), q.Assign)
			if err != nil || again.Total != q.Total {
				t.Fatalf("listed %v, evaluated %v, %v", q, again, err)
			}
		}
	})
}
