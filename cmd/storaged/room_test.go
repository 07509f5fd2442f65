package main_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"

	"storaged/cmd/internal/cmdline"
	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/testenv"
)

// However many jobs have the room, a refusal names some and counts the rest.
func TestRefusalForRoomNamesFewOfMany(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	dir := testenv.Mount(t, "tmpfs")
	h.define("small", dir)
	h.patchLimits(contract.LimitsPatch{PoolRunning: map[string]*int{"small": ptr(1)}, Rate: []byte("65536")})
	h.random("base", 4*mib)
	one := h.began(h.clone("base", "small/one", noReflink))
	h.running(one) // for a minute
	const more = 7
	var queued []started
	for i := range record.MaxHolders + more {
		st := h.began(h.create("small/"+fmt.Sprint("v", i), 64<<10))
		queued = append(queued, st)
	}
	_, err := h.create("small/huge", 1<<50)
	var refusal *record.Error
	if !errors.As(err, &refusal) || refusal.Code != record.NoSpace || len(refusal.Holders) != record.MaxHolders {
		t.Fatalf("refused with %v", err)
	}
	if n := refusal.Holders[record.MaxHolders-1].More; n < more || n > more+1 { // the clone may have some to take
		t.Errorf("%d more are said, of %d that wait", n, len(queued))
	}
	for _, st := range append(queued, one) {
		h.cancel(st)
		h.end(st, nil)
	}
}

// A job that waits has its room already: a later one that does not fit beside
// it is refused at once, and told whose the room is.
func TestQueuedJobsReserveTheirRoom(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	dir := testenv.Mount(t, "tmpfs")
	h.define("small", dir)
	p := h.poolEntry("small")
	h.patchLimits(contract.LimitsPatch{PoolRunning: map[string]*int{"small": ptr(1)}})
	h.random("base", 4*mib)
	// Under this limit it is no short work, which would have a place of its own.
	one := h.began(h.clone("base", "small/one", noReflink, limited(256<<10)))
	h.running(one)
	most := p.Available - 8*mib
	two := h.began(h.create("small/two", most))
	if j := h.job(two); j.State != record.Queued || j.Reserved != most {
		t.Fatalf("the second is %s, %d reserved", j.State, j.Reserved)
	}
	if p := h.poolEntry("small"); p.Reserved < most {
		t.Errorf("the pool has %d reserved", p.Reserved)
	}
	_, err := h.create("small/three", 16*mib)
	refusal, ok := err.(*record.Error)
	if !ok || refusal.Code != record.NoSpace || len(refusal.Holders) == 0 || refusal.Holders[0].For != "space" || refusal.Holders[0].Holder.Number != two.Job.Number {
		t.Fatalf("the third: %v", err)
	}
	if !strings.Contains(refusal.Message, "reserved by job") {
		t.Errorf("it says %q", refusal.Message)
	}
	_, err = h.resize("base", 1<<50, allocate)
	if !errors.As(err, &refusal) || refusal.Code != record.NoSpace || !strings.Contains(cmdline.Hint(refusal.Hint), "leave out --allocate") {
		t.Errorf("a resize without room: %v", err)
	}
	h.cancel(two)
	h.end(two, nil)
	h.unlimited(one)
	if j := h.succeed(h.create("small/three", 16*mib)); j.Reserved != 0 {
		t.Errorf("an ended job has %d reserved", j.Reserved)
	}
	if p := h.poolEntry("small"); p.Reserved != 0 {
		t.Errorf("at the end the pool has %d reserved", p.Reserved)
	}
	h.succeed(h.stopPool("small"))
}

// The same definition under one key, many times at once, is one pool.
func TestPoolDefinedAtOnceUnderOneKey(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	for name, start := range map[string]bool{"started": true, "defined": false} {
		how := []option{field("type", "dir"), key(name)}
		if start {
			how = append(how, andBuild, andStart)
		}
		const clients = 8
		uuids, jobs, errs := make([]string, clients), make([]started, clients), make([]error, clients)
		var all sync.WaitGroup
		for i := range clients {
			all.Go(func() {
				var p record.Pool
				p, jobs[i], errs[i] = h.definition(name, h.dir+"/pool-"+name, how...)
				uuids[i] = p.UUID
			})
		}
		all.Wait()
		for i := range clients {
			if errs[i] != nil || uuids[i] != uuids[0] || start && jobs[i].Job.ID != jobs[0].Job.ID {
				t.Errorf("%s: answer %d is %q, %s, %v", name, i, uuids[i], shown(jobs[i].Job), errs[i])
			}
		}
		if start {
			h.succeed(jobs[0], nil)
		}
		_, _, err := h.definition(name, h.dir+"/pool-"+name+"-2", how...)
		h.refused(err, record.KeyReused)
		h.refuses(record.KeyReused)(h.create("v", mib, key(name)))
	}
}

// filed gives what the file system of a directory says of itself.
func (h *host) filed(dir string) (allocation, available int64) {
	h.t.Helper()
	var fs syscall.Statfs_t
	h.must(syscall.Statfs(dir, &fs))
	return int64(fs.Blocks-fs.Bfree) * fs.Frsize, int64(fs.Bavail) * fs.Frsize
}

// ballast takes the room of a file system but for so many bytes, and gives the file
// that has it.
func (h *host) ballast(dir string, left int64) string {
	h.t.Helper()
	f := must(os.Create(dir + "/.ballast"))(h.t)
	_, available := h.filed(dir)
	h.must(errors.Join(syscall.Fallocate(int(f.Fd()), 0, 0, available-left), f.Close()))
	return f.Name()
}

// accurate asks that a pool is what its file system says, with nothing reserved.
func (h *host) accurate(pool, dir string) {
	h.t.Helper()
	p := h.poolEntry(pool)
	if allocation, available := h.filed(dir); p.Allocation != allocation || p.Available != available || p.Reserved != 0 {
		h.t.Errorf("allocation %d, available %d, reserved %d; the file system says %d and %d", p.Allocation, p.Available, p.Reserved, allocation, available)
	}
}

// allocated makes a volume that has all its blocks, and data in the first half.
func (h *host) allocated(name string, capacity int64) {
	h.t.Helper()
	h.succeed(h.create(name, capacity))
	f := must(os.OpenFile(h.entry(name).Path, os.O_WRONLY, 0))(h.t)
	_, err := f.Write(bytes.Repeat([]byte("data"), int(capacity/8)))
	h.must(errors.Join(err, f.Close()))
}

// What a running job has blocks for already is gone from what is available, and
// not reserved any more.
func TestBlocksThatAJobHasAreNotCountedTwice(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	dir := testenv.Mount(t, "ext4")
	h.define("small", dir)
	h.define("memory", testenv.Mount(t, "tmpfs")) // where a file has no blocks beside those of its content
	h.allocated("memory/base", 128*mib)
	clone := h.began(h.clone("memory/base", "small/copy", noReflink, limited(mib)))
	h.running(clone)
	h.await("the blocks of the clone are not reserved any more", func() bool {
		p := must(h.client.Fresh().Pool(h.ctx(), "small"))(t)
		return p.Reserved == 0
	})
	h.accurate("small", dir)
	_, available := h.filed(dir)
	if available > 200*mib {
		t.Fatalf("%d are available: the clone has no blocks yet", available)
	}
	h.succeed(h.create("small/fits", available-16*mib))
	h.accurate("small", dir)
	h.unlimited(clone)
	h.accurate("small", dir)
}

// A clone that shares its blocks costs next to nothing, and a pool says so.
func TestPoolIsWhatItsFileSystemSays(t *testing.T) {
	t.Parallel()
	copies := map[string]int{"xfs": 8, "btrfs": 8, "ext4": 3}
	for kind := range copies {
		t.Run(kind, func(t *testing.T) {
			h := newHost(t)
			dir := testenv.Mount(t, kind)
			h.define("small", dir)
			h.succeed(h.create("small/base", 40*mib))
			h.must(os.WriteFile(dir+"/base", bytes.Repeat([]byte("data"), 10*mib), 0o600)) // unwritten blocks are not shared
			for i := range copies[kind] {
				h.succeed(h.clone("small/base", fmt.Sprint("clone", i), reflink("auto")))
			}
			h.accurate("small", dir)
			h.succeed(h.move("small/base", "pool/"))
			h.succeed(h.remove("small/clone0"))
			h.succeed(h.create("small/last", 60*mib))
			h.accurate("small", dir)
		})
	}
}

// However long a pool takes to be read, a job that does not fit is refused, the
// second try of one that was canceled as well.
func TestRoomIsKnownWithoutReadingThePool(t *testing.T) {
	t.Parallel()
	h := hanging(t, "pool-refresh")
	dir := testenv.Mount(t, "ext4")
	ballast := h.ballast(dir, 40*mib)
	h.define("small", dir)
	h.allocated("base", 64*mib)
	h.refuses(record.NoSpace)(h.create("small/volume", 150*mib))
	h.must(os.Remove(ballast))
	clone := h.began(h.clone("base", "small/copy", noReflink, size(140*mib), limited(mib)))
	h.running(clone)
	h.cancel(clone)
	h.end(clone, nil)
	h.accurate("small", dir)
	for _, name := range []string{"volume", "rest"} {
		h.succeed(h.create("small/"+name, 130*mib))
	}
	h.refuses(record.NoSpace)(h.retry(*clone.Job))
}

// A file system without inodes has room, and says what it lacks.
func TestInodesThatRunOutAreNotCalledRoom(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	dir := testenv.Mount(t, "tmpfs")
	h.define("small", dir)
	h.must(syscall.Mount("", dir, "", syscall.MS_REMOUNT, "nr_inodes=2"))
	h.must(os.WriteFile(dir+"/last", nil, 0o600))
	h.hints(h.fails(h.end(h.create("small/volume", mib)), record.NoSpace), "no inodes left")
}

// What fills holes of a volume needs room, and is refused before it takes any.
func TestHolesThatFindNoRoomStayHoles(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	dir := testenv.Mount(t, "ext4")
	h.define("small", dir)
	h.ballast(dir, 100*mib)
	h.runs(record.ExitDone, "", "vol", "create", "small/thin", "1G", "--allocation", "none")
	h.runs(record.ExitDone, "", "vol", "create", "small/filled", "64M", "--allocation", "none")
	file := h.dir + "/content"
	h.must(os.WriteFile(file, noise(150*mib), 0o600))
	before := blocksFree(t, dir)
	for _, args := range [][]string{
		{"vol", "wipe", "small/thin", "--algorithm", "random", "--yes"},
		{"vol", "delete", "small/thin", "--wipe=random", "--yes"},
		{"vol", "upload", "small/thin", file, "--yes"},
		{"vol", "upload", "small/thin", file, "--checksum", "sha256", "--yes"},
	} {
		out := h.runs(record.ExitNoSpace, "available", args...)
		if now := blocksFree(t, dir); now != before {
			t.Errorf("%q took %d blocks\n%s", args, before-now, out)
		}
	}
	up, err := h.stream("small/thin", bytes.NewReader(make([]byte, 150*mib)), upload{Length: ptr(int64(150 * mib))})
	if err == nil {
		err = up.Wait()
	}
	if record.CodeOf(err) != record.NoSpace || blocksFree(t, dir) != before {
		t.Errorf("a stream as long: %v", err)
	}
	// The catalog has yet to learn that somebody has filled this one.
	h.must(os.WriteFile(dir+"/filled", noise(64*mib), 0o600))
	h.runs(record.ExitDone, "", "vol", "wipe", "small/filled", "--algorithm", "random", "--yes")
	h.runs(record.ExitDone, "", "vol", "wipe", "small/thin", "--yes")
}

func blocksFree(t *testing.T, dir string) uint64 {
	t.Helper()
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		t.Fatal(err)
	}
	return fs.Bfree
}
