package helper

import (
	"context"
	"crypto/sha256"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"storaged/internal/backends"
	"storaged/internal/backends/all"
	"storaged/internal/diskio"
	"storaged/internal/ipc"
	"storaged/internal/record"
)

// openAs opens a file of a pool as another helper would.
func openAs(t *testing.T, pool, name string, a backends.Access) (backends.Volume, error) {
	t.Helper()
	b, err := all.Lookup("dir")
	must(t, err)
	v, err := b.Open(context.Background(), backends.Pool{Type: "dir", Target: pool}, name, a)
	if err == nil {
		t.Cleanup(func() { v.Close() }) // a second time does no harm
	}
	return v, err
}

// called calls for a window until the helper has asked to close it, and gives
// the id to acknowledge and the index behind the request.
func called(d *daemon, from int) (id int64, next int) {
	d.t.Helper()
	d.say(ipc.WindowCall{})
	opened, next := await(d, from, "open window", func(w ipc.Window) bool { return w.Open })
	w, next := await(d, next, "request to close the window", func(w ipc.Window) bool { return !w.Open })
	if w.ID != opened.ID+1 {
		d.t.Errorf("window %+v is closed by %+v", opened, w)
	}
	return w.ID, next
}

// grow makes a file longer, under the lock that is for that.
func grow(t *testing.T, pool, name string, size int64) {
	t.Helper()
	v, err := openAs(t, pool, name, backends.Grow)
	must(t, err)
	must(t, diskio.FileOf(v.Content()).Truncate(size))
	must(t, v.Close())
}

func TestJobCloneLetsItsSourceGrow(t *testing.T) {
	c := startClone(t, 8*mib)
	c.begin(ipc.Go{Limit: slow})
	next := c.moving()
	if p := of[ipc.Plan](c.daemon)[0].Phases; p[0].Mask != "G" || !p[0].OnCall || p[1].Mask != "" || p[1].OnCall {
		t.Errorf("plan %+v", p)
	}
	if _, err := openAs(t, c.pool, "a.raw", backends.Grow); err == nil {
		t.Error("the source can be grown without a window")
	}
	for _, size := range []int64{9 * mib, 10 * mib} {
		var id int64
		id, next = called(c.daemon, next)
		before := c.wrote()
		grow(t, c.pool, "a.raw", size)
		if _, err := openAs(t, c.pool, "a.raw", backends.WriteExclusive); err == nil {
			t.Error("a writer came in")
		}
		if after := c.wrote(); after != before {
			t.Errorf("it went from %d to %d bytes with its window open", before, after)
		}
		c.say(ipc.WindowAck{ID: id})
		_, next = await(c.daemon, next, "progress behind the window", any1[ipc.Progress])
	}
	c.say(ipc.Limit{})
	report := c.result(record.ExitDone)
	sameContent(t, c.target(), c.content)
	if report.Volume.Size != 8*mib || len(report.Warnings) != 1 || !strings.Contains(report.Warnings[0], "10.0 MiB") {
		t.Errorf("volume of %d bytes, warnings %q", report.Volume.Size, report.Warnings)
	}
}

// wrote is how many bytes of the clone the disk has.
func (c cloning) wrote() int64 {
	c.t.Helper()
	var st syscall.Stat_t
	must(c.t, syscall.Stat(filepath.Join(c.pool, names(c.t, c.pool)[0]), &st)) // its name begins with a dot
	return st.Blocks * 512
}

func TestJobCloneFailsWhenItsSourceIsKept(t *testing.T) {
	c := startClone(t, 8*mib)
	c.begin(ipc.Go{Limit: slow})
	id, _ := called(c.daemon, c.moving())
	_, err := openAs(t, c.pool, "a.raw", backends.Grow)
	must(t, err)
	c.say(ipc.WindowAck{ID: id}) // which is not true
	report := c.result(record.ExitBusy)
	if report.Error.Code != string(record.Busy) || !strings.Contains(report.Error.Message, "a.raw") {
		t.Errorf("%+v", report.Error)
	}
	onlyHas(t, c.pool, "a.raw")
}

func TestJobCloneFailsWhenItsSourceWasDeletedOrCut(t *testing.T) {
	for what, c := range map[string]struct {
		do   func(path string) error
		code record.Code
		exit int
	}{
		"deleted": {os.Remove, record.WrongState, record.ExitBusy},
		"cut":     {func(path string) error { return os.Truncate(path, mib) }, record.Changed, record.ExitBusy},
	} {
		t.Run(what, func(t *testing.T) {
			j := startClone(t, 8*mib)
			j.begin(ipc.Go{Limit: slow})
			id, _ := called(j.daemon, j.moving())
			must(t, c.do(j.source()))
			j.say(ipc.WindowAck{ID: id})
			report := j.result(c.exit)
			if report.Error.Code != string(c.code) || report.Rollback != string(record.RollbackDone) {
				t.Errorf("%+v, rollback %s", report.Error, report.Rollback)
			}
		})
	}
}

func TestJobVerifyLetsItsVolumeGrow(t *testing.T) {
	d, pool := newDaemon(t), t.TempDir()
	content := noise(t, pool+"/a.raw", 8*mib)
	d.start("verify", "--target", pool+"/a.raw")
	d.begin(ipc.Go{Limit: slow})
	_, next := await(d, 0, "progress", func(p ipc.Progress) bool { return p.Durable > 0 })
	id, _ := called(d, next)
	grow(t, pool, "a.raw", 12*mib)
	d.say(ipc.WindowAck{ID: id})
	d.say(ipc.Limit{})
	report := d.result(record.ExitDone)
	if report.Checksum != record.Checksum(sha256.Sum256(content)) || report.Bytes != 8*mib || len(report.Warnings) != 1 {
		t.Errorf("report %+v", report.Summary)
	}
}

// Paused, it opens its window all the same; canceled in it, it waits for
// nobody and leaves the source alone.
func TestJobCloneIsPausedAndCanceledInItsWindow(t *testing.T) {
	c := startClone(t, 8*mib)
	c.begin(ipc.Go{Limit: slow})
	next := c.moving()
	c.say(ipc.Pause{})
	_, next = await(c.daemon, next, "pause", func(s ipc.State) bool { return s.Activity == ipc.ActivityPaused })
	id, next := called(c.daemon, next)
	c.say(ipc.WindowAck{ID: id})
	called(c.daemon, next)
	c.say(ipc.Cancel{})
	report := c.result(record.ExitCanceled)
	if report.Outcome != ipc.Canceled || report.Rollback != string(record.RollbackDone) {
		t.Errorf("report %+v", report.Summary)
	}
	onlyHas(t, c.pool, "a.raw")
}
