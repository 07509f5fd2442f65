package helper

import (
	"cmp"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"storaged/internal/ipc"
	"storaged/internal/record"
	"storaged/internal/testenv"
)

// meddling is what somebody without locks does to a file that is read.
var meddling = map[string]struct {
	do   func(path string) error
	code record.Code // "": the content is what it was
}{
	"appends": {func(path string) error { return appendTo(path, []byte("more")) }, record.Changed},
	"writes":  {func(path string) error { return writeAt(path, 0, []byte("other")) }, record.Changed},
	"cuts":    {func(path string) error { return os.Truncate(path, mib) }, record.Changed},
	"writes and takes the time back": {func(path string) error {
		st, err := os.Stat(path)
		if err != nil {
			return err
		}
		return cmp.Or(writeAt(path, 0, []byte("other")), os.Chtimes(path, time.Time{}, st.ModTime()))
	}, record.Changed},
	"writes through a mapping":   {writeMapped, record.Changed},
	"links":                      {func(path string) error { return os.Link(path, filepath.Join(filepath.Dir(filepath.Dir(path)), "link")) }, ""},
	"gives it other permissions": {func(path string) error { return os.Chmod(path, 0o640) }, ""},
	"reads it":                   {func(path string) error { _, err := os.ReadFile(path); return err }, ""},
	"replaces it by another of the name": {func(path string) error {
		return cmp.Or(os.WriteFile(path+".new", []byte("other"), 0o600), os.Rename(path+".new", path))
	}, ""},
}

func appendTo(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	defer f.Close() // the error of the write counts
	_, err = f.Write(b)
	return err
}

func writeAt(path string, off int64, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close() // the error of the write counts
	_, err = f.WriteAt(b, off)
	return err
}

func writeMapped(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close() // the mapping stays
	m, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	m[0]++
	return unix.Munmap(m)
}

// Whatever reads a file to its end: what is done to that meanwhile is told.
func TestJobSourceThatIsChangedIsTold(t *testing.T) {
	tasks := map[string]func(source, target string) []string{
		"clone":    func(s, t string) []string { return []string{"clone", "--source", s, "--target", t} },
		"allocate": func(s, t string) []string { return []string{"allocate", "--source", s, "--target", t} },
		"upload":   func(s, t string) []string { return []string{"upload", "--source", s, "--target", t} },
		"download": func(s, t string) []string { return []string{"download", "--volume", s, "--target", t} },
		"hashed": func(s, t string) []string {
			return []string{"download", "--volume", s, "--target", t, "--checksum", "sha256"}
		},
		"verify": func(s, t string) []string { return []string{"verify", "--target", s} },
		"move":   func(s, t string) []string { return []string{"move", "--source", s, "--target", t} },
	}
	for task, args := range tasks {
		for how, m := range meddling {
			t.Run(task+"/somebody "+how, func(t *testing.T) {
				from, to := filepath.Join(t.TempDir(), "pool"), t.TempDir()
				if task == "move" {
					to = elsewhere(t)
				}
				must(t, os.Mkdir(from, 0o700))
				source, target := filepath.Join(from, "a.raw"), filepath.Join(to, "b.raw")
				content := noise(t, source, 4*mib)
				if task == "upload" {
					noise(t, target, 4*mib)
				}
				d := newDaemon(t)
				d.start(args(source, target)...)
				d.begin(ipc.Go{Limit: mib})
				await(d, 0, "progress", func(p ipc.Progress) bool { return p.Done > 0 })
				must(t, m.do(source))
				d.say(ipc.Limit{})
				if task == "move" && m.code == "" {
					d.exit() // a file that is to go may not be changed in any way
					return
				}
				d.changed(m.code != "")
				switch {
				case m.code != "" && (task == "clone" || task == "allocate" || task == "download" || task == "hashed" || task == "move"):
					onlyHas(t, to)
				case m.code == "" && task != "verify":
					sameContent(t, target, content)
				}
			})
		}
	}
}

// changed ends the job, which must fail because its source was changed, or not.
func (d *daemon) changed(was bool) {
	d.t.Helper()
	if !was {
		d.result(record.ExitDone)
		return
	}
	report := d.result(record.ExitBusy)
	if e := report.Error; e == nil || e.Code != string(record.Changed) || !strings.Contains(e.Message, "a.raw") {
		d.t.Errorf("the error is %+v", e)
	}
}

// A file beyond the pools that a virtual machine writes to is busy as a volume
// is, and so is one behind a loop device.
func TestSourceThatIsWrittenToIsBusy(t *testing.T) {
	source, to := filepath.Join(t.TempDir(), "vm.raw"), t.TempDir()
	noise(t, source, mib)
	there := filepath.Join(to, "there.raw")
	content := noise(t, there, mib)
	for _, holder := range []func(t *testing.T) string{
		func(t *testing.T) string { return testenv.QEMU(t, "-f", "raw", source) },
		func(t *testing.T) string { device, _ := testenv.Attach(t, source); return "loop device " + device },
	} {
		t.Run("", func(t *testing.T) {
			name := holder(t)
			for _, args := range [][]string{
				{"upload", "--source", source, "--target", there, "--yes"},
				{"allocate", "--source", source, "--target", filepath.Join(to, "new.raw")},
			} {
				out, err := exec.Command(helper, args...).CombinedOutput()
				exit, ok := errors.AsType[*exec.ExitError](err)
				if !ok || exit.ExitCode() != record.ExitBusy || !strings.Contains(string(out), "in use by "+name) {
					t.Errorf("%q: %v\n%s", args, err, out)
				}
			}
		})
	}
	t.Run("read-only", func(t *testing.T) {
		testenv.QEMU(t, "-r", "-f", "raw", source)
		if out, err := exec.Command(helper, "allocate", "--source", source, "--target", filepath.Join(to, "new.raw")).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
	sameContent(t, there, content)
}
