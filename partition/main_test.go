package partition

import (
	"flag"
	"os"
	"testing"
)

// TestMain asks for thousands of random problems; -rapid.checks overrides it.
func TestMain(m *testing.M) {
	if err := flag.Set("rapid.checks", "2000"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}
