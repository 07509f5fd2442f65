package service

import (
	"context"
	"time"

	"storaged/internal/catalog"
	"storaged/internal/operation"
	"storaged/internal/store"
)

// leftovers are sentences on what jobs left in pools that could not undo it.
func (s *Service) leftovers() (out []string) {
	err := s.store.View(func(tx *store.Tx) (err error) {
		out, err = catalog.Leftovers(tx)
		return err
	})
	if err != nil {
		s.log.Error("what jobs have left is not known", "error", err)
	}
	return out
}

// tidyInterval is how often it is looked whether something has expired: what is
// kept for days may stay an hour longer.
const tidyInterval = time.Hour

// KeepTidy has what has expired removed, until ctx ends.
func (s *Service) KeepTidy(ctx context.Context) {
	tick := time.NewTicker(tidyInterval)
	defer tick.Stop()
	for {
		var all []operation.Operation
		err := s.store.View(func(tx *store.Tx) (err error) {
			all, err = s.catalog.Cleanups(tx)
			return err
		})
		if err != nil {
			s.log.Error("what was kept for a retry is not looked after", "error", err)
		}
		s.startOwn(ctx, all)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
