package archive

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// kind of a column's values.
type kind int

// The kinds. A column with values of several kinds is one of text, of integers
// and other numbers one of floats; null is of every kind. Integers beyond 64 bits with a sign,
// seeds for example, are text: as floats they would be others.
const (
	unknown kind = iota
	truth
	integer
	float
	text
)

type column struct {
	name string
	kind kind
}

// table is rows with their columns in the order in which rows first have them.
type table struct {
	columns []*column
	rows    []map[string]any
	byName  map[string]*column
}

// tableOf flattens rows, which are objects in JSON.
func tableOf(rows []any) (table, error) {
	t := table{byName: map[string]*column{}}
	for i, row := range rows {
		data, err := json.Marshal(row)
		if err != nil {
			return t, fmt.Errorf("row %d: %w", i, err)
		}
		dec := json.NewDecoder(bytes.NewReader(data))
		dec.UseNumber()
		cells := map[string]any{}
		if err := t.object(dec, "", cells); err != nil {
			return t, fmt.Errorf("row %d is no object: %w", i, err)
		}
		t.rows = append(t.rows, cells)
	}
	return t, nil
}

// object reads one object, whose fields have names that begin with prefix.
func (t *table) object(dec *json.Decoder, prefix string, cells map[string]any) error {
	open, err := dec.Token()
	if err != nil || open != json.Delim('{') {
		return fmt.Errorf("it begins with %v", open)
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return err
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return err
		}
		name := prefix + key.(string)
		inner := json.NewDecoder(bytes.NewReader(value))
		inner.UseNumber()
		if value[0] == '{' {
			err = t.object(inner, name+".", cells)
		} else {
			var v any
			err = inner.Decode(&v)
			cells[name] = v
			t.note(name, v)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// note adds a value's column, or widens it for the value.
func (t *table) note(name string, v any) {
	c, ok := t.byName[name]
	if !ok {
		c = &column{name: name}
		t.byName[name] = c
		t.columns = append(t.columns, c)
	}
	k := kindOf(v)
	switch {
	case k == unknown || k == c.kind:
	case c.kind == unknown:
		c.kind = k
	case min(k, c.kind) == integer && max(k, c.kind) == float:
		c.kind = float
	default:
		c.kind = text
	}
}

func kindOf(v any) kind {
	switch v := v.(type) {
	case nil:
		return unknown
	case bool:
		return truth
	case json.Number:
		if _, err := v.Int64(); err == nil {
			return integer
		}
		if strings.ContainsAny(v.String(), ".eE") {
			return float
		}
	}
	return text
}
