package partition

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// String prints the plan in one line, outward, with what crosses each link:
// "device ops[0,22) ─401KB fp16→ cloud ops[22,69)   est 38.1ms".
func (p Plan) String() string {
	var b strings.Builder
	for i, s := range p.Stages {
		if i > 0 {
			b.WriteString(" ─" + p.Hops[i-1].cargo() + "→ ")
		}
		b.WriteString(string(s.Host))
		switch {
		case len(s.Ops) > 0:
			b.WriteString(" ops" + intervals(s.Ops))
		case i > 0:
			b.WriteString(" relay")
		}
	}
	return b.String() + "   est " + millis(p.Total)
}

// cargo names what a message carries: "401KB fp16", "3 tensors 401KB fp16+raw".
func (h Hop) cargo() string {
	if len(h.Tensors) == 0 {
		return "no tensor"
	}
	var codecs []string
	for _, t := range h.Tensors {
		if !slices.Contains(codecs, t.Codec) {
			codecs = append(codecs, t.Codec)
		}
	}
	text := h.Bytes().String() + " " + strings.Join(codecs, "+")
	if len(h.Tensors) > 1 {
		return strconv.Itoa(len(h.Tensors)) + " tensors " + text
	}
	return text
}

// intervals prints ascending ops as half-open ranges: "[0,12)+[14,15)".
func intervals(ops []int) string {
	var parts []string
	for i := 0; i < len(ops); {
		j := i + 1
		for j < len(ops) && ops[j] == ops[j-1]+1 {
			j++
		}
		parts = append(parts, fmt.Sprintf("[%d,%d)", ops[i], ops[j-1]+1))
		i = j
	}
	return strings.Join(parts, "+")
}

// millis prints three significant digits in milliseconds, in seconds from ten
// of them on.
func millis(d time.Duration) string {
	ms := float64(d) / float64(time.Millisecond)
	switch {
	case ms == 0:
		return "0ms"
	case ms < 9.995:
		return strconv.FormatFloat(ms, 'f', 2, 64) + "ms"
	case ms < 99.95:
		return strconv.FormatFloat(ms, 'f', 1, 64) + "ms"
	case ms < 9999.5:
		return strconv.FormatFloat(ms, 'f', 0, 64) + "ms"
	default:
		return strconv.FormatFloat(ms/1000, 'f', 1, 64) + "s"
	}
}

const (
	boxWidth   = 22 // columns, borders included
	arrowWidth = 16
	boxHeight  = 7
	boxesInRow = 3 // 3*22 + 2*16 = 98 columns
)

// Picture draws the plan for a terminal of 100 columns: a box per host with
// what it runs and for how long, between them what crosses the link outward
// (above) and back (below), and the sum. p is the problem that was solved; it
// names the ops. More than three hosts take several rows, each of which starts
// with the last host of the row above.
func (p Plan) Picture(problem Problem) string {
	var b strings.Builder
	for first := 0; first == 0 || first < len(p.Stages)-1; first += boxesInRow - 1 {
		last := min(first+boxesInRow, len(p.Stages))
		for row := range boxHeight {
			var line strings.Builder
			for i := first; i < last; i++ {
				if i > first {
					line.WriteString(p.arrow(i - 1)[row])
				}
				line.WriteString(p.box(problem, i)[row])
			}
			b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
		}
	}
	var out, back time.Duration
	for i := range p.Hops {
		out += p.Hops[i].Total()
		back += p.Back[i].Total()
	}
	fmt.Fprintf(&b, "total %s = compute %s + way out %s + way back %s\n", millis(p.Total), millis(p.Compute()), millis(out), millis(back))
	return b.String()
}

func (p Plan) box(problem Problem, i int) [boxHeight]string {
	s := p.Stages[i]
	var lines [boxHeight - 2]string
	lines[0] = string(s.Host)
	switch n := len(s.Ops); {
	case n == 0 && i == 0:
		lines[1] = "sends the input"
	case n == 0:
		lines[1] = "relays"
	default:
		lines[1] = fmt.Sprintf("%d of %d ops", n, len(p.Assign))
		if n == len(p.Assign) {
			lines[1] = fmt.Sprintf("all %d ops", n)
		}
		lines[2] = intervals(s.Ops)
		lines[3] = span(problem, s.Ops)
		lines[4] = millis(s.Compute) + " compute"
	}
	bar := strings.Repeat("─", boxWidth-2)
	var rows [boxHeight]string
	rows[0], rows[boxHeight-1] = "┌"+bar+"┐", "└"+bar+"┘"
	for j, text := range lines {
		rows[j+1] = "│ " + fit(text, boxWidth-4) + " │"
	}
	return rows
}

// span names the first and the last op by where they stand: the block of a
// dotted name, the last element of a path.
func span(problem Problem, ops []int) string {
	name := func(op int) string {
		if op >= len(problem.Ops) || problem.Ops[op].Name == "" {
			return strconv.Itoa(op)
		}
		name := problem.Ops[op].Name
		if i := strings.LastIndexByte(name, '/'); i >= 0 && i < len(name)-1 {
			return name[i+1:]
		}
		block, _, _ := strings.Cut(name, ".")
		return block
	}
	first, last := name(ops[0]), name(ops[len(ops)-1])
	if len(ops) == 1 {
		return first
	}
	const each = (boxWidth - 4 - len(" … ") + 2) / 2 // "…" is 3 bytes, 1 column
	return strings.TrimRight(fit(first, min(each, len([]rune(first)))), " ") + " … " + fit(last, each)
}

// arrow draws the link between the boxes i and i+1.
func (p Plan) arrow(i int) [boxHeight]string {
	out, back := p.Hops[i], p.Back[len(p.Back)-1-i]
	line := strings.Repeat("─", arrowWidth-3)
	rows := [boxHeight]string{
		out.short(), line + "→", millis(out.Total()),
		"", "←" + line, back.short(), millis(back.Total()),
	}
	for j := range rows {
		rows[j] = " " + fit(centre(rows[j], arrowWidth-2), arrowWidth-2) + " "
	}
	return rows
}

// short is cargo where the columns suffice, else without the codecs.
func (h Hop) short() string {
	if text := h.cargo(); len([]rune(text)) <= arrowWidth-2 {
		return text
	}
	if len(h.Tensors) == 1 {
		return h.Bytes().String()
	}
	return fmt.Sprintf("%d× %s", len(h.Tensors), h.Bytes())
}

func centre(text string, width int) string {
	return strings.Repeat(" ", max(0, (width-len([]rune(text)))/2)) + text
}

// fit cuts or fills a text to a number of columns.
func fit(text string, width int) string {
	runes := []rune(text)
	if len(runes) > width {
		return string(runes[:width-1]) + "…"
	}
	return text + strings.Repeat(" ", width-len(runes))
}
