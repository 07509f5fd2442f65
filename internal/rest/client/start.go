package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/rest/wire"
	"storaged/internal/service"
)

// Start starts a job of a kind on a pool or a volume. r is the request for that
// kind, of package service.
func (c *Client) Start(ctx context.Context, s service.Submit, k record.Kind, on record.Object, r any) (service.Started, error) {
	method, path := wire.Call(k, on.Pool, on.Volume)
	a := newAsk(method, path...)
	if d, ok := r.(operation.DeleteRequest); ok { // a DELETE has no body
		setAll(a.query, "wipe", d.Wipe)
		if d.AcceptLimits {
			a.query.Set("accept_limits", "true")
		}
		setJobOptions(a.query, d.JobOptions)
	} else {
		a.with(r)
	}
	return c.start(ctx, a, s)
}

// RetryJob starts a job like one that has ended.
func (c *Client) RetryJob(ctx context.Context, s service.Submit, job string) (service.Started, error) {
	return c.start(ctx, newAsk(http.MethodPost, "jobs", job, "retry"), s)
}

// start sends a request that starts a job.
func (c *Client) start(ctx context.Context, a *ask, s service.Submit) (service.Started, error) {
	var st service.Started
	var err error
	if s.DryRun {
		err = c.do(ctx, a.under(s), &st.Plan)
	} else {
		err = c.do(ctx, a.under(s), &st.Job)
	}
	return st, err
}

// setJobOptions writes options as the query of a request that has no body.
func setJobOptions(q url.Values, o operation.JobOptions) {
	if o.Limit != nil {
		q.Set("limit", strconv.FormatInt(*o.Limit, 10))
	}
	setAll(q, "priority", string(o.Priority))
	setAll(q, "on_failure", string(o.OnFailure))
	for k, v := range o.Labels {
		q.Add("label", k+"="+v)
	}
}
