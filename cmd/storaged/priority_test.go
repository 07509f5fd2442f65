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

	"storaged/internal/service/contract"
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
// and where many are at work for long, the next makes way for everybody. Who starts the daemon with a nice value of his own knows why.
func TestDaemonGoesBeforeItsHelpers(t *testing.T) {
	testenv.Root(t)
	ours := niceValues(t, os.Getpid())[0]
	if ours == "0" {
		runtime.LockOSThread() // never unlocked: the thread ends with the test
		err := errors.Join(unix.Setpriority(unix.PRIO_PROCESS, 0, -1), unix.Setpriority(unix.PRIO_PROCESS, 0, 0))
		testenv.Need(t, "the right to a negative nice value", err == nil)
	}
	h := newHost(t)
	h.patchLimits(contract.LimitsPatch{Running: ptr(1000), RunningPool: ptr(1000), RunningDevice: ptr(1000)})
	h.random("base", 8*mib)
	n, err := strconv.Atoi(ours)
	if err != nil {
		t.Fatal(err)
	}
	daemon := "-10"
	if n != 0 {
		daemon = ours
	}
	want, all := map[int]string{h.daemon.Process.Pid: daemon}, []started{}
	for i := range 2*runtime.NumCPU() + 2 { // the last is short again
		rate := int64(mib / 2)
		if i > 2*runtime.NumCPU() {
			rate = mib
		}
		st := h.began(h.clone("base", fmt.Sprint("copy-", i), noReflink, limited(rate)))
		h.running(st)
		nice := max(n, 0) // a helper goes before nobody
		if i == 2*runtime.NumCPU() {
			nice = max(n, 7)
		}
		want[h.job(st).Helper.PID], all = strconv.Itoa(nice), append(all, st)
	}
	for pid, want := range want {
		for _, got := range niceValues(t, pid) {
			if got != want {
				t.Errorf("a thread of process %d has the nice value %s, want %s", pid, got, want)
			}
		}
	}
	for _, st := range all {
		h.unlimited(st)
	}
}
