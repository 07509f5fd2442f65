package helper

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"storaged/internal/diskio"
)

const throttleRate = 1 << 20

// throttled is a throttle over several that move bytes, which one stream each does
// until stop is called.
func throttled(movers int) (t *throttle, moved func() int64, stop func()) {
	t = &throttle{held: make(chan struct{}, 1)}
	t.setLimit(throttleRate)
	ctx, cancel := context.WithCancel(context.Background())
	var streams sync.WaitGroup
	var pacers []*diskio.Pacer
	for range movers {
		p := diskio.NewPacer()
		pacers = append(pacers, p)
		t.join(p)
		streams.Go(func() {
			for {
				n, err := p.Admit(ctx, 1<<20)
				if err != nil {
					return
				}
				p.Finished(diskio.Moved{Done: n})
			}
		})
	}
	moved = func() (sum int64) {
		for _, p := range pacers {
			sum += p.Counts().Done
		}
		return sum
	}
	return t, moved, func() { cancel(); streams.Wait() }
}

// A rest and a pause hold the streams each for itself.
func TestRestHoldsBesideAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		throttle, moved, stop := throttled(2)
		defer stop()
		rests := func(what string) {
			t.Helper()
			before := moved()
			time.Sleep(time.Minute)
			if moved() != before {
				t.Errorf("%s: something moved", what)
			}
		}
		ctx := context.Background()
		time.Sleep(time.Second)
		end, err := throttle.rest(ctx)
		must(t, err)
		rests("in the rest")
		throttle.pause(ctx)
		<-throttle.held
		end()
		rests("in the pause after it")
		end, err = throttle.rest(ctx)
		must(t, err)
		throttle.resume()
		rests("in the rest after the pause")
		before := moved()
		end()
		time.Sleep(10 * time.Second)
		if got, want := float64(moved()-before), 2*10*float64(throttleRate); got < 0.95*want || got > 1.05*want {
			t.Errorf("%.0f bytes afterwards, want %.0f", got, want)
		}
	})
}

func TestRestThatCannotCompleteIsNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		throttle, p := &throttle{}, diskio.NewPacer()
		throttle.join(p)
		if _, err := p.Admit(context.Background(), 7); err != nil { // it is under way all the time
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := throttle.rest(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error is %v", err)
		}
		if n, err := p.Admit(context.Background(), 7); n != 7 || err != nil {
			t.Errorf("admitted %d, %v", n, err)
		}
	})
}

// A limit that comes in a pause does not take its completion away, and an old
// pause does not answer for a new one.
func TestPauseIsCompleteUnderAnotherLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		throttle, p := &throttle{held: make(chan struct{}, 1)}, diskio.NewPacer()
		throttle.join(p)
		ctx := context.Background()
		_, err := p.Admit(ctx, 7)
		must(t, err)
		throttle.pause(ctx)
		throttle.resume()
		throttle.pause(ctx)
		throttle.setLimit(1 << 10)
		synctest.Wait()
		if _, _, still := throttle.now(); still {
			t.Error("complete while something moves")
		}
		p.Finished(diskio.Moved{})
		throttle.asking.Wait() // for the old one too, in whichever order
		<-throttle.held
		if limit, paused, still := throttle.now(); !paused || !still || limit != 1<<10 {
			t.Errorf("paused: %v, still: %v, limit %d", paused, still, limit)
		}
	})
}
