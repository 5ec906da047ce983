package pipeline

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxDescription bounds what Parse reads; labels of a thousand classes take
// some 30 KB.
const maxDescription = 1 << 20

// Numbers is one number for all channels or one for each.
type Numbers []float64

// UnmarshalYAML accepts a number or a list of numbers.
func (n *Numbers) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind == yaml.ScalarNode {
		var one float64
		if err := node.Decode(&one); err != nil {
			return err
		}
		*n = Numbers{one}
		return nil
	}
	return node.Decode((*[]float64)(n))
}

// Parse reads a description, fills in the defaults and validates it. An empty
// one is the default. The error is one line that begins with "line N:".
func Parse(text []byte) (Pipeline, error) {
	if len(text) > maxDescription {
		return Pipeline{}, fmt.Errorf("line 1: the description is over %d bytes", maxDescription)
	}
	var root yaml.Node
	if err := yaml.Unmarshal(text, &root); err != nil {
		return Pipeline{}, oneLine(err)
	}
	var p Pipeline
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&p); err != nil && !errors.Is(err, io.EOF) {
		return Pipeline{}, oneLine(err)
	}
	var rest yaml.Node
	if err := d.Decode(&rest); err == nil {
		return Pipeline{}, fmt.Errorf("line %d: one document only", rest.Line)
	} else if !errors.Is(err, io.EOF) {
		return Pipeline{}, oneLine(err)
	}
	p = p.withDefaults()
	var bad *FieldError
	if errors.As(p.Validate(), &bad) {
		return Pipeline{}, fmt.Errorf("line %d: %w", lineOf(&root, bad.Field), bad)
	}
	return p, nil
}

// lineOf finds the line of a field, or of the deepest key above it that is
// there.
func lineOf(root *yaml.Node, field string) int {
	node, line := root, 1
	if root.Kind == yaml.DocumentNode && len(root.Content) > 0 {
		node = root.Content[0]
	}
	for key := range strings.SplitSeq(field, ".") {
		var next *yaml.Node
		for i := 0; node != nil && i+1 < len(node.Content) && node.Kind == yaml.MappingNode; i += 2 {
			if node.Content[i].Value == key {
				line, next = node.Content[i].Line, node.Content[i+1]
			}
		}
		node = next
	}
	return line
}

var (
	unknownKey = regexp.MustCompile(`^(line \d+: )field (.*) not found in type .*$`)
	twiceKey   = regexp.MustCompile(`^(line \d+: )mapping key (.*) already defined at line (\d+)$`)
	wrongType  = regexp.MustCompile(`(?s)^(line \d+: )cannot unmarshal !!\w+ ?(.*) into (.*)$`)
	syntax     = regexp.MustCompile(`^line \d+: `)
)

// oneLine turns an error of the YAML library into one line in the words of the
// file, without the names of Go types.
func oneLine(err error) error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	var several *yaml.TypeError
	if errors.As(err, &several) && len(several.Errors) > 0 {
		text = several.Errors[0]
	}
	if m := unknownKey.FindStringSubmatch(text); m != nil {
		text = m[1] + "unknown key " + m[2]
	}
	if m := twiceKey.FindStringSubmatch(text); m != nil {
		text = m[1] + m[2] + " is already on line " + m[3]
	}
	if m := wrongType.FindStringSubmatch(text); m != nil {
		text = m[1] + strings.TrimSpace(m[2]+" is not "+wanted(m[3]))
	}
	if !syntax.MatchString(text) {
		text = "line 1: " + text
	}
	text, _, _ = strings.Cut(text, "\n")
	return errors.New(text)
}

func wanted(goType string) string {
	switch {
	case strings.HasPrefix(goType, "int"):
		return "a whole number"
	case goType == "float64":
		return "a number"
	case goType == "bool":
		return "true or false"
	case goType == "string":
		return "a text"
	case strings.HasPrefix(goType, "[]"):
		return "a list"
	default:
		return "a group of keys"
	}
}
