package main

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// eachCommand visits the commands that a person can run.
func eachCommand(c *cobra.Command, visit func(*cobra.Command)) {
	for _, sub := range c.Commands() {
		if sub.Name() != "help" && sub.Name() != "completion" {
			eachCommand(sub, visit)
		}
	}
	visit(c)
}

func TestEveryCommandExplainsItself(t *testing.T) {
	eachCommand(newRoot(), func(c *cobra.Command) {
		if c.Short == "" || !strings.Contains(c.Example, "cleave") {
			t.Errorf("%s: no summary or no example", c.CommandPath())
		}
		if strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: the summary ends in a full stop", c.CommandPath())
		}
	})
}

func TestCommandsThatPrintFactsHaveJSON(t *testing.T) {
	silent := map[string]bool{
		"cleave": true, "cleave model": true, "cleave cluster": true, "cleave stream": true, "cleave bench": true, "cleave experiment": true, // groups
		"cleave bench docs": true, // prints Markdown
		"cleave setup":      true, "cleave agent": true, "cleave model rm": true, "cleave model export": true,
	}
	eachCommand(newRoot(), func(c *cobra.Command) {
		if !silent[c.CommandPath()] && c.Flags().Lookup("json") == nil {
			t.Errorf("%s has no --json", c.CommandPath())
		}
	})
}

func TestSizesAndShapes(t *testing.T) {
	if w, h, err := parseSize("640x480"); w != 640 || h != 480 || err != nil {
		t.Errorf("640x480: %d, %d, %v", w, h, err)
	}
	for _, bad := range []string{"", "640", "0x1", "x", "-1x5", "640x480x3", "99999999x99999999"} {
		if _, _, err := parseSize(bad); err == nil {
			t.Errorf("size %q is accepted", bad)
		}
	}
	shapes, err := parseShapes([]string{"a=1,3", "b=x=2"})
	if err != nil || shapes["a"].String() != "[1 3]" || shapes["b=x"].String() != "[2]" {
		t.Errorf("%v, %v", shapes, err)
	}
	for _, bad := range [][]string{{""}, {"a"}, {"a="}, {"=1"}, {"a=1,"}, {"a=0"}, {"a=1", "a=2"}} {
		if _, err := parseShapes(bad); err == nil {
			t.Errorf("shapes %q are accepted", bad)
		}
	}
}
