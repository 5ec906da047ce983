package tls

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cleaveml/cleave/models/tensor"
)

// control runs f on the socket's descriptor.
func (s socket) control(f func(fd int) error) error {
	if s.raw == nil {
		return syscall.ENOTSUP
	}
	var err error
	if outer := s.raw.Control(func(fd uintptr) { err = f(int(fd)) }); outer != nil {
		return outer
	}
	return err
}

// tune keeps the queue in the kernel short and sets the congestion control,
// where that is possible.
func (s socket) tune(congestion string) error {
	return s.control(func(fd int) error {
		limitQueue(fd, recordSize)
		if congestion != Auto {
			return unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, congestion)
		}
		_ = unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, "bbr") // else the kernel's default
		return nil
	})
}

// limitQueue bounds what the kernel takes ahead of what it can send, bytes: a
// short request cannot pass what is queued there. Where it does not heed that,
// pings are slower.
func limitQueue(fd, n int) {
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, n)
}

// queue is limitQueue.
func (s socket) queue(n int) {
	_ = s.control(func(fd int) error { // a queue of another length does no harm
		limitQueue(fd, n)
		return nil
	})
}

// congestion is the congestion control in use, "" where that is not known.
func (s socket) congestion() string {
	var name string
	_ = s.control(func(fd int) (err error) {
		name, err = unix.GetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION)
		return err
	})
	return name
}

// path reports false where the kernel does not tell.
func (s socket) path() (path, bool) {
	var i *unix.TCPInfo
	if err := s.control(func(fd int) (err error) {
		i, err = unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		return err
	}); err != nil {
		return path{}, false
	}
	return path{
		minRTT: time.Duration(i.Min_rtt) * time.Microsecond, rtt: time.Duration(i.Rtt) * time.Microsecond,
		window: tensor.Bytes(i.Snd_cwnd) * tensor.Bytes(i.Snd_mss), acknowledged: i.Bytes_acked,
		// What the peer had twice was not lost.
		sent: uint64(i.Data_segs_out), lost: uint64(max(0, int64(i.Total_retrans)-int64(i.Dsack_dups))),
	}, true
}

// poll asks whether a socket takes bytes, without allocating.
type poll struct {
	ask   func(fd uintptr)
	files [1]unix.PollFd
	yes   bool
}

func newPoll() *poll {
	p := &poll{}
	p.ask = func(fd uintptr) {
		p.files[0] = unix.PollFd{Fd: int32(fd), Events: unix.POLLOUT}
		n, err := unix.Poll(p.files[:], 0)
		p.yes = n == 1 && err == nil && p.files[0].Revents == unix.POLLOUT
	}
	return p
}

// writable reports whether a record can be written without waiting. It is not
// safe for concurrent use.
func (s socket) writable() bool {
	return s.raw != nil && s.raw.Control(s.poll.ask) == nil && s.poll.yes
}

// checkCongestion says why the kernel refuses a congestion control.
func (s socket) checkCongestion(name string) error {
	if err := s.tune(name); err != nil && s.raw != nil {
		known, _ := os.ReadFile("/proc/sys/net/ipv4/tcp_available_congestion_control") // for the message only
		return fmt.Errorf("the kernel refuses congestion control %q, it has %s; choose one of these or %q: %w",
			name, strings.TrimSpace(string(known)), Auto, err)
	}
	return nil
}

// abort makes the close of the socket final: what is not sent is forgotten.
func (s socket) abort() {
	_ = s.control(func(fd int) error {
		return unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	})
}
