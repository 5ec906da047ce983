package demo

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/cleaveml/cleave/models/pipeline"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/nodes"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/scheduler"
	"github.com/cleaveml/cleave/transport"
)

// gap lies before every request, as between the frames of a stream: whatever
// the strategy before it did, each starts on hosts that have
// waited as long.
const gap = 40 * time.Millisecond

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// request sends frame n, counted around, and judges what comes back. The error
// is only of ctx.
func (d *Demo) request(ctx context.Context, row *Row, n int, settling bool) error {
	limited, cancel := context.WithTimeout(ctx, d.Budget)
	defer cancel()
	f := d.frames[n%len(d.frames)]
	var answers map[string]tensor.Tensor
	var report nodes.InferReport
	var err error
	s := Sample{sent: time.Now(), Settling: settling}
	if row.Strategy == Cleave {
		answers, report, err = d.sender.Send(limited, d.Graph, Stream, f.inputs)
		s.Epoch = scheduler.Epoch(report.Epoch)
	} else {
		answers, report, err = d.sender.Infer(limited, d.Graph, row.epoch, f.inputs)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	s.done, s.At, s.Outcome = time.Now(), d.since(s.sent), outcome(err)
	d.mu.Lock()
	defer d.mu.Unlock()
	row.Sent++
	switch s.Outcome {
	case Lost:
		row.Lost++
		d.Say("  lost: %s, frame %d: %v", row.Strategy, n+1, err)
	case Refused:
		row.Refused++
		d.Say("  refused: %s, frame %d: %v", row.Strategy, n+1, err)
	case Answered:
		row.Answered++
		s.Latency, s.Finished = ms(report.Elapsed), finished(report)
		row.account(report, !settling)
		if d.sentRaw(row, s.sent, report) {
			row.RawSent++
		}
		if s.Wrong = !d.judge(row, report, n, answers, f.uncut); s.Wrong {
			row.Wrong++
		}
	}
	row.Samples = append(row.Samples, s)
	return nil
}

// outcome sorts errors: a typed refusal is one that an agent gave a reason for.
func outcome(err error) Outcome {
	var e *nodes.Error
	switch {
	case err == nil:
		return Answered
	case errors.As(err, &e) && e.Refusal:
		return Refused
	}
	return Lost
}

// judge compares an answer with the uncut network's. Only a plan that has lossy
// codecs excuses an answer that is not the same, but says the same. d.mu is held.
func (d *Demo) judge(row *Row, report nodes.InferReport, n int, answers, uncut map[string]tensor.Tensor) bool {
	got, err := d.Entry.Pipeline.Read(answers)
	var want pipeline.Answer
	if err == nil {
		want, err = d.Entry.Pipeline.Read(uncut)
	}
	if err == nil {
		like := pipeline.Likeness{Tolerance: max(d.Graph.Form.Tolerance(), 1e-12)}
		err = pipeline.Compare(got, want, like)
		if err != nil && d.lossy(row, report) {
			row.lossy, like.Lossy = true, true
			err = pipeline.Compare(got, want, like)
		}
	}
	if err != nil {
		d.Say("  wrong: %s, frame %d: %v", row.Strategy, n+1, err)
		return false
	}
	for name, t := range answers {
		if drift, err := tensor.Drift(t, uncut[name]); err == nil {
			row.Drift = max(row.Drift, drift)
		}
	}
	if n == 0 && row.Strategy == Cleave && d.result.First.Kind == "" {
		d.result.First = got
	}
	return true
}

// lossy reports whether the plan that a request ran by has lossy codecs. d.mu is held.
func (d *Demo) lossy(row *Row, report nodes.InferReport) bool {
	if plan, known := d.ranBy(row, report); known {
		return lossy(plan)
	}
	return strings.Contains(report.Plan, string(transport.FP16)) || strings.Contains(report.Plan, string(transport.Int8))
}

// ranBy is the plan of a request, not known of one that came and went between
// two looks at the stream. d.mu is held.
func (d *Demo) ranBy(row *Row, report nodes.InferReport) (plan partition.Plan, known bool) {
	if row.Strategy != Cleave {
		return row.plan, true
	}
	plan, known = d.plans[scheduler.Epoch(report.Epoch)]
	return plan, known
}

// sentRaw reports whether a request's plan sends raw input though it began when
// that had to stay. Of a plan that is not known it sees only whether the input
// left the first host as it was. d.mu is held.
func (d *Demo) sentRaw(row *Row, sent time.Time, report nodes.InferReport) bool {
	if d.rawSince.IsZero() || sent.Before(d.rawSince) {
		return false
	}
	plan, known := d.ranBy(row, report)
	if !known {
		return len(report.Hosts) > 1 && report.Hosts[0].Ops == 0
	}
	_, crosses := plan.CrossesRaw(nodes.RawValues(d.Graph))
	return crosses
}

// hold notes whether raw-stays-on-device holds from now on.
func (d *Demo) hold(on bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rawSince = time.Time{}
	if on {
		d.rawSince = time.Now()
	}
}

func lossy(p partition.Plan) bool {
	for _, hops := range [][]partition.Hop{p.Hops, p.Back} {
		for _, h := range hops {
			for _, t := range h.Tensors {
				if !transport.Codec(t.Codec).Lossless() {
					return true
				}
			}
		}
	}
	return false
}

// load is senders that keep requests of the stream under way.
type load struct {
	wg     sync.WaitGroup
	quit   chan struct{}
	cancel context.CancelFunc
	ctx    context.Context //nolint:containedctx // of its goroutines: done when one of them cannot go on
}

// startLoad starts n senders, each of which sends its next request so long after
// its answer, and returns when all of them have begun.
func (d *Demo) startLoad(ctx context.Context, row *Row, n int, gap time.Duration) *load {
	l := &load{quit: make(chan struct{})}
	l.ctx, l.cancel = context.WithCancel(ctx)
	begun := make(chan struct{}, n)
	for range n {
		l.wg.Go(func() {
			for sent := 0; ; sent++ {
				select {
				case <-l.quit:
					return
				default:
				}
				if sent == 0 {
					begun <- struct{}{}
				}
				if d.request(l.ctx, row, sent, true) != nil || pause(l.ctx, gap) != nil {
					return
				}
			}
		})
	}
	for range n {
		select {
		case <-begun:
		case <-l.ctx.Done():
		}
	}
	return l
}

// stop waits for the requests under way and returns ctx's error if that ended.
func (l *load) stop() error {
	close(l.quit)
	l.wg.Wait()
	err := l.ctx.Err()
	l.cancel()
	return err
}
