package backendtest

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"storaged/internal/backends"
)

var poolCases = []testCase{
	{"properties say what the driver is", properties},
	{"every step may be repeated", stepsRepeat},
	{"nothing works before build", beforeBuild},
	{"delete refuses a pool with volumes", deleteFull},
	{"delete with volumes removes them", deleteWithVolumes},
	{"delete with volumes removes none that came later", deleteUnlisted},
	{"delete with a volume in use removes nothing", deleteBusy},
	{"refresh gives the pool's figures", figures},
	{"refresh ends with the error of found", foundFails},
	{"refresh ends when canceled half-way", refreshCanceled},
	{"canceled methods change nothing", canceledMethods},
	{"another pool than the one meant is left alone", poolReplaced},
	{"many volumes are found once each", manyVolumes},
}

func properties(r *rig) {
	p := r.b.Properties()
	if p.Type == "" || p.Type != r.p.Type {
		r.Errorf("type is %q, the pool's %q", p.Type, r.p.Type)
	}
	if !slices.Contains(p.PoolVerbs, "refresh") || len(p.VolVerbs) > 0 && len(p.Formats) == 0 {
		r.Errorf("incomplete: %+v", p)
	}
}

func stepsRepeat(r *rig) {
	ctx := r.Context()
	for range 2 {
		r.built()
	}
	for range 2 {
		r.must(r.b.Start(ctx, r.p))
	}
	r.made("a", []byte("a"))
	for range 2 { // a running pool with volumes too
		r.built()
		r.must(r.b.Start(ctx, r.p))
		r.has("a")
	}
	r.must(r.remove(ctx, r.p, r.n("a")))
	for range 2 {
		r.must(r.b.Stop(ctx, r.p))
	}
	r.must(r.b.Start(ctx, r.p))
	r.must(r.b.Stop(ctx, r.p))
	for range 2 {
		r.must(r.deleter().Delete(ctx, r.p, false))
	}
	r.started().has()
}

func beforeBuild(r *rig) {
	ctx := r.Context()
	_, create := r.creator().Create(ctx, r.p, small(r.n("a"), "job"))
	_, open := r.b.Open(ctx, r.p, r.n("a"), backends.ReadShared)
	_, refresh := r.b.Refresh(ctx, r.p, func(backends.VolumeInfo) error { return nil })
	_, space := r.b.Space(ctx, r.p)
	for what, err := range map[string]error{
		"start": r.b.Start(ctx, r.p), "create": create, "open": open,
		"refresh": refresh, "space": space, "remove": r.remove(ctx, r.p, r.n("a")),
	} {
		if !errors.Is(err, backends.ErrNotFound) {
			r.Errorf("%s: %v", what, err)
		}
	}
}

func deleteFull(r *rig) {
	r.started().made("a", []byte("a"))
	r.is(r.deleter().Delete(r.Context(), r.p, false), backends.ErrNotEmpty)
	r.has("a")
}

func deleteWithVolumes(r *rig) {
	r.started().made("a", []byte("a"))
	r.made("b", []byte("b"))
	r.must(r.deleter().Delete(r.Context(), r.p, true))
	r.is(r.b.Start(r.Context(), r.p), backends.ErrNotFound)
	r.started().has()
}

func deleteUnlisted(r *rig) {
	r.started().made("a", []byte("a"))
	r.made("b", []byte("b"))
	known := r.p
	known.Listed = []string{r.n("a"), "gone"}
	r.is(r.deleter().Delete(r.Context(), known, true), backends.ErrNotEmpty)
	r.has("a", "b")
	known.Listed = []string{r.n("a"), r.n("b"), "gone"}
	r.must(r.deleter().Delete(r.Context(), known, true))
	r.started().has()
}

func deleteBusy(r *rig) {
	r.started().made("a", []byte("a"))
	r.made("b", []byte("b"))
	v, err := r.b.Open(r.Context(), r.p, r.n("b"), backends.ReadShared)
	r.must(err)
	r.busy(r.deleter().Delete(r.Context(), r.p, true), "")
	r.must(v.Close())
	r.has("a", "b")
}

func figures(r *rig) {
	r.started()
	info, err := r.b.Refresh(r.Context(), r.p, func(backends.VolumeInfo) error { return nil })
	r.must(err)
	if info.Capacity <= 0 || info.Available <= 0 || info.Available > info.Capacity ||
		info.Allocation < 0 || info.Allocation > info.Capacity {
		r.Errorf("sizes make no sense: %+v", info)
	}
	if info.Path == "" {
		r.Errorf("no path: %+v", info)
	}
	space, err := r.b.Space(r.Context(), r.p)
	r.must(err)
	if space.Path != info.Path || space.ID != info.ID || space.Capacity != info.Capacity {
		r.Errorf("space gives %+v where refresh gave %+v", space, info)
	}
}

func foundFails(r *rig) {
	r.started().made("a", nil)
	r.made("b", nil)
	stop, calls := errors.New("enough"), 0
	_, err := r.b.Refresh(r.Context(), r.p, func(backends.VolumeInfo) error {
		calls++
		return stop
	})
	r.is(err, stop)
	if calls != 1 {
		r.Errorf("%d calls after the first had failed", calls-1)
	}
}

func refreshCanceled(r *rig) {
	r.started().made("a", nil)
	r.made("b", nil)
	ctx, cancel := context.WithCancel(r.Context())
	calls := 0
	_, err := r.b.Refresh(ctx, r.p, func(backends.VolumeInfo) error {
		cancel()
		calls++
		return nil
	})
	r.is(err, context.Canceled)
	if calls != 1 {
		r.Errorf("%d volumes found after the cancel", calls-1)
	}
}

func canceledMethods(r *rig) {
	ctx := canceled(r.T)
	r.is(r.builder().Build(ctx, r.p, false), context.Canceled)
	r.is(r.b.Start(r.Context(), r.p), backends.ErrNotFound)
	r.started().made("a", []byte("a"))
	_, create := r.creator().Create(ctx, r.p, small(r.n("b"), "job"))
	_, open := r.b.Open(ctx, r.p, r.n("a"), backends.WriteExclusive)
	_, settle := r.creator().Settle(ctx, r.p, r.n("a"), "job", nil)
	_, refresh := r.b.Refresh(ctx, r.p, func(backends.VolumeInfo) error { return errors.New("called") })
	_, space := r.b.Space(ctx, r.p)
	for what, err := range map[string]error{
		"start": r.b.Start(ctx, r.p), "stop": r.b.Stop(ctx, r.p), "delete": r.deleter().Delete(ctx, r.p, true),
		"remove": r.remove(ctx, r.p, r.n("a")), "create": create, "open": open, "settle": settle, "refresh": refresh, "space": space,
	} {
		if !errors.Is(err, context.Canceled) {
			r.Errorf("%s: %v", what, err)
		}
	}
	r.has("a")
	r.must(r.remove(r.Context(), r.p, r.n("a"))) // no lock was left behind
}

// poolReplaced: what was built anew at the pool's place is not the pool.
func poolReplaced(r *rig) {
	r.started().made("a", []byte("a"))
	info, err := r.b.Refresh(r.Context(), r.p, func(backends.VolumeInfo) error { return nil })
	r.must(err)
	known := r.p
	known.ID = info.ID
	r.must(r.deleter().Delete(r.Context(), known, true))
	r.away(r.b.Start(r.Context(), known))
	r.away(r.deleter().Delete(r.Context(), known, true))
	r.started().made("a", []byte("theirs"))
	for _, known.ID = range []backends.Identity{info.ID, r.b.Lasting(info.ID)} { // a reboot may have been between
		r.replaced(known)
	}
	r.holds("a", []byte("theirs"))
	r.has("a")
}

// replaced fails unless every method refuses a pool with that identity.
func (r *rig) replaced(known backends.Pool) {
	r.Helper()
	ctx := r.Context()
	_, create := r.creator().Create(ctx, known, small(r.n("b"), "job"))
	_, open := r.b.Open(ctx, known, r.n("a"), backends.ReadShared)
	_, settle := r.creator().Settle(ctx, known, r.n("a"), "job", nil)
	_, refresh := r.b.Refresh(ctx, known, func(backends.VolumeInfo) error { return nil })
	_, space := r.b.Space(ctx, known)
	for _, err := range []error{create, open, settle, refresh, space, r.b.Start(ctx, known), r.remove(ctx, known, r.n("a")), r.deleter().Delete(ctx, known, true)} {
		r.is(err, backends.ErrReplaced)
		r.away(err)
	}
}

// away fails unless an error says that the pool could not be looked at, and not
// that something is not there.
func (r *rig) away(err error) {
	r.Helper()
	if away, ok := errors.AsType[*backends.AwayError](err); !ok || away.Target != r.p.Target || errors.Is(err, backends.ErrNotFound) {
		r.Errorf("the pool is not said to be away: %v", err)
	}
}

func manyVolumes(r *rig) {
	r.started()
	var want []string
	for i := range cmp.Or(r.suite.Many, 50) {
		r.made(numbered(i), nil)
		want = append(want, numbered(i))
	}
	r.has(want...)
}
