package nbd

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain checks that no client leaves a goroutine behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
