package helper

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"storaged/internal/backends"
	"storaged/internal/ipc"
	"storaged/internal/record"
)

// opening notes what is done with it.
type opening struct {
	name   string
	events *[]string
	locked error // what Lock gives
}

func (o opening) note(what string) { *o.events = append(*o.events, what+" "+o.name) }

func (o opening) Open(context.Context, *Run) error { o.note("open"); return nil }
func (o opening) Lock(context.Context, *Run) error { o.note("lock"); return o.locked }
func (o opening) Close()                           { o.note("close") }

func TestTaskWorksWhenAllIsOpenAndTheProcessConfined(t *testing.T) {
	for _, c := range []struct {
		locked, confined error
		want             []string
	}{
		{nil, nil, []string{"open a", "open b", "lock a", "lock b", "confine", "work", "close b", "close a"}},
		{errors.New("busy"), nil, []string{"open a", "open b", "lock a", "lock b", "close b", "close a"}},
		{nil, errors.New("no"), []string{"open a", "open b", "lock a", "lock b", "confine", "close b", "close a"}},
	} {
		var events []string
		r, ctx := testRun(t)
		r.confine = func(Task) error { events = append(events, "confine"); return c.confined }
		report := r.do(ctx, Task{
			Doing: "try", Opens: []Opening{opening{"a", &events, nil}, opening{"b", &events, c.locked}},
			Work: func(context.Context, *Run) error { events = append(events, "work"); return nil },
		})
		if !slices.Equal(events, c.want) {
			t.Errorf("%q, want %q", events, c.want)
		}
		if (report.Outcome == ipc.Succeeded) != (c.locked == nil && c.confined == nil) {
			t.Errorf("report %+v", report.Summary)
		}
	}
}

// swapped puts another directory in place of one, and gives where it is now.
func swapped(t *testing.T, dir string) (away string) {
	t.Helper()
	away = dir + ".away"
	must(t, os.Rename(dir, away))
	must(t, os.Mkdir(dir, 0o700))
	return away
}

// Nothing is done in directories that have come to the places of the pools, nor is
// anything told to be done where nobody would look for it.
func TestEvacuationEndsWhereItsDirectoriesAreOthers(t *testing.T) {
	d := newDaemon(t)
	base := t.TempDir()
	from, to := filepath.Join(base, "from"), filepath.Join(base, "to")
	must(t, os.Mkdir(from, 0o700))
	must(t, os.Mkdir(to, 0o700))
	first, _ := noise(t, filepath.Join(from, "a"), mib), noise(t, filepath.Join(from, "b"), 2*mib)
	d.start("evacuate", "--target", from, "--to", to, "--keep-source")
	d.begin(ipc.Go{})
	w, _ := await(d, 0, "window behind the first volume", func(w ipc.Window) bool { return w.ID == 3 && !w.Open })
	fromAway, toAway := swapped(t, from), swapped(t, to)
	noise(t, filepath.Join(from, "b"), 4096)
	d.say(ipc.WindowAck{ID: w.ID})
	report := d.result(record.ExitPartial)
	if len(report.Items) != 2 || report.Bytes != mib || report.Items[0].Error != nil {
		t.Errorf("report %+v", report)
	} else if e := report.Items[1].Error; e == nil || e.Code != string(record.WrongState) || e.Path != from {
		t.Errorf("of the second volume it says %+v", e)
	}
	sameContent(t, filepath.Join(toAway, "a"), first)
	onlyHas(t, toAway, "a")
	onlyHas(t, fromAway, "a", "b")
	onlyHas(t, to)
	onlyHas(t, from, "b")
}

// A copy is not said to be made where the pool is not any more.
func TestCloneIntoADirectoryThatIsAnotherByNow(t *testing.T) {
	d := newDaemon(t)
	base := t.TempDir()
	from, to := filepath.Join(base, "from"), filepath.Join(base, "to")
	must(t, os.Mkdir(from, 0o700))
	must(t, os.Mkdir(to, 0o700))
	noise(t, filepath.Join(from, "a"), 4*mib)
	d.start("clone", "--source", filepath.Join(from, "a"), "--target", filepath.Join(to, "a"), "--reflink", "never")
	d.begin(ipc.Go{Limit: mib})
	await(d, 0, "plan", func(ipc.Plan) bool { return true })
	toAway := swapped(t, to)
	d.say(ipc.Limit{})
	if report := d.result(record.ExitBusy); report.Error == nil || report.Error.Path != to || !strings.Contains(report.Error.Message, "another directory is at its place") {
		t.Errorf("report %+v, error %+v", report.Summary, report.Error)
	}
	onlyHas(t, toAway)
	onlyHas(t, to)
}

// What is done to a file that somebody replaces or removes meanwhile is nowhere, whatever it
// was: the task has failed. One that has got another name has it still.
func TestWhatIsDoneToALostFileIsNotDone(t *testing.T) {
	for name, lose := range map[string]func(path string) error{
		"removed":  os.Remove,
		"replaced": func(path string) error { return os.Rename(path+".other", path) },
		"renamed":  func(path string) error { return os.Rename(path, path+".new") },
	} {
		for access, lost := range map[backends.Access]bool{backends.WriteExclusive: true, backends.Grow: true, backends.ReadShared: false} {
			at := testPlace(t, "a.raw")
			noise(t, at.Path, mib)
			noise(t, at.Path+".other", mib)
			r, ctx := testRun(t)
			report := r.do(ctx, Task{
				Doing: "try", Opens: []Opening{&Volume{Location: at, Access: access}},
				Work: func(context.Context, *Run) error { return lose(at.Path) },
			})
			code := record.Code("")
			if report.Error != nil {
				code = record.Code(report.Error.Code)
			}
			if lost = lost && name != "renamed"; lost != (code == record.Changed) || lost != (report.Outcome == ipc.Failed) {
				t.Errorf("%s, opened with %d: %s, %q", name, access, report.Outcome, code)
			}
		}
	}
}
