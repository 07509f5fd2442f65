package main_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/testenv"
)

// machineCuts is how often the power of the machine is cut.
const machineCuts = 3

// TestNothingAcknowledgedIsLostWithTheMachine cuts the power of the whole virtual machine
// at work: kernel, page cache, daemon, helpers and clients are gone at one instant. The
// test runs anew at each boot, and knows from a disk that nothing else is on what was
// said before.
func TestNothingAcknowledgedIsLostWithTheMachine(t *testing.T) {
	boot := testenv.Boot(t)
	h := newMachineHost(t, boot)
	if boot > 1 {
		h.remembered()
		if boot > machineCuts || boot%2 == 0 { // else the next cut comes while the daemon recovers from this one
			h.settled()
		}
	}
	if t.Failed() {
		return
	}
	if boot <= machineCuts {
		h.work()
		testenv.PowerCut(t)
	}
	h.allWell()
	t.Logf("%d cuts, %d jobs", machineCuts, len(h.done))
}

// newMachineHost is a host with its state on one of the machine's disks and its pool on
// another, as it was left at the last boot.
func newMachineHost(t *testing.T, boot int) *cutHost {
	t.Helper()
	state := machineDisk(t, 1, "ext4", boot)
	pools := machineDisk(t, 2, "xfs", boot)
	h := &cutHost{seen: map[string]record.Job{}, notes: &ledger{t: t, path: filepath.Join(machineDisk(t, 3, "ext4", boot), "ledger")}}
	h.host = unbegun(t)
	h.pool = filepath.Join(pools, "pool")
	h.rng = rand.New(rand.NewPCG(uint64(boot), 0))
	h.count = 1000 * boot // what the last boot had in mind has other names
	h.must(os.Symlink(state, filepath.Join(h.dir, "state")))
	h.notes.read(h)
	h.client = checkedClient(t, h.sock)
	h.start()
	t.Cleanup(h.check)
	t.Cleanup(h.dropFrozen)
	if boot == 1 {
		h.define("pool", h.pool)
	}
	return h
}

// machineDisk mounts one of the machine's disks, at the same place at each boot, with a
// file system made at the first one. It stays there until the machine ends.
func machineDisk(t *testing.T, number int, kind string, boot int) (dir string) {
	t.Helper()
	disk, dir := testenv.Disk(t, number), fmt.Sprintf("/disks/%d", number)
	if boot == 1 {
		testenv.Formatted(t, disk, kind)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", disk, dir).CombinedOutput(); err != nil {
		t.Fatalf("mount: %v\n%s", err, out)
	}
	return dir
}

// ledger keeps what a test of power cuts knows in a file: each line is there durably
// before the test goes on. A nil ledger keeps nothing.
type ledger struct {
	t    *testing.T
	path string
}

// note is a line of the ledger: work that was asked for, the end of a job as a client saw
// it, or both, of work that was checked.
type note struct {
	Deed, Name string
	Job        *record.Job // of the work; nil: there was no answer
	End        *record.Job
}

func (l *ledger) undertaken(w workload)            { l.write(note{w.deed.name, w.n, w.st.Job, nil}) }
func (l *ledger) ended(j record.Job)               { l.write(note{End: &j}) }
func (l *ledger) checked(w workload, j record.Job) { l.write(note{w.deed.name, w.n, w.st.Job, &j}) }

func (l *ledger) write(n note) {
	if l == nil {
		return
	}
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND|unix.O_SYNC, 0o600)
	if err == nil {
		err = errors.Join(json.NewEncoder(f).Encode(n), f.Close())
	}
	if err != nil {
		l.t.Error(err) // from any goroutine
	}
}

// read gives the host what was known when the power was cut.
func (l *ledger) read(h *cutHost) {
	f, err := os.Open(l.path)
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	h.must(err)
	defer f.Close()
	all := deeds()
	for lines := json.NewDecoder(f); ; {
		var n note
		if err := lines.Decode(&n); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) { // the cut was in a line
			return
		} else if err != nil {
			h.t.Fatal(err)
		}
		w := workload{n: n.Name, st: contract.Started{Job: n.Job}}
		if i := slices.IndexFunc(all, func(d deed) bool { return d.name == n.Deed }); i >= 0 {
			w.deed = all[i]
		}
		switch {
		case n.Name == "":
			h.seen[n.End.ID] = *n.End
		case n.End == nil:
			h.under = append(h.under, w)
		default:
			h.under = slices.DeleteFunc(h.under, func(u workload) bool { return u.n == w.n })
			h.done = append(h.done, ended{w, *n.End})
		}
	}
}
