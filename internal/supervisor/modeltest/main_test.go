package modeltest

import (
	"os"
	"testing"

	"storaged/internal/supervisor/helpertest"
)

func TestMain(m *testing.M) {
	// A race build sleeps a second at each exit otherwise; helpers get it too.
	os.Setenv("GORACE", "atexit_sleep_ms=0")
	name, h, ok := helpertest.Called()
	switch {
	case ok && name == modelHelper:
		runHelper(h)
	case ok && name == modelChild:
		runChild(h)
	case os.Getenv(envDaemon) != "":
		runDaemon()
	default:
		m.Run()
	}
}
