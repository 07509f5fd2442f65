package virtrpc

import (
	"context"
	"math"
	"time"

	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/virtrpc/wire"
	"storaged/internal/virtrpc/xdr"
)

// jobLooks are the procedures that look at jobs.
func jobLooks() []procedure {
	return []procedure{
		{wire.JobList, "virStorageJobList", reads, with(listJobs)},
		{wire.JobGetInfo, "virStorageJobGetInfo", reads, with(getJobInfo)},
		{wire.JobGetStats, "virStorageJobGetStats", reads, with(getJobStats)},
		{wire.JobWait, "virStorageJobWait", reads, with(waitJob)},
	}
}

func listJobs(c *call, a wire.JobListArgs) (xdr.Value, error) {
	if err := c.flags(a.Flags, wire.JobListLive|wire.JobListEnded); err != nil {
		return nil, err
	}
	f := contract.JobFilter{Kinds: wanted(a.Kind), Pools: wanted(a.Pool), Volumes: wanted(a.Volume), Owners: wanted(a.Owner)}
	for flag, state := range map[wire.Flags]string{wire.JobListLive: "live", wire.JobListEnded: "ended"} {
		if a.Flags&flag != 0 {
			f.States = append(f.States, state)
		}
	}
	p := contract.Page{Limit: int(min(a.Most, math.MaxInt32))}
	if a.After != nil {
		p.Cursor = *a.After
	}
	list, err := c.svc.Jobs(c.ctx(), f, p)
	if err != nil {
		return nil, err
	}
	out := &wire.Jobs{Next: list.Next}
	for _, j := range list.Items {
		out.Jobs = append(out.Jobs, *wireJob(&j))
	}
	return out, nil
}

// wanted selects by one value, or, nil, by none.
func wanted(v *string) []string {
	if v == nil {
		return nil
	}
	return []string{*v}
}

func getJobInfo(c *call, a wire.JobFlags) (xdr.Value, error) {
	if err := c.flags(a.Flags, wire.JobStatsCompleted); err != nil {
		return nil, err
	}
	return shownJob(c.jobOf(a.Job, a.Flags))
}

// shownJob answers with a job.
func shownJob(j record.Job, err error) (xdr.Value, error) {
	if err != nil {
		return nil, err
	}
	return wireJob(&j), nil
}

func getJobStats(c *call, a wire.JobFlags) (xdr.Value, error) {
	if err := c.flags(a.Flags, wire.JobStatsCompleted); err != nil {
		return nil, err
	}
	j, err := c.jobOf(a.Job, a.Flags)
	if err != nil {
		return nil, err
	}
	return &wire.JobStats{Type: jobType(&j), Params: jobParams(&j)}, nil
}

// waitJob answers when the job has ended, or after a number of milliseconds with what is
// so by then.
func waitJob(c *call, a wire.JobNumberArgs) (xdr.Value, error) {
	if err := c.flags(a.Flags, 0); err != nil {
		return nil, err
	}
	j, err := c.jobOf(a.Job, 0)
	if err != nil || j.Number == 0 {
		return shownJob(j, err)
	}
	ctx, done := c.patient()
	defer done()
	if a.N > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(min(a.N, math.MaxInt64/uint64(time.Millisecond)))*time.Millisecond)
		defer cancel()
	}
	if j, err = c.ended(ctx, j); err != nil {
		return nil, err
	}
	if !j.State.Terminal() && c.stopping.Err() != nil {
		return nil, goesOn(j)
	}
	return shownJob(j, nil)
}
