package confine

import (
	"os/exec"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// Threads that start programs end with them, and so the first one, which does not end, is
// none of them; when they are gone this process can be restricted as a whole.
func TestThreadsThatStartProgramsEnd(t *testing.T) {
	const rounds = 20
	for range rounds {
		cmd := exec.Command("true")
		var thread int
		err := startOn(cmd, func() error {
			thread = unix.Gettid()
			return cmd.Start()
		})
		if err == nil {
			err = cmd.Wait()
		}
		if err != nil || thread == unix.Getpid() {
			t.Fatalf("thread %d of process %d: %v", thread, unix.Getpid(), err)
		}
		runtime.Gosched()
	}
	starting.awaitEnd()
	if len(starting.ids) > 0 {
		t.Errorf("threads %d are there still", starting.ids)
	}
}
