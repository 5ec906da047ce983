package main

import (
	"os"
	"slices"
	"strconv"

	"github.com/parquet-go/parquet-go"
	"github.com/rogpeppe/go-internal/testscript"
)

// readParquet is the command "parquet FILE ROWS COLUMN...": the file has so many
// rows, and these columns among others.
func readParquet(ts *testscript.TestScript, _ bool, args []string) {
	file, err := os.Open(ts.MkAbs(args[0]))
	ts.Check(err)
	defer func() { _ = file.Close() }()
	st, err := file.Stat()
	ts.Check(err)
	table, err := parquet.OpenFile(file, st.Size())
	ts.Check(err)
	if want, err := strconv.Atoi(args[1]); err != nil || table.NumRows() != int64(want) {
		ts.Fatalf("%d rows, want %s", table.NumRows(), args[1])
	}
	var columns []string
	for _, path := range table.Schema().Columns() {
		columns = append(columns, path[0])
	}
	for _, want := range args[2:] {
		if !slices.Contains(columns, want) {
			ts.Fatalf("no column %s in %v", want, columns)
		}
	}
}
