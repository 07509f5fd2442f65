package service

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"storaged/internal/catalog"
	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/store"
)

// childrenTimeout bounds the look for images that stand on a volume. It takes
// milliseconds; a pool that hangs must not keep a request from its answer.
const childrenTimeout = 3 * time.Second

// spareChildren has all pools read before something is destroyed, since others
// than us make images too, and refuses the work if one stands on what would go.
// A pool that cannot be read now does not keep others from their work: for what
// lies in it the catalog's word stands.
func (s *Service) spareChildren(ctx context.Context, w *order) error {
	if !w.operation.Displaces() {
		return nil
	}
	unread, err := s.seekChildren(ctx)
	if err != nil {
		return err
	}
	return s.store.View(func(tx *store.Tx) error {
		warnings, err := catalog.UnknownIn(tx, w.operation, unread)
		w.warnings = append(w.warnings, warnings...)
		if err = cmp.Or(err, ctx.Err()); err != nil || w.operation.Effect() == operation.Empties { // which leaves those volumes behind that must stay
			return err
		}
		return catalog.Removable(tx, w.operation)
	})
}

// seekChildren reads all pools and takes over what is new of their images. It
// gives those that it could not read, by name, and why.
func (s *Service) seekChildren(ctx context.Context) (unread map[string]error, err error) {
	var pools []*store.Pool
	err = s.store.View(func(tx *store.Tx) (err error) {
		pools, err = tx.Pools()
		return err
	})
	if err != nil {
		return nil, err
	}
	unread = map[string]error{}
	pools = slices.DeleteFunc(pools, func(p *store.Pool) bool { return !catalog.Readable(p) })
	for i, err := range s.seekIn(ctx, pools) {
		if err != nil {
			unread[pools[i].Name] = err
		}
	}
	return unread, nil
}

func (s *Service) seekIn(ctx context.Context, pools []*store.Pool) []error {
	ctx, cancel := context.WithTimeout(ctx, childrenTimeout)
	defer cancel()
	now := time.Now()
	return eachOf(pools, func(p *store.Pool) error { return s.seekInOne(ctx, p, now) })
}

func (s *Service) seekInOne(ctx context.Context, p *store.Pool, since time.Time) error {
	if p.State == record.PoolUnreachable {
		return fmt.Errorf("it is unreachable: %s", p.Reason)
	}
	report, began, err := s.lookSince(ctx, &p.Pool, since)
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("it does not answer within %v", childrenTimeout)
	}
	if err != nil {
		return err
	}
	var news bool
	err = s.store.View(func(tx *store.Tx) (err error) {
		news, err = catalog.ImagesNew(tx, p, report.Items)
		return err
	})
	if err != nil || !news {
		return err
	}
	return s.store.Update(func(tx *store.Tx) error {
		return s.catalog.ApplyPool(tx, p, catalog.Finding{Report: report, Began: began})
	})
}
