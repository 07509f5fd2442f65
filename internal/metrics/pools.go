package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"storaged/internal/record"
)

// Catalog is what is known of pools and volumes.
type Catalog struct {
	Pools   []record.Pool
	Volumes map[string]map[record.VolumeState]int // how many there are, by pool
	Damaged map[string]int                        // how many records cannot be read and are left out, by what they are of
}

// catalog collects it when it is asked.
type catalog struct {
	read func() (Catalog, error)
}

// The figures of a pool are those that were read last. A pool that was never read
// has only a state, and what jobs have reserved.
var (
	poolState      = poolFigure("state", "1 for the state that a pool is in, and 0 for the others.", "state")
	poolCapacity   = poolFigure("capacity_bytes", "Size of a pool, as last read.")
	poolAllocation = poolFigure("allocation_bytes", "Bytes of a pool that are taken, by others than storaged too, as last read.")
	poolAvailable  = poolFigure("available_bytes", "Bytes of a pool that can still be taken, as last read.")
	poolReserved   = poolFigure("reserved_bytes", "Bytes of a pool that live jobs have reserved.")
	poolProvided   = poolFigure("provisioned_bytes", "Sum of the capacities of a pool's volumes, which may be more than the pool has.")
	poolObserved   = poolFigure("observed_timestamp_seconds", "When the figures of a pool were last read, in seconds since 1970: their age is time() less that.")

	thinCapacity     = poolFigure("thin_capacity_bytes", "Size of a thin pool of LVM in a pool, as last read.", "thin_pool")
	thinAllocation   = poolFigure("thin_allocation_bytes", "Bytes of a thin pool that are taken, as last read.", "thin_pool")
	thinMetaCapacity = poolFigure("thin_metadata_capacity_bytes", "Bytes that a thin pool has for its metadata, as last read.", "thin_pool")
	thinMetaTaken    = poolFigure("thin_metadata_allocation_bytes", "Bytes of a thin pool's metadata that are taken, as last read.", "thin_pool")

	damagedRecords = prometheus.NewDesc("storaged_damaged_records", "Records of the database that cannot be read, and of which the other figures say nothing, by what they are of (pool, volume).", []string{"of"}, nil)

	poolVolumes = prometheus.NewDesc("storaged_volumes", "Volumes of a pool, by state (ready, building, incomplete).", []string{"pool", "state"}, nil)
)

func poolFigure(name, help string, more ...string) *prometheus.Desc {
	return prometheus.NewDesc("storaged_pool_"+name, help, append([]string{"pool"}, more...), nil)
}

// Describe is prometheus.Collector's.
func (c catalog) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		poolState, poolCapacity, poolAllocation, poolAvailable, poolReserved, poolProvided, poolObserved,
		thinCapacity, thinAllocation, thinMetaCapacity, thinMetaTaken, poolVolumes, damagedRecords,
	} {
		out <- d
	}
}

// Collect is prometheus.Collector's.
func (c catalog) Collect(out chan<- prometheus.Metric) {
	known, err := c.read()
	if err != nil {
		out <- prometheus.NewInvalidMetric(poolState, err)
		return
	}
	for of, n := range known.Damaged {
		gauge(out, damagedRecords, float64(n), of)
	}
	for pool, states := range known.Volumes {
		for _, state := range record.VolumeStates() {
			gauge(out, poolVolumes, float64(states[state]), pool, string(state))
		}
	}
	pools(out, known.Pools)
}

// pools tells of the pools.
func pools(out chan<- prometheus.Metric, all []record.Pool) {
	for _, pool := range all {
		for _, state := range record.PoolStates() {
			gauge(out, poolState, one(pool.State == state), pool.Name, string(state))
		}
		gauge(out, poolReserved, float64(pool.Reserved), pool.Name)
		if pool.Observed == nil {
			continue
		}
		gauge(out, poolCapacity, float64(pool.Capacity), pool.Name)
		gauge(out, poolAllocation, float64(pool.Allocation), pool.Name)
		gauge(out, poolAvailable, float64(pool.Available), pool.Name)
		gauge(out, poolProvided, float64(pool.Provisioned), pool.Name)
		gauge(out, poolObserved, float64(pool.Observed.UnixNano())/1e9, pool.Name)
		thin(out, pool)
	}
}

// thin tells of the thin pools of a pool.
func thin(out chan<- prometheus.Metric, pool record.Pool) {
	for _, t := range pool.ThinPools {
		gauge(out, thinCapacity, float64(t.Capacity), pool.Name, t.Name)
		gauge(out, thinAllocation, float64(t.Allocation), pool.Name, t.Name)
		gauge(out, thinMetaCapacity, float64(t.MetadataCapacity), pool.Name, t.Name)
		gauge(out, thinMetaTaken, float64(t.MetadataAllocation), pool.Name, t.Name)
	}
}

func gauge(out chan<- prometheus.Metric, d *prometheus.Desc, value float64, labels ...string) {
	out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
}
