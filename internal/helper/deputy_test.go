package helper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"storaged/internal/backends"
	"storaged/internal/backends/all"
	"storaged/internal/backends/deputy"
	"storaged/internal/confine"
	"storaged/internal/record"
)

// marking is a driver of directories that makes a mark beside a pool, by an errand.
type marking struct{ backends.Backend }

func (marking) Errand(_ context.Context, p backends.Pool, e backends.Errand) (backends.Answer, error) {
	return backends.Answer{}, os.WriteFile(p.Target+"."+e.Args[0], nil, 0o600)
}

func (marking) Grants(_ backends.Pool, u backends.Use) []backends.Errand {
	if !u.Makes {
		return nil
	}
	return []backends.Errand{{Do: "mark", Args: []string{u.Name}}}
}

// marker is the driver of dir pools with marks.
func marker(string) (backends.Backend, error) {
	b, err := all.Lookup("dir")
	return marking{b}, err
}

// marksBesideAPool is the environment of a process of these tests that has its deputy make
// marks beside the directory it names.
const marksBesideAPool = "STORAGED_TEST_MARKS"

// markBeside says what such a process can do that it should not.
func markBeside(dir string) error {
	backend, err := marker("")
	if err != nil {
		return err
	}
	at := (&Pool{Pool: backends.Pool{Type: "dir", Target: dir}, Backend: backend}).At("made")
	d := &Draft{Location: at, As: backends.NewVolume{Format: record.FormatRaw}}
	return RunManually(Task{
		Doing: "mark", Opens: []Opening{d},
		Work: func(ctx context.Context, r *Run) error {
			if err := os.WriteFile(dir+".by itself", nil, 0o600); !errors.Is(err, os.ErrPermission) {
				r.Warn("it makes a mark itself: %v", err)
			}
			mark := func(name string) error {
				_, err := deputy.Do(ctx, marking{}, at.Pool.Pool, backends.Errand{Do: "mark", Args: []string{name}})
				return err
			}
			if err := mark("another"); err == nil {
				r.Warn("it makes a mark that it has no need of")
			}
			return mark(d.Name)
		},
	}, ManualOptions{})
}

// What a confined helper cannot do its deputy does, and no more than was said before.
func TestConfinedHelperHasADeputy(t *testing.T) {
	if confine.Available().Landlock == 0 {
		t.Log("the kernel has no Landlock: nothing is kept from anybody")
		return
	}
	dir := filepath.Join(t.TempDir(), "pool")
	must(t, os.Mkdir(dir, 0o755))
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), marksBesideAPool+"="+dir)
	if out, err := cmd.CombinedOutput(); err != nil || strings.Contains(string(out), "warning") {
		t.Errorf("%v: %s", err, out)
	}
	marks, err := filepath.Glob(dir + ".*")
	if is := fmt.Sprint(marks); err != nil || is != fmt.Sprint([]string{dir + ".made"}) {
		t.Errorf("the marks are %s (%v)", is, err)
	}
}
