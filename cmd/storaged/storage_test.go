package main_test

import (
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"storaged/internal/record"
	"storaged/internal/testenv"
)

// blocks is how many bytes of a volume's file have blocks.
func (h *host) blocks(name string) int64 {
	h.t.Helper()
	var st syscall.Stat_t
	h.must(syscall.Stat(h.path(name), &st))
	return st.Blocks * 512
}

// on gives the host's pool a file system of its own.
func (h *host) on(kind string) {
	h.t.Helper()
	h.pool = testenv.Mount(h.t, kind)
	h.define("own", h.pool)
}

func TestCloneHasTheAllocationOfItsSource(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.succeed(h.create("full", 8*mib))
	for name, want := range map[string]int64{"same": 8 * mib, "larger": 12 * mib} {
		j := h.succeed(h.clone("full", name, size(want)))
		if got := h.blocks(name); got < want || j.Result.Allocation != got || len(j.Warnings) > 0 {
			t.Errorf("%s: %d bytes have blocks, the result says %d, warnings %q", name, got, j.Result.Allocation, j.Warnings)
		}
	}
	h.succeed(h.clone("same", "again"))
	if got := h.blocks("again"); got < 8*mib {
		t.Errorf("of the clone of a clone %d bytes have blocks", got)
	}
	h.succeed(h.clone("full", "sparse", sparseCopy))
	if got := h.blocks("sparse"); got >= mib {
		t.Errorf("of a sparse clone %d bytes have blocks", got)
	}
	h.succeed(h.wipe("same", algorithm("trim")))
	h.succeed(h.clone("same", "trimmed"))
	if got := h.blocks("trimmed"); got >= mib {
		t.Errorf("of the clone of what was trimmed %d bytes have blocks", got)
	}
}

// What a volume was to have allocated goes with it to another file system.
func TestMoveKeepsTheAllocation(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	dir := testenv.Mount(t, "ext4")
	h.define("other", dir)
	h.succeed(h.create("full", 8*mib))
	j := h.succeed(h.move("full", "other/moved"))
	if j.Result.Method != "copy" || j.Result.Allocation < 8*mib {
		t.Errorf("result is %s", shown(j.Result))
	}
	if j := h.succeed(h.clone("other/moved", "clone")); j.Result.Allocation < 8*mib {
		t.Errorf("of its clone %d bytes have blocks", j.Result.Allocation)
	}
}

func TestSharingClonesHaveRoomForTheRest(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.on("xfs")
	h.succeed(h.create("own/full", 8*mib))
	j := h.succeed(h.clone("own/full", "clone"))
	if got := h.blocks("clone"); j.Result.Method != "reflink" || got < 8*mib {
		t.Errorf("method %s, %d bytes have blocks", j.Result.Method, got)
	}
}

// A wipe that leaves old content elsewhere is refused before it writes; if that
// is accepted it says what it leaves.
func TestWipeOfSharedBlocks(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"xfs", "btrfs"} {
		t.Run(kind, func(t *testing.T) {
			h := newHost(t)
			h.on(kind)
			fill := func(name string) string {
				h.succeed(h.create("own/"+name, 2*mib))
				h.must(os.WriteFile(h.path(name), []byte(strings.Repeat("old!", mib/2)), 0o600))
				return h.hash(name)
			}
			want := fill("old")
			h.succeed(h.clone("own/old", "clone", reflink("always")))
			h.hints(h.fails(h.end(h.wipe("own/old")), record.Unsupported, "shared with other files"), "--accept-limits")
			if v, err := h.client.Volume(h.ctx(), "own", "old"); h.hash("old") != want || err != nil || v.State != record.VolumeReady {
				t.Errorf("the refusal has changed the volume: %s (%v)", shown(v), err)
			}
			r := h.succeed(h.wipe("own/old", acceptLimits, verified)).Result
			if r.Method != "overwrite" || r.Passes != 1 || r.Verified == nil || !*r.Verified || !strings.HasPrefix(r.Device, "/dev/loop") ||
				!slices.ContainsFunc(r.Limits, func(s string) bool { return strings.Contains(s, "shared with other files") }) {
				t.Errorf("result is %s", shown(r))
			}
			if h.hash("clone") != want || h.hash("old") == want {
				t.Error("the wrong one was wiped")
			}
		})
	}
}

// A trim gives the blocks back and claims nothing else.
func TestTrim(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.on("ext4")
	h.succeed(h.create("own/old", 2*mib))
	h.must(os.WriteFile(h.path("old"), []byte(strings.Repeat("old!", mib/2)), 0o600))
	r := h.succeed(h.wipe("own/old", algorithm("trim"), verified)).Result
	if r.Method != "punch" || r.Passes != 0 || r.Verified == nil || !*r.Verified || !strings.Contains(r.Limits[0], "overwrites nothing") {
		t.Errorf("result is %s", shown(r))
	}
	if got := h.blocks("old"); got != 0 || r.Allocation != 0 {
		t.Errorf("%d bytes have blocks, the result says %d", got, r.Allocation)
	}
}
