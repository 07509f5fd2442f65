package service

import (
	"context"
	"errors"
	"time"

	"storaged/internal/catalog"
	"storaged/internal/record"
	"storaged/internal/store"
)

// soon is how long somebody waits for a volume to be looked at who can be shown what is
// known of it: longer than it takes on a busy disk, or a host that is starved of processors,
// for who is shown what was may give a clone to everybody. A pool that hangs keeps nobody
// waiting for so long but the first.
const soon = 10 * time.Second

// VolumeNow is Volume, of the volume as it is now: it is looked at after this was called,
// for guests write to it, and other programs change who may. Of a pool that cannot be
// looked at, or takes long, it is what was known before.
func (s *Service) VolumeNow(ctx context.Context, pool, volume string) (record.Volume, error) {
	p, v, err := s.known(pool, volume)
	if err != nil {
		return record.Volume{}, err
	}
	var f catalog.Finding
	if catalog.Readable(p) && !s.sights.mute(p.UUID) {
		f, err = s.lookSoon(ctx, p, v)
	}
	if err != nil {
		s.log.Debug("a volume could not be looked at for who is to be shown it", "volume", record.Quoted(p.Name, v.Name), "error", err)
	}
	return s.shown(pool, volume, f)
}

// VolumeSizes is VolumeNow for who asks for its sizes alone. While a job has the volume they
// are what that says of it, whatever its file is at the moment: then nobody looks.
func (s *Service) VolumeSizes(ctx context.Context, pool, volume string) (record.Volume, error) {
	var held bool
	err := s.store.View(func(tx *store.Tx) error {
		_, v, err := known(tx, pool, volume)
		if err == nil {
			held, err = catalog.Held(tx, v)
		}
		return err
	})
	switch {
	case err != nil:
		return record.Volume{}, err
	case held:
		return s.Volume(ctx, pool, volume)
	}
	return s.VolumeNow(ctx, pool, volume)
}

// lookSoon looks at a volume, as long as somebody waits for that who can do without.
func (s *Service) lookSoon(ctx context.Context, p *store.Pool, v *store.Volume) (catalog.Finding, error) {
	ctx, cancel := context.WithTimeout(ctx, soon)
	defer cancel()
	return s.await(ctx, s.sighted(p, v.Name))
}

// reconsider is lookAfter for who has an answer without it, of a pool that is not known not to
// answer.
func (s *Service) reconsider(ctx context.Context, v *store.Volume) error {
	p, err := s.stored(v.Pool)
	if err != nil {
		return err
	}
	if s.sights.mute(p.UUID) {
		return slowPool(p.Name)
	}
	_, err = s.lookSoon(ctx, p, v)
	return err
}

// lookAfter has a query helper look at one volume, for what the catalog has of it then.
func (s *Service) lookAfter(ctx context.Context, v *store.Volume) error {
	_, _, err := s.lookAt(ctx, v.Pool, v.Name)
	return err
}

// lookAt has a query helper look at a volume, and the catalog follow; no report is that
// there is none.
func (s *Service) lookAt(ctx context.Context, pool, volume string) (p *store.Pool, f catalog.Finding, err error) {
	ctx, cancel := context.WithTimeout(ctx, freshTimeout)
	defer cancel()
	err = s.store.View(func(tx *store.Tx) (err error) {
		p, err = catalog.ActivePool(tx, pool)
		return err
	})
	if err != nil {
		return nil, f, err
	}
	if f, err = s.await(ctx, s.sighted(p, volume)); errors.Is(err, context.DeadlineExceeded) {
		err = slowPool(p.Name)
	}
	return p, f, err
}

// await waits for a volume to have been looked at.
func (s *Service) await(ctx context.Context, one *sight) (catalog.Finding, error) {
	select {
	case <-one.done:
		return one.found, one.err
	case <-ctx.Done():
		return catalog.Finding{}, ctx.Err()
	}
}

// noteAbsence shows a pool as unreachable if a query says that it is.
func (s *Service) noteAbsence(asked *record.Pool, f catalog.Finding) error {
	if !catalog.PoolAbsent(f.Err.Code, f.Err.Path) {
		return nil
	}
	return s.store.Update(func(tx *store.Tx) error {
		p, err := tx.Pool(asked.Name)
		if err != nil || p.UUID != asked.UUID || p.Target.Path != f.Err.Path || s.catalog.ReadSince(p, f.Began) {
			return catalog.IgnoreNotFound(err)
		}
		return s.catalog.Unreachable(tx, p, f.Err.Message)
	})
}

// slowPool is a pool that does not answer.
func slowPool(name string) error {
	return record.Errorf(record.TimedOut, "pool %q could not be read within %v", name, freshTimeout).
		WithHint("without fresh, the answer is what was read last")
}

// current refuses what is asked for as it is now where a pool could not be read:
// one that is named, and of all those in use.
func current(tx *store.Tx, names []string) error {
	pools, err := poolsNamed(tx, names)
	if err != nil {
		return err
	}
	for _, p := range pools {
		if len(names) == 0 && p.State != record.PoolUnreachable {
			continue
		}
		if _, err := catalog.ActivePool(tx, p.Name); err != nil {
			return err
		}
	}
	return nil
}
