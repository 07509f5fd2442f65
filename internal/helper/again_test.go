package helper

import (
	"os"
	"path/filepath"
	"slices"
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

// It looks at those volumes that it is asked for, as they are by then.
func TestHelperThatStaysLooksAtWhatItIsAskedFor(t *testing.T) {
	d, pool := newDaemon(t), filepath.Join(t.TempDir(), "pool")
	must(t, os.Mkdir(pool, 0o755))
	for _, name := range []string{"a", "b", "c"} {
		must(t, os.WriteFile(filepath.Join(pool, name), nil, 0o600))
	}
	d.start("pool-look", "--type", "dir", "--target", pool)
	d.begin(ipc.Go{Stay: true, Names: []string{"b", "none", "../b", "a"}})
	looked := func(from int, want ...string) int {
		t.Helper()
		r, report, next := d.answered(from)
		var got []string
		for _, it := range report.Items {
			if text := it.Name + " " + it.Mode; it.Error == nil {
				got = append(got, text)
			} else {
				got = append(got, text+it.Error.Code)
			}
		}
		if !r.Stays || !slices.Equal(got, want) {
			t.Errorf("RESULT %+v of %q, want %q", r, got, want)
		}
		return next
	}
	next := looked(0, "b 0600", "none not_found", "../b invalid", "a 0600")
	must(t, os.Chmod(filepath.Join(pool, "c"), 0o640))
	must(t, os.Remove(filepath.Join(pool, "a")))
	d.say(ipc.Again{Names: []string{"c", "a"}})
	next = looked(next, "c 0640", "a not_found")
	d.say(ipc.Again{})
	looked(next)
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
