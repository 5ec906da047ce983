package partition

import "math"

// forever is the capacity of an arc that no minimum cut crosses. Finite
// capacities sum to less than never, so that residuals stay within an int64.
const forever = int64(1) << 62

// network is a flow network with implicit terminals, solved by Dinic's
// algorithm (1970). spare[v] > 0 is what the source still offers to v, spare[v]
// < 0 what v may still deliver to the sink. The arcs 2e and 2e+1 are one pair:
// the residual capacities there and back. It reuses its memory after reset.
type network struct {
	spare []int64
	arcs  []arc

	first []int32 // of each node in out; len = nodes+1
	out   []int32 // arc indices by tail
	next  []int32 // current arc of each node, an index into out
	depth []int32 // arcs to the sink's nearest node, unreached if none
	queue []int32
	trail []int32 // arcs of the path under construction
}

type arc struct {
	to   int32
	room int64
}

const unreached = math.MaxInt32

func (n *network) reset(nodes int) {
	n.spare = append(n.spare[:0], make([]int64, nodes)...)
	n.arcs = n.arcs[:0]
}

func (n *network) node() int {
	n.spare = append(n.spare, 0)
	return len(n.spare) - 1
}

// connect adds an arc from u to v and one back; a capacity may be 0.
func (n *network) connect(u, v int, there, back int64) {
	n.arcs = append(n.arcs, arc{int32(v), there}, arc{int32(u), back})
}

// cut returns for each node whether it is on the source's side of a minimum
// cut; of all minimum cuts, the one with the smallest such side. The result is
// valid until the next reset.
func (n *network) cut() []bool {
	n.index()
	for n.measure() {
		for v := range n.spare {
			if n.spare[v] > 0 && n.depth[v] != unreached {
				n.push(int32(v))
			}
		}
	}
	return n.sourceSide()
}

// index sorts the arcs by tail.
func (n *network) index() {
	nodes := len(n.spare)
	n.first = append(n.first[:0], make([]int32, nodes+1)...)
	n.out = append(n.out[:0], make([]int32, len(n.arcs))...)
	n.next = append(n.next[:0], make([]int32, nodes)...)
	n.depth = append(n.depth[:0], make([]int32, nodes)...)
	for a := range n.arcs {
		n.first[n.arcs[a^1].to+1]++
	}
	for v := range nodes {
		n.first[v+1] += n.first[v]
		n.next[v] = n.first[v]
	}
	for a := range n.arcs {
		tail := n.arcs[a^1].to
		n.out[n.next[tail]] = int32(a)
		n.next[tail]++
	}
}

// measure finds every node's distance to the sink in the residual network and
// reports whether any flow can still be sent.
func (n *network) measure() bool {
	n.queue = n.queue[:0]
	for v, s := range n.spare {
		n.next[v] = n.first[v]
		n.depth[v] = unreached
		if s < 0 {
			n.depth[v] = 0
			n.queue = append(n.queue, int32(v))
		}
	}
	found := false
	for head := 0; head < len(n.queue); head++ {
		v := n.queue[head]
		found = found || n.spare[v] > 0
		for _, a := range n.out[n.first[v]:n.first[v+1]] {
			if u := n.arcs[a].to; n.depth[u] == unreached && n.arcs[a^1].room > 0 {
				n.depth[u] = n.depth[v] + 1
				n.queue = append(n.queue, u)
			}
		}
	}
	return found
}

// push sends what the source offers to root along arcs that come one step
// nearer to the sink, until root has no such path left. Every offering node
// uses its own shortest paths in one phase, not only the nearest of them: its
// distance grows in each phase, so there are at most as many as nodes.
func (n *network) push(root int32) {
	n.trail = n.trail[:0]
	v := root
	for n.spare[root] > 0 {
		if n.depth[v] == 0 && n.spare[v] < 0 {
			v = n.augment(root, v)
			continue
		}
		if a, ok := n.admissible(v); ok {
			n.trail = append(n.trail, a)
			v = n.arcs[a].to
			continue
		}
		n.depth[v] = unreached
		if v == root {
			return
		}
		last := n.trail[len(n.trail)-1]
		n.trail = n.trail[:len(n.trail)-1]
		v = n.arcs[last^1].to
	}
}

func (n *network) admissible(v int32) (int32, bool) {
	end := n.first[v+1]
	for i := n.next[v]; i < end; i++ {
		a := n.out[i]
		if n.arcs[a].room > 0 && n.depth[n.arcs[a].to] == n.depth[v]-1 {
			n.next[v] = i
			return a, true
		}
	}
	n.next[v] = end
	return 0, false
}

// augment sends as much as the trail bears from root to end, shortens the trail
// to its first full arc and returns the node where the search goes on.
func (n *network) augment(root, end int32) int32 {
	flow := min(n.spare[root], -n.spare[end])
	for _, a := range n.trail {
		flow = min(flow, n.arcs[a].room)
	}
	n.spare[root] -= flow
	n.spare[end] += flow
	full := len(n.trail)
	for i := len(n.trail) - 1; i >= 0; i-- {
		a := n.trail[i]
		n.arcs[a].room -= flow
		n.arcs[a^1].room += flow
		if n.arcs[a].room == 0 {
			full = i
		}
	}
	at := end
	if full < len(n.trail) {
		at = n.arcs[n.trail[full]^1].to
		n.trail = n.trail[:full]
	}
	return at
}

// sourceSide is what the source can still reach.
func (n *network) sourceSide() []bool {
	side := make([]bool, len(n.spare))
	n.queue = n.queue[:0]
	for v, s := range n.spare {
		if s > 0 {
			side[v] = true
			n.queue = append(n.queue, int32(v))
		}
	}
	for head := 0; head < len(n.queue); head++ {
		v := n.queue[head]
		for _, a := range n.out[n.first[v]:n.first[v+1]] {
			if u := n.arcs[a].to; !side[u] && n.arcs[a].room > 0 {
				side[u] = true
				n.queue = append(n.queue, u)
			}
		}
	}
	return side
}
