package wipe

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain checks that no wipe leaves a goroutine behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
