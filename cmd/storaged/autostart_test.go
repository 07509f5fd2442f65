package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"storaged/internal/record"
	"storaged/internal/testenv"
)

// restarted ends the daemon as a host does that is reset, has something happen
// to its file systems, and starts it in another boot.
func (h *host) restarted(meanwhile func()) {
	h.t.Helper()
	h.kill()
	h.await("the end of all helpers", func() bool { return len(h.processes()) == 0 })
	h.must(os.RemoveAll(filepath.Join(h.dir, "run")))
	meanwhile()
	h.newBoot()
	h.start()
}

// mountThere mounts where the daemon sees it, whose mounts are its own.
func (h *host) mountThere(args ...string) {
	h.t.Helper()
	ns := fmt.Sprintf("--mount=/proc/%d/ns/mnt", h.daemon.Process.Pid)
	if out, err := exec.Command(testenv.Tool(h.t, "nsenter"), append([]string{ns, "mount"}, args...)...).CombinedOutput(); err != nil {
		h.t.Fatalf("mount %q: %v\n%s", args, err, out)
	}
}

// unstarted waits until the pool was not started, and checks that nothing was
// done to what is at its place, and that this is said.
func (h *host) unstarted(says string) {
	h.t.Helper()
	h.await("an end of the start of the pool", func() bool {
		p, err := h.client.Pool(h.ctx(), "pool")
		return err == nil && p.State == record.PoolInactive && strings.Contains(p.Reason, says)
	})
	if v := h.entry("v"); v.Origin != record.Made || v.Checksum == nil || !v.Checksum.Current {
		h.t.Errorf("the volume is %s", shown(v))
	}
	h.refuses(record.WrongState)(h.create("new", mib))
	h.hints(h.fails(h.end(h.startPool("pool")), record.WrongState, says, "the catalog keeps its 1 volume"), "storagedctl pool build pool")
	if st := h.status(); !mentions(st.Warnings, `pool "pool" was not started with the host: `) || !mentions(st.Warnings, says) {
		h.t.Errorf("status warns of %q", st.Warnings)
	}
	h.runs(0, `pool "pool" was not started with the host`, "status")
}

// started waits until the pool was started, with the volume that it had.
func (h *host) startedAgain() {
	h.t.Helper()
	h.await("a start of the pool", func() bool {
		p, err := h.client.Pool(h.ctx(), "pool")
		return err == nil && p.State == record.PoolActive
	})
	if v := h.entry("v"); v.Origin != record.Made || v.Checksum == nil || !v.Checksum.Current {
		h.t.Errorf("the volume is %s", shown(v))
	}
	if j := h.end(h.verify("v")); j.State != record.Succeeded || j.Result.Verified == nil || !*j.Result.Verified {
		h.t.Errorf("its content is %s: %s %s", j.State, shown(j.Result), outcome(j))
	}
	if st := h.status(); mentions(st.Warnings, "was not started") {
		h.t.Errorf("status warns of %q", st.Warnings)
	}
}

// A pool whose file system is not mounted after a reboot is not the directory
// below: that is not started, and the pool is when the file system is there.
func TestPoolIsNotStartedWithoutItsMount(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"ext4", "xfs", "vfat"} {
		t.Run(kind, func(t *testing.T) {
			h := bootHost(t)
			testenv.Kernel(t, kind)
			image, at := testenv.Image(t, kind), t.TempDir()
			testenv.MountImage(t, image, at)
			t.Cleanup(func() { _ = unix.Unmount(at, unix.MNT_DETACH) }) // if it is there still
			h.pool = filepath.Join(at, "images")
			h.begin()
			h.random("v", mib)
			h.end(h.verify("v", checksum("sha256")))
			h.restarted(func() {
				testenv.Unmount(t, at)
				h.must(os.Mkdir(h.pool, 0o755))
			})
			h.unstarted("is not the one that the pool was started with")
			h.stop()
			h.start()
			h.unstarted("is not the one that the pool was started with")
			if left, err := os.ReadDir(h.pool); err != nil || len(left) > 0 {
				t.Errorf("something was made below: %v (%v)", left, err)
			}
			h.mountThere("-o", "loop", image, at)
			h.startedAgain()
		})
	}
}

// A directory that is away when the host is started is waited for as well.
func TestPoolIsStartedWhenItsDirectoryAppears(t *testing.T) {
	t.Parallel()
	h := newBootHost(t)
	h.random("v", mib)
	h.end(h.verify("v", checksum("sha256")))
	h.restarted(func() { h.must(os.Rename(h.pool, h.pool+".away")) })
	h.unstarted("is not there")
	h.must(os.Rename(h.pool+".away", h.pool))
	h.mountThere("-t", "tmpfs", "storaged-test", t.TempDir()) // any mount is a reason to look
	h.startedAgain()
}

// What is at the pool's place is taken for it when somebody says so.
func TestAnotherDirectoryIsAcceptedByABuild(t *testing.T) {
	t.Parallel()
	h := newBootHost(t)
	h.random("v", mib)
	h.end(h.verify("v", checksum("sha256")))
	h.restarted(func() {
		h.must(os.Rename(h.pool, h.pool+".away"))
		h.must(os.Mkdir(h.pool, 0o755))
	})
	h.unstarted("is not the one that the pool was started with")
	h.runs(0, "", "pool", "build", "pool")
	if _, errs, code := h.ctl("pool", "start", "pool"); code != 0 && !strings.Contains(errs, "is active already") { // others' mounts are a reason to look, too
		t.Errorf("it is not started: %d %s", code, errs)
	}
	h.poolState(record.PoolActive)
	h.absent("v")
}
