package supervisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/uuid"

	"storaged/internal/ipc"
	"storaged/internal/record"
	"storaged/internal/store"
	"storaged/internal/supervisor/process"
)

// Start takes up all jobs that have not ended: first the locks of those that
// had been granted, then each is classified by what there is of it, and those
// that waited are queued again in order. It returns when that is done; what
// takes time (a helper that has to answer, be killed or be undone) goes on in
// state recovering, with the job's locks held.
//
// Alive is a job whose lock is held by a process. What it is found as:
//
//	lock held, GO sent      the helper is adopted: same process, which is to report again
//	lock held, no GO        it waits for GO and touched nothing: killed, queued again
//	lock free, no GO        queued again
//	lock free, result       the result decides
//	lock free, no result    another helper settles it
func (s *Supervisor) Start(ctx context.Context) error {
	if err := s.makeDirs(); err != nil {
		return err
	}
	var err error
	if s.boot, err = process.BootID(); err != nil {
		return err
	}
	if s.replays {
		if err := s.replay(); err != nil {
			return err
		}
	}
	var recs []*store.Job
	if err := s.store.View(func(tx *store.Tx) error { recs, err = tx.LiveJobs(); return err }); err != nil {
		return fmt.Errorf("cannot read unfinished jobs: %w", err)
	}
	jobs := s.relock(recs)
	for _, j := range jobs {
		if err := ctx.Err(); err != nil {
			return err
		}
		s.classify(j)
	}
	s.sweep(jobs)
	s.mu.Lock()
	s.started = true
	s.mu.Unlock()
	for _, j := range jobs {
		s.enlist(j)
		s.jobs.Go(j.live)
	}
	s.jobs.Go(s.keepHistory)
	return nil
}

// relock makes the jobs and gives those that had been granted their locks,
// before any other may ask for one.
func (s *Supervisor) relock(recs []*store.Job) []*job {
	var jobs []*job
	for _, rec := range recs {
		j := newJob(s, rec, (*job).wait)
		jobs = append(jobs, j)
		if rec.State == record.Queued {
			continue
		}
		if err := j.entry.Restore(); err != nil {
			s.log.Error("internal error: a job's locks are not free", "job", rec.Number, "error", err)
		}
	}
	return jobs
}

// enter queues a found job again.
func (j *job) enter() { j.entry.Enter(j.rec.Number, len(j.rec.PauseReasons) > 0) }

// classify chooses the stage with which a found job begins.
func (s *Supervisor) classify(j *job) {
	if j.rec.State == record.Queued && j.rec.Data {
		j.verdict, j.first = dataLost(), (*job).end
		return
	}
	if j.rec.State == record.Queued {
		if j.rec.CancelAsk { // acknowledged, and its end was not recorded any more
			j.verdict = &verdict{state: record.Canceled, err: canceledError(), rollback: record.RollbackNone}
			return
		}
		j.enter()
		return
	}
	j.become(record.Recovering)
	j.run.adopted = true
	family := s.launcher.find(s.launcher.dir(j.id))
	held, err := family.Held()
	if err != nil {
		s.log.Error("cannot ask for the lock of a job", "job", j.rec.Number, "error", err)
		held = true
	}
	switch {
	case held && j.rec.Go:
		j.first = func(j *job) stage { return j.rejoin(family) }
	case held:
		j.h, j.first = deaf(s.launcher.dir(j.id), family), (*job).attend
	default:
		j.first = (*job).absent
	}
	s.log.Info("unfinished job found", "job", j.rec.Number, "kind", j.rec.Kind, "alive", held, "began", j.rec.Go)
}

// rejoin takes up a helper that works on. Its FIFOs are opened anew, GO is
// sent again lest the first one was lost with the daemon, and it is asked to
// repeat where it is.
func (j *job) rejoin(family process.Family) stage {
	j.run.fresh()
	j.run.adopted = true
	j.run.first = firstVerdict(&j.rec)
	j.run.proto = max(j.rec.Proto, 1)
	h := j.reconnect(family)
	j.h = h
	if p := atWork(&j.rec); p != nil && j.rec.Boot == j.s.boot {
		proc, err := process.Adopt(p.PID, j.rec.StartTicks)
		h.proc = proc
		if err != nil && !errors.Is(err, process.ErrGone) {
			j.s.log.Error("cannot adopt a helper", "job", j.rec.Number, "error", err)
		}
	}
	if h.proc != nil {
		j.greet()
	}
	return (*job).attend // without a process, it kills what that started
}

// reconnect opens the lines to a helper that was let go. One that was told to
// speak what we do not understand is neither heard nor sent anything, but works
// on: only the daemon was replaced.
func (j *job) reconnect(family process.Family) *helper {
	d := j.s.launcher.dir(j.id)
	why := "the lines to the helper are lost"
	p := atWork(&j.rec)
	if p == nil || j.s.speaks.Has(j.run.proto) {
		h, err := j.s.launcher.open(d, family, true)
		if err == nil {
			return h
		}
		j.s.log.Error("cannot open the lines to a helper", "job", j.rec.Number, "error", err)
	} else {
		why = fmt.Sprintf("the helper is of storaged %s and speaks protocol %d, this daemon %v", p.Version, j.run.proto, j.s.speaks)
	}
	j.warn(why + "; it can be canceled, and its result will be found")
	h := deaf(d, family)
	if log, err := openLog(d.Log()); err == nil { // it is bounded all the same
		h.log = log
	}
	return h
}

// atWork is the helper that was last let go, nil when there was none.
func atWork(r *store.Job) *record.Helper {
	if r.Settler != nil {
		return r.Settler
	}
	return r.Helper
}

// lastWords gives how a helper of before ended, as far as anybody knows still.
func (j *job) lastWords() process.Exit {
	p := atWork(&j.rec)
	if p == nil || j.rec.Boot != j.s.boot {
		return process.Exit{Code: -1}
	}
	e, _ := process.Zombie(p.PID, j.rec.StartTicks)
	return e
}

// greet says again what an adopted helper has to know.
func (j *job) greet() {
	j.run.ladder.arm(j.s.times.Hello)
	if j.h.control == nil {
		j.run.ladder.disarm() // it cannot answer
	} else {
		terms := j.terms()
		j.send(terms)
		// One that works already takes neither limit nor pause from GO.
		j.send(ipc.Limit{Rate: terms.Limit})
		if terms.Paused {
			j.send(ipc.Pause{})
		} else {
			j.send(ipc.Resume{})
		}
		j.send(ipc.Resync{})
	}
	if j.rec.CancelAsk && !j.rec.Undo {
		j.become(record.Canceling)
		j.cancelHelper()
	}
	if j.fault() != nil {
		j.cancelHelper()
	}
}

// absent is the stage of a job of which no process lives.
func (j *job) absent() stage {
	j.run.exit = j.lastWords()
	if st, err := os.Stat(j.s.launcher.dir(j.id).Result()); err == nil {
		j.run.unseen = new(st.ModTime().UTC())
	}
	if j.rec.Undo {
		j.run.first = firstVerdict(&j.rec)
	}
	return (*job).judge
}

// unsettledYet says that the helper that was to settle the job went away
// before anybody could watch it: with the host, or with the daemon that had
// not let it begin.
func (j *job) unsettledYet(e ending) bool {
	if !j.rec.Undo || !j.run.adopted {
		return false
	}
	return e.unreached() || e.report == nil && (j.h == nil || j.h.proc == nil)
}

// firstVerdict gives what had been decided when the settling began. A cancel that
// came since does not change why the helper ended.
func firstVerdict(r *store.Job) verdict {
	v := verdict{state: record.Failed, err: r.Error, rollback: record.RollbackNone}
	if r.Error != nil && r.Error.Code == record.CanceledCode {
		v.state = record.Canceled
	}
	if v.err == nil {
		v.err = record.Errorf(record.Interrupted, "the helper ended while nobody watched")
	}
	return v
}

// requeue is the stage of a found job whose helper had not begun.
func (j *job) requeue() stage {
	j.dismiss()
	if j.rec.CancelAsk {
		j.verdict = &verdict{state: record.Canceled, err: canceledError(), rollback: record.RollbackNone}
		return (*job).end
	}
	if j.rec.Data {
		j.verdict = dataLost()
		return (*job).end
	}
	err := j.commit(func(r *store.Job) {
		r.State, r.Granted, r.Started, r.Helper, r.Go = record.Queued, false, nil, nil, false
	}, nil)
	if err != nil {
		if !j.tryLater("job cannot be queued again yet", err) {
			return nil
		}
		return (*job).requeue
	}
	j.run.fresh()
	j.entry.Leave()
	j.enter()
	return (*job).wait
}

// sweep removes directories of jobs that have no record, or whose record says
// that they have ended. A process found in one belongs to a query, or never
// got GO.
func (s *Supervisor) sweep(live []*job) {
	keep := map[string]bool{}
	for _, j := range live {
		keep[j.id] = true
	}
	for _, id := range jobDirs(s.launcher.runtime) {
		if keep[id] {
			continue
		}
		d := s.launcher.dir(id)
		family := s.launcher.find(d)
		if held, err := family.Held(); held || err != nil {
			s.report(d.Runtime, family.Kill())
		}
		// A process just killed may still be leaving; its cgroup goes with
		// the next boot then.
		s.report(d.Runtime, s.launcher.remove(d))
	}
	for _, id := range jobDirs(s.launcher.state) {
		if _, err := s.stored(id); record.CodeOf(err) == record.NotFound {
			s.report(id, os.RemoveAll(s.launcher.dir(id).State))
		}
	}
}

func (s *Supervisor) report(what string, err error) {
	if err != nil {
		s.log.Warn("something of a former job is left behind", "what", what, "error", err)
	}
}

// jobDirs lists the directories that are named like jobs.
func jobDirs(dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil // made a moment ago; what is unreadable stays
	}
	var ids []string
	for _, e := range entries {
		if uuid.Validate(e.Name()) == nil && e.IsDir() {
			ids = append(ids, filepath.Base(e.Name()))
		}
	}
	return ids
}
