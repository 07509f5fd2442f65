package store

import (
	"errors"
	"fmt"
	"runtime/debug"
	"slices"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// maxBatch bounds the updates of one commit, so that the first of them does
// not wait for an endless stream of others.
const maxBatch = 256

// update is one call of Update. err belongs to the writer until done is closed
// by it.
type update struct {
	fn   func(*Tx) error
	err  error
	done chan struct{}
}

// Update runs fn and returns when what it wrote is durable. Updates that wait
// at the same time share one commit, which begins as soon as the last one is
// over; nobody waits for company. When fn fails or panics, nothing it wrote
// remains and the error is returned; others in the same commit are not
// touched. fn runs on the writer's goroutine, one at a time; it may be run
// more than once, so it must have no effect but through tx (assigning to
// outer variables is fine), must not block, call Update or View, or keep tx.
// An error that wraps ErrUnwritable concerns the disk, not fn.
func (s *Store) Update(fn func(*Tx) error) error {
	u := &update{fn: fn, done: make(chan struct{})}
	select {
	case s.updates <- u:
		<-u.done
		return u.err
	case <-s.closing:
		return ErrClosed
	}
}

// write is the writer: it commits until the store is closed.
func (s *Store) write() {
	defer close(s.stopped)
	for {
		select {
		case u := <-s.updates:
			s.commit(s.gather(u))
		case <-s.closing:
			return
		}
	}
}

// gather adds to first whatever else waits now.
func (s *Store) gather(first *update) []*update {
	batch := []*update{first}
	for len(batch) < maxBatch {
		select {
		case u := <-s.updates:
			batch = append(batch, u)
		default:
			return batch
		}
	}
	return batch
}

// commit carries out a batch and answers everyone in it.
func (s *Store) commit(batch []*update) {
	waiting := slices.Clone(batch)
	for len(waiting) > 0 {
		spoiler := s.attempt(waiting)
		if spoiler == nil {
			break
		}
		waiting = slices.DeleteFunc(waiting, func(u *update) bool { return u == spoiler })
	}
	for _, u := range batch {
		close(u.done)
	}
}

// attempt runs the batch in one transaction. An update that spoiled it (by a
// panic, or by stumbling over damage while writing) is returned with its error
// set, nothing is written, and the others must be attempted again.
func (s *Store) attempt(batch []*update) (spoiler *update) {
	btx, err := s.begin()
	if err != nil {
		s.setTrouble(err)
		fail(batch, err)
		return nil
	}
	wrote, after := false, []func(){}
	for _, u := range batch {
		tx := &Tx{btx: btx, writable: true}
		u.err = tx.run(u.fn)
		if tx.spoiled {
			s.rollback(btx)
			return u
		}
		if u.err == nil {
			wrote = wrote || len(tx.undo) > 0
			after = append(after, tx.after...)
		}
	}
	if !wrote {
		s.rollback(btx)
		return nil
	}
	err = s.finish(btx)
	s.setTrouble(err)
	if err != nil {
		fail(batch, err)
		return nil
	}
	for _, fn := range after {
		fn()
	}
	return nil
}

// Commits counts the transactions made durable since the store was opened.
func (s *Store) Commits() int64 { return s.commits.Load() }

// Trouble is why the last change could not be made durable, or why there is no
// room for new jobs; nil when all is well.
func (s *Store) Trouble() error {
	if err := s.trouble.Load(); err != nil {
		return *err
	}
	return s.Room()
}

func (s *Store) setTrouble(err error) {
	if err == nil {
		s.trouble.Store(nil)
		return
	}
	s.trouble.Store(&err)
}

// OnCommit has fn run once what this function wrote is durable, before its
// Update returns; not at all when it fails or when no update of the commit
// wrote anything. fn runs on the
// writer's goroutine and must not block.
func (t *Tx) OnCommit(fn func()) {
	t.live()
	t.after = append(t.after, fn)
}

// fail gives err to all that have none of their own.
func fail(batch []*update, err error) {
	for _, u := range batch {
		if u.err == nil {
			u.err = err
		}
	}
}

func (s *Store) begin() (btx *bolt.Tx, err error) {
	if s.unwritable != nil {
		return nil, s.unwritable
	}
	err = guard("", nil, func() error {
		btx, err = s.db.Begin(true)
		return err
	})
	if err != nil {
		return nil, s.refuse(err)
	}
	return btx, nil
}

// finish makes the transaction durable.
func (s *Store) finish(btx *bolt.Tx) error {
	id := btx.ID()
	err := guard("", nil, btx.Commit)
	if err == nil {
		s.commits.Add(1)
		return nil
	}
	if isDamage(err) {
		s.rollback(btx) // after a panic it is open
	}
	if s.unwritable == nil && s.visible(id) {
		return s.refuse(err)
	}
	return fmt.Errorf("%w: %w", ErrUnwritable, err)
}

// visible reports whether transaction id can be read although its commit
// failed: then its meta page was written, and may or may not be on the disk.
func (s *Store) visible(id int) bool {
	btx, err := s.db.Begin(false)
	if err != nil {
		return true // nothing can be vouched for
	}
	defer btx.Rollback() // fails only when it is over already
	return btx.ID() >= id
}

// refuse ends all writing until the store is opened again.
func (s *Store) refuse(err error) error {
	s.unwritable = fmt.Errorf("%w: %w", ErrUnwritable, err)
	return s.unwritable
}

// rollback gives the transaction up. If even that fails, bbolt's writer lock
// is lost with it and nothing may begin again.
func (s *Store) rollback(btx *bolt.Tx) {
	err := guard("", nil, btx.Rollback)
	if err != nil && !errors.Is(err, bolterrors.ErrTxClosed) {
		s.refuse(err)
	}
}

func isDamage(err error) bool {
	var d *DamageError
	return errors.As(err, &d)
}

// run runs fn and takes back what it wrote when it fails. When that cannot be
// done exactly, because fn panicked or because bbolt did, the transaction is
// spoiled.
func (t *Tx) run(fn func(*Tx) error) (err error) {
	ended := false
	defer func() {
		r := recover()
		if r == nil && !ended {
			panic("internal error: a function given to Update ended its goroutine")
		}
		if r != nil {
			t.spoiled = true
			err = fmt.Errorf("internal error: update panicked: %v\n%s", r, debug.Stack())
		}
		if err != nil && !t.spoiled {
			t.takeBack()
		}
		t.btx = nil
	}()
	err = fn(t)
	ended = true
	return err
}
