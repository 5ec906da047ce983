//go:build !linux

package rivals

import "errors"

func setCongestion(int, string) error {
	return errors.New("to choose a congestion control needs Linux")
}
