package shaping

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cleaveml/cleave/benchmarks"
	"github.com/cleaveml/cleave/benchmarks/lab/shaper"
	"github.com/cleaveml/cleave/partition"
)

// flow is packets from one end of a path to the other, each end in a thread of
// its own.
type flow struct {
	path    *path
	payload int
	// punctual: what other programs do on the machine should not delay the ends,
	// who work for moments only.
	punctual bool
	sent     atomic.Int64
	came     atomic.Int64
	// arrived hears of every packet, in the receiver's thread.
	arrived func(id uint32, at time.Time)

	sendCPU, receiveCPU time.Duration
}

const (
	// quiet is how long nothing comes until a flow has ended that misses packets.
	quiet = 500 * time.Millisecond
	poll  = 2 * time.Millisecond
)

// run has send send, and returns when all has arrived that will, with the
// emulator's CPU time in cores.
func (f *flow) run(ctx context.Context, send func() error) (cpu float64, err error) {
	start, before := time.Now(), processCPU()
	sent, received := make(chan error, 1), make(chan error, 1)
	go func() { received <- f.receive() }()
	go func() {
		f.lock()
		from := threadCPU()
		err := send()
		f.sendCPU = threadCPU() - from
		sent <- err
	}()
	err = <-sent
	came, since := f.came.Load(), time.Now()
	for err == nil && !f.complete() && time.Since(since) < quiet {
		select {
		case <-time.After(poll):
		case <-ctx.Done():
			err = ctx.Err()
		}
		if now := f.came.Load(); now != came {
			came, since = now, time.Now()
		}
	}
	wall := time.Since(start)
	err = errors.Join(err, f.path.to.SetReadDeadline(time.Now()), <-received)
	others := f.receiveCPU
	if !f.path.emulates {
		others += f.sendCPU
	}
	return max(0, float64(processCPU()-before-others)/float64(wall)), err
}

// lock gives the goroutine a thread that ends with it.
func (f *flow) lock() {
	runtime.LockOSThread()
	if f.punctual {
		shaper.Punctual()
	}
}

// complete says whether every packet has arrived or was lost.
func (f *flow) complete() bool {
	c := f.path.counters()
	return f.came.Load()+c.Lost+c.Dropped >= f.sent.Load()
}

// put sends the next packet.
func (f *flow) put(data []byte) error {
	binary.BigEndian.PutUint32(data, uint32(f.sent.Add(1)-1))
	_, err := f.path.from.WriteTo(data, f.path.to.LocalAddr())
	return err
}

// receive takes packets until the socket's deadline is set to now.
func (f *flow) receive() error {
	f.lock()
	from := threadCPU()
	defer func() { f.receiveCPU = threadCPU() - from }()
	data := make([]byte, 1<<16)
	for {
		n, _, err := f.path.to.ReadFromUDPAddrPort(data)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil
		case err != nil:
			return err
		case n == f.payload:
			f.arrived(binary.BigEndian.Uint32(data), time.Now())
			f.came.Add(1)
		}
	}
}

// rate takes a flow that wants more than the link has.
func (r *Row) rate(ctx context.Context, p *path, rate partition.BitsPerSecond, d time.Duration) error {
	const packet = 1500
	const excess = 1.15
	const ahead = 50 * time.Millisecond // of what the link takes, so that the sender may be late
	f := &flow{path: p, payload: packet - headers, punctual: true}
	var at []time.Time
	f.arrived = func(_ uint32, now time.Time) { at = append(at, now) }
	data := make([]byte, f.payload)
	cpu, err := f.run(ctx, func() error {
		for start := time.Now(); time.Since(start) < d && ctx.Err() == nil; time.Sleep(time.Millisecond) {
			due := float64(rate) / 8 * (ahead + time.Duration(excess*float64(time.Since(start)))).Seconds()
			for float64(f.sent.Load()*packet) < due {
				if err := f.put(data); err != nil {
					return err
				}
			}
		}
		return ctx.Err()
	})
	if err == nil && len(at) < 10 {
		err = errors.New("no flow has come")
	}
	if err != nil {
		return err
	}
	half := len(at) / 2
	var took []time.Duration
	for i := range half {
		took = append(took, at[i+half].Sub(at[i]))
	}
	r.Packets, r.CPU = int(f.sent.Load()), cpu
	r.Want = float64(rate) * float64(f.payload) / packet / 1e6
	r.Got = float64(half*f.payload) * 8 / benchmarks.Quantile(took, 0.5).Seconds() / 1e6
	r.Error = math.Abs(r.Got/r.Want - 1)
	return nil
}

// delay times single packets.
func (r *Row) delay(ctx context.Context, p *path) error {
	const packets, gap = 150, 4 * time.Millisecond
	f := &flow{path: p, payload: 100, punctual: true}
	var sent [packets]atomic.Int64 // ns since the start
	var took []time.Duration
	start := time.Now()
	f.arrived = func(id uint32, at time.Time) {
		if id < packets {
			took = append(took, at.Sub(start)-time.Duration(sent[id].Load()))
		}
	}
	data := make([]byte, f.payload)
	cpu, err := f.run(ctx, func() error {
		for i := range packets {
			sent[i].Store(int64(time.Since(start)))
			if err := f.put(data); err != nil {
				return err
			}
			time.Sleep(gap)
		}
		return ctx.Err()
	})
	if err == nil && len(took) == 0 {
		err = errors.New("no packet has come")
	}
	if err != nil {
		return err
	}
	slices.Sort(took)
	r.Packets, r.CPU = packets, cpu
	r.Got = float64(benchmarks.Quantile(took, 0.5)) / 1e6
	r.P95 = float64(benchmarks.Quantile(took, 0.95)) / 1e6
	r.Error = math.Abs(r.Got - r.Want)
	return nil
}

// loss counts what does not arrive.
func (r *Row) loss(ctx context.Context, p *path, packets int) error {
	const batch, window = 32, 128 // as many wait for the receiver as any socket has room for
	f := &flow{path: p, payload: 32, arrived: func(uint32, time.Time) {}}
	data := make([]byte, f.payload)
	cpu, err := f.run(ctx, func() error {
		stuck := time.Now()
		for i := 0; i < packets && ctx.Err() == nil; {
			c := p.counters()
			if done := f.came.Load() + c.Lost; f.sent.Load()-done > window {
				if time.Since(stuck) > quiet {
					return errors.New("packets are missing that the link has not lost")
				}
				time.Sleep(20 * time.Microsecond)
				continue
			}
			stuck = time.Now()
			for end := min(i+batch, packets); i < end; i++ {
				if err := f.put(data); err != nil {
					return err
				}
			}
		}
		return ctx.Err()
	})
	if err != nil {
		return err
	}
	r.Packets, r.CPU = packets, cpu
	r.Got = 1 - float64(f.came.Load())/float64(packets)
	r.Error = math.Abs(r.Got/r.Want - 1)
	return nil
}
