package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"storaged/internal/record"
)

// pools collects the pools when it is asked.
type pools struct {
	list func() ([]record.Pool, error)
}

// The figures of a pool are those that were read last. A pool that was never read
// has only a state, and what jobs have reserved.
var (
	poolState      = poolFigure("state", "1 for the state that a pool is in, and 0 for the others.", "state")
	poolCapacity   = poolFigure("capacity_bytes", "Size of a pool, as last read.")
	poolAllocation = poolFigure("allocation_bytes", "Bytes of a pool that are taken, by others than storaged too, as last read.")
	poolAvailable  = poolFigure("available_bytes", "Bytes of a pool that can still be taken, as last read.")
	poolReserved   = poolFigure("reserved_bytes", "Bytes of a pool that live jobs have reserved.")
	poolObserved   = poolFigure("observed_timestamp_seconds", "When the figures of a pool were read.")
)

func poolFigure(name, help string, more ...string) *prometheus.Desc {
	return prometheus.NewDesc("storaged_pool_"+name, help, append([]string{"pool"}, more...), nil)
}

// Describe is prometheus.Collector's.
func (p pools) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{poolState, poolCapacity, poolAllocation, poolAvailable, poolReserved, poolObserved} {
		out <- d
	}
}

// Collect is prometheus.Collector's.
func (p pools) Collect(out chan<- prometheus.Metric) {
	all, err := p.list()
	if err != nil {
		out <- prometheus.NewInvalidMetric(poolState, err)
		return
	}
	for _, pool := range all {
		for _, state := range record.PoolStates() {
			is := 0.0
			if pool.State == state {
				is = 1
			}
			gauge(out, poolState, is, pool.Name, string(state))
		}
		gauge(out, poolReserved, float64(pool.Reserved), pool.Name)
		if pool.Observed == nil {
			continue
		}
		gauge(out, poolCapacity, float64(pool.Capacity), pool.Name)
		gauge(out, poolAllocation, float64(pool.Allocation), pool.Name)
		gauge(out, poolAvailable, float64(pool.Available), pool.Name)
		gauge(out, poolObserved, float64(pool.Observed.UnixNano())/1e9, pool.Name)
	}
}

func gauge(out chan<- prometheus.Metric, d *prometheus.Desc, value float64, labels ...string) {
	out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
}
