package link

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
)

// Description is a Spec as people write it, in YAML or JSON:
//
//	{rate: 18.88Mbps, delay: 2.5ms, jitter: 1ms, queue: 64KB, loss: 1%, burst: 8,
//	 reorder: 0.5%, reorder_by: 5ms, duplicate: 0.1%, seed: 7,
//	 outages: [{from: 10s, for: 2s, every: 30s}]}
//
// What is left out is the zero of Spec's field of that name.
type Description struct {
	Rate   string `yaml:"rate,omitempty" json:"rate,omitempty"`
	Delay  string `yaml:"delay,omitempty" json:"delay,omitempty"`
	Jitter string `yaml:"jitter,omitempty" json:"jitter,omitempty"`
	Queue  string `yaml:"queue,omitempty" json:"queue,omitempty"`
	// Loss is a share, such as 1% or 0.01, and Burst a mean number of packets;
	// Elliott stands in place of both.
	Loss      string              `yaml:"loss,omitempty" json:"loss,omitempty"`
	Burst     float64             `yaml:"burst,omitempty" json:"burst,omitempty"`
	Elliott   *ElliottDescription `yaml:"elliott,omitempty" json:"elliott,omitempty"`
	Reorder   string              `yaml:"reorder,omitempty" json:"reorder,omitempty"`
	ReorderBy string              `yaml:"reorder_by,omitempty" json:"reorder_by,omitempty"`
	Duplicate string              `yaml:"duplicate,omitempty" json:"duplicate,omitempty"`
	Outages   []OutageDescription `yaml:"outages,omitempty" json:"outages,omitempty"`
	// Trace is a file in Mahimahi's form, or a log of throughput if it ends in
	// .csv; in place of Rate.
	Trace string `yaml:"trace,omitempty" json:"trace,omitempty"`
	Cut   bool   `yaml:"cut,omitempty" json:"cut,omitempty"`
	Seed  uint64 `yaml:"seed,omitempty" json:"seed,omitempty"`
}

// ElliottDescription is an Elliott: four shares.
type ElliottDescription struct {
	ToBad    string `yaml:"to_bad,omitempty" json:"to_bad,omitempty"`
	ToGood   string `yaml:"to_good,omitempty" json:"to_good,omitempty"`
	LossGood string `yaml:"loss_good,omitempty" json:"loss_good,omitempty"`
	LossBad  string `yaml:"loss_bad,omitempty" json:"loss_bad,omitempty"`
}

// OutageDescription is an Outage: three durations.
type OutageDescription struct {
	From  string `yaml:"from,omitempty" json:"from,omitempty"`
	For   string `yaml:"for,omitempty" json:"for,omitempty"`
	Every string `yaml:"every,omitempty" json:"every,omitempty"`
}

// Spec reads the description, and the file of its trace, whose path counts from
// a folder. Errors are one line that names the field.
func (d Description) Spec(folder string) (Spec, error) {
	s, err := d.withoutTrace()
	if err != nil || d.Trace == "" {
		return s, err
	}
	path := d.Trace
	if !filepath.IsAbs(path) {
		path = filepath.Join(folder, path)
	}
	if s.Trace, err = OpenTrace(path); err != nil {
		return Spec{}, err
	}
	return s, nil
}

// Check is Spec without a look into the trace.
func (d Description) Check() error {
	_, err := d.withoutTrace()
	return err
}

func (d Description) withoutTrace() (Spec, error) {
	r := reader{}
	s := Spec{
		Rate: r.rate("rate", d.Rate), Delay: r.duration("delay", d.Delay), Jitter: r.duration("jitter", d.Jitter),
		Queue: r.size("queue", d.Queue), Loss: Loss{Rate: r.share("loss", d.Loss), Burst: d.Burst},
		Reorder: r.share("reorder", d.Reorder), ReorderBy: r.duration("reorder_by", d.ReorderBy),
		Duplicate: r.share("duplicate", d.Duplicate), Cut: d.Cut, Seed: d.Seed,
	}
	if e := d.Elliott; e != nil {
		s.Loss.Elliott = &Elliott{ToBad: r.share("elliott.to_bad", e.ToBad), ToGood: r.share("elliott.to_good", e.ToGood),
			LossGood: r.share("elliott.loss_good", e.LossGood), LossBad: r.share("elliott.loss_bad", e.LossBad)}
	}
	for i, o := range d.Outages {
		field := fmt.Sprintf("outages[%d].", i)
		s.Outages = append(s.Outages, Outage{From: r.duration(field+"from", o.From), For: r.duration(field+"for", o.For), Every: r.duration(field+"every", o.Every)})
	}
	if r.err == nil && d.Trace != "" && d.Rate != "" {
		r.err = errors.New("rate and trace: give one of them")
	}
	if r.err == nil {
		r.err = s.Validate()
	}
	if r.err != nil {
		return Spec{}, r.err
	}
	return s, nil
}

// reader reads fields and keeps the first error.
type reader struct{ err error }

func (r *reader) fail(field, text, want string) {
	if r.err == nil {
		r.err = fmt.Errorf("%s: %.40q: want %s", field, text, want)
	}
}

// number reads a number and one of these units; a number of its own is allowed
// where "" is a unit.
func (r *reader) number(field, text, want string, units map[string]float64) float64 {
	if text == "" {
		return 0
	}
	digits := strings.TrimRight(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ/% ")
	unit, known := units[strings.TrimSpace(text[len(digits):])]
	value, err := strconv.ParseFloat(digits, 64)
	if err != nil || !known || math.IsInf(value, 0) || value < 0 {
		r.fail(field, text, want)
		return 0
	}
	return value * unit
}

func (r *reader) rate(field, text string) partition.BitsPerSecond {
	value := r.number(field, text, "a rate such as 18.88Mbps (bps, Kbps, Mbps, Gbps); cut: true for no link",
		map[string]float64{"bps": 1, "Kbps": 1e3, "kbps": 1e3, "Mbps": 1e6, "Gbps": 1e9})
	if text != "" && value == 0 {
		r.fail(field, text, "more than 0; cut: true for no link")
	}
	return partition.BitsPerSecond(value)
}

func (r *reader) size(field, text string) tensor.Bytes {
	value := r.number(field, text, "a size such as 64KB (B, KB, MB, KiB, MiB)",
		map[string]float64{"B": 1, "KB": 1e3, "MB": 1e6, "KiB": 1 << 10, "MiB": 1 << 20})
	if value > 1e12 {
		r.fail(field, text, "1 TB at most")
		return 0
	}
	return tensor.Bytes(math.Round(value))
}

func (r *reader) share(field, text string) float64 {
	const want = "a share such as 1% or 0.01"
	percent := strings.HasSuffix(text, "%")
	value := r.number(field, text, want, map[string]float64{"": 1, "%": 1})
	if percent {
		value /= 100
	}
	if value > 1 {
		r.fail(field, text, want)
	}
	return value
}

func (r *reader) duration(field, text string) time.Duration {
	if text == "" {
		return 0
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		r.fail(field, text, "a duration such as 2.5ms")
	}
	return d
}

// Describe is the description of a valid spec. A trace must come from OpenTrace.
func Describe(s Spec) (Description, error) {
	d := Description{
		Rate: rateText(s.Rate), Delay: durationText(s.Delay), Jitter: durationText(s.Jitter),
		Loss: shareText(s.Loss.Rate), Burst: s.Loss.Burst,
		Reorder: shareText(s.Reorder), ReorderBy: durationText(s.ReorderBy), Duplicate: shareText(s.Duplicate), Cut: s.Cut, Seed: s.Seed,
	}
	if s.Queue > 0 {
		d.Queue = strconv.FormatInt(int64(s.Queue), 10) + "B"
	}
	if e := s.Loss.Elliott; e != nil {
		d.Elliott = &ElliottDescription{shareText(e.ToBad), shareText(e.ToGood), shareText(e.LossGood), shareText(e.LossBad)}
	}
	for _, o := range s.Outages {
		d.Outages = append(d.Outages, OutageDescription{durationText(o.From), durationText(o.For), durationText(o.Every)})
	}
	if s.Trace != nil {
		if d.Trace = s.Trace.file; d.Trace == "" {
			return d, errors.New("trace: it comes from no file, so nobody else can read it")
		}
	}
	return d, nil
}

// String prints "{rate:18.88Mbps,delay:2.5ms}".
func (s Spec) String() string {
	d, err := Describe(s)
	if err != nil {
		d.Trace = "of " + rateText(s.Trace.Mean())
	}
	text, err := json.Marshal(d)
	if err != nil {
		return err.Error()
	}
	return strings.ReplaceAll(string(text), `"`, "")
}

func durationText(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return d.String()
}

// rateText is in Mbps where that reads back as the same rate.
func rateText(r partition.BitsPerSecond) string {
	v := float64(r)
	switch {
	case v == 0:
		return ""
	case v/1e6*1e6 == v:
		return strconv.FormatFloat(v/1e6, 'f', -1, 64) + "Mbps"
	}
	return strconv.FormatFloat(v, 'f', -1, 64) + "bps"
}

// shareText is in percent where that reads back as the same share.
func shareText(v float64) string {
	switch {
	case v == 0:
		return ""
	case v*100/100 == v:
		return strconv.FormatFloat(v*100, 'f', -1, 64) + "%"
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}
