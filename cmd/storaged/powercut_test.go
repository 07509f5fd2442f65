package main_test

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/testenv/powercut"
)

// The gate runs a seeded part of what scripts/chaos runs.
var (
	powercutSeed = flag.Uint64("powercut.seed", 1, "seed of all choices of the power cuts")
	powercutCuts = flag.Int("powercut.cuts", 9, "power cuts, on all file systems together")
	cutImages    = flag.Bool("powercut.images", false, "have jobs on images lose their power, and no others")
)

const (
	cutsPerDisk = 3 // then a new one: a third cut meets what two recoveries have left
	cutDeeds    = 6 // under way at once
	cutPauseMS  = 300
)

// TestNothingAcknowledgedIsLostByAPowerCut cuts the power of a host at work,
// again and again, with a disk below that loses what was not flushed. The disk
// holds the daemon's state, its pools, or both.
func TestNothingAcknowledgedIsLostByAPowerCut(t *testing.T) {
	t.Parallel()
	kinds := []string{"ext4", "xfs", "btrfs"}
	holds := []string{"both", "state", "pools"}
	for i, left := 0, *powercutCuts; left > 0; i, left = i+1, left-cutsPerDisk {
		kind, on := kinds[i%len(kinds)], holds[(i+i/len(kinds))%len(holds)]
		t.Run(fmt.Sprintf("%d-%s-%s", i, kind, on), func(t *testing.T) {
			t.Parallel()
			h := newCutHost(t, kind, on)
			h.rng = rand.New(rand.NewPCG(*powercutSeed, uint64(i)))
			h.define("pool", h.pool)
			for range min(left, cutsPerDisk) {
				h.work()
				h.cut()
				h.recovered()
				if t.Failed() {
					t.FailNow()
				}
			}
			h.allWell()
			t.Logf("%d cuts, %d jobs (seed %d): of %d sectors not flushed %d were kept",
				min(left, cutsPerDisk), len(h.done), *powercutSeed, h.loss.Pending, h.loss.Kept)
		})
	}
}

// cutHost is a host whose power can be cut.
type cutHost struct {
	*host
	disk  *powercut.Disk // nil: the power of the whole machine is cut
	notes *ledger        // what has to outlive this process; nil: nothing
	rng   *rand.Rand
	count int
	loss  powercut.Loss // of all cuts

	under []workload            // accepted, or asked for when the power went
	done  []ended               // checked once, and to stay as they are
	seen  map[string]record.Job // ended, as a client saw it

	mu      sync.Mutex // of what clients see, while the host works
	off     bool
	clients sync.WaitGroup
}

// ended is work and the job that it was.
type ended struct {
	workload
	job record.Job
}

func newCutHost(t *testing.T, kind, holds string) *cutHost {
	t.Helper()
	disk := powercut.New(t, kind)
	programs, err := deadlyPrograms() // without the race detector: what counts is how many cuts there is time for
	if err != nil {
		t.Fatal(err)
	}
	h := &cutHost{disk: disk, seen: map[string]record.Job{}}
	h.host = unbegun(t)
	h.bin, h.boot = programs, filepath.Join(h.dir, "boot_id")
	if holds != "state" {
		h.pool = filepath.Join(disk.Dir, "pool")
	}
	if holds != "pools" {
		state := filepath.Join(disk.Dir, "state")
		h.must(errors.Join(os.Mkdir(state, 0o700), os.Symlink(state, filepath.Join(h.dir, "state"))))
	}
	t.Cleanup(func() { h.killed()() })
	h.client = checkedClient(t, h.sock)
	h.bootUp()
	t.Cleanup(h.check)
	t.Cleanup(h.dropFrozen)
	return h
}

// bootUp starts the host: what the daemon kept in memory file systems is gone,
// and the boot has another id.
func (h *cutHost) bootUp() {
	h.t.Helper()
	err := errors.Join(os.RemoveAll(filepath.Join(h.dir, "run")), os.RemoveAll(h.sock),
		os.WriteFile(h.boot, []byte(uuid.NewString()+"\n"), 0o644))
	if err != nil {
		h.t.Fatal(err)
	}
	h.start()
}

// work starts deeds of any kind, one of them of an image, clients that watch
// them, and one that makes volumes beside them. Work that is under way since
// before the last cut is enough: the host recovers from that one still.
func (h *cutHost) work() {
	h.t.Helper()
	h.off = false
	anew := len(h.under) == 0
	for i := 0; anew && i < cutDeeds; i++ {
		w := h.undertake(h.rng, h.count, h.deeds(i == 0 || *cutImages))
		h.under = append(h.under, w)
		h.notes.undertaken(w)
		h.count++
	}
	for _, j := range h.jobs() {
		if j.State.Terminal() {
			h.seen[j.ID] = j
		}
	}
	for _, w := range h.under {
		if w.st.Job != nil {
			h.clients.Go(func() { h.watch(w.st) })
		}
	}
	if anew {
		h.clients.Go(h.makeMore)
	}
	pause := time.NewTimer(time.Duration(h.rng.IntN(cutPauseMS)) * time.Millisecond) // the moment is the point
	<-pause.C
}

// deeds are those to choose from, of images only where each cut is to meet one. Those
// that keep files of their own beside the pools are none where all of memory is lost.
func (h *cutHost) deeds(ofImages bool) []deed {
	switch {
	case h.notes != nil && ofImages:
		return imageDeeds()
	case h.notes != nil:
		return deeds()
	case ofImages:
		return append(imageDeeds(), moreImageDeeds()...)
	}
	return allDeeds()
}

// watch remembers the end of a job, if it comes before the power cut. It
// reports whether it came.
func (h *cutHost) watch(st started) bool {
	j, err := h.client.WaitJob(h.ctx(), st.Job.ID, patience)
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil {
		h.interrupted(err)
		return false
	}
	h.seen[j.ID] = j
	h.notes.ended(j)
	return true
}

// makeMore makes volumes until the power is cut.
func (h *cutHost) makeMore() {
	d := deeds()[0]
	for {
		h.mu.Lock()
		w := workload{deed: d, n: fmt.Sprintf("m%d", h.count)}
		h.count++
		h.mu.Unlock()
		var err error
		w.st, err = d.start(h.host, w.n, key("key-"+w.n))
		h.mu.Lock()
		h.under = append(h.under, w) // also without an answer: it may have been accepted
		h.notes.undertaken(w)
		if err != nil {
			h.interrupted(err)
		}
		h.mu.Unlock()
		if err != nil || !h.watch(w.st) {
			return
		}
	}
}

// interrupted judges the error of a client: nothing but the power cut may
// cause one.
func (h *cutHost) interrupted(err error) {
	if !h.off {
		h.t.Errorf("before the power cut: %v", err)
	}
}

// cut ends the host at this instant, and brings its disk back. Some of what was
// not flushed reaches the disk: nothing, a part or all.
func (h *cutHost) cut() {
	h.t.Helper()
	h.mu.Lock()
	h.off = true
	h.mu.Unlock()
	loss := h.disk.Cut(powercut.Cut{Seed: h.rng.Uint64(), Keep: float64(h.rng.IntN(5)) / 4, Flush: h.rng.IntN(3) > 0})
	h.loss.Pending, h.loss.Kept = h.loss.Pending+loss.Pending, h.loss.Kept+loss.Kept
	gone := h.killed()
	h.disk.Restore(gone)
	h.clients.Wait()
	h.bootUp()
}

// killed kills the daemon and every helper. It gives a function that waits
// until they are gone: while the disk is dead they may be in its way.
func (h *cutHost) killed() (gone func()) {
	_ = h.daemon.Process.Kill() // it may have ended
	var fds []int
	for _, pid := range h.processes() {
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue // it has ended
		}
		_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) // it may have ended
		fds = append(fds, fd)
	}
	return func() {
		_ = h.daemon.Wait() // says that it was killed
		for _, fd := range fds {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(patience/time.Millisecond))
			for err == unix.EINTR { // by a signal of the runtime's
				n, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(patience/time.Millisecond))
			}
			if n != 1 {
				h.t.Errorf("a killed helper does not end: %v", err)
			}
			unix.Close(fd) // of a process that is gone
		}
	}
}

// recovered holds what the daemon says after the cut against what it said
// before, and, except now and then, what became of what was interrupted.
func (h *cutHost) recovered() {
	h.t.Helper()
	h.remembered()
	if h.rng.IntN(4) > 0 { // else the next cut comes while the daemon recovers from this one
		h.settled()
	}
}

// remembered checks that every job that was acknowledged is there, once and as
// it was.
func (h *cutHost) remembered() {
	h.t.Helper()
	now, numbers := map[string]record.Job{}, map[int64]bool{}
	for _, j := range h.jobs() {
		if numbers[j.Number] {
			h.t.Errorf("two jobs have the number %d", j.Number)
		}
		now[j.ID], numbers[j.Number] = j, true
	}
	for _, w := range h.under {
		if w.st.Job == nil {
			continue // nobody was told of it
		}
		if j := now[w.st.Job.ID]; j.Number != w.st.Job.Number || j.Kind != w.st.Job.Kind {
			h.t.Errorf("job %d (%s) was acknowledged and is %d (%s)", w.st.Job.Number, w.st.Job.Kind, j.Number, j.Kind)
		}
		h.once(w)
	}
	for id, was := range h.seen {
		if is := now[id]; !reflect.DeepEqual(is, was) {
			h.t.Errorf("job %d has changed since its end: %s", was.Number, changes(was, is))
		}
	}
}

// once checks that work has one job.
func (h *cutHost) once(w workload) {
	h.t.Helper()
	same := must(h.client.Jobs(h.ctx(), contract.JobFilter{IdempotencyKey: "key-" + w.n}, contract.Page{}))(h.t)
	if len(same.Items) != 1 || same.Items[0].ID != w.st.Job.ID {
		h.t.Errorf("job %d is one of %d of its key", w.st.Job.Number, len(same.Items))
	}
}

// settled waits until nothing is under way and checks all that ever was.
func (h *cutHost) settled() {
	h.t.Helper()
	for _, j := range h.jobs() {
		h.end(of(j), nil)
	}
	for _, w := range h.under {
		if w.st.Job == nil { // the client that had no answer asks again
			w.st = must(w.deed.start(h.host, w.n, key("key-"+w.n)))(h.t)
		}
		j := h.end(w.st, nil)
		h.once(w)
		h.done = append(h.done, ended{w, j})
		h.notes.checked(w, j)
	}
	h.under = nil
	for _, e := range h.done {
		e.deed.check(h.host, e.n, e.job)
		h.tidy(e.job)
	}
	left, _ := filepath.Glob(h.pool + "*/.*.storaged")
	left = slices.DeleteFunc(left, func(path string) bool { return strings.HasSuffix(path, "@s.storaged") }) // snapshots
	if len(left) > 0 {
		h.t.Errorf("left behind: %v", left)
	}
}

// allWell is the end of a disk's tests.
func (h *cutHost) allWell() {
	h.t.Helper()
	if len(h.under) > 0 {
		h.settled()
	}
}

// jobs are all there are.
func (h *cutHost) jobs() (all []record.Job) {
	h.t.Helper()
	for page := (contract.Page{}); ; {
		list := must(h.client.Jobs(h.ctx(), contract.JobFilter{}, page))(h.t)
		all = append(all, list.Items...)
		if list.Next == nil {
			return slices.Clip(all)
		}
		page.Cursor = *list.Next
	}
}

// must gives a function that ends the test if there is an error.
func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
