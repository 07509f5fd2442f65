package helper

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"storaged/internal/ipc"
	"storaged/internal/record"
)

const mib = 1 << 20

// cloning is a job that copies a file of random bytes.
type cloning struct {
	*daemon
	pool    string
	content []byte
}

// startClone starts a clone of size bytes; the daemon has yet to say GO.
func startClone(t *testing.T, size int) cloning {
	t.Helper()
	c := cloning{daemon: newDaemon(t), pool: t.TempDir()}
	c.content = noise(t, c.source(), size)
	c.start("clone", "--source", c.source(), "--target", c.target())
	return c
}

func (c cloning) source() string { return filepath.Join(c.pool, "a.raw") }
func (c cloning) target() string { return filepath.Join(c.pool, "b.raw") }

// slow is a rate at which a clone of some MiB lasts longer than any test looks
// at it.
const slow = 4 * mib

// moving waits until the copy has written something.
func (c cloning) moving() int {
	c.t.Helper()
	_, next := await(c.daemon, 0, "durable progress", func(p ipc.Progress) bool { return p.Durable > 0 })
	return next
}

func TestJobCloneReportsItsWholeWay(t *testing.T) {
	c := startClone(t, 8*mib)
	c.begin(ipc.Go{Limit: 16 * mib})
	report := c.result(record.ExitDone)
	sameContent(t, c.target(), c.content)
	sameContent(t, c.source(), c.content)
	onlyHas(t, c.pool, "a.raw", "b.raw")
	if report.Outcome != ipc.Succeeded || report.Method != "copy" || report.Read != 8*mib || report.Written != 8*mib {
		t.Errorf("report %+v", report.Summary)
	}
	if v := report.Volume; v == nil || v.Path != c.target() || v.Size != 8*mib || v.Identity == "" {
		t.Errorf("volume %+v", v)
	}
	if p := report.Phases; len(p) != 2 || p[0].Name != "copy" || p[0].NS < int64(100*time.Millisecond) || p[1].Name != "commit" {
		t.Errorf("phases %+v", p)
	}
	plan := of[ipc.Plan](c.daemon)
	if len(plan) != 1 || plan[0].Phases[0].Total != 8*mib || !plan[0].Phases[0].Data || !plan[0].Phases[0].Bounded {
		t.Errorf("plan %+v", plan)
	}
	phases := of[ipc.Phase](c.daemon)
	want := []ipc.Phase{{Index: 0}, {Index: 1}, {Index: 1, NoReturn: true}}
	if fmt.Sprint(phases) != fmt.Sprint(want) {
		t.Errorf("phases %+v, want %+v", phases, want)
	}
	progressIsHonest(t, of[ipc.Progress](c.daemon), 8*mib)
	if b, err := os.ReadFile(c.dir.Commit()); err != nil || len(b) == 0 {
		t.Errorf("commit record %q, %v", b, err)
	}
}

// progressIsHonest holds the progress of a copy against what is promised of it.
func progressIsHonest(t *testing.T, all []ipc.Progress, total int64) {
	t.Helper()
	if len(all) < 2 {
		t.Fatalf("only %d progress frames", len(all))
	}
	if all[0].Done != 0 || all[0].Total != total {
		t.Errorf("the copy began at %+v: from that on its speed is measured", all[0])
	}
	var last ipc.Progress
	for _, p := range all {
		if p.Phase == last.Phase && (p.Durable < last.Durable || p.Work < last.Work) || p.Durable > p.Done || p.Done > p.Total {
			t.Errorf("progress %+v after %+v", p, last)
		}
		if p.Phase == 0 {
			last = p
		}
	}
	if last.Durable != total || last.Total != total {
		t.Errorf("the copy ended at %+v, want %d", last, total)
	}
}

func TestJobTouchesNothingWhenTheDaemonGoesBeforeGo(t *testing.T) {
	c := startClone(t, mib)
	await(c.daemon, 0, "hello", any1[ipc.Hello])
	c.control.Close()
	if code := c.exit(); code == 0 {
		t.Errorf("exit code %d without having done anything", code)
	}
	onlyHas(t, c.pool, "a.raw")
	onlyHas(t, c.dir.State, "log", "result")
}

func TestJobCanceledBeforeGoTouchesNothing(t *testing.T) {
	c := startClone(t, mib)
	await(c.daemon, 0, "hello", any1[ipc.Hello])
	c.say(ipc.Cancel{})
	report := c.result(record.ExitCanceled)
	if report.Outcome != ipc.Canceled || report.Rollback != string(record.RollbackNone) {
		t.Errorf("report %+v", report.Summary)
	}
	onlyHas(t, c.pool, "a.raw")
}

func TestJobCancelLeavesNothing(t *testing.T) {
	c := startClone(t, 64*mib)
	c.begin(ipc.Go{Limit: slow})
	c.moving()
	onlyHas(t, c.pool, "a.raw", record.DraftName(c.dir.Job))
	c.say(ipc.Cancel{})
	must(t, c.cmd.Process.Signal(syscall.SIGTERM))
	report := c.result(record.ExitCanceled)
	onlyHas(t, c.pool, "a.raw")
	sameContent(t, c.source(), c.content)
	if report.Outcome != ipc.Canceled || report.Rollback != string(record.RollbackDone) || report.Error.Message != "canceled" {
		t.Errorf("report %+v, error %+v", report.Summary, report.Error)
	}
	_, next := await(c.daemon, 0, "canceling", isState(ipc.ActivityCanceling))
	await(c.daemon, next, "rolling back", isState(ipc.ActivityRollingBack))
	for _, s := range of[ipc.State](c.daemon) {
		if s.FromAfar {
			t.Errorf("the daemon's own cancel counts as from afar: %+v", s)
		}
	}
}

// The signal never overtakes the CANCEL that was sent before it, however many
// orders lie in front of that.
func TestJobSignalFindsTheCancelBehindManyOrders(t *testing.T) {
	for range 10 {
		c := startClone(t, 64*mib)
		c.begin(ipc.Go{Limit: slow})
		c.moving()
		for range 1000 {
			c.say(ipc.Limit{Rate: slow})
		}
		c.say(ipc.Cancel{})
		must(t, c.cmd.Process.Signal(syscall.SIGTERM))
		c.reads = false // a thousand answers may be more than the FIFO holds, and the last are lost then
		if report := c.result(record.ExitCanceled); report.Error.Message != "canceled" {
			t.Errorf("error %+v", report.Error)
		}
		for _, s := range of[ipc.State](c.daemon) {
			if s.FromAfar {
				t.Errorf("the daemon's own cancel counts as from afar: %+v", s)
			}
		}
	}
}

func isState(a ipc.Activity) func(ipc.State) bool {
	return func(s ipc.State) bool { return s.Activity == a }
}

func TestJobSignalWithoutFrameIsACancelFromAfar(t *testing.T) {
	c := startClone(t, 64*mib)
	c.begin(ipc.Go{Limit: slow})
	c.moving()
	must(t, c.cmd.Process.Signal(syscall.SIGTERM))
	report := c.result(record.ExitCanceled)
	onlyHas(t, c.pool, "a.raw")
	await(c.daemon, 0, "from afar", func(s ipc.State) bool { return s.FromAfar })
	if !strings.Contains(report.Error.Message, "terminated") {
		t.Errorf("error %+v", report.Error)
	}
}

func TestJobPauseIsToldWhenNoIOIsDone(t *testing.T) {
	c := startClone(t, 64*mib)
	c.begin(ipc.Go{Limit: slow})
	next := c.moving()
	c.say(ipc.Pause{})
	_, next = await(c.daemon, next, "paused", isState(ipc.ActivityPaused))
	before := ioOf(t, c.cmd.Process.Pid)
	// Two beats are four seconds in which 16 MiB would have moved.
	_, next = await(c.daemon, next, "beat", any1[ipc.Beat])
	_, next = await(c.daemon, next, "beat", any1[ipc.Beat])
	if after := ioOf(t, c.cmd.Process.Pid); after.read-before.read > 64<<10 || after.written-before.written > 64<<10 {
		t.Errorf("paused, and yet %+v became %+v", before, after)
	}
	c.say(ipc.Limit{})
	_, next = await(c.daemon, next, "still paused without limit", func(s ipc.State) bool {
		return s.Activity == ipc.ActivityPaused && s.Limit == 0
	})
	c.say(ipc.Resume{})
	await(c.daemon, next, "running", isState(ipc.ActivityRunning))
	c.result(record.ExitDone)
	sameContent(t, c.target(), c.content)
}

func TestJobCanceledWhilePaused(t *testing.T) {
	c := startClone(t, 64*mib)
	c.begin(ipc.Go{Paused: true})
	await(c.daemon, 0, "paused", isState(ipc.ActivityPaused))
	c.say(ipc.Cancel{})
	c.result(record.ExitCanceled)
	onlyHas(t, c.pool, "a.raw")
}

// traffic are the bytes of a process by read(2), write(2) and their like.
type traffic struct{ read, written int64 }

func ioOf(t *testing.T, pid int) traffic {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	must(t, err)
	var out traffic
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		n, _ := strconv.ParseInt(value, 10, 64)
		switch name {
		case "rchar":
			out.read = n
		case "wchar":
			out.written = n
		}
	}
	return out
}

func TestJobKeepsToItsLimitAndToAnother(t *testing.T) {
	c := startClone(t, 8*mib)
	begun := time.Now()
	c.begin(ipc.Go{Limit: slow})
	next := c.moving()
	c.say(ipc.Limit{Rate: 2 * mib})
	await(c.daemon, next, "the new limit", func(s ipc.State) bool { return s.Limit == 2*mib })
	c.result(record.ExitDone)
	// At 4 MiB/s all the time it would have taken two seconds.
	if took := time.Since(begun); took < 2*time.Second {
		t.Errorf("8 MiB at 4 and then 2 MiB/s took %v", took)
	}
}

func TestJobGoesOnWhileNobodyReads(t *testing.T) {
	c := cloning{daemon: newDaemon(t), pool: t.TempDir()}
	c.content = noise(t, c.source(), 8*mib)
	c.reads = false
	for ipc.WriteFrame(c.frames, ipc.Frame{Body: ipc.Beat{}}) == nil {
	}
	c.start("clone", "--source", c.source(), "--target", c.target())
	c.say(ipc.Go{Limit: 16 * mib})
	if report := c.result(record.ExitDone); report.Outcome != ipc.Succeeded {
		t.Errorf("report %+v", report.Summary)
	}
	sameContent(t, c.target(), c.content)
}

func TestJobOutlivesItsDaemonAndAnswersTheNext(t *testing.T) {
	c := startClone(t, 64*mib)
	c.begin(ipc.Go{Limit: slow})
	c.moving()
	c.control.Close()
	c.frames.Close()
	c.reader.Wait()
	c.mu.Lock()
	c.seen = nil
	c.mu.Unlock()

	var err error
	c.frames, err = ipc.OpenFrames(c.dir.Frames())
	must(t, err)
	c.control, err = ipc.OpenControl(c.dir.Control())
	must(t, err)
	c.read(ipc.NewAdoptingReader(c.frames, ipc.MaxFrame))
	c.say(ipc.Resync{})
	_, next := await(c.daemon, 0, "hello", any1[ipc.Hello])
	_, next = await(c.daemon, next, "plan", any1[ipc.Plan])
	_, next = await(c.daemon, next, "phase", any1[ipc.Phase])
	_, next = await(c.daemon, next, "state", func(s ipc.State) bool { return s.Activity == ipc.ActivityRunning && s.Limit == slow })
	await(c.daemon, next, "progress", func(p ipc.Progress) bool { return p.Durable > 0 })
	c.say(ipc.Cancel{})
	c.result(record.ExitCanceled)
	onlyHas(t, c.pool, "a.raw")
}

func TestJobReportsNowWhenSignaled(t *testing.T) {
	c := startClone(t, 64*mib)
	c.begin(ipc.Go{Paused: true})
	await(c.daemon, 0, "paused", isState(ipc.ActivityPaused))
	must(t, c.cmd.Process.Signal(syscall.SIGUSR1))
	await(c.daemon, 0, "progress although nothing moves", any1[ipc.Progress])
	must(t, c.cmd.Process.Signal(syscall.SIGUSR2))
	await(c.daemon, 0, "running", isState(ipc.ActivityRunning))
	c.result(record.ExitDone)
}

func TestKilledJobIsSettled(t *testing.T) {
	c := startClone(t, 64*mib)
	c.begin(ipc.Go{Limit: slow})
	c.moving()
	must(t, c.cmd.Process.Kill())
	c.exit()
	onlyHas(t, c.pool, "a.raw", record.DraftName(c.dir.Job))

	s := c.settler("settle", "--target", c.target())
	s.begin(ipc.Go{})
	report := s.result(record.ExitCanceled)
	if report.Outcome != ipc.Canceled || report.Rollback != string(record.RollbackDone) || report.Volume != nil {
		t.Errorf("report %+v", report.Summary)
	}
	onlyHas(t, c.pool, "a.raw")
}

func TestJobCanceledMayKeepWhatIsWritten(t *testing.T) {
	c := cloning{daemon: newDaemon(t), pool: t.TempDir()}
	c.content = noise(t, c.source(), 64*mib)
	c.start("clone", "--source", c.source(), "--target", c.target(), "--on-failure", "keep")
	c.begin(ipc.Go{Limit: slow})
	c.moving()
	c.say(ipc.Cancel{})
	report := c.result(record.ExitCanceled)
	kept := func(r *ipc.Report) {
		t.Helper()
		if r.Outcome != ipc.Canceled || r.Rollback != string(record.RollbackKept) || r.Volume == nil || r.Volume.Path != c.target() || len(r.Warnings) > 0 {
			t.Errorf("report %+v, volume %+v", r.Summary, r.Volume)
		}
		onlyHas(t, c.pool, "a.raw", "b.raw")
	}
	kept(report)
	b, err := os.ReadFile(c.target())
	must(t, err)
	there := int64(0)
	for i := range b {
		if b[i] == c.content[i] {
			there++
		} else if b[i] != 0 {
			t.Fatalf("byte %d is neither the source's nor unwritten", i)
		}
	}
	if there < report.Written {
		t.Errorf("%d bytes are kept of %d that were written", there, report.Written)
	}

	must(t, os.Remove(c.dir.Result())) // as if it had died before it reported
	s := c.settler("settle", "--target", c.target())
	s.begin(ipc.Go{})
	kept(s.result(record.ExitCanceled))
}

func TestJobCanceledKeepsNothingWhereNothingIsWritten(t *testing.T) {
	c := cloning{daemon: newDaemon(t), pool: t.TempDir()}
	c.content = noise(t, c.source(), mib)
	c.start("clone", "--source", c.source(), "--target", c.target(), "--on-failure", "keep")
	c.begin(ipc.Go{Paused: true})
	await(c.daemon, 0, "paused", isState(ipc.ActivityPaused))
	c.say(ipc.Cancel{})
	if r := c.result(record.ExitCanceled); r.Rollback == string(record.RollbackKept) || len(r.Warnings) > 0 {
		t.Errorf("report %+v", r.Summary)
	}
	onlyHas(t, c.pool, "a.raw")
}

// settler starts a second helper on the job of one that has ended.
func (d *daemon) settler(args ...string) *daemon {
	d.t.Helper()
	d.frames.Close()
	d.control.Close()
	d.reader.Wait()
	s := &daemon{t: d.t, dir: d.dir, news: make(chan struct{}), exited: make(chan struct{}), reads: true}
	s.open()
	s.start(args...)
	return s
}

func TestJobThatDiedBehindItsCommitIsFoundComplete(t *testing.T) {
	c := startClone(t, mib)
	c.begin(ipc.Go{})
	c.result(record.ExitDone)
	must(t, os.Remove(c.dir.Result())) // as if it had died before it reported

	s := c.settler("settle", "--target", c.target())
	s.begin(ipc.Go{})
	report := s.result(record.ExitDone)
	if v := report.Volume; report.Outcome != ipc.Succeeded || v == nil || v.Path != c.target() || v.Size != mib {
		t.Errorf("report %+v, volume %+v", report.Summary, v)
	}
	sameContent(t, c.target(), c.content)
}

func TestJobThatDiedBetweenRecordAndRenameIsUndone(t *testing.T) {
	c := startClone(t, mib)
	c.begin(ipc.Go{})
	c.result(record.ExitDone)
	must(t, os.Remove(c.dir.Result()))
	// The commit record is durable and the name not yet given.
	must(t, os.Rename(c.target(), filepath.Join(c.pool, record.DraftName(c.dir.Job))))

	s := c.settler("settle", "--target", c.target())
	s.begin(ipc.Go{})
	if report := s.result(record.ExitCanceled); report.Rollback != string(record.RollbackDone) {
		t.Errorf("report %+v", report.Summary)
	}
	onlyHas(t, c.pool, "a.raw")
}

func TestJobThatDiedBehindItsDeletionIsFoundComplete(t *testing.T) {
	d, pool := newDaemon(t), t.TempDir()
	target := filepath.Join(pool, "a.raw")
	noise(t, target, mib)
	d.start("delete", "--target", target)
	d.begin(ipc.Go{})
	d.result(record.ExitDone)
	must(t, os.Remove(d.dir.Result())) // as if it had died before it reported

	s := d.settler("settle", "--target", target, "--deleted")
	s.begin(ipc.Go{})
	if report := s.result(record.ExitDone); report.Outcome != ipc.Succeeded || report.Volume != nil {
		t.Errorf("report %+v", report.Summary)
	}
}

func TestJobThatDiedBeforeItsDeletionIsFoundIncomplete(t *testing.T) {
	d, pool := newDaemon(t), t.TempDir()
	target := filepath.Join(pool, "a.raw")
	noise(t, target, mib)
	d.start("delete", "--target", target)
	d.begin(ipc.Go{Paused: true})
	must(t, d.cmd.Process.Kill())
	d.exit()

	s := d.settler("settle", "--target", target, "--deleted")
	s.begin(ipc.Go{})
	if report := s.result(record.ExitCanceled); report.Volume == nil {
		t.Errorf("report %+v", report.Summary)
	}
}

func TestJobFailuresHaveCodes(t *testing.T) {
	pool := t.TempDir()
	noise(t, filepath.Join(pool, "a.raw"), mib)
	noise(t, filepath.Join(pool, "b.raw"), mib)
	must(t, os.Symlink("a.raw", filepath.Join(pool, "link.raw")))
	path := func(name string) string { return filepath.Join(pool, name) }
	for name, c := range map[string]struct {
		code record.Code
		args []string
	}{
		"source missing":  {record.NotFound, []string{"clone", "--source", path("none.raw"), "--target", path("c.raw")}},
		"target there":    {record.Exists, []string{"clone", "--source", path("a.raw"), "--target", path("b.raw")}},
		"source is link":  {record.WrongState, []string{"clone", "--source", path("link.raw"), "--target", path("c.raw")}},
		"too large":       {record.NoSpace, []string{"allocate", "--target", path("c.raw"), "--capacity", "4611686018427387904"}},
		"shrink":          {record.Invalid, []string{"resize", "--target", path("a.raw"), "--capacity", "512"}},
		"differs":         {record.Mismatch, []string{"verify", "--target", path("a.raw"), "--checksum", "sha256:" + strings.Repeat("0", 64)}},
		"delete missing":  {record.NotFound, []string{"delete", "--target", path("none.raw")}},
		"pool not empty":  {record.HasChildren, []string{"pool-delete", "--target", pool}},
		"pool is missing": {record.NotFound, []string{"pool-start", "--target", path("none")}},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDaemon(t)
			d.start(c.args...)
			d.begin(ipc.Go{})
			report := d.result(c.code.Meaning().Exit)
			if report.Outcome != ipc.Failed || report.Error == nil || report.Error.Code != string(c.code) {
				t.Errorf("report %+v, error %+v", report.Summary, report.Error)
			}
			if e := report.Error; e != nil && !strings.Contains(e.Message, pool) {
				t.Errorf("message %q does not say what it is about", e.Message)
			}
		})
	}
	onlyHas(t, pool, "a.raw", "b.raw", "link.raw")
}

func TestJobWipeStoppedHalfWaySaysSo(t *testing.T) {
	d, pool := newDaemon(t), t.TempDir()
	target := filepath.Join(pool, "a.raw")
	noise(t, target, 64*mib)
	d.start("wipe", "--target", target)
	d.begin(ipc.Go{Limit: slow})
	await(d, 0, "durable progress", func(p ipc.Progress) bool { return p.Durable > 0 })
	d.say(ipc.Cancel{})
	report := d.result(record.ExitCanceled)
	if report.Rollback != string(record.RollbackKept) || report.Volume == nil || report.Volume.Size != 64*mib {
		t.Errorf("report %+v", report.Summary)
	}
	b, err := os.ReadFile(target)
	must(t, err)
	if !bytes.Equal(b[:512], make([]byte, 512)) || bytes.Count(b[63*mib:], []byte{0}) == mib {
		t.Error("want the beginning wiped and the end not")
	}
}

func TestJobWipePlansEveryPass(t *testing.T) {
	d, pool := newDaemon(t), t.TempDir()
	target := filepath.Join(pool, "a.raw")
	noise(t, target, mib)
	d.start("wipe", "--target", target, "--algorithm", "dod")
	d.begin(ipc.Go{})
	report := d.result(record.ExitDone)
	plan := of[ipc.Plan](d)
	all := of[ipc.Progress](d)
	if len(plan) != 1 || len(all) == 0 {
		t.Fatalf("plan %+v, progress %+v", plan, all)
	}
	// Three passes and the reading back that the algorithm asks for.
	if last := all[len(all)-1]; plan[0].Phases[0].Total != 4*mib || last.Total != 4*mib || last.Durable != 4*mib {
		t.Errorf("plan %+v, last progress %+v", plan[0], last)
	}
	if !report.Verified || report.Passes != 3 || report.Algorithm != "dod" {
		t.Errorf("report %+v", report.Summary)
	}
}

func TestKilledWipeIsNotCalledUndone(t *testing.T) {
	d, pool := newDaemon(t), t.TempDir()
	target := filepath.Join(pool, "a.raw")
	noise(t, target, 64*mib)
	d.start("wipe", "--target", target)
	d.begin(ipc.Go{Limit: slow})
	await(d, 0, "durable progress", func(p ipc.Progress) bool { return p.Durable > 0 })
	must(t, d.cmd.Process.Kill())
	d.exit()
	s := d.settler("settle", "--target", target)
	s.begin(ipc.Go{})
	report := s.result(record.ExitCanceled)
	if report.Rollback != string(record.RollbackNone) || report.Volume == nil || report.Volume.Size != 64*mib {
		t.Errorf("report %+v", report.Summary)
	}
}

// A helper is not blamed for the memory of who started it, which the kernel has
// handed on to it.
func TestPeakMemoryIsTheHelpersOwn(t *testing.T) {
	const large = 192 * mib
	ballast := bytes.Repeat([]byte{1}, large)
	d := newDaemon(t)
	d.start("allocate", "--target", filepath.Join(t.TempDir(), "v.raw"), "--capacity", "4K")
	d.begin(ipc.Go{})
	report := d.result(record.ExitDone)
	if report.MaxRSS < mib || report.MaxRSS > large/2 {
		t.Errorf("the helper says that it has had %d bytes", report.MaxRSS)
	}
	runtime.KeepAlive(ballast)
}

func TestJobsOfPoolsAndVolumes(t *testing.T) {
	pool := filepath.Join(t.TempDir(), "pool")
	target := filepath.Join(pool, "v.raw")
	run := func(args ...string) *ipc.Report {
		t.Helper()
		d := newDaemon(t)
		d.start(args...)
		d.begin(ipc.Go{})
		report := d.result(record.ExitDone)
		if report.Outcome != ipc.Succeeded {
			t.Fatalf("%q: %+v", args, report.Error)
		}
		return report
	}
	if r := run("pool-start", "--type", "dir", "--target", pool, "--build"); r.Pool == nil || r.Pool.Path != pool || r.Pool.Available == 0 {
		t.Errorf("pool %+v", r.Pool)
	}
	if r := run("allocate", "--target", target, "--capacity", "1048576"); r.Volume.Allocation < mib || r.Volume.Format != "raw" || r.Method != "fallocate" {
		t.Errorf("volume %+v", r.Volume)
	}
	if r := run("resize", "--target", target, "--capacity", "2097152"); r.Volume.Size != 2*mib || r.Volume.Allocation > mib+64<<10 {
		t.Errorf("volume %+v", r.Volume)
	}
	noise(t, target, 2*mib)
	if r := run("wipe", "--target", target, "--verify"); !r.Verified || r.Passes != 1 || r.Algorithm != "zero" {
		t.Errorf("wipe %+v", r.Summary)
	}
	sameContent(t, target, make([]byte, 2*mib))
	if r := run("resize", "--target", target, "--capacity", "4096", "--shrink"); r.Volume.Size != 4096 {
		t.Errorf("volume %+v", r.Volume)
	}
	if r := run("pool-refresh", "--target", pool); len(r.Items) != 1 || r.Items[0].Name != "v.raw" || r.Items[0].Size != 4096 {
		t.Errorf("items %+v", r.Items)
	}
	run("pool-stop", "--target", pool)
	if r := run("delete", "--target", target, "--wipe", "zero"); r.Volume != nil || r.Algorithm != "zero" {
		t.Errorf("delete %+v", r.Summary)
	}
	run("pool-delete", "--target", pool)
	if _, err := os.Stat(pool); !os.IsNotExist(err) {
		t.Errorf("pool is still there: %v", err)
	}
}

func TestJobWithoutItsLockTouchesNothing(t *testing.T) {
	c := cloning{daemon: newDaemon(t), pool: t.TempDir()}
	c.content = noise(t, c.source(), mib)
	other, err := os.Create(filepath.Join(t.TempDir(), "other"))
	must(t, err)
	c.lock.Close()
	c.lock = other
	c.start("clone", "--source", c.source(), "--target", c.target())
	if code := c.exit(); code != record.ExitFailed {
		t.Errorf("exit code %d", code)
	}
	onlyHas(t, c.pool, "a.raw")
}

// TestJobStoppedAtAnyMomentIsWholeOrGone cancels and kills clones at one frame
// after the other: from the first to the last, what has the name is whole, and
// what is not whole has no name and leaves nothing.
func TestJobStoppedAtAnyMomentIsWholeOrGone(t *testing.T) {
	for n := 1; ; n++ {
		ended := true
		t.Run(fmt.Sprintf("canceled at frame %d", n), func(t *testing.T) {
			c := startClone(t, 2*mib)
			c.begin(ipc.Go{Limit: slow})
			if ended = !c.frame(n); !ended {
				c.say(ipc.Cancel{})
				c.cmd.Process.Signal(syscall.SIGTERM) // may have ended
			}
			c.exit()
			report, _, err := ipc.LoadReport(c.dir.Result())
			must(t, err)
			c.wholeOrGone(report.Outcome == ipc.Succeeded)
		})
		t.Run(fmt.Sprintf("killed at frame %d", n), func(t *testing.T) {
			c := startClone(t, 2*mib)
			c.begin(ipc.Go{Limit: slow})
			if c.frame(n) {
				c.cmd.Process.Kill() // may have ended
			}
			c.exit()
			must(t, os.RemoveAll(c.dir.Result()))
			s := c.settler("settle", "--target", c.target())
			s.begin(ipc.Go{})
			s.exit()
			report, _, err := ipc.LoadReport(c.dir.Result())
			must(t, err)
			c.wholeOrGone(report.Outcome == ipc.Succeeded)
		})
		if ended || t.Failed() {
			return
		}
	}
}

// frame waits for the nth frame and reports whether it came before RESULT.
func (d *daemon) frame(n int) bool {
	d.t.Helper()
	late := time.After(patience)
	for {
		d.mu.Lock()
		seen, news := d.seen, d.news
		d.mu.Unlock()
		for i, f := range seen {
			if _, last := f.Body.(ipc.Result); last {
				return false
			}
			if i+1 == n {
				return true
			}
		}
		select {
		case <-news:
		case <-late:
			d.t.Fatalf("no frame %d", n)
		}
	}
}

func (c cloning) wholeOrGone(whole bool) {
	c.t.Helper()
	sameContent(c.t, c.source(), c.content)
	if !whole {
		onlyHas(c.t, c.pool, "a.raw")
		return
	}
	onlyHas(c.t, c.pool, "a.raw", "b.raw")
	sameContent(c.t, c.target(), c.content)
}
