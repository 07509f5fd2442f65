package metrics_test

import (
	"bytes"
	"errors"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"storaged/internal/metrics"
	"storaged/internal/record"
	"storaged/internal/supervisor"
)

func ptr[T any](v T) *T { return &v }

func source() metrics.Source {
	return metrics.Source{
		Live: func() map[supervisor.Tally]int {
			return map[supervisor.Tally]int{{Kind: record.VolumeClone, State: record.Running}: 3}
		},
		Pools: func() ([]record.Pool, error) {
			return []record.Pool{
				{Name: "images", State: record.PoolActive, Capacity: 1000, Allocation: 300, Available: 700, Reserved: 50, Observed: ptr(time.Unix(1700000000, 0))},
				{Name: "new", State: record.PoolInactive},
			}, nil
		},
		Updates:   func() int64 { return 7 },
		Dropped:   func() int64 { return 2 },
		LinesLost: func() int64 { return 4 },
	}
}

// clone is a clone that was canceled after a crash, or, without its ending,
// one that succeeded.
func clone(change func(*supervisor.Observation)) supervisor.Observation {
	at := time.Now()
	o := supervisor.Observation{
		Job: record.Job{
			Kind: record.VolumeClone, State: record.Succeeded, Started: &at, ElapsedS: 2,
			Stats: &record.Stats{BytesRead: ptr(int64(100)), BytesWritten: ptr(int64(50))},
		},
		Queued: 20 * time.Millisecond,
		Errors: []*float64{nil, ptr(math.Log(0.4)), nil, nil, nil, ptr(math.Log(1.2)), nil, nil, nil, nil},
	}
	if change != nil {
		change(&o)
	}
	return o
}

func canceled(o *supervisor.Observation) {
	o.Job.State, o.Errors, o.LockWaited, o.Crashes = record.Canceled, nil, true, 1
	o.CancelSent, o.Stopped = ptr(3*time.Millisecond), ptr(1500*time.Millisecond)
}

func text(t *testing.T, m *metrics.Metrics) string {
	t.Helper()
	b, err := m.Text()
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestEndedJobsAreCounted(t *testing.T) {
	m := metrics.New(source())
	m.JobEnded(clone(nil))
	m.JobEnded(clone(nil))
	m.JobEnded(clone(canceled))
	m.JobEnded(clone(func(o *supervisor.Observation) { // never started
		o.Job.State, o.Job.Started, o.Job.Stats, o.Errors = record.Canceled, nil, nil, nil
	}))
	got := text(t, m)
	for _, line := range []string{
		`storaged_jobs{kind="volume.clone",state="running"} 3`,
		`storaged_jobs_ended_total{kind="volume.clone",outcome="succeeded"} 2`,
		`storaged_jobs_ended_total{kind="volume.clone",outcome="canceled"} 2`,
		`storaged_job_queue_seconds_count{kind="volume.clone"} 4`,
		`storaged_job_queue_seconds_bucket{kind="volume.clone",le="0.01"} 0`,
		`storaged_job_queue_seconds_bucket{kind="volume.clone",le="0.05"} 4`,
		`storaged_job_duration_seconds_sum{kind="volume.clone",outcome="succeeded"} 4`,
		`storaged_job_duration_seconds_count{kind="volume.clone",outcome="canceled"} 1`,
		`storaged_job_bytes_total{direction="read",kind="volume.clone"} 300`,
		`storaged_job_bytes_total{direction="written",kind="volume.clone"} 150`,
		`storaged_job_lock_waits_total{kind="volume.clone"} 1`,
		`storaged_helper_crashes_total{kind="volume.clone"} 1`,
		`storaged_job_cancel_told_seconds_bucket{le="0.005"} 1`,
		`storaged_job_cancel_stopped_seconds_bucket{le="1"} 0`,
		`storaged_job_cancel_stopped_seconds_bucket{le="2"} 1`,
		`storaged_job_estimate_error_log_ratio_count{percent="10"} 2`,
		`storaged_job_estimate_error_log_ratio_count{percent="50"} 2`,
		`storaged_store_updates_total 7`,
		`storaged_events_dropped_total 2`,
		`storaged_log_lines_lost_total 4`,
	} {
		if !strings.Contains(got, "\n"+line+"\n") {
			t.Errorf("there is no line %q", line)
		}
	}
	if strings.Contains(got, `percent="90"`) {
		t.Error("an estimate that was not made is counted")
	}
	if t.Failed() {
		t.Log(got)
	}
}

// Figures of pools are those of the catalog; what was never read has none.
func TestPoolsHaveGauges(t *testing.T) {
	got := text(t, metrics.New(source()))
	for _, line := range []string{
		`storaged_pool_state{pool="images",state="active"} 1`, `storaged_pool_state{pool="images",state="unreachable"} 0`,
		`storaged_pool_state{pool="new",state="inactive"} 1`, `storaged_pool_capacity_bytes{pool="images"} 1000`,
		`storaged_pool_allocation_bytes{pool="images"} 300`, `storaged_pool_available_bytes{pool="images"} 700`,
		`storaged_pool_reserved_bytes{pool="images"} 50`, `storaged_pool_reserved_bytes{pool="new"} 0`,
		`storaged_pool_observed_timestamp_seconds{pool="images"} 1.7e+09`,
	} {
		if !strings.Contains(got, "\n"+line+"\n") {
			t.Errorf("there is no line %q", line)
		}
	}
	if strings.Contains(got, `storaged_pool_capacity_bytes{pool="new"}`) {
		t.Error("a pool that was never read has a size")
	}
	if t.Failed() {
		t.Log(got)
	}
	broken := source()
	broken.Pools = func() ([]record.Pool, error) { return nil, errors.New("the database is closed") }
	if _, err := metrics.New(broken).Text(); err == nil {
		t.Error("pools that cannot be listed are as if there were none")
	}
}

// Every metric of ours is in the manual, by its name.
func TestMetricsAreInTheManual(t *testing.T) {
	manual, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	m := metrics.New(source())
	m.JobEnded(clone(nil))
	m.JobEnded(clone(canceled))
	for line := range strings.Lines(text(t, m)) {
		words := strings.Fields(line)
		if words[1] == "TYPE" && strings.HasPrefix(words[2], "storaged_") && !strings.Contains(string(manual), "`"+words[2]) {
			t.Errorf("nothing is said of %s", words[2])
		}
	}
}

func TestNamesAreAsPrometheusWants(t *testing.T) {
	m := metrics.New(source())
	m.JobEnded(clone(nil))
	m.JobEnded(clone(canceled))
	b, err := m.Text()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.New(bytes.NewReader(b)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestNothingIsCountedTwiceAtAScrape(t *testing.T) {
	m := metrics.New(source())
	m.JobEnded(clone(nil))
	first, second := text(t, m), text(t, m)
	const line = "\nstoraged_jobs_ended_total{kind=\"volume.clone\",outcome=\"succeeded\"} 1\n"
	if !strings.Contains(first, line) || !strings.Contains(second, line) {
		t.Error("a scrape has changed the count")
	}
}
