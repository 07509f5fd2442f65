package diskio

import (
	"testing"

	"go.uber.org/goleak"

	"storaged/internal/diskio/diskiotest"
)

// TestMain checks that no transfer leaves a goroutine behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// observe calls see, from one goroutine, with the counts of p when they have
// changed. stop waits for its end.
func observe(p *Pacer, see func(Counts)) (stop func()) { return diskiotest.Observe(p.Counts, see) }
