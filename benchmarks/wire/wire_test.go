package wire_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/cleaveml/cleave/benchmarks"
	"github.com/cleaveml/cleave/benchmarks/wire"
)

func part(name string, err error) wire.Part {
	goal := benchmarks.AtMost(name+"_max", "ms", 3, "of "+name)
	return wire.Part{
		Name: name, Method: "How " + name + " goes.", Goals: []benchmarks.Goal{goal},
		Cells: func(wire.Run) int { return 2 },
		Measure: func(context.Context, wire.Run) (wire.Found, error) {
			return wire.Found{Figures: []benchmarks.Figure{goal.Of(2)}, Rows: []any{name}}, err
		},
	}
}

func TestPartsAreMeasuredInOrderAndSelectedByName(t *testing.T) {
	parts := []wire.Part{part("a", nil), part("b", nil), part("c", nil)}
	some, err := wire.Select(parts, []string{"c", "a"})
	if err != nil {
		t.Fatal(err)
	}
	found, err := wire.Measure(t.Context(), some, wire.Run{})
	if err != nil || len(found.Rows) != 2 || found.Rows[0] != "a" || found.Rows[1] != "c" {
		t.Fatalf("found %+v, %v", found, err)
	}
	if _, err := wire.Select(parts, []string{"d"}); err == nil || !strings.Contains(err.Error(), "a, b, c") {
		t.Errorf("an unknown part gives %v", err)
	}
}

func TestAnErrorNamesThePartAndKeepsWhatWasFound(t *testing.T) {
	broken := errors.New("no link")
	found, err := wire.Measure(t.Context(), []wire.Part{part("a", nil), part("b", broken)}, wire.Run{})
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), "part b") || len(found.Rows) != 2 {
		t.Fatalf("found %+v, %v", found, err)
	}
}

func TestTheExperimentHasTheGoalsAndMethodsOfItsParts(t *testing.T) {
	e := wire.Experiment([]wire.Part{part("a", nil), part("b", nil)})
	if len(e.Goals) != 2 || !strings.Contains(e.Method, "**b.** How b goes.") {
		t.Fatalf("%+v", e)
	}
}
