package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"storaged/internal/record"
	"storaged/internal/service/contract"
)

// broken gives a job that was canceled while it was at work.
func (h *host) broken(st started, err error) record.Job {
	h.t.Helper()
	h.must(err)
	h.running(st)
	h.cancel(st)
	j := h.end(st, nil)
	if j.State != record.Canceled {
		h.t.Fatalf("the job is %s", j.State)
	}
	return j
}

func (h *host) brokenWipe(name string) record.Job {
	h.t.Helper()
	return h.broken(h.wipe(name, acceptLimits, limited(mib)))
}

// refusesRetry asks for a retry in every way; none may do it, nor say that it
// would.
func (h *host) refusesRetry(j record.Job, says string, yes ...string) {
	h.t.Helper()
	for _, how := range [][]option{{dryRun}, nil} {
		h.refuses(record.Changed, says)(h.retry(j, how...))
	}
	h.runs(record.ExitBusy, says, append([]string{"job", "retry", fmt.Sprint(j.Number)}, yes...)...)
}

// A job is for the volume that had the name, not for the next one.
func TestRetryIsForTheSameVolume(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	const size = 16 * mib
	jobs := map[string]func() record.Job{
		"wipe": func() record.Job { return h.brokenWipe("v") },
		"delete": func() record.Job {
			return h.broken(h.remove("v", wipeFirst("zero"), limited(mib)))
		},
		"clone": func() record.Job {
			return h.broken(h.clone("v", "copy", noReflink, limited(mib)))
		},
	}
	others := map[string]func(){
		"made by a job": func() {
			h.succeed(h.remove("v"))
			h.random("v", size)
		},
		"put there by others": func() {
			h.must(os.WriteFile(h.path("theirs"), content("v", size), 0o600))
			h.must(os.Rename(h.path("theirs"), h.path("v")))
		},
	}
	for kind, begin := range jobs {
		for how, replace := range others {
			t.Logf("%s of a volume in whose place is one %s", kind, how)
			h.random("v", size)
			j := begin()
			replace()
			want := h.hash("v")
			h.refusesRetry(j, "is not one that the job was for", "--yes")
			h.hasHash("v", want)
			h.succeed(h.remove("v"))
			h.refuses(record.NotFound)(h.retry(j))
		}
	}
}

// Work that a retry is at, or has done, is not done once more. After one that has ended
// without success it is.
func TestWhatARetryHasDoneIsNotRetriedAgain(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.random("v", 16*mib)
	first := h.brokenWipe("v")
	second := h.broken(h.retry(first))
	third := h.began(h.retry(first))
	h.running(third)
	twice := fmt.Sprintf("job %d is retried already, by job %d", first.Number, third.Job.Number)
	h.refuses(record.WrongState, twice)(h.retry(first, dryRun))
	h.refuses(record.WrongState, twice)(h.retry(first))
	h.cancel(third)
	h.end(third, nil)
	fourth := h.unlimited(h.began(h.retry(second)))
	for _, j := range []record.Job{first, second} { // it has done what the first was to do as well
		done := fmt.Sprintf("job %d was retried by job %d, which has succeeded", j.Number, fourth.Number)
		h.refuses(record.WrongState, done)(h.retry(j, dryRun))
		h.refuses(record.WrongState, done)(h.retry(j))
		h.runs(record.ExitBusy, done, "job", "retry", fmt.Sprint(j.Number), "--yes")
	}
}

// A retry that is asked for again under its key gives the job of the first time, also
// where that begins meanwhile.
func TestRepeatedRetryGivesTheSameJob(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.random("v", 16*mib)
	first := h.brokenWipe("v")
	retries := make(chan string)
	const askers = 8
	for range askers {
		go func() {
			st, err := h.client.RetryJob(h.ctx(), contract.Submit{Key: "K"}, first.ID, contract.JobRetry{})
			if err != nil {
				retries <- err.Error()
				return
			}
			retries <- fmt.Sprint("job ", st.Job.Number)
		}()
	}
	want := fmt.Sprint("job ", first.Number+1)
	for range askers {
		if got := <-retries; got != want {
			t.Errorf("it gave %s, not %s", got, want)
		}
	}
	h.unlimited(of(must(h.client.Job(h.ctx(), fmt.Sprint(first.Number+1)))(t)))
}

// The command line asks nobody about a retry that it repeats, and refuses none.
func TestRetryIsRepeatedOnTheCommandLine(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.random("v", 16*mib)
	first := h.brokenWipe("v")
	retry := []string{"job", "retry", fmt.Sprint(first.Number), "--detach", "--idempotency-key"}
	h.runs(record.ExitUsage, "needs --yes", append(retry, "K")...)
	h.runs(0, "", append(retry, "K", "--yes")...)
	second := must(h.client.Job(h.ctx(), fmt.Sprint(h.last())))(t)
	for _, ended := range []bool{false, true} {
		if ended {
			h.unlimited(of(second))
		}
		h.runs(0, fmt.Sprint(second.Number), append(retry, "K")...)
		h.runs(record.ExitBusy, fmt.Sprintf("by job %d", second.Number), append(retry, "other", "--yes")...)
	}
	if n := h.last(); n != second.Number || second.Number == first.Number {
		t.Errorf("the last job is %d, the retry of %d is %d", n, first.Number, second.Number)
	}
}

// A shrink, a wipe and a delete are asked about again.
func TestRetryAsksAsTheVerbDoes(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	want := h.random("v", 16*mib)
	j := h.brokenWipe("v")
	h.runs(record.ExitUsage, "job retry overwrites the content of pool/v and needs --yes", "job", "retry", fmt.Sprint(j.Number))
	if h.last() != j.Number {
		t.Error("a job was made without a yes")
	}
	if out := h.runs(0, "", "job", "retry", fmt.Sprint(j.Number), "--dry-run"); !strings.Contains(out, "wipe") {
		t.Errorf("the plan is %q", out)
	}
	h.runs(record.ExitUsage, "needs --yes", "job", "retry", fmt.Sprint(j.Number), "--yes=pool")
	h.runs(0, "", "job", "retry", fmt.Sprint(j.Number), "--yes", "--detach")
	retry := must(h.client.Job(h.ctx(), fmt.Sprint(h.last())))(t)
	h.unlimited(of(retry))
	if h.hash("v") == want {
		t.Error("nothing was wiped")
	}
	h.random("copied", 16*mib)
	clone := h.broken(h.clone("copied", "copy", noReflink, limited(4*mib)))
	h.runs(0, "", "job", "retry", fmt.Sprint(clone.Number)) // destroys nothing
}

// Of a snapshot it is that which is asked about, which is the job's object.
func TestRetryOfASnapshotsDeleteAsks(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.chained(h.unshared())
	j := h.broken(h.dropSnapshot("other/disk@s0", limited(mib)))
	h.runs(record.ExitUsage, "job retry deletes the snapshot other/disk@s0 and needs --yes", "job", "retry", fmt.Sprint(j.Number))
	if h.last() != j.Number {
		t.Error("a job was made without a yes")
	}
	h.runs(0, "", "job", "retry", fmt.Sprint(j.Number), "--yes", "--limit", "none")
	if v := h.entry("other/disk"); len(v.Snapshots) != 2 {
		t.Errorf("it is %s", shown(v))
	}
}

// failedDelete gives a delete of the pool with its volumes that has failed at
// what is no volume.
func (h *host) failedDelete() record.Job {
	h.t.Helper()
	h.must(unix.Mkfifo(h.path("fifo"), 0o600))
	j := h.end(h.deletePool("pool", withVolumes))
	if j.State != record.Failed {
		h.t.Fatalf("the job is %s", j.State)
	}
	h.must(os.Remove(h.path("fifo")))
	return j
}

// Volumes that came into a pool since its delete failed are not deleted by a
// retry of that.
func TestRetryOfAPoolsDeleteSparesWhatCameSince(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.sparse("old", mib)
	for how, come := range map[string]func(name string){
		"made by a job": func(name string) {
			h.succeed(h.startPool("pool"))
			h.sparse(name, mib)
			h.succeed(h.stopPool("pool"))
		},
		"put there by others": func(name string) { h.write(name, mib) },
		"in place of another": func(string) {
			h.write("theirs", mib)
			h.must(os.Rename(h.path("theirs"), h.path("old")))
		},
	} {
		h.succeed(h.stopPool("pool"))
		j := h.failedDelete()
		come("new")
		h.refusesRetry(j, "is not one that the job was for", "--yes=pool")
		if _, err := os.Stat(h.path("old")); err != nil {
			t.Errorf("%s: %v", how, err)
		}
		h.succeed(h.startPool("pool"))
		if how != "in place of another" {
			h.succeed(h.remove("new"))
		}
	}
	h.succeed(h.stopPool("pool"))
	j := h.failedDelete()
	h.runs(record.ExitUsage, "needs --yes=pool", "job", "retry", fmt.Sprint(j.Number))
	h.runs(record.ExitUsage, "needs --yes=pool", "job", "retry", fmt.Sprint(j.Number), "--yes")
	h.runs(record.ExitUsage, "--yes=old does not name it", "job", "retry", fmt.Sprint(j.Number), "--yes=old")
	if h.last() != j.Number {
		t.Error("a job was made without a yes")
	}
	h.runs(0, "", "job", "retry", fmt.Sprint(j.Number), "--yes=pool")
	h.absentFile(h.pool)
}

// A pool that was defined anew is another, at the same place and of the same
// name.
func TestRetryIsForTheSamePool(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.succeed(h.stopPool("pool"))
	j := h.failedDelete()
	h.must(h.undefine("pool"))
	h.define("pool", h.pool)
	h.sparse("v", mib)
	h.succeed(h.stopPool("pool"))
	h.refusesRetry(j, "was defined anew since", "--yes=pool")
	if _, err := os.Stat(h.path("v")); err != nil {
		t.Error(err)
	}
}

// A volume that came since was not asked about.
func TestRetryOfAnEvacuationIsForTheSameVolumes(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.otherPool("ext4")
	h.random("a", 16*mib)
	evacuate := func() record.Job {
		return h.broken(h.evacuatePool("pool", "other", limited(mib)))
	}
	j := evacuate()
	h.write("b", mib)
	h.refusesRetry(j, "is not one that the job was for", "--yes")
	h.must(h.refresh("pool"))
	j = evacuate()
	h.runs(record.ExitUsage, "moves volumes of pool pool to other and needs --yes", "job", "retry", fmt.Sprint(j.Number))
	st := h.began(h.retry(j))
	h.unlimited(st)
}

// What a client gave it gives again: how, is said as it is for each kind of job.
func TestRetryOfWhatAClientGaveSaysHowToGiveItAgain(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	file := filepath.Join(h.dir, "content")
	content := noise(4 * mib)
	h.must(os.WriteFile(file, content, 0o600))
	h.sparse("v", 4*mib)
	wrong := "sha256:" + strings.Repeat("0", 64)
	retry := func(says string) {
		t.Helper()
		h.runs(record.ExitUnsupported, "hint: "+says, "job", "retry", fmt.Sprint(h.last()))
	}
	h.runs(record.ExitMismatch, "", "vol", "upload", "pool/v", file, "--checksum", wrong, "--yes")
	retry("start it anew: storagedctl vol upload pool/v FILE; nothing is left of it to go on with\n")
	h.runs(record.ExitMismatch, "", "vol", "create", "pool/made", "--from", file, "--checksum", wrong)
	retry("start it anew: storagedctl vol create pool/made --from FILE\n")
	h.breakOff("v", upload{}, content[:2*mib])
	retry("it goes on where it stopped: storagedctl vol upload pool/v FILE --resume\n")
}

// Who deletes again by the same key hears of the job that did so, with or without being
// asked, and by whatever name.
func TestRepeatedDeleteGivesTheSameJob(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.sparse("v", mib)
	path := h.path("v")
	h.runs(0, "succeeded", "vol", "delete", "pool/v", "--yes", "--idempotency-key", "k")
	job := h.last()
	for _, args := range [][]string{{"pool/v"}, {"pool/v", "--yes"}, {path}, {path, "--yes"}} {
		h.runs(0, fmt.Sprintf("job %d", job), append([]string{"vol", "delete", "--idempotency-key", "k"}, args...)...)
	}
	if now := h.last(); now != job {
		t.Errorf("there is a second job, %d", now)
	}
	h.runs(record.ExitNotFound, "", "vol", "delete", "pool/v", "--idempotency-key", "other")
	h.runs(record.ExitNotFound, "", "vol", "delete", path, "--idempotency-key", "other", "--yes")
}
