package metrics_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"storaged/internal/metrics"
	"storaged/internal/record"
	"storaged/internal/supervisor"
)

func ptr[T any](v T) *T { return &v }

func source() metrics.Source {
	return metrics.Source{
		Version: "1.2.3",
		Live: func() map[supervisor.Tally]supervisor.Census {
			return map[supervisor.Tally]supervisor.Census{
				{Kind: record.VolumeClone, State: record.Running}:   {Jobs: 3, Stalled: 1, Rate: 500},
				{Kind: record.VolumeClone, State: record.Canceling}: {Jobs: 1, Stuck: 1},
			}
		},
		Catalog: func() (metrics.Catalog, error) {
			pools := []record.Pool{
				{Name: "images", State: record.PoolActive, Capacity: 1000, Allocation: 300, Available: 700, Reserved: 50, Provisioned: 2000, Observed: ptr(time.Unix(1700000000, 0)), ThinPools: []record.ThinPool{{Name: "tp", Capacity: 400, Allocation: 100, MetadataCapacity: 40, MetadataAllocation: 30}}},
				{Name: "new", State: record.PoolInactive},
			}
			volumes := map[string]map[record.VolumeState]int{"images": {record.VolumeReady: 12, record.VolumeIncomplete: 1}, "new": {}}
			return metrics.Catalog{Pools: pools, Volumes: volumes, Damaged: map[string]int{"pool": 0, "volume": 2}}, nil
		},
		Writable:  func() bool { return true },
		Warnings:  func() int { return 5 },
		Updates:   func() int64 { return 7 },
		Dropped:   func() int64 { return 2 },
		LinesLost: func() int64 { return 4 },
	}
}

// clone is a clone that succeeded, or what change makes of it.
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
	o.Job.State, o.Errors, o.LockWaited = record.Canceled, nil, true
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
	m.HelperDied(record.VolumeClone)
	m.JobEnded(clone(func(o *supervisor.Observation) { // never started
		o.Job.State, o.Job.Started, o.Job.Stats, o.Errors = record.Canceled, nil, nil, nil
	}))
	for _, code := range []record.Code{record.Busy, record.IO} {
		m.JobEnded(supervisor.Observation{Job: record.Job{Kind: record.VolumeTrim, State: record.Failed, Error: record.Errorf(code, "no")}})
	}
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
		`storaged_jobs_stalled{kind="volume.clone"} 1`,
		`storaged_jobs_rate_bytes_per_second{kind="volume.clone"} 500`,
		`storaged_helpers_stuck 1`,
		`storaged_jobs_ended_total{kind="volume.trim",outcome="refused"} 1`,
		`storaged_jobs_ended_total{kind="volume.trim",outcome="failed"} 1`,
		`storaged_jobs_ended_total{kind="pool.start",outcome="refused"} 0`,
		`storaged_jobs_ended_total{kind="pool.start",outcome="failed"} 0`, // so that the first one is seen
		`storaged_helper_crashes_total{kind="pool.start"} 0`,
		`storaged_state_writable 1`,
		`storaged_warnings 5`,
		`storaged_build_info{goversion="` + runtime.Version() + `",version="1.2.3"} 1`,
		`storaged_store_updates_total 7`,
		`storaged_events_dropped_total 2`,
		`storaged_log_lines_lost_total 4`,
	} {
		if !strings.Contains(got, "\n"+line+"\n") {
			t.Errorf("there is no line %q", line)
		}
	}
	if !strings.Contains(got, `storaged_job_estimate_error_log_ratio_count{percent="90"} 0`) {
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
		`storaged_pool_provisioned_bytes{pool="images"} 2000`,
		`storaged_pool_observed_timestamp_seconds{pool="images"} 1.7e+09`,
		`storaged_pool_thin_capacity_bytes{pool="images",thin_pool="tp"} 400`, `storaged_pool_thin_allocation_bytes{pool="images",thin_pool="tp"} 100`,
		`storaged_pool_thin_metadata_capacity_bytes{pool="images",thin_pool="tp"} 40`, `storaged_pool_thin_metadata_allocation_bytes{pool="images",thin_pool="tp"} 30`,
		`storaged_volumes{pool="images",state="ready"} 12`, `storaged_volumes{pool="images",state="incomplete"} 1`,
		`storaged_volumes{pool="images",state="building"} 0`, `storaged_volumes{pool="new",state="ready"} 0`,
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
	broken.Catalog = func() (metrics.Catalog, error) { return metrics.Catalog{}, errors.New("the database is closed") }
	if _, err := metrics.New(broken).Text(); err == nil {
		t.Error("pools and volumes that cannot be listed are as if there were none")
	}
}

var update = flag.Bool("update", false, "write the table of metrics in docs/operations.md anew")

// TestTableOfMetricsIsFresh holds the table in the manual against what there is.
func TestTableOfMetricsIsFresh(t *testing.T) {
	const path = "../../docs/operations.md"
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- metrics -->\n", "<!-- /metrics -->\n"
	before, rest, ok := strings.Cut(string(b), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no marks for the metrics", path)
	}
	text := before + begin + table(t) + end + after
	if text == string(b) {
		return
	}
	if !*update {
		t.Fatalf("%s is stale: run go test ./internal/metrics -run Fresh -update", path)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// table prints all metrics of ours with their labels.
func table(t *testing.T) string {
	m := metrics.New(source())
	m.JobEnded(clone(nil))
	m.JobEnded(clone(canceled))
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text(t, m)))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString("| metric | type | what it is |\n|---|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(families)) {
		f := families[name]
		if !strings.HasPrefix(name, "storaged_") {
			continue
		}
		var labels []string
		for _, l := range f.Metric[0].Label {
			labels = append(labels, l.GetName())
		}
		if len(labels) > 0 {
			name += "{" + strings.Join(labels, ",") + "}"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", name, strings.ToLower(f.GetType().String()), strings.ReplaceAll(strings.TrimSuffix(f.GetHelp(), "."), "|", `\|`))
	}
	return b.String()
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
