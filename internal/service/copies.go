package service

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"storaged/internal/catalog"
	"storaged/internal/operation"
	"storaged/internal/store"
)

// copyInterval is how often the database is copied: what a damaged disk can
// take from the catalog is then an hour's work at most, and a copy of ten
// thousand jobs costs a second.
const copyInterval = time.Hour

// copyAgain is when a copy is tried again that failed, most often for want of
// room: soon enough that what status says of it is not out of date for long.
const copyAgain = time.Minute

// KeepCopies copies the database at the start and whenever something has
// changed since, until ctx ends.
func (s *Service) KeepCopies(ctx context.Context) {
	for copied := int64(-1); ; {
		next := copyInterval
		if n := s.store.Commits(); n != copied {
			err := s.store.Copy()
			before := s.copyTrouble.Swap(&err)
			if err == nil {
				copied = n
			} else {
				next = copyAgain
			}
			if err != nil && (before == nil || *before == nil) { // what goes on is said once
				s.herald.ail("the state is not copied", err)
			}
		}
		timer := time.NewTimer(next)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// afterRestoration reads every active pool again, since the catalog may be
// older than they are, and notes that what jobs left was taken in.
func (s *Service) afterRestoration(ctx context.Context) error {
	if s.restored == nil {
		return nil
	}
	var refresh []operation.Operation
	err := s.store.Update(func(tx *store.Tx) error {
		refresh = refresh[:0]
		pools, err := tx.Pools()
		if err != nil {
			return err
		}
		for _, p := range pools {
			if catalog.Readable(p) {
				refresh = append(refresh, catalog.RefreshOf(p))
			}
		}
		done := *s.restored
		done.Replayed = true
		return tx.PutRestoration(&done)
	})
	if err != nil {
		return err
	}
	s.startOwn(ctx, refresh)
	return nil
}

// troubles are sentences on what is wrong with the state as a whole.
func (s *Service) troubles() []string {
	var out []string
	if err := s.store.Trouble(); err != nil {
		out = append(out, fmt.Sprintf("the state in %q: %v; running jobs go on, new ones are refused", s.config.StateDir, err))
	}
	if err := s.copyTrouble.Load(); err != nil && *err != nil {
		out = append(out, (*err).Error())
	}
	if r := s.restored; r != nil {
		out = append(out, restorationWarning(r)...)
	}
	if s.untold != nil {
		out = append(out, s.untold()...)
	}
	return append(append(out, s.unstarted()...), s.leftovers()...)
}

// someOf gives the first of what there is: count, of which not all need be known.
func someOf(known []string, count int) string {
	const shown = 5
	first := known[:min(shown, len(known))]
	if rest := count - len(first); rest > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(first, ", "), rest)
	}
	return strings.Join(first, ", ")
}

// restorationWarning tells of a restoration for as long as the damaged file is
// kept.
func restorationWarning(r *store.Restoration) []string {
	if _, err := os.Stat(r.Aside); r.Aside != "" && err != nil {
		return nil
	}
	text := fmt.Sprintf("the database was damaged (%s) and put together again at %s", r.Damage[0], r.At.Format(time.RFC3339))
	if r.OldCount > 0 {
		text += fmt.Sprintf("; %d records are as they were at %s: %s", r.OldCount, r.CopyAt.Format(time.RFC3339), someOf(r.Old, r.OldCount))
	}
	if len(r.Lost) > 0 {
		text += "; lost: " + someOf(r.Lost, len(r.Lost))
	}
	if r.Torn {
		text += "; what came after the copy may be missing: changes of pools and volumes (pool list, vol list), and jobs that were taken and had not begun"
	}
	if r.Aside != "" {
		text += fmt.Sprintf("; the damaged file is %q, remove it when you have read this", r.Aside)
	}
	return []string{text}
}
