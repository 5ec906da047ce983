package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/cleaveml/cleave/models/tensor"
)

// npyMagic begins a NumPy array file, see numpy.lib.format.
const npyMagic = "\x93NUMPY"

// The header is a Python dictionary; NumPy writes its keys in this order, but
// does not promise it.
var (
	npyDescr   = regexp.MustCompile(`['"]descr['"]\s*:\s*['"]([^'"]*)['"]`)
	npyFortran = regexp.MustCompile(`['"]fortran_order['"]\s*:\s*(True|False)`)
	npyShape   = regexp.MustCompile(`['"]shape['"]\s*:\s*\(([0-9,\s]*)\)`)
)

// npyTypes are the element types of little-endian arrays.
var npyTypes = map[string]tensor.DType{
	"<f4": tensor.Float32, "<f8": tensor.Float64, "<f2": tensor.Float16,
	"<i8": tensor.Int64, "<i4": tensor.Int32, "<i2": tensor.Int16, "|i1": tensor.Int8,
	"<u8": tensor.Uint64, "<u4": tensor.Uint32, "<u2": tensor.Uint16, "|u1": tensor.Uint8,
	"|b1": tensor.Bool,
}

// parseNPY reads a NumPy array, format 1, 2 or 3. The tensor's data aliases
// the file's.
func parseNPY(file []byte) (tensor.Tensor, error) {
	header, data, err := splitNPY(file)
	if err != nil {
		return tensor.Tensor{}, err
	}
	descr, fortran, dims := npyDescr.FindStringSubmatch(header), npyFortran.FindStringSubmatch(header), npyShape.FindStringSubmatch(header)
	if descr == nil || fortran == nil || dims == nil {
		return tensor.Tensor{}, fmt.Errorf("unreadable header of a NumPy file: %.80q", strings.TrimSpace(header))
	}
	t := tensor.Tensor{Shape: tensor.Shape{}, Data: data}
	var known bool
	if t.DType, known = npyTypes[descr[1]]; !known {
		return tensor.Tensor{}, fmt.Errorf("elements of type %q are not supported: save it as float32, int64 or uint8, little-endian", descr[1])
	}
	for d := range strings.SplitSeq(dims[1], ",") {
		if d = strings.TrimSpace(d); d == "" {
			continue // (3,) has a comma at its end
		}
		n, err := strconv.ParseInt(d, 10, 64)
		if err != nil {
			return tensor.Tensor{}, fmt.Errorf("dimension %s of a NumPy file is out of range", d)
		}
		t.Shape = append(t.Shape, n)
	}
	// With at most one dimension above 1 both orders are the same.
	wide := slices.DeleteFunc(slices.Clone(t.Shape), func(d int64) bool { return d == 1 })
	if fortran[1] == "True" && len(wide) > 1 {
		return tensor.Tensor{}, errors.New("the array is in Fortran order: save numpy.ascontiguousarray of it")
	}
	if err := t.Validate(); err != nil {
		return tensor.Tensor{}, fmt.Errorf("damaged NumPy file: %w", err)
	}
	return t, nil
}

// splitNPY separates the header's text from the data.
func splitNPY(file []byte) (header string, data []byte, err error) {
	cut := errors.New("damaged NumPy file: it ends within its header")
	const lead = len(npyMagic) + 2 // then the length of the header
	if len(file) < lead+2 {
		return "", nil, cut
	}
	size, at := int(binary.LittleEndian.Uint16(file[lead:])), lead+2
	switch major := file[len(npyMagic)]; {
	case major > 3 || major < 1:
		return "", nil, fmt.Errorf("NumPy file of format %d: Cleave reads 1 to 3", major)
	case major > 1 && len(file) < lead+4:
		return "", nil, cut
	case major > 1:
		size, at = int(binary.LittleEndian.Uint32(file[lead:])), lead+4
	}
	if size < 0 || size > len(file)-at {
		return "", nil, cut
	}
	return string(file[at : at+size]), file[at+size:], nil
}
