package diskio

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain checks that no transfer leaves a goroutine behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
