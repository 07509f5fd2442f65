package service

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"storaged/internal/catalog"
	"storaged/internal/ipc"
	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/store"
)

// sights are the looks at single volumes, each begun after it was asked for. A helper looks
// at all volumes of a pool at once that are asked for by then, and stays for those that are
// asked for meanwhile: many who ask cost hardly more than one.
type sights struct {
	mu  sync.Mutex
	of  map[string]*viewer // by uuid of the pool, of those that are looked at, or left alone
	all sync.WaitGroup     // of those at work
}

// viewer looks at the volumes of one pool. It is guarded by sights.mu.
type viewer struct {
	waiting []*sight
	began   time.Time // what it is at; zero: nothing
	rests   time.Time // until then the pool is left alone by those who can do without
}

// sight is what a volume is found to be, for all who ask for it before it is looked at.
type sight struct {
	name  string
	done  chan struct{} // closed by the viewer, when what follows is set
	found catalog.Finding
	err   error
}

// want gives the next look at a volume. It ends with the query that it is part of, at the
// latest when the supervisor stops.
func (ss *sights) want(pool, name string, look func([]*sight) error) *sight {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	v := ss.viewer(pool)
	if i := slices.IndexFunc(v.waiting, func(s *sight) bool { return s.name == name }); i >= 0 {
		return v.waiting[i]
	}
	s := &sight{name: name, done: make(chan struct{})}
	v.waiting = append(v.waiting, s)
	if v.began.IsZero() {
		v.began = time.Now()
		ss.all.Go(func() { ss.work(v, look) })
	}
	return s
}

// viewer gives that of a pool, and forgets those that have nothing to do any more. mu is held.
func (ss *sights) viewer(pool string) *viewer {
	if v := ss.of[pool]; v != nil {
		return v
	}
	if ss.of == nil {
		ss.of = map[string]*viewer{}
	}
	for id, v := range ss.of {
		if v.began.IsZero() && time.Now().After(v.rests) {
			delete(ss.of, id)
		}
	}
	ss.of[pool] = new(viewer)
	return ss.of[pool]
}

// work looks at what is asked for until nothing is.
func (ss *sights) work(v *viewer, look func([]*sight) error) {
	for batch := ss.next(v); len(batch) > 0; batch = ss.next(v) {
		err := look(batch)
		ss.over(v, err)
		for _, s := range batch {
			close(s.done)
		}
	}
}

// next takes as many as a helper can be asked for at once.
func (ss *sights) next(v *viewer) (batch []*sight) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if len(v.waiting) == 0 {
		v.began = time.Time{}
		return nil
	}
	n := max(1, ipc.FitNames(namesOf(v.waiting)))
	batch, v.waiting = v.waiting[:n], slices.Clone(v.waiting[n:])
	v.began = time.Now()
	return batch
}

func namesOf(batch []*sight) (names []string) {
	for _, s := range batch {
		names = append(names, s.name)
	}
	return names
}

const (
	// restAtLeast is how long a pool that could not be looked at is left alone by those who
	// only want to be shown a volume, and restShare how often as long as it took to find
	// that out. So who walks over a thousand volumes of a pool that hangs waits once.
	restAtLeast = time.Second
	restShare   = 10
)

// over notes that a pool was looked at, or could not be.
func (ss *sights) over(v *viewer, err error) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	v.rests = time.Time{}
	if now := time.Now(); err != nil {
		v.rests = now.Add(max(restAtLeast, restShare*now.Sub(v.began)))
	}
}

// mute reports whether a pool does not answer, as far as is known.
func (ss *sights) mute(pool string) bool {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	v := ss.of[pool]
	return v != nil && (time.Now().Before(v.rests) || !v.began.IsZero() && time.Since(v.began) > soon)
}

// sighted has a volume looked at, with others, and does not wait.
func (s *Service) sighted(p *store.Pool, volume string) *sight {
	return s.sights.want(p.UUID, volume, func(batch []*sight) error { return s.lookAtAll(p, batch) })
}

// lookAtAll has a query helper look at volumes of a pool, lets the catalog follow, and says
// of each what was found. An error is that the pool could not be looked at.
// The pool is taken as it is then: who asked first may have known it otherwise.
func (s *Service) lookAtAll(asked *store.Pool, batch []*sight) error {
	ctx, cancel := context.WithTimeout(context.Background(), freshTimeout)
	defer cancel()
	var items []ipc.Item
	var began time.Time
	p, err := s.withinReach(ctx, asked)
	if err == nil {
		items, began, err = s.lookAtNames(ctx, p, namesOf(batch))
	}
	for i, one := range batch {
		one.found.Began, one.err = began, err
		if err == nil {
			one.take(items[i])
		}
	}
	if err == nil {
		s.learn(p, batch)
	}
	return err
}

// learn lets the catalog follow what was found of volumes, where that is news: once, however
// many wait for it.
func (s *Service) learn(p *store.Pool, batch []*sight) {
	news, err := s.newsOf(p, batch)
	if err == nil && len(news) > 0 {
		err = s.store.Update(func(tx *store.Tx) error {
			for _, one := range news {
				if err := s.catalog.ApplyVolume(tx, p, one.name, one.found); err != nil {
					return err
				}
			}
			return nil
		})
	}
	for _, one := range batch {
		if one.err == nil {
			one.err = err
		}
	}
}

// newsOf gives those of what was found of volumes that the catalog does not know.
func (s *Service) newsOf(p *store.Pool, batch []*sight) (news []*sight, err error) {
	err = s.store.View(func(tx *store.Tx) error {
		for _, one := range batch {
			if one.err != nil {
				continue
			}
			is, err := s.catalog.VolumeNews(tx, p, one.name, one.found)
			if err != nil {
				return err
			}
			if is {
				news = append(news, one)
			}
		}
		return nil
	})
	return news, err
}

// take takes over what a helper says of the volume; no report is that there is none.
func (s *sight) take(it ipc.Item) {
	switch {
	case it.Error == nil:
		s.found.Report = &ipc.Report{Summary: ipc.Summary{Outcome: ipc.Succeeded, Volume: &it}}
	case it.Error.Code == string(record.NotFound) && it.Error.Path == it.Path:
	default:
		s.found.Err = it.Error.Record()
		s.err = s.found.Err
	}
}

// lookAtNames has a query helper look at volumes of a pool; began is before it did.
func (s *Service) lookAtNames(ctx context.Context, p *store.Pool, names []string) (items []ipc.Item, began time.Time, err error) {
	at := catalog.OnPool(p)
	at.PoolID = p.Identity
	report, began, err := s.jobs.QueryNames(ctx, "volumes "+p.UUID, (&operation.PoolLook{Volume: at}).Task().Argv(), names)
	var refusal *record.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return nil, began, slowPool(p.Name)
	case errors.As(err, &refusal):
		return nil, began, errors.Join(s.noteAbsence(&p.Pool, catalog.Finding{Began: began, Err: refusal}), refusal)
	case err != nil:
		return nil, began, err
	case len(report.Items) != len(names):
		return nil, began, record.Errorf(record.Internal, "a helper that was to look at %s tells of %d", record.Plural(len(names), "volume"), len(report.Items))
	}
	return report.Items, began, nil
}

// withinReach gives a pool in use as it is now. One that could not be reached is read as a
// whole before: its volumes may be others by now.
func (s *Service) withinReach(ctx context.Context, asked *store.Pool) (p *store.Pool, err error) {
	if p, err = s.stored(asked.UUID); err != nil {
		return nil, err
	}
	if p.State == record.PoolUnreachable {
		if err := s.freshenOne(ctx, p); err != nil {
			return nil, err
		}
	}
	err = s.store.View(func(tx *store.Tx) error {
		p, err = catalog.ActivePool(tx, asked.UUID)
		return err
	})
	return p, err
}
