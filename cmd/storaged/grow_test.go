package main_test

import (
	"os/exec"
	"strings"
	"sync"
	"testing"

	"storaged/internal/record"
	"storaged/internal/testenv"
)

// slowClone starts a clone of "base" that lasts until it is let go.
func (h *host) slowClone(name string) started {
	h.t.Helper()
	st := h.began(h.clone("base", name, noReflink, limited(mib)))
	h.running(st)
	return st
}

// grow resizes "base" while others read it, who are all at it still when it is
// done.
func (h *host) grow(capacity int64, readers ...started) {
	h.t.Helper()
	h.succeed(h.resize("base", capacity))
	h.is("base", record.Volume{Capacity: capacity, State: record.VolumeReady})
	for _, r := range readers {
		if j := h.job(r); j.State.Terminal() {
			h.t.Errorf("the visitor had to wait for the end of job %d: %s", r.Job.Number, outcome(j))
		}
	}
}

// Two clones and a checksum of one volume, which grows twice meanwhile, once
// with one of them paused. All are of what it was when they began.
func TestVolumeGrowsWhileItIsRead(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	want := h.random("base", 32*mib)
	verify := h.began(h.verify("base", limited(mib)))
	h.running(verify)
	one, two := h.slowClone("one"), h.slowClone("two")
	h.grow(40*mib, one, two, verify)
	h.pause(one)
	h.grow(48*mib, one, two, verify)
	h.resume(one)
	h.jobIs(h.unlimited(verify), record.Job{Result: &record.Result{Bytes: 32 * mib, Checksum: "sha256:" + want}})
	for name, st := range map[string]started{"one": one, "two": two} {
		if j := h.unlimited(st); j.Result.Capacity != 32*mib || h.hash(name) != want || !strings.Contains(strings.Join(j.Warnings, " "), "grew meanwhile") {
			t.Errorf("%s: %d bytes, %q", name, j.Result.Capacity, j.Warnings)
		}
	}
}

func TestVolumeGrowsWhileItIsReadAlsoAfterARestart(t *testing.T) {
	t.Parallel()
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
	t.Parallel()
	h := newHost(t)
	h.random("base", 16*mib)
	clone := h.slowClone("copy")
	h.refuses(record.Busy)(h.resize("base", 8*mib, shrink, atOnce))
	h.refuses(record.Busy)(h.resize("base", 20*mib, allocate, atOnce))
	h.unlimited(clone)
}

// While the window is open the image is still locked against whoever writes: a
// guest that is started just then is refused, and the clone is whole.
func TestGuestCannotComeInThroughTheWindow(t *testing.T) {
	t.Parallel()
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
			h.end(h.resize("base", size)) // a guest that only tries may be in its way
		}
	})
	h.unlimited(clone)
	h.hasHash("copy", want)
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
