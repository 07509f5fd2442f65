package main_test

import (
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"storaged/internal/record"
	"storaged/internal/service"
	"storaged/internal/testenv"
)

// slowClone starts a clone of "base" that lasts until it is let go.
func (h *host) slowClone(name string) service.Started {
	h.t.Helper()
	st, err := h.client.Start(h.ctx(), service.Submit{}, record.VolumeClone, on("pool", "base"), service.VolumeClone{Name: name, Reflink: "never", JobOptions: limited(mib)})
	if err != nil {
		h.t.Fatal(err)
	}
	h.running(st)
	return st
}

// unlimited lets a job go as fast as it can, to its end.
func (h *host) unlimited(st service.Started) record.Job {
	h.t.Helper()
	if _, err := h.client.PatchJob(h.ctx(), st.Job.ID, service.JobPatch{Limit: []byte("null")}); err != nil {
		h.t.Fatal(err)
	}
	return h.succeed(st, nil)
}

// grow resizes "base" while others read it, who are all at it still when it is
// done.
func (h *host) grow(capacity int64, readers ...service.Started) {
	h.t.Helper()
	st, err := h.resize("base", service.VolumeResize{Capacity: capacity})
	h.succeed(st, err)
	if v, err := h.client.Volume(h.ctx(), "pool", "base"); err != nil || v.Capacity != capacity || v.State != record.VolumeReady {
		h.t.Errorf("the volume is %+v, %v", v, err)
	}
	for _, r := range readers {
		if j, err := h.client.Job(h.ctx(), r.Job.ID); err != nil || j.State.Terminal() {
			h.t.Errorf("the visitor had to wait for the end of job %d: %s, %+v, %v", r.Job.Number, j.State, j.Error, err)
		}
	}
}

// Two clones and a checksum of one volume, which grows twice meanwhile, once
// with one of them paused. All are of what it was when they began.
func TestVolumeGrowsWhileItIsRead(t *testing.T) {
	h := newHost(t)
	want := h.random("base", 32*mib)
	verify, err := h.client.Start(h.ctx(), service.Submit{}, record.VolumeVerify, on("pool", "base"), service.VolumeVerify{JobOptions: limited(mib)})
	if err != nil {
		t.Fatal(err)
	}
	h.running(verify)
	one, two := h.slowClone("one"), h.slowClone("two")
	h.grow(40*mib, one, two, verify)
	if j, err := h.client.PauseJob(h.ctx(), one.Job.ID); err != nil || j.State != record.Paused {
		t.Fatalf("%s, %v", j.State, err)
	}
	h.grow(48*mib, one, two, verify)
	if _, err := h.client.ResumeJob(h.ctx(), one.Job.ID); err != nil {
		t.Fatal(err)
	}
	if j := h.unlimited(verify); j.Result.Checksum != "sha256:"+want || j.Result.Bytes != 32*mib {
		t.Errorf("checksum of %d bytes is %s, want %s", j.Result.Bytes, j.Result.Checksum, want)
	}
	for name, st := range map[string]service.Started{"one": one, "two": two} {
		if j := h.unlimited(st); j.Result.Capacity != 32*mib || h.hash(name) != want || !strings.Contains(strings.Join(j.Warnings, " "), "grew meanwhile") {
			t.Errorf("%s: %d bytes, %q", name, j.Result.Capacity, j.Warnings)
		}
	}
}

func TestVolumeGrowsWhileItIsReadAlsoAfterARestart(t *testing.T) {
	h := newHost(t)
	want := h.random("base", 16*mib)
	clone := h.slowClone("copy")
	h.kill()
	h.start()
	h.grow(17*mib, clone)
	if h.unlimited(clone); h.hash("copy") != want {
		t.Error("the clone is not what its source was")
	}
}

// A shrink and what allocates wait for the end, as does everything else that
// writes.
func TestOnlyAShortGrowthVisits(t *testing.T) {
	h := newHost(t)
	h.random("base", 16*mib)
	clone := h.slowClone("copy")
	now := time.Duration(0)
	for _, r := range []service.VolumeResize{{Capacity: 8 * mib, Shrink: true}, {Capacity: 20 * mib, Allocate: true}} {
		_, err := h.client.Start(h.ctx(), service.Submit{LockWait: &now}, record.VolumeResize, on("pool", "base"), r)
		if record.CodeOf(err) != record.Busy {
			t.Errorf("%+v: %v", r, err)
		}
	}
	h.unlimited(clone)
}

// While the window is open the image is still locked against whoever writes: a
// guest that is started just then is refused, and the clone is whole.
func TestGuestCannotComeInThroughTheWindow(t *testing.T) {
	testenv.Tool(t, "qemu-io")
	h := newHost(t)
	want := h.random("base", 16*mib)
	clone := h.slowClone("copy")
	h.besides(func() {
		guest := exec.Command("qemu-io", "-f", "raw", "-c", "write -P 7 0 64k", h.path("base"))
		if out, err := guest.CombinedOutput(); err == nil {
			t.Errorf("a guest wrote: %s", out)
		}
	}, func() {
		for size := int64(17 * mib); size < 20*mib; size += mib {
			st, err := h.resize("base", service.VolumeResize{Capacity: size})
			h.end(st, err) // a guest that only tries may be in its way
		}
	})
	h.unlimited(clone)
	if h.hash("copy") != want {
		t.Error("the clone is not what its source was")
	}
}

// besides does one thing again and again as long as another takes.
func (h *host) besides(again, once func()) {
	over := make(chan struct{})
	var loop sync.WaitGroup
	loop.Go(func() {
		for {
			again()
			select {
			case <-over:
				return
			default:
			}
		}
	})
	defer loop.Wait()
	defer close(over)
	once()
}
