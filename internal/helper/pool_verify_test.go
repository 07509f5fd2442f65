package helper

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"storaged/internal/image"
	"storaged/internal/ipc"
	"storaged/internal/record"
)

// verifying is a job that reads a pool of volumes of one MiB.
type verifying struct {
	*daemon
	pool string
	sums map[string]string
}

func startPoolVerify(t *testing.T, volumes ...string) verifying {
	t.Helper()
	v := verifying{daemon: newDaemon(t), pool: t.TempDir(), sums: map[string]string{}}
	for _, name := range volumes {
		v.fill(name)
	}
	v.start("pool-verify", "--target", v.pool)
	v.begin(ipc.Go{})
	return v
}

func (v verifying) path(name string) string { return filepath.Join(v.pool, name) }

// fill gives a volume content that none had before.
func (v verifying) fill(name string) {
	v.t.Helper()
	b := make([]byte, mib)
	rand.Read(b)
	must(v.t, os.WriteFile(v.path(name), b, 0o600))
	v.sums[name] = record.Checksum(sha256.Sum256(b))
}

// asked waits until the helper asks to close the window of that id.
func (v verifying) asked(id int64) ipc.Window {
	v.t.Helper()
	w, _ := await(v.daemon, 0, "request to close the window", func(w ipc.Window) bool { return w.ID == id && !w.Open })
	return w
}

// fared gives the states of the items by name.
func (v verifying) fared(r *ipc.Report) map[string]string {
	v.t.Helper()
	states := map[string]string{}
	for _, it := range r.Items {
		states[it.Name] = it.State
		if it.State == "succeeded" && it.Checksum != v.sums[it.Name] {
			v.t.Errorf("%s has %s, want %s", it.Name, it.Checksum, v.sums[it.Name])
		}
		if (it.Error == nil) != (it.State == "succeeded") || (it.Checksum == "") == (it.State == "succeeded") {
			v.t.Errorf("item %+v", it)
		}
	}
	return states
}

func TestJobPoolVerifyLetsOthersInBetweenVolumes(t *testing.T) {
	v := startPoolVerify(t, "a", "b", "c", "d")
	if first, then := v.asked(1), v.asked(3); first.Next != mib || then.Next != 2*mib {
		t.Errorf("the next windows are said to open at %d and %d", first.Next, then.Next)
	}
	v.fill("b")
	must(t, os.Remove(v.path("c")))
	v.fill("e") // comes too late
	v.say(ipc.WindowAck{ID: 1})
	v.say(ipc.WindowAck{ID: 5})
	for _, w := range of[ipc.Window](v.daemon) {
		if w.ID > 3 {
			t.Errorf("it went on without being acknowledged: %+v", w)
		}
	}
	for id := int64(3); id <= 7; id += 2 {
		v.asked(id)
		v.say(ipc.WindowAck{ID: id})
	}
	report := v.result(record.ExitDone)
	want := map[string]string{"a": "succeeded", "b": "succeeded", "c": "skipped", "d": "succeeded"}
	if got := v.fared(report); len(got) != 4 || !sameMap(got, want) {
		t.Errorf("volumes %v, want %v", got, want)
	}
	if report.Bytes != 3*mib || report.Read != 3*mib || len(report.Warnings) != 1 {
		t.Errorf("report %+v", report.Summary)
	}
	v.planned(3 * mib)
	var windows []ipc.Window
	for _, w := range of[ipc.Window](v.daemon) {
		windows = append(windows, ipc.Window{ID: w.ID, Open: w.Open})
	}
	if want := []ipc.Window{{ID: 1}, {ID: 2, Open: true}, {ID: 3}, {ID: 4, Open: true}, {ID: 5}, {ID: 6, Open: true}, {ID: 7}}; !slices.Equal(windows, want) {
		t.Errorf("windows %+v", windows)
	}
}

// planned holds the plan and the progress against each other.
func (v verifying) planned(total int64) {
	v.t.Helper()
	plans := of[ipc.Plan](v.daemon)
	if p := plans[len(plans)-1].Phases[1]; p.Total != 4*mib || !p.Bounded || !p.Data || p.Mask != Everybody {
		v.t.Errorf("the last plan is %+v", p)
	}
	var last ipc.Progress
	for _, p := range of[ipc.Progress](v.daemon) {
		if p.Phase == last.Phase && p.Durable < last.Durable || p.Phase == 1 && p.Done > 0 && (p.Work > p.WorkAll || p.WorkAll < total) {
			v.t.Errorf("progress %+v after %+v", p, last)
		}
		last = p
	}
	if last.Durable != total || last.Total != total {
		v.t.Errorf("it ended at %+v, want %d", last, total)
	}
}

func sameMap(a, b map[string]string) bool {
	for k, v := range a {
		if b[k] != v {
			return false
		}
	}
	return len(a) == len(b)
}

func TestJobPoolVerifyGoesOnBehindAVolumeThatCannotBeRead(t *testing.T) {
	v := startPoolVerify(t, "a", "b", "c", "d")
	v.asked(3)
	must(t, os.Remove(v.path("b")))
	must(t, os.Symlink("a", v.path("b")))
	inUse, err := os.OpenFile(v.path("c"), os.O_RDWR, 0)
	must(t, err)
	defer inUse.Close()
	must(t, image.LockExclusive(inUse))
	for id := int64(3); id <= 7; id += 2 {
		v.asked(id)
		v.say(ipc.WindowAck{ID: id})
	}
	report := v.result(record.ExitPartial)
	want := map[string]string{"a": "succeeded", "b": "failed", "c": "failed", "d": "succeeded"}
	if got := v.fared(report); !sameMap(got, want) {
		t.Errorf("volumes %v, want %v", got, want)
	}
	if report.Outcome != ipc.Failed || report.Error.Code != string(record.Partial) || report.Items[2].Error.Code != string(record.Busy) {
		t.Errorf("%+v, c: %+v", report.Error, report.Items[2].Error)
	}
}

func TestJobIsCanceledAndPausedWhileItWaitsForVisitors(t *testing.T) {
	v := startPoolVerify(t, "a", "b")
	v.asked(3)
	v.say(ipc.Pause{})
	_, next := await(v.daemon, 0, "pause", func(s ipc.State) bool { return s.Activity == ipc.ActivityPaused })
	v.say(ipc.Resync{})
	again, _ := await(v.daemon, next, "the window again", any1[ipc.Window])
	if again.ID != 3 || again.Open {
		t.Errorf("repeated is %+v", again)
	}
	v.say(ipc.Cancel{})
	report := v.result(record.ExitCanceled)
	if report.Outcome != ipc.Canceled || report.Rollback != string(record.RollbackNone) || len(report.Items) != 1 || report.Items[0].Checksum != v.sums["a"] {
		t.Errorf("report %+v, items %+v", report.Summary, report.Items)
	}
}

// A helper that is confined names who keeps it from a volume, locks or none.
func TestJobPoolVerifyNamesWhoWritesToAVolume(t *testing.T) {
	for _, c := range []struct {
		name string
		hold func(f *os.File) error
	}{{"with locks", image.LockExclusive}, {"without", func(*os.File) error { return nil }}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			v := verifying{daemon: newDaemon(t), pool: t.TempDir(), sums: map[string]string{}}
			v.fill("a")
			f, err := os.OpenFile(v.path("a"), os.O_RDWR, 0)
			must(t, err)
			defer f.Close()
			must(t, c.hold(f))
			v.start("pool-verify", "--target", v.pool)
			v.begin(ipc.Go{})
			w, _ := await(v.daemon, 0, "how it is confined", func(ipc.Confined) bool { return true })
			if w.Anywhere {
				t.Error("all files are open to it")
			}
			report := v.result(record.ExitPartial)
			if e := report.Items[0].Error; e == nil || !strings.Contains(e.Message, fmt.Sprintf("pid %d (", os.Getpid())) {
				t.Errorf("it says %+v", e)
			}
		})
	}
}
