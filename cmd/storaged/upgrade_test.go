package main_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"storaged/internal/record"
	"storaged/internal/rest/client"
	"storaged/internal/service/contract"
	"storaged/internal/testenv"
)

// oldVersion is the commit of the version whose jobs this one takes over.
const oldVersion = "7f6457d"

// oldPrograms builds the daemon and the helper of the old version.
func oldPrograms(t *testing.T) (bin string) {
	t.Helper()
	err := exec.Command("git", "cat-file", "-e", oldVersion+"^{commit}").Run()
	testenv.Need(t, "the commit "+oldVersion+" in the repository", err == nil)
	dir := t.TempDir()
	const script = `git -C "$(git rev-parse --show-toplevel)" archive "$1" | tar -x -C "$2" && cd "$2" && go build -o bin/ ./cmd/storaged ./cmd/storage-helper`
	if out, err := exec.Command("bash", "-o", "pipefail", "-c", script, "bash", oldVersion, dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return filepath.Join(dir, "bin")
}

// What an inherited job works on, and how fast while the old version is there:
// it runs until its limit is lifted.
const (
	oldBytes = 16 * mib
	oldRate  = mib / 4
)

// an oldJob was begun by the old version.
type oldJob struct {
	name  string
	start func(u *upgrade) (started, error)
	check func(u *upgrade, j record.Job)
}

// upgrade is a host whose programs become newer.
type upgrade struct {
	*host
	other string // directory of the pool "other", which allocates by writing
}

func newUpgrade(t *testing.T, old string) *upgrade {
	t.Helper()
	u := &upgrade{host: unbegun(t)}
	u.bin = old
	u.client = client.Dial(u.sock) // the contract is that of the new version
	t.Cleanup(func() { u.client.Close() })
	u.other = testenv.Mount(t, "ext2")
	u.start()
	t.Cleanup(u.check)
	u.define("pool", u.pool)
	u.define("other", u.other)
	many := 64
	u.patchLimits(contract.LimitsPatch{Running: &many, RunningPool: &many, RunningDevice: &many})
	return u
}

// upgraded starts the new version on what the old one left.
func (u *upgrade) upgraded() {
	u.t.Helper()
	u.bin, u.client = bin, checkedClient(u.t, u.sock)
	u.start()
}

// holding makes a volume of the pool "pool" with content.
func (u *upgrade) holding(name string) {
	u.t.Helper()
	u.sparse(name, oldBytes)
	writeDurably(u.t, u.path(name), content(name, oldBytes))
}

// has fails unless a volume is ready and has the content.
func (u *upgrade) has(pool, path string, want []byte) {
	u.t.Helper()
	name := filepath.Base(path)
	v, err := u.client.Volume(u.ctx(), pool, name)
	got, ferr := os.ReadFile(path)
	if err := errors.Join(err, ferr); err != nil || !ready(&v) || !bytes.Equal(got, want) {
		u.t.Errorf("%s in %s is %s with %d bytes (%v), not those wanted", name, pool, shown(v), len(got), err)
	}
}

func oldLimit() option { return limited(oldRate) }

// runningJobs has one of each kind that takes long.
func runningJobs() []oldJob {
	return []oldJob{
		{"create", (*upgrade).oldCreate, func(u *upgrade, _ record.Job) {
			u.has("other", filepath.Join(u.other, "created"), make([]byte, oldBytes))
		}},
		{"clone", (*upgrade).oldClone, func(u *upgrade, _ record.Job) { u.has("pool", u.path("cloned"), content("source", oldBytes)) }},
		{"wipe", (*upgrade).oldWipe, func(u *upgrade, _ record.Job) { u.has("pool", u.path("wiped"), make([]byte, oldBytes)) }},
		{"delete with a wipe", (*upgrade).oldDelete, func(u *upgrade, _ record.Job) { u.absentFile(u.path("deleted")) }},
		{"resize with allocation", (*upgrade).oldResize, func(u *upgrade, _ record.Job) {
			u.has("other", filepath.Join(u.other, "grown"), make([]byte, oldBytes))
		}},
		{"upload of a file", (*upgrade).oldUpload, func(u *upgrade, _ record.Job) { u.has("pool", u.path("uploaded"), content("upfile", oldBytes)) }},
		{"create from a file", (*upgrade).oldMade, func(u *upgrade, _ record.Job) { u.has("pool", u.path("made"), content("upmade", oldBytes)) }},
		{"download", (*upgrade).oldDownload, (*upgrade).hasDownload},
		{"verify", (*upgrade).oldVerify, (*upgrade).hasSum},
		{"move to another file system", (*upgrade).oldMove, func(u *upgrade, _ record.Job) {
			u.has("other", filepath.Join(u.other, "moved"), content("moved", oldBytes))
			u.absentFile(u.path("moved"))
		}},
		{"evacuate", (*upgrade).oldEvacuate, (*upgrade).hasEvacuated},
		{"verify of a pool", (*upgrade).oldVerifyPool, func(u *upgrade, j record.Job) {
			if got := fared(j); len(got) != 1 {
				u.t.Errorf("of the pool it says %v", got)
			}
		}},
	}
}

func (u *upgrade) oldCreate() (started, error) {
	return u.create("other/created", oldBytes, allocation(oldBytes), oldLimit())
}

func (u *upgrade) oldClone() (started, error) {
	u.holding("source")
	return u.clone("source", "cloned", noReflink, oldLimit())
}

func (u *upgrade) oldWipe() (started, error) {
	u.holding("wiped")
	return u.wipe("wiped", acceptLimits, oldLimit())
}

func (u *upgrade) oldDelete() (started, error) {
	u.holding("deleted")
	return u.remove("deleted", wipeFirst("zero"), oldLimit())
}

func (u *upgrade) oldResize() (started, error) {
	u.succeed(u.create("other/grown", mib))
	return u.resize("other/grown", oldBytes, allocate, oldLimit())
}

// file makes a file of a client with the content of that name.
func (u *upgrade) file(name string) *os.File {
	u.t.Helper()
	path := filepath.Join(u.dir, name)
	writeDurably(u.t, path, content(name, oldBytes))
	f := must(os.Open(path))(u.t)
	u.t.Cleanup(func() { f.Close() })
	return f
}

func (u *upgrade) oldUpload() (started, error) {
	u.sparse("uploaded", oldBytes)
	return u.hand("uploaded", u.file("upfile"), oldLimit())
}

func (u *upgrade) oldMade() (started, error) {
	return u.hand("made", u.file("upmade"), creating(named("made")), oldLimit())
}

func (u *upgrade) oldDownload() (started, error) {
	u.holding("read")
	f := must(os.Create(filepath.Join(u.dir, "down")))(u.t)
	u.t.Cleanup(func() { f.Close() })
	return u.handDown("read", f, oldLimit())
}

func (u *upgrade) hasDownload(record.Job) {
	if got, err := os.ReadFile(filepath.Join(u.dir, "down")); err != nil || !bytes.Equal(got, content("read", oldBytes)) {
		u.t.Errorf("the download has other content (%v)", err)
	}
}

func (u *upgrade) oldVerify() (started, error) {
	u.holding("verified")
	return u.verify("verified", oldLimit())
}

func (u *upgrade) hasSum(j record.Job) {
	if want := fmt.Sprintf("sha256:%x", sha256.Sum256(content("verified", oldBytes))); j.Result == nil || j.Result.Checksum != want {
		u.t.Errorf("the result is %s, not %s", shown(j.Result), want)
	}
}

func (u *upgrade) oldMove() (started, error) {
	u.holding("moved")
	return u.move("moved", "other/", oldLimit())
}

// found defines a pool with volumes that are found in it.
func (u *upgrade) found(pool string, names ...string) {
	u.t.Helper()
	u.must(os.Mkdir(u.poolDir(pool), 0o755))
	for _, n := range names {
		writeDurably(u.t, filepath.Join(u.poolDir(pool), n), content(n, oldBytes))
	}
	u.define(pool, u.poolDir(pool))
}

func (u *upgrade) oldEvacuate() (started, error) {
	u.found("from", "e0", "e1")
	return u.evacuatePool("from", "other", oldLimit())
}

func (u *upgrade) hasEvacuated(record.Job) {
	for _, name := range []string{"e0", "e1"} {
		u.has("other", filepath.Join(u.other, name), content(name, oldBytes))
	}
}

func (u *upgrade) oldVerifyPool() (started, error) {
	u.found("checked", "c0")
	return u.verifyPool("checked", oldLimit())
}

// queuedJobs wait for those that run, or for each other.
func queuedJobs() []oldJob {
	unseen := func(*upgrade, record.Job) {}
	return []oldJob{
		{"wipe", func(u *upgrade) (started, error) {
			return u.wipe("source", acceptLimits, verified)
		}, func(u *upgrade, _ record.Job) { u.has("pool", u.path("source"), make([]byte, oldBytes)) }},
		{"verify", func(u *upgrade) (started, error) {
			return u.verify("source")
		}, unseen},
		{"clone", func(u *upgrade) (started, error) {
			return u.clone("source", "late", noReflink)
		}, func(u *upgrade, _ record.Job) { u.has("pool", u.path("late"), make([]byte, oldBytes)) }},
		{"delete", func(u *upgrade) (started, error) {
			return u.remove("read")
		}, func(u *upgrade, _ record.Job) { u.absentFile(u.path("read")) }},
		{"resize", func(u *upgrade) (started, error) {
			return u.resize("verified", oldBytes/2, shrink)
		}, unseen},
		{"rename", func(u *upgrade) (started, error) {
			return u.move("verified", "renamed")
		}, func(u *upgrade, _ record.Job) {
			u.has("pool", u.path("renamed"), content("verified", oldBytes)[:oldBytes/2])
		}},
		{"refresh", func(u *upgrade) (started, error) {
			return u.refreshPool("from")
		}, unseen},
		{"stop", func(u *upgrade) (started, error) {
			return u.stopPool("checked")
		}, unseen},
	}
}

// inherited is an old job and what it was when the old version was last seen.
type inherited struct {
	oldJob
	was record.Job
}

// began starts old jobs, and looks until each is in a state.
func (u *upgrade) began(jobs []oldJob, in func(record.Job) bool) (all []inherited) {
	u.t.Helper()
	for _, o := range jobs {
		st, err := o.start(u)
		if err != nil {
			u.t.Fatalf("%s: %v\n%s", o.name, err, u.log())
		}
		u.until(st.Job.ID, in)
		all = append(all, inherited{o, u.job(st)})
	}
	return all
}

func waits(j record.Job) bool { return j.State == record.Queued }

// adopted fails unless a job has its helper and its state still.
func (u *upgrade) adopted(o inherited) {
	u.t.Helper()
	u.until(o.was.ID, func(j record.Job) bool { return j.State != record.Recovering })
	j, err := u.client.Job(u.ctx(), o.was.ID)
	if err != nil || j.State != o.was.State || j.Helper == nil || j.Helper.PID != o.was.Helper.PID {
		u.t.Errorf("%s was %s of helper %s; it is %s of %s, %s (%v)", o.name, o.was.State, shown(o.was.Helper), j.State, shown(j.Helper), outcome(j), err)
	}
}

// ended waits for the end of an old job, which must be a success and true.
func (u *upgrade) ended(o inherited) {
	u.t.Helper()
	j := u.end(of(o.was), nil)
	if j.State != record.Succeeded {
		u.t.Errorf("%s is %s", o.name, outcome(j))
		return
	}
	if j.Number != o.was.Number || j.Created != o.was.Created || j.Kind != o.was.Kind || !slices.Equal(j.Objects, o.was.Objects) {
		u.t.Errorf("%s was %s and is %s", o.name, shown(o.was), shown(j))
	}
	o.check(u, j)
}

// TestUpgradeTakesOverWhatTheOldVersionBegan has jobs of all kinds run, wait,
// stand still and fail with the programs of the old version, and goes on with
// those of this one.
func TestUpgradeTakesOverWhatTheOldVersionBegan(t *testing.T) {
	t.Parallel()
	testenv.Loop(t)
	old := oldPrograms(t)
	for name, ends := range map[string]func(*host){"stopped": (*host).drainAndStop, "killed": (*host).kill} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := newUpgrade(t, old)
			failed := u.interruptedClone()
			u.holding("half")
			canceled := u.brokenWipe("half")
			running := u.began(runningJobs(), moves)
			queued := u.began(queuedJobs(), waits)
			paused := u.oldPause()
			streamed, waiting := u.oldStream("streamed"), u.oldWaiting("streamed")
			ends(u.host)
			u.upgraded()
			u.takesOver(running, paused)
			u.brokeOff(streamed, waiting)
			for _, o := range slices.Concat(running, paused, queued) {
				u.ended(o)
			}
			u.readable()
			u.retriesOld(failed, canceled)
		})
	}
}

// drainAndStop ends the old version, which would else begin the jobs whose turn comes
// while it stops.
func (h *host) drainAndStop() {
	h.t.Helper()
	must(h.client.Drain(h.ctx(), true))(h.t)
	h.stop()
}

// oldPause has a clone that stands still.
func (u *upgrade) oldPause() []inherited {
	u.t.Helper()
	u.holding("still")
	clone := oldJob{"paused clone", func(u *upgrade) (started, error) {
		return u.clone("still", "paused", noReflink, oldLimit())
	}, func(u *upgrade, _ record.Job) { u.has("pool", u.path("paused"), content("still", oldBytes)) }}
	all := u.began([]oldJob{clone}, moves)
	_, err := u.client.PauseJob(u.ctx(), all[0].was.ID)
	u.must(err)
	u.until(all[0].was.ID, func(j record.Job) bool { return j.State == record.Paused })
	all[0].was = u.job(of(all[0].was))
	return all
}

// oldStream has an upload whose content comes through the old daemon: half of it
// has come.
func (u *upgrade) oldStream(volume string) record.Job {
	u.t.Helper()
	u.sparse(volume, oldBytes)
	up, out := u.sending(volume, upload{}, content(volume, oldBytes)[:oldBytes/2])
	u.t.Cleanup(func() { out.Close() }) // the client lives on
	return u.running(of(up.Job))
}

// oldWaiting has another upload to the volume, which waits for that.
func (u *upgrade) oldWaiting(volume string) record.Job {
	u.t.Helper()
	in, out := io.Pipe()
	u.t.Cleanup(func() { out.Close() })
	up := u.upload(u.ctx(), volume, in, upload{})
	u.until(up.Job.ID, waits)
	return up.Job
}

// TestStopBeginsNothing: what waits for its turn does not get it from a daemon that
// stops, whose clients leave what they hold.
func TestStopBeginsNothing(t *testing.T) {
	t.Parallel()
	u := &upgrade{host: newHost(t)}
	streamed, waiting := u.oldStream("streamed"), u.oldWaiting("streamed")
	finish := u.halfAsked()
	u.must(u.daemon.Process.Signal(syscall.SIGTERM))
	u.await("the end of what broke off", func() bool {
		_, err := os.Stat(filepath.Join(u.dir, "run/jobs", streamed.ID))
		return os.IsNotExist(err)
	})
	finish()
	if err := u.daemon.Wait(); err != nil {
		t.Errorf("daemon: %v\n%s", err, u.log())
	}
	u.start()
	u.brokeOff(streamed, waiting)
}

// halfAsked sends a part of a request, for whose rest a daemon that stops waits until
// the client goes.
func (h *host) halfAsked() (finish func()) {
	h.t.Helper()
	c := must(net.Dial("unix", h.sock))(h.t)
	must(io.WriteString(c, "POST /v1/pools HTTP/1.1\r\nHost: storaged\r\nContent-Type: application/json\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n"))(h.t)
	if line, err := bufio.NewReader(c).ReadString('\n'); !strings.Contains(line, "100") { // it waits for the body
		h.t.Fatalf("the answer is %q, %v", line, err)
	}
	return func() { c.Close() } // it is given up
}

// brokeOff holds uploads that ended with the daemon through which they came:
// what is in place of the first can be told and gone on with, and the second has
// changed nothing.
func (u *upgrade) brokeOff(streamed, waiting record.Job) {
	u.t.Helper()
	for _, was := range []record.Job{streamed, waiting} {
		u.matches("the upload", u.end(of(was), nil), record.Job{
			Number: was.Number, Kind: record.VolumeUpload, State: record.Failed, Error: &record.Error{Code: record.Interrupted},
		})
	}
	if j := u.job(of(waiting)); j.Started != nil || j.Progress.Done > 0 {
		u.t.Errorf("the upload that waited: %s", shown(j))
	}
	j := u.job(of(streamed))
	volume, done := streamed.Objects[0].Volume, j.Progress.Done
	if done == 0 || done > oldBytes/2 {
		u.t.Errorf("of the stream %d bytes are in place", done)
	}
	u.is(volume, record.Volume{Job: &streamed.Number})
	u.holds(volume, 0, content(volume, oldBytes)[:done], record.VolumeIncomplete)
	rest := u.upload(u.ctx(), volume, bytes.NewReader(content(volume, oldBytes)[done:]), restOf(j))
	u.must(rest.Wait())
	u.has("pool", u.path(volume), content(volume, oldBytes))
}

// takesOver holds the running and paused jobs against what they were, and lets
// them go on as fast as they can.
func (u *upgrade) takesOver(running, paused []inherited) {
	u.t.Helper()
	for _, o := range slices.Concat(running, paused) {
		u.adopted(o)
	}
	for _, o := range slices.Concat(running, paused) {
		u.unlimit(of(o.was))
	}
	for _, o := range paused {
		u.resume(of(o.was))
	}
}

// readable fails unless every record of the old version can be read, each by
// itself and in the list.
func (u *upgrade) readable() {
	u.t.Helper()
	l := must(u.client.Jobs(u.ctx(), contract.JobFilter{}, contract.Page{Limit: 200}))(u.t)
	for _, listed := range l.Items {
		if j := u.job(of(listed)); j.Number != listed.Number || j.Owner.User == "" {
			u.t.Errorf("job %d is %s", listed.Number, outcome(j))
		}
		u.runs(0, string(listed.Kind), "job", "show", fmt.Sprint(listed.Number))
	}
}

// retriesOld retries a clone that can go on, and a wipe that begins anew.
func (u *upgrade) retriesOld(failed, canceled record.Job) {
	u.t.Helper()
	if j := u.retried(failed); j.RetryFrom == nil || failed.Resumable == nil || *j.RetryFrom != *failed.Resumable {
		u.t.Errorf("it went on from %s, not %s", shown(j.RetryFrom), shown(failed.Resumable))
	}
	u.has("pool", u.path("copy"), u.bytesOf("base"))
	u.retried(canceled)
	u.has("pool", u.path("half"), make([]byte, oldBytes))
}

func (u *upgrade) bytesOf(name string) []byte {
	u.t.Helper()
	b := must(os.ReadFile(u.path(name)))(u.t)
	return b
}
