package helper

import (
	"crypto/sha256"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"storaged/internal/diskio"
	"storaged/internal/ipc"
	"storaged/internal/record"
)

// killedAtMark starts a task, and kills its helper when it has made a
// checkpoint, which it gives.
func killedAtMark(t *testing.T, d *daemon, args ...string) *ipc.Mark {
	t.Helper()
	d.start(args...)
	d.begin(ipc.Go{Limit: slow})
	told, _ := await(d, 0, "checkpoint", any1[ipc.Checkpoint])
	must(t, d.cmd.Process.Kill())
	d.exit()
	m, err := ipc.LoadMark(d.dir.Checkpoint())
	must(t, err)
	if m.Done < told.Done || m.Task != args[0] {
		t.Fatalf("told %+v, the file has %+v", told, m)
	}
	return m
}

// goOn lets another helper go on, to its end.
func (d *daemon) goOn(args ...string) *ipc.Report {
	d.t.Helper()
	s := d.settler(append(args, "--resume")...)
	s.begin(ipc.Go{})
	return s.result(record.ExitDone)
}

// wroteRest fails unless nothing was written that was durable before.
func wroteRest(t *testing.T, r *ipc.Report, m *ipc.Mark, size int64) {
	t.Helper()
	if n := r.Written - m.Written; n != size-m.Done || m.Done == 0 {
		t.Errorf("interrupted at %d of %d, and then %d were written", m.Done, size, n)
	}
	if len(r.Warnings) > 0 {
		t.Errorf("warnings %q", r.Warnings)
	}
}

func anew(t *testing.T, r *ipc.Report, why string) {
	t.Helper()
	if len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "begins anew") || !strings.Contains(r.Warnings[0], why) {
		t.Errorf("warnings %q, want %q", r.Warnings, why)
	}
}

// longClone is a clone of 64 MiB that has not begun, and its arguments.
func longClone(t *testing.T) (c cloning, args []string) {
	t.Helper()
	c = cloning{daemon: newDaemon(t), pool: t.TempDir()}
	c.content = noise(t, c.source(), 64*mib)
	return c, []string{"clone", "--source", c.source(), "--target", c.target()}
}

func TestCloneGoesOnAfterItsHelperWasKilled(t *testing.T) {
	c, args := longClone(t)
	m := killedAtMark(t, c.daemon, args...)
	onlyHas(t, c.pool, "a.raw", record.DraftName(c.dir.Job))
	wroteRest(t, c.goOn(args...), m, 64*mib)
	sameContent(t, c.target(), c.content)
	onlyHas(t, c.pool, "a.raw", "b.raw")
}

func TestCloneOfAChangedSourceBeginsAnew(t *testing.T) {
	c, args := longClone(t)
	killedAtMark(t, c.daemon, args...)
	f, err := os.OpenFile(c.source(), os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteAt([]byte{c.content[7] + 1}, 7) // copied long ago
	must(t, err)
	must(t, f.Close())
	c.content[7]++
	anew(t, c.goOn(args...), "changed meanwhile")
	sameContent(t, c.target(), c.content)
	onlyHas(t, c.pool, "a.raw", "b.raw")
}

func TestCloneWhoseDraftIsGoneBeginsAnew(t *testing.T) {
	c, args := longClone(t)
	killedAtMark(t, c.daemon, args...)
	draft := filepath.Join(c.pool, record.DraftName(c.dir.Job))
	must(t, os.Remove(draft))
	must(t, os.WriteFile(draft, make([]byte, 64*mib), 0o600)) // another file by the name
	anew(t, c.goOn(args...), "another file")
	sameContent(t, c.target(), c.content)
	onlyHas(t, c.pool, "a.raw", "b.raw")
}

// A helper may be killed anywhere, and the next one too.
func TestCloneKilledAtRandomComesOutRight(t *testing.T) {
	c, args := longClone(t)
	d := c.daemon
	d.start(args...)
	for range 4 {
		d.begin(ipc.Go{Limit: slow})
		next := 0
		for range 1 + rand.IntN(12) { // 12 take 2.4 s and four times of that two thirds of the clone
			_, next = await(d, next, "progress", any1[ipc.Progress])
		}
		must(t, d.cmd.Process.Kill())
		d.exit()
		d = d.settler(append(args, "--resume")...)
	}
	d.begin(ipc.Go{})
	d.result(record.ExitDone)
	sameContent(t, c.target(), c.content)
	onlyHas(t, c.pool, "a.raw", "b.raw")
}

func TestResumedCloneThatWasCompleteIsFoundSo(t *testing.T) {
	for _, named := range []bool{true, false} { // died behind the rename, or before it
		c := startClone(t, mib)
		c.begin(ipc.Go{})
		c.result(record.ExitDone)
		must(t, os.Remove(c.dir.Result()))
		if !named {
			must(t, os.Rename(c.target(), filepath.Join(c.pool, record.DraftName(c.dir.Job))))
		}
		report := c.goOn("clone", "--source", c.source(), "--target", c.target())
		if v := report.Volume; v == nil || v.Path != c.target() || named && report.Written != 0 {
			t.Errorf("named %v: report %+v", named, report.Summary)
		}
		sameContent(t, c.target(), c.content)
		onlyHas(t, c.pool, "a.raw", "b.raw")
	}
}

func TestWipeGoesOnAfterItsHelperWasKilled(t *testing.T) {
	for _, algorithm := range []string{"zero", "random"} {
		d, pool := newDaemon(t), t.TempDir()
		target := filepath.Join(pool, "a.raw")
		content := noise(t, target, 32*mib)
		args := []string{"wipe", "--target", target, "--algorithm", algorithm, "--accept-limits", "--yes"}
		m := killedAtMark(t, d, args...)
		wroteRest(t, d.goOn(args...), m, 32*mib)
		now, err := os.ReadFile(target)
		must(t, err)
		for off := 0; off < len(now); off += mib {
			if string(now[off:off+64]) == string(content[off:off+64]) {
				t.Errorf("%s: old content is left at %d", algorithm, off)
			}
		}
		onlyHas(t, pool, "a.raw")
	}
}

func TestWipeOfWhatSomebodyWroteSinceBeginsAnew(t *testing.T) {
	d, pool := newDaemon(t), t.TempDir()
	target := filepath.Join(pool, "a.raw")
	noise(t, target, 32*mib)
	args := []string{"wipe", "--target", target, "--accept-limits", "--yes"}
	killedAtMark(t, d, args...)
	f, err := os.OpenFile(target, os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteAt([]byte("written where it was wiped"), 0)
	must(t, err)
	must(t, f.Close())
	later := time.Now().Add(writesOn + time.Minute) // a write within that time is not noticed
	must(t, os.Chtimes(target, later, later))
	anew(t, d.goOn(args...), "somebody has written")
	sameContent(t, target, make([]byte, 32*mib))
}

func TestVerifyGoesOnAfterItsHelperWasKilled(t *testing.T) {
	d, pool := newDaemon(t), t.TempDir()
	target := filepath.Join(pool, "a.raw")
	content := noise(t, target, 32*mib)
	args := []string{"verify", "--target", target}
	m := killedAtMark(t, d, args...)
	report := d.goOn(args...)
	if sum := sha256.Sum256(content); report.Checksum != record.Checksum(sum) || len(report.Warnings) > 0 {
		t.Errorf("checksum %s, warnings %q", report.Checksum, report.Warnings)
	}
	if report.Read != 32*mib || m.Read == 0 {
		t.Errorf("read %d, of them %d by the one that was killed", report.Read, m.Read)
	}
}

// What has blocks already is passed over, whether or not there is a checkpoint.
func TestAllocationGoesOnAfterItsHelperWasKilled(t *testing.T) {
	for _, marked := range []bool{true, false} {
		d, pool := newDaemon(t), t.TempDir()
		target, draft := filepath.Join(pool, "a.raw"), filepath.Join(pool, record.DraftName(d.dir.Job))
		must(t, os.WriteFile(draft, make([]byte, mib), 0o600))
		must(t, os.Truncate(draft, 16*mib))
		f, err := os.Open(draft)
		must(t, err)
		was, err := FootprintOf(diskio.FileContent(f))
		must(t, err)
		if marked {
			r, _ := testRun(t)
			r.command, r.Records = "allocate", jobRecords{dir: d.dir}
			r.Checkpoints(Position{}, diskio.FileContent(f), d.dir.Job).Save(mib)
		}
		must(t, f.Close())
		d.lock.Close()
		report := d.goOn("allocate", "--target", target, "--capacity", "16M")
		f, err = os.Open(target)
		must(t, err)
		now, err := FootprintOf(diskio.FileContent(f))
		must(t, err)
		must(t, f.Close())
		if same := was.sameFile(now) == ""; same != marked || len(report.Warnings) > 0 || now.Size != 16*mib {
			t.Errorf("checkpoint %v: the same file %v, warnings %q", marked, same, report.Warnings)
		}
		onlyHas(t, pool, "a.raw")
	}
}

func TestDamagedCheckpointBeginsAnew(t *testing.T) {
	d, pool := newDaemon(t), t.TempDir()
	target := filepath.Join(pool, "a.raw")
	content := noise(t, target, mib)
	must(t, os.WriteFile(d.dir.Checkpoint(), []byte("garbage"), 0o600))
	d.lock.Close()
	report := d.goOn("verify", "--target", target)
	anew(t, report, "checkpoint")
	if sum := sha256.Sum256(content); report.Checksum != record.Checksum(sum) {
		t.Errorf("checksum %s", report.Checksum)
	}
}

func TestHelperWithoutGoSaysSoToWhoComesLater(t *testing.T) {
	c := startClone(t, mib)
	await(c.daemon, 0, "hello", any1[ipc.Hello])
	c.control.Close()
	c.exit()
	r, _, err := ipc.LoadReport(c.dir.Result())
	if err != nil || !r.Untouched || r.Outcome != ipc.Failed {
		t.Errorf("%+v, %v", r, err)
	}
}

// settled lets a settling helper decide what becomes of a clone that was
// killed behind a checkpoint.
func settled(t *testing.T, flags ...string) (cloning, *ipc.Report) {
	t.Helper()
	c := cloning{daemon: newDaemon(t), pool: t.TempDir()}
	c.content = noise(t, c.source(), 64*mib)
	killedAtMark(t, c.daemon, "clone", "--source", c.source(), "--target", c.target())
	s := c.settler(append([]string{"settle", "--target", c.target()}, flags...)...)
	s.begin(ipc.Go{})
	c.daemon = s
	return c, s.result(record.ExitCanceled)
}

func TestSettleLeavesWhatARetryGoesOnWith(t *testing.T) {
	c, report := settled(t, "--resumable")
	if !report.Resumable || report.Rollback != string(record.RollbackKept) || report.Volume != nil || len(report.Warnings) > 0 {
		t.Errorf("report %+v", report.Summary)
	}
	onlyHas(t, c.pool, "a.raw", record.DraftName(c.dir.Job))
	m, err := ipc.LoadMark(c.dir.Checkpoint())
	must(t, err)

	retry := newDaemon(t)
	retry.dir.Job = "0199aaaa-0000-7000-8000-000000000002"
	must(t, ipc.SaveMark(retry.dir.Checkpoint(), *m))
	args := []string{"clone", "--source", c.source(), "--target", c.target(), "--resume"}
	retry.start(args...)
	retry.begin(ipc.Go{Paused: true}) // it takes up nothing yet
	await(retry, 0, "paused", isState(ipc.ActivityPaused))
	retry.say(ipc.Resume{})
	wroteRest(t, retry.result(record.ExitDone), m, 64*mib)
	sameContent(t, c.target(), c.content)
	onlyHas(t, c.pool, "a.raw", "b.raw")
	if m, err := ipc.LoadMark(retry.dir.Checkpoint()); err != nil || m.Draft != retry.dir.Job {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestSettleKeepsWhatAKilledHelperMade(t *testing.T) {
	c, report := settled(t, "--on-failure", "keep", "--resumable")
	if report.Resumable || report.Rollback != string(record.RollbackKept) || report.Volume == nil || report.Volume.Path != c.target() {
		t.Errorf("report %+v", report.Summary)
	}
	onlyHas(t, c.pool, "a.raw", "b.raw")
}

func TestSettleLeavesNothingWithoutACheckpoint(t *testing.T) {
	c := startClone(t, 64*mib)
	c.begin(ipc.Go{Limit: slow})
	c.moving()
	must(t, c.cmd.Process.Kill())
	c.exit()
	s := c.settler("settle", "--target", c.target(), "--resumable")
	s.begin(ipc.Go{})
	if r := s.result(record.ExitCanceled); r.Resumable || r.Rollback != string(record.RollbackDone) {
		t.Errorf("report %+v", r.Summary)
	}
	onlyHas(t, c.pool, "a.raw")
}
