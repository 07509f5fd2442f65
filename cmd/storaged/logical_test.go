package main_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/testenv"
)

// onGroup has a pool "vg" of logical volumes on the first disk of the machine. Nothing of
// the others may change: a group with a volume on the second, and noise on the third.
func (h *host) onGroup() {
	h.t.Helper()
	h.lvm("vgcreate", "bystander", testenv.Disk(h.t, 2))
	h.lvm("lvcreate", "--yes", "--name", "b", "--size", "8m", "bystander")
	h.asGuest("/dev/bystander/b", noise(8*mib))
	h.asGuest(testenv.Disk(h.t, 3), noise(8*mib))
	before := h.bystanders()
	h.t.Cleanup(func() {
		if after := h.bystanders(); after != before {
			h.t.Errorf("others' devices were %s and are %s", before, after)
		}
		h.lvm("vgremove", "--yes", "--force", "bystander")
		if h.t.Failed() { // else it is deleted by now
			_ = exec.Command("lvm", "vgremove", "--yes", "--force", "group").Run() // or it is not there
			_ = exec.Command("lvm", "pvremove", "--yes", testenv.Disk(h.t, 1)).Run()
		}
	})
	_, st, err := h.client.DefinePool(h.ctx(), contract.Submit{}, onDisk(testenv.Disk(h.t, 1)), true, true)
	h.succeed(st, err)
}

// onDisk is a pool "vg" of a group of one disk.
func onDisk(disk string) contract.PoolDefine {
	return contract.PoolDefine{Name: "vg", Type: "logical", Source: record.Source{Name: "group", Devices: []string{disk}}}
}

// bystanders are the checksums of devices that no pool is on.
func (h *host) bystanders() string {
	h.t.Helper()
	var sums []string
	for _, path := range []string{"/dev/bystander/b", testenv.Disk(h.t, 2), testenv.Disk(h.t, 3)} {
		out, err := exec.Command("sh", "-c", `head -c 16M "$0" | sha256sum`, path).Output()
		h.must(err)
		sums = append(sums, string(out))
	}
	return strings.Join(sums, " ")
}

func (h *host) lvm(command string, args ...string) string {
	h.t.Helper()
	out, err := exec.Command("lvm", append([]string{command}, args...)...).CombinedOutput()
	if err != nil {
		h.t.Errorf("%s %q: %v\n%s", command, args, err, out)
	}
	return string(out)
}

// asGuest writes to a device, as a virtual machine does.
func (h *host) asGuest(device string, content []byte) {
	h.t.Helper()
	f, err := os.OpenFile(device, os.O_WRONLY, 0)
	h.must(err)
	_, err = f.Write(content)
	h.must(errors.Join(err, f.Sync(), f.Close()))
}

// logical are the volumes that LVM has in the group.
func (h *host) logical() string {
	h.t.Helper()
	return strings.Join(strings.Fields(h.lvm("lvs", "--noheadings", "--options", "lv_name", "group")), " ")
}

// zeroBehind fails unless a device begins with that content, and has zeros behind it.
func (h *host) zeroBehind(path string, content []byte) {
	h.t.Helper()
	b, err := os.ReadFile(path)
	if err != nil || len(b) < len(content) || !bytes.Equal(b[:len(content)], content) || len(bytes.Trim(b[len(content):], "\x00")) > 0 {
		h.t.Errorf("%s has %d bytes, and not the %d that were written and zeros (%v)", path, len(b), len(content), err)
	}
}

// denied is refused, at once or by a job that fails.
func (h *host) denied(code record.Code, says ...string) func(started, error) {
	return func(st started, err error) {
		h.t.Helper()
		if err != nil {
			h.refused(err, code, says...)
			return
		}
		h.fails(h.end(st, nil), code, says...)
	}
}

// What can be done to volumes can be done to logical ones.
func TestLogicalPool(t *testing.T) {
	testenv.VM(t)
	h := newHost(t)
	h.onGroup()
	old := noise(24 * mib) // of somebody who has had the room before
	h.succeed(h.create("vg/old", 24*mib))
	h.asGuest("/dev/group/old", old)
	h.succeed(h.remove("vg/old"))

	j := h.succeed(h.create("vg/a", 9*mib))
	if v := h.is("vg/a", record.Volume{State: record.VolumeReady}); v.Capacity != 12*mib || v.Path != "/dev/group/a" || v.Type != "block" || v.Format != record.FormatRaw || len(v.Key) != 38 {
		t.Errorf("the volume is %s, the job %s", shown(v), outcome(j))
	}
	h.zeroBehind("/dev/group/a", nil)
	content := noise(5 * mib)
	file := h.outside("x")
	h.must(os.WriteFile(file.Name(), content, 0o600))
	h.succeed(h.hand("vg/a", file))
	h.zeroBehind("/dev/group/a", content)
	h.succeed(h.clone("vg/a", "vg/b"))
	h.zeroBehind("/dev/group/b", content)
	h.succeed(h.resize("vg/b", 20*mib))
	h.zeroBehind("/dev/group/b", content)
	h.denied(record.Invalid, "would be lost")(h.resize("vg/b", 12*mib))
	h.succeed(h.resize("vg/b", 8*mib, shrink))
	h.zeroBehind("/dev/group/b", content)
	h.succeed(h.verify("vg/b"))
	h.succeed(h.trim("vg/b"))
	h.zeroBehind("/dev/group/b", content)
	h.succeed(h.move("vg/b", "vg/c"))
	h.succeed(h.clone("vg/c", "pool/file"))
	h.zeroBehind(h.path("file"), content)
	h.succeed(h.clone("file", "vg/d"))
	h.zeroBehind("/dev/group/d", content)
	h.succeed(h.clone("file", "image", format("qcow2")))
	h.succeed(h.clone("image", "vg/e", format("raw")))
	h.zeroBehind("/dev/group/e", content)
	h.succeed(h.wipe("vg/d"))
	h.zeroBehind("/dev/group/d", nil)
	down, err := os.Create(file.Name())
	h.must(err)
	defer down.Close()
	h.succeed(h.handDown("vg/a", down))
	h.zeroBehind(file.Name(), content)
	h.succeed(h.move("vg/c", "pool/moved"))
	h.zeroBehind(h.path("moved"), content)
	h.succeed(h.move("moved", "vg/back"))
	h.zeroBehind("/dev/group/back", content)
	if is := h.logical(); is != "a back d e" {
		t.Errorf("the group has %s", is)
	}
	h.denied(record.Invalid, "letters")(h.create("vg/a b", mib))
	h.denied(record.NoSpace)(h.create("vg/huge", 1<<40))
	h.stopsAndStarts(content)
	h.evacuates(content)
	h.isNotBuiltOver()
}

// stopsAndStarts does so with the pool, once somebody uses a volume.
func (h *host) stopsAndStarts(content []byte) {
	h.t.Helper()
	used, err := os.Open("/dev/group/a")
	h.must(err)
	h.denied(record.Busy, fmt.Sprint("pid ", os.Getpid()))(h.client.Start(h.ctx(), contract.Submit{}, "vg", "", &operation.PoolStopRequest{}))
	h.denied(record.Busy, fmt.Sprint("pid ", os.Getpid()))(h.wipe("vg/a"))
	used.Close()
	st, err := h.client.Start(h.ctx(), contract.Submit{}, "vg", "", &operation.PoolStopRequest{})
	h.succeed(st, err)
	if _, err := os.Stat("/dev/group/a"); err == nil {
		h.t.Error("a volume of a stopped pool is there")
	}
	h.kill()
	h.start()
	st, err = h.client.Start(h.ctx(), contract.Submit{}, "vg", "", &operation.PoolStartRequest{})
	h.succeed(st, err)
	h.zeroBehind("/dev/group/a", content)
}

// evacuates the pool, and deletes it.
func (h *host) evacuates(content []byte) {
	h.t.Helper()
	h.lvm("lvcreate", "--yes", "--snapshot", "--name", "snap", "--size", "4m", "group/d")
	h.must(h.refresh("vg"))
	h.denied(record.HasChildren, "snapshots")(h.wipe("vg/d"))
	h.succeed(h.remove("vg/snap"))
	h.succeed(h.evacuatePool("vg", "pool", only("[abe]*")))
	for _, name := range []string{"a", "back", "e"} {
		h.zeroBehind(h.path(name), content)
	}
	if is := h.logical(); is != "d" {
		h.t.Errorf("the group has %s", is)
	}
	st, err := h.client.Start(h.ctx(), contract.Submit{}, "vg", "", &operation.PoolStopRequest{})
	h.succeed(st, err)
	remove := func(r operation.PoolDeleteRequest) (started, error) {
		return h.client.Start(h.ctx(), contract.Submit{}, "vg", "", &r)
	}
	h.denied(record.HasChildren)(remove(operation.PoolDeleteRequest{}))
	h.succeed(remove(operation.PoolDeleteRequest{WithVolumes: true}))
	if out := h.lvm("pvs", "--noheadings", testenv.Disk(h.t, 2)); !strings.Contains(out, "bystander") {
		h.t.Errorf("%s", out)
	}
	if out, err := exec.Command("wipefs", "--noheadings", testenv.Disk(h.t, 1)).CombinedOutput(); err != nil || len(out) > 0 {
		h.t.Errorf("the disk carries %s, %v", out, err)
	}
}

// isNotBuiltOver starts a pool that is to be built on a disk that carries something: it is
// told that, and not only that there is no group.
func (h *host) isNotBuiltOver() {
	h.t.Helper()
	disk := testenv.Disk(h.t, 1)
	h.must(h.undefine("vg"))
	h.lvm("pvcreate", disk)
	_, st, err := h.client.DefinePool(h.ctx(), contract.Submit{}, onDisk(disk), true, true)
	h.fails(h.end(st, err), record.NotFound, "is not there", "it was not made", disk, "carries LVM2_member")
	h.lvm("pvremove", disk)
}

// A job that fills a thin pool, together with who writes to another volume of it, stops where
// that one has room still, says so, and goes on when the pool is made larger. What can be seen
// to need more is refused before.
func TestJobWaitsForRoomInAThinPool(t *testing.T) {
	testenv.VM(t)
	h := newHost(t)
	h.onGroup()
	h.lvm("lvcreate", "--yes", "--type", "thin-pool", "--name", "tp", "--size", "64m", "--chunksize", "64k", "group")
	for name, size := range map[string]string{"thin": "48m", "neighbour": "64m", "huge": "1g"} {
		h.lvm("lvcreate", "--yes", "--type", "thin", "--virtualsize", size, "--name", name, "--thinpool", "tp", "group")
	}
	h.must(h.refresh("vg"))
	h.denied(record.NoSpace, "thin pool", "95 %")(h.wipe("vg/huge", acceptLimits))
	h.is("vg/huge", record.Volume{State: record.VolumeReady})
	content := noise(48 * mib)
	file := h.outside("x")
	h.must(os.WriteFile(file.Name(), content, 0o600))
	st := h.began(h.hand("vg/thin", file, limited(4*mib)))
	h.written(st.Job.ID, 2*mib)
	h.asGuest("/dev/group/neighbour", noise(24*mib))
	j := h.until(st.Job.ID, func(j record.Job) bool { return j.State == record.Paused })
	if len(j.WaitingOn) != 1 || j.WaitingOn[0].For != "space" || !strings.Contains(j.WaitingOn[0].String(), "thin pool") || fmt.Sprint(j.PauseReasons) != "[space]" {
		t.Errorf("the job is %s, waits on %s, and is paused by %q", outcome(j), shown(j.WaitingOn), j.PauseReasons)
	}
	h.runs(0, "goes on when", "job", "show", fmt.Sprint(st.Job.Number))
	h.asGuest("/dev/group/neighbour", noise(26*mib)) // 2 MiB more
	h.lvm("lvextend", "--size", "+64m", "group/tp")
	h.succeed(st, nil)
	h.zeroBehind("/dev/group/thin", content)
	h.must(h.refresh("vg"))
	if p := h.poolEntry("vg"); len(p.ThinPools) != 1 || p.ThinPools[0].Name != "tp" || p.ThinPools[0].Capacity != 128*mib || p.ThinPools[0].Allocation < 64*mib || p.ThinPools[0].MetadataAllocation == 0 {
		t.Errorf("thin pools are %+v", p.ThinPools)
	}
	h.lvm("lvremove", "--yes", "group/tp")
	h.must(h.refresh("vg"))
	st, err := h.client.Start(h.ctx(), contract.Submit{}, "vg", "", &operation.PoolStopRequest{})
	h.succeed(st, err)
	st, err = h.client.Start(h.ctx(), contract.Submit{}, "vg", "", &operation.PoolDeleteRequest{})
	h.succeed(st, err)
}

// At whatever moment a clone is canceled, or its helper or the daemon is killed, the new
// volume is complete or is not there, and nobody else's is touched.
func TestLogicalVolumesThroughDeaths(t *testing.T) {
	testenv.VM(t)
	h := newHost(t)
	h.onGroup()
	h.succeed(h.create("vg/base", 8*mib))
	h.asGuest("/dev/group/base", noise(8*mib))
	want := hashOf(t, "/dev/group/base")
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	deaths := []func(st started){
		h.cancelUnlessEnded,
		func(st started) {
			if j := h.job(st); j.Helper != nil && !j.State.Terminal() {
				_ = syscall.Kill(j.Helper.PID, syscall.SIGKILL) // or it has just ended
			}
		},
		func(started) { h.kill(); h.start() },
	}
	for i := range 9 {
		name := fmt.Sprint("copy", i)
		st := h.began(h.clone("vg/base", "vg/"+name, limited(4*mib)))
		moment := time.Duration(random.Int64N(int64(testenv.Patience(time.Second))))
		<-time.After(moment)
		deaths[i%len(deaths)](st)
		j := h.end(st, nil)
		t.Logf("%d after %v: %s", i%len(deaths), moment, outcome(j))
		left := "base"
		if j.State == record.Succeeded {
			left += " " + name
			if is := hashOf(t, "/dev/group/"+name); is != want {
				t.Errorf("the copy differs")
			}
		}
		has := ""
		h.await("the end of what the job has left", func() bool {
			if is := h.logical(); is != has {
				t.Logf("the group has %s", is)
				has = is
			}
			return has == left
		})
		if j.State == record.Succeeded {
			h.succeed(h.remove("vg/" + name))
		}
	}
	h.goesOnInAVolume(want)
	if is := hashOf(t, "/dev/group/base"); is != want {
		t.Error("the source was changed")
	}
	h.succeed(h.remove("vg/base"))
	st, err := h.client.Start(h.ctx(), contract.Submit{}, "vg", "", &operation.PoolStopRequest{})
	h.succeed(st, err)
	st, err = h.client.Start(h.ctx(), contract.Submit{}, "vg", "", &operation.PoolDeleteRequest{})
	h.succeed(st, err)
}

// goesOnInAVolume has a retry of a clone go on where its helper was killed: what lies in a
// volume in the making is as good as what lies in a file.
func (h *host) goesOnInAVolume(want string) {
	h.t.Helper()
	st := h.began(h.clone("vg/base", "vg/again", limited(mib)))
	h.written(st.Job.ID, 3*mib)
	h.must(syscall.Kill(h.job(st).Helper.PID, syscall.SIGKILL))
	j := h.end(st, nil)
	if j.Resumable == nil || j.Resumable.Done == 0 {
		h.t.Fatalf("nothing can go on: %s, %q", outcome(j), j.Warnings)
	}
	j = h.retried(j)
	if j.RetryFrom == nil || len(j.Warnings) > 0 {
		h.t.Errorf("the retry goes on at %s, and warns %q", shown(j.RetryFrom), j.Warnings)
	}
	if is := hashOf(h.t, "/dev/group/again"); is != want {
		h.t.Error("the copy differs")
	}
	h.succeed(h.remove("vg/again"))
}
