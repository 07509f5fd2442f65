package catalog

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/store"
	"storaged/internal/supervisor"
)

const (
	// seekSoon is how long the look for images counts that was had when a job was
	// submitted. One that need not wait begins within milliseconds.
	seekSoon = 500 * time.Millisecond

	// seekLife is how long another counts, for jobs that had asked before it
	// began. They ask again as soon as it has ended.
	seekLife = 3 * time.Second

	// seekAsks is how long it is remembered that a job has asked: longer than any
	// look takes (childrenTimeout).
	seekAsks = time.Minute
)

// seeking is the look for images that others have made, for jobs that had to
// wait before they destroy what an image may stand on by now. The grant of a job
// is a transaction, in which nobody may wait for a pool that hangs: so the job is
// asked to wait, with its locks, until the pools were read, once for all jobs that ask.
type seeking struct {
	asked chan struct{} // full while a look is wanted
	over  sync.WaitGroup
	// wanted is false as long as jobs are only made known again, which had their
	// grant from an earlier daemon.
	wanted atomic.Bool
	stop   context.CancelFunc

	mu     sync.Mutex
	round  chan struct{}       // closed when the next look has ended
	jobs   map[int64]time.Time // when a job that has to wait had asked
	began  time.Time           // the last look that has ended
	ended  time.Time           // that
	failed error               // why it could not be had
	unread map[string]error    // pools that it could not read, and why
}

func newSeeking() *seeking {
	return &seeking{asked: make(chan struct{}, 1), stop: func() {}, jobs: map[int64]time.Time{}, round: make(chan struct{})}
}

// done has a job wait that is about to destroy something, if it is long ago that
// the pools were read. One that has begun already goes on.
func (s *seeking) done(tx *store.Tx, o operation.Operation, j *store.Job, now time.Time) error {
	if !s.wanted.Load() || !o.Displaces() || j.Go || j.Resumed > 0 || recent(now.Sub(j.Created), seekSoon) {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	asked, ok := s.jobs[j.Number]
	if ok && s.began.After(asked) && recent(now.Sub(s.ended), seekLife) {
		if s.failed != nil {
			return s.failed
		}
		warnings, err := UnknownIn(tx, o, s.unread)
		j.Warnings = append(slices.Clone(j.Warnings), warnings...)
		return err
	}
	if !ok || s.began.After(asked) {
		s.jobs[j.Number] = now
	}
	maps.DeleteFunc(s.jobs, func(_ int64, asked time.Time) bool { return !recent(now.Sub(asked), seekAsks) })
	select {
	case s.asked <- struct{}{}:
	default:
	}
	return &supervisor.SoonError{Ready: s.round}
}

// recent reports whether something was a while ago at most; what will be was not,
// but before the clock was set back.
func recent(ago, most time.Duration) bool { return ago >= 0 && ago <= most }

// run looks whenever a job has asked, until halt.
func (s *seeking) run(look func(context.Context) (map[string]error, error)) {
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.wanted.Store(true)
	s.over.Go(func() {
		for {
			select {
			case <-s.asked:
			case <-ctx.Done():
				return
			}
			began := time.Now()
			unread, err := look(ctx)
			s.mu.Lock()
			s.began, s.ended, s.unread, s.failed = began, time.Now(), unread, err
			close(s.round)
			s.round = make(chan struct{})
			s.mu.Unlock()
		}
	})
}

// Seek has the pools looked at whenever a job must know of images that others have
// made, until StopSeeking.
func (c *Catalog) Seek(look func(context.Context) (unread map[string]error, err error)) {
	c.seek.run(look)
}

// ExpectSeek has jobs wait that must know of them, before Seek is called too.
func (c *Catalog) ExpectSeek() { c.seek.wanted.Store(true) }

// StopSeeking ends what Seek began, if it did.
func (c *Catalog) StopSeeking() { c.seek.halt() }

// halt ends what run began, if it did.
func (s *seeking) halt() {
	s.stop()
	s.over.Wait()
}

// UnknownIn warns of pools whose images are not known, and may stand on what an operation
// takes away.
func UnknownIn(tx *store.Tx, o operation.Operation, unread map[string]error) (warnings []string, err error) {
	made, err := madeHere(tx, o)
	for pool, why := range unread {
		p, gone := tx.Pool(pool)
		if gone == nil && p.State == record.PoolUnreachable && p.Since.Before(made) {
			continue // nobody has made an image there since there is the volume
		}
		warnings = append(warnings, fmt.Sprintf("images in pool %q that others have made since it was read last are not known: %v", pool, why))
	}
	slices.Sort(warnings)
	return warnings, err
}

// madeHere is when the volume came to be that an operation takes away, where it lies on
// disks of this host: no other host makes an image that stands on it. Zero: that is not
// known, or it is no volume.
func madeHere(tx *store.Tx, o operation.Operation) (t time.Time, err error) {
	on := o.On()
	if on.Name == "" {
		return t, nil
	}
	p, err := Pool(tx, on.Pool)
	if err != nil || len(p.Devices) == 0 {
		return t, err
	}
	v, err := Volume(tx, p.Name, on.Name)
	if err != nil || v.CreatedBy == nil {
		return t, err
	}
	j, err := tx.JobByNumber(*v.CreatedBy)
	if err != nil {
		return t, IgnoreNotFound(err)
	}
	return j.Created, nil
}
