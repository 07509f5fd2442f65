package main_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"storaged/internal/record"
)

// deed is one kind of work as the tests of crashes do it: on objects of its
// own, named by n, so that many can be under way at once and each be checked.
type deed struct {
	name    string
	prepare func(h *host, n string)
	start   func(h *host, n string, o ...option) (started, error)
	// check holds the storage and the catalog against how the job ended.
	check func(h *host, n string, j record.Job)
}

// deedBytes is the size of what a deed works on, and deedRate how fast: each
// takes a fifth of a second, so that there is a middle to be killed in.
const (
	deedBytes = 2 * mib
	deedRate  = 10 * mib
)

func slowly() option { return limited(deedRate) }

// deeds has one of each kind, and of each way of it that undoes differently.
func deeds() []deed {
	return append([]deed{
		{"create", nothing, startCreate(0), checkMade},
		{"allocate", nothing, startCreate(deedBytes), checkMade},
		{"clone", withSource, startClone, checkMade},
		{"wipe", withContent, startWipe, checkChanged},
		{"grow", withContent, startResize(2 * deedBytes), checkResized},
		{"grow-allocated", withContent, startResize(2 * deedBytes), checkResized},
		{"shrink", withContent, startResize(deedBytes / 2), checkResized},
		{"delete", withContent, startDelete(""), checkDeleted},
		{"delete-wiped", withContent, startDelete("zero"), checkDeleted},
		{"verify", withContent, startVerify, checkUntouched},
		{"rename", withContent, startMove(""), checkMoved},
		{"move", withContentAndPool, startMove("p"), checkMoved},
		{"upload", withContent, startUpload, checkUploaded},
		{"create-from", nothing, startCreateFrom, checkMadeFrom},
		{"download", withContent, startDownload, checkUntouched},
		{"evacuate", withTwoPools, startEvacuate, checkEvacuated},
		{"pool-build", withPool("defined"), startPoolVerb("build"), checkPool},
		{"pool-start", withPool("built"), startPoolVerb("start"), checkPool},
		{"pool-stop", withPool("started"), startPoolVerb("stop"), checkPool},
		{"pool-refresh", withPool("started"), startPoolVerb("refresh"), checkPool},
		{"pool-verify", withPool("started"), startPoolVerb("verify"), checkPool},
		{"pool-delete", withPool("built"), startPoolVerb("delete"), checkPool},
	}, imageDeeds()...)
}

// imageDeeds are those of deeds in which QEMU writes the image.
func imageDeeds() []deed {
	return []deed{
		{"convert", withSource, startConvert("qcow2"), checkConverted},
		{"convert-back", withImage, startConvert("raw"), checkConverted},
		{"flatten", withOverlay, startFlatten, checkFlattened},
	}
}

func nothing(*host, string) {}

// content is what a deed's volume holds: it differs from volume to volume and
// is nowhere zero.
func content(n string, size int) []byte {
	return bytes.Repeat([]byte("content of "+n+" "), size/(12+len(n))+1)[:size]
}

// put makes a volume with content.
func (h *host) put(name string) {
	h.t.Helper()
	h.sparse(name, deedBytes)
	writeDurably(h.t, h.path(name), content(name, deedBytes))
}

// writeDurably writes a file as one does who wants to find it again after a
// power cut.
func writeDurably(t *testing.T, path string, b []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() // synced, or the test has failed
	if _, err := f.Write(b); err != nil {
		t.Fatal(err)
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if err := errors.Join(f.Sync(), dir.Sync()); err != nil {
		t.Fatal(err)
	}
}

func withSource(h *host, n string)  { h.put("src" + n) }
func withContent(h *host, n string) { h.put("vol" + n) }

func startCreate(bytes int64) func(*host, string, ...option) (started, error) {
	return func(h *host, n string, o ...option) (started, error) {
		return h.create("vol"+n, deedBytes, append(o, allocation(bytes), slowly())...)
	}
}

func startClone(h *host, n string, o ...option) (started, error) {
	return h.clone("src"+n, "vol"+n, append(o, noReflink, slowly())...)
}

// withImage makes a source in another format.
func withImage(h *host, n string) {
	h.t.Helper()
	h.put("raw" + n)
	h.succeed(h.clone("raw"+n, "src"+n, format("qcow2")))
}

func startConvert(to string) func(*host, string, ...option) (started, error) {
	return func(h *host, n string, o ...option) (started, error) {
		return h.clone("src"+n, "vol"+n, append(o, format(to), slowly())...)
	}
}

// ownBytes is how much of an overlay's content is its own: the beginning.
const ownBytes = 64 << 10

// withOverlay makes an overlay with something of its own.
func withOverlay(h *host, n string) {
	h.t.Helper()
	h.put("raw" + n)
	h.succeed(h.clone("raw"+n, "vol"+n, linked))
	h.qemuIO(h.path("vol"+n), fmt.Sprintf("write -P 1 0 %d", ownBytes), "flush")
}

func startFlatten(h *host, n string, o ...option) (started, error) {
	return h.flatten("vol"+n, append(o, slowly())...)
}

func startWipe(h *host, n string, o ...option) (started, error) {
	return h.wipe("vol"+n, append(o, acceptLimits, slowly())...)
}

func startResize(to int64) func(*host, string, ...option) (started, error) {
	return func(h *host, n string, o ...option) (started, error) {
		return h.resize("vol"+n, to, append(o, field("shrink", to < deedBytes), slowly())...)
	}
}

func startDelete(wipe string) func(*host, string, ...option) (started, error) {
	return func(h *host, n string, o ...option) (started, error) {
		return h.remove("vol"+n, append(o, wipeFirst(wipe), slowly())...)
	}
}

func startVerify(h *host, n string, o ...option) (started, error) {
	return h.verify("vol"+n, append(o, slowly())...)
}

func withContentAndPool(h *host, n string) {
	withContent(h, n)
	withPool("started")(h, n)
}

// startMove moves a volume to another name, in another pool if a prefix of its
// name is given.
func startMove(pool string) func(*host, string, ...option) (started, error) {
	return func(h *host, n string, o ...option) (started, error) {
		to := "moved" + n
		if pool != "" {
			to = pool + n + "/" + to
		}
		return h.move("vol"+n, to, append(o, slowly())...)
	}
}

// checkMoved: the volume is whole in one place at least, and where the job says.
func checkMoved(h *host, n string, j record.Job) {
	h.t.Helper()
	target, dir := j.Objects[len(j.Objects)-1], h.pool
	if target.Pool != "pool" {
		dir = h.poolDir(n)
	}
	_, old := h.stored(j, "vol"+n)
	file, ferr := os.ReadFile(filepath.Join(dir, "moved"+n))
	moved, merr := h.client.Volume(h.ctx(), target.Pool, "moved"+n)
	switch there := merr == nil && ready(&moved) && bytes.Equal(file, content("vol"+n, deedBytes)); {
	case (ferr == nil) != (merr == nil):
		h.fault(j, "the target: file %v, entry %v", ferr, merr)
	case j.State == record.Succeeded && (old != nil || !there):
		h.fault(j, "the source is %s, the target is there: %v", shown(old), there)
	case !there && !ready(old):
		h.fault(j, "the volume is whole nowhere: %s", shown(old))
	case merr == nil && !there:
		h.fault(j, "the target is there and not whole: %s", shown(moved))
	}
}

// outside makes a file of a client.
func (h *host) outside(n string) *os.File {
	h.t.Helper()
	path := filepath.Join(h.dir, "up"+n)
	h.must(os.WriteFile(path, content("up"+n, deedBytes), 0o600))
	f := must(os.Open(path))(h.t)
	h.t.Cleanup(func() { f.Close() })
	return f
}

func startUpload(h *host, n string, o ...option) (started, error) {
	return h.hand("vol"+n, h.outside(n), append(o, slowly())...)
}

func startCreateFrom(h *host, n string, o ...option) (started, error) {
	return h.hand("vol"+n, h.outside(n), append(o, creating(named("vol"+n)), slowly())...)
}

func startDownload(h *host, n string, o ...option) (started, error) {
	f := must(os.Create(filepath.Join(h.dir, "down"+n)))(h.t)
	h.t.Cleanup(func() { f.Close() }) // what it holds is looked at by the tests of downloads
	return h.handDown("vol"+n, f, append(o, slowly())...)
}

// checkUploaded: the volume holds what came, or says that it may be neither.
func checkUploaded(h *host, n string, j record.Job) {
	h.t.Helper()
	file, v := h.stored(j, "vol"+n)
	came, old := bytes.Equal(file, content("up"+n, deedBytes)), bytes.Equal(file, content("vol"+n, deedBytes))
	switch {
	case v == nil:
		h.fault(j, "the volume is gone")
	case j.State == record.Succeeded && !(came && ready(v)):
		h.fault(j, "the volume is %s and holds what came: %v", v.State, came)
	case j.State != record.Succeeded && ready(v) && !old:
		h.fault(j, "the volume is changed and yet ready")
	}
}

// checkMadeFrom: the volume is there whole, or not at all.
func checkMadeFrom(h *host, n string, j record.Job) {
	h.t.Helper()
	file, v := h.stored(j, "vol"+n)
	switch {
	case j.State != record.Succeeded && v != nil:
		h.fault(j, "its volume is there, %s", v.State)
	case j.State == record.Succeeded && (!ready(v) || !bytes.Equal(file, content("up"+n, deedBytes))):
		h.fault(j, "its volume is %s with %d bytes", shown(v), len(file))
	}
}

// withTwoPools starts a pool with volumes and another to take them.
func withTwoPools(h *host, n string) {
	h.t.Helper()
	withPool("started")(h, n+"t")
	h.must(os.Remove(filepath.Join(h.poolDir(n+"t"), "found")))
	withPool("started")(h, n)
	for i := range 3 {
		writeDurably(h.t, filepath.Join(h.poolDir(n), fmt.Sprint("e", i)), content(fmt.Sprint(n, i), deedBytes/4))
	}
	for _, pool := range []string{n, n + "t"} {
		h.succeed(h.refreshPool("p" + pool))
	}
}

func startEvacuate(h *host, n string, o ...option) (started, error) {
	return h.evacuatePool("p"+n, "p"+n+"t", append(o, slowly())...)
}

// checkEvacuated: each volume is whole in one of the pools, and each pool's
// catalog says what is there.
func checkEvacuated(h *host, n string, j record.Job) {
	h.t.Helper()
	for i := range 3 {
		name := fmt.Sprint("e", i)
		var whole []string
		for _, pool := range []string{n, n + "t"} {
			file, ferr := os.ReadFile(filepath.Join(h.poolDir(pool), name))
			v, verr := h.client.Volume(h.ctx(), "p"+pool, name)
			if (ferr == nil) != (verr == nil) {
				h.fault(j, "%s in %s: file %v, entry %v", name, pool, ferr, verr)
			}
			if bytes.Equal(file, content(fmt.Sprint(n, i), deedBytes/4)) && ready(&v) {
				whole = append(whole, pool)
			} else if ferr == nil {
				h.fault(j, "%s in %s is there and not whole: %s", name, pool, shown(v))
			}
		}
		if len(whole) == 0 || j.State == record.Succeeded && (len(whole) != 1 || whole[0] != n+"t") {
			h.fault(j, "%s is whole in %q", name, whole)
		}
	}
}

func (h *host) poolDir(n string) string { return h.pool + "-" + n }

// withPool defines a pool of its own, and builds and starts it as far as asked.
func withPool(state string) func(*host, string) {
	return func(h *host, n string) {
		h.t.Helper()
		options := map[string][]option{"built": {andBuild}, "started": {andBuild, andStart}}[state]
		_, st, err := h.definition("p"+n, h.poolDir(n), options...)
		h.must(err)
		if st.Job != nil {
			h.succeed(st, nil)
		}
		if state == "started" {
			writeDurably(h.t, filepath.Join(h.poolDir(n), "found"), content(n, deedBytes))
			h.succeed(h.refreshPool("p" + n))
		}
	}
}

func startPoolVerb(verb string) func(*host, string, ...option) (started, error) {
	return func(h *host, n string, o ...option) (started, error) {
		switch verb {
		case "build":
			return h.buildPool("p"+n, o...)
		case "start":
			return h.startPool("p"+n, o...)
		case "stop":
			return h.stopPool("p"+n, o...)
		case "refresh":
			return h.refreshPool("p"+n, o...)
		case "verify":
			return h.verifyPool("p"+n, append(o, slowly())...)
		}
		return h.deletePool("p"+n, o...)
	}
}

// fault reports what a job left that it should not have.
func (h *host) fault(j record.Job, format string, args ...any) {
	h.t.Helper()
	h.t.Errorf("job %d (%s) is %s: %s\n%s", j.Number, j.Kind, outcome(j), fmt.Sprintf(format, args...), h.jobLog(j))
}

// jobLog gives what the job's processes said, as far as it can be had.
func (h *host) jobLog(j record.Job) []byte {
	r, err := h.client.JobLog(h.ctx(), j.ID)
	if err != nil {
		return fmt.Append(nil, "its log: ", err)
	}
	defer r.Close()
	text, _ := io.ReadAll(r)
	return text
}

// stored gives the file and the catalog's entry of a volume, nil where there
// is none. One of the two alone is a fault.
func (h *host) stored(j record.Job, name string) (file []byte, v *record.Volume) {
	h.t.Helper()
	file, err := os.ReadFile(h.path(name))
	if err != nil && !os.IsNotExist(err) {
		h.t.Fatal(err)
	}
	entry, verr := h.client.Volume(h.ctx(), "pool", name)
	switch {
	case verr == nil:
		v = &entry
	case record.CodeOf(verr) != record.NotFound:
		h.t.Fatal(verr)
	}
	if (err == nil) != (v != nil) {
		h.fault(j, "volume %q: file %v, entry %v", name, err, verr)
	}
	if v != nil && v.State != record.VolumeReady && v.State != record.VolumeIncomplete {
		h.fault(j, "volume %q stays %s", name, v.State)
	}
	if v != nil && err == nil && v.Format == record.FormatRaw && v.Capacity != int64(len(file)) {
		h.fault(j, "volume %q has %d bytes, its entry says %d", name, len(file), v.Capacity)
	}
	return file, v
}

// ready reports whether a volume's content is vouched for.
func ready(v *record.Volume) bool { return v != nil && v.State == record.VolumeReady }

// checkMade: a new volume is there whole, or not at all.
func checkMade(h *host, n string, j record.Job) {
	h.t.Helper()
	file, v := h.stored(j, "vol"+n)
	want := make([]byte, deedBytes)
	if j.Kind == record.VolumeClone {
		want = content("src"+n, deedBytes)
		if src, _ := h.stored(j, "src"+n); !bytes.Equal(src, want) {
			h.fault(j, "the source is not as it was")
		}
	}
	switch {
	case j.State != record.Succeeded && v != nil:
		h.fault(j, "its volume is there, %s", v.State)
	case j.State == record.Succeeded && (!ready(v) || !bytes.Equal(file, want)):
		h.fault(j, "its volume is %s with %d bytes", shown(v), len(file))
	}
}

// checkConverted: a volume in the other format is there with the content of its
// source, or not at all.
func checkConverted(h *host, n string, j record.Job) {
	h.t.Helper()
	_, v := h.stored(j, "vol"+n)
	from, to, want := "raw", "qcow2", content("src"+n, deedBytes)
	if _, err := os.Stat(h.path("raw" + n)); err == nil {
		from, to, want = to, from, content("raw"+n, deedBytes)
	}
	h.sees("src"+n, from, want)
	switch {
	case j.State != record.Succeeded && v != nil:
		h.fault(j, "its volume is there, %s", v.State)
	case j.State == record.Succeeded:
		h.sees("vol"+n, to, want)
	}
}

// leakedOnly is how qemu-img check ends when an image has clusters that nothing
// uses, and no other fault (man qemu-img).
const leakedOnly = 3

// checkFlattened: the content is the same whatever became of the job, and the
// volume stands on nothing if it succeeded. What was interrupted once may have
// left clusters that nothing uses, and nothing worse.
func checkFlattened(h *host, n string, j record.Job) {
	h.t.Helper()
	_, v := h.stored(j, "vol"+n)
	if !ready(v) || j.State == record.Succeeded && v.Backing != "" {
		h.fault(j, "the volume is %s", shown(v))
		return
	}
	want := content("raw"+n, deedBytes)
	copy(want, bytes.Repeat([]byte{1}, ownBytes))
	if !bytes.Equal(h.reads("vol"+n, "qcow2"), want) {
		h.fault(j, "the volume has another content")
	}
	h.soundAfter(j, "vol"+n)
}

// checkChanged: what was wiped is zero, and what was wiped in part says so.
func checkChanged(h *host, n string, j record.Job) {
	h.t.Helper()
	file, v := h.stored(j, "vol"+n)
	zero, old := bytes.Equal(file, make([]byte, deedBytes)), bytes.Equal(file, content("vol"+n, deedBytes))
	switch {
	case v == nil:
		h.fault(j, "the volume is gone")
	case j.State == record.Succeeded && !(zero && ready(v)):
		h.fault(j, "the volume is %s and zero: %v", v.State, zero)
	case j.State != record.Succeeded && ready(v) && !old:
		h.fault(j, "the volume is changed and yet ready")
	}
}

// checkResized: the volume has the new size or the old, and what it kept.
func checkResized(h *host, n string, j record.Job) {
	h.t.Helper()
	file, v := h.stored(j, "vol"+n)
	want := content("vol"+n, deedBytes)
	kept := file[:min(len(file), len(want))]
	switch {
	case v == nil:
		h.fault(j, "the volume is gone")
	case !bytes.HasPrefix(want, kept) || !bytes.Equal(file[len(kept):], make([]byte, len(file)-len(kept))):
		h.fault(j, "its content is changed")
	case j.State == record.Succeeded && (!ready(v) || len(file) == deedBytes):
		h.fault(j, "the volume is %s and has %d bytes", v.State, len(file))
	case ready(v) && j.State != record.Succeeded && len(file) < deedBytes:
		h.fault(j, "it lost its end and is ready")
	}
}

// checkDeleted: the volume is gone, or there; only a wipe may have touched it.
func checkDeleted(h *host, n string, j record.Job) {
	h.t.Helper()
	file, v := h.stored(j, "vol"+n)
	switch {
	case (j.State == record.Succeeded) != (v == nil):
		h.fault(j, "the volume is %s", shown(v))
	case ready(v) && !bytes.Equal(file, content("vol"+n, deedBytes)):
		h.fault(j, "the volume is changed and yet ready")
	}
}

func checkUntouched(h *host, n string, j record.Job) {
	h.t.Helper()
	if file, v := h.stored(j, "vol"+n); !ready(v) || !bytes.Equal(file, content("vol"+n, deedBytes)) {
		h.fault(j, "a reader left the volume %s", shown(v))
	}
}

// checkPool: the pool is in a state from which it can be used, and what it held
// is as it was.
func checkPool(h *host, n string, j record.Job) {
	h.t.Helper()
	p, err := h.client.Pool(h.ctx(), "p"+n)
	if j.Kind == record.PoolDelete && record.CodeOf(err) == record.NotFound {
		return
	}
	if err != nil {
		h.t.Fatal(err)
	}
	switch p.State {
	case record.PoolActive:
	case record.PoolInactive:
		_, serr := os.Stat(h.poolDir(n))
		if gone := os.IsNotExist(serr); gone && j.Kind == record.PoolStop {
			h.fault(j, "the directory is gone")
		} else if !gone {
			h.succeed(h.startPool("p" + n))
		}
	default:
		h.fault(j, "the pool stays %s: %s", p.State, p.Reason)
	}
	file, err := os.ReadFile(filepath.Join(h.poolDir(n), "found"))
	if err == nil && !bytes.Equal(file, content(n, deedBytes)) {
		h.fault(j, "what the pool held is changed")
	}
}
