package supervisor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"storaged/internal/record"
	"storaged/internal/store"
)

// Query selects jobs.
type Query struct {
	Head   func(*store.JobHead) bool // nil: all. It must not go by the state of live jobs, which the store may not have
	State  func(record.State) bool   // nil: all
	Limit  int                       // 0: all
	Cursor string                    // from an earlier call; "": from the newest
}

// find gives a live job by uuid or number, nil when there is none.
func (s *Supervisor) find(id string) *job {
	s.mu.Lock()
	defer s.mu.Unlock()
	if j := s.live[id]; j != nil {
		return j
	}
	if n, err := strconv.ParseInt(id, 10, 64); err == nil {
		return s.byNumber[n]
	}
	return nil
}

// stored gives a job from the store.
func (s *Supervisor) stored(id string) (out *store.Job, err error) {
	err = s.store.View(func(tx *store.Tx) error {
		out, err = lookUp(tx, id)
		return err
	})
	return out, err
}

func lookUp(tx *store.Tx, id string) (*store.Job, error) {
	var j *store.Job
	n, err := strconv.ParseInt(id, 10, 64)
	if err == nil {
		j, err = tx.JobByNumber(n)
	} else {
		j, err = tx.Job(id)
	}
	if errors.Is(err, store.ErrNotFound) {
		return nil, record.Errorf(record.NotFound, "there is no job %q", id).WithHint("%s shows those that are recorded", record.Do("job.list").With("all"))
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read job %q: %w", id, err)
	}
	return j, nil
}

// Job gives a job by number or uuid, a live one as it is now.
func (s *Supervisor) Job(id string) (record.Job, error) {
	if j := s.find(id); j != nil {
		return j.view(), nil
	}
	rec, err := s.stored(id)
	if err != nil {
		return record.Job{}, err
	}
	return withLists(rec.Job), nil
}

// Live gives all jobs that have not ended, newest first, without the jobs that
// are in their way: with very many that would take long.
func (s *Supervisor) Live() []record.Job {
	s.mu.Lock()
	all := make([]*job, 0, len(s.live))
	for _, j := range s.live {
		all = append(all, j)
	}
	s.mu.Unlock()
	out := make([]record.Job, 0, len(all))
	for _, j := range all {
		out = append(out, j.sketch(j.shown.Load()))
	}
	slices.SortFunc(out, func(a, b record.Job) int { return cmp.Compare(b.Number, a.Number) })
	return out
}

// Taken gives, of the live jobs that of selects, how many bytes of what they
// reserve they have blocks for already, by number; nothing of those that have
// none.
func (s *Supervisor) Taken(of func(*record.Job) bool) map[int64]int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[int64]int64{}
	for _, j := range s.live {
		r := &j.shown.Load().rec.Job
		if n := min(j.track.takes(), r.Reserved); n > 0 && of(r) {
			out[r.Number] = n
		}
	}
	return out
}

// Count gives how many jobs that have not ended run and how many wait, and of how
// many a process cannot be killed.
func (s *Supervisor) Count() (running, waiting, stuck int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, j := range s.live {
		seen := j.shown.Load()
		if seen.rec.State == record.Queued {
			waiting++
			continue
		}
		running++
		if seen.stuck != nil {
			stuck++
		}
	}
	return running, waiting, stuck
}

// Jobs gives the selected jobs, newest first, and the cursor to go on from,
// nil at the end. A job that comes or ends meanwhile is neither missed nor
// given twice.
func (s *Supervisor) Jobs(q Query) ([]record.Job, *string, error) {
	out := []record.Job{}
	next, err := s.each(q, func(_ int64, view func() (record.Job, error)) error {
		v, err := view()
		out = append(out, v)
		return err
	})
	return out, next, err
}

// Numbers gives no more of the jobs that Jobs would give than their numbers.
func (s *Supervisor) Numbers(q Query) (numbers []int64, next *string, err error) {
	next, err = s.each(q, func(number int64, _ func() (record.Job, error)) error {
		numbers = append(numbers, number)
		return nil
	})
	return numbers, next, err
}

// each calls take with every selected job, newest first, and gives the cursor to
// go on from.
func (s *Supervisor) each(q Query, take func(number int64, view func() (record.Job, error)) error) (next *string, err error) {
	before, err := parseCursor(q.Cursor)
	if err != nil {
		return nil, err
	}
	ended, done := s.listing()
	defer done()
	taken, last := 0, int64(0)
	meet := func(h *store.JobHead, load func() (*store.Job, error)) (bool, error) {
		if q.Head != nil && !q.Head(h) {
			return true, nil
		}
		state, view := s.glance(h, ended, load)
		if q.State != nil && !q.State(state) {
			return true, nil
		}
		if q.Limit > 0 && taken == q.Limit {
			next = new(strconv.FormatInt(last, 10))
			return false, nil
		}
		taken, last = taken+1, h.Number
		return true, take(h.Number, view)
	}
	if err := s.store.View(func(tx *store.Tx) error { return tx.JobsBefore(before, meet) }); err != nil {
		return nil, fmt.Errorf("cannot list jobs: %w", err)
	}
	return next, nil
}

// listing has the jobs that end until done found in ended, with mu held: who reads the
// store sees them as they were when that began.
func (s *Supervisor) listing() (ended map[string]*job, done func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	n := s.reads
	ended = map[string]*job{}
	s.lists[n] = ended
	return ended, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.lists, n)
	}
}

// glance gives the state of a job, and a way to the rest, which costs more: of one that
// is live, or has ended during the listing, what is known here, of another its record.
func (s *Supervisor) glance(h *store.JobHead, ended map[string]*job, load func() (*store.Job, error)) (record.State, func() (record.Job, error)) {
	s.mu.Lock()
	j := cmp.Or(s.live[h.ID], ended[h.ID])
	s.mu.Unlock()
	if j != nil {
		seen := j.shown.Load()
		return seen.rec.State, func() (record.Job, error) { return j.viewOf(seen), nil }
	}
	return h.State, func() (record.Job, error) {
		rec, err := load()
		if err != nil {
			return record.Job{}, err
		}
		return withLists(rec.Job), nil
	}
}

func parseCursor(c string) (int64, error) {
	if c == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(c, 10, 64)
	if err != nil || n < 1 {
		return 0, record.Errorf(record.Invalid, "%q is no cursor of a list of jobs", c)
	}
	return n, nil
}

// Wait gives the job when it has ended. When ctx is done first, it gives the
// job as it is then, and ctx's error.
func (s *Supervisor) Wait(ctx context.Context, id string) (record.Job, error) {
	j := s.find(id)
	if j == nil {
		return s.Job(id)
	}
	select {
	case <-j.ended:
		return j.view(), nil
	case <-ctx.Done():
		return j.view(), ctx.Err()
	case <-j.done:
	}
	select {
	case <-j.ended:
		return j.view(), nil
	default:
		return j.view(), record.Errorf(record.Draining, "storaged stops; job %d goes on", j.shown.Load().rec.Number)
	}
}

// LogPath gives the file with the job's log. It exists once a helper was
// started for the job.
func (s *Supervisor) LogPath(id string) (string, error) {
	j, err := s.Job(id)
	if err != nil {
		return "", err
	}
	return s.launcher.dir(j.ID).Log(), nil
}
