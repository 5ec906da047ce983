package archive

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/parquet-go/parquet-go"

	"github.com/cleaveml/cleave/benchmarks"
)

// WriteParquet writes a report's rows as one table: a column for each field, in
// the order in which rows first have it, null where a row has it not; a nested
// object's fields are named "a.b", a list is its JSON. The report without its
// rows is the file's metadata, a value of JSON for each of its fields.
func WriteParquet(w io.Writer, r benchmarks.Report) error {
	t, err := tableOf(r.Rows)
	if err != nil {
		return err
	}
	options := []parquet.WriterOption{schemaOf(r.Bench, t), parquet.Compression(&parquet.Zstd)}
	r.Rows = []any{}
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		return err
	}
	delete(fields, "rows")
	for name, value := range fields {
		options = append(options, parquet.KeyValueMetadata(name, string(value)))
	}
	pw := parquet.NewWriter(w, options...)
	for _, row := range t.rows {
		values := make(parquet.Row, len(t.columns))
		for i, c := range t.columns {
			if values[i], err = c.value(row[c.name]); err != nil {
				return fmt.Errorf("column %s: %w", c.name, err)
			}
			level := 1
			if values[i].IsNull() {
				level = 0
			}
			values[i] = values[i].Level(0, level, i)
		}
		if _, err := pw.WriteRows([]parquet.Row{values}); err != nil {
			return err
		}
	}
	return pw.Close()
}

// ordered is a group whose fields keep their order.
type ordered struct {
	parquet.Group
	columns []*column
}

// Fields implements parquet.Node.
func (o ordered) Fields() []parquet.Field {
	byName := map[string]parquet.Field{}
	for _, f := range o.Group.Fields() {
		byName[f.Name()] = f
	}
	fields := make([]parquet.Field, len(o.columns))
	for i, c := range o.columns {
		fields[i] = byName[c.name]
	}
	return fields
}

func schemaOf(name string, t table) *parquet.Schema {
	g := parquet.Group{}
	for _, c := range t.columns {
		g[c.name] = parquet.Optional(c.node())
	}
	return parquet.NewSchema(name, ordered{g, t.columns})
}

func (c *column) node() parquet.Node {
	switch c.kind {
	case truth:
		return parquet.Leaf(parquet.BooleanType)
	case integer:
		return parquet.Int(64)
	case float:
		return parquet.Leaf(parquet.DoubleType)
	}
	return parquet.String()
}

// value is a cell of the column's kind.
func (c *column) value(v any) (parquet.Value, error) {
	switch {
	case v == nil:
		return parquet.NullValue(), nil
	case c.kind == truth:
		return parquet.BooleanValue(v.(bool)), nil
	case c.kind == integer:
		n, err := v.(json.Number).Int64()
		return parquet.Int64Value(n), err
	case c.kind == float:
		x, err := v.(json.Number).Float64()
		return parquet.DoubleValue(x), err
	}
	if text, ok := v.(string); ok {
		return parquet.ByteArrayValue([]byte(text)), nil
	}
	data, err := json.Marshal(v)
	return parquet.ByteArrayValue(data), err
}
