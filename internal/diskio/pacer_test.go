package diskio

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// stream moves chunks of a MiB through p, without any I/O, until ctx ends.
func stream(ctx context.Context, p *Pacer) {
	for {
		n, err := p.Admit(ctx, mib)
		if err != nil {
			return
		}
		p.Finished(Moved{Done: n, Durable: n})
	}
}

// startStreams runs n streams; stop ends them and waits.
func startStreams(p *Pacer, n int) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	for range n {
		group.Go(func() { stream(ctx, p) })
	}
	return func() {
		cancel()
		group.Wait()
	}
}

func checkRate(t *testing.T, what string, got int64, d time.Duration, limit int64) {
	t.Helper()
	want := float64(limit) * d.Seconds()
	if ratio := float64(got) / want; ratio < 0.95 || ratio > 1.05 {
		t.Errorf("%s: %d bytes in %v, %.3f of the limit", what, got, d, ratio)
	}
}

func TestLimitHoldsForAllStreamsTogether(t *testing.T) {
	for _, limit := range []int64{1 << 10, 100_000, 20 * mib, 1 << 30} {
		synctest.Test(t, func(t *testing.T) {
			p := NewPacer()
			p.SetLimit(limit)
			stop := startStreams(p, 4)
			time.Sleep(10 * time.Second)
			got := p.Counts().Done
			stop()
			checkRate(t, "streams", got, 10*time.Second, limit)
		})
	}
}

func TestLimitChangesWithinASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPacer()
		p.SetLimit(1 << 10)
		stop := startStreams(p, 3)
		defer stop()
		time.Sleep(3300 * time.Millisecond)
		for _, limit := range []int64{64 * mib, 4 << 10, mib} {
			p.SetLimit(limit)
			time.Sleep(time.Second)
			before := p.Counts().Done
			time.Sleep(10 * time.Second)
			checkRate(t, "after the change", p.Counts().Done-before, 10*time.Second, limit)
		}
		if p.Limit() != mib {
			t.Errorf("limit in force is %d", p.Limit())
		}
	})
}

// Who says the same limit again and again does not keep a stream waiting.
func TestLimitThatIsSaidOftenHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPacer()
		p.SetLimit(4 << 10)
		admitted := make(chan int64)
		go func() {
			n, _ := p.Admit(context.Background(), mib)
			admitted <- n
		}()
		for range 1000 { // a second; the first chunk is due after a tenth
			time.Sleep(time.Millisecond)
			p.SetLimit(4 << 10)
			select {
			case n := <-admitted:
				if n != chunkUnder(4<<10) {
					t.Errorf("admitted %d bytes", n)
				}
				return
			default:
			}
		}
		p.SetLimit(0)
		<-admitted
		t.Error("nothing was admitted in a second")
	})
}

func TestChunksUnderALimitAreSmall(t *testing.T) {
	for limit, want := range map[int64]int64{1: 512, 1 << 10: 512, 100 << 10: 8192, 1 << 20: 102400, 1 << 30: mib} {
		synctest.Test(t, func(t *testing.T) {
			p := NewPacer()
			p.SetLimit(limit)
			n, err := p.Admit(context.Background(), mib)
			must(t, err)
			if n != want {
				t.Errorf("under %d bytes/s a chunk is %d bytes, want %d", limit, n, want)
			}
		})
	}
}

func TestCancelEndsAWaitAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cause := errors.New("cause")
		for _, prepare := range []func(p *Pacer){
			func(p *Pacer) { p.SetLimit(1) },
			func(p *Pacer) { must(t, p.Pause(context.Background())) },
		} {
			p := NewPacer()
			prepare(p)
			ctx, cancel := context.WithCancelCause(context.Background())
			time.AfterFunc(time.Second, func() { cancel(cause) })
			start := time.Now()
			if _, err := p.Admit(ctx, 512); !errors.Is(err, cause) {
				t.Errorf("error is %v", err)
			}
			if d := time.Since(start); d != time.Second {
				t.Errorf("canceled after 1s, noticed after %v", d)
			}
		}
	})
}

func TestPauseWaitsForWhatIsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPacer()
		_, err := p.Admit(context.Background(), 1)
		must(t, err)
		p.hold()
		paused := make(chan error, 1)
		go func() { paused <- p.Pause(context.Background()) }()
		synctest.Wait()
		p.Finished(Moved{})
		synctest.Wait()
		if len(paused) != 0 {
			t.Fatal("paused with write-back under way")
		}
		p.release()
		must(t, <-paused)
	})
}

func TestPauseStopsAndResumeContinuesAtTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPacer()
		p.SetLimit(mib)
		stop := startStreams(p, 2)
		defer stop()
		time.Sleep(time.Second)
		must(t, p.Pause(context.Background()))
		before := p.Counts()
		time.Sleep(time.Hour)
		if p.Counts() != before {
			t.Error("something moved during the pause")
		}
		p.Resume()
		time.Sleep(10 * time.Second)
		checkRate(t, "after the pause", p.Counts().Done-before.Done, 10*time.Second, mib)
	})
}

func TestPauseThatCannotComplete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPacer()
		p.hold()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := p.Pause(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error is %v", err)
		}
		time.AfterFunc(time.Second, p.Resume)
		if err := p.Pause(context.Background()); !errors.Is(err, ErrResumed) {
			t.Errorf("error is %v", err)
		}
		p.release()
		must(t, p.Pause(context.Background()))
	})
}

func TestWhatIsForeseenIsExpectedOnce(t *testing.T) {
	p := NewPacer()
	p.Foresee(1000)
	for _, step := range []struct {
		do   func()
		want int64
	}{
		{func() { p.Expect(300, 0) }, 1000},
		{func() { p.Foresee(-200) }, 800},  // will not come
		{func() { p.Expect(600, 0) }, 900}, // more than was foreseen
		{func() { p.Foresee(-1) }, 900},
		{func() { p.Expect(100, 0) }, 1000},
	} {
		step.do()
		if got := p.Counts(); got.Total != step.want || got.WorkAll != step.want {
			t.Errorf("total %d, work %d, want %d", got.Total, got.WorkAll, step.want)
		}
	}
}

func TestPhasesCountAfreshButBytesOfTheJobGoOn(t *testing.T) {
	p := NewPacer()
	p.Expect(1000, 256)
	p.account(Moved{Done: 1000, Durable: 500, Light: 256, Read: 3, Written: 4})
	want := Counts{Done: 1000, Durable: 500, Total: 1000, Work: 245, WorkAll: 745, Read: 3, Written: 4}
	if got := p.Counts(); got != want {
		t.Errorf("counts %+v, want %+v", got, want)
	}
	p.StartPhase(2)
	p.account(Moved{Read: 1})
	if got, want := p.Counts(), (Counts{Phase: 2, Read: 4, Written: 4}); got != want {
		t.Errorf("counts %+v, want %+v", got, want)
	}
}

// What was expected to be light and was not leaves nothing undone.
func TestAllWorkIsDoneAtTheEnd(t *testing.T) {
	for _, light := range []int64{0, 40 * mib, 100 * mib} {
		p := NewPacer()
		p.Expect(100*mib, 40*mib)
		if c := p.Counts(); c.Work != 0 || c.WorkAll != 60*mib+40*mib/lightShare {
			t.Errorf("at the start: %+v", c)
		}
		p.account(Moved{Done: 100 * mib, Durable: 100 * mib, Light: light})
		if c := p.Counts(); c.Work != c.WorkAll || c.Work == 0 {
			t.Errorf("with %d light: %+v", light, c)
		}
	}
}
