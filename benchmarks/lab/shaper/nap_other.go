//go:build !linux

package shaper

import "time"

// nap returns after about d.
func nap(d time.Duration) { time.Sleep(d) }

// Punctual does nothing here.
func Punctual() {}
