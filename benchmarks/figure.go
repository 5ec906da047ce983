package benchmarks

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Better says which way a figure should go.
type Better string

// The ways.
const (
	Lower  Better = "lower"
	Higher Better = "higher"
)

// Figure is one number that an experiment is about. A Value that is NaN or
// infinite, of an experiment without samples for example, never Holds and is
// null in JSON.
type Figure struct {
	Name   string
	Value  float64
	Unit   string
	Goal   *float64 // nil: none
	Better Better
	// Holds: there is no goal, or the value meets it. The interval has no say.
	Holds bool
	// Low and High bound the value with 95 % confidence; nil: not known.
	Low, High *float64
	N         int // samples behind the value; 0: not told
}

// With adds what an estimate knows beside its value.
func (f Figure) With(e Estimate) Figure {
	f.N = e.N
	if finite(e.Low) && finite(e.High) {
		f.Low, f.High = &e.Low, &e.High
	}
	return f
}

// figureJSON gives names to the fields, null for a Value without a number.
type figureJSON struct {
	Name   string   `json:"name"`
	Value  *float64 `json:"value"`
	Unit   string   `json:"unit"`
	Goal   *float64 `json:"goal,omitempty"`
	Better Better   `json:"better"`
	Holds  bool     `json:"holds"`
	Low    *float64 `json:"low,omitempty"`
	High   *float64 `json:"high,omitempty"`
	N      int      `json:"n,omitempty"`
}

// MarshalJSON implements json.Marshaler.
func (f Figure) MarshalJSON() ([]byte, error) {
	out := figureJSON{f.Name, nil, f.Unit, f.Goal, f.Better, f.Holds, f.Low, f.High, f.N}
	if finite(f.Value) {
		out.Value = &f.Value
	}
	return json.Marshal(out)
}

// UnmarshalJSON implements json.Unmarshaler; null is NaN.
func (f *Figure) UnmarshalJSON(data []byte) error {
	var in figureJSON
	if err := json.Unmarshal(data, &in); err != nil {
		return err
	}
	*f = Figure{in.Name, math.NaN(), in.Unit, in.Goal, in.Better, in.Holds, in.Low, in.High, in.N}
	if in.Value != nil {
		f.Value = *in.Value
	}
	return nil
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

// NewFigure makes a figure with a goal, which must be finite.
func NewFigure(name string, value float64, unit string, better Better, goal float64) Figure {
	holds := value <= goal
	if better == Higher {
		holds = value >= goal
	}
	return Figure{Name: name, Value: value, Unit: unit, Goal: &goal, Better: better, Holds: holds && finite(value)}
}

// Goal is a figure that an experiment reports, before it is measured.
type Goal struct {
	Figure, Unit string
	Better       Better
	Value        *float64 // nil: the figure is only told
	About        string   // what it means, in Markdown, for docs/benchmarks.md
}

// AtMost is a goal that a value meets that is not larger.
func AtMost(figure, unit string, value float64, about string) Goal {
	return Goal{figure, unit, Lower, &value, about}
}

// AtLeast is a goal that a value meets that is not smaller.
func AtLeast(figure, unit string, value float64, about string) Goal {
	return Goal{figure, unit, Higher, &value, about}
}

// Told is a figure without a goal.
func Told(figure, unit string, better Better, about string) Goal {
	return Goal{figure, unit, better, nil, about}
}

// Text is the goal in one line, "≤ 3 s" for example; ratios and truths go
// without their unit.
func (g Goal) Text() string {
	unit := g.Unit
	if unit == "ratio" || unit == "bool" {
		unit = ""
	}
	switch {
	case g.Value == nil && unit == "":
		return "none"
	case g.Value == nil:
		return "none, in " + unit
	}
	return strings.TrimSpace(fmt.Sprintf("%s %g %s", Sign(g.Better), *g.Value, unit))
}

// Number is a value for people: three digits that count, or more before the point;
// a dash is none.
func Number(x float64) string {
	switch {
	case !finite(x):
		return "–"
	case math.Abs(x) >= 100:
		return strconv.FormatFloat(x, 'f', 0, 64)
	}
	return strconv.FormatFloat(x, 'g', 3, 64)
}

// Sign is the relation of a value to a goal that it meets.
func Sign(b Better) string {
	if b == Higher {
		return "≥"
	}
	return "≤"
}

// Of is the figure of a measured value.
func (g Goal) Of(value float64) Figure {
	if g.Value == nil {
		return Figure{Name: g.Figure, Value: value, Unit: g.Unit, Better: g.Better, Holds: finite(value)}
	}
	return NewFigure(g.Figure, value, g.Unit, g.Better, *g.Value)
}
