package main_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"storaged/cmd/internal/cmdline"
	"storaged/internal/record"
	"storaged/internal/testenv"
)

func TestRefusalsOfPoolsSayAllThatIsInTheWay(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.sparse("v", mib)
	_, err := h.deletePool("pool")
	worded(t, err, record.HasChildren, `pool "pool" is active and holds 1 volume: "v"`, "storagedctl pool stop pool; then storagedctl pool delete pool --with-volumes deletes them too")
	_, _, err = h.definition("other", "")
	worded(t, err, record.Invalid, "a pool of type dir needs a target path", "give it with --target …")
	_, _, err = h.definition("other", "/x", field("source", record.Source{Options: map[string]string{"ro": ""}}))
	worded(t, err, record.Invalid, "a pool of type dir does not take source options", "")
	_, _, err = h.definition("pool", "/x")
	worded(t, err, record.Exists, `pool "pool" exists already`, "storagedctl pool show pool")
	h.succeed(h.stopPool("pool"))
	_, _, err = h.definition("pool", "/x")
	worded(t, err, record.Exists, `pool "pool" exists already`, "storagedctl pool start pool, or storagedctl pool undefine pool to define it anew")
	_, err = h.deletePool("pool")
	worded(t, err, record.HasChildren, `pool "pool" holds 1 volume: "v"`, "storagedctl pool delete pool --with-volumes deletes them too")
}

// worded holds an error against what it is to say.
func worded(t *testing.T, err error, code record.Code, message, hint string) {
	t.Helper()
	var e *record.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want %s %q", err, code, message)
	}
	if got := cmdline.Hint(e.Hint); e.Code != code || e.Message != message || got != hint {
		t.Errorf("got  %s %q, hint %q\nwant %s %q, hint %q", e.Code, e.Message, got, code, message, hint)
	}
}

func TestLifeOfAPool(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	dir := filepath.Join(h.dir, "pool-life")
	p, st, err := h.definition("life", dir)
	if err != nil || st.Job != nil || p.State != record.PoolInactive {
		t.Fatalf("define: %s %s %v", shown(p), shown(st), err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("define touched storage")
	}
	if j := h.end(h.startPool("life")); j.State != record.Failed || j.Error.Code != record.NotFound || !strings.HasPrefix(cmdline.Hint(j.Error.Hint), "storagedctl pool build life") {
		t.Errorf("start of what is not there: %s", outcome(j))
	}
	h.succeed(h.buildPool("life"))
	h.succeed(h.startPool("life"))
	h.refuses(record.WrongState)(h.startPool("life"))
	if err := h.undefine("life"); record.CodeOf(err) != record.WrongState {
		t.Errorf("undefine of an active pool: %v", err)
	}

	h.succeed(h.create("life/ours", mib))
	h.must(os.WriteFile(filepath.Join(dir, "theirs"), make([]byte, 12345), 0o600))
	h.must(os.WriteFile(filepath.Join(dir, "bad\nname"), nil, 0o600))
	j := h.succeed(h.refreshPool("life"))
	if len(j.Warnings) != 1 || !strings.Contains(j.Warnings[0], `bad\nname`) {
		t.Errorf("warnings of the refresh: %q", j.Warnings)
	}
	h.is("life/theirs", record.Volume{Origin: record.Found, Capacity: 12345, State: record.VolumeReady})
	if p, _ = h.client.Pool(h.ctx(), "life"); p.Ignored != 1 || p.Provisioned != mib+12345 || p.Capacity == 0 {
		t.Errorf("after the refresh: %s", shown(p))
	}
	h.must(os.Remove(filepath.Join(dir, "theirs")))
	h.succeed(h.refreshPool("life"))
	h.unknown("life/theirs")

	h.succeed(h.stopPool("life"))
	h.refuses(record.WrongState)(h.create("life/x", mib))
	h.refuses(record.HasChildren)(h.deletePool("life"))
	h.jobIs(h.end(h.deletePool("life", withVolumes)), record.Job{State: record.Failed})
	h.must(os.Remove(filepath.Join(dir, "bad\nname")))
	h.succeed(h.deletePool("life", withVolumes))
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the directory is still there: %v", err)
	}
	if err := h.undefine("life"); err != nil {
		t.Error(err)
	}
}

func TestPoolsMayNotOverlap(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	link := filepath.Join(h.dir, "link")
	h.must(os.Symlink(h.pool, link))
	for name, dir := range map[string]string{"same": h.pool, "inside": h.pool + "/sub", "around": h.dir} {
		_, _, err := h.definition(name, dir)
		if record.CodeOf(err) != record.Busy {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Only the helper can see where a link leads.
	_, st, err := h.definition("linked", link, andStart)
	h.fails(h.end(st, err), record.Busy)
	h.poolIs("linked", record.Pool{State: record.PoolInactive})
}

func TestVolumesGrowShrinkAndGo(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	want := h.random("v", 4*mib)
	h.jobIs(h.succeed(h.resize("v", 8*mib)), record.Job{Result: &record.Result{Capacity: 8 * mib}})
	h.refuses(record.Invalid)(h.resize("v", 4*mib))
	h.refuses(record.Invalid)(h.resize("v", 4*mib, shrink, allocate))
	h.succeed(h.resize("v", 4*mib, shrink))
	h.hasHash("v", want)
	h.refuses(record.Exists)(h.create("v", 1))
	h.succeed(h.remove("v", wipeFirst("zero")))
	h.absent("v")
	h.refuses(record.NoSpace)(h.create("huge", 1<<60))
}

func TestRepeatedRequestGivesTheSameJob(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	ask := func(volume string) (started, error) { return h.create(volume, mib, key("k1")) }
	first := h.succeed(ask("v"))
	again := func() {
		t.Helper()
		if st := h.began(ask("v")); st.Job.ID != first.ID {
			t.Errorf("the repetition gave job %d, not %d", st.Job.Number, first.Number)
		}
	}
	again()
	h.stop()
	h.start()
	again()
	h.refuses(record.KeyReused)(ask("other"))
}

// A tmpfs gets device and inode of the one that was there before.
func TestPoolOnWhoseFileSystemAnotherIsMountedIsUnreachable(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	stop := func() { h.succeed(h.stopPool("pool")) }
	stop()
	testenv.MountImage(t, "", h.pool)
	h.succeed(h.buildPool("pool"))
	h.succeed(h.startPool("pool"))
	h.sparse("v", mib)

	kept := t.TempDir() // where the file system stays while it is not at its place
	bind := func(from, to string) {
		t.Helper()
		h.must(unix.Mount(from, to, "", unix.MS_BIND, ""))
	}
	bind(h.pool, kept)
	testenv.Unmount(t, h.pool)
	bind(kept, h.pool)
	testenv.Unmount(t, kept)
	h.succeed(h.refreshPool("pool"))

	testenv.Unmount(t, h.pool)
	testenv.MountImage(t, "", h.pool)
	defer testenv.Unmount(t, h.pool)
	h.fails(h.end(h.refreshPool("pool")), record.WrongState)
	h.poolIs("pool", record.Pool{State: record.PoolUnreachable})
	if _, err := h.client.Volume(h.ctx(), "pool", "v"); err != nil {
		t.Errorf("the catalog has lost the volume: %v", err)
	}
	stop()
	h.hints(h.fails(h.end(h.startPool("pool")), record.WrongState), "storagedctl pool build pool")
	if _, err := h.client.Volume(h.ctx(), "pool", "v"); err != nil {
		t.Errorf("the catalog has lost the volume: %v", err)
	}
	h.succeed(h.buildPool("pool")) // which is how it is accepted
	h.succeed(h.startPool("pool"))
	h.unknown("v")
}

// A pool's directory that lies on a file system of its own is another one when
// that is not mounted.
func TestPoolWhoseDirectoryIsAnotherIsUnreachable(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	want := h.random("v", mib)
	h.sparse("incomplete", mib)
	away := h.pool + "-away"
	h.must(os.Rename(h.pool, away))
	h.must(os.Mkdir(h.pool, 0o755))
	refused := func(what string, st started, err error) {
		t.Helper()
		if err != nil { // a job before has found it so
			if record.CodeOf(err) != record.WrongState || !strings.Contains(err.Error(), "not the one that the pool was started with") {
				t.Errorf("%s: %v", what, err)
			}
			return
		}
		j := h.end(st, err)
		if j.State != record.Failed || j.Error.Code != record.WrongState || !strings.Contains(j.Error.Message, "not the one that the pool was started with") || j.Error.Hint == nil {
			t.Errorf("%s: %s", what, outcome(j))
		}
	}
	st, err := h.create("new", mib)
	refused("create", st, err)
	st, err = h.clone("v", "new")
	refused("clone", st, err)
	st, err = h.remove("v")
	refused("delete", st, err)
	st, err = h.refreshPool("pool")
	refused("refresh", st, err)
	if left, err := os.ReadDir(h.pool); err != nil || len(left) > 0 {
		t.Errorf("something was made in the wrong directory: %v %v", left, err)
	}
	if p := h.poolEntry("pool"); p.State != record.PoolUnreachable || !strings.Contains(p.Reason, "not mounted") {
		t.Errorf("pool is %s", shown(p))
	}
	h.is("v", record.Volume{State: record.VolumeReady})
	h.refuses(record.WrongState)(h.create("new", mib))

	h.must(os.Remove(h.pool))
	h.must(os.Rename(away, h.pool))
	h.succeed(h.refreshPool("pool"))
	h.poolIs("pool", record.Pool{State: record.PoolActive})
	h.hasHash("v", want)
}

func TestCloneThatHasNoRoom(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	small := testenv.Mount(t, "ext4")
	h.write("v", 8*mib)
	h.must(h.refresh("pool"))
	h.ballast(small, 4*mib)
	h.define("small", filepath.Join(small, "pool"))
	h.refuses(record.NoSpace, `pool "small" has no room`)(h.clone("v", "small/copy", noReflink))
	for _, how := range []string{"auto", "always"} { // between these two file systems nothing is ever shared
		refusal := map[string]record.Code{"auto": record.NoSpace, "always": record.Unsupported}[how]
		h.refuses(refusal)(h.clone("v", "small/copy", reflink(how)))
	}
	h.refuses(record.NoSpace, `pool "small" has no room`)(h.evacuatePool("pool", "small", keepSource))
}

// What may share blocks with its source, or leave enough out of it, is begun though there is no
// room for all of it, and it is said what that takes.
func TestCloneThatMayNeedLessRoom(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	small := testenv.Mount(t, "ext4")
	h.define("small", filepath.Join(small, "pool"))
	h.succeed(h.create("small/v", 8*mib, allAllocated))
	h.define("beside", filepath.Join(small, "beside"))
	h.write("zeros", 8*mib)
	h.ballast(small, 4*mib)
	for _, pool := range []string{"pool", "small", "beside"} {
		h.must(h.refresh(pool))
	}
	warns := func(says string, j record.Job) {
		t.Helper()
		if len(j.Warnings) == 0 || !strings.Contains(j.Warnings[0], says) {
			t.Errorf("job %d, %s: warnings are %q", j.Number, j.Kind, j.Warnings)
		}
	}
	const shares, zeros = "only if it can share blocks", "only if enough of its source is zeros"
	warns(shares, h.end(h.clone("small/v", "small/copy")))
	warns("only if the copies can share blocks", h.end(h.evacuatePool("small", "beside", only("v"), keepSource)))
	h.runs(0, shares, "vol", "clone", "small/v", "small/copy", "--reflink", "auto", "--dry-run")
	warns(zeros, h.succeed(h.clone("zeros", "small/sparse", sparseCopy)))
	warns(zeros, h.succeed(h.clone("zeros", "small/sparse.qcow2", format("qcow2"), sparseCopy)))
}

// The daemon's own directories are no pools.
func TestOwnDirectoriesAreNoPools(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	for _, path := range []string{"state", "state/jobs", "state/copies", "run", "run/jobs/x"} {
		_, _, err := h.definition("own", filepath.Join(h.dir, path))
		if record.CodeOf(err) != record.Invalid {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// What a pool was to be made in is left as it was where that fails: directories that were
// made for it are taken away again, and nobody else's.
func TestPoolThatCannotBeCreatedLeavesNoDirectory(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	disk := filepath.Join(t.TempDir(), "disk")
	h.must(errors.Join(os.WriteFile(disk, nil, 0o600), os.Truncate(disk, 64<<20)))
	device, _ := testenv.Attach(t, disk)
	h.must(exec.Command("mkswap", device).Run())
	above := filepath.Join(h.dir, "above")
	t.Cleanup(func() { _ = unix.Unmount(filepath.Join(above, "target"), unix.MNT_DETACH) }) // it is mounted only where the test has failed
	kept := filepath.Join(h.dir, "kept")
	h.must(os.Mkdir(kept, 0o755))
	for name, target := range map[string]string{"one": filepath.Join(above, "target"), "two": kept} {
		h.runs(record.ExitBusy, "carries swap", "pool", "create", name, "--type", "fs", "--source-dev", device, "--source-format", "ext4", "--target", target, "--build")
		h.runs(0, "is forgotten; no storage was touched", "pool", "undefine", name)
	}
	h.absentFile(above)
	if _, err := os.Stat(kept); err != nil {
		t.Error(err)
	}
}

// A file system that stores nothing is said to be the reason, and not what its calls say.
func TestPoolOnAFileSystemOfTheKernelIsRefusedForThat(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.runs(record.ExitUnsupported, "its file system is the kernel's own and stores nothing", "pool", "create", "kernel", "--target", "/proc")
}

// Who is told that a volume is deleted is told what it was, and not what its deletion made of it.
func TestDeletedVolumeIsToldAsItWas(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.sparse("v", mib)
	stream := must(h.client.Events(h.ctx(), 0))(h.t)
	defer stream.Close()
	h.runs(0, "succeeded", "vol", "delete", "pool/v", "--yes")
	for {
		e, err := stream.Next()
		h.must(err)
		if e.Type != "volume.deleted" {
			continue
		}
		if e.Volume.State != record.VolumeReady || e.Volume.Job != nil {
			t.Errorf("it is told as %s", shown(e.Volume))
		}
		return
	}
}
