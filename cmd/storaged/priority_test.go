package main_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"storaged/internal/testenv"
)

// niceValues gives those of all threads of a process, by proc_pid_stat(5).
func niceValues(t *testing.T, pid int) []string {
	t.Helper()
	stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil || len(stats) == 0 {
		t.Fatalf("process %d has no threads: %v", pid, err)
	}
	var values []string
	for _, path := range stats {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // the thread has ended
		}
		_, rest, _ := strings.Cut(string(b), ") ")
		values = append(values, strings.Fields(rest)[16])
	}
	return values
}

// The daemon answers while its helpers keep the processors busy; a helper goes before nobody,
// and one that may be at work for long makes way for everybody. Who starts the daemon with a nice value of his own knows why.
func TestDaemonGoesBeforeItsHelpers(t *testing.T) {
	testenv.Root(t)
	ours := niceValues(t, os.Getpid())[0]
	if ours == "0" {
		runtime.LockOSThread() // never unlocked: the thread ends with the test
		err := errors.Join(unix.Setpriority(unix.PRIO_PROCESS, 0, -1), unix.Setpriority(unix.PRIO_PROCESS, 0, 0))
		testenv.Need(t, "the right to a negative nice value", err == nil)
	}
	h := newHost(t)
	h.random("base", 8*mib)
	short := h.slowClone("short")
	long := h.began(h.clone("base", "long", noReflink, limited(mib/2)))
	h.running(long)
	want := map[int]string{h.daemon.Process.Pid: "-10", h.job(short).Helper.PID: "0", h.job(long).Helper.PID: "7"}
	if n, err := strconv.Atoi(ours); n != 0 {
		want = map[int]string{h.daemon.Process.Pid: ours, h.job(short).Helper.PID: ours, h.job(long).Helper.PID: strconv.Itoa(max(n, 7))}
	} else if err != nil {
		t.Fatal(err)
	}
	for pid, want := range want {
		for _, got := range niceValues(t, pid) {
			if got != want {
				t.Errorf("a thread of process %d has the nice value %s, want %s", pid, got, want)
			}
		}
	}
	h.unlimited(short)
	h.unlimited(long)
}
