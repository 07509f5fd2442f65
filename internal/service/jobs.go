package service

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/store"
	"storaged/internal/supervisor"
)

// Jobs lists jobs, newest first.
func (s *Service) Jobs(_ context.Context, f contract.JobFilter, p contract.Page) (contract.List[record.Job], error) {
	if p.Limit == 0 {
		p.Limit = record.DefaultPage
	}
	if p.Limit < 0 || p.Limit > record.MaxPage {
		return contract.List[record.Job]{}, record.Errorf(record.Invalid, "limit is 1 to %d, not %d", record.MaxPage, p.Limit)
	}
	if err := checkStates(f.States); err != nil {
		return contract.List[record.Job]{}, err
	}
	jobs, next, err := s.jobs.Jobs(queryOf(f, p.Limit, p.Cursor))
	return contract.List[record.Job]{Items: jobs, Next: next}, err
}

func queryOf(f contract.JobFilter, limit int, cursor string) supervisor.Query {
	return supervisor.Query{
		Head: headMatcher(f), State: func(st record.State) bool { return matchState(f.States, st) }, Limit: limit, Cursor: cursor,
	}
}

func checkStates(states []string) error {
	for _, st := range states {
		if st != "live" && st != "ended" && !slices.Contains(record.States(), record.State(st)) {
			return record.Errorf(record.Invalid, "no such state of a job: %q", st).
				WithHint("live, ended, or one of %v", record.States())
		}
	}
	return nil
}

// headMatcher asks what the store knows as well as the job itself: all but the
// state of live jobs. So the records of jobs that are not meant are not read.
func headMatcher(f contract.JobFilter) func(*store.JobHead) bool {
	return func(h *store.JobHead) bool {
		return (!h.State.Terminal() || matchState(f.States, h.State)) &&
			among(f.Kinds, string(h.Kind)) &&
			matchObject(f, h.Objects) &&
			(len(f.Owners) == 0 || slices.Contains(f.Owners, h.User) || slices.Contains(f.Owners, strconv.Itoa(h.UID))) &&
			(f.Since.IsZero() || !h.Created.Before(f.Since)) &&
			(f.Until.IsZero() || h.Created.Before(f.Until)) &&
			matchLabels(f.Labels, h.Labels) &&
			(f.IdempotencyKey == "" || h.Key == f.IdempotencyKey)
	}
}

func matchState(states []string, st record.State) bool {
	if len(states) == 0 || slices.Contains(states, string(st)) {
		return true
	}
	group := "live"
	if st.Terminal() {
		group = "ended"
	}
	return slices.Contains(states, group)
}

func matchObject(f contract.JobFilter, objects []record.Object) bool {
	if len(f.Pools) == 0 && len(f.Volumes) == 0 {
		return true
	}
	return slices.ContainsFunc(objects, func(o record.Object) bool {
		return among(f.Pools, o.Pool) && (len(f.Volumes) == 0 || o.Volume != "" && (slices.Contains(f.Volumes, o.Volume) || slices.Contains(f.Volumes, o.String())))
	})
}

// matchLabels reports whether a job has one of the labels wanted, or none are.
func matchLabels(wanted []string, has map[string]string) bool {
	return len(wanted) == 0 || slices.ContainsFunc(wanted, func(w string) bool {
		k, v, _ := strings.Cut(w, "=")
		got, ok := has[k]
		return ok && got == v
	})
}

// Job gives one job by number or uuid.
func (s *Service) Job(_ context.Context, job string) (record.Job, error) { return s.jobs.Job(job) }

// WaitJob waits for a job's end, at most timeout.
func (s *Service) WaitJob(ctx context.Context, job string, timeout time.Duration) (record.Job, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	j, err := s.jobs.Wait(ctx, job)
	if errors.Is(err, context.DeadlineExceeded) {
		return j, nil
	}
	return j, err
}

// mayControl refuses a caller whom the host's rules forbid the jobs of others.
func (s *Service) mayControl(ctx context.Context, c record.Caller, job string) error {
	if c.Ask == nil {
		return nil
	}
	j, err := s.jobs.Job(job)
	if err != nil || j.Owner.UID == c.Owner.UID {
		return err
	}
	return c.May(ctx, record.ControlJobs)
}

// PatchJob changes properties of a job: all that are asked for, or none where
// one is refused as input.
func (s *Service) PatchJob(ctx context.Context, c record.Caller, job string, r contract.JobPatch) (record.Job, error) {
	if err := s.mayControl(ctx, c, job); err != nil {
		return record.Job{}, err
	}
	limit, err := patchLimit(r.Limit)
	if err != nil {
		return record.Job{}, err
	}
	if r.Priority != nil {
		if err := (&operation.JobOptions{Priority: *r.Priority}).Check(); err != nil {
			return record.Job{}, err
		}
	}
	if r.Labels != nil {
		s.labeling.Lock()
		defer s.labeling.Unlock()
	}
	j, err := s.jobs.Job(job)
	if err != nil {
		return record.Job{}, err
	}
	labels := patchLabels(j.Labels, r.Labels)
	if err := record.CheckLabels(labels); err != nil {
		return record.Job{}, err
	}
	if r.Limit != nil {
		j, err = s.jobs.SetLimit(job, limit, c.Owner)
	}
	if err == nil && r.Priority != nil {
		j, err = s.jobs.SetPriority(job, *r.Priority, c.Owner)
	}
	if err == nil && r.Pinned != nil {
		j, err = s.jobs.SetPinned(job, *r.Pinned)
	}
	if err == nil && r.Labels != nil {
		j, err = s.jobs.SetLabels(job, labels)
	}
	return j, err
}

// patchLabels merges: a nil value takes a label away.
func patchLabels(has map[string]string, patch map[string]*string) map[string]string {
	labels := maps.Clone(has)
	if labels == nil {
		labels = map[string]string{}
	}
	for k, v := range patch {
		if v == nil {
			delete(labels, k)
		} else {
			labels[k] = *v
		}
	}
	return labels
}

// patchLimit reads the merge-patch of a limit: null is none.
func patchLimit(raw json.RawMessage) (*int64, error) {
	if raw == nil || string(raw) == "null" {
		return nil, nil
	}
	var rate int64
	if err := json.Unmarshal(raw, &rate); err != nil || rate <= 0 {
		return nil, record.Errorf(record.Invalid, "limit is null or a number of bytes per second above 0, not %.40s", raw)
	}
	return &rate, nil
}

// ForgetJob drops an ended job's record, but for the trace that it gives.
// What a retry could have gone on with is removed by a refresh of its pool.
func (s *Service) ForgetJob(ctx context.Context, c record.Caller, job string) (*record.Job, error) {
	if err := s.mayControl(ctx, c, job); err != nil {
		return nil, err
	}
	j, err := s.jobs.Job(job)
	if err != nil {
		return nil, err
	}
	trace, err := s.jobs.Forget(job)
	if err == nil && j.Resumable != nil {
		s.tidy(ctx, &j)
	}
	return trace, err
}

// tidy refreshes the pools of a job. Where that cannot be done now, the next
// refresh does it.
func (s *Service) tidy(ctx context.Context, j *record.Job) {
	for _, o := range j.Objects {
		if o.Mode != record.ModeWrite {
			continue
		}
		if _, err := s.Start(ctx, contract.Submit{Caller: s.self()}, o.Pool, "", &operation.PoolRefreshRequest{}); err != nil {
			s.log.Info("what a forgotten job left is removed by the next refresh", "job", j.Number, "pool", o.Pool, "error", err)
		}
	}
}

// CancelJob asks a job to stop.
func (s *Service) CancelJob(ctx context.Context, c record.Caller, job string, r contract.JobCancel) (record.Job, error) {
	if err := s.mayControl(ctx, c, job); err != nil {
		return record.Job{}, err
	}
	return s.jobs.Cancel(job, c.Owner, r.Now)
}

// FailJob ends a job that is at work.
func (s *Service) FailJob(_ context.Context, job string, why *record.Error) error {
	_, err := s.jobs.Fail(job, why)
	return err
}

// PauseJob stops a job's I/O until ResumeJob. The answer waits a little for
// that to have come true.
func (s *Service) PauseJob(ctx context.Context, c record.Caller, job string) (record.Job, error) {
	if err := s.mayControl(ctx, c, job); err != nil {
		return record.Job{}, err
	}
	if j, err := s.jobs.Pause(job, c.Owner); err != nil {
		return j, err
	}
	return s.jobs.AwaitPaused(ctx, job)
}

// ResumeJob ends a pause; that of an administrator an owner cannot end.
func (s *Service) ResumeJob(ctx context.Context, c record.Caller, job string) (record.Job, error) {
	if err := s.mayControl(ctx, c, job); err != nil {
		return record.Job{}, err
	}
	return s.jobs.Resume(job, c.Owner)
}

// retryable gives a job of which the work can be started again.
func (s *Service) retryable(job string) (*store.Job, error) {
	j, err := s.jobs.Job(job)
	if err != nil {
		return nil, err
	}
	if j.Forgotten {
		return nil, record.Errorf(record.WrongState, "job %d was forgotten; what it was to do is not known any more", j.Number)
	}
	if j.State != record.Failed && j.State != record.Canceled {
		return nil, record.Errorf(record.WrongState, "job %d %s; only a failed or canceled job can be retried", j.Number, stands(j.State))
	}
	var old *store.Job
	err = s.store.View(func(tx *store.Tx) (err error) {
		if old, err = tx.Job(j.ID); err == nil && old.Data {
			err = record.Errorf(record.Unsupported, "job %d had a file or stream of its client, which only the client can give again", j.Number).
				WithHint("%s", givenAgain(tx, old))
		}
		return err
	})
	return old, err
}

// stands says in a sentence how a job stands that cannot be retried.
func stands(st record.State) string {
	if st == record.Succeeded {
		return "has succeeded"
	}
	return "is " + strings.ReplaceAll(string(st), "_", " ")
}

// JobLog opens a job's log. The file is the daemon's own, not a pool's.
func (s *Service) JobLog(_ context.Context, job string) (io.ReadCloser, error) {
	path, err := s.jobs.LogPath(job)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return io.NopCloser(strings.NewReader("")), nil // it never started
	}
	return f, err
}
