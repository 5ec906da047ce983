package soak

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"
)

// held is what a process holds.
type held struct{ goroutines, files int }

func count() (held, error) {
	files, err := os.ReadDir("/proc/self/fd")
	return held{runtime.NumGoroutine(), len(files)}, err
}

// settleTime is how long what is closed may take to be gone.
const settleTime = 10 * time.Second

// settled counts until no more is held than before, or settleTime has passed.
func settled(ctx context.Context, before held) (held, error) {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		now, err := count()
		if err != nil || now.goroutines <= before.goroutines && now.files <= before.files {
			return now, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return now, nil
		}
	}
}

// resident is the process's resident memory in bytes.
func resident() (int, error) {
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, err
	}
	var size, pages int
	if _, err := fmt.Fscan(strings.NewReader(string(data)), &size, &pages); err != nil {
		return 0, fmt.Errorf("/proc/self/statm: %w", err)
	}
	return pages * os.Getpagesize(), nil
}
