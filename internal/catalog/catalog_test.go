package catalog

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"storaged/internal/events"
	"storaged/internal/ipc"
	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/store"
)

// keepDays is how long the tests keep what a retry may go on with.
const keepDays = 7

// desk is a catalog with one active pool, "p".
type desk struct {
	t *testing.T
	*Catalog
	store *store.Store
	last  int64
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	st, err := store.Open(filepath.Join(t.TempDir(), "db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	hub := events.New(16)
	t.Cleanup(hub.Close)
	d := &desk{t: t, store: st, Catalog: New(hub, "this", keepDays)}
	d.update(func(tx *store.Tx) error {
		return tx.PutPool(&store.Pool{Pool: record.Pool{
			Name: "p", UUID: "u", Type: "dir", Persistent: true, State: record.PoolActive, Target: record.Target{Path: "/p"},
		}})
	})
	return d
}

func (d *desk) update(fn func(*store.Tx) error) {
	d.t.Helper()
	if err := d.store.Update(fn); err != nil {
		d.t.Fatal(err)
	}
}

// job makes a live job of the operation.
func (d *desk) job(o operation.Operation) *store.Job {
	d.last++
	started := time.Now()
	return &store.Job{Params: operation.Encode(o), Go: true, Job: record.Job{
		ID: string(rune('a' + d.last)), Number: d.last, Kind: o.Kind(), Objects: o.Locks(), State: record.Running, Started: &started,
	}}
}

func (d *desk) grant(j *store.Job) error {
	err := d.store.Update(func(tx *store.Tx) error { return d.Granted(tx, j) })
	j.Granted = err == nil
	return err
}

// end ends a job in a state, with the error code if there is one.
func (d *desk) end(j *store.Job, s record.State, c record.Code, r *ipc.Report) {
	d.t.Helper()
	j.State = s
	if c != "" {
		j.Error = record.Errorf(c, "as the test wants it")
	}
	if s == record.Succeeded {
		j.Result = &record.Result{}
	}
	d.update(func(tx *store.Tx) error { return d.Ended(tx, j, r) })
}

func (d *desk) leftovers() (out []string) {
	d.t.Helper()
	d.update(func(tx *store.Tx) (err error) {
		out, err = Leftovers(tx)
		return err
	})
	return out
}

func (d *desk) volume(name string) *store.Volume {
	d.t.Helper()
	var v *store.Volume
	err := d.store.View(func(tx *store.Tx) (err error) {
		v, err = tx.Volume("p", name)
		return err
	})
	if err != nil {
		return nil
	}
	return v
}

func report(written int64, it *ipc.Item) *ipc.Report {
	return &ipc.Report{Summary: ipc.Summary{Volume: it, Written: written}}
}

// on is a volume of the pool "p".
func on(name string) operation.Volume {
	return operation.Volume{Pool: "p", Name: name, Type: "dir", Path: "/p/" + name}
}

// onPoolAt is a pool whose target has that path.
func onPoolAt(name, path string) operation.OnPool {
	return operation.OnPool{Volume: operation.Volume{Pool: name, Type: "dir", Path: path}}
}

func creating(name string) *operation.Create {
	return &operation.Create{Volume: on(name), Content: operation.Content{Format: "raw"}, Capacity: 10, Allocation: new(int64)}
}

func wiping(name string) *operation.Wipe { return &operation.Wipe{Volume: on(name), Algorithm: "zero"} }

func refreshing() *operation.PoolRefresh { return &operation.PoolRefresh{OnPool: onPoolAt("p", "/p")} }

// whole makes a ready volume.
func (d *desk) ready(name string) {
	d.t.Helper()
	j := d.job(creating(name))
	if err := d.grant(j); err != nil {
		d.t.Fatal(err)
	}
	d.end(j, record.Succeeded, "", report(0, &ipc.Item{Name: name, Size: 10, Capacity: 10}))
}

func TestNewVolumeIsListedWhileItIsMadeAndReadyAfter(t *testing.T) {
	d := newDesk(t)
	j := d.job(creating("v"))
	if err := d.grant(j); err != nil {
		t.Fatal(err)
	}
	if v := d.volume("v"); v == nil || v.State != record.VolumeBuilding || *v.Job != j.Number {
		t.Fatalf("while it is made: %+v", v)
	}
	d.end(j, record.Succeeded, "", report(0, &ipc.Item{Name: "v", Size: 10, Capacity: 999, Allocation: 4, Backing: "/etc/passwd"}))
	v := d.volume("v")
	if v == nil || v.State != record.VolumeReady || v.Capacity != 10 || v.Backing != "" || v.Allocation != 4 || *v.CreatedBy != j.Number {
		t.Errorf("after: %+v", v)
	}
}

func TestGrantRepeatedAfterACrashIsNotInItsOwnWay(t *testing.T) {
	d := newDesk(t)
	j := d.job(creating("v"))
	for range 2 {
		if err := d.grant(j); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.grant(d.job(creating("v"))); record.CodeOf(err) != record.Exists {
		t.Errorf("another job for the name: %v", err)
	}
	stop := d.job(&operation.PoolStop{OnPool: onPoolAt("p", "/p")})
	for range 2 {
		if err := d.grant(stop); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWhatAFailedJobLeavesOfItsVolume(t *testing.T) {
	settled := func(j *store.Job) { j.Undo = true }
	idle := func(j *store.Job) { j.Go = false }
	for _, c := range []struct {
		name   string
		code   record.Code
		report *ipc.Report
		how    func(*store.Job)
		want   record.VolumeState
	}{
		{"never wrote", record.Busy, report(0, nil), nil, record.VolumeReady},
		{"wrote and failed", record.IO, report(5, nil), nil, record.VolumeIncomplete},
		{"killed, then settled", record.Killed, report(0, &ipc.Item{Name: "v", Size: 10}), settled, record.VolumeIncomplete},
		{"killed by a cancel, then settled", record.CanceledCode, report(0, &ipc.Item{Name: "v", Size: 10}), settled, record.VolumeIncomplete},
		{"crashed, then settled", record.Internal, report(0, &ipc.Item{Name: "v", Size: 10}), settled, record.VolumeIncomplete},
		{"nothing known", record.Interrupted, nil, nil, record.VolumeIncomplete},
		{"never began", record.Internal, nil, idle, record.VolumeReady},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDesk(t)
			d.ready("v")
			j := d.job(wiping("v"))
			if err := d.grant(j); err != nil {
				t.Fatal(err)
			}
			if v := d.volume("v"); v.State != record.VolumeIncomplete {
				t.Fatalf("while it is wiped it is %s", v.State)
			}
			if c.how != nil {
				c.how(j)
			}
			d.end(j, record.Failed, c.code, c.report)
			if v := d.volume("v"); v.State != c.want {
				t.Errorf("it is %s, want %s", v.State, c.want)
			}
			again := d.job(wiping("v"))
			if err := d.grant(again); err != nil {
				t.Fatal(err)
			}
			d.end(again, record.Succeeded, "", report(10, &ipc.Item{Name: "v", Size: 10}))
			if v := d.volume("v"); v.State != record.VolumeReady || v.Job != nil {
				t.Errorf("after a whole wipe it is %+v", v)
			}
		})
	}
}

// foundImage puts an image of another's making into the catalog.
func (d *desk) foundImage(name string) {
	d.t.Helper()
	v := &store.Volume{Identity: "8:5:6", Volume: record.Volume{
		Pool: "p", Name: name, Path: "/p/" + name, Key: "/p/" + name, Format: "qcow2", Backing: "base", Capacity: 1 << 30,
		State: record.VolumeReady, Origin: record.Found, Generation: 1,
	}}
	d.update(func(tx *store.Tx) error { return tx.PutVolume(v) })
}

func TestImageThatAWipeHasTouchedIsRaw(t *testing.T) {
	wipe := wiping("v")
	trim := wiping("v")
	trim.Algorithm = "trim"
	delWipe := &operation.Delete{Volume: on("v"), Algorithm: "zero"}
	item := &ipc.Item{Name: "v", Size: 10, Identity: "8:5:6"}
	kept := func(j *store.Job) { j.Rollback = record.RollbackKept }
	settled := func(j *store.Job) { j.Undo = true }
	for _, c := range []struct {
		name   string
		of     operation.Operation
		state  record.State
		report *ipc.Report
		how    func(*store.Job)
		format string
	}{
		{"wiped", wipe, record.Succeeded, report(10, item), nil, "raw"},
		{"trimmed", trim, record.Succeeded, report(0, item), nil, "raw"},
		{"wipe failed half-way", wipe, record.Failed, report(4, item), nil, "raw"},
		{"trim canceled half-way", trim, record.Canceled, report(0, item), kept, "raw"},
		{"wipe failed before it wrote", wipe, record.Failed, report(0, item), nil, "qcow2"},
		{"wipe killed, then settled", wipe, record.Failed, report(0, nil), settled, "raw"},
		{"delete with a wipe canceled half-way", delWipe, record.Canceled, report(4, item), nil, "raw"},
		{"delete with a wipe canceled before", delWipe, record.Canceled, report(0, item), nil, "qcow2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDesk(t)
			d.foundImage("v")
			j := d.job(c.of)
			if err := d.grant(j); err != nil {
				t.Fatal(err)
			}
			if c.how != nil {
				c.how(j)
			}
			d.end(j, c.state, "", c.report)
			scan := d.job(refreshing())
			if err := d.grant(scan); err != nil {
				t.Fatal(err)
			}
			found := ipc.Item{Name: "v", Size: 10, Identity: "8:5:6", Format: "qcow2", Capacity: 1 << 30, Backing: "base"}
			d.end(scan, record.Succeeded, "", &ipc.Report{Items: []ipc.Item{found}})
			v, want := d.volume("v"), int64(10)
			if c.format == "qcow2" {
				want = 1 << 30
			}
			if v.Format != c.format || v.Capacity != want || (v.Backing == "") != (c.format == "raw") {
				t.Errorf("it is %s, %d bytes on %q; want %s, %d", v.Format, v.Capacity, v.Backing, c.format, want)
			}
		})
	}
}

func TestFormatOfWhatNobodyLookedAtIsNotProbed(t *testing.T) {
	d := newDesk(t)
	d.ready("v") // by a job that did not say which file it is
	found := ipc.Item{Name: "v", Size: 10, Identity: "8:5:6", Format: "qcow2", Capacity: 1 << 40, Backing: "/etc/shadow"}
	for range 2 {
		scan := d.job(refreshing())
		if err := d.grant(scan); err != nil {
			t.Fatal(err)
		}
		d.end(scan, record.Succeeded, "", &ipc.Report{Items: []ipc.Item{found}})
		if v := d.volume("v"); v.Format != record.FormatRaw || v.Origin != record.Made || !strings.HasPrefix(v.Identity, "8:5") {
			t.Errorf("a guest's header was believed: %+v", v)
		}
		found.Identity = "8:5" // the file system does not tell any more
	}
}

func TestWipeGoesOnOnlyWhereNobodyBeganToWriteMeanwhile(t *testing.T) {
	rival := func(d *desk) *store.Job { return d.job(wiping("v")) }
	for name, c := range map[string]struct {
		meanwhile func(*desk)
		anew      bool
	}{
		"nothing": {func(*desk) {}, false},
		"one that never began": {func(d *desk) {
			d.end(rival(d), record.Canceled, record.CanceledCode, nil)
		}, false},
		"one that broke off": {func(d *desk) {
			j := rival(d)
			if err := d.grant(j); err != nil {
				t.Fatal(err)
			}
			d.end(j, record.Canceled, record.CanceledCode, report(5, nil))
		}, true},
		"another file": {func(d *desk) {
			d.update(func(tx *store.Tx) error {
				v := d.volume("v")
				p, err := tx.Pool("p")
				if err != nil {
					return err
				}
				s := scan{Catalog: d.Catalog, tx: tx, pool: p, began: &store.Job{}}
				return s.apply(v, ipc.Item{Name: "v", Identity: v.Identity + "1", Size: 10})
			})
		}, true},
	} {
		for _, how := range []string{"resumed", "retried"} {
			d := newDesk(t)
			d.ready("v")
			j := d.job(wiping("v"))
			if err := d.grant(j); err != nil {
				t.Fatal(err)
			}
			next := j
			if how == "retried" {
				d.end(j, record.Failed, record.Killed, report(5, nil))
				w := wiping("v")
				w.After = j.Number
				next = d.job(w)
				next.From = j.ID
			} else {
				j.Resumed = 1 // and paused before it had another helper: it holds no locks
			}
			c.meanwhile(d)
			for range 2 { // the daemon went away before there was a helper
				if err := d.grant(next); err != nil {
					t.Fatal(err)
				}
			}
			if next.Anew != c.anew || len(next.Warnings) > 0 != c.anew {
				t.Errorf("%s after %s: anew is %v, warnings are %q", how, name, next.Anew, next.Warnings)
			}
		}
	}
}

// Also a rest of which nothing is in place makes the volume ready when it
// succeeds, so the same holds for it.
func TestRestOfAnUploadFollowsItsBeginning(t *testing.T) {
	for _, c := range []struct {
		state   record.VolumeState
		writer  int64
		u       operation.Upload
		refused bool
	}{
		{record.VolumeReady, 9, operation.Upload{}, false},
		{record.VolumeIncomplete, 7, operation.Upload{Continues: 7, Terms: operation.Terms{After: 7}, Skipped: 5}, false},
		{record.VolumeIncomplete, 8, operation.Upload{Continues: 7, Terms: operation.Terms{After: 8}, Skipped: 5}, false},
		{record.VolumeIncomplete, 9, operation.Upload{Continues: 7, Terms: operation.Terms{After: 7}, Skipped: 5}, true},
		{record.VolumeReady, 7, operation.Upload{Continues: 7, Terms: operation.Terms{After: 7}, Skipped: 5}, true},
		{record.VolumeReady, 7, operation.Upload{Continues: 7, Terms: operation.Terms{After: 7}}, false},
		{record.VolumeIncomplete, 9, operation.Upload{Continues: 7, Terms: operation.Terms{After: 7}}, true},
		{record.VolumeIncomplete, 0, operation.Upload{Continues: 7, Terms: operation.Terms{After: 7}, Skipped: 5}, true}, // a restored database does not know
	} {
		v := &store.Volume{Volume: record.Volume{Pool: "p", Name: "v", State: c.state}, Writer: c.writer}
		if err := Unfinished(v, &c.u); (record.CodeOf(err) == record.Changed) != c.refused {
			t.Errorf("%s, last changed by %d, to go on after %d with %d: %v", c.state, c.writer, c.u.After, c.u.Skipped, err)
		}
	}
}

// What an interrupted job has left is kept for a retry, but not for ever: after
// keep_days a refresh is begun that removes it, unless the job is pinned or a
// retry is under way.
func TestWhatIsKeptForARetryExpires(t *testing.T) {
	d := newDesk(t)
	ended := time.Now()
	interrupted := func(name string, pinned bool) *store.Job {
		j := d.job(creating(name))
		if err := d.grant(j); err != nil {
			t.Fatal(err)
		}
		j.Ended, j.Resumable, j.Pinned = &ended, &record.Resumable{Done: 1, Total: 2}, pinned
		d.end(j, record.Failed, record.Killed, report(1, nil))
		d.update(func(tx *store.Tx) error { return tx.PutJob(j) })
		return j
	}
	old, _, retried := interrupted("old", false), interrupted("pinned", true), interrupted("retried", false)
	retry := d.job(creating("retried"))
	retry.From = retried.ID
	d.update(func(tx *store.Tx) error { return tx.PutJob(retry) })
	begun := func(after time.Duration) []operation.Operation {
		d.now = func() time.Time { return ended.Add(after) }
		var all []operation.Operation
		d.update(func(tx *store.Tx) (err error) { all, err = d.Cleanups(tx); return err })
		return all
	}
	days := time.Duration(keepDays) * 24 * time.Hour
	if all := begun(days - time.Second); len(all) != 0 {
		t.Errorf("before its time: %+v", all)
	}
	all := begun(days)
	if len(all) != 1 || all[0].Kind() != record.PoolRefresh || all[0].On().Pool != "p" {
		t.Fatalf("after its time: %+v", all)
	}
	refresh := d.job(all[0])
	if err := d.grant(refresh); err != nil {
		t.Fatal(err)
	}
	if n := len(refresh.Argv); refresh.Argv[n-1] != "--discard="+old.ID || strings.Count(strings.Join(refresh.Argv, " "), "--discard") != 1 {
		t.Errorf("%q, want job %q alone to be removed", refresh.Argv, old.ID)
	}
	found := report(0, nil)
	found.Summary.Pool = &ipc.Pool{Path: "/p"}
	d.end(refresh, record.Succeeded, "", found)
	d.update(func(tx *store.Tx) error {
		j, err := tx.Job(old.ID)
		if err == nil && j.Resumable != nil {
			t.Errorf("it can be resumed still: %+v", j.Resumable)
		}
		return err
	})
	if all := begun(2 * days); len(all) != 0 {
		t.Errorf("it is removed twice: %+v", all)
	}
}

// What could not be undone is named with its path, in the job and in the status,
// until a refresh has removed it.
func TestWhatCouldNotBeUndoneIsToldUntilItIsRemoved(t *testing.T) {
	d := newDesk(t)
	clone := &operation.Clone{Volume: on("base"), Into: into("copy"), Format: "raw"}
	move := &operation.Move{Volume: on("base"), Into: into("moved"), Format: "raw"}
	d.ready("base")
	for _, w := range []operation.Operation{creating("v"), clone, move} {
		j := d.job(w)
		if err := d.grant(j); err != nil {
			t.Fatal(err)
		}
		j.Rollback = record.RollbackFailed
		d.end(j, record.Failed, record.Interrupted, nil)
		d.update(func(tx *store.Tx) error { return tx.PutJob(j) })
		draft := "/p/." + j.ID + ".storaged"
		if !strings.Contains(j.Error.Hint.String(), draft) || !strings.Contains(j.Error.Hint.String(), "pool refresh p") {
			t.Errorf("%s: hint %q", w.Kind(), j.Error.Hint)
		}
		told := d.leftovers()
		if len(told) != 1 || !strings.Contains(told[0], draft) || !strings.Contains(told[0], fmt.Sprintf("job %d ", j.Number)) {
			t.Errorf("%s: the status says %q", w.Kind(), told)
		}
		refresh := d.job(refreshing())
		if err := d.grant(refresh); err != nil || !slices.Contains(refresh.Argv, "--discard="+j.ID) {
			t.Errorf("%s: a refresh is told %q, %v", w.Kind(), refresh.Argv, err)
		}
		found := report(0, nil)
		found.Summary.Pool = &ipc.Pool{Path: "/p"}
		found.Items = []ipc.Item{{Name: "base", Size: 10, Format: "raw", Capacity: 10}}
		d.end(refresh, record.Succeeded, "", found)
		if told := d.leftovers(); len(told) != 0 {
			t.Errorf("%s: afterwards the status says %q", w.Kind(), told)
		}
	}
}

// A start that had not begun when the host ended is queued again by itself. One
// that had begun, or was canceled, is over, and the pool needs another.
func TestPoolIsStartedOnceAfterAReboot(t *testing.T) {
	d := newDesk(t)
	begun := func() int {
		d.update(func(tx *store.Tx) error {
			p, err := tx.Pool("p")
			if err != nil {
				return err
			}
			p.Autostart, p.Boot = true, "that"
			return tx.PutPool(p)
		})
		var start []operation.Operation
		d.update(func(tx *store.Tx) (err error) {
			start, err = d.Reset(tx)
			return err
		})
		return len(start)
	}
	if n := begun(); n != 1 {
		t.Errorf("it is started %d times", n)
	}
	j := d.job(&operation.PoolStart{OnPool: onPoolAt("p", "/p")})
	for _, c := range []struct {
		begun, canceled bool
		starts          int
	}{{false, false, 0}, {true, false, 1}, {false, true, 1}} {
		j.Go, j.CancelAsk = c.begun, c.canceled
		d.update(func(tx *store.Tx) error { return tx.PutJob(j) })
		if n := begun(); n != c.starts {
			t.Errorf("beside a start of before, %+v, it is started %d times", c, n)
		}
	}
}

func TestRolledBackVolumeIsGone(t *testing.T) {
	d := newDesk(t)
	j := d.job(creating("v"))
	if err := d.grant(j); err != nil {
		t.Fatal(err)
	}
	d.end(j, record.Canceled, record.CanceledCode, report(3, nil))
	if v := d.volume("v"); v != nil {
		t.Errorf("it is there: %+v", v)
	}
}

func TestRefreshLeavesAloneWhatJobsHave(t *testing.T) {
	d := newDesk(t)
	d.ready("gone")
	d.ready("same")
	building := d.job(creating("building"))
	if err := d.grant(building); err != nil {
		t.Fatal(err)
	}
	scan := d.job(refreshing())
	if err := d.grant(scan); err != nil {
		t.Fatal(err)
	}
	d.ready("newer") // made after the scan began, so not in it
	found := &ipc.Report{Items: []ipc.Item{
		{Name: "same", Size: 10, Format: "qcow2", Capacity: 1 << 40},
		{Name: "theirs", Size: 7, Format: "raw", Capacity: 7},
		{Name: "x", Ignored: "is a FIFO"},
	}}
	found.Summary.Pool = &ipc.Pool{Path: "/p", Capacity: 100, Available: 50, Allocation: 50}
	d.end(scan, record.Succeeded, "", found)
	for name, want := range map[string]bool{"gone": false, "same": true, "building": true, "newer": true, "theirs": true, "x": false} {
		if got := d.volume(name) != nil; got != want {
			t.Errorf("%s: in the catalog %v, want %v", name, got, want)
		}
	}
	if v := d.volume("same"); v.Format != record.FormatRaw || v.Capacity != 10 {
		t.Errorf("a guest's header was believed: %+v", v)
	}
	if v := d.volume("theirs"); v.Origin != record.Found || v.Capacity != 7 {
		t.Errorf("found: %+v", v)
	}
}

func TestRefreshBringsNothingBackThatWasDeletedMeanwhile(t *testing.T) {
	d := newDesk(t)
	d.ready("v")
	scan := d.job(refreshing())
	if err := d.grant(scan); err != nil {
		t.Fatal(err)
	}
	del := d.job(&operation.Delete{Volume: on("v")})
	if err := d.grant(del); err != nil {
		t.Fatal(err)
	}
	ended := time.Now()
	del.Ended = &ended
	d.end(del, record.Succeeded, "", report(0, nil))
	d.update(func(tx *store.Tx) error { return tx.PutJob(del) })
	d.end(scan, record.Succeeded, "", &ipc.Report{Items: []ipc.Item{{Name: "v", Size: 10, Format: "raw"}}})
	if v := d.volume("v"); v != nil {
		t.Errorf("it is back: %+v", v)
	}
}

func TestRefreshOfAHostileDirectoryKeepsItsRecordSmall(t *testing.T) {
	d := newDesk(t)
	scan := d.job(refreshing())
	if err := d.grant(scan); err != nil {
		t.Fatal(err)
	}
	items := make([]ipc.Item, 1000)
	for i := range items {
		items[i] = ipc.Item{Name: fmt.Sprintf("link%d", i), Ignored: "it is a symbolic link"}
	}
	d.end(scan, record.Succeeded, "", &ipc.Report{Items: items})
	w := scan.Warnings
	if len(w) != maxIgnored+1 || w[maxIgnored] != "ignored 980 more names" {
		t.Errorf("%d warnings, the last is %q", len(w), w[len(w)-1])
	}
	err := d.store.View(func(tx *store.Tx) error {
		p, err := tx.Pool("p")
		if err == nil && p.Ignored != len(items) {
			t.Errorf("%d ignored, want %d", p.Ignored, len(items))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestRetryIsRefusedWhereThePoolLiesElsewhereByNow(t *testing.T) {
	d := newDesk(t)
	d.ready("v")
	wipe := d.job(wiping("v"))
	d.update(func(tx *store.Tx) error {
		p, err := tx.Pool("p")
		if err != nil {
			return err
		}
		p.Target.Path = "/elsewhere"
		return tx.PutPool(p)
	})
	if err := d.grant(wipe); record.CodeOf(err) != record.Changed {
		t.Errorf("the old path was wiped: %v", err)
	}
}

func TestStartThatNeverGotThePoolLeavesItAsItIs(t *testing.T) {
	d := newDesk(t) // with an active pool
	start := d.job(&operation.PoolStart{OnPool: onPoolAt("p", "/p")})
	if err := d.grant(start); record.CodeOf(err) != record.WrongState {
		t.Fatalf("the start of an active pool: %v", err)
	}
	d.end(start, record.Failed, record.WrongState, nil)
	d.poolIs(record.PoolActive)

	stop, second := d.job(&operation.PoolStop{OnPool: onPoolAt("p", "/p")}), d.job(&operation.PoolStop{OnPool: onPoolAt("p", "/p")})
	if err := d.grant(stop); err != nil {
		t.Fatal(err)
	}
	d.end(second, record.Canceled, record.CanceledCode, nil) // while it waited
	d.poolIs(record.PoolStopping)
	d.end(stop, record.Failed, record.Internal, nil)
	d.poolIs(record.PoolActive)
}

func (d *desk) poolIs(want record.PoolState) {
	d.t.Helper()
	err := d.store.View(func(tx *store.Tx) error {
		p, err := tx.Pool("p")
		if err == nil && p.State != want {
			d.t.Errorf("the pool is %s, want %s", p.State, want)
		}
		return err
	})
	if err != nil {
		d.t.Fatal(err)
	}
}

func TestCloneOfAnImageStandsOnItsBackingToo(t *testing.T) {
	for _, backing := range []string{"/p/base", "base"} { // as headers have it
		d := newDesk(t)
		scan := d.job(refreshing())
		if err := d.grant(scan); err != nil {
			t.Fatal(err)
		}
		d.end(scan, record.Succeeded, "", &ipc.Report{Items: []ipc.Item{
			{Name: "base", Path: "/p/base", Format: "qcow2", Size: 9, Capacity: 100},
			{Name: "over", Path: "/p/over", Format: "qcow2", Size: 9, Capacity: 100, Backing: backing},
		}})
		clone := d.job(&operation.Clone{Volume: on("over"), Into: into("copy"), Format: "qcow2"})
		if err := d.grant(clone); err != nil {
			t.Fatal(err)
		}
		d.end(clone, record.Succeeded, "", report(9, &ipc.Item{Name: "copy", Path: "/p/copy", Size: 9, Capacity: 9}))
		if v := d.volume("copy"); v.Capacity != 100 || v.Backing != backing {
			t.Errorf("the clone is %+v", v)
		}
		d.update(func(tx *store.Tx) error { return tx.DeleteVolume("p", "over") })
		del := d.job(&operation.Delete{Volume: on("base")})
		if err := d.grant(del); record.CodeOf(err) != record.HasChildren {
			t.Errorf("the clone's backing %q may be deleted: %v", backing, err)
		}
	}
}

func TestStartOfAnotherPoolsDirectoryUnderAnotherPathIsRefused(t *testing.T) {
	d := newDesk(t)
	d.update(func(tx *store.Tx) error {
		p, err := tx.Pool("p")
		if err != nil {
			return err
		}
		p.Identity = "8:2"
		q := &store.Pool{Pool: record.Pool{Name: "q", UUID: "v", Type: "dir", Persistent: true, State: record.PoolInactive, Target: record.Target{Path: "/bind"}}}
		return errors.Join(tx.PutPool(p), tx.PutPool(q))
	})
	for inode, want := range map[uint64]record.State{2: record.Failed, 3: record.Succeeded} {
		start := d.job(&operation.PoolStart{OnPool: onPoolAt("q", "/bind")})
		if err := d.grant(start); err != nil {
			t.Fatal(err)
		}
		r := &ipc.Report{}
		r.Summary.Pool = &ipc.Pool{Path: "/bind", Identity: fmt.Sprintf("8:%d", inode)}
		d.end(start, record.Succeeded, "", r)
		if start.State != want {
			t.Errorf("inode %d: the start %s: %v", inode, start.State, start.Error)
		}
		d.update(func(tx *store.Tx) error {
			q, err := tx.Pool("q")
			if err == nil {
				q.State = record.PoolInactive
				err = tx.PutPool(q)
			}
			return err
		})
	}
}

func TestDeleteOfWhatOtherPoolsNeedIsRefused(t *testing.T) {
	d := newDesk(t)
	d.update(func(tx *store.Tx) error {
		p, err := tx.Pool("p")
		if err != nil {
			return err
		}
		p.Identity = "8:2"
		child := &store.Volume{Volume: record.Volume{Pool: "p", Name: "child", Path: "/p/child", Backing: "/base/b", Format: "qcow2", State: record.VolumeReady}}
		for name, path := range map[string]string{"same": "/p", "base": "/base", "free": "/free"} {
			q := &store.Pool{Pool: record.Pool{Name: name, UUID: name, Type: "dir", Persistent: true, State: record.PoolInactive, Target: record.Target{Path: path}}}
			err = errors.Join(err, tx.PutPool(q))
		}
		disk := &store.Pool{Identity: "of a disk", Pool: record.Pool{Name: "disk", UUID: "disk", Type: "disk", Persistent: true, State: record.PoolActive}}
		return errors.Join(err, tx.PutPool(p), tx.PutVolume(child), tx.PutPool(disk))
	})
	for name, want := range map[string]record.Code{"same": record.Busy, "base": record.HasChildren, "free": ""} {
		j := d.job(&operation.PoolDelete{OnPool: onPoolAt(name, "/"+map[string]string{"same": "p", "base": "base", "free": "free"}[name]), WithVolumes: true})
		if err := d.grant(j); record.CodeOf(err) != want {
			t.Errorf("pool %q: %v", name, err)
		}
		if want == "" && (!slices.Contains(j.Argv, "--other=8:2") || slices.Contains(j.Argv, "--other=of a disk")) {
			t.Errorf("its helper is not told of the pool in use, or of one that is none of its kind: %q", j.Argv)
		}
	}
}

// With a pool go those volumes and snapshots that the catalog has of it, and no others; of
// one that nobody has seen nothing goes. What to do is said.
func TestWithAPoolGoesWhatIsKnown(t *testing.T) {
	d := newDesk(t)
	d.ready("v")
	d.update(func(tx *store.Tx) error {
		p, err := tx.Pool("p")
		if err != nil {
			return err
		}
		v, err := tx.Volume("p", "v")
		if err != nil {
			return err
		}
		p.State, p.Source.Devices = record.PoolInactive, []string{"/dev/sdb"}
		v.Frozen = []store.Snapshot{{Snapshot: record.Snapshot{Name: "was"}}}
		return errors.Join(tx.PutPool(p), tx.PutVolume(v))
	})
	ask := func() *store.Job {
		on := onPoolAt("p", "/p")
		on.PoolSource.Devices = []string{"/dev/sdb"}
		return d.job(&operation.PoolDelete{OnPool: on, WithVolumes: true})
	}
	if err := d.grant(ask()); record.CodeOf(err) != record.WrongState {
		t.Errorf("a pool that was never started: %v", err)
	}
	d.update(func(tx *store.Tx) error {
		p, err := tx.Pool("p")
		if err != nil {
			return err
		}
		p.Built = true
		return tx.PutPool(p)
	})
	j := ask()
	if err := d.grant(j); err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{"--with-volumes", "--volume=v", "--volume=.v@was.storaged"} {
		if !slices.Contains(j.Argv, word) {
			t.Errorf("its helper is not told %q: %q", word, j.Argv)
		}
	}
	for _, c := range []struct {
		fault ipc.Error
		hint  string
	}{
		{ipc.Error{Code: "has_children", Message: "m", Offset: -1}, "pool start p lists the volumes"},
		{ipc.Error{Code: "wrong_state", Message: "m", Path: "/p", Offset: -1}, "or pool undefine p, which forgets"},
	} {
		j.Error = c.fault.Record()
		d.end(j, record.Failed, "", &ipc.Report{Summary: ipc.Summary{Outcome: ipc.Failed, Error: &c.fault}})
		if got := j.Error.Hint.String(); !strings.Contains(got, c.hint) {
			t.Errorf("%s: the hint is %q", c.fault.Code, got)
		}
		if err := d.grant(j); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPoolIsNotStartedWhereAnotherIsBeingDeleted(t *testing.T) {
	d := newDesk(t)
	d.update(func(tx *store.Tx) error {
		p, err := tx.Pool("p")
		if err != nil {
			return err
		}
		p.State = record.PoolInactive
		q := &store.Pool{Pool: record.Pool{Name: "q", UUID: "v", Type: "dir", Persistent: true, State: record.PoolInactive, Target: record.Target{Path: "/p"}}}
		return errors.Join(tx.PutPool(p), tx.PutPool(q))
	})
	remove := d.job(&operation.PoolDelete{OnPool: onPoolAt("p", "/p"), WithVolumes: true})
	if err := d.grant(remove); err != nil {
		t.Fatal(err)
	}
	start := &operation.PoolStart{OnPool: onPoolAt("q", "/p")}
	if err := d.grant(d.job(start)); record.CodeOf(err) != record.Busy {
		t.Errorf("while the other is being deleted: %v", err)
	}
	d.end(remove, record.Succeeded, "", report(0, nil))
	if err := d.grant(d.job(start)); err != nil {
		t.Errorf("after that: %v", err)
	}
}

func TestRefreshIsAppliedAfterTheClockWasSetBack(t *testing.T) {
	d := newDesk(t)
	d.now = func() time.Time { return time.Now().Add(24 * time.Hour) }
	d.ready("gone")
	d.ready("deleted")
	remove := d.job(&operation.Delete{Volume: on("deleted")})
	if err := d.grant(remove); err != nil {
		t.Fatal(err)
	}
	d.end(remove, record.Succeeded, "", report(0, nil))
	d.now = time.Now
	refresh := d.job(refreshing())
	if err := d.grant(refresh); err != nil {
		t.Fatal(err)
	}
	found := report(0, nil)
	found.Items = []ipc.Item{{Name: "deleted", Path: "/p/deleted", Key: "/p/deleted", Size: 1}}
	d.end(refresh, record.Succeeded, "", found)
	if v := d.volume("gone"); v != nil {
		t.Errorf("it is not there any more, and listed: %+v", v)
	}
	if d.volume("deleted") == nil {
		t.Error("somebody made it anew, and it is not listed")
	}
}

// A job of a kind that only another version knows ends, and what it was at work
// on is marked and let go.
func TestEndOfAnUnknownKind(t *testing.T) {
	d := newDesk(t)
	create, stop := d.job(creating("v")), d.job(&operation.PoolStop{OnPool: onPoolAt("p", "/p")})
	for _, j := range []*store.Job{create, stop} {
		if err := d.grant(j); err != nil {
			t.Fatal(err)
		}
		j.Params = []byte(`{"kind":"volume.transmogrify","pool":"p"}`)
		d.end(j, record.Succeeded, "", nil)
		if j.State != record.Failed || j.Code() != record.Inconsistent || j.Result != nil {
			t.Errorf("it ended %s: %+v", j.State, j.Error)
		}
	}
	if v := d.volume("v"); v.State != record.VolumeIncomplete || *v.Job != create.Number {
		t.Errorf("the volume is %+v", v)
	}
	d.poolIs(record.PoolActive)
}

// What a request was meant for must hold when the job begins, not only when it
// is asked for; what the job itself changed does not count.
func TestIfMatchHoldsAtTheGrant(t *testing.T) {
	d := newDesk(t)
	d.ready("v")
	w := wiping("v")
	w.IfMatch = d.volume("v").Generation
	first, second := d.job(w), d.job(w)
	if err := d.grant(first); err != nil {
		t.Fatal(err)
	}
	if err := d.grant(first); err != nil { // anew, after the daemon was away
		t.Errorf("granted again: %v", err)
	}
	d.end(first, record.Succeeded, "", report(10, nil))
	if err := d.grant(second); record.CodeOf(err) != record.Changed {
		t.Errorf("the second is granted a volume of another generation: %v", err)
	}
	stop := &operation.PoolStop{OnPool: onPoolAt("p", "/p")}
	stop.IfMatch = 9
	if err := d.grant(d.job(stop)); record.CodeOf(err) != record.Changed {
		t.Errorf("a pool of another generation: %v", err)
	}
}

func (d *desk) promised() (n int64) {
	d.t.Helper()
	d.update(func(tx *store.Tx) error {
		p, err := tx.Pool("p")
		if err == nil {
			n = p.Booked
		}
		return err
	})
	return n
}

func TestRoomIsPromisedOnce(t *testing.T) {
	d := newDesk(t)
	d.update(func(tx *store.Tx) error {
		p, err := tx.Pool("p")
		if err != nil {
			return err
		}
		p.Available = 100
		return tx.PutPool(p)
	})
	submit := func(w operation.Operation) (*store.Job, error) {
		j := d.job(w)
		return j, d.store.Update(func(tx *store.Tx) error { return errors.Join(Reserve(tx, w), tx.PutJob(j)) })
	}
	w := creating("a")
	w.Reserve = 60
	first, err := submit(w)
	if err != nil {
		t.Fatal(err)
	}
	w = creating("b")
	w.Reserve = 60
	if _, err := submit(w); !errors.Is(err, ErrTaken) {
		t.Errorf("room that was promised is promised again: %v", err)
	}
	d.update(func(tx *store.Tx) error { // a helper looked: the first has written, others have deleted
		p, err := tx.Pool("p")
		if err != nil {
			return err
		}
		return d.ApplySpace(tx, p, Space{&ipc.Pool{Available: 105}, time.Now(), map[int64]int64{first.Number: 20}})
	})
	if _, err := submit(w); err != nil {
		t.Errorf("room that was seen: %v", err)
	}
	if n := d.promised(); n != 120 {
		t.Errorf("%d are promised", n)
	}
	d.end(first, record.Failed, record.NoSpace, nil)
	if n := d.promised(); n != 60 {
		t.Errorf("%d are promised after an end", n)
	}
	d.update(func(tx *store.Tx) error {
		p, err := tx.Pool("p")
		if err != nil {
			return err
		}
		p.Booked = 7 // a job ended past the catalog
		return errors.Join(tx.PutPool(p), tx.PutJob(first), recount(tx))
	})
	if n := d.promised(); n != 60 {
		t.Errorf("counted again are %d", n)
	}
}

// Who is refused an incomplete volume is told how it can be made whole.
func TestRefusalOfAnIncompleteVolumeNamesTheWay(t *testing.T) {
	failed := func(j *store.Job) { j.State = record.Failed }
	upload := func(offset int64) *operation.Upload {
		return &operation.Upload{Volume: on("v"), Offset: offset}
	}
	for _, c := range []struct {
		of   operation.Operation
		ends func(*store.Job)
		hint string
	}{
		{wiping("v"), func(*store.Job) {}, "job wait 2"},
		{wiping("v"), func(j *store.Job) { j.State, j.Resumable = record.Failed, &record.Resumable{Done: 1, Total: 2} }, "job retry 2"},
		{wiping("v"), failed, "wipe it, or delete it"},
		{upload(0), failed, "volume upload p/v FILE resume"},
		{upload(0), func(j *store.Job) { j.State, j.Error = record.Failed, record.Errorf(record.Mismatch, "other") }, "volume upload p/v FILE"},
		{upload(0), func(j *store.Job) { j.State = record.Succeeded }, "volume upload p/v FILE"},
		{upload(5), failed, "wipe it, or delete it"},
	} {
		d := newDesk(t)
		d.ready("v")
		j := d.job(c.of)
		if err := d.grant(j); err != nil {
			t.Fatal(err)
		}
		c.ends(j)
		d.update(func(tx *store.Tx) error { return tx.PutJob(j) })
		err := d.store.View(func(tx *store.Tx) error { return Complete(tx, d.volume("v")) })
		if e := new(record.Error); !errors.As(err, &e) || !strings.HasPrefix(e.Hint.String(), c.hint) {
			t.Errorf("%s, %s: %v, want %q", j.Kind, j.State, e.Hint, c.hint)
		}
	}
}

// A job that has waited is for the volume that had the name when it was asked
// for, and a pool's delete for those that were in it.
func TestJobIsForWhatHadTheNameWhenItWasRecorded(t *testing.T) {
	d := newDesk(t)
	d.ready("v")
	jobs := []*store.Job{
		d.job(wiping("v")),
		d.job(&operation.Delete{Volume: on("v")}),
		d.job(&operation.PoolDelete{OnPool: onPoolAt("p", "/p"), WithVolumes: true}),
	}
	ofAnother := wiping("v")
	ofAnother.UUID = "of another pool"
	other := d.job(ofAnother)
	if err := d.grant(other); record.CodeOf(err) != record.Changed {
		t.Errorf("a job for another pool: %v", err)
	}
	d.update(func(tx *store.Tx) error { return errors.Join(tx.DeleteVolume("p", "v"), tx.RaiseNumber(d.last)) })
	d.ready("v")
	for _, j := range jobs {
		if err := d.grant(j); record.CodeOf(err) != record.Changed {
			t.Errorf("%s: %v", j.Kind, err)
		}
	}
	d.update(func(tx *store.Tx) error { return tx.RaiseNumber(d.last) })
	if err := d.grant(d.job(wiping("v"))); err != nil {
		t.Errorf("a job for the new volume: %v", err)
	}
}

func TestEveryKindIsKnown(t *testing.T) {
	for _, k := range record.Kinds() {
		o, ok := operation.New(k)
		if !ok {
			t.Fatalf("there are no jobs of kind %s", k)
		}
		if e := effectOf(o); e.granted == nil || e.ended == nil {
			t.Errorf("%s changes nothing in the catalog", k)
		}
	}
}

// What a job relies on is looked at in the same way when it begins as when it is asked
// for: what another left half changed since is refused, and its own mark, or that of the
// job that it is the retry of, means nothing.
func TestWhatBecameIncompleteSinceIsRefusedAtTheGrant(t *testing.T) {
	d := newDesk(t)
	d.ready("v")
	other, retried := int64(77), int64(78)
	v := d.volume("v")
	v.State, v.Job = record.VolumeIncomplete, &other
	d.update(func(tx *store.Tx) error { return tx.PutVolume(v) })
	grow := func() *store.Job {
		return d.job(&operation.Resize{Volume: on("v"), Format: record.FormatRaw, Capacity: 20})
	}
	if err := d.grant(grow()); record.CodeOf(err) != record.WrongState {
		t.Errorf("left incomplete by another: %v", err)
	}
	retry := grow()
	retry.RetryOf = &other
	if err := d.grant(retry); err != nil {
		t.Errorf("left so by the one that it is a retry of: %v", err)
	}
	retry = grow()
	retry.RetryOf = &retried
	if err := d.grant(retry); record.CodeOf(err) != record.WrongState {
		t.Errorf("a retry of another: %v", err)
	}
	own := grow()
	v.Job = &own.Number
	d.update(func(tx *store.Tx) error { return tx.PutVolume(v) })
	if err := d.grant(own); err != nil {
		t.Errorf("its own mark: %v", err)
	}
}

// A pool that nobody has defined to stay is forgotten when it is not active any more, with
// its volumes: it was stopped, did not start, or the host was started.
func TestTransientPoolIsForgottenWhenItIsNotActive(t *testing.T) {
	for name, ends := range map[string]func(d *desk){
		"stopped":     func(d *desk) { d.does(&operation.PoolStop{OnPool: onPoolAt("q", "/q")}, record.Succeeded) },
		"not started": func(d *desk) { d.does(&operation.PoolStart{OnPool: onPoolAt("q", "/q")}, record.Failed) },
	} {
		d := newDesk(t)
		state := record.PoolActive
		if name == "not started" {
			state = record.PoolInactive
		}
		d.update(func(tx *store.Tx) error {
			return errors.Join(
				tx.PutPool(&store.Pool{Pool: record.Pool{Name: "q", UUID: "q", Type: "dir", State: state, Target: record.Target{Path: "/q"}}}),
				tx.PutVolume(&store.Volume{Volume: record.Volume{Pool: "q", Name: "v"}}),
			)
		})
		ends(d)
		d.update(func(tx *store.Tx) error {
			if p, err := tx.Pool("q"); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("%s: the pool is %v, %v", name, p, err)
			}
			if vols, err := tx.Volumes("q"); err != nil || len(vols) != 0 {
				t.Errorf("%s: of its volumes are left %d, %v", name, len(vols), err)
			}
			return nil
		})
	}
}

// does has an operation granted and ended.
func (d *desk) does(o operation.Operation, outcome record.State) {
	j := d.job(o)
	if err := d.grant(j); err != nil {
		d.t.Fatal(err)
	}
	d.end(j, outcome, "", &ipc.Report{})
}

// A pool that is defined and was never made or started says what is missing.
func TestPoolThatExistsSaysTheWayOn(t *testing.T) {
	d := newDesk(t)
	p := func(kind string) *store.Pool {
		return &store.Pool{Pool: record.Pool{Name: kind, UUID: kind, Type: kind, State: record.PoolInactive, Target: record.Target{Path: "/" + kind}}}
	}
	for kind, want := range map[string]string{
		"fs":  "storagedctl pool build fs makes its storage, storagedctl pool start fs has it used as it is, storagedctl pool undefine fs forgets it",
		"dir": "storagedctl pool start dir, or storagedctl pool undefine dir to define it anew",
	} {
		d.update(func(tx *store.Tx) error { return tx.PutPool(p(kind)) })
		err := d.store.View(func(tx *store.Tx) error { return Definable(tx, p(kind)) })
		var e *record.Error
		if !errors.As(err, &e) || e.Code != record.Exists || e.Hint.Words(record.Call.CommandLine) != want {
			t.Errorf("%s: %v, hint %v", kind, err, e.Hint)
		}
	}
}

// What was read of a pool before it was stopped says nothing of it any more.
func TestFiguresOfAPoolThatIsNotInUseAreDropped(t *testing.T) {
	d := newDesk(t)
	d.update(func(tx *store.Tx) error {
		asked, err := tx.Pool("p")
		if err != nil {
			return err
		}
		stopped := *asked
		stopped.State = record.PoolInactive
		return errors.Join(tx.PutPool(&stopped), d.ApplySpace(tx, asked, Space{Info: &ipc.Pool{Available: 105}, Began: time.Now()}))
	})
	d.update(func(tx *store.Tx) error {
		p, err := tx.Pool("p")
		if err == nil && (p.Available != 0 || p.Observed != nil) {
			t.Errorf("it has %d bytes available, observed at %v", p.Available, p.Observed)
		}
		return err
	})
}
