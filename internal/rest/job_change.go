package rest

import (
	"context"
	"net/http"
	"slices"

	"storaged/internal/record"
	"storaged/internal/service/contract"
)

// onJobs are the two rows of a change of jobs: of one, which a User may call for its
// own if own is set, and of all that the query selects.
func onJobs[T any, P interface {
	*T
	checker
}](method, verb string, own bool, change func(context.Context, *call, string, T) (record.Job, error)) []route {
	one := func(c *call) error {
		if err := c.noIfMatch("a job has"); err != nil {
			return err
		}
		var r T
		if err := c.decode(P(&r)); err != nil {
			return err
		}
		j, err := change(c.ctx(), c, c.jobName(), r)
		if err != nil || j.ID != "" {
			return c.answerJob(j, err)
		}
		c.WriteHeader(http.StatusNoContent)
		return nil
	}
	all := func(c *call) error {
		var r T
		if err := c.decode(P(&r)); err != nil {
			return err
		}
		return c.each(func(ctx context.Context, job string) error {
			_, err := change(ctx, c, job, r)
			return err
		})
	}
	hasBody := method != http.MethodDelete
	return []route{
		{method, "/v1/jobs" + verb, record.MemberRole, append([]string{"dry_run"}, jobFilters...), hasBody, all, false},
		{method, "/v1/jobs/{job}" + verb, record.MemberRole, nil, hasBody, one, own},
	}
}

// each does something to the jobs that the query selects and answers with how
// many there were. A query that selects nothing in particular is refused: it
// would be all jobs there are. When the server stops, the rest is left.
func (c *call) each(do func(ctx context.Context, job string) error) error {
	sel, err := c.selection()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(c.ctx())
	defer cancel()
	defer context.AfterFunc(c.stopping, cancel)()
	return c.result(c.svc.EachJob(ctx, sel, do))
}

func (c *call) selection() (sel contract.Selection, err error) {
	if err := c.noIfMatch("a job has"); err != nil {
		return sel, err
	}
	given := c.r.URL.Query()
	if !slices.ContainsFunc(jobFilters, given.Has) {
		return sel, record.Errorf(record.Invalid, "the query does not say which jobs").WithHint("%s", c.keys())
	}
	if sel.DryRun, err = c.flag("dry_run"); err != nil {
		return sel, err
	}
	sel.JobFilter, err = c.jobFilter()
	return sel, err
}

func patchJob(ctx context.Context, c *call, job string, r contract.JobPatch) (record.Job, error) {
	if c.caller.Role < record.MemberRole && (r.Priority != nil || r.Pinned != nil) {
		return record.Job{}, record.Errorf(record.Denied, "an owner who is not in the main socket's group may change limit and labels only")
	}
	return c.svc.PatchJob(ctx, c.caller, job, r)
}

// forgetJob gives a job of which nothing stays as none.
func forgetJob(ctx context.Context, c *call, job string, _ contract.Nothing) (record.Job, error) {
	trace, err := c.svc.ForgetJob(ctx, c.caller, job)
	if trace == nil {
		return record.Job{}, err
	}
	return *trace, err
}

func cancelJob(ctx context.Context, c *call, job string, r contract.JobCancel) (record.Job, error) {
	return c.svc.CancelJob(ctx, c.caller, job, r)
}

func pauseJob(ctx context.Context, c *call, job string, _ contract.Nothing) (record.Job, error) {
	return c.svc.PauseJob(ctx, c.caller, job)
}

func resumeJob(ctx context.Context, c *call, job string, _ contract.Nothing) (record.Job, error) {
	return c.svc.ResumeJob(ctx, c.caller, job)
}
