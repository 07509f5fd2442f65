package main_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"storaged/internal/record"
	"storaged/internal/testenv"
)

// The gate runs a little of what scripts/chaos runs.
var chaosSnapshots = flag.Int("chaos.snapshots", 3, "random kills of daemons and helpers at work on snapshots, for each kind of them")

// shelf is a volume with its snapshots and copies of them, as they are to be.
type shelf struct {
	*host
	rng    *rand.Rand
	dir    string
	volume []byte            // what a guest sees
	was    map[string][]byte // what it saw, by snapshot
	copies map[string][]byte // what it sees of the copies, by volume
	next   int
}

// shelved is one job that is under way, and what is so when it has succeeded.
type shelved struct {
	st    started
	apply func()
}

// TestSnapshotsKeepTheirContentsThroughKills kills the daemon, helpers, or both, while
// snapshots of one volume are made, deleted, copied and restored, several at once. Each
// content is what it was afterwards, whatever became of the jobs.
func TestSnapshotsKeepTheirContentsThroughKills(t *testing.T) {
	t.Parallel()
	testenv.Tool(t, "qemu-storage-daemon")
	for i, kind := range []string{"xfs", "ext4"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			s := &shelf{host: h, rng: rand.New(rand.NewPCG(*chaosSeed, uint64(i))), was: map[string][]byte{}, copies: map[string][]byte{}}
			s.dir = filepath.Join(testenv.Mount(t, kind), "pool")
			h.define("other", s.dir)
			h.succeed(h.create("other/base", 4*mib))
			h.must(os.WriteFile(filepath.Join(s.dir, "base"), bytes.Repeat([]byte("base"), mib), 0o600))
			h.image("other", "-f", "qcow2", "-F", "raw", "-b", filepath.Join(s.dir, "base"), filepath.Join(s.dir, "disk"))
			for n := range *chaosSnapshots {
				s.round()
				if t.Failed() {
					t.Fatalf("at kill %d (seed %d)", n, *chaosSeed)
				}
			}
			for name := range s.copies {
				h.succeed(h.remove("other/" + name))
			}
			h.succeed(h.remove("other/disk", withSnapshots))
			h.succeed(h.remove("other/base"))
			if left, _ := os.ReadDir(s.dir); len(left) > 0 {
				t.Errorf("there is still %v", left)
			}
		})
	}
}

// round writes something, begins some jobs, kills, and looks at all there is.
func (s *shelf) round() {
	s.t.Helper()
	disk := filepath.Join(s.dir, "disk")
	for range 1 + s.rng.IntN(3) {
		s.qemuIO(disk, fmt.Sprintf("write %s %dk %dk", []string{"-P 1", "-P 2", "-P 3", "-z"}[s.rng.IntN(4)], 64*s.rng.IntN(32), 64*(1+s.rng.IntN(31))))
	}
	s.volume = s.guest(disk)
	under := s.begin()
	pause := time.NewTimer(time.Duration(s.rng.IntN(300)) * time.Millisecond) // the moment is the point
	<-pause.C
	s.strike(s.rng)
	for _, w := range under {
		if j := s.end(w.st, nil); j.State == record.Succeeded {
			w.apply()
		} else if !slices.Contains([]record.Code{record.Interrupted, record.Killed, record.Changed}, j.Code()) { // or what stands on what has changed before it began
			s.fault(j, "it was not interrupted")
		}
	}
	s.look()
}

// begin starts a job, or several at once that do not change what the others are about.
func (s *shelf) begin() (under []shelved) {
	s.t.Helper()
	start := func(apply func(), st started, err error) {
		s.must(err)
		under = append(under, shelved{st, apply})
	}
	s.next++
	names, new := s.names(), fmt.Sprint("s", s.next)
	option := func() option { return key(fmt.Sprint("key-", s.next, "-", len(under))) }
	if len(names) > 0 && s.rng.IntN(4) == 0 {
		name := names[0]
		st, err := s.restore("other/disk@"+name, option())
		start(func() { s.volume = s.was[name] }, st, err)
		return under
	}
	if len(names) < 2 || s.rng.IntN(3) > 0 {
		volume := s.volume
		st, err := s.freeze("other/disk", new, option())
		start(func() { s.was[new] = volume }, st, err)
	}
	if len(names) > 1 {
		gone := names[0]
		st, err := s.dropSnapshot("other/disk@"+gone, option(), limited(20*mib))
		if record.CodeOf(err) == record.Changed || err == nil {
			start(func() { delete(s.was, gone) }, st, err)
		}
		name := fmt.Sprint("copy", s.next)
		st, err = s.cloneSnapshot("other/disk@"+names[1], name, option(), limited(20*mib))
		start(func() { s.copies[name] = s.was[names[1]] }, st, err)
	}
	return under
}

// names are those of the snapshots, in any order.
func (s *shelf) names() (names []string) {
	for name := range s.was {
		names = append(names, name)
	}
	slices.Sort(names)
	s.rng.Shuffle(len(names), func(i, k int) { names[i], names[k] = names[k], names[i] })
	return names
}

// look holds all contents against what they are to be, as a catalog has them that was
// not read anew, and one that was.
func (s *shelf) look() {
	s.t.Helper()
	for range 2 {
		v, err := s.client.Volume(s.ctx(), "other", "disk")
		s.must(err)
		names := s.names()
		slices.Sort(names)
		if !slices.Equal(v.Snapshots, names) && len(v.Snapshots)+len(names) > 0 || v.State != record.VolumeReady {
			s.t.Errorf("snapshots are to be %q: %s", names, shown(v))
		}
		s.must(s.refresh("other"))
	}
	s.same("disk", s.volume)
	for name, want := range s.was {
		s.same(record.SnapshotFile("disk", name), want)
	}
	for name, want := range s.copies {
		s.same(name, want)
		if s.rng.IntN(2) == 0 {
			s.succeed(s.remove("other/" + name))
			delete(s.copies, name)
		}
	}
	files, err := filepath.Glob(filepath.Join(s.dir, ".*.storaged"))
	s.must(err)
	if files = slices.DeleteFunc(files, func(f string) bool { return strings.Contains(f, "@") }); len(files) > 0 {
		s.t.Errorf("left behind: %q", files)
	}
}

// same fails unless an image has that content, and at most clusters that nothing uses.
func (s *shelf) same(file string, want []byte) {
	s.t.Helper()
	path := filepath.Join(s.dir, file)
	if !bytes.Equal(s.guest(path), want) {
		s.t.Errorf("%s has another content", file)
	}
	err := exec.CommandContext(s.ctx(), testenv.Tool(s.t, "qemu-img"), "check", "-q", "-f", "qcow2", path).Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && (!ok || exit.ExitCode() != leakedOnly) {
		s.t.Errorf("%s: qemu-img finds faults: %v", file, err)
	}
}
