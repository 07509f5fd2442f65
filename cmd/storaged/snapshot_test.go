package main_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"storaged/internal/crash"
	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/testenv"
)

func (h *host) freeze(volume, name string, options ...option) (started, error) {
	h.t.Helper()
	return h.ask(at(volume), new(operation.SnapshotCreateRequest), append(options, named(name))...)
}

func (h *host) restore(snapshot string, options ...option) (started, error) {
	h.t.Helper()
	return h.ask(at(snapshot), new(operation.SnapshotRestoreRequest), options...)
}

func (h *host) dropSnapshot(snapshot string, options ...option) (started, error) {
	h.t.Helper()
	return h.ask(at(snapshot), new(operation.SnapshotDeleteRequest), options...)
}

func (h *host) cloneSnapshot(snapshot, copied string, options ...option) (started, error) {
	h.t.Helper()
	return h.ask(at(snapshot), new(operation.SnapshotCloneRequest), append(options, to(copied))...)
}

// sharing makes the pool "other" on a file system that shares blocks, with a disk
// of random bytes, and gives its directory.
func (h *host) sharing(kind string) (dir string) {
	h.t.Helper()
	dir = filepath.Join(testenv.Mount(h.t, kind), "pool")
	h.define("other", dir)
	h.succeed(h.create("other/disk", mib))
	h.overwrite(filepath.Join(dir, "disk"), "first")
	return dir
}

// overwrite writes a word at the start of a file.
func (h *host) overwrite(path, word string) {
	h.t.Helper()
	h.overwriteAt(path, 0, word)
}

func (h *host) overwriteAt(path string, off int64, word string) {
	h.t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	h.must(err)
	_, err = f.WriteAt([]byte(word), off)
	h.must(err)
	h.must(f.Close())
}

// begins fails unless a file begins with a word.
func (h *host) begins(path, word string) {
	h.t.Helper()
	b, err := os.ReadFile(path)
	h.must(err)
	if !strings.HasPrefix(string(b), word) {
		h.t.Errorf("%s begins with %q, not %q", path, b[:min(len(b), 16)], word)
	}
}

func TestSnapshotKeepsAVolumeAsItWas(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"xfs", "btrfs"} {
		t.Run(kind, func(t *testing.T) {
			h := newHost(t)
			dir := h.sharing(kind)
			disk := filepath.Join(dir, "disk")
			j := h.succeed(h.freeze("other/disk", "s1"))
			if j.Result.Method != "reflink" {
				t.Errorf("made by %q", j.Result.Method)
			}
			h.overwrite(disk, "second")
			h.succeed(h.freeze("other/disk", "s2"))
			h.overwrite(disk, "third!")
			h.refuses(record.Exists, "s1")(h.freeze("other/disk", "s1"))
			for range 2 { // a refresh changes nothing
				v := h.entry("other/disk")
				if !slices.Equal(v.Snapshots, []string{"s1", "s2"}) {
					t.Errorf("snapshots are %q", v.Snapshots)
				}
				all, err := h.client.Snapshots(h.ctx(), "other", "disk")
				if err != nil || len(all) != 2 || all[0].Name != "s1" || all[0].Capacity != mib || all[0].CreatedBy == nil || *all[0].CreatedBy != j.Number {
					t.Errorf("%s, %v", shown(all), err)
				}
				if vols, err := h.client.PoolVolumes(h.ctx(), "other"); err != nil || len(vols) != 1 {
					t.Errorf("%s, %v", shown(vols), err)
				}
				h.must(h.refresh("other"))
			}
			for verb, do := range map[string]func() (started, error){
				"delete": func() (started, error) { return h.remove("other/disk") },
				"wipe":   func() (started, error) { return h.wipe("other/disk", acceptLimits) },
				"move":   func() (started, error) { return h.move("other/disk", "other/moved") },
			} {
				if _, err := do(); record.CodeOf(err) != record.HasChildren || !strings.Contains(err.Error(), `"s1", "s2"`) {
					t.Errorf("%s: %v", verb, err)
				}
			}
			h.succeed(h.cloneSnapshot("other/disk@s2", "copy"))
			h.begins(filepath.Join(dir, "copy"), "second")
			h.succeed(h.cloneSnapshot("other/disk@s1", "pool/far"))
			h.begins(h.path("far"), "first")
			h.succeed(h.restore("other/disk@s1"))
			h.begins(disk, "first")
			h.succeed(h.restore("other/disk@s2"))
			h.begins(disk, "second")
			h.refuses(record.NotFound, "s3")(h.restore("other/disk@s3"))
			h.succeed(h.dropSnapshot("other/disk@s1"))
			h.refuses(record.NotFound, "s1")(h.dropSnapshot("other/disk@s1"))
			h.succeed(h.dropSnapshot("other/disk@s2"))
			if files, _ := filepath.Glob(filepath.Join(dir, ".*.storaged")); len(files) > 0 {
				t.Errorf("there are still %q", files)
			}
			h.succeed(h.remove("other/disk"))
		})
	}
}

// A restore heals what a job left half changed, and gives the volume the size and
// the owner that it has to have.
func TestRestoreIsOfTheVolumesSizeAndOwner(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	disk := filepath.Join(h.sharing("xfs"), "disk")
	h.must(os.Chmod(disk, 0o640))
	h.succeed(h.freeze("other/disk", "s"))
	h.succeed(h.resize("other/disk", 3*mib))
	h.succeed(h.restore("other/disk@s"))
	if v := h.entry("other/disk"); v.Capacity != mib || v.State != record.VolumeReady {
		t.Errorf("it is %s", shown(v))
	}
	if st, err := os.Stat(disk); err != nil || st.Mode().Perm() != 0o640 || st.Size() != mib {
		t.Errorf("%v, %v", st, err)
	}
	if p := h.poolEntry("other"); p.Provisioned != mib {
		t.Errorf("provisioned are %d", p.Provisioned)
	}
	file, _ := h.given("src", mib)
	h.end(h.hand("other/disk", file, checksum("crc32c:00000000")))
	if v := h.entry("other/disk"); v.State != record.VolumeIncomplete {
		t.Fatalf("it is %s", shown(v))
	}
	h.refuses(record.WrongState, "incomplete")(h.freeze("other/disk", "half"))
	h.succeed(h.restore("other/disk@s"))
	if v := h.entry("other/disk"); v.State != record.VolumeReady {
		t.Errorf("it is %s", shown(v))
	}
	h.begins(disk, "first")
}

// Where blocks cannot be shared a raw volume has no snapshots, and nothing is left.
func TestSnapshotWithoutReflinksIsRefusedWithTheReason(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	dir := filepath.Join(testenv.Mount(t, "ext4"), "pool")
	h.define("other", dir)
	h.succeed(h.create("other/disk", mib))
	h.fails(h.end(h.freeze("other/disk", "s")), record.Unsupported, "cannot share blocks")
	if v := h.entry("other/disk"); len(v.Snapshots) != 0 || v.State != record.VolumeReady {
		t.Errorf("it is %s", shown(v))
	}
	if files, _ := filepath.Glob(filepath.Join(dir, ".*.storaged")); len(files) > 0 {
		t.Errorf("there are %q", files)
	}
}

// A refresh finds the snapshots that a database does not know of, and forgets those
// that are gone.
func TestRefreshRecognisesSnapshots(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	dir := h.sharing("xfs")
	file := filepath.Join(dir, ".disk@by-hand.storaged")
	b, err := os.ReadFile(filepath.Join(dir, "disk"))
	h.must(err)
	h.must(os.WriteFile(file, b, 0o600))
	h.must(os.WriteFile(filepath.Join(dir, ".nothing@s.storaged"), b, 0o600))
	h.runs(0, `there is no volume "nothing"`, "pool", "refresh", "other")
	if v := h.entry("other/disk"); !slices.Equal(v.Snapshots, []string{"by-hand"}) {
		t.Errorf("it is %s", shown(v))
	}
	h.must(os.Remove(file))
	h.must(h.refresh("other"))
	if v := h.entry("other/disk"); len(v.Snapshots) != 0 {
		t.Errorf("it is %s", shown(v))
	}
}

// What stands on a snapshot keeps it, and a snapshot keeps what it stands on.
func TestSnapshotsHaveChildrenAndAreSuch(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	dir := h.sharing("xfs")
	overlay := filepath.Join(dir, "overlay")
	h.image("other", "-f", "qcow2", "-F", "raw", "-b", filepath.Join(dir, "disk"), overlay)
	h.succeed(h.freeze("other/overlay", "s"))
	if v := h.entry("other/disk"); !slices.Equal(v.Children, []string{"other/overlay", "other/overlay@s"}) {
		t.Errorf("its children are %q", v.Children)
	}
	h.refuses(record.HasChildren, "other/overlay@s")(h.remove("other/disk"))
	h.image("other", "-f", "qcow2", "-F", "qcow2", "-b", filepath.Join(dir, ".overlay@s.storaged"), filepath.Join(dir, "second"))
	h.refuses(record.HasChildren, "other/second")(h.dropSnapshot("other/overlay@s"))
	if v := h.entry("other/second"); v.Parent == nil || v.Parent.Volume != "overlay@s" || *v.Depth != 2 {
		t.Errorf("it is %s", shown(v))
	}
}

// A snapshot of a large volume copies no more than one of a small one.
func TestSnapshotOfALargeVolumeCopiesNothing(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.sharing("xfs")
	h.succeed(h.create("other/large", 20<<30, allocation(0)))
	j := h.succeed(h.freeze("other/large", "s"))
	if *j.Stats.BytesRead > mib || *j.Stats.BytesWritten > mib {
		t.Errorf("stats %s", shown(j.Stats))
	}
}

// Where blocks cannot be shared a qcow2 becomes an overlay on its snapshot.
func TestSnapshotsOfImagesAreChainsWithoutReflinks(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	dir := h.unshared()
	disk := filepath.Join(dir, "disk")
	h.succeed(h.create("other/base", 8*mib))
	h.image("other", "-f", "qcow2", "-F", "raw", "-b", filepath.Join(dir, "base"), disk)
	h.must(os.Chmod(disk, 0o640))
	var was [3][]byte
	for i := range was {
		h.qemuIO(disk, fmt.Sprintf("write -P %d %dM 1M", i+1, i))
		was[i] = h.guest(disk)
		j := h.succeed(h.freeze("other/disk", fmt.Sprintf("s%d", i)))
		if j.Result.Method != "overlay" {
			t.Errorf("made by %q", j.Result.Method)
		}
	}
	h.qemuIO(disk, "write -P 9 0 8M")
	v := h.entry("other/disk")
	if v.Parent == nil || v.Parent.Volume != "disk@s2" || *v.Depth != 4 || v.State != record.VolumeReady {
		t.Errorf("it is %s", shown(v))
	}
	if st, err := os.Stat(disk); err != nil || st.Mode().Perm() != 0o640 {
		t.Errorf("%v, %v", st, err)
	}
	h.must(h.refresh("other"))
	h.refuses(record.HasChildren, "other/disk@s0")(h.remove("other/base"))
	for _, i := range []int{1, 0, 2} {
		j := h.succeed(h.restore(fmt.Sprintf("other/disk@s%d", i)))
		if j.Result.Method != "overlay" || !bytes.Equal(h.guest(disk), was[i]) {
			t.Errorf("restored by %q it has another content than %d", j.Result.Method, i)
		}
	}
	h.sound(disk)
	h.succeed(h.flatten("other/disk"))
	for _, i := range []int{2, 1, 0} {
		h.succeed(h.dropSnapshot(fmt.Sprintf("other/disk@s%d", i)))
	}
	if !bytes.Equal(h.guest(disk), was[2]) {
		t.Error("in the end it has another content")
	}
	if files, _ := filepath.Glob(filepath.Join(dir, ".*.storaged")); len(files) > 0 {
		t.Errorf("there are still %q", files)
	}
	h.succeed(h.remove("other/disk"))
	h.succeed(h.remove("other/base"))
}

// That blocks cannot be shared is no failure of a snapshot that is made another way:
// nothing is undone.
func TestSnapshotByAnOverlayIsNotSaidToRollBack(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.image("other", "-f", "qcow2", filepath.Join(h.unshared(), "disk"), "1M")
	told := h.jobStates("snapshot.create")
	j := h.succeed(h.freeze("other/disk", "s"))
	want := []record.State{record.Queued, record.Starting, record.Running, record.Finalizing, record.Succeeded}
	if got := <-told; !slices.Equal(got, want) || j.Result.Method != "overlay" {
		t.Errorf("by %s it went through %q", j.Result.Method, got)
	}
}

// jobStates gives the states that the next job of a kind goes through.
func (h *host) jobStates(kind record.Kind) <-chan []record.State {
	h.t.Helper()
	stream := must(h.client.Events(h.ctx(), 0))(h.t)
	told := make(chan []record.State, 1)
	go func() {
		defer stream.Close()
		var all []record.State
		for e, err := stream.Next(); err == nil; e, err = stream.Next() {
			if e.Job == nil || e.Job.Kind != kind {
				continue
			}
			if len(all) == 0 || all[len(all)-1] != e.Job.State {
				all = append(all, e.Job.State)
			}
			if e.Job.State.Terminal() {
				break
			}
		}
		told <- all
	}()
	return told
}

// imageWith makes a qcow2 with a byte in all of its first MiB.
func (h *host) imageWith(name string, b byte) {
	h.t.Helper()
	h.image("pool", "-f", "qcow2", h.path(name), "4M")
	h.fillImage(name, b)
	dir := must(os.Open(h.pool))(h.t)
	defer dir.Close() // synced, or the test has failed
	h.must(dir.Sync())
}

func (h *host) fillImage(name string, b byte) {
	h.t.Helper()
	h.qemuIO(h.path(name), fmt.Sprintf("write -P %d 0 1M", b), "flush")
}

// snapshotDeeds die at every step of theirs.
func snapshotDeeds() []deed {
	return []deed{
		{"snapshot", func(h *host, n string) { h.imageWith("vol"+n, 1) },
			func(h *host, n string, o ...option) (started, error) { return h.freeze("vol"+n, "s", o...) }, checkFrozen},
		{"restore", func(h *host, n string) {
			h.imageWith("vol"+n, 1)
			h.succeed(h.freeze("vol"+n, "s"))
			h.fillImage("vol"+n, 2)
		}, func(h *host, n string, o ...option) (started, error) { return h.restore("vol"+n+"@s", o...) }, checkRestored},
		{"merge", withSnapshot, func(h *host, n string, o ...option) (started, error) { return h.dropSnapshot("vol"+n+"@s", o...) }, checkMerged},
		{"delete-with-snapshots", withSnapshot, func(h *host, n string, o ...option) (started, error) {
			return h.remove("vol"+n, append(o, withSnapshots)...)
		}, checkAllGone},
	}
}

// withSnapshot makes a volume that lacks what its snapshot has in the second half of its
// first MiB.
func withSnapshot(h *host, n string) {
	h.t.Helper()
	h.imageWith("vol"+n, 1)
	h.succeed(h.freeze("vol"+n, "s"))
	h.qemuIO(h.path("vol"+n), "write -P 1 0 512k", "write -P 3 2M 64k", "flush")
}

// checkMerged: the volume is what it was, and so is its snapshot if it is there.
func checkMerged(h *host, n string, j record.Job) {
	h.t.Helper()
	v := h.entry("vol" + n)
	_, err := os.Stat(filepath.Join(h.pool, ".vol"+n+"@s.storaged"))
	gone := os.IsNotExist(err)
	if gone && v.Backing != "" || j.State == record.Succeeded != gone || gone == (len(v.Snapshots) > 0) {
		h.fault(j, "its snapshot is gone: %v; it is %s", gone, shown(v))
	}
	h.hasByte(j, "vol"+n, 1)
	if !gone {
		h.succeed(h.dropSnapshot("vol" + n + "@s"))
		h.hasByte(j, "vol"+n, 1)
	}
}

// checkAllGone: both are there, or neither.
func checkAllGone(h *host, n string, j record.Job) {
	h.t.Helper()
	_, err := os.Stat(h.path("vol" + n))
	_, serr := os.Stat(filepath.Join(h.pool, ".vol"+n+"@s.storaged"))
	if os.IsNotExist(err) != os.IsNotExist(serr) || os.IsNotExist(err) != (j.State == record.Succeeded) {
		h.fault(j, "the volume: %v, its snapshot: %v", err, serr)
	}
	if err == nil {
		h.succeed(h.remove("vol"+n, withSnapshots))
	}
}

// checkFrozen: the volume is what it was, and has a snapshot or none.
func checkFrozen(h *host, n string, j record.Job) {
	h.t.Helper()
	h.overlaid(j, "vol"+n)
	v := h.hasByte(j, "vol"+n, 1)
	_, err := os.Stat(filepath.Join(h.pool, ".vol"+n+"@s.storaged"))
	if done := j.State == record.Succeeded; len(v.Snapshots) == 1 != done || os.IsNotExist(err) == done {
		h.fault(j, "its snapshots are %q, and its file: %v", v.Snapshots, err)
	}
	if j.State == record.Succeeded {
		h.fillImage("vol"+n, 3)
		h.succeed(h.restore("vol" + n + "@s"))
		h.hasByte(j, "vol"+n, 1)
	}
}

// checkRestored: the volume is what it was before, or what the snapshot is.
func checkRestored(h *host, n string, j record.Job) {
	h.t.Helper()
	h.overlaid(j, "vol"+n)
	want := byte(2)
	if j.State == record.Succeeded {
		want = 1
	}
	if v := h.hasByte(j, "vol"+n, want); !slices.Equal(v.Snapshots, []string{"s"}) {
		h.fault(j, "its snapshots are %q", v.Snapshots)
	}
}

// overlaid fails unless it is known at once, before anybody refreshes the pool, that the
// volume stands on its snapshot: else that could be deleted.
func (h *host) overlaid(j record.Job, name string) {
	h.t.Helper()
	if shares := j.Result != nil && j.Result.Method == "reflink"; shares {
		return
	}
	if v := h.entry(name); j.State == record.Succeeded && (v.Parent == nil || v.Parent.Volume != name+"@s") {
		h.fault(j, "it is not known to stand on its snapshot: %s", shown(v))
	}
}

// hasByte fails unless a volume is a sound image with a byte in all of its first MiB.
func (h *host) hasByte(j record.Job, name string, b byte) record.Volume {
	h.t.Helper()
	h.sound(h.path(name))
	if got := h.guest(h.path(name)); !bytes.Equal(got[:mib], bytes.Repeat([]byte{b}, mib)) {
		h.fault(j, "it begins with %d, not with %d", got[0], b)
	}
	h.must(h.refresh("pool"))
	v := h.entry(name)
	if v.State != record.VolumeReady {
		h.fault(j, "it is %s", shown(v))
	}
	return v
}

func TestSnapshotsSurviveADeathAtEveryStep(t *testing.T) {
	t.Parallel()
	testenv.Tool(t, "qemu-storage-daemon")
	h := newDeadlyHost(t)
	for i, d := range snapshotDeeds() {
		points := map[string][]crash.Point{
			"snapshot":              {crash.Filled, crash.Recorded, crash.Linked, crash.Renamed, crash.Done},
			"restore":               {crash.Recorded, crash.Renamed}, // nothing of it has two names
			"merge":                 {crash.Merged, crash.Lifted, crash.Removed, crash.Done},
			"delete-with-snapshots": {crash.Resumed, crash.Recorded, crash.Removed, crash.Done},
		}[d.name]
		for k, p := range points {
			if h.commit(d, fmt.Sprintf("%d-%d", i, k), p) != 1 {
				t.Errorf("%s did not die at %s", d.name, p)
			}
		}
	}
	h.dropFrozen()
}

// unshared makes the pool "other" on a file system that cannot share blocks, and gives
// its directory.
func (h *host) unshared() (dir string) {
	h.t.Helper()
	testenv.Tool(h.t, "qemu-storage-daemon")
	dir = filepath.Join(testenv.Mount(h.t, "ext4"), "pool")
	h.define("other", dir)
	return dir
}

// An overlay stands on nothing that a linked clone could not stand on.
func TestOverlaySnapshotsAreRefusedOfWhatNothingCanStandOn(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	dir := h.unshared()
	base, beyond := filepath.Join(dir, "base"), filepath.Join(h.dir, "beyond")
	qemuImage(t, "-f", "qcow2", base, "1M")
	qemuImage(t, "-f", "raw", beyond, "1M")
	qemuImage(t, "-f", "qcow2", "-F", "raw", "-b", beyond, filepath.Join(dir, "outside"))
	qemuImage(t, "-f", "qcow2", "-F", "raw", "-b", base, filepath.Join(dir, "otherwise"))
	qemuImage(t, "-f", "qcow2", filepath.Join(dir, "strange"), "1M")
	h.overwriteAt(filepath.Join(dir, "strange"), 72, "\x01") // the last of the incompatible features
	h.must(h.refresh("other"))
	for name, why := range map[string]string{
		"outside": "is no volume of a pool", "otherwise": "as an image in format raw", "strange": "cannot be opened as an image",
	} {
		h.fails(h.end(h.freeze("other/"+name, "s")), record.Unsupported, why, "nothing was changed")
		if v := h.entry("other/" + name); len(v.Snapshots) != 0 || v.State != record.VolumeReady {
			t.Errorf("it is %s", shown(v))
		}
	}
	if files, _ := filepath.Glob(filepath.Join(dir, ".*.storaged")); len(files) > 0 {
		t.Errorf("there are %q", files)
	}
}

// chained makes a base, and on it a volume of 8 MiB with the snapshots s0, s1 and s2, each
// of which has something else: data, zeros over data, a part that the next one hides. It
// gives what a guest sees of each, and of the volume.
func (h *host) chained(dir string) map[string][]byte {
	h.t.Helper()
	disk := filepath.Join(dir, "disk")
	h.succeed(h.create("other/base", 8*mib))
	h.must(os.WriteFile(filepath.Join(dir, "base"), bytes.Repeat([]byte("base"), 2*mib), 0o600))
	h.must(h.refresh("other"))
	h.image("other", "-f", "qcow2", "-F", "raw", "-b", filepath.Join(dir, "base"), disk)
	seen := map[string][]byte{}
	for i, commands := range [][]string{
		{"write -P 1 0 3M", "write -z 5M 1M"}, {"write -P 2 1M 1M", "write -z 2M 512k", "write -P 7 5M 64k"}, {"write -P 3 1M 512k", "write -z 6M 1M"},
	} {
		h.qemuIO(disk, commands...)
		seen[fmt.Sprintf("disk@s%d", i)] = h.guest(disk)
		h.succeed(h.freeze("other/disk", fmt.Sprintf("s%d", i)))
	}
	h.qemuIO(disk, "write -P 4 64k 1M", "write -P 5 6M 4k")
	seen["disk"] = h.guest(disk)
	return seen
}

// look fails unless all that is left of a volume is as it was.
func (h *host) unchanged(dir string, seen map[string][]byte) {
	h.t.Helper()
	for name, want := range seen {
		path := filepath.Join(dir, name)
		if volume, snapshot, ok := strings.Cut(name, "@"); ok {
			path = filepath.Join(dir, record.SnapshotFile(volume, snapshot))
		}
		h.sound(path)
		if !bytes.Equal(h.guest(path), want) {
			h.t.Errorf("%s has another content", name)
		}
	}
}

// A snapshot that goes leaves what it has to those that stand on it.
func TestDeletedOverlaySnapshotIsMerged(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	dir := h.unshared()
	seen := h.chained(dir)
	for i, step := range []struct{ snapshot, parent string }{{"s1", "disk@s2"}, {"s2", "disk@s0"}, {"s0", "base"}} {
		j := h.succeed(h.dropSnapshot("other/disk@" + step.snapshot))
		if j.Result.Method != "merge" || j.Result.Bytes == 0 {
			t.Errorf("%s: %s", step.snapshot, shown(j.Result))
		}
		delete(seen, "disk@"+step.snapshot)
		h.unchanged(dir, seen)
		if v := h.entry("other/disk"); v.Parent == nil || v.Parent.Volume != step.parent || len(v.Snapshots) != 2-i || v.State != record.VolumeReady {
			t.Errorf("without %s it is %s", step.snapshot, shown(v))
		}
	}
	h.succeed(h.flatten("other/disk"))
	h.succeed(h.freeze("other/disk", "alone")) // which stands on nothing
	h.qemuIO(filepath.Join(dir, "disk"), "write -P 6 0 64k", "write -z 2M 64k")
	seen["disk"] = h.guest(filepath.Join(dir, "disk"))
	h.succeed(h.dropSnapshot("other/disk@alone"))
	h.unchanged(dir, seen)
	if v := h.entry("other/disk"); v.Backing != "" || v.Parent != nil {
		t.Errorf("it is %s", shown(v))
	}
	if files, _ := filepath.Glob(filepath.Join(dir, ".*.storaged")); len(files) > 0 {
		t.Errorf("there are still %q", files)
	}
}

// Two stand on one, after a restore: both get what it has.
func TestSnapshotUnderTwoIsMergedIntoBoth(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	dir := h.unshared()
	seen := h.chained(dir)
	h.succeed(h.restore("other/disk@s1"))
	h.qemuIO(filepath.Join(dir, "disk"), "write -P 8 2M 1M")
	seen["disk"] = h.guest(filepath.Join(dir, "disk"))
	h.succeed(h.cloneSnapshot("other/disk@s0", "linked", linked))
	h.refuses(record.HasChildren, "other/linked")(h.dropSnapshot("other/disk@s0"))
	h.succeed(h.cloneSnapshot("other/disk@s0", "raw", format("raw")))
	if raw := must(os.ReadFile(filepath.Join(dir, "raw")))(t); !bytes.Equal(raw, seen["disk@s0"]) {
		t.Error("the snapshot was converted to something else")
	}
	h.succeed(h.dropSnapshot("other/disk@s1"))
	delete(seen, "disk@s1")
	h.unchanged(dir, seen)
	h.succeed(h.remove("other/linked"))
	h.succeed(h.dropSnapshot("other/disk@s0"))
	delete(seen, "disk@s0")
	h.unchanged(dir, seen)
}

// A merge that was stopped leaves everything as it was, and the next goes on. One whose
// helper dies goes on by itself.
func TestCanceledMergeLeavesAllAsItWas(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	dir := h.unshared()
	seen := h.chained(dir)
	st := h.began(h.dropSnapshot("other/disk@s0", limited(mib)))
	h.cancel(st)
	h.end(st, nil)
	h.unchanged(dir, seen)
	st = h.began(h.dropSnapshot("other/disk@s0", limited(mib)))
	if st.Job.Reserved < 3*mib { // which the snapshot has
		t.Errorf("%d bytes are reserved", st.Job.Reserved)
	}
	h.killHelper(h.running(st))
	h.unlimit(st)
	if j := h.succeed(st, nil); j.Resumed != 1 {
		t.Error(outcome(j))
	}
	delete(seen, "disk@s0")
	h.unchanged(dir, seen)
	if v := h.entry("other/disk"); len(v.Snapshots) != 2 || v.State != record.VolumeReady {
		t.Errorf("it is %s", shown(v))
	}
}

// With its snapshots a volume is deleted on a pool that is full.
func TestVolumeIsDeletedWithItsSnapshots(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	dir := h.unshared()
	h.chained(dir)
	h.refuses(record.HasChildren, "has snapshots")(h.remove("other/disk"))
	h.succeed(h.cloneSnapshot("other/disk@s1", "linked", linked))
	h.refuses(record.HasChildren, "disk@s1", "other/linked")(h.remove("other/disk", withSnapshots))
	h.succeed(h.remove("other/linked"))
	h.exhaust(dir)
	err := h.fails(h.end(h.freeze("other/disk", "more")), record.NoSpace, "nothing was written") // others have filled it
	h.hints(err, "make room where the pool lies")
	_, err = h.restore("other/disk@s0") // what is known by now
	h.refused(err, record.NoSpace, "has no room")
	h.hints(err, "where the pool lies: the volume's blocks are not copied")
	if v := h.entry("other/disk"); len(v.Snapshots) != 3 || v.Parent.Volume != "disk@s2" {
		t.Errorf("it is %s", shown(v))
	}
	h.fails(h.end(h.dropSnapshot("other/disk@s2")), record.NoSpace, "nothing was written")
	st, err := h.remove("other/disk", withSnapshots, dryRun)
	h.must(err)
	if p := st.Plan; !p.Destroys || len(p.Objects) != 4 || !slices.Contains(p.Warnings, "3 snapshots of the volume go with it: disk@s2, disk@s1, disk@s0") {
		t.Errorf("the plan is %s", shown(p))
	}
	h.succeed(h.remove("other/disk", withSnapshots))
	if files, _ := filepath.Glob(filepath.Join(dir, ".disk*")); len(files) > 0 {
		t.Errorf("there are still %q", files)
	}
	h.refuses(record.NotFound, "disk")(h.remove("other/disk", withSnapshots))
	h.succeed(h.remove("other/base", withSnapshots))
}

// exhaust takes all the room of the file system of a directory.
func (h *host) exhaust(dir string) {
	h.t.Helper()
	f, err := os.Create(filepath.Join(filepath.Dir(dir), "full"))
	h.must(err)
	defer f.Close() // it holds nothing
	for size := int64(1 << 30); size >= 4096; size /= 2 {
		for err = nil; err == nil; {
			var at int64
			at, err = f.Seek(0, 2)
			h.must(err)
			if err = syscall.Fallocate(int(f.Fd()), 0, at, size); err == nil {
				_, err = f.Seek(at+size, 0)
				h.must(err)
				h.must(f.Truncate(at + size))
			}
		}
	}
}

// Snapshots that an image itself has are shown, and what would lose them says so.
func TestInternalSnapshotsAreShownAndWarnedOf(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.sparse("base", 4*mib)
	h.image("pool", "-f", "qcow2", "-F", "raw", "-b", h.path("base"), h.path("vol"))
	h.qemuTool("qemu-img", "snapshot", "-c", "one", h.path("vol"))
	h.qemuTool("qemu-img", "snapshot", "-c", "two", h.path("vol"))
	h.must(h.refresh("pool"))
	if v := h.entry("vol"); v.InternalSnapshots != 2 || len(v.Snapshots) != 0 {
		t.Fatalf("it is %s", shown(v))
	}
	h.runs(0, "2 (qemu-img snapshot -l lists them)", "vol", "show", "pool/vol")
	for verb, do := range map[string]func(o ...option) (started, error){
		"flatten": func(o ...option) (started, error) { return h.flatten("vol", o...) },
		"rebase":  func(o ...option) (started, error) { return h.rebase("vol", "base", o...) },
		"clone":   func(o ...option) (started, error) { return h.clone("vol", "copy", o...) },
		"upload":  func(o ...option) (started, error) { return h.hand("vol", h.outside(""), o...) },
	} {
		st, err := do(dryRun)
		h.must(err)
		if w := fmt.Sprint(st.Plan.Warnings); !strings.Contains(w, "2 snapshots in the image itself") {
			t.Errorf("%s warns of %s", verb, w)
		}
	}
	if j := h.succeed(h.clone("vol", "copy")); len(j.Warnings) != 1 {
		t.Errorf("warnings are %q", j.Warnings)
	}
	h.succeed(h.resize("vol", 8*mib)) // a job that reads the header
	if v := h.entry("vol"); v.InternalSnapshots != 2 {
		t.Errorf("it is %s", shown(v))
	}
}

// An image of the old version cannot mark zeros, which hide what lies below all the same.
func TestSnapshotIsMergedIntoAnImageThatHasNoZeros(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	dir := h.unshared()
	base, snapshot, disk := filepath.Join(dir, "base"), filepath.Join(dir, record.SnapshotFile("disk", "s")), filepath.Join(dir, "disk")
	h.must(os.WriteFile(base, bytes.Repeat([]byte("base"), mib), 0o600))
	qemuImage(t, "-f", "qcow2", "-F", "raw", "-b", base, snapshot, "3M") // shorter than what is on it
	h.qemuIO(snapshot, "write -z 1M 512k", "write -P 1 2M 64k")
	h.image("other", "-f", "qcow2", "-o", "compat=0.10", "-F", "qcow2", "-b", snapshot, disk, "5M")
	want := h.guest(disk)
	h.succeed(h.dropSnapshot("other/disk@s"))
	h.unchanged(dir, map[string][]byte{"disk": want})
}

// Nothing is done to snapshots of a volume that a virtual machine has.
func TestSnapshotsOfARunningMachineAreRefused(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	dir := h.unshared()
	seen := h.chained(dir)
	holder, stop, err := disk("format=qcow2", "")(t, filepath.Join(dir, "disk"))
	h.must(err)
	for what, do := range map[string]func() (started, error){
		"create":  func() (started, error) { return h.freeze("other/disk", "more") },
		"restore": func() (started, error) { return h.restore("other/disk@s1") },
		"merge":   func() (started, error) { return h.dropSnapshot("other/disk@s2") },
		"below":   func() (started, error) { return h.dropSnapshot("other/disk@s0") },
		"delete":  func() (started, error) { return h.remove("other/disk", withSnapshots) },
	} {
		if j := h.end(do()); j.Code() != record.Busy || !strings.Contains(fmt.Sprint(j.Error), holder) {
			t.Errorf("%s: %s, not busy by %s", what, outcome(j), holder)
		}
	}
	h.succeed(h.cloneSnapshot("other/disk@s1", "copy")) // which it lets read
	stop()
	h.unchanged(dir, seen)
	if v := h.entry("other/disk"); len(v.Snapshots) != 3 || v.State != record.VolumeReady {
		t.Errorf("it is %s", shown(v))
	}
}
