package main_test

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"storaged/internal/record"
	"storaged/internal/testenv"
)

// away moves the pool's directory somewhere else; back brings it back.
func (h *host) away() (back func()) {
	h.t.Helper()
	h.must(os.Rename(h.pool, h.pool+".away"))
	return func() {
		h.t.Helper()
		h.must(os.Rename(h.pool+".away", h.pool))
		h.must(h.refresh("pool"))
	}
}

// runs runs storagedctl, which must end with the code and say what is wanted.
func (h *host) runs(code int, says string, args ...string) (out string) {
	h.t.Helper()
	out, errs, got := h.ctl(args...)
	if got != code || !strings.Contains(out+errs, says) {
		h.t.Errorf("%q: exit code %d, not %d, or it does not say %q:\n%s%s", args, got, code, says, out, errs)
	}
	return out
}

func (h *host) poolState(want record.PoolState) record.Pool {
	h.t.Helper()
	p := h.poolIs("pool", record.Pool{State: want})
	return p
}

// Of a pool whose directory is away nothing is known: no verb succeeds on it.
func TestNothingSucceedsOnAPoolThatIsAway(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	want := h.random("v", mib)
	h.sparse("other", mib)
	for _, args := range [][]string{
		{"vol", "delete", "pool/v", "--missing-ok", "--yes"}, {"vol", "create", "pool/new", "1M"},
		{"vol", "create", "pool/v", "1M", "--exist-ok"}, {"vol", "wipe", "pool/v", "--yes"},
		{"vol", "clone", "pool/v", "pool/new"}, {"vol", "move", "pool/v", "pool/new"}, {"vol", "verify", "pool/v"},
		{"vol", "resize", "pool/v", "2M"}, {"vol", "list", "--fresh"}, {"vol", "list", "pool", "--fresh"}, {"vol", "show", "pool/v", "--fresh"},
		{"pool", "verify", "pool"}, {"pool", "refresh", "pool"},
	} {
		back := h.away()
		h.runs(record.ExitBusy, `"`+h.pool+`" is not there`, args...)
		if p := h.poolState(record.PoolUnreachable); !strings.Contains(p.Reason, "is not there") {
			t.Errorf("%q: the reason is %q", args, p.Reason)
		}
		if v, err := h.client.Volume(h.ctx(), "pool", "v"); err != nil || !strings.HasPrefix(v.Reason, `pool "pool" is unreachable: `) {
			t.Errorf("%q: what is not to be reached is shown as %q %q, %v", args, v.State, v.Reason, err)
		}
		back()
		h.poolState(record.PoolActive)
		h.is("v", record.Volume{State: record.VolumeReady, Origin: record.Made})
	}
	h.hasHash("v", want)
	h.runs(0, "other", "vol", "list", "--fresh")
}

func TestPoolThatIsAwayIsNotDeleted(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.sparse("v", mib)
	h.succeed(h.stopPool("pool"))
	h.must(os.Rename(h.pool, h.pool+".away"))
	h.runs(record.ExitBusy, "is not there", "pool", "delete", "pool", "--with-volumes", "--missing-ok", "--yes=pool")
	h.runs(record.ExitBusy, "is not active", "vol", "list", "pool", "--fresh")
	h.is("v", record.Volume{Origin: record.Made})
	h.must(os.Rename(h.pool+".away", h.pool))
	h.runs(0, "", "pool", "delete", "pool", "--with-volumes", "--yes=pool")
	h.absentFile(h.pool)
}

// A directory that was put in the place of a pool's is said to be one, with the ways out.
func TestReplacedDirectoryIsToldAndTheWaysOut(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.sparse("v", mib)
	back := h.away()
	h.must(os.Mkdir(h.pool, 0o700))
	h.runs(record.ExitBusy, "another directory is at its place: its own was moved or replaced, or is not mounted there\n", "pool", "refresh", "pool")
	ways := "then storagedctl pool refresh pool; to take what is there now in its place: storagedctl pool stop pool, storagedctl pool build pool and storagedctl pool start pool"
	h.runs(record.ExitBusy, ways, "pool", "refresh", "pool")
	h.runs(record.ExitBusy, ways, "vol", "wipe", "pool/v", "--yes")
	if out := h.runs(0, "not usable", "vol", "list", "pool"); strings.Contains(out, "ready") {
		t.Errorf("its volume looks ready:\n%s", out)
	}
	h.must(os.Remove(h.pool))
	back()
	h.runs(0, "ready", "vol", "list", "pool")
}

// A file that came to a pool while it was stopped is nobody's to delete with it; that and
// what would go is said before.
func TestWhatCameToAPoolLaterIsNotDeletedWithIt(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.sparse("v", mib)
	h.must(os.Symlink("/nowhere", h.path("link")))
	h.must(h.refresh("pool"))
	h.succeed(h.stopPool("pool"))
	foreseen := "the pool holds 1 name that is no volume: that keeps it from being deleted"
	h.runs(0, foreseen, "pool", "delete", "pool", "--with-volumes", "--dry-run")
	h.runs(0, "with a mount point for its directory", "pool", "delete", "pool", "--with-volumes", "--dry-run")
	h.must(os.Remove(h.path("link")))
	h.must(os.WriteFile(h.path("later"), []byte("of somebody"), 0o600))
	all := []string{"pool", "delete", "pool", "--with-volumes", "--yes=pool"}
	h.runs(0, `1 volume goes with the pool, 0 B allocated, and its snapshots: "v"`, append(all, "--dry-run")...)
	h.runs(record.ExitBusy, `after it was read last there came "later"`, all...)
	h.runs(record.ExitBusy, "storagedctl pool start pool lists the volumes that it holds", all...)
	h.must(os.Remove(h.path("v"))) // what is gone keeps nobody
	h.runs(0, "", "pool", "start", "pool")
	h.runs(0, "later", "vol", "list", "pool")
	h.runs(0, "", "pool", "stop", "pool")
	h.runs(0, "", all...)
	h.absentFile(h.pool)
}

func (h *host) absentFile(path string) {
	h.t.Helper()
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		h.t.Errorf("%q is there (%v)", path, err)
	}
}

// removed removes a volume's file as no job of ours does.
func (h *host) removed(name string) {
	h.t.Helper()
	h.sparse(name, mib)
	h.must(os.Remove(h.path(name)))
}

// A volume whose file others have removed leaves the catalog as soon as a verb
// has looked for it.
func TestVerbsForgetAVolumeThatIsGone(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.must(os.WriteFile(h.dir+"/in", content("in", 4096), 0o600))
	for _, c := range []struct {
		code int
		args []string
	}{
		{0, []string{"vol", "delete", "pool/v", "--missing-ok", "--yes"}},
		{record.ExitNotFound, []string{"vol", "delete", "pool/v", "--yes"}},
		{record.ExitNotFound, []string{"vol", "delete", "pool/v", "--wipe", "--yes"}},
		{record.ExitNotFound, []string{"vol", "wipe", "pool/v", "--yes"}},
		{record.ExitNotFound, []string{"vol", "clone", "pool/v", "pool/new"}},
		{record.ExitNotFound, []string{"vol", "move", "pool/v", "pool/new"}},
		{record.ExitNotFound, []string{"vol", "verify", "pool/v"}},
		{record.ExitNotFound, []string{"vol", "resize", "pool/v", "2M"}},
		{record.ExitNotFound, []string{"vol", "download", "pool/v", h.dir + "/out"}},
		{record.ExitNotFound, []string{"vol", "upload", "pool/v", h.dir + "/in", "--yes"}},
		{record.ExitNotFound, []string{"vol", "show", "pool/v", "--fresh"}},
	} {
		h.removed("v")
		told := h.volumeEvents("volume.vanished")
		h.runs(c.code, "", c.args...)
		if _, err := h.client.Volume(h.ctx(), "pool", "v"); record.CodeOf(err) != record.NotFound {
			t.Errorf("%q: the entry stays (%v)", c.args, err)
			h.must(h.refresh("pool"))
		}
		if all := <-told; all[len(all)-1] != "volume.vanished pool/v" {
			t.Errorf("%q: events are %q", c.args, all)
		}
		h.absent("new")
	}
	h.poolState(record.PoolActive)
}

// A name whose file others have removed is free.
func TestNameOfAVolumeThatIsGoneIsFree(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.sparse("base", mib)
	for _, args := range [][]string{
		{"vol", "create", "pool/v", "1M", "--exist-ok"}, {"vol", "create", "pool/v", "1M"},
		{"vol", "clone", "pool/base", "pool/v"}, {"vol", "clone", "pool/base", "pool/v", "--exist-ok"},
		{"vol", "create", "pool/v", "--from", h.path("base")}, {"vol", "move", "pool/base", "pool/v"},
	} {
		h.removed("v")
		h.runs(0, "", args...)
		if _, err := os.Stat(h.path("v")); err != nil {
			t.Errorf("%q: the file was not made: %v", args, err)
		}
		h.is("v", record.Volume{State: record.VolumeReady, Origin: record.Made})
		h.runs(record.ExitExists, "exists already", "vol", "create", "pool/v", "2M")
		h.runs(0, "", "vol", "delete", "pool/v", "--yes")
	}
}

// A volume whose file others have replaced is what that is.
func TestNameOfAReplacedVolumeIsTaken(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.removed("v")
	h.write("v", 2*mib)
	h.runs(record.ExitExists, "exists and differs: it is ready, raw with 2.00 MiB", "vol", "create", "pool/v", "1M", "--exist-ok")
	h.is("v", record.Volume{Origin: record.Found, Capacity: 2 * mib})
}

// A file system that was mounted anew may lie on another device, and is the
// pool's all the same.
func TestPoolThatWasMountedAnewIsActiveAfterARefresh(t *testing.T) {
	h := newHost(t)
	image, others, at := testenv.Image(t, "ext4"), testenv.Image(t, "ext4"), t.TempDir()
	testenv.MountImage(t, image, at)
	t.Cleanup(func() { _ = unix.Unmount(at, unix.MNT_DETACH) }) // if it is there still
	h.define("own", at)
	h.succeed(h.create("own/v", mib))
	testenv.Unmount(t, at)
	h.runs(record.ExitBusy, "is not the one", "pool", "refresh", "own")
	elsewhere := t.TempDir()
	testenv.MountImage(t, others, elsewhere) // on the loop device that has become free
	defer testenv.Unmount(t, elsewhere)
	testenv.MountImage(t, image, at)
	defer testenv.Unmount(t, at)
	h.runs(0, "", "pool", "refresh", "own")
	h.is("own/v", record.Volume{Origin: record.Made})
	h.runs(0, "", "vol", "wipe", "own/v", "--yes", "--accept-limits")
}

// A pattern is for the volumes of a pool by any name of it, whether it is active or not:
// what is there is not told to be missing.
func TestPatternsAreForVolumesOfInactivePoolsToo(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.sparse("vm1", mib)
	h.sparse("vm2", mib)
	h.sparse("base", mib)
	uuid := h.poolEntry("pool").UUID
	all := "pool/vm1\npool/vm2\n"
	if out := h.runs(0, "", "vol", "list", uuid+"/vm*", "-o", "name"); out != all {
		t.Errorf("by uuid %q", out)
	}
	h.succeed(h.stopPool("pool"))
	if out := h.runs(0, "", "vol", "show", "pool/vm*", "-o", "name"); out != all {
		t.Errorf("of an inactive pool %q", out)
	}
	out, errs, code := h.ctl("vol", "delete", "pool/vm*", "--yes", "--missing-ok")
	if code != record.ExitBusy || strings.Count(errs, `pool "pool" is not active`) != 2 {
		t.Errorf("exit code %d, %s%s", code, out, errs)
	}
	h.runs(0, "", "vol", "delete", "none/vm*", "--yes", "--missing-ok")
	h.succeed(h.startPool("pool"))
	h.runs(0, "", "vol", "delete", "p*/vm*", "--yes")
	h.unknown("pool/vm1")
	h.unknown("pool/vm2")
	h.is("pool/base", record.Volume{State: record.VolumeReady})
}
