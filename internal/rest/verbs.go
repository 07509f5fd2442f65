package rest

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/rest/wire"
	"storaged/internal/service/contract"
)

// starting are the keys of every request that starts a job.
var starting = []string{"dry_run", "lock_wait"}

// verbs are the calls that start a job with what their body says: one for each
// kind, but those that have another call, since they have a content, or no body.
func verbs() (rows []route) {
	for _, k := range operation.Kinds() {
		switch k {
		case record.VolumeUpload, record.VolumeDownload, record.VolumeDelete, record.SnapshotDelete:
			continue
		}
		method, path := wire.Call(k, "{pool}", "{volume}")
		rows = append(rows, route{method, "/v1/" + strings.Join(path, "/"), record.MemberRole, starting, true, func(c *call) error { return c.verb(k) }, false})
	}
	return rows
}

// verb starts a job of a kind.
func (c *call) verb(k record.Kind) error {
	r, ok := operation.NewRequest(k)
	if !ok {
		panic(fmt.Sprintf("internal error: no request of kind %q", k))
	}
	s, err := c.request(r)
	if err != nil {
		return err
	}
	if of, ok := r.(operation.OfSnapshot); ok {
		of.Named(c.snapshot())
	}
	return c.started(c.svc.Start(c.ctx(), s, c.pool(), c.volume(), r))
}

// started answers with the job that was started, which it waits for if the
// client prefers so, or with the plan, or that none is needed.
func (c *call) started(st contract.Started, err error) error {
	switch {
	case err != nil:
		return err
	case st.Plan != nil:
		return c.answer(http.StatusOK, *st.Plan)
	case st.Unchanged != nil:
		return c.answer(http.StatusOK, *st.Unchanged)
	case st.Job == nil:
		panic("internal error: rest: the service started neither a job nor a plan")
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
