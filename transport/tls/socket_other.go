//go:build !linux

package tls

import "fmt"

type poll struct{}

func newPoll() *poll { return nil }

func (socket) tune(string) error { return nil }

func (socket) queue(int) {}

func (socket) congestion() string { return "" }

func (socket) path() (path, bool) { return path{}, false }

func (socket) writable() bool { return false }

func (socket) abort() {}

func (socket) checkCongestion(name string) error {
	if name != Auto {
		return fmt.Errorf("congestion control %q: only Linux lets a program choose; leave it at %q", name, Auto)
	}
	return nil
}
