package virtrpc

import (
	"encoding/json"
	"strconv"

	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/virtrpc/wire"
	"storaged/internal/virtrpc/xdr"
)

// jobChanges are the procedures that do something to jobs. Each answers with the job as it
// is then.
func jobChanges() []procedure {
	return []procedure{
		{wire.JobAbort, "virStorageJobAbort", owns, with(abortJob)},
		{wire.JobPause, "virStorageJobPause", owns, with(pauseJob)},
		{wire.JobResume, "virStorageJobResume", owns, with(resumeJob)},
		{wire.JobSetLimit, "virStorageJobSetLimit", owns, with(limitJob)},
	}
}

// ownJob gives a job that the caller may change.
func (c *call) ownJob(ref wire.JobRef, flags, known wire.Flags) (record.Job, error) {
	if err := c.flags(flags, known); err != nil {
		return record.Job{}, err
	}
	j, err := c.jobOf(ref, 0)
	switch {
	case err != nil:
		return j, err
	case j.Number == 0:
		return j, wire.Failf(wire.FromStorage, wire.OperationInvalid, "no job is active on %s", record.Object{Pool: ref.Pool, Volume: ref.Volume})
	}
	c.job = j.Number
	return j, c.caller.MayChange(&j)
}

func abortJob(c *call, a wire.JobFlags) (xdr.Value, error) {
	j, err := c.ownJob(a.Job, a.Flags, wire.JobAbortNow)
	if err != nil {
		return nil, err
	}
	return shownJob(c.svc.CancelJob(c.ctx(), c.caller, j.ID, contract.JobCancel{Now: a.Flags&wire.JobAbortNow != 0}))
}

// pauseJob waits a little for the pause to come true, beside what is worked on.
func pauseJob(c *call, a wire.JobFlags) (xdr.Value, error) {
	j, err := c.ownJob(a.Job, a.Flags, 0)
	if err != nil {
		return nil, err
	}
	c.rest()
	defer c.resume()
	return shownJob(c.svc.PauseJob(c.ctx(), c.caller, j.ID))
}

func resumeJob(c *call, a wire.JobFlags) (xdr.Value, error) {
	j, err := c.ownJob(a.Job, a.Flags, 0)
	if err != nil {
		return nil, err
	}
	return shownJob(c.svc.ResumeJob(c.ctx(), c.caller, j.ID))
}

func limitJob(c *call, a wire.JobNumberArgs) (xdr.Value, error) {
	j, err := c.ownJob(a.Job, a.Flags, 0)
	if err != nil {
		return nil, err
	}
	p := contract.JobPatch{Limit: json.RawMessage("null")}
	if a.N > 0 {
		p.Limit = json.RawMessage(strconv.FormatUint(a.N, 10))
	}
	if err := p.Check(); err != nil {
		return nil, err
	}
	return shownJob(c.svc.PatchJob(c.ctx(), c.caller, j.ID, p))
}
