package rest

import (
	"storaged/internal/record"
	"storaged/internal/service"
)

// The whole* functions give a value whose lists and maps are there even when
// they are empty: [] and {} in JSON, never null. They change copies only; what
// the service handed out stays as it is.

func fillSlice[T any](s *[]T) {
	if *s == nil {
		*s = []T{}
	}
}

func fillMap[V any](m *map[string]V) {
	if *m == nil {
		*m = map[string]V{}
	}
}

func wholeJob(j record.Job) record.Job {
	fillSlice(&j.Objects)
	fillSlice(&j.WaitingOn)
	fillSlice(&j.Interruptible)
	fillSlice(&j.PauseReasons)
	fillSlice(&j.Changes)
	fillSlice(&j.Warnings)
	fillMap(&j.Labels)
	if j.Helper != nil {
		h := *j.Helper
		fillSlice(&h.Argv)
		j.Helper = &h
	}
	if j.Stats != nil {
		s := *j.Stats
		fillSlice(&s.Phases)
		j.Stats = &s
	}
	return j
}

func wholeVolume(v record.Volume) record.Volume {
	fillSlice(&v.Children)
	return v
}

func wholePlan(p service.Plan) service.Plan {
	fillSlice(&p.Objects)
	fillSlice(&p.Argv)
	fillSlice(&p.WaitingOn)
	return p
}

func wholeLimits(l record.Limits) record.Limits {
	fillMap(&l.PoolRates)
	fillMap(&l.PoolRunning)
	fillMap(&l.DeviceRates)
	fillMap(&l.DeviceRunning)
	return l
}

func wholeStatus(s service.Status) service.Status {
	fillMap(&s.Jobs)
	fillMap(&s.Pools)
	fillMap(&s.Paths)
	fillSlice(&s.Recovered)
	fillSlice(&s.Helpers)
	fillSlice(&s.Warnings)
	s.Limits = wholeLimits(s.Limits)
	s.Drain = wholeDrain(s.Drain)
	return s
}

func wholeDrain(d record.Drain) record.Drain {
	fillSlice(&d.Running)
	return d
}

func wholePool(p record.Pool) record.Pool {
	fillSlice(&p.Devices)
	return p
}

func wholeProperties(p record.Capabilities) record.Capabilities {
	fillSlice(&p.PoolVerbs)
	fillSlice(&p.VolVerbs)
	fillSlice(&p.Formats)
	fillSlice(&p.Algorithms)
	fillSlice(&p.Needs)
	return p
}
