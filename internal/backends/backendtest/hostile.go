package backendtest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"storaged/internal/backends"
	"storaged/internal/diskio"
	"storaged/internal/record"
	"storaged/internal/testenv"
)

// hostileCases are a directory that belongs to somebody who wants to get at a
// file outside of it, the canary.
var hostileCases = []testCase{
	{"what is no volume is never opened or removed", hostileOpen},
	{"what is no volume is told as ignored", hostileRefresh},
	{"no name can be taken from anything", hostileTaken},
	{"delete stops at anything else", hostileDelete},
	{"a planted temporary name is not written through", hostileTemp},
	{"a draft swapped during commit gets no name", hostileSwap},
	{"a planted temporary is not followed by settle", hostileSettle},
	{"names swapped all the time lead nowhere", hostileRace},
	{"a dead file system below the pool keeps nobody waiting", hostileSilence},
}

const canaryText = "nobody may read or change this"

// canary makes a file outside of the pool, but on its file system, and looks
// at the end whether it is as it was.
func (r *rig) canary() string {
	r.Helper()
	path := filepath.Join(filepath.Dir(r.p.Target), "canary")
	r.must(os.WriteFile(path, []byte(canaryText), 0o640))
	r.Cleanup(func() {
		r.mode(path, 0o640)
		if got, err := os.ReadFile(path); string(got) != canaryText {
			r.Errorf("the canary holds %q (%v)", got, err)
		}
	})
	return path
}

// plant puts everything into the pool that is no volume, and gives the names
// with a word of why.
func (r *rig) plant(canary string) map[string]string {
	r.Helper()
	at := func(name string) string { return filepath.Join(r.p.Target, name) }
	if _, err := os.Stat(canary); err != nil {
		r.must(os.WriteFile(canary, nil, 0o600))
	}
	r.must(os.Symlink(canary, at("symlink")))
	r.must(os.Symlink("/nowhere", at("dangling")))
	r.must(os.Symlink("loop", at("loop")))
	r.must(os.Symlink("/dev/null", at("devlink")))
	r.must(unix.Mkfifo(at("fifo"), 0o666))
	r.must(os.Mkdir(at("directory"), 0o755))
	planted := map[string]string{
		"symlink": "symbolic link", "dangling": "symbolic link", "loop": "symbolic link", "devlink": "symbolic link",
		"fifo": "FIFO", "directory": "directory",
	}
	if os.Link(canary, at("hardlink")) == nil { // not across file systems
		planted["hardlink"] = "hard links"
	}
	if os.Geteuid() == 0 {
		r.must(unix.Mknod(at("zero"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))))
		r.must(unix.Mknod(at("disk"), unix.S_IFBLK|0o666, int(unix.Mkdev(7, 250))))
		planted["zero"], planted["disk"] = "device", "device"
	}
	r.socket("socket")
	planted["socket"] = "socket"
	return planted
}

// socket makes a socket in the pool, by a path short enough for one.
func (r *rig) socket(name string) {
	r.Helper()
	dir, err := os.Open(r.p.Target)
	r.must(err)
	defer dir.Close()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), name)})
	r.must(err)
	l.SetUnlinkOnClose(false)
	r.must(l.Close())
}

func hostileOpen(r *rig) {
	r.started()
	for name, word := range r.plant(r.canary()) {
		r.unblocked(func() {
			_, read := r.b.Open(r.Context(), r.p, name, backends.ReadShared)
			_, write := r.b.Open(r.Context(), r.p, name, backends.WriteExclusive)
			for what, err := range map[string]error{"read": read, "write": write, "remove": r.remove(r.Context(), r.p, name)} {
				if !errors.Is(err, backends.ErrUnsafe) || !strings.Contains(err.Error(), word) {
					r.Errorf("%s of a %s: %v", what, name, err)
				}
			}
		})
		if _, err := os.Lstat(filepath.Join(r.p.Target, name)); err != nil {
			r.Errorf("it has gone: %v", err)
		}
	}
}

func hostileRefresh(r *rig) {
	r.started()
	planted := r.plant(r.canary())
	for _, name := range []string{"a\nb", "\x1b[2J", "\xff", "-x", " space", "bidi\u202e"} {
		r.put(name, nil)
		planted[record.Escape(name)] = "bad name"
	}
	r.put(".other.storaged", nil)
	r.must(os.Mkdir(filepath.Join(r.p.Target, "bad\ndirectory"), 0o755))
	delete(planted, "directory") // a subdirectory is nothing to tell of
	r.unblocked(func() {
		_, err := r.b.Refresh(r.Context(), r.p, func(v backends.VolumeInfo) error {
			word, ok := planted[v.Name]
			if !ok || !strings.Contains(v.Ignored, word) || !harmless(v.Name+v.Ignored) {
				r.Errorf("found %+v", v)
			}
			delete(planted, v.Name)
			return nil
		})
		r.is(err, nil)
	})
	if len(planted) > 0 {
		r.Errorf("not told of %v", planted)
	}
}

// harmless reports whether text does nothing to a terminal or a log.
func harmless(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsAny(text, "\n\x1b\u202e")
}

func hostileTaken(r *rig) {
	r.started()
	planted := r.plant(r.canary())
	before := r.tree(r.p.Target)
	for name := range planted {
		_, err := r.creator().Create(r.Context(), r.p, small(name, "job"))
		r.is(err, backends.ErrExists)
	}
	d := r.draft("late", "job", nil)
	r.must(os.Symlink("/nowhere", filepath.Join(r.p.Target, "late")))
	r.is(d.Commit(r.Context(), keepNothing), backends.ErrExists)
	r.must(d.Discard())
	r.must(os.Remove(filepath.Join(r.p.Target, "late")))
	if after := r.tree(r.p.Target); after != before {
		r.Errorf("was\n%sis\n%s", before, after)
	}
}

func hostileDelete(r *rig) {
	canary := r.canary()
	r.started()
	planted := r.plant(canary)
	r.must(r.clearTarget())
	r.put("bad\nname", nil)
	planted[`bad\nname`] = "bad name"
	r.put(".other.storaged", nil)
	planted[".other.storaged"] = "reserved"
	for name, word := range planted {
		r.must(r.clearTarget())
		r.made("volume", []byte("a"))
		r.plantOne(canary, name)
		err := r.deleter().Delete(r.Context(), r.p, true)
		if !errors.Is(err, backends.ErrNotEmpty) || !strings.Contains(err.Error(), word) || !strings.Contains(err.Error(), name) {
			r.Errorf("%s: %v", name, err)
		}
		r.holds("volume", []byte("a"))
	}
}

// plantOne puts one of plant's things into the pool.
func (r *rig) plantOne(canary, escaped string) {
	r.Helper()
	switch escaped {
	case `bad\nname`:
		r.put("bad\nname", nil)
	case ".other.storaged":
		r.put(escaped, nil)
	default:
		volume := filepath.Join(r.p.Target, "volume")
		aside := filepath.Join(filepath.Dir(r.p.Target), "aside")
		r.must(os.Rename(volume, aside))
		r.plant(canary)
		entries, err := os.ReadDir(r.p.Target)
		r.must(err)
		for _, e := range entries {
			if e.Name() != escaped {
				r.must(os.Remove(filepath.Join(r.p.Target, e.Name())))
			}
		}
		r.must(os.Rename(aside, volume))
	}
}

// clearTarget empties the pool without the driver.
func (r *rig) clearTarget() error {
	entries, err := os.ReadDir(r.p.Target)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.Remove(filepath.Join(r.p.Target, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

func hostileTemp(r *rig) {
	r.started()
	temp := filepath.Join(r.p.Target, record.DraftName("job"))
	for _, plant := range []func() error{
		func() error { return os.Symlink(r.canary(), temp) },
		func() error { return os.Symlink(filepath.Join(r.p.Target, "new"), temp) },
		func() error { return unix.Mkfifo(temp, 0o666) },
		func() error { return os.Link(r.canary(), temp) },
	} {
		r.must(plant())
		r.unblocked(func() {
			if _, err := r.creator().Create(r.Context(), r.p, small("a", "job")); err == nil {
				r.Error("the draft was made")
			}
		})
		r.must(os.Remove(temp))
	}
	r.must(r.deleter().Delete(r.Context(), r.p, false))
}

// hostileSwap puts something else in the draft's place at the last moment.
func hostileSwap(r *rig) {
	canary := r.canary()
	r.started()
	temp := filepath.Join(r.p.Target, record.DraftName("job"))
	away := filepath.Join(filepath.Dir(r.p.Target), "away")
	const nothing = "nothing at all"
	for what, swap := range map[string]func() error{
		"a symlink":    func() error { return os.Symlink(canary, temp) },
		"a hard link":  func() error { return os.Link(canary, temp) },
		"another file": func() error { return os.WriteFile(temp, []byte("planted"), 0o666) },
		nothing:        func() error { return nil },
	} {
		d := r.draft("a", "job", []byte("a"))
		err := d.Commit(r.Context(), func([]byte) error {
			return errors.Join(os.Rename(temp, away), swap())
		})
		if err == nil {
			r.Errorf("%s got the name", what)
		}
		if _, err := os.Lstat(filepath.Join(r.p.Target, "a")); !os.IsNotExist(err) {
			r.Errorf("%s: something has the name: %v", what, err)
		}
		r.must(d.Discard())
		r.must(d.Close())
		if err := os.Remove(temp); (err == nil) != (what != nothing) {
			r.Errorf("%s: discard removed it, or left what there was not: %v", what, err)
		}
	}
	second := r.draft("a", "job", []byte("a"))
	r.must(os.Link(temp, away+"-kept")) // the attacker keeps a name of it
	if second.Commit(r.Context(), keepNothing) == nil {
		r.Error("a draft with two names was committed")
	}
	r.must(second.Discard())
	r.has()
}

func hostileSettle(r *rig) {
	canary := r.canary()
	r.started()
	temp := filepath.Join(r.p.Target, record.DraftName("job"))
	for _, plant := range []func() error{
		func() error { return os.Symlink(canary, temp) },
		func() error { return unix.Mkfifo(temp, 0o666) },
		func() error { return os.Mkdir(temp, 0o777) },
	} {
		r.must(plant())
		r.unblocked(func() {
			_, err := r.creator().Settle(r.Context(), r.p, "a", "job", nil)
			r.is(err, backends.ErrUnsafe)
		})
		r.must(os.Remove(temp)) // it was left
	}
	r.must(os.Link(canary, temp)) // only this name of the canary goes
	_, err := r.creator().Settle(r.Context(), r.p, "a", "job", nil)
	r.must(err)
	r.must(r.deleter().Delete(r.Context(), r.p, false))
}

// raceTime is long enough for some thousand swaps, but where a busy host comes to a round in
// seconds: there is as much again, and again, for the first that is opened.
const (
	raceTime  = 1500 * time.Millisecond
	raceTimes = 20
)

// hostileRace lets somebody swap one name between a volume and everything else
// while the driver does its worst with it.
func hostileRace(r *rig) {
	canary := r.canary()
	r.started()
	enough, late := time.Now().Add(raceTime), time.Now().Add(testenv.Patience(raceTimes*raceTime))
	var attacker sync.WaitGroup
	over := make(chan struct{})
	attacker.Go(func() {
		for i := 0; !closed(over); i++ {
			r.swap(canary, i)
		}
	})
	opened, rounds := 0, 0
	for ; time.Now().Before(enough) || opened == 0 && time.Now().Before(late); rounds++ {
		r.unblocked(func() { opened += r.provoke(rounds) })
	}
	close(over)
	attacker.Wait()
	r.Logf("opened %d times in %d rounds", opened, rounds)
	if opened == 0 {
		r.Error("the volume was never opened, so nothing was tested")
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// provoke does everything the driver can do to volumes, and counts how often
// one could be opened. What else fails met the attacker, and may.
func (r *rig) provoke(round int) (opened int) {
	for _, a := range []backends.Access{backends.ReadShared, backends.WriteExclusive} {
		if v, err := r.b.Open(r.Context(), r.p, "a", a); err == nil {
			opened++
			r.scribble(v, a)
		}
	}
	_, err := r.b.Refresh(r.Context(), r.p, func(backends.VolumeInfo) error { return nil })
	r.is(err, nil)
	_ = r.remove(r.Context(), r.p, "a")
	d, err := r.creator().Create(r.Context(), r.p, small("b", fmt.Sprint("job", round)))
	if err != nil {
		return opened
	}
	_ = d.Commit(r.Context(), keepNothing)
	_ = d.Discard()
	r.is(d.Close(), nil)
	_ = r.remove(r.Context(), r.p, "b")
	return opened
}

// swap puts the i-th thing in the volume's place. What fails was undone by the
// driver at that moment.
func (r *rig) swap(canary string, i int) {
	next, name := filepath.Join(filepath.Dir(r.p.Target), "next"), filepath.Join(r.p.Target, "a")
	_ = os.Remove(next)
	switch i % 6 {
	case 0, 2:
		_ = os.WriteFile(next, []byte("volume"), 0o666)
	case 1:
		_ = os.Symlink(canary, next)
	case 3:
		_ = os.Link(canary, next)
	case 4:
		_ = unix.Mkfifo(next, 0o666)
	case 5:
		_ = os.Symlink("/dev/zero", next)
	}
	_ = os.Rename(next, name)
	if i%2 == 0 {
		_ = os.Symlink(canary, filepath.Join(r.p.Target, "b"))
		_ = os.Remove(filepath.Join(r.p.Target, "b"))
	}
}

// scribble fails if what was opened is anything but a regular file, and writes
// to it if it may: the canary would show that.
func (r *rig) scribble(v backends.Volume, a backends.Access) {
	info, err := diskio.FileOf(v.Content()).Stat()
	if err != nil || !info.Mode().IsRegular() {
		r.Errorf("opened %v (%v)", info, err)
	}
	if a == backends.WriteExclusive {
		if _, err := v.Content().WriteAt([]byte("scribble"), 0); err != nil {
			r.Error(err)
		}
	}
	r.is(v.Close(), nil)
}

// hostileSilence has the directory hold mount points of a file system that does
// not answer: one is a directory, one a file.
func hostileSilence(r *rig) {
	r.started().made("volume", []byte("a"))
	r.must(os.Mkdir(filepath.Join(r.p.Target, "directory"), 0o755))
	r.put("file", nil)
	for _, name := range []string{"directory", "file"} {
		wake := testenv.SilentOn(r, filepath.Join(r.p.Target, name))
		defer wake() // also those that should not wait
		defer time.AfterFunc(silence, wake).Stop()
	}
	found := map[string]string{}
	began := time.Now()
	_, err := r.b.Refresh(r.Context(), r.p, func(v backends.VolumeInfo) error {
		found[v.Name] = v.Ignored
		return nil
	})
	r.is(err, nil)
	if why, ok := found["file"]; !ok || !strings.Contains(why, "mount point") || len(found) != 2 || found["volume"] != "" {
		r.Errorf("found %v", found)
	}
	r.is(r.deleter().Delete(r.Context(), r.p, true), backends.ErrNotEmpty)
	for _, name := range []string{"directory", "file"} {
		_, err := r.b.Open(r.Context(), r.p, name, backends.WriteExclusive)
		r.is(err, backends.ErrUnsafe)
		r.is(r.remove(r.Context(), r.p, name), backends.ErrUnsafe)
		_, err = r.creator().Create(r.Context(), r.p, small(name, "job"))
		r.is(err, backends.ErrExists)
		_, err = r.creator().Settle(r.Context(), r.p, name, "job", nil)
		r.is(err, nil)
		info, err := r.b.Look(r.Context(), r.p, name)
		r.is(err, nil)
		if !strings.Contains(info.Ignored, "mount point") {
			r.Errorf("of %q is told %+v", name, info)
		}
	}
	r.holds("volume", []byte("a"))
	if took := time.Since(began); took > silence {
		r.Errorf("it took %v", took)
	}
}

// silence is longer than a disk takes. Then what waits for the dead file system
// is let go, and has failed.
const silence = 10 * time.Second
