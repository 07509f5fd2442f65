package store

import (
	"errors"
)

// Limits are those of the scheduler that were set at run time. nil leaves what
// the config file says; a Rate of 0 is none.
type Limits struct {
	Running       *int             `json:"running,omitempty"`
	RunningPool   *int             `json:"running_pool,omitempty"`
	RunningDevice *int             `json:"running_device,omitempty"`
	Queued        *int             `json:"queued,omitempty"`
	Rate          *int64           `json:"rate,omitempty"` // bytes per second, as all rates
	PoolRates     map[string]int64 `json:"pool_rates,omitempty"`
	PoolRunning   map[string]int   `json:"pool_running,omitempty"`
	DeviceRates   map[string]int64 `json:"device_rates,omitempty"`
	DeviceRunning map[string]int   `json:"device_running,omitempty"`
}

// Limits gives what was set at run time; nothing, where nothing was.
func (t *Tx) Limits() (*Limits, error) {
	l := new(Limits)
	if err := t.load(bucketMeta, keyLimits, l); err != nil && !errors.Is(err, ErrNotFound) {
		return nil, err
	}
	return l, nil
}

// PutLimits stores what was set at run time.
func (t *Tx) PutLimits(l *Limits) error { return t.save(bucketMeta, keyLimits, l) }
