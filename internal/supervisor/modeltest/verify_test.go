//go:build !lean

package modeltest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"storaged/internal/record"
	"storaged/internal/supervisor"
)

// collapse takes over what has become of things that could be several.
func (m *model) collapse(j *modelJob, r record.Job) {
	if r.Forgotten {
		return
	}
	j.limit, j.priority = maybe{limitOf(r)}, maybe{string(r.Priority)}
	j.label, j.pinned = maybe{r.Labels["l"]}, maybe{strconv.FormatBool(r.Pinned)}
	if heeds(r) {
		for reason, v := range j.reasons {
			*v = maybe{strconv.FormatBool(slices.Contains(r.PauseReasons, reason))}
		}
	}
}

func limitOf(r record.Job) string {
	if r.Limit == nil {
		return "0"
	}
	return strconv.FormatInt(*r.Limit, 10)
}

// heeds says that reasons to pause mean something for the job.
func heeds(r record.Job) bool {
	return slices.Contains([]record.State{record.Queued, record.Starting, record.Running, record.Paused}, r.State)
}

func (m *model) compare(all []record.Job) {
	there := map[string]bool{}
	for i, r := range all {
		there[r.ID] = true
		if i > 0 && all[i-1].Number <= r.Number {
			m.fail("job %d is listed after %d", r.Number, all[i-1].Number)
		}
		m.verify(m.find(r.ID), r)
	}
	for _, j := range m.jobs {
		if there[j.id] || j.gone {
			continue
		}
		if j.ended == nil && !m.mayBePruned(j, all) {
			m.fail("job %s was acknowledged and is not there", j.id)
		}
		if j.ended != nil && !m.mayBePruned(j, all) {
			m.fail("job %d (%s) was removed and should not have been", j.ended.Number, j.ended.State)
		}
		j.gone = true
	}
}

// mayBePruned says that the record of a job may have been removed for its age:
// as many of its class as are kept are newer, those that are gone themselves
// among them.
func (m *model) mayBePruned(j *modelJob, all []record.Job) bool {
	if j.request.Key != "" || j.pinned.is("true") || j.request.Destroys {
		return false
	}
	newer := 0
	for _, o := range m.jobs[slices.Index(m.jobs, j)+1:] {
		if !o.request.Destroys {
			newer++
		}
	}
	return newer >= retention.Routine.Count
}

// prune lets the history be pruned, and holds that what is one too many goes, and
// nothing else. Who ends meanwhile may count or not.
func (m *model) prune() {
	before := m.must(order{Do: "jobs"}).Jobs
	m.compare(before)
	m.must(order{Do: "prune"})
	left := map[string]record.Job{}
	after := m.must(order{Do: "jobs"}).Jobs
	for _, r := range after {
		left[r.ID] = r
	}
	least, most := map[*supervisor.Keep]int{}, map[*supervisor.Keep]int{}
	for _, r := range before { // newest first
		j := m.find(r.ID)
		now, stays := left[r.ID]
		switch {
		case !r.State.Terminal():
			if !stays || now.State.Terminal() {
				for _, k := range []*supervisor.Keep{&retention.Ordinary, &retention.Failed, &retention.Routine} {
					most[k]++
				}
			}
		case !r.Pinned:
			k := j.kept(r.State)
			least[k], most[k] = least[k]+1, most[k]+1
			due := j.request.Key == "" && k.Count > 0
			if stays && due && least[k] > k.Count || !stays && !m.forgot && (!due || most[k] <= k.Count) {
				m.fail("job %d (%s, key %q) is left: %v; %d to %d of its kind are as new, %d are kept", r.Number, r.State, j.request.Key, stays, least[k], most[k], k.Count)
			}
		case !stays:
			m.fail("job %d was removed though pinned", r.Number)
		}
	}
	m.compare(after)
}

// kept is how many of the job's kind are kept.
func (j *modelJob) kept(ended record.State) *supervisor.Keep {
	switch r := &retention; {
	case j.request.Destroys:
		return &r.Destructive
	case j.request.Kind == record.PoolRefresh:
		return &r.Routine
	case ended == record.Failed:
		return &r.Failed
	default:
		return &r.Ordinary
	}
}

// verify holds a job against what is known of it.
func (m *model) verify(j *modelJob, r record.Job) {
	if r.Forgotten != j.trace {
		m.fail("job %d is forgotten: %v, should be %v", r.Number, r.Forgotten, j.trace)
	}
	w, keep := j.request, record.RollbackOnFailure
	if w.Keep {
		keep = record.KeepOnFailure
	}
	same := r.ID == j.id && r.Kind == w.Kind && r.Class == w.Class && slices.Equal(r.Objects, w.Objects) && r.OnFailure == keep
	if j.retryOf != nil {
		same = same && r.RetryOf != nil && *r.RetryOf == *j.retryOf
	}
	if !same {
		m.fail("job %d is %+v, was asked for as %+v", r.Number, r, w)
	}
	m.verifyNotes(j, r)
	m.verifyState(j, r)
}

func (m *model) verifyState(j *modelJob, r record.Job) {
	switch {
	case r.State.Terminal() && j.ended == nil:
		m.verifyEnd(j, r)
	case r.State.Terminal() && !sameEnd(*j.ended, r), !r.State.Terminal() && j.ended != nil:
		m.fail("job %d had ended as %+v and is %+v", r.Number, *j.ended, r)
	}
}

func (m *model) verifyNotes(j *modelJob, r record.Job) {
	expect := func(what, is string, may maybe) {
		if !slices.Contains(may, is) {
			m.fail("%s of job %d (%s) is %q, should be %q", what, r.Number, r.State, is, may)
		}
	}
	expect("priority", string(r.Priority), j.priority)
	if !r.Forgotten {
		expect("limit", limitOf(r), j.limit)
		expect("label", r.Labels["l"], j.label)
		expect("pin", strconv.FormatBool(r.Pinned), j.pinned)
	}
	if heeds(r) && !j.cancel {
		for reason, may := range j.reasons {
			expect("reason "+reason, strconv.FormatBool(slices.Contains(r.PauseReasons, reason)), *may)
		}
	}
}

// sameEnd says that nothing of an ended job has changed but what is written on
// it.
func sameEnd(was, is record.Job) bool {
	was.Labels, was.Pinned = is.Labels, is.Pinned
	a, err1 := json.Marshal(was)
	b, err2 := json.Marshal(is)
	return err1 == nil && err2 == nil && bytes.Equal(a, b)
}

// verifyEnd holds that a job has ended as it could.
func (m *model) verifyEnd(j *modelJob, r record.Job) {
	j.ended = &r
	is := fmt.Sprintf("%s/%s", r.State, r.Rollback)
	may := j.outcomes(r)
	if j.adopted && m.unbegun(j) {
		j.afterDeath(may, "failed")
	}
	if !may[is] {
		m.fail("job %d ended %s (%v, warnings %q), could have ended %v; asked for as %+v, canceled %v, signaled %v, adopted %v",
			r.Number, is, r.Error, r.Warnings, slices.Sorted(maps.Keys(may)), j.request, j.cancel, j.signaled, j.adopted)
	}
	if r.Ended == nil || r.Ended.Before(r.Created) || r.Started != nil && r.Ended.Before(*r.Started) {
		m.fail("job %d was created %v, started %v, ended %v", r.Number, r.Created, r.Started, r.Ended)
	}
	if r.CanceledBy != nil && !j.cancel && !j.signaled {
		m.fail("job %d was canceled by nobody, and says %+v", r.Number, *r.CanceledBy)
	}
	if r.State == record.Canceled && r.Error != nil && r.Error.Code != record.CanceledCode {
		m.fail("job %d was canceled, and says %+v", r.Number, r.Error)
	}
	if (r.Error == nil) != (r.State == record.Succeeded) || r.Cancelable || len(r.WaitingOn) > 0 {
		m.fail("job %d has ended as %+v", r.Number, r)
	}
	if p := r.Progress.Percent; r.State == record.Succeeded && (p == nil || *p != 100) || r.State != record.Succeeded && p != nil && *p > 99.9 {
		m.fail("job %d ended %s at %v %%", r.Number, r.State, *p)
	}
	key := is
	if r.Error != nil {
		key += "/" + string(r.Error.Code)
	}
	m.sum.ends[key]++
}

// unbegun says that a helper of the job never heard GO: whoever killed the
// supervisor between the record of GO and the frame did that.
func (m *model) unbegun(j *modelJob) bool {
	for _, list := range []string{"alive", "dead"} {
		paths, err := filepath.Glob(filepath.Join(m.dir, list, j.id+".*"))
		if err != nil {
			panic(err)
		}
		for _, path := range paths {
			var n note
			b, err := os.ReadFile(path)
			if err == nil && json.Unmarshal(b, &n) == nil && !n.Go && !n.Settles && !n.Child {
				return true
			}
		}
	}
	return false
}
