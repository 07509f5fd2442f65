//go:build !lean

package modeltest

import (
	"slices"

	"storaged/internal/record"
)

// endless says that the job's helper does not end by itself.
func (j *modelJob) endless() bool {
	r := j.request.Behavior
	return r.Start == "silent" || r.Start == "" && (r.Work == forever || slices.Contains([]string{"garbage", "linger", "hang"}, r.End))
}

// ends is a set of STATE/ROLLBACK.
type ends map[string]bool

func (e ends) add(all ...string) {
	for _, one := range all {
		e[one] = true
	}
}

// outcomes gives how a job may have ended, from what was asked for and what
// happened to it.
func (j *modelJob) outcomes(r record.Job) ends {
	e := ends{}
	if r.Started == nil {
		if j.mayExpire() {
			e.add("failed/none")
		}
		if j.cancel {
			e.add("canceled/none")
		}
		if j.request.Refuse {
			e.add("failed/none")
		}
		return e
	}
	if j.request.Refuse {
		e.add("failed/none")
	}
	j.byItself(e)
	if j.cancel {
		e.add("canceled/none") // it had not begun
		j.afterCancel(e, "canceled")
		j.afterDeath(e, "canceled") // it was killed
	}
	if j.undone {
		e.add("failed/failed", "failed/done") // killed; told to stop, which it says it did
		if j.cancel {
			e.add("canceled/done")
		}
	}
	if j.signaled {
		e.add("failed/none") // before it began
		j.afterCancel(e, "canceled")
		j.afterDeath(e, "failed")
		if j.cancel {
			j.afterDeath(e, "canceled")
		}
	}
	return e
}

// mayExpire says that the job waits for locks and a place for some time only.
func (j *modelJob) mayExpire() bool {
	return j.request.Wait > 0 || j.request.Wait != -1 && j.request.Class == record.Normal
}

// byItself is how the helper ends when nobody interferes.
func (j *modelJob) byItself(e ends) {
	switch j.request.Behavior.Start {
	case "":
	case "silent":
		return
	default:
		e.add("failed/none")
		return
	}
	if j.request.Behavior.Work == forever {
		return
	}
	switch j.request.Behavior.End {
	case "success", "killSaved", "killAfter", "linger":
		e.add("succeeded/none")
	case "fail", "fail0":
		e.add("failed/done")
	case "canceled":
		e.add("canceled/done")
	case "success1":
		e.add("failed/none")
		if j.adopted || j.signaled || j.cancel { // its status is not known, or another
			e.add("succeeded/none")
		}
	case "digest":
		j.afterDeath(e, "failed")
		if j.adopted { // what it announced is not known
			e.add("succeeded/none")
		}
	case "garbage":
		j.afterCancel(e, "failed")
		j.afterDeath(e, "failed")
	case "hang":
	default:
		j.afterDeath(e, "failed")
	}
}

// afterCancel is how the helper ends when it is canceled: state is what it comes to then.
func (j *modelJob) afterCancel(e ends, state string) {
	switch j.request.Behavior.OnCancel {
	case "succeeds":
		e.add("succeeded/none")
	case "fails":
		e.add("failed/failed")
	case "exits", "ignores":
		j.afterDeath(e, state)
	default:
		e.add(state + "/done")
	}
}

// afterDeath is how the job ends when its helper died without a result: state is
// what it comes to when nothing is found complete.
func (j *modelJob) afterDeath(e ends, state string) {
	switch u := j.request.Undo; {
	case u == nil:
		e.add(state + "/none")
	case u.End == "undone":
		e.add(state + "/done")
	case u.End == "success":
		e.add("succeeded/none")
	default:
		e.add("failed/failed")
	}
}
