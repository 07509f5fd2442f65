package supervisor

import (
	"fmt"
	"slices"

	"storaged/internal/ipc"
	"storaged/internal/record"
	"storaged/internal/store"
	"storaged/internal/supervisor/process"
)

// ending is all that is known of a helper that is dead for certain: nobody
// holds the job's lock any more.
type ending struct {
	report *ipc.Report  // its result file; nil when there is none, or a torn one
	torn   error        // why the result file could not be used; nil when there is none
	exit   process.Exit // not Known for an adopted helper of an older kernel
	began  bool         // GO was or may have been sent: storage may have been touched
	asked  bool         // a cancel was asked for
	undoes bool         // there is a helper that can settle the job
	fault  *record.Error
}

// verdict is how a job ended, or that another helper must settle it first.
type verdict struct {
	state    record.State
	err      *record.Error
	rollback record.Rollback
	warnings []string
	answer   *store.Job // of another job, that did the work of this one too; nil: none did
	settle   bool       // state is what to aim at; the settling helper has the last word
}

// decide turns what is known of a helper's end into the job's end. A result
// counts before the exit status, the status before the cancel, and no result
// is never a success.
func decide(e ending) verdict {
	switch {
	case e.report != nil:
		return decideReported(e)
	case !e.began && e.asked:
		return verdict{state: record.Canceled, err: canceledError(), rollback: record.RollbackNone}
	case !e.began:
		return verdict{state: record.Failed, err: e.cause(), rollback: record.RollbackNone}
	}
	v := verdict{state: record.Failed, err: e.cause(), rollback: record.RollbackNone, settle: e.undoes}
	if e.asked {
		v.state, v.err = record.Canceled, canceledError()
	}
	if e.torn != nil {
		v.warnings = append(v.warnings, e.torn.Error())
	}
	return v
}

func decideReported(e ending) verdict {
	r := e.report
	v := verdict{rollback: rollbackOf(r), warnings: warningsOf(e)}
	switch {
	case r.Outcome == ipc.Succeeded && !e.began:
		v.state = record.Failed
		v.err = record.Errorf(record.Inconsistent, "the helper reported success before it was told to begin")
	case r.Outcome == ipc.Succeeded && e.exit.Known && e.exit.Code > 0:
		v.state = record.Failed
		v.err = record.Errorf(record.Inconsistent, "helper reported success but ended with exit status %d; what it made is kept and marked", e.exit.Code)
	case r.Outcome == ipc.Succeeded:
		v.state = record.Succeeded
	case r.Outcome == ipc.Canceled && e.fault == nil:
		v.state, v.err = record.Canceled, canceledError()
		if !e.asked && r.Error != nil {
			v.err.Message = r.Error.Message // it was not us
		}
	case r.Outcome == ipc.Canceled:
		v.state, v.err = record.Failed, e.fault
	default:
		v.state, v.err = record.Failed, r.Error.Record()
	}
	return v
}

// warningsOf gives what is odd about the end of a helper that reported.
func warningsOf(e ending) []string {
	out := append([]string(nil), e.report.Warnings...)
	success := e.report.Outcome == ipc.Succeeded
	switch {
	case success && !e.exit.Known:
		out = append(out, "the helper's exit status is not known: it ended while nobody watched")
	case success && e.exit.Signal != 0:
		out = append(out, fmt.Sprintf("the helper was killed by %s after it had reported success", signalName(e.exit)))
	case !success && e.exit.Known && e.exit.Signal == 0 && e.exit.Code == 0:
		out = append(out, fmt.Sprintf("the helper reported %q and ended with exit status 0", e.report.Outcome))
	}
	if success && e.asked {
		out = append(out, "the job was finished before the cancel took effect")
	}
	if e.fault != nil && success {
		out = append(out, e.fault.Message)
	}
	return out
}

// cause says why a helper without a result ended.
func (e ending) cause() *record.Error {
	switch {
	case e.fault != nil:
		return e.fault
	case !e.exit.Known:
		return record.Errorf(record.Interrupted, "the helper ended while nobody watched and left no result")
	case e.exit.Signal != 0:
		return record.Errorf(record.Killed, "the helper was killed by %s", signalName(e.exit))
	case e.exit.Code == 0:
		return record.Errorf(record.Inconsistent, "the helper ended with exit status 0 and no result")
	default:
		return record.Errorf(record.Internal, "the helper ended with exit status %d and no result", e.exit.Code).
			WithHint("the job's log has its last words")
	}
}

// settled is the last word on a job whose helper died without a result: first
// is what was decided then, e how the settling helper ended. That helper's
// report speaks of the job: succeeded means that its work was found complete,
// canceled that it was not complete and nothing unfinished remains, with what
// was undone in rollback; failed that this could not be brought about.
func settled(first verdict, e ending) verdict {
	v := first
	v.settle = false
	if e.report == nil {
		return unsettled(v, e.cause())
	}
	v.warnings = append(v.warnings, e.report.Warnings...)
	v.rollback = rollbackOf(e.report)
	switch e.report.Outcome {
	case ipc.Succeeded:
		v.state, v.err = record.Succeeded, nil
		v.warnings = append(v.warnings, "the helper died after its work was complete: "+first.err.Message)
		return v
	case ipc.Canceled:
		return v
	default:
		return unsettled(v, e.report.Error.Record())
	}
}

// unsettled is a job of which nobody could say or undo what was done.
func unsettled(v verdict, why *record.Error) verdict {
	was := "failed"
	if v.err != nil {
		was = v.err.Message
	}
	v.state, v.rollback = record.Failed, record.RollbackFailed
	v.err = record.Errorf(record.Interrupted, "%s; undoing it failed: %s", was, why.Message)
	return v
}

// untaken is the verdict on a job whose end the catalog does not take, and
// never will.
func (v *verdict) untaken(why error) *verdict {
	return &verdict{
		state: record.Failed, rollback: v.rollback,
		err: record.Errorf(record.Inconsistent, "the job ended as %s, but the catalog could not take that: %v", v.state, why).
			WithHint("refresh the pool, and report this"),
		warnings: append(slices.Clone(v.warnings), "what the catalog says of its objects may not be true"),
	}
}

func canceledError() *record.Error { return record.Errorf(record.CanceledCode, "canceled") }

// rollbackOf reads the helper's word; one that we do not know is a newer
// helper's, and means that we cannot vouch for anything.
func rollbackOf(r *ipc.Report) record.Rollback {
	switch b := record.Rollback(r.Rollback); b {
	case record.RollbackNone, record.RollbackDone, record.RollbackKept, record.RollbackFailed:
		return b
	case "":
		return record.RollbackNone
	default:
		return record.RollbackFailed
	}
}
