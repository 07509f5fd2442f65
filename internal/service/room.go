package service

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"storaged/internal/catalog"
	"storaged/internal/ipc"
	"storaged/internal/operation"
	"storaged/internal/quantity"
	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/store"
)

// Room is reserved for a job when it is submitted, in the transaction that
// records it, and given back in the one that records its end. So of two jobs
// that do not fit together the later one is refused at once, though neither has
// begun, and is told whom the room is reserved for.

const (
	// roomTimeout bounds the look for room. A file system tells it in
	// microseconds, however much it holds; one that hangs must not keep a request
	// from its answer.
	roomTimeout = 3 * time.Second

	// roomTries is how often room is looked for that others take meanwhile.
	roomTries = 3
)

// submitFitting is submit for an operation that may need room.
func (s *Service) submitFitting(ctx context.Context, w order, submit func(order) (contract.Started, error)) (st contract.Started, err error) {
	if err := s.spareChildren(ctx, &w); err != nil {
		return contract.Started{}, err
	}
	for range roomTries {
		try := w
		if err := s.fits(ctx, &try); err != nil {
			return contract.Started{}, err
		}
		if st, err = submit(try); !errors.Is(err, catalog.ErrTaken) {
			break
		}
	}
	return st, err
}

// fits refuses an operation for which there is no room. One that perhaps needs none, which
// its helper finds out, is only warned of.
func (s *Service) fits(ctx context.Context, w *order) error {
	reserve := &w.operation.Bound().Reserve
	*reserve = 0 // a retry has that of the first job
	if f, ok := w.operation.(operation.Fills); ok {
		if length, all := f.Overwrites(); all {
			return s.fitsInPlace(ctx, w, length)
		}
	}
	g, ok := w.operation.(operation.Grows)
	if !ok {
		return nil
	}
	needed, unless := g.Needs()
	needed -= w.has
	if needed <= 0 {
		return nil
	}
	err := s.roomFor(ctx, w, needed)
	if err == nil {
		*reserve = needed
		return nil
	}
	var short *record.Error
	if unless == "" || !errors.As(err, &short) || short.Code != record.NoSpace {
		return err
	}
	w.warnings = append(w.warnings, short.Message+"; "+unless)
	return nil
}

// fitsInPlace refuses what writes more than its volume and the pool have blocks
// for. What the catalog says of the volume may be old, so that it is looked at
// before it is refused.
func (s *Service) fitsInPlace(ctx context.Context, w *order, length *int64) error {
	for looked := false; ; looked = true {
		lacks, v, err := s.lacks(w, length)
		if err != nil || lacks == 0 {
			return err
		}
		err = s.roomFor(ctx, w, lacks)
		if err == nil {
			w.operation.Bound().Reserve = lacks
			return nil
		}
		if looked || record.CodeOf(err) != record.NoSpace {
			return err
		}
		if err := s.lookAfter(ctx, v); err != nil {
			return err
		}
	}
}

// lacks is how many blocks more, in bytes, the volume must get at least.
func (s *Service) lacks(w *order, length *int64) (n int64, v *store.Volume, err error) {
	if v, err = s.storedOn(w.operation); err != nil {
		return 0, nil, err
	}
	n = v.Capacity
	if length != nil {
		n = *length
	}
	return max(0, n-v.Allocation), v, nil
}

// roomFor looks for room for the work. The catalog's figures may be old, so
// that they are read anew before there is too little. If they cannot be read,
// they are all that is known.
func (s *Service) roomFor(ctx context.Context, w *order, needed int64) error {
	pool, _ := operation.ResultOf(w.operation)
	p, err := s.stored(pool)
	if err != nil || catalog.Free(p) >= needed {
		return err
	}
	unread := s.readSpace(ctx, p, roomTimeout)
	err = s.store.View(func(tx *store.Tx) error { // it may be away
		p, err = catalog.ActivePool(tx, pool)
		return err
	})
	if err != nil || catalog.Free(p) >= needed {
		return err
	}
	return s.noRoom(p, w, needed, unread)
}

// noRoom is the refusal. unread says why the figures are old ones; nil: they
// are not.
func (s *Service) noRoom(p *store.Pool, w *order, needed int64, unread error) error {
	holders := s.reservers(p)
	e := record.Errorf(record.NoSpace, "pool %q has no room for %s%s: %s are available%s", p.Name, quantity.FormatBoth(needed), w.beside(),
		quantity.FormatBoth(p.Available), reservedBy(catalog.Reserved(p), holders)).WithHint("%s", w.smaller())
	if unread != nil {
		e.Message += fmt.Sprintf("; these figures are old, for the pool cannot be read now: %v", unread)
	}
	return e.WithHolders(holders)
}

// looks are the looks for room, one at a time for each pool, so that many who ask
// at once are answered by one that began after they asked.
type looks struct {
	mu    sync.Mutex
	pools map[string]*look // by uuid, of those that somebody asks about
}

// look is the last look for room of a pool.
type look struct {
	askers int           // guarded by looks.mu
	turn   chan struct{} // full while somebody looks
	began  time.Time     // guarded by turn
}

// enter gives the look of a pool, until leave.
func (l *looks) enter(pool string) *look {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pools == nil {
		l.pools = map[string]*look{}
	}
	if l.pools[pool] == nil {
		l.pools[pool] = &look{turn: make(chan struct{}, 1)}
	}
	l.pools[pool].askers++
	return l.pools[pool]
}

func (l *looks) leave(pool string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pools[pool].askers--; l.pools[pool].askers == 0 {
		delete(l.pools, pool)
	}
}

// readSpace takes over what the file system of a pool says of its room, not
// earlier than now. It takes no longer than patience, the turn of others included,
// whatever the pool does.
func (s *Service) readSpace(ctx context.Context, p *store.Pool, patience time.Duration) (err error) {
	asked := time.Now()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	l := s.looks.enter(p.UUID)
	defer s.looks.leave(p.UUID)
	select {
	case l.turn <- struct{}{}:
	case <-ctx.Done():
		return mute(patience)
	}
	defer func() { <-l.turn }()
	if l.began.After(asked) {
		return nil // somebody else has looked
	}
	seen := catalog.Space{Taken: s.taken(p.Name)} // before: what is taken later is reserved still, and counts twice for a moment
	if seen.Info, seen.Began, err = s.askSpace(ctx, p, asked); err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			return mute(patience)
		}
		return err
	}
	l.began = seen.Began
	return s.store.Update(func(tx *store.Tx) error { return s.catalog.ApplySpace(tx, p, seen) })
}

// mute is that a pool cannot be asked.
func mute(patience time.Duration) error { return fmt.Errorf("it does not answer within %v", patience) }

// askSpace has a helper that was started since then ask the file system; began is before
// it did.
func (s *Service) askSpace(ctx context.Context, p *store.Pool, since time.Time) (info *ipc.Pool, began time.Time, err error) {
	at, err := s.situated(p.Name)
	if err != nil {
		return nil, began, err
	}
	report, began, err := s.jobs.QuerySince(ctx, "space "+p.UUID, (&operation.Space{Volume: at}).Task().Argv(), since)
	var refusal *record.Error
	if errors.As(err, &refusal) {
		if err := s.noteAbsence(&p.Pool, catalog.Finding{Began: began, Err: refusal}); err != nil {
			return nil, began, err
		}
	}
	if err == nil && report.Pool == nil {
		err = errors.New("the helper tells no figures")
	}
	if err != nil {
		return nil, began, err
	}
	return report.Pool, began, nil
}

// smaller says what can be done where an operation finds no room.
func (w *order) smaller() record.Hint {
	return w.operation.(interface{ Smaller() record.Hint }).Smaller()
}

// beside says that what is needed is not all that the volume will have.
func (w *order) beside() string {
	if f, ok := w.operation.(operation.Fills); ok {
		if _, all := f.Overwrites(); all {
			return " more than the volume has"
		}
	}
	if w.has > 0 {
		return " more than an earlier job has left there"
	}
	return ""
}

// reservers are the jobs that have room reserved in a pool and may still take
// some.
func (s *Service) reservers(p *store.Pool) (holders []record.Blocker) {
	for _, j := range s.jobs.Live() {
		if grows(&j) != p.Name || j.Reserved <= p.Taken[j.Number] {
			continue
		}
		owner := j.Owner
		holders = append(holders, record.Blocker{
			For: "space", Object: &record.Object{Pool: p.Name}, Since: j.Created, ExpectedEnd: j.Estimate.End,
			Holder: &record.Holder{Number: j.Number, ID: j.ID, Kind: j.Kind, Owner: &owner},
		})
	}
	return holders
}

// taken is what live jobs have taken by now of what they reserve in a pool.
func (s *Service) taken(pool string) map[int64]int64 {
	return s.jobs.Taken(func(j *record.Job) bool { return grows(j) == pool })
}

// grows is the pool in which a job has room reserved; "" if in none.
func grows(j *record.Job) string {
	if j.Reserved == 0 {
		return ""
	}
	for _, o := range j.Objects {
		if o.Mode == record.ModeWrite || o.Mode == record.ModeGrow || j.Kind == record.VolumeDelete {
			return o.Pool
		}
	}
	return ""
}

// reservedBy says how much of a pool's room is reserved, and by whom.
func reservedBy(bytes int64, holders []record.Blocker) string {
	if len(holders) == 0 {
		return ""
	}
	numbers := make([]string, len(holders))
	for i, h := range holders {
		numbers[i] = fmt.Sprint(h.Holder.Number)
	}
	return fmt.Sprintf(", %s of them reserved by %s", quantity.FormatBytes(max(0, bytes)), jobList(numbers))
}

// maxJobsNamed bounds how many jobs a sentence names.
const maxJobsNamed = 5

func jobList(numbers []string) string {
	if len(numbers) == 1 {
		return "job " + numbers[0]
	}
	text := "jobs " + strings.Join(numbers[:min(len(numbers), maxJobsNamed)], ", ")
	if more := len(numbers) - maxJobsNamed; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}
