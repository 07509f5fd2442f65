package rest

import (
	"context"
	"net/http"
	"slices"

	"storaged/internal/record"
	"storaged/internal/service"
)

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
	b, err := c.svc.EachJob(ctx, sel, do)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, b)
}

func (c *call) selection() (sel service.Selection, err error) {
	if err := c.noIfMatch(); err != nil {
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

func cancelJobs(c *call) error {
	r, err := decode[service.JobCancel](c)
	if err != nil {
		return err
	}
	return c.each(func(ctx context.Context, job string) error {
		_, err := c.svc.CancelJob(ctx, c.caller, job, r)
		return err
	})
}

func pauseJobs(c *call) error {
	if err := c.bareVerb(); err != nil {
		return err
	}
	return c.each(func(ctx context.Context, job string) error {
		_, err := c.svc.PauseJob(ctx, c.caller, job)
		return err
	})
}

func resumeJobs(c *call) error {
	if err := c.bareVerb(); err != nil {
		return err
	}
	return c.each(func(ctx context.Context, job string) error {
		_, err := c.svc.ResumeJob(ctx, c.caller, job)
		return err
	})
}

func patchJobs(c *call) error {
	r, err := decode[service.JobPatch](c)
	if err != nil {
		return err
	}
	return c.each(func(ctx context.Context, job string) error {
		_, err := c.svc.PatchJob(ctx, c.caller, job, r)
		return err
	})
}

func forgetJobs(c *call) error {
	return c.each(func(ctx context.Context, job string) error {
		_, err := c.svc.ForgetJob(ctx, c.caller, job)
		return err
	})
}
