package main_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/testenv"
)

// opener is somebody else who has a volume open.
type opener struct {
	name  string
	reads bool // and lets others read
	grows bool // and lets it grow
	locks bool // as QEMU does; else only the kernel's list of open files tells of it
	// open opens the volume in a path until the end of the test or of stop, and gives
	// the holder's name, or why it could not be opened.
	open func(t *testing.T, path string) (holder string, stop func(), err error)
}

// disk is a virtual machine with a disk.
func disk(drive, device string, more ...string) func(*testing.T, string) (string, func(), error) {
	return func(t *testing.T, path string) (string, func(), error) {
		return testenv.Machine(t, append(more, "-drive", "if=none,id=d,"+drive+",file="+path, "-device", "virtio-blk-pci,drive=d"+device)...)
	}
}

// tool is a program of QEMU's that has been stopped with the volume open: PATH in its
// arguments, beside a new file OTHER.
func tool(argv ...string) func(*testing.T, string) (string, func(), error) {
	return func(t *testing.T, path string) (string, func(), error) {
		other := filepath.Join(t.TempDir(), "other")
		if err := os.WriteFile(other, noise(volumeBytes), 0o600); err != nil {
			t.Fatal(err)
		}
		put := strings.NewReplacer("PATH", path, "OTHER", other)
		argv := strings.Split(put.Replace(strings.Join(argv, "\n")), "\n")
		return testenv.Stopped(t, path, argv...)
	}
}

// qcow2 has an opener find a qcow2 image in the volume.
func qcow2(open func(*testing.T, string) (string, func(), error)) func(*testing.T, string) (string, func(), error) {
	return func(t *testing.T, path string) (string, func(), error) {
		made := filepath.Join(t.TempDir(), "made")
		if out, err := exec.Command(testenv.Tool(t, "qemu-img"), "create", "-q", "-f", "qcow2", made, "4M").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		image, err := os.ReadFile(made)
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(image); err != nil {
			t.Fatal(err)
		}
		f.Close() // what it holds need not last
		return open(t, path)
	}
}

// backed is a virtual machine whose disk stands on the volume.
func backed(t *testing.T, path string) (string, func(), error) {
	overlay := filepath.Join(t.TempDir(), "overlay")
	if out, err := exec.Command(testenv.Tool(t, "qemu-img"), "create", "-q", "-u", "-f", "qcow2", "-F", "raw", "-b", path, overlay, "4M").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return disk("format=qcow2", "")(t, overlay)
}

// openers are all ways in which QEMU opens an image.
var openers = []opener{
	{"vm-raw", false, false, true, disk("format=raw", "")},
	{"vm-share-rw", false, false, true, disk("format=raw", ",share-rw=on")},
	{"vm-read-only", true, true, true, disk("format=raw,read-only=on", "")},
	{"vm-qcow2", false, false, true, qcow2(disk("format=qcow2", ""))},
	{"vm-backing", true, false, true, backed},
	{"vm-incoming", true, true, false, disk("format=raw", "", "-incoming", "defer")},
	{"vm-locking-off", false, false, false, disk("format=raw,file.locking=off", "")},
	{"convert-source", true, false, true, tool("qemu-img", "convert", "-r", "4k", "-f", "raw", "-O", "raw", "PATH", "OTHER")},
	{"convert-target", false, false, true, tool("qemu-img", "convert", "-r", "4k", "-n", "-f", "raw", "-O", "raw", "OTHER", "PATH")},
	{"convert-unlocked", true, true, true, tool("qemu-img", "convert", "-U", "-r", "4k", "-f", "raw", "-O", "raw", "PATH", "OTHER")},
	{"create-preallocated", false, false, true, tool("qemu-img", "create", "-q", "-f", "raw", "-o", "preallocation=full", "PATH", "256M")},
	{"info-unlocked", true, true, true, tool("qemu-io", "-U", "-r", "-f", "raw", "-c", "sleep 60000", "PATH")},
}

// volumeBytes is the size of the volumes that are locked.
const volumeBytes = 4 * mib

// usage is what a job does with a volume.
type usage struct {
	name  string
	reads bool // and lets others read
	brief bool // it has no middle
	start func(h *host, volume string, o ...option) (started, error)
}

// usages are all jobs that change or read a volume's content, or take it away.
func usages(h *host) []usage {
	source := filepath.Join(h.dir, "source")
	h.must(os.WriteFile(source, noise(volumeBytes), 0o600))
	f := must(os.Open(source))(h.t)
	h.t.Cleanup(func() { f.Close() })
	with := func(verb func(string, ...option) (started, error), more ...option) func(*host, string, ...option) (started, error) {
		return func(_ *host, volume string, o ...option) (started, error) { return verb(volume, append(o, more...)...) }
	}
	return []usage{
		{"delete", false, true, with(h.remove)},
		{"delete-wiped", false, false, with(h.remove, wipeFirst("zero"))},
		{"wipe", false, false, with(h.wipe, acceptLimits)},
		{"trim", false, true, with(h.trim)},
		{"upload", false, false, func(h *host, volume string, o ...option) (started, error) { return h.hand(volume, f, o...) }},
		{"grow", false, true, func(h *host, volume string, o ...option) (started, error) {
			return h.resize(volume, 2*volumeBytes, o...)
		}},
		{"shrink", false, true, func(h *host, volume string, o ...option) (started, error) {
			return h.resize(volume, mib, append(o, shrink)...)
		}},
		{"rename", false, true, func(h *host, volume string, o ...option) (started, error) {
			return h.move(volume, volume+"-moved", o...)
		}},
		{"move", false, false, func(h *host, volume string, o ...option) (started, error) { return h.move(volume, "other/", o...) }},
		{"clone", true, false, func(h *host, volume string, o ...option) (started, error) {
			return h.clone(volume, volume+"-cloned", append(o, noReflink)...)
		}},
		{"verify", true, false, with(h.verify)},
	}
}

// lockedHost has a volume for each pair of a usage and some other name.
func lockedHost(t *testing.T, others []string) (*host, []usage) {
	h := newHost(t)
	h.otherPool("tmpfs")
	h.patchLimits(contract.LimitsPatch{Running: ptr(64), RunningPool: ptr(64), RunningDevice: ptr(64)})
	all := usages(h)
	for _, u := range all {
		for _, other := range others {
			h.must(os.WriteFile(h.path(u.name+"-"+other), noise(volumeBytes), 0o600))
		}
	}
	h.succeed(h.refreshPool("pool"))
	return h, all
}

// holds is the beginning of what is in a file.
func holds(t *testing.T, path string) string {
	t.Helper()
	f := must(os.Open(path))(t)
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, volumeBytes))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Whatever QEMU has open is refused to every job that would harm it, and the holder
// named. The volume stays as it is.
func TestWhatQEMUHasOpenIsBusy(t *testing.T) {
	t.Parallel()
	var names []string
	for _, o := range openers {
		names = append(names, o.name)
	}
	h, all := lockedHost(t, names)
	for _, o := range openers {
		t.Run(o.name, func(t *testing.T) {
			var under sync.WaitGroup
			for _, u := range all {
				volume := u.name + "-" + o.name
				holder, stop, err := o.open(t, h.path(volume))
				if err != nil {
					t.Fatal(err)
				}
				was := holds(t, h.path(volume))
				under.Go(func() {
					defer stop()
					j := h.end(u.start(h, volume))
					if u.reads && o.reads || u.name == "grow" && o.grows {
						if j.State != record.Succeeded {
							t.Errorf("%s: %s", u.name, outcome(j))
						}
						return
					}
					if j.State != record.Failed || j.Code() != record.Busy || !strings.Contains(fmt.Sprint(j.Error), holder) {
						t.Errorf("%s: %s, want busy with %q", u.name, outcome(j), holder)
					}
					if holds(t, h.path(volume)) != was {
						t.Errorf("%s has changed the volume", u.name)
					}
					h.is(volume, record.Volume{State: record.VolumeReady})
				})
			}
			under.Wait()
		})
	}
}

// What a job changes QEMU cannot open, what it reads QEMU cannot change. Who asks for
// no locks gets in: nothing in Linux keeps one away who may open the file.
func TestWhatAJobHasIsBusyForQEMU(t *testing.T) {
	t.Parallel()
	h, all := lockedHost(t, []string{"used"})
	for _, u := range all {
		if u.brief {
			continue
		}
		t.Run(u.name, func(t *testing.T) {
			volume := u.name + "-used"
			st := h.began(u.start(h, volume, limited(mib/4)))
			h.written(st.Job.ID, 1)
			for _, o := range openers {
				if o.name == "vm-qcow2" {
					continue // it writes an image into the volume first
				}
				_, stop, err := o.open(t, h.path(volume))
				if stop != nil {
					stop()
				}
				switch in := !o.locks || u.reads && o.reads; {
				case in && err != nil:
					t.Errorf("%s: %v", o.name, err)
				case !in && (err == nil || !strings.Contains(err.Error(), "lock")):
					t.Errorf("%s got in, or failed for another reason: %v", o.name, err)
				}
			}
			if j := h.job(st); j.State.Terminal() {
				t.Errorf("%s ended before the last had tried", u.name)
			}
			h.cancel(st)
			h.end(st, nil)
		})
	}
}

// The locks of a job are its helper's: they stay when the daemon dies, and go when
// the helper has left its result.
func TestImageLocksOutliveTheDaemon(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.random("disk", volumeBytes)
	st := h.began(h.wipe("disk", acceptLimits, limited(2*mib)))
	h.written(st.Job.ID, 1)
	h.kill()
	result := filepath.Join(h.dir, "state/jobs", st.Job.ID, "result")
	tries := 0
	h.await("the virtual machine to start", func() bool {
		tries++
		_, early := os.Stat(result)
		_, stop, err := disk("format=raw", "")(t, h.path("disk"))
		if err != nil {
			if !strings.Contains(err.Error(), "lock") {
				t.Errorf("refused for another reason: %v", err)
			}
			return false
		}
		stop()
		if _, err := os.Stat(result); err != nil {
			t.Errorf("the machine has the volume, and the job no result: %v, before %v", err, early)
		}
		return true
	})
	if tries < 2 {
		t.Error("the machine was never refused")
	}
	h.start()
	h.succeed(st, nil)
}
