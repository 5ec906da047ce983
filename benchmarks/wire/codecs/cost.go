package codecs

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"runtime"
	"slices"
	"time"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/transport"
)

// Classes of values.
const (
	afterReLU = "after ReLU"
	dense     = "dense" // float32 otherwise
	other     = "other" // uint8 for example
)

// Cost is what a codec makes of a network's values of one class.
type Cost struct {
	Part    string       `json:"part"`
	Model   string       `json:"model"`
	Class   string       `json:"class"`
	Codec   string       `json:"codec"`
	Values  int          `json:"values"`
	Refused int          `json:"refused"` // values that the codec cannot carry; not in the sums
	Raw     tensor.Bytes `json:"raw_bytes"`
	Encoded tensor.Bytes `json:"encoded_bytes"`
	Ratio   float64      `json:"ratio"`
	// Encode and Decode are CPU times, the others by the clock.
	Encode     float64 `json:"encode_ms"`
	Decode     float64 `json:"decode_ms"`
	EncodeWall float64 `json:"encode_wall_ms"`
	DecodeWall float64 `json:"decode_wall_ms"`
	EncodeMBps float64 `json:"encode_MBps"`
	DecodeMBps float64 `json:"decode_MBps"`
	// Error is relative, root mean square; of several values the mean by bytes.
	Error float64 `json:"error"`
}

// add sums up.
func (c *Cost) add(o Cost) {
	if sum := c.Raw + o.Raw; sum > 0 {
		c.Error = (c.Error*float64(c.Raw) + o.Error*float64(o.Raw)) / float64(sum)
	}
	c.Values, c.Refused = c.Values+o.Values, c.Refused+o.Refused
	c.Raw, c.Encoded = c.Raw+o.Raw, c.Encoded+o.Encoded
	c.Encode, c.Decode = c.Encode+o.Encode, c.Decode+o.Decode
	c.EncodeWall, c.DecodeWall = c.EncodeWall+o.EncodeWall, c.DecodeWall+o.DecodeWall
	if c.Encoded > 0 {
		c.Ratio = float64(c.Raw) / float64(c.Encoded)
		c.EncodeMBps, c.DecodeMBps = c.speed(c.Encode), c.speed(c.Decode)
	}
}

// speed is MB of tensors per second.
func (c *Cost) speed(ms float64) float64 { return float64(c.Raw) / 1e6 / (ms / 1e3) }

// leastValue is the size from which a value is measured, in bytes.
const leastValue = 4 << 10

// costs measures all codecs on the values of a model.
func (m measuring) costs(ctx context.Context, g Ground, model string, picture []byte) ([]Cost, error) {
	m.Step("%s: one pass over all values", model)
	s, err := g.Build(ctx, model, picture)
	if err != nil {
		return nil, err
	}
	stages, err := s.Graph.AllValues()
	if err != nil {
		return nil, err
	}
	all, err := load(ctx, g.Engine, stages)
	if err != nil {
		return nil, err
	}
	values, err := all.run(ctx, s.inputs())
	if err = all.close(err); err != nil {
		return nil, err
	}
	runtime.LockOSThread() // its CPU time is read
	defer runtime.UnlockOSThread()
	var rows []Cost
	for _, id := range crossing(s.Graph) {
		t := values[id]
		if t.Bytes() < leastValue {
			continue
		}
		m.Step("%s: codecs on %s", model, s.Graph.Values[id].Name)
		for _, codec := range transport.Codecs() {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			c, err := cost(codec, t, m.repeats)
			if err != nil {
				return nil, fmt.Errorf("value %s: %w", s.Graph.Values[id].Name, err)
			}
			c.Part, c.Model, c.Class, c.Codec = name, model, class(t), string(codec)
			rows = sumUp(rows, c)
		}
	}
	return slices.DeleteFunc(rows, func(c Cost) bool { return c.Values == 0 }), nil
}

// sumUp adds a value to the row of its class and codec.
func sumUp(rows []Cost, c Cost) []Cost {
	i := slices.IndexFunc(rows, func(r Cost) bool { return r.Class == c.Class && r.Codec == c.Codec })
	if i < 0 {
		i, rows = len(rows), append(rows, Cost{Part: c.Part, Model: c.Model, Class: c.Class, Codec: c.Codec})
	}
	rows[i].add(c)
	return rows
}

// crossing are the values made by ops that cross some cut.
func crossing(g *models.Graph) (ids []models.ValueID) {
	for _, c := range g.Cuts() {
		for _, id := range c.Values {
			if g.Values[id].Producer >= 0 && !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	}
	return ids
}

// class of a value.
func class(t tensor.Tensor) string {
	if t.DType != tensor.Float32 {
		return other
	}
	zeros := 0
	for b := t.Data; len(b) >= 4; b = b[4:] {
		v := math.Float32frombits(binary.LittleEndian.Uint32(b))
		if !(v >= 0) {
			return dense
		}
		if v == 0 {
			zeros++
		}
	}
	if 20*zeros < len(t.Data)/4 {
		return dense
	}
	return afterReLU
}

// cost is the least of some repetitions.
func cost(codec transport.Codec, t tensor.Tensor, repeats int) (Cost, error) {
	if !codec.Supports(t.DType) {
		return Cost{Refused: 1}, nil
	}
	room, back := make([]byte, 0, codec.MaxEncoded(t)), make([]byte, len(t.Data))
	c := Cost{Values: 1, Raw: t.Bytes(), Encode: math.Inf(1), Decode: math.Inf(1), EncodeWall: math.Inf(1), DecodeWall: math.Inf(1)}
	for range repeats {
		var encoded []byte
		cpu, wall, err := timed(func() (err error) { encoded, err = codec.Encode(room, t); return err })
		if transport.KindOf(err) == transport.Unsupported {
			return Cost{Refused: 1}, nil
		} else if err != nil {
			return c, err
		}
		c.Encoded = tensor.Bytes(len(encoded))
		c.Encode, c.EncodeWall = min(c.Encode, cpu), min(c.EncodeWall, wall)
		cpu, wall, err = timed(func() error { return codec.Decode(back, t.DType, encoded) })
		if err != nil {
			return c, err
		}
		c.Decode, c.DecodeWall = min(c.Decode, cpu), min(c.DecodeWall, wall)
	}
	c.Error = min(transport.RelativeError(t.DType, t.Data, back), math.MaxFloat64) // JSON has no infinity
	if codec.Lossless() && !slices.Equal(t.Data, back) {
		return c, fmt.Errorf("%s is not lossless", codec)
	}
	return c, nil
}

// timed returns what a call takes of the thread's CPU time and by the clock, in ms.
func timed(call func() error) (cpu, wall float64, err error) {
	began, before := time.Now(), threadCPU()
	err = call()
	cpu, wall = ms(threadCPU()-before), ms(time.Since(began))
	return cpu, wall, err
}

func ms(d time.Duration) float64 { return float64(d) / 1e6 }
