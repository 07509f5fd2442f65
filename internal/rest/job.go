package rest

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"storaged/internal/record"
	"storaged/internal/rest/wire"
	"storaged/internal/service/contract"
)

// logChunk is how much of a log is read at once, bytes.
const logChunk = 64 << 10

func (c *call) jobName() string { return c.r.PathValue("job") }

func listJobs(c *call) error {
	f, err := c.jobFilter()
	if err != nil {
		return err
	}
	p, err := c.page()
	if err != nil {
		return err
	}
	return c.result(c.svc.Jobs(c.ctx(), f, p))
}

func (c *call) jobFilter() (contract.JobFilter, error) {
	q := c.r.URL.Query()
	f := contract.JobFilter{
		States: q["state"], Kinds: q["kind"], Pools: q["pool"], Volumes: q["volume"], Owners: q["owner"],
		Labels: q["label"], IdempotencyKey: q.Get("idempotency_key"),
	}
	for _, s := range f.States {
		if err := record.OneOf("state", record.State(s), append(record.States(), "live", "ended")...); err != nil {
			return f, err
		}
	}
	for _, k := range f.Kinds {
		if err := record.OneOf("kind", record.Kind(k), record.Kinds()...); err != nil {
			return f, err
		}
	}
	for _, l := range f.Labels {
		if !strings.Contains(l, "=") {
			return f, record.Errorf(record.Invalid, `query key "label" is key=value, not %s`, record.Short(l))
		}
	}
	var err error
	if f.Since, err = moment(q, "since"); err != nil {
		return f, err
	}
	f.Until, err = moment(q, "until")
	return f, err
}

// moment reads a query key that is a time.
func moment(q url.Values, key string) (time.Time, error) {
	v := q.Get(key)
	if v == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339Nano, v)
	if err != nil {
		return t, record.Errorf(record.Invalid, "query key %q is a time as 2026-01-31T09:12:00Z, not %s", key, record.Short(v))
	}
	return t.UTC(), nil
}

// answerJob answers with a job after a verb or a look.
func (c *call) answerJob(j record.Job, err error) error {
	if err != nil {
		return err
	}
	c.job = j.Number
	return c.answer(http.StatusOK, j)
}

func getJob(c *call) error { return c.answerJob(c.svc.Job(c.ctx(), c.jobName())) }

// waitJob waits at most maxWait. When the server stops it answers with the
// job as it is then.
func waitJob(c *call) error {
	timeout := wire.MaxWait
	if v := c.r.URL.Query().Get("timeout"); v != "" {
		d, err := parseSeconds("timeout", v)
		if err != nil {
			return err
		}
		timeout = min(d, wire.MaxWait)
	}
	ctx, done := c.patient()
	defer done()
	j, err := c.svc.WaitJob(ctx, c.jobName(), timeout)
	if err != nil && c.stopping.Err() != nil {
		return getJob(c)
	}
	return c.answerJob(j, err)
}

func retryJob(c *call) error {
	if err := c.noIfMatch("a job has"); err != nil {
		return err
	}
	var r contract.JobRetry
	s, err := c.request(&r)
	if err != nil {
		return err
	}
	return c.started(c.svc.RetryJob(c.ctx(), s, c.jobName(), r))
}

// getJobLog streams the log, piece by piece, each with writeTimeout.
func getJobLog(c *call) error {
	log, err := c.svc.JobLog(c.ctx(), c.jobName())
	if err != nil {
		return err
	}
	defer log.Close()
	c.Header().Set("Content-Type", logType)
	c.Header().Set("X-Content-Type-Options", "nosniff")
	c.WriteHeader(http.StatusOK)
	buf := make([]byte, logChunk)
	for {
		n, err := log.Read(buf)
		if n > 0 {
			if _, err := c.Write(buf[:n]); err != nil {
				return nil // the client has left
			}
		}
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return fmt.Errorf("cannot read the log of job %s: %w", record.Short(c.jobName()), err)
		}
	}
}
