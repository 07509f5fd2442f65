package supervisor

import (
	"fmt"

	"storaged/internal/record"
	"storaged/internal/store"
)

// Some work is done for everybody who asked for it before it began: to read a
// pool, say. Of the jobs that ask for the same, one begins; those that wait by
// then end together with it, as it ends. Who asks later has to wait for another,
// since what changed before that would be missed.

// gather notes for which waiting jobs this one, which has not looked at anything
// yet, does the work too. A daemon that comes back does not know it any more: they
// run then.
func (j *job) gather() {
	if j.rec.Same == "" {
		return
	}
	for _, other := range j.s.sames(j) {
		err := other.call(func(o *job) error {
			if o.rec.State == record.Queued && !o.rec.Granted && o.verdict == nil {
				o.answerer = j
			}
			return nil
		})
		if err == nil {
			j.companions = append(j.companions, other)
		}
	}
}

// sames gives the other live jobs that ask for the same.
func (s *Supervisor) sames(j *job) (out []*job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, other := range s.live {
		if other != j && other.shown.Load().rec.Same == j.rec.Same {
			out = append(out, other)
		}
	}
	return out
}

// answerOthers ends those for whom this job did the work, whose end is durable.
// One that did not come to its own end answers nobody, and they go on waiting. It
// still has its locks, so that none of them has begun.
func (j *job) answerOthers() {
	answer := j.rec
	own := j.run.report != nil && !answer.CancelAsk && j.fault() == nil
	for _, other := range j.companions {
		_ = other.call(func(o *job) error { // who has ended needs no answer
			o.takeAnswer(j, &answer, own)
			return nil
		})
	}
	j.companions = nil
}

// takeAnswer takes over the end of another job, if that is one.
func (j *job) takeAnswer(by *job, answer *store.Job, own bool) {
	if j.answerer != by {
		return
	}
	j.answerer = nil
	if !own || j.verdict != nil || len(j.rec.PauseReasons) > 0 {
		return
	}
	j.verdict = &verdict{
		state: answer.State, err: answer.Error, rollback: record.RollbackNone, warnings: answer.Warnings, answer: answer,
	}
	j.s.log.Debug(fmt.Sprintf("answered by job %d", answer.Number), "job", j.rec.Number)
}
