package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"storaged/internal/record"
)

// What needs a person is named, and is an exit code for who watches many hosts.
func TestStatusNamesWhatNeedsAPerson(t *testing.T) {
	d := newDaemon(t)
	d.locked(func(f *fake) { f.well = true })
	if out, errs, code := d.run("status --check"); code != 0 || out != "" || !strings.Contains(errs, "nothing needs a person") {
		t.Errorf("of a host that is well: exit %d, %q, %q", code, out, errs)
	}
	d.locked(func(f *fake) {
		away, full := f.pools["images"], f.pools["isos"]
		away.State, away.Reason = record.PoolUnreachable, "it is not mounted"
		full.Available, full.Reserved = 6<<30, 2<<30
		f.pools["images"], f.pools["isos"] = away, full
		v := f.volumes["images/vm1.raw"]
		v.State, v.Job = record.VolumeIncomplete, ptr(int64(17))
		f.volumes["images/vm1.raw"] = v
		now := time.Now()
		f.fate = func(j *record.Job) { failed(record.IO)(j); j.Ended = &now }
	})
	d.run("vol clone images/base.raw images/x")
	d.run("vol clone images/base.raw images/y")
	d.locked(func(f *fake) { f.fate = nil })
	d.run("vol clone images/base.raw images/z")
	d.locked(func(f *fake) { f.jobs[2].RetryOf = ptr(int64(410)) })
	want := []string{
		"pool: images: unreachable: it is not mounted\n", "pool: isos: 4.00 GiB of 100 GiB left\n", "volume: images/vm1.raw: incomplete since job 17\n",
		"job: job 411: volume.clone images/y failed: write to \"/srv/images/x\": it went wrong\n",
	}
	out, errs, code := d.run("status --check --since 1h")
	if code != record.ExitFailed || out != strings.Join(want, "") || !strings.Contains(errs, "needs a person (4)") {
		t.Errorf("exit %d, %q, %q", code, out, errs)
	}
	out, _, code = d.run("status")
	if code != 0 {
		t.Errorf("status: exit %d", code)
	}
	expectAll(t, out, "Pool:            images: unreachable", "Volume:          images/vm1.raw: incomplete", "Failed:          job 411: volume.clone")
	out, _, code = d.run("status --check -o json")
	var o observed
	if err := json.Unmarshal([]byte(out), &o); err != nil || code != record.ExitFailed || len(o.Attention) != 4 || o.Version != "1.0.0" {
		t.Errorf("exit %d, %v: %s", code, err, out)
	}
	if _, errs, code := d.run("status --since soon"); code != record.ExitUsage || !strings.Contains(errs, "no time") {
		t.Errorf("exit %d, %s", code, errs)
	}
	d.locked(func(f *fake) {
		for i := range f.jobs {
			for k := range f.jobs[i].Objects {
				f.jobs[i].Objects[k].Pool = "gone"
			}
		}
	})
	if out, _, _ := d.run("status --check --since 1h"); strings.Contains(out, "job:") {
		t.Errorf("of jobs whose pool is no more: %s", out)
	}
	d.locked(func(f *fake) {
		f.volumes["images/vm1.raw"] = record.Volume{Pool: "images", Name: "vm1.raw", State: record.VolumeReady}
	})
	if out, _, _ := d.run("status --check --since 2100-01-01"); strings.Contains(out, "job:") || strings.Contains(out, "volume:") {
		t.Errorf("of what was before, or is whole again: %s", out)
	}
}

// A failed job is named as long as it needs somebody: not when it was forgotten, when it was
// only refused, or when a later one did the work.
func TestStatusLeavesOutFailuresThatNeedNobody(t *testing.T) {
	now := time.Now()
	object := record.Object{Pool: "images", Volume: "vm1.raw", Mode: record.ModeWrite}
	job := func(kind record.Kind, code record.Code, change func(*record.Job)) record.Job {
		j := record.Job{Kind: kind, State: record.Failed, Objects: []record.Object{object}, Rollback: record.RollbackDone, Created: now, Ended: &now}
		if j.Error = record.Errorf(code, "it went wrong"); code == "" {
			j.State, j.Error = record.Succeeded, nil
		}
		if change != nil {
			change(&j)
		}
		return j
	}
	of := func(kind record.Kind, state record.State, objects ...record.Object) record.Job {
		return record.Job{Kind: kind, State: state, Objects: objects, Created: now, Ended: &now}
	}
	before := func(j record.Job) record.Job {
		ended := now.Add(-time.Second)
		j.Ended = &ended
		return j
	}
	other := record.Object{Pool: "images", Volume: "vm2.raw", Mode: record.ModeWrite}
	read := record.Object{Pool: "images", Volume: "vm1.raw", Mode: record.ModeRead}
	for name, c := range map[string]struct {
		jobs  []record.Job // the first one failed, in the order of their numbers
		named bool
	}{
		"storage":             {[]record.Job{job(record.VolumeUpload, record.IO, nil)}, true},
		"forgotten":           {[]record.Job{job(record.VolumeUpload, record.IO, func(j *record.Job) { j.Forgotten, j.Error = true, nil })}, false},
		"invalid":             {[]record.Job{job(record.VolumeUpload, record.Invalid, nil)}, false},
		"busy":                {[]record.Job{job(record.VolumeResize, record.Busy, nil)}, false},
		"unsupported":         {[]record.Job{job(record.VolumeTrim, record.Unsupported, nil)}, false},
		"refused, half done":  {[]record.Job{job(record.VolumeUpload, record.Invalid, func(j *record.Job) { j.Rollback = record.RollbackFailed })}, true},
		"refused, can go on":  {[]record.Job{job(record.VolumeUpload, record.Invalid, func(j *record.Job) { j.Resumable = new(record.Resumable) })}, true},
		"of the daemon":       {[]record.Job{job(record.PoolStart, record.NotFound, func(j *record.Job) { j.Owner.Via = "daemon" })}, true},
		"mismatch":            {[]record.Job{job(record.VolumeVerify, record.Mismatch, nil)}, true},
		"no space":            {[]record.Job{job(record.VolumeClone, record.NoSpace, nil)}, true},
		"denied by storage":   {[]record.Job{job(record.VolumeClone, record.Denied, nil)}, true},
		"reader gone":         {[]record.Job{job(record.VolumeDownload, record.Interrupted, nil)}, false},
		"writer gone":         {[]record.Job{job(record.VolumeUpload, record.Interrupted, nil)}, true},
		"done again":          {[]record.Job{job(record.VolumeTrim, record.IO, nil), of(record.VolumeTrim, record.Succeeded, object)}, false},
		"done to another":     {[]record.Job{job(record.VolumeTrim, record.IO, nil), of(record.VolumeTrim, record.Succeeded, other)}, true},
		"under way only":      {[]record.Job{job(record.VolumeTrim, record.IO, nil), of(record.VolumeTrim, record.Running, object)}, true},
		"unsupported, begun":  {[]record.Job{job(record.VolumeClone, record.Unsupported, func(j *record.Job) { j.Started = &now })}, true},
		"corrupt, begun":      {[]record.Job{job(record.VolumeClone, record.WrongState, func(j *record.Job) { j.Started = &now })}, true},
		"before it":           {[]record.Job{job(record.VolumeTrim, record.IO, nil), before(of(record.VolumeTrim, record.Succeeded, object))}, true},
		"a fault":             {[]record.Job{job(record.VolumeUpload, record.IO, nil), of(record.VolumeClone, record.Succeeded, object, other)}, true},
		"made whole":          {[]record.Job{job(record.VolumeUpload, record.Killed, nil), of(record.VolumeClone, record.Succeeded, object, other)}, false},
		"only read since":     {[]record.Job{job(record.VolumeUpload, record.Killed, nil), of(record.VolumeClone, record.Succeeded, read, other)}, true},
		"resized since":       {[]record.Job{job(record.VolumeUpload, record.Killed, nil), of(record.VolumeResize, record.Succeeded, object)}, true},
		"deleted since":       {[]record.Job{job(record.VolumeVerify, record.Killed, func(j *record.Job) { j.Kind = record.VolumeTrim }), of(record.VolumeDelete, record.Succeeded, object)}, false},
		"a verify, overwrite": {[]record.Job{job(record.VolumeVerify, record.Mismatch, func(j *record.Job) { j.Objects = []record.Object{read} }), of(record.VolumeUpload, record.Succeeded, object)}, true},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDaemon(t)
			d.locked(func(f *fake) {
				f.well = true
				for i := range c.jobs {
					c.jobs[i].Number = int64(410 + i)
				}
				f.jobs = c.jobs
			})
			out, errs, _ := d.run("status --check")
			if named := strings.Contains(out, "job 410"); named != c.named {
				t.Errorf("named: %t; %q, %q", named, out, errs)
			}
			if c.named && !strings.Contains(errs, "storagedctl job forget NUMBER") {
				t.Errorf("how a failed job is dismissed is not said: %s", errs)
			}
		})
	}
}

// What a change has made is not printed with --quiet, but to who asks for a document.
func TestLimitsSetIsQuiet(t *testing.T) {
	d := newDaemon(t)
	if out, errs, code := d.run("limits set --running 3 --quiet"); out != "" || errs != "" || code != 0 {
		t.Errorf("exit %d, %q, %q", code, out, errs)
	}
	if out, _, code := d.run("limits set --running 4 --quiet -o json"); !strings.Contains(out, `"running": 4`) || code != 0 {
		t.Errorf("exit %d, %q", code, out)
	}
	if out, _, code := d.run("limits show --quiet"); !strings.Contains(out, "Running jobs:") || code != 0 {
		t.Errorf("exit %d, %q", code, out)
	}
}
