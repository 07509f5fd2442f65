package main_test

import (
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"storaged/cmd/internal/cmdline"
	"storaged/internal/record"
	"storaged/internal/service"
	"storaged/internal/testenv"
)

// blocks is how many bytes of a volume's file have blocks.
func (h *host) blocks(name string) int64 {
	h.t.Helper()
	var st syscall.Stat_t
	if err := syscall.Stat(h.path(name), &st); err != nil {
		h.t.Fatal(err)
	}
	return st.Blocks * 512
}

// on gives the host's pool a file system of its own.
func (h *host) on(kind string) {
	h.t.Helper()
	h.pool = testenv.Mount(h.t, kind)
	h.define("own", h.pool)
}

func TestCloneHasTheAllocationOfItsSource(t *testing.T) {
	h := newHost(t)
	st, err := h.client.Start(h.ctx(), service.Submit{}, record.VolumeCreate, on("pool"), service.VolumeCreate{Name: "full", Capacity: 8 * mib})
	h.succeed(st, err)
	for name, want := range map[string]int64{"same": 8 * mib, "larger": 12 * mib} {
		st, err = h.client.Start(h.ctx(), service.Submit{}, record.VolumeClone, on("pool", "full"), service.VolumeClone{Name: name, Size: want})
		j := h.succeed(st, err)
		if got := h.blocks(name); got < want || j.Result.Allocation != got || len(j.Warnings) > 0 {
			t.Errorf("%s: %d bytes have blocks, the result says %d, warnings %q", name, got, j.Result.Allocation, j.Warnings)
		}
	}
	st, err = h.client.Start(h.ctx(), service.Submit{}, record.VolumeClone, on("pool", "same"), service.VolumeClone{Name: "again"}) // it was promised them itself
	h.succeed(st, err)
	if got := h.blocks("again"); got < 8*mib {
		t.Errorf("of the clone of a clone %d bytes have blocks", got)
	}
	st, err = h.client.Start(h.ctx(), service.Submit{}, record.VolumeClone, on("pool", "full"), service.VolumeClone{Name: "sparse", Sparse: true})
	h.succeed(st, err)
	if got := h.blocks("sparse"); got >= mib {
		t.Errorf("of a sparse clone %d bytes have blocks", got)
	}
	st, err = h.wipe("same", service.VolumeWipe{Algorithm: "trim"})
	h.succeed(st, err)
	st, err = h.client.Start(h.ctx(), service.Submit{}, record.VolumeClone, on("pool", "same"), service.VolumeClone{Name: "trimmed"})
	h.succeed(st, err)
	if got := h.blocks("trimmed"); got >= mib {
		t.Errorf("of the clone of what was trimmed %d bytes have blocks", got)
	}
}

// What a volume was to have allocated goes with it to another file system.
func TestMoveKeepsTheAllocation(t *testing.T) {
	h := newHost(t)
	dir := testenv.Mount(t, "ext4")
	h.define("other", dir)
	st, err := h.client.Start(h.ctx(), service.Submit{}, record.VolumeCreate, on("pool"), service.VolumeCreate{Name: "full", Capacity: 8 * mib})
	h.succeed(st, err)
	st, err = h.client.Start(h.ctx(), service.Submit{}, record.VolumeMove, on("pool", "full"), service.VolumeMove{Pool: "other", Name: "moved"})
	j := h.succeed(st, err)
	if j.Result.Method != "copy" || j.Result.Allocation < 8*mib {
		t.Errorf("result is %+v", j.Result)
	}
	st, err = h.client.Start(h.ctx(), service.Submit{}, record.VolumeClone, on("other", "moved"), service.VolumeClone{Name: "clone"})
	if j := h.succeed(st, err); j.Result.Allocation < 8*mib {
		t.Errorf("of its clone %d bytes have blocks", j.Result.Allocation)
	}
}

func TestSharingClonesHaveRoomForTheRest(t *testing.T) {
	h := newHost(t)
	h.on("xfs")
	st, err := h.client.Start(h.ctx(), service.Submit{}, record.VolumeCreate, on("own"), service.VolumeCreate{Name: "full", Capacity: 8 * mib})
	h.succeed(st, err)
	st, err = h.client.Start(h.ctx(), service.Submit{}, record.VolumeClone, on("own", "full"), service.VolumeClone{Name: "clone"})
	j := h.succeed(st, err)
	if got := h.blocks("clone"); j.Result.Method != "reflink" || got < 8*mib {
		t.Errorf("method %s, %d bytes have blocks", j.Result.Method, got)
	}
}

// A wipe that leaves old content elsewhere is refused before it writes; if that
// is accepted it says what it leaves.
func TestWipeOfSharedBlocks(t *testing.T) {
	for _, kind := range []string{"xfs", "btrfs"} {
		t.Run(kind, func(t *testing.T) {
			h := newHost(t)
			h.on(kind)
			fill := func(name string) string {
				st, err := h.client.Start(h.ctx(), service.Submit{}, record.VolumeCreate, on("own"), service.VolumeCreate{Name: name, Capacity: 2 * mib})
				h.succeed(st, err)
				if err := os.WriteFile(h.path(name), []byte(strings.Repeat("old!", mib/2)), 0o600); err != nil {
					t.Fatal(err)
				}
				return h.hash(name)
			}
			want := fill("old")
			st, err := h.client.Start(h.ctx(), service.Submit{}, record.VolumeClone, on("own", "old"), service.VolumeClone{Name: "clone", Reflink: "always"})
			h.succeed(st, err)
			st, err = h.client.Start(h.ctx(), service.Submit{}, record.VolumeWipe, on("own", "old"), service.VolumeWipe{})
			j := h.end(st, err)
			if j.State != record.Failed || j.Code() != record.Unsupported || !strings.Contains(j.Error.Message, "shared with other files") || !strings.Contains(cmdline.Hint(j.Error.Hint), "--accept-limits") {
				t.Errorf("the job is %s, %+v", j.State, j.Error)
			}
			if v, err := h.client.Volume(h.ctx(), "own", "old"); h.hash("old") != want || err != nil || v.State != record.VolumeReady {
				t.Errorf("the refusal has changed the volume: %+v (%v)", v, err)
			}
			st, err = h.client.Start(h.ctx(), service.Submit{}, record.VolumeWipe, on("own", "old"), service.VolumeWipe{AcceptLimits: true, Verify: true})
			r := h.succeed(st, err).Result
			if r.Method != "overwrite" || r.Passes != 1 || r.Verified == nil || !*r.Verified || !strings.HasPrefix(r.Device, "/dev/loop") ||
				!slices.ContainsFunc(r.Limits, func(s string) bool { return strings.Contains(s, "shared with other files") }) {
				t.Errorf("result is %+v", r)
			}
			if h.hash("clone") != want || h.hash("old") == want {
				t.Error("the wrong one was wiped")
			}
		})
	}
}

// A trim gives the blocks back and claims nothing else.
func TestTrim(t *testing.T) {
	h := newHost(t)
	h.on("ext4")
	st, err := h.client.Start(h.ctx(), service.Submit{}, record.VolumeCreate, on("own"), service.VolumeCreate{Name: "old", Capacity: 2 * mib})
	h.succeed(st, err)
	if err := os.WriteFile(h.path("old"), []byte(strings.Repeat("old!", mib/2)), 0o600); err != nil {
		t.Fatal(err)
	}
	st, err = h.client.Start(h.ctx(), service.Submit{}, record.VolumeWipe, on("own", "old"), service.VolumeWipe{Algorithm: "trim", Verify: true})
	r := h.succeed(st, err).Result
	if r.Method != "punch" || r.Passes != 0 || r.Verified == nil || !*r.Verified || !strings.Contains(r.Limits[0], "overwrites nothing") {
		t.Errorf("result is %+v", r)
	}
	if got := h.blocks("old"); got != 0 || r.Allocation != 0 {
		t.Errorf("%d bytes have blocks, the result says %d", got, r.Allocation)
	}
}
