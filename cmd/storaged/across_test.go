package main_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/testenv"
)

// A clone can be written over a volume that is there: what a guest sees of the source, and
// zeros behind it. One that did not come to its end leaves a volume that says so.
func TestCloneOverAVolume(t *testing.T) {
	h := newHost(t)
	want := h.random("base", 8*mib)
	h.succeed(h.clone("base", "image", format("qcow2")))
	for _, source := range []string{"base", "image"} {
		over := "over-" + source
		h.random(over, 12*mib)
		before := must(os.Stat(h.path(over)))(t)
		j := h.succeed(h.clone(source, over, overwrites))
		if j.Kind != record.VolumeUpload {
			t.Errorf("the job is %s", j.Kind)
		}
		got := must(os.ReadFile(h.path(over)))(t)
		h.must(os.WriteFile(filepath.Join(h.dir, "beginning"), got[:8*mib], 0o600))
		sameHash(t, filepath.Join(h.dir, "beginning"), want)
		for _, b := range got[8*mib:] {
			if b != 0 {
				t.Fatal("what was behind is there still")
			}
		}
		if after := must(os.Stat(h.path(over)))(t); len(got) != 12*mib || !os.SameFile(before, after) {
			t.Errorf("it is another volume, or has %d bytes", len(got))
		}
	}
	h.random("small", mib)
	small := h.hash("small")
	h.refuses(record.TooLarge)(h.clone("base", "small", overwrites))
	h.refuses(record.Unsupported, "qcow2")(h.clone("base", "image", overwrites))
	h.refuses(record.Invalid, "over itself")(h.clone("base", "base", overwrites))
	h.refuses(record.Invalid, "excludes")(h.clone("base", "small", overwrites, format("qcow2")))
	h.refuses(record.NotFound)(h.clone("base", "none", overwrites))
	h.hasHash("small", small)
	h.runs(record.ExitUsage, "--yes", "vol", "clone", "pool/base", "pool/over-base", "--overwrite")
	h.runs(0, "", "vol", "clone", "pool/image", "pool/over-base", "--overwrite", "--yes")

	st := h.began(h.clone("base", "over-image", overwrites, limited(mib)))
	h.written(st.Job.ID, 1)
	h.killHelper(h.job(st))
	if j := h.end(st, nil); j.State != record.Failed {
		t.Errorf("after the death of its helper the job is %s", outcome(j))
	}
	h.is("over-image", record.Volume{State: record.VolumeIncomplete})
	h.runs(record.ExitBusy, "job retry", "vol", "clone", "pool/over-image", "pool/x")
	h.succeed(h.client.RetryJob(h.ctx(), contract.Submit{}, st.Job.ID, contract.JobRetry{Limit: json.RawMessage("null")}))
	h.is("over-image", record.Volume{State: record.VolumeReady})
}

// Volumes of all types become each other, as they are and as images.
func TestClonesAcrossTypes(t *testing.T) {
	testenv.VM(t)
	x := testenv.NewTarget(t, "across", 16*mib, 24*mib)
	h := newHost(t)
	h.succeed(h.sanOf(x, record.Source{}))
	pool := func(name string, s record.Source) {
		_, st, err := h.client.DefinePool(h.ctx(), contract.Submit{}, contract.PoolDefine{Name: name, Type: name, Source: s}, true, true)
		h.succeed(st, err)
	}
	pool("logical", record.Source{Name: "across", Devices: []string{testenv.Disk(t, 1)}})
	pool("disk", record.Source{Devices: []string{testenv.Disk(t, 2)}})
	part := "disk/" + filepath.Base(testenv.Disk(t, 2)) + "1"
	want := h.random("base", 16*mib)
	steps := []struct {
		from, to string
		options  []option
	}{
		{"base", "logical/lv", nil}, {"logical/lv", part, nil}, {part, unit0, []option{overwrites}}, {unit0, "pool/image", []option{format("qcow2")}},
		{"image", "logical/again", []option{format("raw")}}, {"logical/again", "pool/second", []option{format("qcow2")}},
		{"second", part, []option{overwrites}}, {part, "pool/vmdk", []option{format("vmdk")}}, {"vmdk", unit0, []option{overwrites}}, {unit0, "logical/lv", []option{overwrites}}, {"logical/lv", "pool/raw", nil},
	}
	for _, s := range steps {
		h.succeed(h.clone(s.from, s.to, s.options...))
	}
	sameHash(t, x.Files[0], want)
	h.hasHash("raw", want)
	h.succeed(h.clone("image", unit1, overwrites))
	h.succeed(h.clone(unit1, "pool/longer"))
	if got := must(os.ReadFile(h.path("longer")))(t); len(got) != 24*mib || got[20*mib] != 0 {
		t.Errorf("it has %d bytes", len(got))
	}
	for _, v := range []string{part, "logical/lv", "logical/again"} {
		h.succeed(h.remove(v))
	}
	for _, name := range []string{"san", "disk", "logical"} {
		h.succeed(h.stopPool(name))
	}
	h.succeed(h.deletePool("disk"))
	h.succeed(h.deletePool("logical"))
	h.must(h.undefine("san"))
}
