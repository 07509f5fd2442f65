package service

import (
	"fmt"
	"slices"

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
	n := aboutJob(record.NoticeJob, &o.Job)
	n.Urgency, n.Message, n.Outcome = urgency(o), "job ended", string(o.Job.State)
	e.herald.tell(n, "took", quantity.FormatDuration(quantity.Seconds(o.Job.ElapsedS)))
	if o.Job.State != record.Succeeded {
		e.incomplete(&o.Job)
	}
}

// HelperDied is supervisor.Observer's.
func (e ends) HelperDied(j record.Job, cause *record.Error) {
	e.metrics.HelperDied(j.Kind)
	n := aboutJob(record.NoticeHelper, &j)
	n.Urgency, n.Message, n.Code, n.Error = record.Alarming, "helper died", cause.Code, cause.Message
	e.herald.tell(n)
}

// incomplete tells of the volumes that a job has left so.
func (e ends) incomplete(j *record.Job) {
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
		n.Urgency, n.Message, n.Object, n.Outcome, n.Code, n.Error = record.Alarming, "volume is incomplete", o.String(), string(v.State), "", ""
		e.herald.tell(n)
	}
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
func urgency(o supervisor.Observation) record.Urgency {
	switch {
	case o.Job.State == record.Failed && broken(o.Job.Code()):
		return record.Broken
	case o.Job.State == record.Failed:
		return record.Alarming
	case o.Job.State == record.Canceled || o.Destroys:
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
