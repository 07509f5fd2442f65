// Package metrics counts what jobs do and gives the counts to Prometheus
// (GET /metrics). Nothing is kept: counters begin at 0 with the daemon. A job
// counts when it has ended, however short it was; live jobs are counted at the
// time of the scrape. Labels are kinds, states, pools and the like, whose number does
// not grow with that of volumes and jobs.
package metrics

import (
	"bytes"
	"fmt"
	"math"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/common/expfmt"

	"storaged/internal/record"
	"storaged/internal/supervisor"
)

// Source is where figures come from that somebody else counts. Its functions
// are called at each scrape, from any goroutine.
type Source struct {
	Version   string
	Live      func() map[supervisor.Tally]supervisor.Census
	Catalog   func() (Catalog, error) // as it is: nothing is read of a pool
	Writable  func() bool             // the records can be written
	Warnings  func() int              // that the daemon's status has
	Updates   func() int64            // transactions of the store made durable
	Dropped   func() int64            // events that slow readers did not get
	LinesLost func() int64            // lines of the log that could not be written
}

// Metrics is the registry of one daemon. Its methods may be called
// concurrently.
type Metrics struct {
	registry *prometheus.Registry

	ended      *prometheus.CounterVec
	queued     *prometheus.HistogramVec
	duration   *prometheus.HistogramVec
	lockWaits  *prometheus.CounterVec
	crashes    *prometheus.CounterVec
	bytes      *prometheus.CounterVec
	cancelSent prometheus.Histogram
	stopped    prometheus.Histogram
	errors     *prometheus.HistogramVec
}

// Bounds of the histograms, in seconds. Jobs take from a millisecond to days;
// a cancel is promised to be sent in 0.5 and to stop in 2 seconds.
var (
	durations = []float64{0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3600, 4 * 3600, 24 * 3600}
	latencies = []float64{0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 60}

	// ln(1.1), ln(1.25), ln(1.5), ln(2), ln(3), ln(5), ln(10)
	ratios = []float64{math.Log(1.1), math.Log(1.25), math.Log(1.5), math.Log(2), math.Log(3), math.Log(5), math.Log(10)}
)

// deciles are those of the work at which the error of the estimate is shown.
var deciles = map[int]string{1: "10", 5: "50", 9: "90"}

// New makes a registry.
func New(src Source) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "storaged_jobs_ended_total", Help: "Jobs that have ended, by kind and outcome (succeeded, failed, canceled, and refused for a failure that needs nobody but who asked).",
		}, []string{"kind", "outcome"}),
		queued: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "storaged_job_queue_seconds", Help: "Time from a job's submission to its start, or to its end if it never started.", Buckets: durations,
		}, []string{"kind"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "storaged_job_duration_seconds", Help: "Time from a job's start to its end, pauses included.", Buckets: durations,
		}, []string{"kind", "outcome"}),
		lockWaits: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "storaged_job_lock_waits_total", Help: "Ended jobs that did not get their locks at once.",
		}, []string{"kind"}),
		crashes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "storaged_helper_crashes_total", Help: "Helpers that died without a result and were not killed by storaged.",
		}, []string{"kind"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "storaged_job_bytes_total", Help: "Bytes that ended jobs have read and written, by kind and direction (read, written).",
		}, []string{"kind", "direction"}),
		cancelSent: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "storaged_job_cancel_told_seconds", Help: "Time from the request to cancel a running job until its helper was told.", Buckets: latencies,
		}),
		stopped: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "storaged_job_cancel_stopped_seconds", Help: "Time from the request to cancel a running job until its I/O had stopped.", Buckets: latencies,
		}),
		errors: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "storaged_job_estimate_error_log_ratio", Help: "|ln(actual/predicted remaining time)| of jobs that succeeded, at percent of their work.", Buckets: ratios,
		}, []string{"percent"}),
	}
	m.registry.MustRegister(m.ended, m.queued, m.duration, m.lockWaits, m.crashes, m.bytes, m.cancelSent, m.stopped, m.errors,
		live{src.Live}, catalog{src.Catalog}, build(src.Version),
		figure("storaged_state_writable", "1 if the records can be written, and 0 if not: then new jobs are refused.", func() float64 { return one(src.Writable()) }),
		figure("storaged_warnings", "Troubles with the daemon itself and what it has recorded, which storagedctl status names.", func() float64 { return float64(src.Warnings()) }),
		total("storaged_store_updates_total", "Transactions of the records made durable.", src.Updates),
		total("storaged_events_dropped_total", "Events that slow readers of the event stream did not get.", src.Dropped),
		total("storaged_log_lines_lost_total", "Lines of the log that could not be written, as nobody read them any more.", src.LinesLost),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.expect()
	return m
}

// expect has the counters that alerts are about begin at 0: of a series that appears
// with 1 Prometheus does not see that it has grown.
func (m *Metrics) expect() {
	for _, percent := range deciles {
		m.errors.WithLabelValues(percent)
	}
	for _, k := range record.Kinds() {
		m.crashes.WithLabelValues(string(k))
		m.lockWaits.WithLabelValues(string(k))
		m.ended.WithLabelValues(string(k), refused)
		for _, s := range record.States() {
			if s.Terminal() {
				m.ended.WithLabelValues(string(k), string(s))
			}
		}
	}
}

// refused is the outcome of a job that has failed, and needs nobody but who asked for it.
const refused = "refused"

// build is 1, with what there is to know of the program.
func build(version string) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "storaged_build_info", Help: "1, with the version of the daemon and of the Go that it was built with.",
		ConstLabels: prometheus.Labels{"version": version, "goversion": runtime.Version()},
	}, func() float64 { return 1 })
}

// figure is a gauge that somebody else keeps.
func figure(name, help string, read func() float64) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, read)
}

// one is 1 for yes and 0 for no.
func one(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// total is a counter that somebody else keeps.
func total(name, help string, count func() int64) prometheus.Collector {
	return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return float64(count()) })
}

// moved counts the bytes of a job, where they are known.
func (m *Metrics) moved(kind, direction string, n *int64) {
	if n != nil {
		m.bytes.WithLabelValues(kind, direction).Add(float64(*n))
	}
}

// JobEnded counts a job.
func (m *Metrics) JobEnded(o supervisor.Observation) {
	kind, outcome := string(o.Job.Kind), string(o.Job.State)
	if o.Job.OnlyRefused() {
		outcome = refused
	}
	m.ended.WithLabelValues(kind, outcome).Inc()
	m.queued.WithLabelValues(kind).Observe(o.Queued.Seconds())
	if o.Job.Started != nil {
		m.duration.WithLabelValues(kind, outcome).Observe(o.Job.ElapsedS)
	}
	if o.LockWaited {
		m.lockWaits.WithLabelValues(kind).Inc()
	}
	if s := o.Job.Stats; s != nil {
		m.moved(kind, "read", s.BytesRead)
		m.moved(kind, "written", s.BytesWritten)
	}
	if o.CancelSent != nil {
		m.cancelSent.Observe(o.CancelSent.Seconds())
	}
	if o.Stopped != nil && o.Job.State == record.Canceled {
		m.stopped.Observe(o.Stopped.Seconds())
	}
	for i, err := range o.Errors {
		if percent := deciles[i]; err != nil && percent != "" {
			m.errors.WithLabelValues(percent).Observe(math.Abs(*err))
		}
	}
}

// HelperDied counts the death of a helper of such a job.
func (m *Metrics) HelperDied(k record.Kind) { m.crashes.WithLabelValues(string(k)).Inc() }

// Text gives all figures in the text format of Prometheus, version 0.0.4.
func (m *Metrics) Text() ([]byte, error) {
	families, err := m.registry.Gather()
	if err != nil {
		return nil, fmt.Errorf("cannot gather metrics: %w", err)
	}
	var out bytes.Buffer
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(&out, f); err != nil {
			return nil, fmt.Errorf("cannot write metrics: %w", err)
		}
	}
	return out.Bytes(), nil
}

// live collects the live jobs when it is asked.
type live struct {
	count func() map[supervisor.Tally]supervisor.Census
}

var (
	liveJobs    = prometheus.NewDesc("storaged_jobs", "Jobs that have not ended, by kind and state.", []string{"kind", "state"}, nil)
	liveStalled = prometheus.NewDesc("storaged_jobs_stalled", "Running jobs that make no progress though they should.", []string{"kind"}, nil)
	liveRate    = prometheus.NewDesc("storaged_jobs_rate_bytes_per_second", "Bytes per second that running jobs work off at present, together.", []string{"kind"}, nil)
	liveStuck   = prometheus.NewDesc("storaged_helpers_stuck", "Helpers that do not end although they were killed: their processes wait in the kernel.", nil, nil)
)

// Describe is prometheus.Collector's.
func (l live) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{liveJobs, liveStalled, liveRate, liveStuck} {
		out <- d
	}
}

// Collect is prometheus.Collector's.
func (l live) Collect(out chan<- prometheus.Metric) {
	kinds, stuck := map[record.Kind]supervisor.Census{}, 0
	for t, n := range l.count() {
		gauge(out, liveJobs, float64(n.Jobs), string(t.Kind), string(t.State))
		sum := kinds[t.Kind]
		sum.Stalled, sum.Rate = sum.Stalled+n.Stalled, sum.Rate+n.Rate
		kinds[t.Kind] = sum
		stuck += n.Stuck
	}
	for k, n := range kinds {
		gauge(out, liveStalled, float64(n.Stalled), string(k))
		gauge(out, liveRate, float64(n.Rate), string(k))
	}
	gauge(out, liveStuck, float64(stuck))
}
