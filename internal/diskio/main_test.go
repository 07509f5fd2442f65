package diskio

import (
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestMain checks that no transfer leaves a goroutine behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// observe calls see, from one goroutine, with the counts of p when they have
// changed. stop waits for its end.
func observe(p *Pacer, see func(Counts)) (stop func()) {
	const often = 50 * time.Millisecond
	quit := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		tick := time.NewTicker(often)
		defer tick.Stop()
		for last := p.Counts(); ; {
			select {
			case <-quit:
				return
			case <-tick.C:
			}
			if now := p.Counts(); now != last {
				see(now)
				last = now
			}
		}
	})
	return func() { close(quit); group.Wait() }
}
