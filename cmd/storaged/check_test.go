package main_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"storaged/internal/image"
	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/testenv"
)

// count sets how often a cluster of a qcow2 is said to be used: that many behind the
// last one.
func (h *host) count(volume string, behind int64, uses uint16) {
	h.t.Helper()
	const cluster = 64 << 10
	f := must(os.OpenFile(h.path(volume), os.O_RDWR, 0))(h.t)
	defer f.Close()
	table := func(off int64) int64 {
		var b [8]byte
		if _, err := f.ReadAt(b[:], off); err != nil {
			h.t.Fatal(err)
		}
		return int64(binary.BigEndian.Uint64(b[:]))
	}
	block := table(table(48))
	size := must(f.Stat())(h.t).Size()
	last := (size+cluster-1)/cluster - 1 + behind
	h.must(f.Truncate(max(size, (last+1)*cluster)))
	if _, err := f.WriteAt(binary.BigEndian.AppendUint16(nil, uses), block+2*last); err != nil {
		h.t.Fatal(err)
	}
}

// checkTables checks the tables of a volume, and repairs that.
func (h *host) checkTables(volume, repair string) record.Job {
	h.t.Helper()
	return h.end(h.ask(at(volume), new(operation.CheckRequest), field("repair", repair)))
}

func TestTablesOfAnImageAreCheckedAndRepaired(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	content := noise(mib)
	h.images(content, "qcow2", "vpc")
	h.count("qcow2", 1, 1)
	j := h.checkTables("qcow2", "")
	if c := j.Result.Check; j.State != record.Succeeded || c == nil || c.Leaks != 1 || c.Corruptions != 0 || c.RepairedLeaks != 0 || j.Objects[0].Mode != record.ModeRead {
		t.Errorf("%s: %s", j.State, shown(j.Result))
	}
	holder := testenv.QEMU(t, "-r", "-f", "qcow2", h.path("qcow2"))
	if j := h.checkTables("qcow2", record.RepairLeaks); j.Code() != record.Busy || len(j.Error.Holders) != 1 || j.Error.Holders[0].Holder.External != holder {
		t.Errorf("while it is in use: %s", shown(j.Error))
	}
	h.must(os.WriteFile(h.path("other"), must(os.ReadFile(h.path("qcow2")))(t), 0o600))
	h.must(h.refresh("pool"))
	j = h.checkTables("other", record.RepairLeaks)
	if c := j.Result.Check; j.State != record.Succeeded || c == nil || c.Leaks != 0 || c.RepairedLeaks != 1 || j.Objects[0].Mode != record.ModeWrite {
		t.Errorf("%s: %s", j.State, shown(j.Result))
	}
	h.sees("other", "qcow2", content)
	h.count("other", -1, 0)
	j = h.checkTables("other", "")
	if c := j.Result.Check; j.Code() != record.Mismatch || c == nil || c.Corruptions == 0 {
		t.Errorf("%s: %s, %s", j.State, shown(j.Error), shown(j.Result))
	}
	if _, errs, code := h.ctl("vol", "verify", "pool/other", "--check"); code != record.ExitMismatch || !strings.Contains(errs, "is corrupt: 2 errors in its tables\n") {
		t.Errorf("exit code %d: %s", code, errs)
	}
	if _, errs, code := h.ctl("vol", "verify", "pool/other", "--repair", "all"); code != record.ExitUsage || !strings.Contains(errs, "may lose") {
		t.Errorf("without a word of the administrator: exit code %d: %s", code, errs)
	}
	if out, errs, code := h.ctl("vol", "verify", "pool/other", "--repair", "all", "--yes"); code != 0 {
		t.Errorf("exit code %d: %s%s", code, out, errs)
	}
	h.sees("other", "qcow2", content)
	if _, _, code := h.ctl("vol", "verify", "pool/vpc", "--check"); code != record.ExitUnsupported {
		t.Errorf("a format without a check: exit code %d", code)
	}
	if _, _, code := h.ctl("vol", "verify", "pool/other", "--check", "--checksum", "sha256"); code != record.ExitUsage {
		t.Errorf("both at once: exit code %d", code)
	}
}

// serving gives the processes that a job's helper has started and that live.
func (h *host) serving(j record.Job) (pids []string) {
	h.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", j.Helper.PID))
	if err != nil {
		return nil
	}
	all := strings.Fields(string(b))
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", j.Helper.PID))
	for _, task := range tasks {
		b, _ := os.ReadFile(task) // a thread may have ended
		all = append(all, strings.Fields(string(b))...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func TestAnImageIsServedNoLongerThanItsHelperLives(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	content := noise(mib)
	sum := sumOf(content)
	h.images(content, "qcow2")
	st, err := h.verify("qcow2", limited(4096))
	h.must(err)
	var child string
	h.await("a process that serves the image", func() bool {
		if j := h.job(st); j.Helper != nil {
			for _, pid := range h.serving(j) {
				comm, _ := os.ReadFile("/proc/" + pid + "/comm")
				if strings.HasPrefix(string(comm), "qemu-storage-d") {
					child = pid
				}
			}
		}
		return child != ""
	})
	h.must(syscall.Kill(h.job(st).Helper.PID, syscall.SIGKILL))
	h.await("the end of process "+child, func() bool {
		_, err := os.Stat("/proc/" + child)
		return err != nil
	})
	// Another helper goes on.
	must(h.client.PatchJob(h.ctx(), st.Job.ID, contract.JobPatch{Limit: []byte("null")}))(t)
	if j := h.end(st, nil); j.State != record.Succeeded || j.Result.Checksum != sum {
		t.Errorf("%s", shown(j))
	}
	h.must(image.LockExclusive(must(os.OpenFile(h.path("qcow2"), os.O_RDWR, 0))(t)))
}
