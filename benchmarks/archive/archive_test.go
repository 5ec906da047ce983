package archive_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/cleaveml/cleave/benchmarks"
	"github.com/cleaveml/cleave/benchmarks/archive"
)

type link struct {
	Rate float64 `json:"rate_mbps"`
	Loss *int    `json:"loss"`
}

type cell struct {
	Model  string    `json:"model"`
	N      int       `json:"n"`
	Time   float64   `json:"ms"`
	Holds  bool      `json:"holds"`
	Link   link      `json:"link"`
	Times  []float64 `json:"samples_ms"`
	Extra  any       `json:"extra,omitempty"`
	Absent *int      `json:"absent"`
}

func report() benchmarks.Report {
	r := benchmarks.NewReport("self", "v1", "ONNX Runtime 1.27.0", "avx2")
	r.Seed = 1<<63 + 1
	r.Figures = []benchmarks.Figure{benchmarks.NewFigure("x", 1, "s", benchmarks.Lower, 2)}
	three := 3
	r.Rows = []any{
		cell{Model: "résumé", N: 1, Time: 1, Link: link{18.88, &three}, Times: []float64{1, 2.5}},
		cell{Model: "b", N: -1 << 62, Time: 0.1, Holds: true, Extra: map[string]any{"note": 1}},
		map[string]any{"kind": "scene", "n": 7, "extra": map[string]any{"note": "late"}},
	}
	return r
}

// TestParquetReadsBack reads the table by its own schema, not by the writer's.
func TestParquetReadsBack(t *testing.T) {
	var buf bytes.Buffer
	want := report()
	if err := archive.WriteParquet(&buf, want); err != nil {
		t.Fatal(err)
	}
	file, err := parquet.OpenFile(bytes.NewReader(buf.Bytes()), int64(buf.Len()))
	if err != nil {
		t.Fatal(err)
	}
	var columns []string
	for _, path := range file.Schema().Columns() {
		columns = append(columns, strings.Join(path, "/"))
	}
	if got := strings.Join(columns, " "); got != "model n ms holds link.rate_mbps link.loss samples_ms absent extra.note kind" {
		t.Errorf("columns %s", got)
	}
	rows := file.RowGroups()[0].Rows()
	defer func() { _ = rows.Close() }()
	read := make([]parquet.Row, 5)
	n, err := rows.ReadRows(read)
	if n != 3 || err != nil && !errors.Is(err, io.EOF) {
		t.Fatalf("%d rows, %v", n, err)
	}
	for i, want := range []string{
		"résumé 1 1 false 18.88 3 [1,2.5] <null> <null> <null>",
		"b -4611686018427387904 0.1 true 0 <null> <null> <null> 1 <null>",
		"<null> 7 <null> <null> <null> <null> <null> <null> late scene",
	} {
		var cells []string
		for _, v := range read[i] {
			cells = append(cells, fmt.Sprint(v))
		}
		if got := strings.Join(cells, " "); got != want {
			t.Errorf("row %d\ngot  %s\nwant %s", i, got, want)
		}
	}
	if machine, ok := file.Lookup("machine"); !ok || !strings.Contains(machine, `"runtime":"ONNX Runtime 1.27.0"`) {
		t.Errorf("metadata machine is %q", machine)
	}
	for key, want := range map[string]string{"bench": `"self"`, "commit": `"v1"`, "seed": "9223372036854775809"} {
		if got, _ := file.Lookup(key); got != want {
			t.Errorf("metadata %s is %s, want %s", key, got, want)
		}
	}
	if _, ok := file.Lookup("rows"); ok {
		t.Error("the metadata repeats the rows")
	}
}

// TestKinds: integers and other numbers make floats, other mixtures text.
func TestKinds(t *testing.T) {
	r := report()
	r.Rows = []any{
		map[string]any{"a": 1, "b": 1, "c": true, "d": nil, "e": nil, "f": uint64(1<<64 - 1), "g": 1e300},
		map[string]any{"a": 1.5, "b": "x", "c": 2, "d": nil, "e": []int{}, "f": 3, "g": 7},
	}
	var buf bytes.Buffer
	if err := archive.WriteParquet(&buf, r); err != nil {
		t.Fatal(err)
	}
	file, err := parquet.OpenFile(bytes.NewReader(buf.Bytes()), int64(buf.Len()))
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, f := range file.Schema().Fields() {
		kinds = append(kinds, f.Name()+" "+f.Type().String())
	}
	if got := strings.Join(kinds, ", "); got != "a DOUBLE, b STRING, c STRING, d STRING, e STRING, f STRING, g DOUBLE" {
		t.Errorf("%s", got)
	}
	rows := file.RowGroups()[0].Rows()
	defer func() { _ = rows.Close() }()
	read := make([]parquet.Row, 2)
	if n, err := rows.ReadRows(read); n != 2 || err != nil && !errors.Is(err, io.EOF) || read[0][5].String() != "18446744073709551615" || read[1][5].String() != "3" {
		t.Errorf("a large seed: %v, %v", read, err)
	}
}

func TestParquetOfNoRowsAndOfNoObjects(t *testing.T) {
	r := report()
	r.Rows = nil
	if err := archive.WriteParquet(io.Discard, r); err != nil {
		t.Errorf("no rows: %v", err)
	}
	r.Rows = []any{3}
	if err := archive.WriteParquet(io.Discard, r); err == nil || !strings.Contains(err.Error(), "row 0") {
		t.Errorf("a row that is a number: %v", err)
	}
}

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	for range 2 { // the second time over the first
		if err := archive.Write(dir, report()); err != nil {
			t.Fatal(err)
		}
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 2 {
		t.Errorf("%v, %v", files, err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	var back benchmarks.Report
	if err := json.Unmarshal(data, &back); err != nil || back.Bench != "self" || len(back.Rows) != 3 || *back.Figures[0].Goal != 2 {
		t.Errorf("%+v, %v", back, err)
	}
	// What cannot be written leaves the old file alone, and nothing else.
	bad := report()
	bad.Rows = []any{3}
	if err := archive.Write(dir, bad); err == nil {
		t.Error("a row that is a number is written")
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 2 {
		t.Errorf("%v, %v", files, err)
	}
	if err := archive.Write(filepath.Join(dir, "none"), report()); err == nil || strings.Contains(err.Error(), "\n") {
		t.Errorf("into no folder: %v", err)
	}
}

func TestReplaceTellsThePathOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "report.json")
	err := archive.Replace(path, func(w io.Writer) error {
		if err := w.(io.Closer).Close(); err != nil {
			return err
		}
		_, err := w.Write([]byte("{}"))
		return err
	})
	if want := "write " + path + ": file already closed"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 0 {
		t.Errorf("%v is left: %v", left, err)
	}
}
