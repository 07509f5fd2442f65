package main_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"storaged/cmd/internal/cmdline"
	"storaged/internal/record"
	"storaged/internal/service"
	"storaged/internal/testenv"
)

func TestRefusalsOfPoolsSayAllThatIsInTheWay(t *testing.T) {
	h := newHost(t)
	ctx := h.ctx()
	h.create("v", mib)
	_, err := h.client.Start(ctx, service.Submit{}, record.PoolDelete, on("pool"), service.PoolDelete{})
	refused(t, err, record.HasChildren, `pool "pool" is active and holds 1 volume: "v"`, "storagedctl pool stop pool; then storagedctl pool delete pool --with-volumes deletes them too")
	_, _, err = h.client.DefinePool(ctx, service.Submit{}, service.PoolDefine{Name: "other"}, false, false)
	refused(t, err, record.Invalid, "a pool of type dir needs a target path", "give it with --target …")
	_, _, err = h.client.DefinePool(ctx, service.Submit{}, service.PoolDefine{Name: "pool", Target: record.Target{Path: "/x"}}, false, false)
	refused(t, err, record.Exists, `pool "pool" exists already`, "storagedctl pool show pool")
	st, err := h.client.Start(ctx, service.Submit{}, record.PoolStop, on("pool"), service.PoolStop{})
	h.succeed(st, err)
	_, _, err = h.client.DefinePool(ctx, service.Submit{}, service.PoolDefine{Name: "pool", Target: record.Target{Path: "/x"}}, false, false)
	refused(t, err, record.Exists, `pool "pool" exists already`, "storagedctl pool start pool, or storagedctl pool undefine pool to define it anew")
	_, err = h.client.Start(ctx, service.Submit{}, record.PoolDelete, on("pool"), service.PoolDelete{})
	refused(t, err, record.HasChildren, `pool "pool" holds 1 volume: "v"`, "storagedctl pool delete pool --with-volumes deletes them too")
}

// refused holds an error against what it is to say.
func refused(t *testing.T, err error, code record.Code, message, hint string) {
	t.Helper()
	var e *record.Error
	if !errors.As(err, &e) || e.Code != code || e.Message != message || cmdline.Hint(e.Hint) != hint {
		t.Errorf("got  %v %+v\nwant %s %q, hint %q", err, e, code, message, hint)
	}
}

func TestLifeOfAPool(t *testing.T) {
	h := newHost(t)
	dir := filepath.Join(h.dir, "pool-life")
	ctx := h.ctx()
	p, st, err := h.client.DefinePool(ctx, service.Submit{}, service.PoolDefine{Name: "life", Target: record.Target{Path: dir}}, false, false)
	if err != nil || st.Job != nil || p.State != record.PoolInactive {
		t.Fatalf("define: %+v %+v %v", p, st, err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("define touched storage")
	}
	st, err = h.client.Start(ctx, service.Submit{}, record.PoolStart, on("life"), service.JobOptions{})
	if j := h.end(st, err); j.State != record.Failed || j.Error.Code != record.NotFound || !strings.HasPrefix(cmdline.Hint(j.Error.Hint), "storagedctl pool build life") {
		t.Errorf("start of what is not there: %s %+v", j.State, j.Error)
	}
	st, err = h.client.Start(ctx, service.Submit{}, record.PoolBuild, on("life"), service.PoolBuild{})
	h.succeed(st, err)
	st, err = h.client.Start(ctx, service.Submit{}, record.PoolStart, on("life"), service.JobOptions{})
	h.succeed(st, err)
	if _, err := h.client.Start(ctx, service.Submit{}, record.PoolStart, on("life"), service.JobOptions{}); record.CodeOf(err) != record.WrongState {
		t.Errorf("second start: %v", err)
	}
	if err := h.client.UndefinePool(ctx, service.Submit{}, "life"); record.CodeOf(err) != record.WrongState {
		t.Errorf("undefine of an active pool: %v", err)
	}

	st, err = h.client.Start(ctx, service.Submit{}, record.VolumeCreate, on("life"), service.VolumeCreate{Name: "ours", Capacity: mib})
	h.succeed(st, err)
	if err := os.WriteFile(filepath.Join(dir, "theirs"), make([]byte, 12345), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "bad\nname"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	st, err = h.client.Start(ctx, service.Submit{}, record.PoolRefresh, on("life"), service.JobOptions{})
	j := h.succeed(st, err)
	if len(j.Warnings) != 1 || !strings.Contains(j.Warnings[0], `bad\nname`) {
		t.Errorf("warnings of the refresh: %q", j.Warnings)
	}
	v, err := h.client.Volume(ctx, "life", "theirs")
	if err != nil || v.Origin != record.Found || v.Capacity != 12345 || v.State != record.VolumeReady {
		t.Errorf("what somebody else put there: %+v %v", v, err)
	}
	if p, _ = h.client.Pool(ctx, "life"); p.Ignored != 1 || p.Provisioned != mib+12345 || p.Capacity == 0 {
		t.Errorf("after the refresh: %+v", p)
	}
	if err := os.Remove(filepath.Join(dir, "theirs")); err != nil {
		t.Fatal(err)
	}
	st, err = h.client.Start(ctx, service.Submit{}, record.PoolRefresh, on("life"), service.JobOptions{})
	h.succeed(st, err)
	if _, err := h.client.Volume(ctx, "life", "theirs"); record.CodeOf(err) != record.NotFound {
		t.Errorf("what is gone is still there: %v", err)
	}

	st, err = h.client.Start(ctx, service.Submit{}, record.PoolStop, on("life"), service.PoolStop{})
	h.succeed(st, err)
	if _, err := h.client.Start(ctx, service.Submit{}, record.VolumeCreate, on("life"), service.VolumeCreate{Name: "x", Capacity: mib}); record.CodeOf(err) != record.WrongState {
		t.Errorf("create in a stopped pool: %v", err)
	}
	if _, err := h.client.Start(ctx, service.Submit{}, record.PoolDelete, on("life"), service.PoolDelete{}); record.CodeOf(err) != record.HasChildren {
		t.Errorf("delete of a pool with volumes: %v", err)
	}
	st, err = h.client.Start(ctx, service.Submit{}, record.PoolDelete, on("life"), service.PoolDelete{WithVolumes: true})
	if j := h.end(st, err); j.State != record.Failed {
		t.Errorf("a pool with something that is no volume was deleted: %s", j.State)
	}
	if err := os.Remove(filepath.Join(dir, "bad\nname")); err != nil {
		t.Fatal(err)
	}
	st, err = h.client.Start(ctx, service.Submit{}, record.PoolDelete, on("life"), service.PoolDelete{WithVolumes: true})
	h.succeed(st, err)
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the directory is still there: %v", err)
	}
	if err := h.client.UndefinePool(ctx, service.Submit{}, "life"); err != nil {
		t.Error(err)
	}
}

func TestPoolsMayNotOverlap(t *testing.T) {
	h := newHost(t)
	link := filepath.Join(h.dir, "link")
	if err := os.Symlink(h.pool, link); err != nil {
		t.Fatal(err)
	}
	for name, dir := range map[string]string{"same": h.pool, "inside": h.pool + "/sub", "around": h.dir} {
		_, _, err := h.client.DefinePool(h.ctx(), service.Submit{}, service.PoolDefine{Name: name, Target: record.Target{Path: dir}}, false, false)
		if record.CodeOf(err) != record.Busy {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Only the helper can see where a link leads.
	_, st, err := h.client.DefinePool(h.ctx(), service.Submit{}, service.PoolDefine{Name: "linked", Target: record.Target{Path: link}}, false, true)
	if j := h.end(st, err); j.State != record.Failed || j.Error.Code != record.Busy {
		t.Errorf("a pool by way of a link: %s %+v", j.State, j.Error)
	}
	if p, err := h.client.Pool(h.ctx(), "linked"); err != nil || p.State != record.PoolInactive {
		t.Errorf("it is %s (%v)", p.State, err)
	}
}

func TestVolumesGrowShrinkAndGo(t *testing.T) {
	h := newHost(t)
	ctx := h.ctx()
	want := h.random("v", 4*mib)
	st, err := h.client.Start(ctx, service.Submit{}, record.VolumeResize, on("pool", "v"), service.VolumeResize{Capacity: 8 * mib})
	if j := h.succeed(st, err); j.Result.Capacity != 8*mib {
		t.Errorf("grown: %+v", j.Result)
	}
	if _, err := h.client.Start(ctx, service.Submit{}, record.VolumeResize, on("pool", "v"), service.VolumeResize{Capacity: 4 * mib}); record.CodeOf(err) != record.Invalid {
		t.Errorf("shrink without being asked: %v", err)
	}
	if _, err := h.client.Start(ctx, service.Submit{}, record.VolumeResize, on("pool", "v"), service.VolumeResize{Capacity: 4 * mib, Shrink: true, Allocate: true}); record.CodeOf(err) != record.Invalid {
		t.Errorf("allocating what a shrink adds: %v", err)
	}
	st, err = h.client.Start(ctx, service.Submit{}, record.VolumeResize, on("pool", "v"), service.VolumeResize{Capacity: 4 * mib, Shrink: true})
	h.succeed(st, err)
	if h.hash("v") != want {
		t.Error("growing and shrinking changed the content")
	}
	if _, err := h.client.Start(ctx, service.Submit{}, record.VolumeCreate, on("pool"), service.VolumeCreate{Name: "v", Capacity: 1}); record.CodeOf(err) != record.Exists {
		t.Errorf("a taken name: %v", err)
	}
	st, err = h.client.Start(ctx, service.Submit{}, record.VolumeDelete, on("pool", "v"), service.VolumeDelete{Wipe: "zero"})
	h.succeed(st, err)
	h.absent("v")
	if _, err := h.client.Start(ctx, service.Submit{}, record.VolumeCreate, on("pool"), service.VolumeCreate{Name: "huge", Capacity: 1 << 60}); record.CodeOf(err) != record.NoSpace {
		t.Errorf("more than there is room for: %v", err)
	}
}

func TestRepeatedRequestGivesTheSameJob(t *testing.T) {
	h := newHost(t)
	ctx := h.ctx()
	key := service.Submit{Key: "k1"}
	r := service.VolumeCreate{Name: "v", Capacity: mib}
	st, err := h.client.Start(ctx, key, record.VolumeCreate, on("pool"), r)
	first := h.succeed(st, err)
	again, err := h.client.Start(ctx, key, record.VolumeCreate, on("pool"), r)
	if err != nil || again.Job.ID != first.ID {
		t.Errorf("the repetition gave %+v %v", again.Job, err)
	}
	h.stop()
	h.start()
	if again, err = h.client.Start(ctx, key, record.VolumeCreate, on("pool"), r); err != nil || again.Job.ID != first.ID {
		t.Errorf("after a restart it gave %+v %v", again.Job, err)
	}
	r.Name = "other"
	if _, err := h.client.Start(ctx, key, record.VolumeCreate, on("pool"), r); record.CodeOf(err) != record.KeyReused {
		t.Errorf("another request under the key: %v", err)
	}
}

// A tmpfs gets device and inode of the one that was there before.
func TestPoolOnWhoseFileSystemAnotherIsMountedIsUnreachable(t *testing.T) {
	h := newHost(t)
	ctx := h.ctx()
	stop := func() {
		h.succeed(h.client.Start(ctx, service.Submit{}, record.PoolStop, on("pool"), service.PoolStop{}))
	}
	stop()
	testenv.MountImage(t, "", h.pool)
	h.succeed(h.client.Start(ctx, service.Submit{}, record.PoolBuild, on("pool"), service.PoolBuild{}))
	h.succeed(h.client.Start(ctx, service.Submit{}, record.PoolStart, on("pool"), service.JobOptions{}))
	h.create("v", mib)

	kept := t.TempDir() // where the file system stays while it is not at its place
	bind := func(from, to string) {
		t.Helper()
		if err := unix.Mount(from, to, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
	}
	bind(h.pool, kept)
	testenv.Unmount(t, h.pool)
	bind(kept, h.pool)
	testenv.Unmount(t, kept)
	h.succeed(h.client.Start(ctx, service.Submit{}, record.PoolRefresh, on("pool"), service.JobOptions{}))

	testenv.Unmount(t, h.pool)
	testenv.MountImage(t, "", h.pool)
	defer testenv.Unmount(t, h.pool)
	st, err := h.client.Start(ctx, service.Submit{}, record.PoolRefresh, on("pool"), service.JobOptions{})
	if j := h.end(st, err); j.State != record.Failed || j.Error.Code != record.WrongState {
		t.Errorf("refresh: %s %+v", j.State, j.Error)
	}
	if p, err := h.client.Pool(ctx, "pool"); err != nil || p.State != record.PoolUnreachable {
		t.Errorf("pool is %+v (%v)", p, err)
	}
	if _, err := h.client.Volume(ctx, "pool", "v"); err != nil {
		t.Errorf("the catalogue has lost the volume: %v", err)
	}
	stop()
	st, err = h.client.Start(ctx, service.Submit{}, record.PoolStart, on("pool"), service.JobOptions{})
	if j := h.end(st, err); j.State != record.Failed || j.Error.Code != record.WrongState || !strings.Contains(cmdline.Hint(j.Error.Hint), "storagedctl pool build pool") {
		t.Errorf("start: %s %+v", j.State, j.Error)
	}
	if _, err := h.client.Volume(ctx, "pool", "v"); err != nil {
		t.Errorf("the catalogue has lost the volume: %v", err)
	}
	h.succeed(h.client.Start(ctx, service.Submit{}, record.PoolBuild, on("pool"), service.PoolBuild{})) // which is how it is accepted
	h.succeed(h.client.Start(ctx, service.Submit{}, record.PoolStart, on("pool"), service.JobOptions{}))
	if _, err := h.client.Volume(ctx, "pool", "v"); record.CodeOf(err) != record.NotFound {
		t.Errorf("the volume is not in what was accepted: %v", err)
	}
}

// A pool's directory that lies on a file system of its own is another one when
// that is not mounted.
func TestPoolWhoseDirectoryIsAnotherIsUnreachable(t *testing.T) {
	h := newHost(t)
	ctx := h.ctx()
	want := h.random("v", mib)
	h.create("incomplete", mib)
	away := h.pool + "-away"
	if err := os.Rename(h.pool, away); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(h.pool, 0o755); err != nil {
		t.Fatal(err)
	}
	refused := func(what string, st service.Started, err error) {
		t.Helper()
		if err != nil { // a job before has found it so
			if record.CodeOf(err) != record.WrongState || !strings.Contains(err.Error(), "not the one that the pool was started with") {
				t.Errorf("%s: %v", what, err)
			}
			return
		}
		j := h.end(st, err)
		if j.State != record.Failed || j.Error.Code != record.WrongState || !strings.Contains(j.Error.Message, "not the one that the pool was started with") || j.Error.Hint == nil {
			t.Errorf("%s: %s %+v", what, j.State, j.Error)
		}
	}
	st, err := h.client.Start(ctx, service.Submit{}, record.VolumeCreate, on("pool"), service.VolumeCreate{Name: "new", Capacity: mib})
	refused("create", st, err)
	st, err = h.client.Start(ctx, service.Submit{}, record.VolumeClone, on("pool", "v"), service.VolumeClone{Name: "new"})
	refused("clone", st, err)
	st, err = h.client.Start(ctx, service.Submit{}, record.VolumeDelete, on("pool", "v"), service.VolumeDelete{})
	refused("delete", st, err)
	st, err = h.client.Start(ctx, service.Submit{}, record.PoolRefresh, on("pool"), service.JobOptions{})
	refused("refresh", st, err)
	if left, err := os.ReadDir(h.pool); err != nil || len(left) > 0 {
		t.Errorf("something was made in the wrong directory: %v %v", left, err)
	}
	if p, err := h.client.Pool(ctx, "pool"); err != nil || p.State != record.PoolUnreachable || !strings.Contains(p.Reason, "not mounted") {
		t.Errorf("pool is %+v (%v)", p, err)
	}
	if v, err := h.client.Volume(ctx, "pool", "v"); err != nil || v.State != record.VolumeReady {
		t.Errorf("the catalogue has lost the volume: %+v %v", v, err)
	}
	if _, err := h.client.Start(ctx, service.Submit{}, record.VolumeCreate, on("pool"), service.VolumeCreate{Name: "new", Capacity: mib}); record.CodeOf(err) != record.WrongState {
		t.Errorf("create in an unreachable pool: %v", err)
	}

	if err := os.Remove(h.pool); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(away, h.pool); err != nil {
		t.Fatal(err)
	}
	st, err = h.client.Start(ctx, service.Submit{}, record.PoolRefresh, on("pool"), service.JobOptions{})
	h.succeed(st, err)
	if p, err := h.client.Pool(ctx, "pool"); err != nil || p.State != record.PoolActive {
		t.Errorf("when it is back the pool is %+v (%v)", p, err)
	}
	if h.hash("v") != want {
		t.Error("the volume has changed")
	}
}

func TestCloneThatHasNoRoom(t *testing.T) {
	h := newHost(t)
	ctx := h.ctx()
	small := testenv.Mount(t, "ext4")
	var fs unix.Statfs_t
	if err := unix.Statfs(small, &fs); err != nil {
		t.Fatal(err)
	}
	ballast := make([]byte, 8*mib)
	if err := os.WriteFile(filepath.Join(h.pool, "v"), ballast, 0o600); err != nil {
		t.Fatal(err)
	}
	st, err := h.client.Start(ctx, service.Submit{}, record.PoolRefresh, on("pool"), service.JobOptions{})
	h.succeed(st, err)
	fill, err := os.Create(filepath.Join(small, "ballast"))
	if err != nil {
		t.Fatal(err)
	}
	defer fill.Close()
	if err := unix.Fallocate(int(fill.Fd()), 0, 0, int64(fs.Bavail)*fs.Bsize-4*mib); err != nil {
		t.Fatal(err)
	}
	h.define("small", filepath.Join(small, "pool"))
	clone := service.VolumeClone{Name: "copy", Pool: "small", Reflink: "never"}
	_, err = h.client.Start(ctx, service.Submit{}, record.VolumeClone, on("pool", "v"), clone)
	if record.CodeOf(err) != record.NoSpace || !strings.Contains(err.Error(), `pool "small" has no room`) {
		t.Errorf("a copy for which there is no room: %v", err)
	}
	clone.Reflink = "auto"
	st, err = h.client.Start(ctx, service.Submit{}, record.VolumeClone, on("pool", "v"), clone)
	j := h.end(st, err)
	if len(j.Warnings) == 0 || !strings.Contains(j.Warnings[0], "only if it can share blocks") {
		t.Errorf("warnings are %q", j.Warnings)
	}
}

// The daemon's own directories are no pools.
func TestOwnDirectoriesAreNoPools(t *testing.T) {
	h := newHost(t)
	for _, path := range []string{"state", "state/jobs", "state/copies", "run", "run/jobs/x"} {
		_, _, err := h.client.DefinePool(h.ctx(), service.Submit{}, service.PoolDefine{Name: "own", Target: record.Target{Path: filepath.Join(h.dir, path)}}, false, false)
		if record.CodeOf(err) != record.Invalid {
			t.Errorf("%s: %v", path, err)
		}
	}
}
