package main_test

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/testenv"
)

// described gives a volume a description, and the entry as it is then.
func (h *host) described(name string) record.Volume {
	h.t.Helper()
	return h.describe(name, "the disk of "+name)
}

// moved fails unless the catalog has the entry under its new name alone.
func (h *host) moved(was record.Volume, pool, name, path string) {
	h.t.Helper()
	v, err := h.client.Volume(h.ctx(), pool, name)
	if err != nil || v.State != record.VolumeReady || v.Path != path || v.Key != path {
		h.t.Fatalf("the new entry is %s, %v", shown(v), err)
	}
	if v.Description != was.Description || v.Origin != was.Origin || v.Format != was.Format || v.Capacity != was.Capacity || v.Generation <= was.Generation {
		h.t.Errorf("the new entry is %s, the old one was %s", shown(v), shown(was))
	}
	if (v.CreatedBy == nil) != (was.CreatedBy == nil) || v.CreatedBy != nil && *v.CreatedBy != *was.CreatedBy {
		h.t.Errorf("made by %v, was by %v", v.CreatedBy, was.CreatedBy)
	}
	if old, err := h.client.Volume(h.ctx(), was.Pool, was.Name); record.CodeOf(err) != record.NotFound {
		h.t.Errorf("the old entry is %s, %v", shown(old), err)
	}
	// What the catalog says is what is there.
	h.must(h.refresh(was.Pool, pool))
	h.is(pool+"/"+name, record.Volume{Generation: v.Generation, Origin: v.Origin})
}

func (h *host) refresh(pools ...string) error {
	h.t.Helper()
	for _, p := range pools {
		st, err := h.refreshPool(p)
		if err != nil {
			return err
		}
		h.succeed(st, nil)
	}
	return nil
}

func TestMoveRenamesInItsPool(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	want := h.random("a", mib)
	was := h.described("a")
	before := must(os.Stat(h.path("a")))(t)
	told := h.volumeEvents("volume.deleted")
	j := h.end(h.move("a", "b"))
	if j.State != record.Succeeded || j.Class != record.Async || j.Result.Method != "rename" || j.Result.Volume != "b" || j.Result.Path != h.path("b") {
		t.Fatalf("%s %s %s: %s", j.State, j.Class, outcome(j), shown(j.Result))
	}
	after, err := os.Stat(h.path("b"))
	if err != nil || !os.SameFile(before, after) || h.hash("b") != want {
		t.Errorf("it is not the file it was: %v", err)
	}
	h.absent("a")
	if got, want := <-told, []string{"volume.building pool/b", "volume.created pool/b", "volume.deleted pool/a"}; !slices.Equal(got, want) {
		t.Errorf("events %q, want %q", got, want)
	}
	h.moved(was, "pool", "b", h.path("b"))
	wantObjects := []record.Object{{Pool: "pool", Volume: "a", Mode: record.ModeDelete}, {Pool: "pool", Volume: "b", Mode: record.ModeWrite}}
	if !slices.Equal(j.Objects, wantObjects) {
		t.Errorf("it held %v", j.Objects)
	}
}

// volumeEvents gives the events about volumes from now on to the first of that
// type.
func (h *host) volumeEvents(last string) <-chan []string {
	h.t.Helper()
	stream := must(h.client.Events(h.ctx(), 0))(h.t)
	told := make(chan []string, 1)
	go func() {
		defer stream.Close()
		var all []string
		for e, err := stream.Next(); err == nil; e, err = stream.Next() {
			if e.Volume == nil {
				continue
			}
			all = append(all, e.Type+" "+e.Volume.Pool+"/"+e.Volume.Name)
			if e.Type == last {
				break
			}
		}
		told <- all
	}()
	return told
}

// otherPool makes the pool "other" on a file system of its own.
func (h *host) otherPool(kind string) (dir string) {
	h.t.Helper()
	dir = filepath.Join(testenv.Mount(h.t, kind), "pool")
	h.define("other", dir)
	h.t.Cleanup(func() { // before the file system goes
		if left, _ := filepath.Glob(filepath.Join(dir, ".*.storaged")); len(left) > 0 {
			h.t.Errorf("left behind: %v", left)
		}
	})
	return dir
}

func TestMoveToAnotherPool(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"ext4", "xfs"} {
		t.Run(kind, func(t *testing.T) {
			h := newHost(t)
			dir := h.otherPool(kind)
			want := h.random("a", 8*mib)
			was := h.described("a")
			j := h.end(h.move("a", "other/"))
			if j.State != record.Succeeded || j.Result.Method != "copy" || j.Result.Pool != "other" || j.Result.Volume != "a" || j.Result.Bytes != 8*mib {
				t.Fatalf("%s: %s", outcome(j), shown(j.Result))
			}
			if got := hashOf(t, filepath.Join(dir, "a")); got != want {
				t.Errorf("its hash is %s, it was %s", got, want)
			}
			h.absent("a")
			h.moved(was, "other", "a", filepath.Join(dir, "a"))
			if *j.Progress.Percent != 100 || j.Progress.Done != 8*mib {
				t.Errorf("progress %s", shown(j.Progress))
			}
		})
	}
}

func TestMoveIsRefused(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.sparse("a", mib)
	h.sparse("b", mib)
	h.sparse("base", mib)
	qemu := testenv.Tool(t, "qemu-img")
	overlay(t, qemu, h.path("base"), h.path("child"))
	h.must(h.refresh("pool"))
	h.refuses(record.HasChildren, "pool/child")(h.move("base", "c"))
	h.refuses(record.Exists, "pool/b")(h.move("a", "b"))
	h.refuses(record.Exists, "pool/a")(h.move("a", ""))
	h.refuses(record.NotFound, "none")(h.move("a", "none/"))
	h.refuses(record.NotFound, "none")(h.move("none", "c"))
	h.refuses(record.Invalid, "keep")(h.move("a", "c", onFailure(record.KeepOnFailure)))
	holdImage(t, h.path("a"))
	j := h.end(h.move("a", "c"))
	if j.State != record.Failed || j.Code() != record.Busy || len(j.Error.Holders) != 1 || !strings.Contains(j.Error.Holders[0].Holder.External, itoa(os.Getpid())) {
		t.Errorf("in use: %s", outcome(j))
	}
	h.absent("c")
	if v := h.entry("a"); v.State != record.VolumeReady || v.Job != nil {
		t.Errorf("the volume in use is %s", shown(v))
	}
}

// overlay makes a volume that stands on another.
func overlay(t *testing.T, qemu, base, child string) {
	t.Helper()
	if out, err := exec.Command(qemu, "create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", child).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// TestMoveStoppedAtRandomMoments kills and cancels moves: afterwards the volume
// is whole at one place, and the catalog says where.
func TestMoveStoppedAtRandomMoments(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	dir := h.otherPool("ext4")
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	want := h.random("a", 4*mib)
	for i := range 16 {
		st := h.began(h.move("a", "other/", limited(32*mib)))
		<-time.After(time.Duration(random.Int64N(int64(300 * time.Millisecond))))
		if j, err := h.client.Job(h.ctx(), st.Job.ID); err != nil {
			t.Fatal(err)
		} else if i%2 == 0 && j.Helper != nil && !j.State.Terminal() {
			_ = syscall.Kill(j.Helper.PID, syscall.SIGKILL) // may have ended
		} else {
			_, _ = h.client.CancelJob(h.ctx(), st.Job.ID, contract.JobCancel{}) // may come too late
		}
		j := h.end(st, nil)
		pool, path := "pool", h.path("a")
		if j.State == record.Succeeded {
			pool, path = "other", filepath.Join(dir, "a")
		}
		h.onlyAt(pool, path, want)
		if pool == "other" {
			h.succeed(h.move("other/a", "pool/"))
		}
	}
}

// onlyAt fails unless volume "a" is whole at that path and in that pool's
// catalog, and in no other.
func (h *host) onlyAt(pool, path, want string) {
	h.t.Helper()
	all := must(h.client.Volumes(h.ctx(), contract.VolumeFilter{}))(h.t)
	if len(all) != 1 || all[0].Pool != pool || all[0].Path != path || all[0].State != record.VolumeReady {
		h.t.Fatalf("the catalog has %s, want %s at %s", shown(all), pool, path)
	}
	if got := hashOf(h.t, path); got != want {
		h.t.Errorf("%s has hash %s, want %s", path, got, want)
	}
	for _, p := range []string{"pool", "other"} {
		found := h.poolEntry(p)
		left, err := os.ReadDir(found.Target.Path)
		if err != nil || len(left) != 0 != (p == pool) {
			h.t.Errorf("in pool %s is %v, %v", p, left, err)
		}
	}
}
