package record

import "time"

// Limits are the scheduler's.
type Limits struct {
	Running       int              `json:"running"`        // helpers at once, in all
	RunningPool   int              `json:"running_pool"`   // per pool
	RunningDevice int              `json:"running_device"` // per physical device
	Queued        int              `json:"queued"`         // jobs waiting, in all
	Rate          *int64           `json:"rate"`           // bytes per second of all jobs together
	PoolRates     map[string]int64 `json:"pool_rates"`     // and per pool
	PoolRunning   map[string]int   `json:"pool_running"`   // exceptions to RunningPool
	DeviceRates   map[string]int64 `json:"device_rates"`   // by major:minor
	DeviceRunning map[string]int   `json:"device_running"` // exceptions to RunningDevice
}

// Drain is whether new jobs are refused and those that wait are kept waiting,
// so that the daemon comes to rest.
type Drain struct {
	On      bool       `json:"on"`
	Since   *time.Time `json:"since"`
	By      *Owner     `json:"by"`
	Running []int64    `json:"running"` // numbers of the jobs that have begun and not ended
}

// Event is one entry of the event stream.
type Event struct {
	Seq    int64     `json:"seq"`
	Time   time.Time `json:"time"`
	Type   string    `json:"type"` // job.created job.state job.progress job.ended pool.* volume.* reset
	Job    *Job      `json:"job,omitempty"`
	Pool   *Pool     `json:"pool,omitempty"`
	Volume *Volume   `json:"volume,omitempty"`
}
