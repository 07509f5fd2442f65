package rest

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"storaged/internal/record"
	"storaged/internal/rest/wire"
	"storaged/internal/service"
)

// starting are the keys of every request that starts a job.
var starting = []string{"dry_run", "lock_wait"}

// verbs are the calls that start a job with what their body says: one row a kind.
func verbs() []route {
	return []route{
		onPool(record.PoolBuild, Service.BuildPool),
		onPool(record.PoolStart, Service.StartPool),
		onPool(record.PoolStop, Service.StopPool),
		onPool(record.PoolRefresh, Service.RefreshPool),
		onPool(record.PoolVerify, Service.VerifyPool),
		onPool(record.PoolEvacuate, Service.EvacuatePool),
		onPool(record.PoolDelete, Service.DeletePool),
		onPool(record.VolumeCreate, Service.CreateVolume),
		onVolume(record.VolumeClone, Service.CloneVolume),
		onVolume(record.VolumeResize, Service.ResizeVolume),
		onVolume(record.VolumeWipe, Service.WipeVolume),
		onVolume(record.VolumeTrim, Service.TrimVolume),
		onVolume(record.VolumeVerify, Service.VerifyVolume),
		onVolume(record.VolumeMove, Service.MoveVolume),
	}
}

func onPool[T any, P checks[T]](k record.Kind, start func(Service, context.Context, service.Submit, string, T) (service.Started, error)) route {
	return verb[T, P](k, func(c *call, s service.Submit, r T) (service.Started, error) {
		return start(c.svc, c.ctx(), s, c.pool(), r)
	})
}

func onVolume[T any, P checks[T]](k record.Kind, start func(Service, context.Context, service.Submit, string, string, T) (service.Started, error)) route {
	return verb[T, P](k, func(c *call, s service.Submit, r T) (service.Started, error) {
		return start(c.svc, c.ctx(), s, c.pool(), c.volume(), r)
	})
}

func verb[T any, P checks[T]](k record.Kind, start func(*call, service.Submit, T) (service.Started, error)) route {
	method, path := wire.Call(k, "{pool}", "{volume}")
	return route{method, "/v1/" + strings.Join(path, "/"), record.MemberRole, starting, true, func(c *call) error {
		r, s, err := request[T, P](c)
		if err != nil {
			return err
		}
		st, err := start(c, s, r)
		return c.started(st, err)
	}, false}
}

// started answers with the job that was started, which it waits for if the
// client prefers so, or with the plan.
func (c *call) started(st service.Started, err error) error {
	switch {
	case err != nil:
		return err
	case st.Plan != nil:
		return c.answer(http.StatusOK, *st.Plan)
	case st.Job == nil:
		panic("internal error: api: the service started neither a job nor a plan")
	}
	j, status := *st.Job, http.StatusAccepted
	c.job = j.Number
	c.Header().Set("Location", "/v1/jobs/"+url.PathEscape(j.ID))
	if wait := c.preferredWait(); wait > 0 {
		c.Header().Set("Preference-Applied", "wait")
		j = c.await(j, wait)
		if j.State.Terminal() {
			status = http.StatusOK
		}
	}
	return c.answer(status, j)
}

// await gives a job when it has ended or the time is over; when it cannot be
// waited for, as it was.
func (c *call) await(j record.Job, timeout time.Duration) record.Job {
	ctx, done := c.patient()
	defer done()
	later, err := c.svc.WaitJob(ctx, j.ID, timeout)
	if err != nil {
		return j
	}
	return later
}
