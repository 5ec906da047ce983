package pipeline_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/cleaveml/cleave/models/pipeline"
	"github.com/cleaveml/cleave/transport"
)

// TestCodecsAreTransports holds the codecs of a description to those that can
// put a tensor on a wire: no more, no fewer, and lossless by default.
func TestCodecsAreTransports(t *testing.T) {
	var names []string
	for _, c := range transport.Codecs() {
		names = append(names, string(c))
	}
	if err := (pipeline.Pipeline{Codecs: names}).Validate(); err != nil {
		t.Error(err)
	}
	err := (pipeline.Pipeline{Codecs: []string{"gif"}}).Validate()
	var field *pipeline.FieldError
	if want := `"gif" is not one of ` + strings.Join(names, ", "); !errors.As(err, &field) || field.Field != "codecs" || field.Why != want {
		t.Errorf("gif: %v, want codecs: %s", err, want)
	}
	for _, name := range pipeline.Lossless() {
		if c := transport.Codec(name); !c.Known() || !c.Lossless() {
			t.Errorf("%s is allowed by default and not a lossless codec", name)
		}
	}
}
