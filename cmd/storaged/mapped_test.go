package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/testenv"
)

// onDevice has a pool "slow" on a device that the test can break, in a file system of
// the kind.
func (h *host) onDevice(kind string) (dev *testenv.Mapped, dir string) {
	h.t.Helper()
	dev = testenv.NewMapped(h.t, "tested", testenv.Disk(h.t, 1))
	testenv.Formatted(h.t, dev.Path(), kind)
	at, _ := testenv.MountedFrom(h.t, dev.Path())
	dir = filepath.Join(at, "pool")
	h.define("slow", dir)
	return dev, dir
}

// A device that answers nothing holds what works on it in the kernel, where no kill
// reaches it: the job says so and keeps its locks, and ends when the device answers.
func TestJobOnASuspendedDevice(t *testing.T) {
	testenv.VM(t)
	for _, kind := range []string{"ext4", "xfs"} {
		t.Run(kind, func(t *testing.T) {
			h := newHost(t)
			h.random("base", 32*mib)
			dev, dir := h.onDevice(kind)
			st := h.began(h.clone("base", "slow/copy", limited(mib), noReflink))
			h.written(st.Job.ID, 1)
			resume := dev.Suspend()
			h.waitsInTheKernel(st)
			_, err := h.client.CancelJob(h.ctx(), st.Job.ID, contract.JobCancel{Now: true})
			h.must(err)
			h.saysItIsStuck(st)
			h.refuses(record.Busy, fmt.Sprintf("job %d", st.Job.Number))(h.wipe("base", acceptLimits, atOnce))
			h.answers()
			h.sparse("elsewhere", mib)
			resume()
			if j := h.end(st, nil); j.State != record.Canceled || len(j.WaitingOn) > 0 {
				t.Errorf("after the device's return the job is %s and waits on %s", outcome(j), shown(j.WaitingOn))
			}
			h.gone("slow", dir, "copy")
			h.succeed(h.create("slow/copy", mib))
			h.succeed(h.remove("slow/copy"))
		})
	}
}

// waitsInTheKernel returns when a thread of a job's helper waits where no signal reaches it.
func (h *host) waitsInTheKernel(st started) {
	h.t.Helper()
	threads := fmt.Sprintf("/proc/%d/task/*/stat", h.job(st).Helper.PID)
	h.await("a wait in the kernel", func() bool {
		stats, err := filepath.Glob(threads)
		h.must(err)
		return slices.ContainsFunc(stats, func(path string) bool {
			stat, err := os.ReadFile(path)
			return err == nil && strings.Contains(string(stat), ") D ")
		})
	})
}

// saysItIsStuck waits until a job names the process that a kill does not end, and where
// it is.
func (h *host) saysItIsStuck(st started) {
	h.t.Helper()
	h.until(st.Job.ID, namesWhoIsStuck)
	h.runs(0, "in state D", "job", "show", fmt.Sprint(st.Job.Number))
}

// namesWhoIsStuck reports whether a job names a process that a kill does not end, and where
// it is.
func namesWhoIsStuck(j record.Job) bool {
	return slices.ContainsFunc(j.WaitingOn, func(b record.Blocker) bool {
		return b.For == "device" && b.Holder != nil && strings.Contains(b.Holder.External, "in state D")
	})
}

// answers sees that the daemon keeps nobody waiting, while what a job waits for does not
// come.
func (h *host) answers() {
	h.t.Helper()
	for range 20 {
		h.status()
	}
}

// placeOf is where on its device the content of a file lies at an offset, both in bytes.
func placeOf(t *testing.T, path string, offset int64) (at int64) {
	t.Helper()
	out, err := exec.Command("filefrag", "-b512", "-e", path).CombinedOutput()
	if err != nil {
		t.Fatalf("filefrag: %v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		var n, from, to, physical, end int64
		line = strings.NewReplacer("..", " ", ":", " ").Replace(line)
		if _, err := fmt.Sscan(line, &n, &from, &to, &physical, &end); err == nil && from <= offset/512 && offset/512 <= to {
			return (physical + offset/512 - from) * 512
		}
	}
	t.Fatalf("%s has nothing at byte %d:\n%s", path, offset, out)
	return 0
}

// A sector that cannot be read is named by the file and the place in it, and ends the
// job; what is around it can be read all the same.
func TestErrorOfADeviceInTheSource(t *testing.T) {
	testenv.VM(t)
	const bad, length = 5 * mib, 4096
	for _, kind := range []string{"ext4", "xfs"} {
		t.Run(kind, func(t *testing.T) {
			h := newHost(t)
			dev, dir := h.onDevice(kind)
			h.succeed(h.create("slow/base", 16*mib, allocation(0)))
			base := filepath.Join(dir, "base")
			writeRandom(t, base, 16*mib)
			dev.FailAt(placeOf(t, base, bad), length)
			forget(t)
			j := h.end(h.clone("slow/base", "pool/copy", noReflink))
			h.failedAt(j, record.IO, base, true)
			if e := j.Error; e != nil && e.Offset != nil && (*e.Offset > bad || *e.Offset < bad-4*mib) {
				t.Errorf("the error is at byte %d, of a sector at %d", *e.Offset, bad)
			}
			h.absent("copy")
			dev.Heal()
			h.succeed(h.clone("slow/base", "pool/copy", noReflink))
			h.hasHash("copy", hashOf(t, base))
		})
	}
}

// What cannot be written fails the job, and nothing of the target is taken for complete.
// The pool is as it was when its file system is mounted again.
func TestErrorOfADeviceInTheTarget(t *testing.T) {
	testenv.VM(t)
	for _, kind := range []string{"ext4", "xfs"} {
		t.Run(kind, func(t *testing.T) {
			h := newHost(t)
			want := h.random("base", 16*mib)
			dev, dir := h.onDevice(kind)
			st := h.began(h.clone("base", "slow/copy", limited(2*mib), noReflink))
			h.written(st.Job.ID, 1)
			dev.FailWrites()
			h.failedAt(h.end(st, nil), record.IO, filepath.Join(dir, "copy"), false)
			h.hasHash("base", want)
			dev.Heal()
			at := filepath.Dir(dir)
			testenv.Unmount(t, at)
			h.mountThere(dev.Path(), at)
			h.must(h.refresh("slow"))
			h.unknown("slow/copy")
			h.succeed(h.clone("base", "slow/copy", noReflink))
			if got := hashOf(t, filepath.Join(dir, "copy")); got != want {
				t.Errorf("the copy has the hash %s, want %s", got, want)
			}
			h.gone("slow", dir, ".storaged")
		})
	}
}

// writeRandom fills a file with what nobody can guess, on the disk.
func writeRandom(t *testing.T, path string, bytes int64) {
	t.Helper()
	out, err := exec.Command("dd", "if=/dev/urandom", "of="+path, "bs=1M", fmt.Sprint("count=", bytes/mib), "conv=notrunc,fsync").CombinedOutput()
	if err != nil {
		t.Fatalf("dd: %v\n%s", err, out)
	}
}

// forget has the kernel read from the disk again what it has in memory.
func forget(t *testing.T) {
	t.Helper()
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0); err != nil {
		t.Fatal(err)
	}
}
