package main

import (
	"errors"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"storaged/cmd/internal/cmdline"
	"storaged/internal/record"
	"storaged/internal/service/contract"
)

func TestAWipeOfHolesSaysThatThereWasNothingToOverwrite(t *testing.T) {
	j := record.Job{Number: 5, Kind: record.VolumeWipe, State: record.Succeeded, Result: &record.Result{Method: "none", Algorithm: "zero"}}
	if got := endLine(&j, false); !strings.HasSuffix(got, " s, nothing to overwrite, only holes") {
		t.Errorf("%q", got)
	}
}

func TestCancelByASignalFromOutsideIsSaidSo(t *testing.T) {
	for _, c := range []struct {
		by   record.Owner
		want string
	}{
		{record.Owner{UID: record.NoUID, Via: record.ViaSignal, PID: 4711}, "a signal from outside (by process 4711)"},
		{record.Owner{UID: record.NoUID, Via: record.ViaSignal}, "a signal from outside"},
	} {
		j := record.Job{Number: 7, Kind: record.VolumeWipe, State: record.Canceled, CanceledBy: &c.by}
		if got := jobError(&j).Error(); !strings.HasSuffix(got, "was canceled by "+c.want) {
			t.Errorf("the end is told as %q", got)
		}
		if got := owner(c.by); got != c.want {
			t.Errorf("shown as %q, want %q", got, c.want)
		}
	}
}

// Who meets a job that died is told where more is said, and that it can be done again where
// it can.
func TestADeathSaysWhatToDo(t *testing.T) {
	for hint, argv := range map[string][]string{
		"storagedctl job log 7 says more, and storagedctl job retry 7 does it again": {"storage-helper", "clone", "--secret-file", "a=fd:5"},
		"storagedctl job log 7": {"storage-helper", "upload", "--source", "fd:4"},
	} {
		j := record.Job{Number: 7, Kind: record.VolumeClone, State: record.Failed, Error: record.Errorf(record.Killed, "qemu-storage-daemon was killed"), Helper: &record.Helper{Argv: argv}}
		e, ok := errors.AsType[*record.Error](jobError(&j))
		if !ok || cmdline.Hint(e.Hint) != hint {
			t.Errorf("%v, not %q", e, hint)
		}
	}
}

func TestForgetSaysWhatStays(t *testing.T) {
	d := newDaemon(t)
	for _, c := range []struct{ start, forget, want string }{
		{"vol create images/x 1G", "job forget 410", "job 410: forgotten\n"},
		{"vol delete images/vm1.raw --yes", "job forget 411", "job 411 (volume.delete images/vm1.raw): forgotten; that it was, on what, whose and when stays"},
	} {
		if _, errs, code := d.run(c.start); code != 0 {
			t.Fatalf("%s: exit %d, %s", c.start, code, errs)
		}
		if _, errs, code := d.run(c.forget); code != 0 || !strings.Contains(errs, c.want) {
			t.Errorf("%s: exit %d, %q", c.forget, code, errs)
		}
	}
}

func TestCancelSaysWhatItWaitsFor(t *testing.T) {
	end := time.Now().Add(11*time.Second + 400*time.Millisecond)
	b := record.Blocker{For: "helper", Since: time.Now(), ExpectedEnd: &end, Holder: &record.Holder{External: "helper pid 812"}}
	j := record.Job{Number: 7, State: record.Canceling, WaitingOn: []record.Blocker{b}}
	if got := standing(&j); got != "canceling, the helper was asked to stop; it is killed if it has not within 11 s" {
		t.Errorf("shown as %q", got)
	}
	stuck := record.Blocker{For: "device", Holder: &record.Holder{External: "process 812 in D state"}}
	j.WaitingOn = []record.Blocker{stuck}
	if got := standing(&j); got != "canceling, waits for process 812 in D state" {
		t.Errorf("shown as %q", got)
	}
}

// A stalled job is so while it is canceled, and has no end that anybody knows.
func TestStalledJobSaysSoWhileItIsCanceled(t *testing.T) {
	end := time.Now().Add(11*time.Second + 400*time.Millisecond)
	j := record.Job{Number: 7, State: record.Canceling, Estimate: record.Estimate{StalledSince: &day}, WaitingOn: []record.Blocker{
		{For: "helper", ExpectedEnd: &end, Holder: &record.Holder{External: "helper pid 812"}},
	}}
	if got := jobNote(j); got != "the helper was asked to stop; it is killed if it has not within 11 s; stalled since "+clock(day) {
		t.Errorf("shown as %q", got)
	}
	if got := leftField(j); got != "stalled since "+clock(day) {
		t.Errorf("left: %q", got)
	}
}

func TestPoolThatWasNeverReadHasNoFigures(t *testing.T) {
	d := newDaemon(t)
	d.locked(func(f *fake) {
		p := f.pools["isos"]
		p.State, p.Observed, p.Capacity, p.Available = record.PoolInactive, nil, 0, 0
		f.pools["isos"] = p
	})
	out, _, _ := d.run("pool list --columns name,capacity,available --no-headers")
	if !strings.Contains(out, "60.0 GiB") || strings.Contains(out, "0 B") || strings.Count(out, "-") != 2 {
		t.Errorf("%q", out)
	}
}

func TestJobThatCannotStartYetSaysWhy(t *testing.T) {
	for _, what := range []string{"hold", "space"} {
		b := record.Blocker{For: what, Since: time.Now(), Holder: &record.Holder{External: "not yet: the pool is away"}}
		j := record.Job{Number: 7, State: record.Queued, WaitingOn: []record.Blocker{b}}
		if got := standing(&j); !strings.HasSuffix(got, "waits: not yet: the pool is away") {
			t.Errorf("%s: shown as %q", what, got)
		}
	}
}

// What a clone leaves for a retry is no volume; what is kept on demand is one.
func TestEndSaysWhatIsLeft(t *testing.T) {
	j := record.Job{Number: 7, Kind: record.VolumeClone, State: record.Failed, Rollback: record.RollbackKept, OnFailure: record.RollbackOnFailure,
		Objects: []record.Object{{Pool: "a", Volume: "b", Mode: record.ModeRead}, {Pool: "a", Volume: "c", Mode: record.ModeWrite}}}
	if got := aftermath(&j); got != "what was made of a/c was kept for a retry" {
		t.Errorf("after its retry: %q", got)
	}
	j.Resumable = &record.Resumable{Done: 1, Total: 2}
	if got := aftermath(&j); got != "what was made of a/c is kept for storagedctl job retry 7" {
		t.Errorf("before its retry: %q", got)
	}
	j.Resumable, j.OnFailure = nil, record.KeepOnFailure
	if got := aftermath(&j); got != "a/c is left incomplete" {
		t.Errorf("kept on demand: %q", got)
	}
}

// A retry has the limit of the first job, and says so, or another.
func TestRetrySaysItsLimit(t *testing.T) {
	d := newDaemon(t)
	d.run("vol wipe images/vm1.raw --yes")
	d.locked(func(f *fake) { f.jobs[0].Limit, f.held = ptr(int64(50<<20)), true })
	says := "at most 50.0 MiB/s, the limit of job 410; --limit gives another, or none"
	if _, errs, code := d.run("job retry 410 --detach --yes"); code != 0 || !strings.Contains(errs, says) {
		t.Errorf("exit %d, %s", code, errs)
	}
	for given, want := range map[string]string{"none": "null", "100M": "104857600"} {
		_, errs, code := d.run("job retry 410 --detach --yes --limit " + given)
		if got := d.requests[len(d.requests)-1].(contract.JobRetry); code != 0 || strings.Contains(errs, "the limit of job") || string(got.Limit) != want {
			t.Errorf("%s: exit %d, limit %s: %s", given, code, got.Limit, errs)
		}
	}
	if _, errs, code := d.run("job retry 410 --yes --limit 0"); code != record.ExitUsage {
		t.Errorf("exit %d, %s", code, errs)
	}
}

// What a job did to an image is told by what it is afterwards.
func TestTheEndOfAJobOnAnImageSaysWhatItIsNow(t *testing.T) {
	for _, c := range []struct {
		kind   record.Kind
		result record.Result
		want   string
	}{
		{record.VolumeResize, record.Result{Capacity: 2 << 30, Allocation: 20 << 20, Bytes: 1 << 30}, "now 2.00 GiB, 20.0 MiB allocated"},
		{record.VolumeCheck, record.Result{Check: &record.Tables{Leaks: 3, Clusters: 100, Allocated: 7}}, "0 corrupt, 3 leaked of 100 clusters, 7 allocated"},
		{record.VolumeCheck, record.Result{Check: &record.Tables{RepairedLeaks: 3}}, "0 corrupt, 0 leaked; 0 corrupt and 3 leaked were repaired"},
		{record.VolumeClone, record.Result{From: "vmdk", Format: "qcow2", Bytes: 1 << 30, Method: "copy"}, "vmdk → qcow2, 1.00 GiB, by copy"},
		{record.VolumeClone, record.Result{From: "raw", Format: "raw", Bytes: 1 << 30, Method: "reflink"}, "1.00 GiB, by reflink"},
		{record.VolumeFlatten, record.Result{Format: "qcow2", Method: "none"}, "it stands on nothing"},
		{record.VolumeRebase, record.Result{Format: "qcow2", Method: "none"}, "nothing was moved"},
		{record.VolumeClone, record.Result{From: "raw", Format: "raw", Unchanged: true, Bytes: 1}, "nothing to do"},
	} {
		j := record.Job{Number: 5, Kind: c.kind, State: record.Succeeded, Result: &c.result}
		if got := endLine(&j, false); !strings.HasSuffix(got, " s, "+c.want) {
			t.Errorf("%s: %q, want %q", c.kind, got, c.want)
		}
	}
}

// A volume that is not in the format which its name ends with is not made in silence.
func TestANameThatPromisesAnotherFormatIsWarnedOf(t *testing.T) {
	for argv, want := range map[string]string{
		"vol create images/x.qcow2 1G":                               "images/x.qcow2 is made in format raw",
		"vol create images/x.vhd 1G":                                 "--format vpc",
		"vol clone images/vm1.raw images/x.vdi images/y.raw":         "images/x.vdi is made in format raw",
		"vol create images/x.qcow2 1G --format qcow2":                "",
		"vol create images/x.qcow2 1G --format raw":                  "",
		"vol create images/x.img 1G":                                 "",
		"vol clone images/vm1.raw images/x.qcow2 --linked":           "",
		"vol clone images/vm1.raw images/x.raw --linked":             "images/x.raw is made in format qcow2, whatever its name ends with\nstoragedctl: hint: call it images/x.qcow2",
		"vol clone images/vm1.raw images/x --linked":                 "",
		"vol clone images/vm1.raw images/x.qcow2 --format qcow2":     "",
		"vol clone images/vm1.raw images/y.raw images/z.disk":        "",
		"vol create images/old.vdi.raw 1G --allocation none -o name": "",
	} {
		_, errs, code := newDaemon(t).run(argv)
		if code != 0 || strings.Contains(errs, "whatever its name ends with") != (want != "") || !strings.Contains(errs, want) {
			t.Errorf("%s: exit %d, %s", argv, code, errs)
		}
	}
}

// Who wipes an image as a file is told before that it is none afterwards.
func TestWipeOfAnImageSaysWhatBecomesOfIt(t *testing.T) {
	d := newDaemon(t)
	d.locked(func(f *fake) {
		f.addVolume("images", "vm3.qcow2", 1<<30)
		v := f.volumes["images/vm3.qcow2"]
		v.Format = "qcow2"
		f.volumes["images/vm3.qcow2"] = v
	})
	const keeps = "--content keeps it an image"
	for argv, says := range map[string]bool{
		"vol wipe images/vm3.qcow2 --dry-run": true, "vol wipe images/vm3.qcow2": true,
		"vol wipe images/vm3.qcow2 --dry-run --content": false, "vol wipe images/vm3.qcow2 --content": false,
		"vol wipe images/vm3.qcow2 --yes": false, "vol wipe images/vm1.raw --dry-run": false, "vol wipe images/vm1.raw": false,
	} {
		if _, errs, code := d.run(argv); strings.Contains(errs, keeps) != says {
			t.Errorf("%s: exit %d, %s", argv, code, errs)
		}
	}
}

func TestABackingThatIsNoVolumeIsSaidToBeNone(t *testing.T) {
	v := record.Volume{Pool: "p", Name: "a", Backing: "/srv/base.raw", State: record.VolumeReady, Problem: "its tables overlap"}
	if got := backing(v); got != "/srv/base.raw, which is no volume of a pool in use" {
		t.Errorf("%q", got)
	}
	if got := volumeState(v); got != "ready, has a problem" {
		t.Errorf("%q", got)
	}
	v.Parent = &record.Parent{Pool: "p", Volume: "base.raw", Format: "raw"}
	if got := backing(v) + " " + parentName(v); got != "/srv/base.raw p/base.raw" {
		t.Errorf("%q", got)
	}
}

// The percent is of what is moved, and the amount is where in the length the job is.
func TestPercentAndAmountAreNotToldAsOneWhereTheyAreNot(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		percent float64
		want    string
	}{
		{28.6, "at 30.0 MiB of 105 MiB"},
		{27, "at 30.0 MiB of 105 MiB"},
		{63.8, "at 30.0 MiB of a length of 105 MiB"}, // holes are behind
	} {
		p := record.Progress{Percent: &c.percent, Done: 30 * mib, Total: 105 * mib, Unit: "bytes"}
		if got := amount(p); got != c.want {
			t.Errorf("%v %%: %q, want %q", c.percent, got, c.want)
		}
	}
}

func TestTimesAreToldByHowLongAgoTheyAre(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // one clock, which stands still
		for d, want := range map[time.Duration]string{
			0: "0 s ago", time.Second - 1: "0 s ago", time.Minute - 1: "59 s ago", 90 * time.Minute: "1 h ago", 61 * time.Minute: "1 h ago", 5 * time.Minute: "5 min ago",
			time.Hour - 1: "59 min ago", 47 * time.Hour: "47 h ago", 50 * time.Hour: "2 d ago", 400 * 24 * time.Hour: "400 d ago",
		} {
			at := time.Now().Add(-d)
			if got := ago(&at); got != want {
				t.Errorf("%s: %q, not %q", d, got, want)
			}
		}
		later := time.Now().Add(time.Hour)
		if got := ago(&later) + ago(nil) + ago(&time.Time{}); got != stamp(&later) {
			t.Errorf("%q", got)
		}
	})
}

// What people type that there is not is answered by what there is.
func TestWhatPeopleTypeIsAnsweredByWhatThereIs(t *testing.T) {
	t.Setenv("VISUAL", "")
	t.Setenv("EDITOR", "")
	missing := filepath.Join(t.TempDir(), "none", "x")
	for line, want := range map[string]struct {
		code int
		says string
	}{
		"vol snapshot rollback images/vm1.raw@a": {record.ExitUsage, "did you mean restore?"},
		"vol snapshot revert images/vm1.raw@a":   {record.ExitUsage, "did you mean restore?"},
		"secret rm disks":                        {record.ExitUsage, "did you mean delete?"},
		"pool evacuate":                          {record.ExitUsage, "usage: storagedctl pool evacuate POOL --to POOL"},
		"pool edit images":                       {record.ExitUsage, "hint: give the definition with -f FILE"},
		"pool create new --autostart --no-autostart --target /srv/new": {record.ExitUsage, "exclude each other"},
		"pool define new --autostart --target /srv/new":                {0, "pool new is defined"},
		"pool define new --target /etc":                                {0, "/etc is a directory of the system"},
		"pool define new --target /usr/lib/x":                          {0, "/usr/lib/x is a directory of the system"},
		"pool create new --target /root":                               {0, "hint: if that is not meant: storagedctl pool undefine new"},
		"vol download images/vm1.raw " + missing:                       {record.ExitNotFound, "there is no directory " + strconv.Quote(filepath.Dir(missing))},
	} {
		if _, errs, code := newDaemon(t).run(line); code != want.code || !strings.Contains(errs, want.says) {
			t.Errorf("%s: exit %d, %s", line, code, errs)
		}
	}
	for _, line := range []string{"pool define new --target /usr/local/images", "pool define new --target /srv/new", "pool define new --target /root/images", "pool define new --target /dev/shm/new"} {
		if _, errs, _ := newDaemon(t).run(line); strings.Contains(errs, "directory of the system") {
			t.Errorf("%s: %s", line, errs)
		}
	}
}

// What the daemon says of members of a request is said of the flags that they came from.
func TestErrorsNameFlags(t *testing.T) {
	d := newDaemon(t)
	for line, want := range map[string]string{
		"limits set --running 0":               "--running is 0, not 1 to",
		"limits set --pool images --running 0": "--running is 0, not 1 to",
		"limits set --running-device 0":        "--running-device is 0, not 1 to",
		"vol create images/x 1G --mode 999":    `--mode is "999"`,
	} {
		if _, errs, code := d.run(line); code != record.ExitUsage || !strings.Contains(errs, want) || strings.Contains(errs, "field") {
			t.Errorf("%s: exit %d, %s", line, code, errs)
		}
	}
}
