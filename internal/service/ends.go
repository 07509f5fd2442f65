package service

import (
	"fmt"
	"slices"
	"time"

	"storaged/internal/metrics"
	"storaged/internal/quantity"
	"storaged/internal/record"
	"storaged/internal/store"
	"storaged/internal/supervisor"
)

// ends is told of every job that has ended, and of every helper that died: there is a
// notice of it, and a count.
type ends struct {
	metrics *metrics.Metrics
	herald  *herald
	store   *store.Store
}

var _ supervisor.Observer = ends{}

// JobEnded is supervisor.Observer's.
func (e ends) JobEnded(o supervisor.Observation) {
	e.metrics.JobEnded(o)
	for _, n := range e.notices(&o.Job, o.Destroys) {
		var more []any
		if n.Type == record.NoticeJob {
			more = []any{"took", quantity.FormatDuration(quantity.Seconds(n.TookS))}
		}
		e.herald.tell(n, more...)
	}
}

// notices are those of a job that has ended: of its end, and of what it has left.
func (e ends) notices(j *record.Job, destroys bool) []record.Notice {
	n := aboutJob(record.NoticeJob, j)
	n.ID = n.Type + "/" + j.ID
	n.Urgency, n.Message, n.Outcome = urgency(j, destroys), "job ended", string(j.State)
	all := []record.Notice{n}
	if j.State != record.Succeeded {
		all = append(all, e.incomplete(j)...)
	}
	return all
}

// HelperDied is supervisor.Observer's.
func (e ends) HelperDied(j record.Job, cause *record.Error) {
	e.metrics.HelperDied(j.Kind)
	n := aboutJob(record.NoticeHelper, &j)
	n.Urgency, n.Message, n.Code, n.Error = record.Alarming, "helper died", cause.Code, cause.Message
	e.herald.tell(n)
}

// incomplete are the notices of the volumes that a job has left so.
func (e ends) incomplete(j *record.Job) (all []record.Notice) {
	for _, o := range j.Objects {
		if o.Volume == "" {
			continue
		}
		var v *store.Volume
		err := e.store.View(func(tx *store.Tx) (err error) {
			v, err = tx.Volume(o.Pool, o.Volume)
			return err
		})
		if err != nil || v.State != record.VolumeIncomplete || v.Job == nil || *v.Job != j.Number {
			continue // it is gone, or none of the job's
		}
		n := aboutJob(record.NoticeVolume, j)
		n.ID = n.Type + "/" + j.ID + "/" + o.String()
		n.Urgency, n.Message, n.Object, n.Outcome, n.Code, n.Error = record.Alarming, "volume is incomplete", o.String(), string(v.State), "", ""
		all = append(all, n)
	}
	return all
}

// EndedSince gives the notices of jobs that have ended since then, oldest first, each with the
// id that it had when it was told, and the time when the job ended.
func (s *Service) EndedSince(since time.Time) (all []record.Notice, err error) {
	e := ends{store: s.store}
	destroys := map[string]bool{}
	q := supervisor.Query{
		Head: func(h *store.JobHead) bool {
			if h.Ended.IsZero() || h.Ended.Before(since) {
				return false
			}
			destroys[h.ID] = h.Destroys
			return true
		},
	}
	jobs, _, err := s.jobs.Jobs(q)
	slices.Reverse(jobs)
	for i := range jobs {
		for _, n := range e.notices(&jobs[i], destroys[jobs[i].ID]) {
			n.Time = *jobs[i].Ended
			all = append(all, n)
		}
	}
	slices.SortStableFunc(all, func(a, b record.Notice) int { return a.Time.Compare(b.Time) })
	return all, err
}

// aboutJob is a notice about a job.
func aboutJob(kind string, j *record.Job) record.Notice {
	n := record.Notice{Type: kind, Job: j.Number, Kind: j.Kind, Object: j.Subject(), Owner: nameOf(&j.Owner), Labels: j.Labels, TookS: j.ElapsedS}
	if j.State == record.Canceled && j.CanceledBy != nil {
		n.By = nameOf(j.CanceledBy)
	}
	if j.Error != nil {
		n.Code, n.Error = j.Error.Code, j.Error.Message
	}
	return n
}

// urgency is how much the end of a job is worth: what destroyed content or was
// canceled a notice, a failure a warning, and an error if something is broken.
func urgency(j *record.Job, destroys bool) record.Urgency {
	switch {
	case j.State == record.Failed && broken(j.Code()):
		return record.Broken
	case j.State == record.Failed:
		return record.Alarming
	case j.State == record.Canceled || destroys:
		return record.Notable
	}
	return record.Ordinary
}

// broken holds for failures that no request can be blamed for.
func broken(c record.Code) bool {
	return slices.Contains([]record.Code{record.Internal, record.IO, record.Killed, record.Inconsistent, record.Mismatch}, c)
}

func nameOf(o *record.Owner) string {
	switch {
	case o.User != "":
		return o.User
	case o.Via == record.ViaSignal:
		return "a signal"
	}
	return fmt.Sprintf("uid %d", o.UID)
}
