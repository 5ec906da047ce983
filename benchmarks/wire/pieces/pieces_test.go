package pieces

import (
	"testing"

	"github.com/cleaveml/cleave/benchmarks/lab/netns"
	"github.com/cleaveml/cleave/benchmarks/wire"
)

func TestQuick(t *testing.T) {
	if err := netns.Available(); err != nil {
		t.Skip(err)
	}
	found, err := measure(t.Context(), wire.Run{Seed: 1, Quick: true, Step: func(string, ...any) {}})
	if err != nil {
		t.Fatal(err)
	}
	row := found.Rows[0].(Row)
	if row.N != 1 || row.Pieces < 10 || row.Encode <= 0 || row.Decode <= 0 || row.InPieces <= 0 || row.Whole < row.Encode+row.Decode {
		t.Errorf("%+v", row)
	}
	if len(found.Figures) != len(Part().Goals) {
		t.Errorf("%d figures", len(found.Figures))
	}
}
