package supervisor

import (
	"slices"
	"testing"
	"time"

	"storaged/internal/record"
)

// quantiles reports the middle and the 99th percentile of durations.
func quantiles(b *testing.B, name string, all []time.Duration) {
	slices.Sort(all)
	b.ReportMetric(float64(all[len(all)/2].Microseconds())/1000, name+"-p50-ms")
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds())/1000, name+"-p99-ms")
}

// BenchmarkShortJob is submit to end of a job that does nothing, a helper
// process and four durable commits included.
func BenchmarkShortJob(b *testing.B) {
	r, finish := bareRig(b, b.TempDir())
	defer finish()
	r.start()
	var all []time.Duration
	for b.Loop() {
		begun := time.Now()
		r.ended(r.submit(request(fakeHelper("short"))).ID, record.Succeeded)
		all = append(all, time.Since(begun))
	}
	quantiles(b, "job", all)
}

// BenchmarkUnderLoad lists, submits and cancels while 64 jobs run and 1 000
// wait, half of them for locks.
func BenchmarkUnderLoad(b *testing.B) {
	r, finish := bareRig(b, b.TempDir())
	defer finish()
	r.cfg.Times.Progress = time.Second
	r.start()
	r.sup.SetLimits(record.Limits{Running: 64})
	var running string
	for i := range 64 {
		running = r.submit(request(fakeHelper("idle"), objects("p", "run"+itoa(i), "W")...)).ID
	}
	r.working(running)
	for i := range 1000 {
		volume := "wait" + itoa(i)
		if i%2 == 0 {
			volume = "run" + itoa(i%64)
		}
		r.submit(request(fakeHelper("idle"), objects("p", volume, "W")...))
	}
	var list, submit, cancel []time.Duration
	took := func(into *[]time.Duration, do func()) {
		begun := time.Now()
		do()
		*into = append(*into, time.Since(begun))
	}
	for b.Loop() {
		took(&list, func() {
			if len(r.sup.Live()) < 1064 {
				b.Fatal("jobs are missing")
			}
		})
		var id string
		took(&submit, func() { id = r.submit(request(fakeHelper("short"), objects("p", "run1", "R")...)).ID })
		took(&cancel, func() {
			if _, err := r.sup.Cancel(id, uid1000, false); err != nil {
				b.Fatal(err)
			}
		})
	}
	quantiles(b, "list", list)
	quantiles(b, "submit", submit)
	quantiles(b, "cancel", cancel)
}
