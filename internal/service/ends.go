package service

import (
	"fmt"
	"slices"

	"github.com/hashicorp/go-hclog"

	"storaged/internal/metrics"
	"storaged/internal/quantity"
	"storaged/internal/record"
	"storaged/internal/supervisor"
)

// ends is told of every job that has ended: the log gets a line, and the metrics
// a count.
type ends struct {
	metrics    *metrics.Metrics
	log, notes hclog.Logger
}

var _ supervisor.Observer = ends{}

// JobEnded is supervisor.Observer's.
func (e ends) JobEnded(o supervisor.Observation) {
	e.metrics.JobEnded(o)
	j := &o.Job
	words := []any{
		"job", j.Number, "kind", j.Kind, "object", j.Subject(), "outcome", j.State, "owner", nameOf(&j.Owner),
		"took", quantity.FormatDuration(quantity.Seconds(j.ElapsedS)),
	}
	if j.State == record.Canceled && j.CanceledBy != nil {
		words = append(words, "canceled_by", nameOf(j.CanceledBy))
	}
	if j.Error != nil {
		words = append(words, "code", j.Error.Code, "error", j.Error.Message)
	}
	e.say(o)("job ended", words...)
}

// say is how much the end of a job is worth: what destroyed content or was
// canceled a notice, a failure a warning, and an error if something is broken.
func (e ends) say(o supervisor.Observation) func(string, ...any) {
	switch {
	case o.Job.State == record.Failed && broken(o.Job.Code()):
		return e.log.Error
	case o.Job.State == record.Failed:
		return e.log.Warn
	case o.Job.State == record.Canceled || o.Destroys:
		return e.notes.Info
	}
	return e.log.Info
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
