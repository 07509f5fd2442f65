package daemon

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"storaged/internal/api"
	"storaged/internal/backends"
	"storaged/internal/backends/all"
	"storaged/internal/events"
	"storaged/internal/metrics"
	"storaged/internal/record"
	"storaged/internal/store"
	"storaged/internal/supervisor"
)

// Service answers the API's calls. It is safe for concurrent use.
type Service struct {
	config  Settings // as the daemon was started
	started time.Time
	store   *store.Store
	jobs    *supervisor.Supervisor
	hub     *events.Hub
	keeper  *keeper
	metrics *metrics.Metrics
	log     hclog.Logger
	notes   hclog.Logger // see Setup

	recovered   []int64               // jobs of an earlier daemon, found at start
	restored    *store.Restoration    // what became of a damaged database; nil: it never was
	copyTrouble atomic.Pointer[error] // of the last copy of the database

	settings atomic.Pointer[Settings] // as last read; of what can change while the daemon runs, these count

	looks    looks
	labeling sync.Mutex // held from the reading of a job's labels to their writing

	later atomic.Pointer[[]string] // settings that hold from the next start on
}

var _ api.Service = (*Service)(nil)

// submit starts the work as a job, or plans it.
func (s *Service) submit(ctx context.Context, sub api.Submit, w work, o api.JobOptions) (api.Started, error) {
	r, err := s.jobRequest(sub, w, o)
	if err != nil {
		return api.Started{}, err
	}
	return s.start(ctx, sub, w, r)
}

// start makes a job of a request for the work, or a plan. It is the only way to
// a job that somebody asks for.
func (s *Service) start(ctx context.Context, sub api.Submit, w work, r supervisor.Request) (api.Started, error) {
	if sub.DryRun {
		return api.Started{Plan: &api.Plan{
			Kind: r.Kind, Class: r.Class, Objects: r.Objects, Argv: r.Argv,
			Destroys: w.destructive(), Bytes: w.moves(), EstimateS: s.jobs.Expect(r, w.moves()), WaitingOn: s.jobs.Blockers(r),
		}}, nil
	}
	var started api.Started
	r.Known = func() { started.Known = true }
	j, err := s.jobs.Submit(ctx, r)
	if err != nil {
		return api.Started{}, err
	}
	started.Job = &j
	return started, nil
}

func (s *Service) jobRequest(sub api.Submit, w work, o api.JobOptions) (supervisor.Request, error) {
	if err := checkOptions(o); err != nil {
		return supervisor.Request{}, err
	}
	w.Keep = o.OnFailure == record.KeepOnFailure
	if w.Keep && !w.kind().keeps {
		return supervisor.Request{}, record.Errorf(record.Invalid, "on_failure keep means nothing for %s: there is no unfinished volume to keep", w.Kind)
	}
	w.IfMatch = sub.IfMatch
	r := w.request()
	r.Moves = w.bound()
	if w.Kind == record.PoolRefresh && w.IfMatch == 0 {
		r.Same = string(w.Kind) + " " + w.Pool
	}
	r.Owner, r.Key, r.Digest, r.LockWait = sub.Caller.Owner, sub.Key, sub.Digest, sub.LockWait
	o.Fill()
	r.Limit, r.Priority, r.Labels, r.OnFailure = o.Limit, o.Priority, o.Labels, o.OnFailure
	if w.Data == nil { // another helper would not have what the client gave
		r.Resume = s.config.Resume.of(w.Kind)
	}
	return r, nil
}

// Bounds of what a caller may attach to a job.
const (
	maxLabels     = 64
	maxLabelBytes = 256
)

func checkOptions(o api.JobOptions) error {
	switch o.Priority {
	case "", record.Interactive, record.Medium, record.Background:
	default:
		return record.Errorf(record.Invalid, "priority is interactive, normal or background, not %q", o.Priority)
	}
	switch o.OnFailure {
	case "", record.RollbackOnFailure, record.KeepOnFailure:
	default:
		return record.Errorf(record.Invalid, "on_failure is rollback or keep, not %q", o.OnFailure)
	}
	if o.Limit != nil && *o.Limit <= 0 {
		return record.Errorf(record.Invalid, "limit must be more than 0 bytes per second, not %d", *o.Limit)
	}
	return checkLabels(o.Labels)
}

func checkLabels(labels map[string]string) error {
	if len(labels) > maxLabels {
		return record.Errorf(record.Invalid, "%d labels are more than %d", len(labels), maxLabels)
	}
	for k, v := range labels {
		if k == "" || len(k) > maxLabelBytes || len(v) > maxLabelBytes {
			return record.Errorf(record.Invalid, "label %.40q: a key has 1 to %d bytes, a value at most %d", k, maxLabelBytes, maxLabelBytes)
		}
	}
	return nil
}

// repeated gives the job that the same caller started under the same key, so
// that a request repeated after a lost answer is not judged by what it did.
func (s *Service) repeated(sub api.Submit) (*api.Started, error) {
	if sub.DryRun {
		return nil, nil
	}
	j, err := s.jobs.Repeated(supervisor.Request{Owner: sub.Caller.Owner, Key: sub.Key, Digest: sub.Digest})
	if j == nil || err != nil {
		return nil, err
	}
	return &api.Started{Job: j, Known: true}, nil
}

// resolve runs plan on a consistent view of the catalogue, unless the request
// is a repetition, and starts the work it gives.
func (s *Service) resolve(ctx context.Context, sub api.Submit, o api.JobOptions, plan func(*store.Tx) (work, error)) (api.Started, error) {
	if again, err := s.repeated(sub); again != nil || err != nil {
		return deref(again), err
	}
	w, err := s.planned(ctx, plan)
	if err != nil {
		// The same request may have come twice at once, and the other have
		// done what this one finds in its way.
		if again, rerr := s.repeated(sub); again != nil && rerr == nil {
			return *again, nil
		}
		return api.Started{}, err
	}
	return s.submitFitting(ctx, w, func(w work) (api.Started, error) { return s.submit(ctx, sub, w, o) })
}

func deref(a *api.Started) api.Started {
	if a == nil {
		return api.Started{}
	}
	return *a
}

// unchanged refuses when the caller has seen another generation.
func unchanged(sub api.Submit, generation int64, what string) error {
	if sub.IfMatch != 0 && sub.IfMatch != generation {
		return record.Errorf(record.Changed, "%s has changed: its generation is %d, not %d", what, generation, sub.IfMatch).
			WithHint("read it again")
	}
	return nil
}

// checkName applies the one rule for names.
func checkName(what, name string) error {
	if err := backends.CheckName(name); err != nil {
		return record.Errorf(record.Invalid, "%s: %v", what, err)
	}
	return nil
}

// properties of a pool type.
func properties(poolType string) (backends.Properties, error) {
	b, err := all.Lookup(poolType)
	if err != nil {
		return backends.Properties{}, record.Errorf(record.Unsupported, "%v", err).WithHint("storagedctl capabilities")
	}
	return b.Properties(), nil
}

// moves is how many bytes the work moves at most.
func (w work) moves() int64 {
	switch w.Kind {
	case record.VolumeCreate, record.VolumeMove, record.VolumeResize:
		return w.Allocation
	case record.VolumeUpload, record.VolumeDownload:
		if w.Length != nil {
			return *w.Length
		}
		return w.Capacity - w.Offset
	case record.VolumeClone, record.VolumeWipe, record.VolumeVerify, record.PoolVerify, record.PoolEvacuate:
		return w.Capacity
	}
	return 0
}

// bound is how many bytes the work moves at most, 0 where that bounds nothing:
// what has a client at its other end takes as long as that client does, and what
// goes through a pool meets what nobody foresaw.
func (w work) bound() int64 {
	if w.Form != "" || w.Kind == record.PoolVerify || w.Kind == record.PoolEvacuate {
		return 0
	}
	return w.moves()
}

func quoted(pool, volume string) string { return fmt.Sprintf("\"%s/%s\"", pool, volume) }
