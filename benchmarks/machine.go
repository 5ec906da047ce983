package benchmarks

import (
	"cmp"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
)

// Machine is where an experiment ran.
type Machine struct {
	OS        string            `json:"os"`
	Kernel    string            `json:"kernel"`
	Arch      string            `json:"arch"`
	CPU       string            `json:"cpu"`
	Cores     int               `json:"cores"`
	MemoryMB  int64             `json:"memory_mb"`
	Go        string            `json:"go"`
	Runtime   string            `json:"runtime"`
	Libraries map[string]string `json:"libraries"` // version by module
}

// libraries that figures depend on.
func libraries() []string {
	return []string{"github.com/hashicorp/memberlist", "github.com/klauspost/compress", "github.com/quic-go/quic-go", "github.com/yalue/onnxruntime_go"}
}

func thisMachine(runtimeVersion, cpu string) Machine {
	m := Machine{
		OS: runtime.GOOS, Kernel: procText("/proc/sys/kernel/osrelease"), Arch: runtime.GOARCH, CPU: cpuName(cpu), Cores: runtime.NumCPU(),
		MemoryMB: memory(), Go: runtime.Version(), Runtime: cmp.Or(runtimeVersion, "none"), Libraries: map[string]string{},
	}
	if build, ok := debug.ReadBuildInfo(); ok {
		for _, d := range build.Deps {
			if slices.Contains(libraries(), d.Path) {
				m.Libraries[d.Path] = d.Version
			}
		}
	}
	return m
}

// Text is a machine in one line.
func (m Machine) Text() string {
	return fmt.Sprintf("%s, %d cores, %d MB, %s/%s %s", m.CPU, m.Cores, m.MemoryMB, m.OS, m.Arch, m.Kernel)
}

// dirty: the program was built from files that no commit has.
func dirty(revision string) bool {
	if strings.HasSuffix(revision, "-dirty") {
		return true
	}
	build, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(build.Settings, debug.BuildSetting{Key: "vcs.modified", Value: "true"})
}

// procText is a file of /proc in one line, "" where there is none.
func procText(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// procField is the rest of the line that begins with name, "" without one.
func procField(path, name string) string {
	for line := range strings.Lines(procText(path)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			return strings.TrimSpace(strings.TrimLeft(rest, "\t: "))
		}
	}
	return ""
}

// cpuName is the processor's name where the system tells it, and its features.
func cpuName(features string) string {
	name := procField("/proc/cpuinfo", "model name")
	switch {
	case name == "":
		return features
	case features == "":
		return name
	}
	return name + " (" + features + ")"
}

func memory() int64 {
	kb, err := strconv.ParseInt(strings.TrimSuffix(procField("/proc/meminfo", "MemTotal"), " kB"), 10, 64)
	if err != nil {
		return 0
	}
	return kb >> 10
}
