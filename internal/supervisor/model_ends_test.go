//go:build !lean

package supervisor

import (
	"slices"

	"storaged/internal/record"
)

// endless says that the job's helper does not end by itself.
func (j *modelJob) endless() bool {
	r := j.wish.Role
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
		if j.wish.Refuse {
			e.add("failed/none")
		}
		return e
	}
	if j.wish.Refuse {
		e.add("failed/none")
	}
	j.natural(e)
	if j.cancel {
		e.add("canceled/none") // it had not begun
		j.told(e, "canceled")
		j.settled(e, "canceled") // it was killed
	}
	if j.undone {
		e.add("failed/failed", "failed/done") // killed; told to stop, which it says it did
		if j.cancel {
			e.add("canceled/done")
		}
	}
	if j.struck {
		e.add("failed/none") // before it began
		j.told(e, "canceled")
		j.settled(e, "failed")
		if j.cancel {
			j.settled(e, "canceled")
		}
	}
	return e
}

// mayExpire says that the job waits for locks and a place for some time only.
func (j *modelJob) mayExpire() bool {
	return j.wish.Wait > 0 || j.wish.Wait != -1 && j.wish.Class == record.Normal
}

// natural is how the role ends when nobody interferes.
func (j *modelJob) natural(e ends) {
	switch j.wish.Role.Start {
	case "":
	case "silent":
		return
	default:
		e.add("failed/none")
		return
	}
	if j.wish.Role.Work == forever {
		return
	}
	switch j.wish.Role.End {
	case "success", "killSaved", "killAfter", "linger":
		e.add("succeeded/none")
	case "fail", "fail0":
		e.add("failed/done")
	case "canceled":
		e.add("canceled/done")
	case "success1":
		e.add("failed/none")
		if j.adopted || j.struck || j.cancel { // its status is not known, or another
			e.add("succeeded/none")
		}
	case "digest":
		j.settled(e, "failed")
		if j.adopted { // what it announced is not known
			e.add("succeeded/none")
		}
	case "garbage":
		j.told(e, "failed")
		j.settled(e, "failed")
	case "hang":
	default:
		j.settled(e, "failed")
	}
}

// told is how the role ends when it is told to: state is what it comes to then.
func (j *modelJob) told(e ends, state string) {
	switch j.wish.Role.Told {
	case "deny":
		e.add("succeeded/none")
	case "fails":
		e.add("failed/failed")
	case "gone", "deaf":
		j.settled(e, state)
	default:
		e.add(state + "/done")
	}
}

// settled is how the job ends when its helper died without a result: state is
// what it comes to when nothing is found complete.
func (j *modelJob) settled(e ends, state string) {
	switch u := j.wish.Undo; {
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
