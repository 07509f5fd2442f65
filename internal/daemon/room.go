package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"storaged/internal/api"
	"storaged/internal/quantity"
	"storaged/internal/record"
	"storaged/internal/store"
)

// Room is promised to a job when it is submitted, in the transaction that
// records it, and given back in the one that records its end. So of two jobs
// that do not fit together the later one is refused at once, though neither has
// begun, and is told whom the room was promised to.

const (
	// roomTimeout bounds the look for room. A directory is read in milliseconds;
	// one that hangs must not keep a request from its answer.
	roomTimeout = 3 * time.Second

	// roomTries is how often room is looked for that others take meanwhile.
	roomTries = 3
)

// room is what a helper saw of a pool a moment ago.
type room struct {
	available int64 // bytes
	done      int64 // bytes of what was promised that jobs had taken by then
}

// errTaken is that another request was promised the room meanwhile.
var errTaken = record.Errorf(record.NoSpace, "other jobs are taking the pool's room just now").WithHint("try again")

// submitFitting is submit for work that may need room.
func (s *Service) submitFitting(ctx context.Context, sub api.Submit, w work, o api.JobOptions) (st api.Started, err error) {
	for range roomTries {
		try := w
		if err := s.fits(ctx, &try); err != nil {
			return api.Started{}, err
		}
		if st, err = s.submit(ctx, sub, try, o); !errors.Is(err, errTaken) {
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
	if w.Allocation == 0 || w.Reflink == "always" {
		return nil
	}
	err := s.roomFor(ctx, w)
	if err == nil {
		w.Reserve = w.Allocation
		return nil
	}
	var short *record.Error
	if w.Reflink != "auto" || !errors.As(err, &short) || short.Code != record.NoSpace {
		return err
	}
	w.Warnings = append(w.Warnings, short.Message+"; the clone can be made only if it can share blocks with its source")
	return nil
}

// roomFor looks for the room that the work needs. The catalogue's figure may be
// old, so that a shortage is believed only when a helper has looked.
func (s *Service) roomFor(ctx context.Context, w *work) error {
	pool, _ := w.target()
	var p *store.Pool
	err := s.store.View(func(tx *store.Tx) (err error) {
		p, err = findPool(tx, pool)
		return err
	})
	if err != nil || p.Available-p.Promised >= w.Allocation {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, roomTimeout)
	defer cancel()
	report, _, err := s.look(ctx, &p.Pool)
	if err != nil || report.Pool == nil {
		w.room = &room{available: p.Promised + w.Allocation} // what cannot be looked at now is the helper's to find out
		return nil
	}
	holders, done := s.promisees(p.Name)
	w.room = &room{available: report.Pool.Available, done: done}
	if w.room.left(p.Promised) >= w.Allocation {
		return nil
	}
	e := record.Errorf(record.NoSpace, "pool %q has no room for %s: %s are available%s", p.Name, quantity.FormatBoth(w.Allocation),
		quantity.FormatBytes(report.Pool.Available), promisedTo(p.Promised-done, holders)).WithHint("%s", w.smaller())
	e.Holders = holders
	return e
}

// smaller says what can be done where the work finds no room.
func (w work) smaller() string {
	switch {
	case w.TargetPool != "":
		return "free some, or choose another pool"
	case w.Kind == record.VolumeResize:
		return "free some, or leave out --allocate: what is added gets its blocks when it is written"
	}
	return "free some, or allocate less: --allocation none"
}

// left is what nobody was promised.
func (r room) left(promised int64) int64 { return r.available - max(0, promised-r.done) }

// promisees are the jobs that were promised room in a pool and may still take
// some, and how much of it they have taken.
func (s *Service) promisees(pool string) (holders []record.Blocker, done int64) {
	for _, j := range s.jobs.Live() {
		if grows(j) != pool {
			continue
		}
		done += min(j.Reserved, j.Progress.Done)
		owner := j.Owner
		holders = append(holders, record.Blocker{
			For: "space", Object: &record.Object{Pool: pool}, Since: j.Created, ExpectedEnd: j.Estimate.End,
			Holder: &record.Holder{Number: j.Number, ID: j.ID, Kind: j.Kind, Owner: &owner},
		})
	}
	return holders, done
}

// grows is the pool in which a job was promised room; "" if in none.
func grows(j record.Job) string {
	i := slices.IndexFunc(j.Objects, func(o record.Object) bool { return o.Mode == record.ModeWrite || o.Mode == record.ModeGrow })
	if i < 0 || j.Reserved == 0 {
		return ""
	}
	return j.Objects[i].Pool
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
	if p.Available-p.Promised < w.Reserve && (w.room == nil || w.room.left(p.Promised) < w.Reserve) {
		return errTaken
	}
	p.Promised += w.Reserve
	return tx.PutPool(p)
}

// release gives back what was promised. What the job has taken of it is in the
// pool's figures by then.
func (w work) release(tx *store.Tx) error {
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
	return tx.PutPool(p)
}

// recount makes the promises those of the live jobs. They are so already,
// unless a job ended past the catalogue or the database was put back.
func recount(tx *store.Tx) error {
	jobs, err := tx.LiveJobs()
	if err != nil {
		return err
	}
	promised := map[string]int64{}
	for _, j := range jobs {
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
		if p.Promised == promised[p.Name] {
			continue
		}
		p.Promised = promised[p.Name]
		if err := tx.PutPool(p); err != nil {
			return err
		}
	}
	return nil
}
