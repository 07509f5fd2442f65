package helper

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"storaged/internal/ipc"
	"storaged/internal/record"
)

// startReading starts a helper that reads a pool with one volume, and stays.
func startReading(t *testing.T) (d *daemon, pool string) {
	t.Helper()
	d, pool = newDaemon(t), filepath.Join(t.TempDir(), "pool")
	must(t, os.Mkdir(pool, 0o755))
	must(t, os.WriteFile(filepath.Join(pool, "a"), nil, 0o600))
	d.start("pool-refresh", "--type", "dir", "--target", pool)
	d.begin(ipc.Go{Stay: true})
	return d, pool
}

// answered is the next result from a frame on.
func (d *daemon) answered(from int) (r ipc.Result, report *ipc.Report, next int) {
	d.t.Helper()
	r, next = await(d, from, "result", any1[ipc.Result])
	report, digest, err := ipc.LoadReport(d.dir.Result())
	must(d.t, err)
	if r.Digest != digest {
		d.t.Errorf("RESULT %+v, the file has %s", r, digest)
	}
	return r, report, next
}

// Confined as it is, a helper that stays reads a pool as it is by now.
func TestHelperThatStaysReadsThePoolAgain(t *testing.T) {
	d, pool := startReading(t)
	next := 0
	for _, want := range []int{1, 2, 3} {
		var r ipc.Result
		var report *ipc.Report
		if r, report, next = d.answered(next); !r.Stays || report.Outcome != ipc.Succeeded || len(report.Items) != want || report.Pool == nil {
			t.Fatalf("RESULT %+v with %d volumes, want %d; %+v", r, len(report.Items), want, report.Error)
		}
		must(t, os.WriteFile(filepath.Join(pool, string(rune('a'+want))), []byte("QFI\xfb"), 0o600))
		d.say(ipc.Again{})
	}
	if n := len(of[ipc.Confined](d)); n != 1 {
		t.Errorf("it was confined %d times", n)
	}
	d.answered(next)
	d.control.Close()
	if code := d.exit(); code != record.ExitDone {
		t.Errorf("exit code %d at the end of control", code)
	}
}

// A pool that it cannot read any more is another helper's: it says so, and ends.
func TestHelperThatStaysEndsWhenItCannotReadAgain(t *testing.T) {
	d, pool := startReading(t)
	_, _, next := d.answered(0)
	must(t, os.Rename(pool, pool+"-before"))
	must(t, os.Mkdir(pool, 0o755))
	d.say(ipc.Again{})
	if r, _, _ := d.answered(next); r.Stays || r.Outcome != ipc.Failed {
		t.Errorf("RESULT %+v of a directory that it may not open", r)
	}
	if code := d.exit(); code == record.ExitDone {
		t.Errorf("exit code %d", code)
	}
}

func TestHelperThatStaysObeysASignal(t *testing.T) {
	d, _ := startReading(t)
	d.answered(0)
	must(t, d.cmd.Process.Signal(syscall.SIGTERM))
	if code := d.exit(); code != record.ExitDone {
		t.Errorf("exit code %d", code)
	}
}

// Who was not told that it may stay exits, and so does who works.
func TestOnlyWhoLooksAndMayStayDoes(t *testing.T) {
	d, pool := newDaemon(t), t.TempDir()
	d.start("pool-refresh", "--type", "dir", "--target", pool)
	d.begin(ipc.Go{})
	d.result(record.ExitDone)
	d = newDaemon(t)
	d.start("allocate", "--target", filepath.Join(pool, "v"), "--capacity", "4096")
	d.begin(ipc.Go{Stay: true})
	d.result(record.ExitDone)
}
