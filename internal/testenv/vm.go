package testenv

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// What scripts/vm/run sets in the environment of tests in its virtual machine.
const (
	vmGroup    = "STORAGED_TEST_VM"       // the group that runs
	vmBoot     = "STORAGED_TEST_BOOT"     // how often the machine was started, on the same disks
	vmPrograms = "STORAGED_TEST_PROGRAMS" // directory of our programs: there is no compiler
)

// emulated is about how much slower an emulated processor is than a real one.
const emulated = 10

// InVM reports whether the test runs in the virtual machine of the deep tests.
func InVM() bool { return os.Getenv(vmGroup) != "" }

// VM needs the test to run in the virtual machine of the deep tests (scripts/vm). It is
// skipped elsewhere, also in CI: scripts/test sees that what was skipped with these words
// has a result from there.
func VM(t testing.TB) {
	t.Helper()
	if !InVM() {
		t.Skipf("runs in the virtual machine (scripts/vm)")
	}
}

// Patience is how long a test waits for what takes that long on a slow machine: longer
// where the machine is emulated.
func Patience(d time.Duration) time.Duration {
	if InVM() {
		return emulated * d
	}
	return d
}

// Programs is the directory in which our programs are built already, "" if they are to be
// built.
func Programs() string { return os.Getenv(vmPrograms) }

// Boot counts how often the virtual machine was started for the test: more than once if
// it asked for PowerCut.
func Boot(t testing.TB) int {
	t.Helper()
	VM(t)
	n, err := strconv.Atoi(os.Getenv(vmBoot))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// PowerCut has the virtual machine end at once, as when its power is cut, and be started
// again with the same disks. The test runs there from its beginning.
func PowerCut(t testing.TB) {
	t.Helper()
	VM(t)
	if _, err := os.Stdout.WriteString("\n@@cut\n"); err != nil {
		t.Fatal(err)
	}
	select {}
}

// Disk is the path of one of the virtual machine's empty disks of 2 GiB, counted from 1.
func Disk(t testing.TB, number int) string {
	t.Helper()
	VM(t)
	disk, err := filepath.EvalSymlinks("/dev/disk/by-id/virtio-disk" + strconv.Itoa(number))
	if err != nil {
		t.Fatal(err)
	}
	return disk
}
