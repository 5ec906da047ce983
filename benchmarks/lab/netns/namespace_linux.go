package netns

import (
	"fmt"
	"net/netip"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/cleaveml/cleave/partition"
)

const (
	tunPath = "/dev/net/tun"
	device  = "cleave0" // the TUN device in every namespace
	mtu     = 1500
	// queueLength in packets is long, so that the link drops and not the device.
	queueLength = 10_000
)

// end is a host's namespace and our side of its TUN device.
type end struct {
	host partition.HostID
	ns   *os.File // keeps the namespace
	tun  *os.File

	// Of the host now; Net.mu guards them.
	addr   netip.Addr
	placed bool // somebody has asked for it
}

func newEnd(host partition.HostID, addr netip.Addr) (*end, error) {
	e := &end{host: host, addr: addr}
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		var err error
		if e.ns, err = os.Open("/proc/thread-self/ns/net"); err != nil {
			return err
		}
		if e.tun, err = openTUN(); err != nil {
			return err
		}
		return e.up()
	})
	if err != nil {
		e.close()
		return nil, fmt.Errorf("namespace of %s: %w", host, err)
	}
	return e, nil
}

// onThread runs f on a thread of its own, which ends with it: what f does to
// the thread's namespace concerns nobody else.
func onThread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked
		done <- f()
	}()
	return <-done
}

// in runs f on a thread in the namespace. Sockets that f opens stay there.
func (e *end) in(f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(e.ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter the namespace of %s: %w", e.host, err)
		}
		return f()
	})
}

// openTUN makes the device in the thread's namespace; it goes when the file is
// closed.
func openTUN() (*os.File, error) {
	fd, err := unix.Open(tunPath, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: tunPath, Err: err}
	}
	ifr, err := unix.NewIfreq(device)
	if err == nil {
		ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("make TUN device: %w", err)
	}
	return os.NewFile(uintptr(fd), tunPath), nil // not blocking: the runtime polls it
}

// up gives the device its address and starts it and the loopback device of the
// thread's namespace.
func (e *end) up() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	defer unix.Close(fd)
	set := func(name string, what string, request uint, fill func(*unix.Ifreq) error) {
		if err != nil {
			return
		}
		var ifr *unix.Ifreq
		if ifr, err = unix.NewIfreq(name); err == nil {
			err = fill(ifr)
		}
		if err == nil {
			err = unix.IoctlIfreq(fd, request, ifr)
		}
		if err != nil {
			err = fmt.Errorf("set %s of %s: %w", what, name, err)
		}
	}
	started := func(ifr *unix.Ifreq) error { ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING); return nil }
	set("lo", "flags", unix.SIOCSIFFLAGS, started)
	set(device, "address", unix.SIOCSIFADDR, func(ifr *unix.Ifreq) error { return ifr.SetInet4Addr(e.addr.AsSlice()) })
	set(device, "mask", unix.SIOCSIFNETMASK, func(ifr *unix.Ifreq) error { return ifr.SetInet4Addr([]byte{255, 255, 255, 0}) })
	set(device, "MTU", unix.SIOCSIFMTU, func(ifr *unix.Ifreq) error { ifr.SetUint32(mtu); return nil })
	set(device, "queue", unix.SIOCSIFTXQLEN, func(ifr *unix.Ifreq) error { ifr.SetUint32(queueLength); return nil })
	set(device, "flags", unix.SIOCSIFFLAGS, started)
	return err
}

// close lets go of what was made, the device too.
func (e *end) close() {
	for _, f := range []*os.File{e.tun, e.ns} {
		if f != nil {
			_ = f.Close() // nothing was written that could be lost
		}
	}
}
