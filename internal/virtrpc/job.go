package virtrpc

import (
	"slices"
	"strconv"

	"github.com/google/uuid"

	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/virtrpc/wire"
)

// jobOf gives the job that a client names. Of an object it is the one that works on it,
// or, if completed is asked for, the newest that has ended; there may be none, which has no
// number.
func (c *call) jobOf(ref wire.JobRef, flags wire.Flags) (j record.Job, err error) {
	switch completed := flags&wire.JobStatsCompleted != 0; {
	case ref.By == wire.JobByNumber:
		return c.svc.Job(c.ctx(), strconv.FormatUint(ref.Number, 10))
	case ref.By == wire.JobByID:
		return c.svc.Job(c.ctx(), uuid.UUID(ref.ID).String())
	case completed:
		err = c.eachJob(ref, []string{"ended"}, func(next record.Job) bool {
			j = next
			return false
		})
	default:
		j, err = c.presentJob(ref)
	}
	if err == nil && j.Number == 0 {
		err = c.known(ref)
	}
	return j, err
}

// presentJob gives the job that works on an object: before those that wait, and of several
// one that changes it before one that only reads, and the older one.
func (c *call) presentJob(ref wire.JobRef) (best record.Job, err error) {
	order := func(j record.Job) (rank int) {
		if j.State == record.Queued {
			rank += 2
		}
		if !changes(&j, ref) {
			rank++
		}
		return rank
	}
	err = c.eachJob(ref, []string{"live"}, func(j record.Job) bool {
		if best.Number == 0 || order(j) <= order(best) { // the newest come first
			best = j
		}
		return true
	})
	return best, err
}

// changes reports whether a job changes an object.
func changes(j *record.Job, ref wire.JobRef) bool {
	return slices.ContainsFunc(j.Objects, func(o record.Object) bool {
		return isOf(o, ref) && o.Mode != record.ModeRead && o.Mode != record.ModeQuery
	})
}

// isOf reports whether an object is the one that a client names.
func isOf(o record.Object, ref wire.JobRef) bool { return o.Pool == ref.Pool && o.Volume == ref.Volume }

// eachJob calls take with the jobs of an object in some states, newest first, until it has
// enough.
func (c *call) eachJob(ref wire.JobRef, states []string, take func(record.Job) (more bool)) error {
	f := contract.JobFilter{States: states, Pools: []string{ref.Pool}}
	if ref.By == wire.JobOfVolume {
		f.Volumes = []string{ref.Volume}
	}
	for p := (contract.Page{}); ; {
		list, err := c.svc.Jobs(c.ctx(), f, p)
		if err != nil {
			return err
		}
		for _, j := range list.Items {
			if slices.ContainsFunc(j.Objects, func(o record.Object) bool { return isOf(o, ref) }) && !take(j) {
				return nil
			}
		}
		if list.Next == nil {
			return nil
		}
		p.Cursor = *list.Next
	}
}

// known refuses an object that is not there.
func (c *call) known(ref wire.JobRef) error {
	p, err := c.poolNamed(ref.Pool)
	if err == nil && ref.By == wire.JobOfVolume {
		_, err = c.volumeOf(p, ref.Volume)
	}
	return err
}

// jobTypes are what clients are shown of the states of jobs that have ended.
var jobTypes = map[record.State]wire.JobType{
	record.Succeeded: wire.JobCompleted, record.Failed: wire.JobFailed, record.Canceled: wire.JobCancelled,
}

// jobType is NoJob of none.
func jobType(j *record.Job) wire.JobType {
	t, ended := jobTypes[j.State]
	switch {
	case ended:
		return t
	case j.Number == 0:
		return wire.NoJob
	case j.Progress.Bounded:
		return wire.JobBounded
	}
	return wire.JobUnbounded
}

// jobInfo shows clients how far a job is. What is counted in other units than bytes is
// not.
func jobInfo(j *record.Job) wire.JobInfo {
	i := wire.JobInfo{Type: jobType(j), TimeElapsed: milliseconds(j.ElapsedS)}
	if rest := j.Estimate.RemainingS; rest != nil {
		i.TimeRemaining = milliseconds(*rest)
	}
	if p := j.Progress; p.Unit == "bytes" {
		i.DataTotal, i.DataProcessed, i.DataRemaining = uint64(p.Total), uint64(p.Done), uint64(max(p.Total-p.Done, 0))
		i.FileTotal, i.FileProcessed, i.FileRemaining = i.DataTotal, i.DataProcessed, i.DataRemaining
	}
	return i
}

func milliseconds(seconds float64) uint64 { return uint64(max(seconds, 0) * 1000) }

// wireJob shows clients a job. None is shown too.
func wireJob(j *record.Job) *wire.Job {
	out := &wire.Job{JobInfo: jobInfo(j)}
	if j.Number == 0 {
		return out
	}
	o := j.About()
	out.Number, out.ID, out.Kind, out.State = uint64(j.Number), wireUUID("job", j.ID), string(j.Kind), string(j.State)
	out.Pool, out.Volume, out.Owner = o.Pool, o.Volume, j.Owner.User
	if j.Phase != nil {
		out.Phase = j.Phase.Name
	}
	return out
}
