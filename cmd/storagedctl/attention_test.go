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
