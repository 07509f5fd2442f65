package main_test

import (
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"storaged/internal/crash"
	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/testenv"
)

// allLocks has every job on images meet every opener of one.
var allLocks = flag.Bool("locks.all", false, "try all pairs of openers of an image and jobs on it, which takes minutes")

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
// arguments, beside a file OTHER with the same content.
func tool(argv ...string) func(*testing.T, string) (string, func(), error) {
	return func(t *testing.T, path string) (string, func(), error) {
		other := filepath.Join(t.TempDir(), "other")
		if err := os.WriteFile(other, []byte(holds(t, path)), 0o600); err != nil {
			t.Fatal(err)
		}
		put := strings.NewReplacer("PATH", path, "OTHER", other)
		argv := strings.Split(put.Replace(strings.Join(argv, "\n")), "\n")
		return testenv.Stopped(t, path, argv...)
	}
}

// qcow2Magic is how a qcow2 begins.
const qcow2Magic = "QFI\xfb"

// qcow2 has an opener find a qcow2 image in the volume.
func qcow2(open func(*testing.T, string) (string, func(), error)) func(*testing.T, string) (string, func(), error) {
	return func(t *testing.T, path string) (string, func(), error) {
		if strings.HasPrefix(holds(t, path), qcow2Magic) {
			return open(t, path)
		}
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
	{"create-preallocated", false, false, true, tool("qemu-img", "create", "-q", "-f", "raw", "-o", "preallocation=full", "PATH", "2G")},
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
	of    string // what the volume is made of, a file in the host's directory; "": noise
	// snapshot says whether the volume has one, "s".
	snapshot presence
}

// presence says whether a volume has a snapshot.
type presence int

const (
	unfrozen presence = iota
	frozen            // it has one
	thawing           // it has one, and that is what the job needs
)

// at is the file that is locked.
func (u usage) at(h *host, volume string) string {
	if u.snapshot == thawing {
		return h.path("." + volume + "@s.storaged")
	}
	return h.path(volume)
}

// admits says that the job and the opener can have the volume together.
func (u usage) admits(o opener) bool { return u.reads && o.reads || u.name == "grow" && o.grows }

// put makes a file for the usage.
func (u usage) put(h *host, path string) {
	h.t.Helper()
	b := noise(volumeBytes)
	if u.of != "" {
		b = must(os.ReadFile(filepath.Join(h.dir, u.of)))(h.t)
	}
	h.must(os.WriteFile(path, b, 0o600))
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
		{"delete", false, true, with(h.remove), "", unfrozen},
		{"delete-wiped", false, false, with(h.remove, wipeFirst("zero")), "", unfrozen},
		{"wipe", false, false, with(h.wipe, acceptLimits), "", unfrozen},
		{"trim", false, true, with(h.trim), "", unfrozen},
		{"upload", false, false, func(h *host, volume string, o ...option) (started, error) { return h.hand(volume, f, o...) }, "", unfrozen},
		{"grow", false, true, func(h *host, volume string, o ...option) (started, error) {
			return h.resize(volume, 2*volumeBytes, o...)
		}, "", unfrozen},
		{"shrink", false, true, func(h *host, volume string, o ...option) (started, error) {
			return h.resize(volume, mib, append(o, shrink)...)
		}, "", unfrozen},
		{"rename", false, true, func(h *host, volume string, o ...option) (started, error) {
			return h.move(volume, volume+"-moved", o...)
		}, "", unfrozen},
		{"move", false, false, func(h *host, volume string, o ...option) (started, error) { return h.move(volume, "other/", o...) }, "", unfrozen},
		{"clone", true, false, func(h *host, volume string, o ...option) (started, error) {
			return h.clone(volume, volume+"-cloned", append(o, noReflink)...)
		}, "", unfrozen},
		{"verify", true, false, with(h.verify), "", unfrozen},
	}
}

// lockable gives a host a volume for each pair of a usage and some other name.
func (h *host) lockable(all []usage, others []string) {
	h.t.Helper()
	h.otherPool("tmpfs")
	h.patchLimits(contract.LimitsPatch{Running: ptr(64), RunningPool: ptr(64), RunningDevice: ptr(64)})
	for _, u := range all {
		for _, other := range others {
			volume := u.name + "-" + other
			u.put(h, h.path(volume))
			if u.snapshot != unfrozen {
				u.put(h, h.path("."+volume+"@s.storaged"))
			}
		}
	}
	h.t.Cleanup(h.dropFrozen)
	h.succeed(h.refreshPool("pool"))
	for _, u := range all {
		for _, other := range others {
			if u.of == keyedImage {
				h.must(h.opens(u.name+"-"+other, "first"))
			}
		}
	}
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
	h := newDeadlyHost(t) // as quick as they are: what counts is how many jobs there are
	h.busyFor(usages(h), 1)
}

// Images are kept from the jobs on them as well.
func TestImagesThatQEMUHasOpenAreBusy(t *testing.T) {
	t.Parallel()
	h := newDeadlyHost(t) // as quick as they are: what counts is how many jobs there are
	h.busyFor(imageUsages(h), partOfLocks())
}

// partOfLocks has every pair tried, or every third one: each opener and each job is
// among those.
func partOfLocks() (every int) {
	if *allLocks {
		return 1
	}
	return 3
}

// busyFor has every opener open a volume for each of the usages, or for each of some,
// which must be refused.
func (h *host) busyFor(all []usage, every int) {
	var names []string
	for _, o := range openers {
		names = append(names, o.name)
	}
	h.lockable(all, names)
	for i, o := range openers {
		h.t.Run(o.name, func(t *testing.T) {
			var under sync.WaitGroup
			for k, u := range all {
				if (i+k)%every != 0 {
					continue
				}
				volume := u.name + "-" + o.name
				path := u.at(h, volume)
				holder, stop, err := o.open(t, path)
				if err != nil {
					t.Fatal(err)
				}
				was := holds(t, path)
				under.Go(func() {
					defer stop()
					j := h.end(u.start(h, volume))
					if u.admits(o) {
						if j.State != record.Succeeded {
							t.Errorf("%s: %s", u.name, outcome(j))
						}
						return
					}
					if j.State != record.Failed || j.Code() != record.Busy || !strings.Contains(fmt.Sprint(j.Error), holder) {
						t.Errorf("%s: %s, want busy with %q", u.name, outcome(j), holder)
					}
					if holds(t, path) != was {
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
	h := newDeadlyHost(t)
	all := usages(h)
	h.lockable(all, []string{"used"})
	for _, u := range all {
		if u.brief {
			continue
		}
		t.Run(u.name, func(t *testing.T) {
			volume := u.name + "-used"
			st := h.began(u.start(h, volume, limited(mib/4)))
			h.written(st.Job.ID, 1)
			h.pause(st) // it keeps what it has until the last has tried
			u.keepsAway(t, h.path(volume), openers)
			h.cancel(st)
			h.end(st, nil)
		})
	}
}

// Jobs that are over in a moment are stopped when they have what they need, and jobs on
// images with them.
func TestWhatABriefJobHasIsBusyForQEMU(t *testing.T) {
	t.Parallel()
	h := newDeadlyHost(t)
	all := append(usages(h), imageUsages(h)...)
	h.lockable(all, []string{"used"})
	for k, u := range all {
		if !u.brief {
			continue
		}
		var some []opener
		for i, o := range openers {
			if (i+k)%partOfLocks() == 0 {
				some = append(some, o)
			}
		}
		t.Run(u.name, func(t *testing.T) {
			volume := u.name + "-used"
			st, goOn := h.stoppedAt(crash.Locked, func() (started, error) { return u.start(h, volume) })
			u.keepsAway(t, u.at(h, volume), some)
			goOn()
			h.succeed(st, nil)
		})
	}
}

// stoppedAt starts a job whose helper stops at a point, until goOn is called. Helpers that
// only look for the daemon go on at once.
func (h *host) stoppedAt(p crash.Point, start func() (started, error)) (st started, goOn func()) {
	h.t.Helper()
	h.must(os.WriteFile(h.crashFile(string(p)), []byte("stop"), 0o600))
	begun := make(chan error, 1)
	go func() {
		var err error
		st, err = start()
		begun <- err
	}()
	var helper int
	h.await("a helper to stop", func() bool {
		for _, pid := range h.processes() {
			if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err != nil || !strings.Contains(string(stat), ") T ") {
				continue
			}
			env, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
			if strings.Contains(string(env), "STORAGED_JOB_STATE="+filepath.Join(h.dir, "state")) {
				helper = pid
			} else {
				_ = syscall.Kill(pid, syscall.SIGCONT) // or it was killed
			}
		}
		return helper != 0
	})
	h.must(os.Remove(h.crashFile(string(p))))
	h.must(<-begun)
	return st, func() { h.must(syscall.Kill(helper, syscall.SIGCONT)) }
}

// keepsAway has openers try to open a file that a job has.
func (u usage) keepsAway(t *testing.T, path string, those []opener) {
	t.Helper()
	for _, o := range those {
		if o.name == "vm-qcow2" && !strings.HasPrefix(holds(t, path), qcow2Magic) {
			continue // it writes an image into the volume first
		}
		_, stop, err := o.open(t, path)
		if stop != nil {
			stop()
		}
		switch in := !o.locks || u.admits(o); {
		case in && err != nil:
			t.Errorf("%s: %v", o.name, err)
		case !in && (err == nil || !strings.Contains(err.Error(), "lock")):
			t.Errorf("%s got in, or failed for another reason: %v", o.name, err)
		}
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
	helper := h.running(st).Helper.PID
	h.must(syscall.Kill(helper, syscall.SIGSTOP)) // it cannot end before it was tried
	h.kill()
	result := filepath.Join(h.dir, "state/jobs", st.Job.ID, "result")
	refused := false
	h.await("the virtual machine to start", func() bool {
		_, early := os.Stat(result)
		_, stop, err := disk("format=raw", "")(t, h.path("disk"))
		if err != nil {
			if !strings.Contains(err.Error(), "lock") {
				t.Errorf("refused for another reason: %v", err)
			}
			if !refused {
				h.must(syscall.Kill(helper, syscall.SIGCONT))
			}
			refused = true
			return false
		}
		stop()
		if _, err := os.Stat(result); err != nil {
			t.Errorf("the machine has the volume, and the job no result: %v, before %v", err, early)
		}
		return true
	})
	if !refused {
		t.Error("the machine was never refused")
	}
	h.start()
	h.succeed(st, nil)
}
