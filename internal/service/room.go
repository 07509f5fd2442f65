package service

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"storaged/internal/ipc"
	"storaged/internal/operation"
	"storaged/internal/quantity"
	"storaged/internal/record"
	"storaged/internal/store"
)

// Room is promised to a job when it is submitted, in the transaction that
// records it, and given back in the one that records its end. So of two jobs
// that do not fit together the later one is refused at once, though neither has
// begun, and is told whom the room was promised to.

const (
	// roomTimeout bounds the look for room. A file system tells it in
	// microseconds, however much it holds; one that hangs must not keep a request
	// from its answer.
	roomTimeout = 3 * time.Second

	// roomTries is how often room is looked for that others take meanwhile.
	roomTries = 3
)

// reserved is what live jobs had yet to take of a pool when its figures were
// read. What they have taken since is not known to be gone from what was
// available then, so it counts as reserved until the figures are read again.
func reserved(p *store.Pool) int64 {
	n := p.Promised
	for _, taken := range p.Taken {
		n -= taken
	}
	return max(0, n)
}

// free is what nobody was promised.
func free(p *store.Pool) int64 { return p.Available - reserved(p) }

// errTaken is that another request was promised the room meanwhile.
var errTaken = record.Errorf(record.NoSpace, "other jobs are taking the pool's room just now").WithHint("try again")

// submitFitting is submit for work that may need room.
func (s *Service) submitFitting(ctx context.Context, w work, submit func(work) (Started, error)) (st Started, err error) {
	if err := s.spareChildren(ctx, &w); err != nil {
		return Started{}, err
	}
	for range roomTries {
		try := w
		if err := s.fits(ctx, &try); err != nil {
			return Started{}, err
		}
		if st, err = submit(try); !errors.Is(err, errTaken) {
			break
		}
	}
	return st, err
}

// fits refuses work for which there is no room. A clone that may share blocks
// with its source needs none if it can, which its helper finds out: it is only
// warned of.
func (s *Service) fits(ctx context.Context, w *work) error {
	w.Reserve = 0 // a retry has that of the first job
	if w.overwrites() {
		return s.fitsInPlace(ctx, w)
	}
	needed := w.Allocation - w.has
	if needed <= 0 || w.Reflink == "always" {
		return nil
	}
	err := s.roomFor(ctx, *w, needed)
	if err == nil {
		w.Reserve = needed
		return nil
	}
	var short *record.Error
	if w.Reflink != "auto" || !errors.As(err, &short) || short.Code != record.NoSpace {
		return err
	}
	w.Warnings = append(w.Warnings, short.Message+"; the clone can be made only if it can share blocks with its source")
	return nil
}

// overwrites reports whether the work fills a volume that is there, and its
// holes too.
func (w work) overwrites() bool {
	switch {
	case w.Format != record.FormatRaw: // of others nobody here knows the file's length
		return false
	case w.Kind == record.VolumeWipe || w.Kind == record.VolumeDelete:
		return !slices.Contains([]string{"", "zero", "trim"}, w.Algorithm) // which leave holes
	}
	return w.Kind == record.VolumeUpload && w.Dense && w.Length != nil && !w.DetectZeros
}

// fitsInPlace refuses what writes more than its volume and the pool have blocks
// for. What the catalogue says of the volume may be old, so that it is looked at
// before it is refused.
func (s *Service) fitsInPlace(ctx context.Context, w *work) error {
	for looked := false; ; looked = true {
		lacks, v, err := s.lacks(*w)
		if err != nil || lacks == 0 {
			return err
		}
		err = s.roomFor(ctx, *w, lacks)
		if err == nil {
			w.Reserve = lacks
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
func (s *Service) lacks(w work) (n int64, v *store.Volume, err error) {
	err = s.store.View(func(tx *store.Tx) error {
		v, err = findVolume(tx, w.Pool, w.Volume)
		return err
	})
	if err != nil {
		return 0, nil, err
	}
	n = v.Capacity
	if w.Length != nil {
		n = *w.Length
	}
	return max(0, n-v.Allocation), v, nil
}

// roomFor looks for room for the work. The catalogue's figures may be old, so
// that they are read anew before there is too little. If they cannot be read,
// they are all that is known.
func (s *Service) roomFor(ctx context.Context, w work, needed int64) error {
	pool, _ := w.target()
	p, err := s.stored(pool)
	if err != nil || free(p) >= needed {
		return err
	}
	unread := s.readSpace(ctx, p)
	if p, err = s.stored(pool); err != nil || free(p) >= needed {
		return err
	}
	return s.noRoom(p, w, needed, unread)
}

func (s *Service) stored(pool string) (p *store.Pool, err error) {
	err = s.store.View(func(tx *store.Tx) error {
		p, err = findPool(tx, pool)
		return err
	})
	return p, err
}

// noRoom is the refusal. unread says why the figures are old ones; nil: they
// are not.
func (s *Service) noRoom(p *store.Pool, w work, needed int64, unread error) error {
	holders := s.promisees(p)
	e := record.Errorf(record.NoSpace, "pool %q has no room for %s: %s are available%s", p.Name, quantity.FormatBoth(needed),
		quantity.FormatBytes(p.Available), promisedTo(reserved(p), holders)).WithHint("%s", w.smaller())
	if unread != nil {
		e.Message += fmt.Sprintf("; these figures are old, for the pool cannot be read now: %v", unread)
	}
	return e.WithHolders(holders)
}

// looks are the looks for room, one at a time for each pool, so that many who ask
// at once are answered by one that began after they asked.
type looks struct {
	mu    sync.Mutex
	pools map[string]*look // by uuid
}

// look is the last look for room of a pool.
type look struct {
	turn  chan struct{} // full while somebody looks
	began time.Time     // guarded by turn
}

func (l *looks) of(pool string) *look {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pools == nil {
		l.pools = map[string]*look{}
	}
	if l.pools[pool] == nil {
		l.pools[pool] = &look{turn: make(chan struct{}, 1)}
	}
	return l.pools[pool]
}

// readSpace takes over what the file system of a pool says of its room, not
// earlier than now.
func (s *Service) readSpace(ctx context.Context, p *store.Pool) error {
	asked := time.Now()
	ctx, cancel := context.WithTimeout(ctx, roomTimeout)
	defer cancel()
	l := s.looks.of(p.UUID)
	select {
	case l.turn <- struct{}{}:
	case <-ctx.Done():
		return errMute
	}
	defer func() { <-l.turn }()
	if l.began.After(asked) {
		return nil // somebody else has looked
	}
	seen := space{taken: s.taken(p.Name)} // before: what is taken later is reserved still, and counts twice for a moment
	var err error
	if seen.info, seen.began, err = s.askSpace(ctx, p); err != nil {
		return err
	}
	l.began = seen.began
	return s.store.Update(func(tx *store.Tx) error { return s.keeper.spaced(tx, p, seen) })
}

// space is what a helper saw of a pool's room.
type space struct {
	info  *ipc.Pool
	began time.Time       // before it looked
	taken map[int64]int64 // what live jobs had taken by then
}

// errMute is that a pool cannot be asked.
var errMute = fmt.Errorf("it does not answer within %v", roomTimeout)

// askSpace has a helper ask the file system; began is before it did.
func (s *Service) askSpace(ctx context.Context, p *store.Pool) (info *ipc.Pool, began time.Time, err error) {
	w := work{Pool: p.Name, Type: p.Type, Path: p.Target.Path}
	if err := s.store.View(w.locate); err != nil {
		return nil, began, err
	}
	report, began, err := s.jobs.Query(ctx, fmt.Sprint("space ", p.UUID, time.Now().UnixNano()), (&operation.Space{Volume: w.volume()}).Task().Argv())
	var refusal *record.Error
	if errors.As(err, &refusal) {
		if err := s.noteAbsence(&p.Pool, finding{began: began, err: refusal}); err != nil {
			return nil, began, err
		}
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return nil, began, errMute
	case err != nil:
		return nil, began, err
	case report.Pool == nil:
		return nil, began, errors.New("the helper tells no figures")
	}
	return report.Pool, began, nil
}

// spaced books what was seen of a pool's room, unless the pool is another by now,
// or has newer figures.
func (k *keeper) spaced(tx *store.Tx, asked *store.Pool, seen space) error {
	p, err := tx.Pool(asked.Name)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if p.UUID != asked.UUID || p.Target.Path != asked.Target.Path || p.Observed != nil && k.since(*p.Observed, seen.began) {
		return nil
	}
	if err := k.figures(tx, p, seen.info, seen.taken); err != nil {
		return err
	}
	return tx.PutPool(p)
}

// spent books what the file systems said in the end of a job of the pools that
// it has changed. Sums of its own would say something else: blocks may be
// shared, or cost more than they hold.
func (k *keeper) spent(tx *store.Tx, w work, r *ipc.Report) error {
	if r == nil {
		return nil
	}
	for _, name := range []string{w.Pool, w.TargetPool} {
		p, err := tx.Pool(name)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		i := slices.IndexFunc(r.Pools, func(info ipc.Pool) bool { return info.Target == p.Target.Path })
		if i < 0 {
			continue
		}
		if err := errors.Join(k.figures(tx, p, &r.Pools[i], k.taken(name)), tx.PutPool(p)); err != nil {
			return err
		}
	}
	return nil
}

// figures takes over what was read of a pool, with what live jobs had taken by
// then of what they reserve.
func (k *keeper) figures(tx *store.Tx, p *store.Pool, info *ipc.Pool, taken map[int64]int64) error {
	now := k.now()
	p.Capacity, p.Allocation, p.Available, p.Observed, p.Taken = info.Capacity, info.Allocation, info.Available, &now, nil
	for number, n := range taken {
		j, err := tx.JobByNumber(number)
		switch {
		case errors.Is(err, store.ErrNotFound) || err == nil && j.State.Terminal():
			continue // its end is recorded, and its room given back
		case err != nil:
			return err
		case p.Taken == nil:
			p.Taken = map[int64]int64{}
		}
		p.Taken[number] = n
	}
	return nil
}

// smaller says what can be done where the work finds no room.
func (w work) smaller() record.Hint {
	switch {
	case w.TargetPool != "":
		return record.Hintf("free some, or choose another pool")
	case w.Kind == record.VolumeResize:
		return record.Hintf("free some, or leave out %s: what is added gets its blocks when it is written", record.Do("").With("allocate"))
	case w.Kind == record.VolumeUpload:
		return record.Hintf("free some, or upload it with %s, if much of it is zeros", record.Do("").With("detect_zeros"))
	case w.overwrites():
		return record.Hintf("free some, or wipe by zero, which leaves holes alone: there is nothing in them")
	}
	return record.Hintf("free some, or allocate less: %s", record.Do("").With("allocation", "none"))
}

// promisees are the jobs that were promised room in a pool and may still take
// some.
func (s *Service) promisees(p *store.Pool) (holders []record.Blocker) {
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

// grows is the pool in which a job was promised room; "" if in none.
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

// promisedTo says how much of a pool's room is reserved, and by whom.
func promisedTo(bytes int64, holders []record.Blocker) string {
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

// promise books the room that the work needs, unless others were faster.
func (w work) promise(tx *store.Tx) error {
	if w.Reserve == 0 {
		return nil
	}
	pool, _ := w.target()
	p, err := findPool(tx, pool)
	if err != nil {
		return err
	}
	if free(p) < w.Reserve {
		return errTaken
	}
	p.Promised += w.Reserve
	return tx.PutPool(p)
}

// release gives back what was promised to the job of that number. What it has
// taken of it is in the pool's figures by then.
func (w work) release(tx *store.Tx, number int64) error {
	if w.Reserve == 0 {
		return nil
	}
	pool, _ := w.target()
	p, err := tx.Pool(pool)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	p.Promised = max(0, p.Promised-w.Reserve)
	delete(p.Taken, number)
	return tx.PutPool(p)
}

// recount makes the promises those of the live jobs. They are so already,
// unless a job ended past the catalogue or the database was put back.
func recount(tx *store.Tx) error {
	jobs, err := tx.LiveJobs()
	if err != nil {
		return err
	}
	promised, live := map[string]int64{}, map[int64]bool{}
	for _, j := range jobs {
		live[j.Number] = true
		if w, err := workOf(j); err == nil {
			pool, _ := w.target()
			promised[pool] += w.Reserve
		}
	}
	pools, err := tx.Pools()
	if err != nil {
		return err
	}
	for _, p := range pools {
		promises, takers := p.Promised, len(p.Taken)
		p.Promised = promised[p.Name]
		maps.DeleteFunc(p.Taken, func(number, _ int64) bool { return !live[number] })
		if p.Promised == promises && len(p.Taken) == takers {
			continue
		}
		if err := tx.PutPool(p); err != nil {
			return err
		}
	}
	return nil
}
