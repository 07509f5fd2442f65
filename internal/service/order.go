package service

import (
	"cmp"
	"context"
	"errors"
	"os"
	"slices"
	"time"

	"storaged/internal/catalog"
	"storaged/internal/ipc"
	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/store"
	"storaged/internal/supervisor"
)

// order is an operation on its way to become a job.
type order struct {
	operation operation.Operation
	options   operation.JobOptions
	warnings  []string
	data      *os.File              // that its helper is given
	also      func(*store.Tx) error // made durable with the job, or neither is
	has       int64                 // bytes of what it needs that an earlier job has left it
}

// submission is a request for an operation on a pool, or on a volume of it.
type submission struct {
	contract.Submit
	pool, volume string
	request      operation.Request
}

// Start starts a job, or plans it: what is asked for is done to the pool, or to the
// volume where one is named. A request for a new volume names that itself. It is
// the one way to a job, but for RetryJob and DefinePool.
func (s *Service) Start(ctx context.Context, sub contract.Submit, pool, volume string, r operation.Request) (contract.Started, error) {
	r.Fill()
	if err := r.Check(); err != nil {
		return contract.Started{}, err
	}
	if c, ok := r.(*operation.CloneRequest); ok && c.Overwrite {
		if sub.IfMatch != 0 {
			return contract.Started{}, record.Errorf(record.Invalid, "a precondition is on the source of a clone, and overwrite is about another volume")
		}
		pool, volume, r = c.Over(pool, volume)
		r.Fill()
	}
	if err := sub.Caller.MayStart(ctx, operation.KindOf(r)); err != nil {
		return contract.Started{}, err
	}
	if again, err := s.repeated(sub); again != nil || err != nil {
		return deref(again), err
	}
	if err := s.prepare(ctx, pool, r); err != nil {
		return contract.Started{}, err
	}
	st, err := s.resolve(ctx, submission{sub, pool, volume, r})
	if stop, ok := r.(*operation.PoolStopRequest); ok && err == nil && stop.Force && st.Job != nil {
		s.clearTheWay(st.Job, sub.Caller.Owner)
	}
	return st, err
}

// prepare finds out what a request needs to know that the catalog may not.
func (s *Service) prepare(ctx context.Context, pool string, r operation.Request) error {
	switch r := r.(type) {
	case *operation.EvacuateRequest: // all its volumes must be known by name
		return s.Freshen(ctx, pool)
	case *operation.UploadRequest:
		if r.Continues == "" {
			return nil
		}
		j, err := s.jobs.Job(r.Continues)
		r.Continues = j.ID
		return err
	}
	return nil
}

// resolve plans what is asked for on a consistent view of the catalog, and starts it.
func (s *Service) resolve(ctx context.Context, q submission) (contract.Started, error) {
	w, err := s.planned(ctx, q)
	if err == nil {
		err = catalog.Able(w.operation)
	}
	if err != nil {
		// The same request may have come twice at once, and the other have
		// done what this one finds in its way.
		if again, rerr := s.repeated(q.Submit); again != nil && rerr == nil {
			return *again, nil
		}
		return s.needless(ctx, q, w, err)
	}
	if operation.Waits(w.operation) {
		s.behind(&w)
	}
	return s.submitFitting(ctx, w, func(w order) (contract.Started, error) { return s.submit(ctx, q.Submit, w) })
}

// planned plans what is asked for on a consistent view of the catalog. A name that
// is taken is looked for in its pool first, and so is a volume that is incomplete: others
// may have removed the file, or put another in its place. One that cannot be looked at is
// as incomplete as is known.
func (s *Service) planned(ctx context.Context, q submission) (w order, err error) {
	read := func(tx *store.Tx) (err error) {
		w, err = q.plan(tx)
		return err
	}
	err = s.store.View(read)
	if record.CodeOf(err) == record.HasChildren { // those may be gone too
		if _, serr := s.seekChildren(ctx); serr == nil {
			return w, s.store.View(read)
		}
	}
	var taken *catalog.NameTakenError
	var incomplete *catalog.IncompleteError
	switch {
	case errors.As(err, &taken):
		err = s.lookAfter(ctx, taken.By)
	case errors.As(err, &incomplete) && s.reconsider(ctx, incomplete.Of) == nil:
		err = nil
	default:
		return w, err
	}
	if err != nil {
		return w, err
	}
	return w, s.store.View(read)
}

// plan makes the operation by what the catalog knows, and refuses what cannot be.
func (q submission) plan(tx *store.Tx) (order, error) {
	if m, ok := q.request.(operation.Maker); ok {
		if name, ok := m.NewName(); ok {
			return q.onNew(tx, name)
		}
	}
	if q.volume == "" {
		return q.onPool(tx)
	}
	return q.onVolume(tx)
}

// onPool plans an operation on a pool.
func (q submission) onPool(tx *store.Tx) (order, error) {
	p, err := catalog.Pool(tx, q.pool)
	if err != nil {
		return order{}, err
	}
	if err := catalog.Unchanged(q.IfMatch, p.Generation, "pool "+p.Name); err != nil {
		return order{}, err
	}
	o, err := q.operation(tx, p, nil)
	if err != nil {
		return order{}, err
	}
	return q.order(o, record.Volume{}), catalog.PoolAllows(tx, p, o)
}

// onNew plans an operation that makes a volume of no other.
func (q submission) onNew(tx *store.Tx, name string) (order, error) {
	p, err := catalog.ActivePool(tx, q.pool)
	if err != nil {
		return order{}, err
	}
	k, err := catalog.Known(tx, p, nil, nil)
	if err != nil {
		return order{}, err
	}
	k.On = catalog.OnVolume(p, name)
	o, err := q.request.Plan(k)
	if err != nil {
		return order{}, err
	}
	return q.order(o, record.Volume{}), free(tx, p, name, o)
}

// onVolume plans an operation on a volume.
func (q submission) onVolume(tx *store.Tx) (order, error) {
	p, v, err := presentVolume(tx, q.pool, q.volume)
	if c, ok := q.request.(*operation.SnapshotCloneRequest); ok && err == nil {
		p, v, err = presentSnapshot(tx, q.pool, q.volume, c.SnapshotName())
	}
	if err != nil {
		return order{}, err
	}
	if err := catalog.Unchanged(q.IfMatch, v.Generation, "volume "+record.Quoted(p.Name, v.Name)); err != nil {
		return order{}, err
	}
	if v.State == record.VolumeBuilding {
		return order{}, catalog.Complete(tx, v)
	}
	o, err := q.operation(tx, p, v)
	if err != nil {
		return order{operation: o}, err
	}
	if r, ok := q.request.(*operation.UploadRequest); ok && r.Continues != "" {
		if err := q.resumeUpload(tx, o.(*operation.Upload), v); err != nil {
			return order{}, err
		}
	}
	return q.order(o, v.Volume), catalog.VolumeAllows(tx, v, o, nil)
}

// operation makes it of what is known. Where it has a destination, that must be
// free.
func (q submission) operation(tx *store.Tx, p *store.Pool, v *store.Volume) (operation.Operation, error) {
	to, into, err := q.destination(tx, p, v)
	if err != nil {
		return nil, err
	}
	k, err := catalog.Known(tx, p, v, to)
	if err != nil {
		return nil, err
	}
	k.Into = into
	o, err := q.request.Plan(k)
	if err != nil || into.Name == "" {
		return o, err
	}
	return o, free(tx, to, into.Name, o)
}

// destination is the pool that something is to go to, and the place there; nil
// where nothing goes anywhere.
func (q submission) destination(tx *store.Tx, p *store.Pool, v *store.Volume) (to *store.Pool, into operation.Target, err error) {
	sender, ok := q.request.(operation.Sender)
	if !ok {
		return nil, into, nil
	}
	pool, name := sender.Goes()
	if to = p; pool != "" {
		if to, err = catalog.ActivePool(tx, pool); err != nil {
			return nil, into, err
		}
	}
	if v == nil {
		return to, operation.Target(catalog.OnPool(to)), nil
	}
	name = cmp.Or(name, v.Name)
	return to, operation.Target(catalog.OnVolume(to, name)), nil
}

// order is an operation with what is asked of its job, and what is to be said before of the
// volume that it is on.
func (q submission) order(o operation.Operation, on record.Volume) order {
	w := order{operation: o, options: *q.request.Job()}
	if warning, ok := o.(operation.Warning); ok {
		w.warnings = warning.Warnings(on)
	}
	if h, ok := q.request.(operation.Carrier); ok {
		w.data = h.File()
	}
	return w
}

// submit starts an operation as a job, or plans it.
func (s *Service) submit(ctx context.Context, sub contract.Submit, w order) (contract.Started, error) {
	r, err := s.jobRequest(sub, w)
	if err != nil {
		return contract.Started{}, err
	}
	return s.launch(ctx, sub, w, r)
}

// launch makes a job of a request for the operation, or a plan. It is the only way
// to a job that somebody asks for.
func (s *Service) launch(ctx context.Context, sub contract.Submit, w order, r supervisor.Request) (contract.Started, error) {
	if sub.DryRun {
		bytes, _ := w.operation.Moves()
		return contract.Started{Plan: &contract.Plan{
			Kind: r.Kind, Class: r.Class, Objects: r.Objects, Argv: r.Argv,
			Destroys: w.operation.Destroys() || w.operation.Effect() == operation.Empties && w.operation.Displaces(),
			Bytes:    bytes, EstimateS: s.jobs.Expect(r, bytes), WaitingOn: s.jobs.Blockers(r),
			Warnings: append(unforeseen(w.operation), w.warnings...),
		}}, nil
	}
	var started contract.Started
	r.Known = func() { started.Known = true }
	j, err := s.jobs.Submit(ctx, r)
	if err != nil {
		return contract.Started{}, err
	}
	started.Job = &j
	return started, nil
}

// unforeseen says what a plan of an operation cannot.
func unforeseen(o operation.Operation) []string {
	if u, ok := o.(interface{ Unforeseen() string }); ok && u.Unforeseen() != "" {
		return []string{u.Unforeseen()}
	}
	return []string{}
}

// jobRequest makes the supervisor's request of an operation.
func (s *Service) jobRequest(sub contract.Submit, w order) (supervisor.Request, error) {
	o := w.options
	o.Fill()
	keep := o.OnFailure == record.KeepOnFailure
	switch d := operation.DraftOf(w.operation); {
	case d != nil:
		d.Keep = keep
	case keep:
		return supervisor.Request{}, record.Errorf(record.Invalid, "on_failure keep means nothing for %s: there is no unfinished volume to keep", w.operation.Kind())
	}
	w.operation.Bound().IfMatch = sub.IfMatch
	if rec, ok := w.operation.(operation.Receiver); ok {
		rec.Receive(ipc.DataFD)
	}
	secrets := operation.HandSecrets(w.operation, ipc.SecretFD)
	r := supervisor.Request{
		Secrets: secrets,
		Kind:    w.operation.Kind(), Class: w.operation.Class(), Objects: w.operation.Locks(), Argv: w.operation.Task().Argv(), UndoArgv: catalog.Settlement(w.operation), Params: operation.Encode(w.operation),
		Destroys: w.operation.Destroys(), Warnings: w.warnings, Reserved: w.operation.Bound().Reserve, Also: s.secured(w), Data: w.data,
		Owner: sub.Caller.Owner, Key: sub.Key, Digest: sub.Digest, LockWait: patience(sub, w.operation),
		Limit: o.Limit, Priority: o.Priority, Labels: o.Labels, OnFailure: o.OnFailure,
	}
	if bytes, bounds := w.operation.Moves(); bounds {
		r.Moves = bytes
	}
	if w.operation.Effect() == operation.Lists && sub.IfMatch == 0 {
		r.Same = string(w.operation.Kind()) + " " + w.operation.On().Pool
	}
	if w.data == nil { // another helper would not have what the client gave
		r.Resume = s.config.Resume.of(w.operation.Kind())
	}
	return r, nil
}

// patience is how long a job waits for others: as it is asked for, or the default of
// its class, where that is nil.
func patience(sub contract.Submit, o operation.Operation) *time.Duration {
	if sub.LockWait == nil && operation.Waits(o) {
		return new(time.Duration(-1))
	}
	return sub.LockWait
}

// durable is what is made durable with the job.
func (w order) durable(tx *store.Tx) error {
	if w.also != nil {
		if err := w.also(tx); err != nil {
			return err
		}
	}
	return catalog.Reserve(tx, w.operation)
}

// secured is what is made durable with the job, if its secrets are there.
func (s *Service) secured(w order) func(*store.Tx) error {
	return func(tx *store.Tx) error { return cmp.Or(s.sealed(w.operation), w.durable(tx)) }
}

// repeated gives the job that the same caller started under the same key, so
// that a request repeated after a lost answer is not judged by what it did.
func (s *Service) repeated(sub contract.Submit) (*contract.Started, error) {
	if sub.DryRun {
		return nil, nil
	}
	j, err := s.jobs.Repeated(supervisor.Request{Owner: sub.Caller.Owner, Key: sub.Key, Digest: sub.Digest})
	if j == nil || err != nil {
		return nil, err
	}
	return &contract.Started{Job: j, Known: true}, nil
}

func deref(a *contract.Started) contract.Started {
	if a == nil {
		return contract.Started{}
	}
	return *a
}

// clearTheWay cancels the jobs that a forced stop of a pool waits for.
func (s *Service) clearTheWay(stop *record.Job, by record.Owner) {
	for _, j := range s.jobs.Live() {
		if j.Number < stop.Number && j.Cancelable && concerns(j, stop.Objects[0].Pool) {
			if _, err := s.jobs.Cancel(j.ID, by, false); err != nil {
				s.log.Warn("cannot cancel job in the way of a forced stop", "job", j.Number, "error", err)
			}
		}
	}
}

func concerns(j record.Job, pool string) bool {
	return slices.ContainsFunc(j.Objects, func(o record.Object) bool { return o.Pool == pool })
}
