package client

import (
	"context"
	"encoding/json"
	"net/http"

	"storaged/internal/operation"
	"storaged/internal/rest/wire"
	"storaged/internal/service/contract"
)

// Start starts a job: what is asked for is done to the pool, or to the volume where
// one is named; a snapshot that is there is named as VOLUME@NAME. A content is uploaded from, or downloaded to, a regular file that is
// open; see Upload and Download for streams. The daemon hands it on to the job's
// helper: the caller may close it when this returns. An upload takes all of its file,
// wherever that stands, or what comes behind that which it continues; a download has
// the content, and its length, when the job has succeeded.
func (c *Client) Start(ctx context.Context, s contract.Submit, pool, volume string, r operation.Request) (contract.Started, error) {
	switch r := r.(type) {
	case *operation.UploadRequest:
		return c.lend(ctx, askToUpload(http.MethodPost, pool, volume, *r).part(r.Offset, r.Length), s, r.Data.File)
	case *operation.DownloadRequest:
		a := askToDownload(http.MethodPost, pool, volume, *r).part(r.Offset, r.Length)
		a.query.Set("direction", "download")
		return c.lend(ctx, a, s, r.Data.File)
	}
	method, path := wire.Call(operation.KindOf(r), pool, volume)
	a := newAsk(method, path...).with(r)
	if d, ok := r.(*operation.DeleteRequest); ok { // a DELETE has no body
		a.with(nil)
		setAll(a.query, "wipe", d.Wipe)
		a.set("accept_limits", d.AcceptLimits)
		a.set("missing_ok", d.MissingOK)
		a.set("with_snapshots", d.WithSnapshots)
		a.options(d.JobOptions)
	}
	if d, ok := r.(*operation.SnapshotDeleteRequest); ok {
		a.with(nil)
		a.options(d.JobOptions)
	}
	return c.start(ctx, a, s)
}

// RetryJob starts a job like one that has ended.
func (c *Client) RetryJob(ctx context.Context, s contract.Submit, job string, r contract.JobRetry) (contract.Started, error) {
	a := newAsk(http.MethodPost, "jobs", job, "retry")
	a.with(r)
	return c.start(ctx, a, s)
}

// start sends a request that starts a job.
func (c *Client) start(ctx context.Context, a *ask, s contract.Submit) (contract.Started, error) {
	var st contract.Started
	err := c.do(ctx, a.under(s), &begun{&st, s.DryRun})
	return st, err
}

// begun is the answer to a request that starts a job, or plans it.
type begun struct {
	*contract.Started
	planned bool
}

// UnmarshalJSON puts it where it belongs.
func (a *begun) UnmarshalJSON(b []byte) error {
	var is struct {
		Changed *bool `json:"changed"`
	}
	if err := json.Unmarshal(b, &is); err != nil {
		return err
	}
	switch {
	case is.Changed != nil:
		return json.Unmarshal(b, &a.Unchanged)
	case a.planned:
		return json.Unmarshal(b, &a.Plan)
	}
	return json.Unmarshal(b, &a.Job)
}

// options writes options as the query of a request that has no body.
func (a *ask) options(o operation.JobOptions) {
	setBytes(a, "limit", o.Limit)
	setAll(a.query, "priority", string(o.Priority))
	setAll(a.query, "on_failure", string(o.OnFailure))
	for k, v := range o.Labels {
		a.query.Add("label", k+"="+v)
	}
}
