package helper

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"storaged/internal/backends"
	"storaged/internal/backends/all"
	"storaged/internal/confine"
	"storaged/internal/ipc"
	"storaged/internal/record"
)

// A helper that can give up less than is asked says how far it came, and does nothing.
func TestHelperDoesNothingWhereItIsConfinedLessThanIsAsked(t *testing.T) {
	partly := confine.Level{Seccomp: true, Lacks: []string{"the kernel has no Landlock"}}
	for _, c := range []struct {
		least   string
		level   confine.Level
		refused bool
	}{
		{"", confine.Level{}, false},
		{record.NotConfined, confine.Level{}, false},
		{record.ConfinedPartly, partly, false},
		{record.ConfinedFully, partly, true},
		{record.ConfinedFully, confine.Level{Landlock: 7, Seccomp: true}, false},
	} {
		r := &Run{least: c.least}
		err := r.enough(c.level)
		if (err != nil) != c.refused {
			t.Errorf("asked for %q, confined %v: %v", c.least, c.level, err)
		}
		if err == nil {
			continue
		}
		for _, said := range []string{`"partial"`, `"full"`, "no Landlock"} {
			if !strings.Contains(err.Error(), said) {
				t.Errorf("%v does not say %s", err, said)
			}
		}
	}
}

// makesBesideOthers is the environment of a process of these tests that makes a volume in
// the directory it names, and tries there what a helper that was taken over would.
const makesBesideOthers = "STORAGED_TEST_DIRECTORY"

// makeBesideOthers says what of the volumes beside its draft such a process reaches.
func makeBesideOthers(dir string) error {
	backend, err := all.Lookup("dir")
	if err != nil {
		return err
	}
	at := (&Pool{Pool: backends.Pool{Type: "dir", Target: dir}, Backend: backend}).At("made")
	d := &Draft{Location: at, As: backends.NewVolume{Format: record.FormatRaw}}
	return RunManually(Task{
		Doing: "make", Makes: at.Path, Opens: []Opening{Begun{d}},
		Work: func(ctx context.Context, r *Run) error {
			r.Plan(Single("make"), Commit())
			r.Next(0)
			return r.Create(ctx, d, func() error {
				for _, way := range []int{os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR | os.O_TRUNC} {
					if _, err := os.OpenFile(filepath.Join(dir, "other"), way, 0); !errors.Is(err, os.ErrPermission) {
						r.Warn("another volume is opened (%#x): %v", way, err)
					}
				}
				_, err := d.Draft.Content().WriteAt([]byte("made"), 0)
				return err
			})
		},
	}, ManualOptions{})
}

// A helper that makes a volume reaches no other in its pool.
func TestHelperThatMakesAVolumeOpensNoOther(t *testing.T) {
	if confine.Available().Landlock == 0 {
		t.Log("the kernel has no Landlock: nothing is kept from anybody")
		return
	}
	dir := t.TempDir()
	other := noise(t, filepath.Join(dir, "other"), 4096)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), makesBesideOthers+"="+dir)
	if out, err := cmd.CombinedOutput(); err != nil || strings.Contains(string(out), "warning") {
		t.Errorf("%v: %s", err, out)
	}
	onlyHas(t, dir, "made", "other")
	sameContent(t, filepath.Join(dir, "other"), other)
	sameContent(t, filepath.Join(dir, "made"), []byte("made"))
}

// A draft that the task does not come to is taken away.
func TestDraftThatIsBegunAndNotMadeLeavesNothing(t *testing.T) {
	r, ctx := testRun(t)
	at := testPlace(t, "a.raw")
	report := r.do(ctx, Task{Doing: "try", Opens: []Opening{Begun{&Draft{Location: at}}}, Work: func(context.Context, *Run) error {
		onlyHas(t, at.Pool.Target, record.DraftName(r.ID))
		return errors.New("no")
	}})
	if report.Outcome != ipc.Failed || report.Rollback != string(record.RollbackNone) {
		t.Errorf("report %+v, error %+v", report.Summary, report.Error)
	}
	onlyHas(t, at.Pool.Target)
}
