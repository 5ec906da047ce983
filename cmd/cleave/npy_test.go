package main

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/cleaveml/cleave/models/tensor"
)

// npyFile puts a header of the given format version before data, padded as
// NumPy does.
func npyFile(major byte, header string, data []byte) []byte {
	const lead = 8
	length := 2
	if major > 1 {
		length = 4
	}
	header += strings.Repeat(" ", 63-(lead+length+len(header))%64) + "\n"
	file := append([]byte(npyMagic), major, 0)
	if major > 1 {
		file = binary.LittleEndian.AppendUint32(file, uint32(len(header)))
	} else {
		file = binary.LittleEndian.AppendUint16(file, uint16(len(header)))
	}
	return append(append(file, header...), data...)
}

func TestNPY(t *testing.T) {
	for _, c := range []struct {
		major  byte
		header string
		data   []byte
		want   string // dtype and shape, or part of the error
	}{
		{1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", make([]byte, 24), "float32[2 3]"},
		{2, "{'descr': '<i8', 'fortran_order': False, 'shape': (3,), }", make([]byte, 24), "int64[3]"},
		{3, "{'descr': '|u1', 'fortran_order': False, 'shape': (), }", make([]byte, 1), "uint8[]"},
		{1, "{\"shape\": (0, 4), \"fortran_order\": False, \"descr\": \"<f4\"}", nil, "float32[0 4]"},
		{1, "{'descr': '<f4', 'fortran_order': True, 'shape': (1, 6), }", make([]byte, 24), "float32[1 6]"},
		{1, "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }", make([]byte, 24), "Fortran order"},
		{1, "{'descr': '>f4', 'fortran_order': False, 'shape': (2, 3), }", make([]byte, 24), "not supported"},
		{1, "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,), }", make([]byte, 8), "unreadable header"},
		{1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", make([]byte, 23), "takes 24 bytes, got 23"},
		{1, "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 99999999999), }", nil, "no known size"},
		{1, "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,), }", nil, "out of range"},
		{4, "{}", nil, "format 4"},
		{1, "", nil, "unreadable header"},
	} {
		got, err := parseNPY(npyFile(c.major, c.header, c.data))
		switch {
		case err != nil && !strings.Contains(err.Error(), c.want):
			t.Errorf("%s: %v, want %s", c.header, err, c.want)
		case err == nil && got.String() != c.want:
			t.Errorf("%s: %v, want %s", c.header, got, c.want)
		}
	}
}

func TestNPYOfEveryLengthThatIsCutShort(t *testing.T) {
	whole := npyFile(2, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", ramp(6))
	for n := range whole {
		if _, err := parseNPY(whole[:n]); err == nil {
			t.Errorf("%d of %d bytes are accepted", n, len(whole))
		}
	}
	got, err := parseNPY(whole)
	if err != nil || !bytes.Equal(got.Data, ramp(6)) {
		t.Errorf("%v, %v", got, err)
	}
}

func FuzzNPY(f *testing.F) {
	f.Add(npyFile(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", ramp(6)))
	f.Add(npyFile(2, "{'descr': '|u1', 'fortran_order': True, 'shape': (1,), }", []byte{7}))
	f.Add([]byte(npyMagic + "\x02\x00\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, file []byte) {
		got, err := parseNPY(file)
		if err != nil {
			if got.Data != nil || strings.Contains(err.Error(), "\n") {
				t.Errorf("data beside the error, or more than one line: %v", err)
			}
			return
		}
		if err := got.Validate(); err != nil {
			t.Error(err)
		}
		if !bytes.HasSuffix(file, got.Data) || got.DType == tensor.Undefined {
			t.Error("the data is not the end of the file")
		}
	})
}
