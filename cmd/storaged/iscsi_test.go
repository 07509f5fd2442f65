package main_test

import (
	"os"
	"path/filepath"
	"testing"

	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/testenv"
)

const (
	unit0 = "san/unit:0:0:0"
	unit1 = "san/unit:0:0:1"
)

// sanOf defines the pool "san" on a target, and starts it.
func (h *host) sanOf(x *testenv.Target, s record.Source) (started, error) {
	h.t.Helper()
	s.Hosts, s.Devices = []string{x.Portal}, []string{x.Name}
	_, st, err := h.client.DefinePool(h.ctx(), contract.Submit{}, contract.PoolDefine{Name: "san", Type: "iscsi", Source: s}, false, true)
	return st, err
}

// putOnto uploads a volume of the pool "pool".
func (h *host) putOnto(volume, from string, options ...option) (started, error) {
	h.t.Helper()
	f := must(os.Open(h.path(from)))(h.t)
	h.t.Cleanup(func() { f.Close() })
	return h.hand(volume, f, options...)
}

// A target is logged in to by a secret that nobody sees, and its units are what volumes are,
// but for being made and removed. Other units stay as they are.
func TestPoolOnATarget(t *testing.T) {
	testenv.VM(t)
	right, wrong := canary("right"), canary("wrong")
	x := testenv.NewTarget(t, "pool", 16*mib, 16*mib)
	x.Only("user", right)
	writeRandom(t, x.Files[1], 16*mib)
	bystander := hashOf(t, x.Files[1])
	h := newHost(t)
	h.setSecret("chap", wrong)
	stop := h.hunt(right, wrong)
	h.fails(h.end(h.sanOf(x, record.Source{Username: "user", Secret: "chap"})), record.Denied, `"user"`, `"chap"`)
	h.setSecret("chap", right)
	h.succeed(h.startPool("san"))
	if seen := stop(); seen == 0 {
		t.Error("no helper was looked at")
	}
	h.refused(h.client.DeleteSecret(h.ctx(), contract.Submit{}, "chap"), record.Busy, `pool "san"`)
	h.nowhere(right, wrong)
	h.is(unit0, record.Volume{State: record.VolumeReady, Type: "block", Format: "raw", Capacity: 16 * mib})

	want := h.random("base", 16*mib)
	h.succeed(h.putOnto(unit0, "base"))
	sameHash(t, x.Files[0], want)
	h.succeed(h.clone(unit0, "pool/copy"))
	h.hasHash("copy", want)
	h.succeed(h.clone(unit0, "pool/image", format("qcow2")))
	h.succeed(h.verify(unit0, asRaw))
	h.succeed(h.verifyPool("san"))
	down := must(os.Create(filepath.Join(h.dir, "down")))(t)
	h.succeed(h.handDown(unit0, down))
	sameHash(t, down.Name(), want)

	h.refuses(record.Unsupported)(h.create("san/unit:0:0:5", mib))
	h.refuses(record.Unsupported)(h.remove(unit0))
	h.refuses(record.Unsupported, "no volume is made")(h.clone("base", unit0))
	h.refuses(record.Unsupported)(h.resize(unit0, 32*mib))
	h.runs(record.ExitUnsupported, "of type iscsi", "vol", "delete", unit0, "--yes")

	h.interrupted(x)
	h.succeed(h.wipe(unit0, acceptLimits))
	h.succeed(h.trim(unit0, giveUpAllocation))
	sameHash(t, x.Files[1], bystander)
	h.sanStops()
	h.nowhere(right, wrong)
}

// interrupted has work on a unit end before its time: what was written is marked, and
// written again.
func (h *host) interrupted(x *testenv.Target) {
	h.t.Helper()
	want := h.hash("base")
	st := h.began(h.putOnto(unit0, "base", limited(mib)))
	h.written(st.Job.ID, 1)
	h.cancel(st)
	if j := h.end(st, nil); j.State != record.Canceled {
		h.t.Errorf("the upload is %s", outcome(j))
	}
	h.is(unit0, record.Volume{State: record.VolumeIncomplete})
	h.succeed(h.putOnto(unit0, "base"))
	h.is(unit0, record.Volume{State: record.VolumeReady})
	st = h.began(h.putOnto(unit0, "base", limited(mib)))
	h.written(st.Job.ID, 1)
	h.killHelper(h.job(st))
	if j := h.end(st, nil); j.State != record.Failed {
		h.t.Errorf("the upload is %s", outcome(j))
	}
	h.succeed(h.putOnto(unit0, "base"))
	st = h.began(h.clone(unit0, "pool/half", limited(mib)))
	h.written(st.Job.ID, 1)
	h.cancel(st)
	h.end(st, nil)
	h.absent("half")
	h.kill()
	h.start()
	h.poolIs("san", record.Pool{State: record.PoolActive})
	h.succeed(h.putOnto(unit0, "base"))
	sameHash(h.t, x.Files[0], want)
}

// sanStops logs out, when nobody has a unit open.
func (h *host) sanStops() {
	h.t.Helper()
	v := must(h.client.Volume(h.ctx(), "san", "unit:0:0:1"))(h.t)
	f := must(os.Open(v.Path))(h.t)
	h.fails(h.end(h.stopPool("san")), record.Busy, "is in use by pid")
	f.Close()
	h.succeed(h.stopPool("san"))
	if left, _ := filepath.Glob("/sys/class/iscsi_session/*"); len(left) > 0 {
		h.t.Errorf("there are sessions %q", left)
	}
	h.must(h.undefine("san"))
}

func sameHash(t *testing.T, path, want string) {
	t.Helper()
	if is := hashOf(t, path); is != want {
		t.Errorf("%s has the hash %s, want %s", path, is, want)
	}
}

// A clone waits for a target that does not answer, and goes on when it does again. Where
// that takes too long for the kernel, it fails, says of what, and leaves nothing.
func TestTargetIsAwayInAClone(t *testing.T) {
	testenv.VM(t)
	x := testenv.NewTarget(t, "away", 16*mib, 16*mib)
	h := newHost(t)
	h.succeed(h.sanOf(x, record.Source{}))
	writeRandom(t, x.Files[0], 16*mib)
	want := hashOf(t, x.Files[0])
	st := h.began(h.clone(unit0, "pool/copy", limited(2*mib)))
	h.written(st.Job.ID, 1)
	x.Down()
	h.awaitSession("FAILED")
	h.answers()
	x.Up()
	h.succeed(st, nil)
	h.hasHash("copy", want)

	tmo, _ := filepath.Glob("/sys/class/iscsi_session/*/recovery_tmo")
	for _, file := range tmo {
		h.must(os.WriteFile(file, []byte("3"), 0))
	}
	st = h.began(h.clone(unit0, "pool/lost", limited(mib/4)))
	h.written(st.Job.ID, 1)
	x.Down()
	j := h.end(st, nil)
	v := must(h.client.Volume(h.ctx(), "san", "unit:0:0:0"))(t)
	h.failedAt(j, record.IO, v.Path, true)
	h.absent("lost")
	if j := h.end(h.refreshPool("san")); j.State != record.Failed {
		t.Errorf("the refresh is %s", outcome(j))
	}
	x.Up()
	h.awaitSession("LOGGED_IN")
	h.succeed(h.refreshPool("san"))
	h.succeed(h.clone(unit0, "pool/again"))
	h.hasHash("again", want)
	h.succeed(h.stopPool("san"))
	h.must(h.undefine("san"))
}

// awaitSession waits until the only session is in a state.
func (h *host) awaitSession(state string) {
	h.t.Helper()
	h.await("a session "+state, func() bool {
		all, _ := filepath.Glob("/sys/class/iscsi_session/*/state")
		b, err := os.ReadFile(append(all, "")[0])
		return err == nil && string(b) == state+"\n"
	})
}
