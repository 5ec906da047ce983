//go:build !linux

package rivals

import (
	"errors"
	"net"
)

func setCongestion(int, string) error {
	return errors.New("to choose a congestion control needs Linux")
}

func congestionOf(net.Conn) string { return "" }
