package contract

import (
	"encoding/json"
	"errors"
	"math"
	"regexp"
	"strconv"

	"github.com/google/uuid"

	"storaged/internal/record"
)

// Check refuses what needs no catalog to be seen.
func (r *PoolDefine) Check() error {
	if err := record.CheckNameOf(`field "name"`, r.Name); err != nil {
		return err
	}
	if id, err := uuid.Parse(r.UUID); r.UUID != "" && (err != nil || id.String() != r.UUID) {
		return record.Errorf(record.Invalid, `field "uuid" is no uuid in lower case: %s`, record.Short(r.UUID))
	}
	if err := r.Source.Check(); err != nil {
		return err
	}
	return r.JobOptions.Check()
}

// Check refuses what needs no catalog to be seen.
func (r *SourcesFind) Check() error {
	if r.Type == "" {
		return record.Errorf(record.Invalid, `field "type" is missing: of which pools`)
	}
	return r.Source.Check()
}

// Check refuses what needs no catalog to be seen.
func (r *PoolPatch) Check() error { return nil }

// Check refuses what needs no catalog to be seen.
func (r *VolumePatch) Check() error {
	if r.Description != nil && len(*r.Description) > record.MaxDescription {
		return record.Errorf(record.Invalid, `field "description" is longer than %d bytes`, record.MaxDescription)
	}
	return nil
}

// Check refuses what needs no catalog to be seen.
func (r *JobPatch) Check() error {
	if _, err := Rate("limit", r.Limit); err != nil {
		return err
	}
	if r.Priority != nil {
		if err := record.OneOf("priority", *r.Priority, record.Priorities()...); err != nil {
			return err
		}
	}
	for k, v := range r.Labels {
		value := ""
		if v != nil {
			value = *v
		}
		if err := record.CheckLabel(k, value); err != nil {
			return err
		}
	}
	return nil
}

// Check refuses what needs no catalog to be seen.
func (r *JobCancel) Check() error { return nil }

// Check refuses what needs no catalog to be seen.
func (r *JobRetry) Check() error {
	_, err := Rate("limit", r.Limit)
	return err
}

// Check refuses what needs no catalog to be seen.
func (r *DrainSet) Check() error {
	if r.On == nil {
		return record.Errorf(record.Invalid, `field "on" is missing: true begins a drain, false takes it back`)
	}
	return nil
}

// Rate reads the merge-patch of a rate in bytes per second; absent and null
// are nil. field names it in the error.
func Rate(field string, raw json.RawMessage) (*int64, error) {
	text := string(raw)
	if text == "" || text == "null" {
		return nil, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 1 {
		return nil, record.Errorf(record.Invalid, "field %q is %s, not null or a number of bytes per second", field, record.Short(text))
	}
	return &n, nil
}

var deviceForm = regexp.MustCompile(`^(0|[1-9][0-9]{0,9}):(0|[1-9][0-9]{0,9})$`)

func checkDevice(field, name string) error {
	if !deviceForm.MatchString(name) {
		return record.Errorf(record.Invalid, "field %q: %s is no device as MAJOR:MINOR", field, record.Short(name))
	}
	return nil
}

// Check refuses what needs no catalog to be seen.
func (r *LimitsPatch) Check() error {
	if _, err := Rate("rate", r.Rate); err != nil {
		return err
	}
	return errors.Join(
		number("running", r.Running, record.MaxRunning), number("running_pool", r.RunningPool, record.MaxRunning),
		number("running_device", r.RunningDevice, record.MaxRunning), number("queued", r.Queued, record.MaxQueued),
		exceptions("pool_rates", r.PoolRates, math.MaxInt64, record.CheckNameOf),
		exceptions("pool_running", r.PoolRunning, record.MaxRunning, record.CheckNameOf),
		exceptions("device_rates", r.DeviceRates, math.MaxInt64, checkDevice),
		exceptions("device_running", r.DeviceRunning, record.MaxRunning, checkDevice))
}

// number refuses a limit below 1 or above most; nil is no change.
func number[T int | int64](field string, n *T, most int64) error {
	if n == nil || *n >= 1 && int64(*n) <= most {
		return nil
	}
	return record.Errorf(record.Invalid, "field %q is %d, not 1 to %d", field, *n, most)
}

func exceptions[T int | int64](field string, by map[string]*T, most int64, name func(field, name string) error) error {
	if len(by) > record.MaxExceptions {
		return record.Errorf(record.Invalid, "field %q has more than %d members", field, record.MaxExceptions)
	}
	for k, n := range by {
		if err := errors.Join(name(field, k), number(field+"."+k, n, most)); err != nil {
			return err
		}
	}
	return nil
}

// nothing is the body of a call that takes no fields.
type Nothing struct{}

// Check refuses what needs no catalog to be seen.
func (*Nothing) Check() error { return nil }
