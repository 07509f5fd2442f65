// Package service is what clients may ask of storaged, whatever the front end:
// it turns requests into jobs, and keeps the catalogue of pools and volumes true
// to what the jobs did. It never touches a pool: what it knows of storage it
// learnt from helpers. It knows no HTTP.
package service

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"storaged/internal/backends/all"
	"storaged/internal/events"
	"storaged/internal/metrics"
	"storaged/internal/record"
	"storaged/internal/store"
	"storaged/internal/supervisor"
)

// Service answers the calls of the front ends. It is safe for concurrent use.
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

// submit starts the work as a job, or plans it.
func (s *Service) submit(ctx context.Context, sub Submit, w work, o JobOptions) (Started, error) {
	r, err := s.jobRequest(sub, w, o)
	if err != nil {
		return Started{}, err
	}
	return s.start(ctx, sub, w, r)
}

// start makes a job of a request for the work, or a plan. It is the only way to
// a job that somebody asks for.
func (s *Service) start(ctx context.Context, sub Submit, w work, r supervisor.Request) (Started, error) {
	if sub.DryRun {
		return Started{Plan: &Plan{
			Kind: r.Kind, Class: r.Class, Objects: r.Objects, Argv: r.Argv,
			Destroys: w.destructive(), Bytes: w.moves(), EstimateS: s.jobs.Expect(r, w.moves()), WaitingOn: s.jobs.Blockers(r),
		}}, nil
	}
	var started Started
	r.Known = func() { started.Known = true }
	j, err := s.jobs.Submit(ctx, r)
	if err != nil {
		return Started{}, err
	}
	started.Job = &j
	return started, nil
}

func (s *Service) jobRequest(sub Submit, w work, o JobOptions) (supervisor.Request, error) {
	if err := o.Check(); err != nil {
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

// repeated gives the job that the same caller started under the same key, so
// that a request repeated after a lost answer is not judged by what it did.
func (s *Service) repeated(sub Submit) (*Started, error) {
	if sub.DryRun {
		return nil, nil
	}
	j, err := s.jobs.Repeated(supervisor.Request{Owner: sub.Caller.Owner, Key: sub.Key, Digest: sub.Digest})
	if j == nil || err != nil {
		return nil, err
	}
	return &Started{Job: j, Known: true}, nil
}

// resolve runs plan on a consistent view of the catalogue, unless the request
// is a repetition, and starts the work it gives.
func (s *Service) resolve(ctx context.Context, sub Submit, o JobOptions, plan func(*store.Tx) (work, error)) (Started, error) {
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
		return Started{}, err
	}
	return s.submitFitting(ctx, w, func(w work) (Started, error) { return s.submit(ctx, sub, w, o) })
}

func deref(a *Started) Started {
	if a == nil {
		return Started{}
	}
	return *a
}

// unchanged refuses when the caller has seen another generation.
func unchanged(sub Submit, generation int64, what string) error {
	if sub.IfMatch != 0 && sub.IfMatch != generation {
		return record.Errorf(record.Changed, "%s has changed: its generation is %d, not %d", what, generation, sub.IfMatch).
			WithHint("read it again")
	}
	return nil
}

// checkName applies the one rule for names.
func checkName(what, name string) error {
	if err := record.CheckName(name); err != nil {
		return record.Errorf(record.Invalid, "%s: %v", what, err)
	}
	return nil
}

// properties of a pool type.
func properties(poolType string) (record.Capabilities, error) {
	b, err := all.Lookup(poolType)
	if err != nil {
		return record.Capabilities{}, record.Errorf(record.Unsupported, "%v", err).WithHint("%s", record.Do("capabilities"))
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
	case record.VolumeClone, record.VolumeWipe, record.VolumeTrim, record.VolumeVerify, record.PoolVerify, record.PoolEvacuate:
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
