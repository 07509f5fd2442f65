package client

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"time"

	"storaged/internal/record"
	"storaged/internal/rest/wire"
	"storaged/internal/service/contract"
)

// Jobs gives one page of the jobs that f selects, newest first.
func (c *Client) Jobs(ctx context.Context, f contract.JobFilter, p contract.Page) (contract.List[record.Job], error) {
	a := newAsk(http.MethodGet, "jobs").selecting(f)
	if p.Limit != 0 {
		a.query.Set("limit", strconv.Itoa(p.Limit))
	}
	setAll(a.query, "cursor", p.Cursor)
	return fetch[contract.List[record.Job]](ctx, c, a)
}

// selecting says which jobs are asked for.
func (a *ask) selecting(f contract.JobFilter) *ask {
	setAll(a.query, "state", f.States...)
	setAll(a.query, "kind", f.Kinds...)
	setAll(a.query, "pool", f.Pools...)
	setAll(a.query, "volume", f.Volumes...)
	setAll(a.query, "owner", f.Owners...)
	setAll(a.query, "label", f.Labels...)
	setAll(a.query, "idempotency_key", f.IdempotencyKey)
	setTime(a, "since", f.Since)
	setTime(a, "until", f.Until)
	return a
}

func setTime(a *ask, key string, t time.Time) {
	if !t.IsZero() {
		a.query.Set(key, t.UTC().Format(time.RFC3339Nano))
	}
}

// Job gives one job.
func (c *Client) Job(ctx context.Context, job string) (record.Job, error) {
	return fetch[record.Job](ctx, c, newAsk(http.MethodGet, "jobs", job))
}

// WaitJob returns when the job has ended or timeout is over, whichever is
// first, with the job as it is then.
func (c *Client) WaitJob(ctx context.Context, job string, timeout time.Duration) (record.Job, error) {
	deadline := time.Now().Add(timeout)
	for {
		a := newAsk(http.MethodGet, "jobs", job, "wait")
		a.query.Set("timeout", seconds(min(max(time.Until(deadline), 0), wire.MaxWait)))
		j, err := fetch[record.Job](ctx, c, a)
		if err != nil || j.State.Terminal() || time.Until(deadline) <= 0 {
			return j, err
		}
	}
}

// PatchJob changes properties of a job.
func (c *Client) PatchJob(ctx context.Context, job string, r contract.JobPatch) (record.Job, error) {
	return fetch[record.Job](ctx, c, newAsk(http.MethodPatch, "jobs", job).with(r))
}

// ForgetJob removes the record of an ended job, but for the trace that it
// gives; nil where nothing stays.
func (c *Client) ForgetJob(ctx context.Context, job string) (*record.Job, error) {
	var trace record.Job
	if err := c.do(ctx, newAsk(http.MethodDelete, "jobs", job), &trace); err != nil || trace.ID == "" {
		return nil, err
	}
	return &trace, nil
}

// CancelJob cancels a job.
func (c *Client) CancelJob(ctx context.Context, job string, r contract.JobCancel) (record.Job, error) {
	return fetch[record.Job](ctx, c, newAsk(http.MethodPost, "jobs", job, "cancel").with(r))
}

// PauseJob pauses a job.
func (c *Client) PauseJob(ctx context.Context, job string) (record.Job, error) {
	return fetch[record.Job](ctx, c, newAsk(http.MethodPost, "jobs", job, "pause"))
}

// ResumeJob is the opposite of PauseJob.
func (c *Client) ResumeJob(ctx context.Context, job string) (record.Job, error) {
	return fetch[record.Job](ctx, c, newAsk(http.MethodPost, "jobs", job, "resume"))
}

// CancelJobs cancels all jobs that are selected.
func (c *Client) CancelJobs(ctx context.Context, sel contract.Selection, r contract.JobCancel) (contract.Bulk, error) {
	return c.bulk(ctx, newAsk(http.MethodPost, "jobs", "cancel").with(r), sel)
}

// PauseJobs pauses all jobs that are selected.
func (c *Client) PauseJobs(ctx context.Context, sel contract.Selection) (contract.Bulk, error) {
	return c.bulk(ctx, newAsk(http.MethodPost, "jobs", "pause"), sel)
}

// ResumeJobs is the opposite of PauseJobs.
func (c *Client) ResumeJobs(ctx context.Context, sel contract.Selection) (contract.Bulk, error) {
	return c.bulk(ctx, newAsk(http.MethodPost, "jobs", "resume"), sel)
}

// PatchJobs changes properties of all jobs that are selected.
func (c *Client) PatchJobs(ctx context.Context, sel contract.Selection, r contract.JobPatch) (contract.Bulk, error) {
	return c.bulk(ctx, newAsk(http.MethodPatch, "jobs").with(r), sel)
}

// ForgetJobs removes the records of all jobs that are selected.
func (c *Client) ForgetJobs(ctx context.Context, sel contract.Selection) (contract.Bulk, error) {
	return c.bulk(ctx, newAsk(http.MethodDelete, "jobs"), sel)
}

func (c *Client) bulk(ctx context.Context, a *ask, sel contract.Selection) (contract.Bulk, error) {
	a.selecting(sel.JobFilter)
	a.set("dry_run", sel.DryRun)
	return fetch[contract.Bulk](ctx, c, a)
}

// JobLog opens the job's log as it is now; the caller closes it.
func (c *Client) JobLog(ctx context.Context, job string) (io.ReadCloser, error) {
	resp, err := c.open(ctx, newAsk(http.MethodGet, "jobs", job, "log"))
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}
