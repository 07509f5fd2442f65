package backendtest

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"storaged/internal/backends"
)

// fixedCases are of pools whose volumes are neither made nor removed.
var fixedCases = []testCase{
	{"properties say what the driver is", properties},
	{"every step may be repeated", fixedSteps},
	{"refresh gives the pool's figures", fixedFigures},
	{"refresh ends with the error of found", fixedFoundFails},
	{"canceled methods change nothing", fixedCanceled},
	{"another pool than the one meant is left alone", fixedReplaced},
	{"is opened, written, and holds it", fixedContent},
	{"is kept from other processes by its locks", fixedLocks},
	{"is free when its holder was killed", fixedKilled},
	{"a pool in use is not stopped", fixedInUse},
	{"a header in the content changes nothing for who opened it", fixedPlanted},
	{"bad names are refused by every method", fixedNames},
	{"each name has a place that tells it", fixedPlaces},
}

// RunFixed tests the contract of a type whose volumes are there already. Each case gets a
// pool with two volumes at least, of 1 MiB or more, that is not started. missing is a name
// that none of them has.
func RunFixed(t *testing.T, s Suite, missing string) {
	s.missing = missing
	s.run(t, "fixed", fixedCases)
}

// first starts the pool and gives the names of its first two volumes.
func (r *rig) first() (one, other string) {
	r.Helper()
	r.must(r.b.Start(r.Context(), r.p))
	var names []string
	_, err := r.b.Refresh(r.Context(), r.p, func(v backends.VolumeInfo) error {
		names = append(names, v.Name)
		return nil
	})
	r.must(err)
	if len(names) < 2 {
		r.Fatalf("the pool has %q", names)
	}
	return names[0], names[1]
}

func (r *rig) opened(name string, a backends.Access) backends.Volume {
	r.Helper()
	v, err := r.b.Open(r.Context(), r.p, name, a)
	r.must(err)
	r.Cleanup(func() { v.Close() }) // a second time does no harm
	return v
}

// fill writes the beginning of a volume, durably.
func (r *rig) fill(name string, content []byte) {
	r.Helper()
	v := r.opened(name, backends.WriteExclusive)
	_, err := v.Content().WriteAt(content, 0)
	r.must(err)
	r.must(v.Content().Flush())
	r.must(v.Close())
}

func fixedSteps(r *rig) {
	for range 2 {
		r.must(r.b.Start(r.Context(), r.p))
	}
	one, _ := r.first()
	for range 2 {
		r.must(r.b.Stop(r.Context(), r.p))
	}
	if _, err := r.b.Open(r.Context(), r.p, one, backends.ReadShared); err == nil {
		r.Error("a volume of a stopped pool was opened")
	}
	if again, _ := r.first(); again != one {
		r.Errorf("after another start there is %q, not %q", again, one)
	}
}

func fixedFigures(r *rig) {
	r.first()
	var sum int64
	info, err := r.b.Refresh(r.Context(), r.p, func(v backends.VolumeInfo) error {
		sum += v.Size
		if v.Path == "" || v.Key == "" || v.Type == "" || v.ID == "" || v.Size <= 0 || v.Capacity != v.Size || r.b.CheckIdentity(v.ID) != nil {
			r.Errorf("incomplete: %+v", v)
		}
		return nil
	})
	r.must(err)
	space, err := r.b.Space(r.Context(), r.p)
	r.must(err)
	if info.Capacity != sum || info.Path == "" || space.Path != info.Path || space.ID != info.ID || space.Capacity != sum {
		r.Errorf("found %+v, asked %+v, volumes of %d bytes", info, space, sum)
	}
}

func fixedFoundFails(r *rig) {
	r.first()
	stop, calls := errors.New("enough"), 0
	_, err := r.b.Refresh(r.Context(), r.p, func(backends.VolumeInfo) error { calls++; return stop })
	if r.is(err, stop); calls != 1 {
		r.Errorf("%d calls after the first had failed", calls-1)
	}
}

func fixedCanceled(r *rig) {
	one, _ := r.first()
	ctx := canceled(r.T)
	_, open := r.b.Open(ctx, r.p, one, backends.WriteExclusive)
	_, refresh := r.b.Refresh(ctx, r.p, func(backends.VolumeInfo) error { return errors.New("called") })
	_, space := r.b.Space(ctx, r.p)
	for what, err := range map[string]error{"start": r.b.Start(ctx, r.p), "stop": r.b.Stop(ctx, r.p), "open": open, "refresh": refresh, "space": space} {
		if !errors.Is(err, context.Canceled) {
			r.Errorf("%s: %v", what, err)
		}
	}
	r.must(r.opened(one, backends.WriteExclusive).Close()) // no lock was left behind
}

func fixedReplaced(r *rig) {
	one, other := r.first()
	known := r.p
	info, err := r.b.Space(r.Context(), r.p)
	r.must(err)
	known.ID = info.ID
	r.must(r.b.Start(r.Context(), known))
	known.ID = "iqn.2026-01.test:another@host:3260"
	_, open := r.b.Open(r.Context(), known, one, backends.ReadShared)
	_, refresh := r.b.Refresh(r.Context(), known, func(backends.VolumeInfo) error { return nil })
	_, space := r.b.Space(r.Context(), known)
	for _, err := range []error{open, refresh, space, r.b.Start(r.Context(), known)} {
		r.is(err, backends.ErrReplaced)
		r.away(err)
	}
	v := r.opened(one, backends.ReadShared)
	is, err := r.b.Look(r.Context(), r.p, one)
	r.must(err)
	r.must(v.Is(is.ID))
	is, err = r.b.Look(r.Context(), r.p, other)
	r.must(err)
	if _, another := errors.AsType[*backends.AnotherError](v.Is(is.ID)); !another {
		r.Errorf("%q is taken for %q", one, other)
	}
}

func fixedContent(r *rig) {
	one, other := r.first()
	r.fill(one, []byte("one"))
	r.fill(other, []byte("other"))
	r.holds(one, []byte("one"))
	r.holds(other, []byte("other"))
	v := r.opened(one, backends.ReadShared)
	if _, err := v.Content().WriteAt([]byte("x"), 0); err == nil {
		r.Error("what was opened to be read was written")
	}
	info, err := v.Info()
	r.must(err)
	if info.Name != one || info.Format != "" || info.Capacity != info.Size || info.Size < 1<<20 {
		r.Errorf("told %+v", info)
	}
	r.must(v.Close())
	r.must(v.Close())
	none, err := r.b.Open(r.Context(), r.p, r.suite.missing, backends.ReadShared)
	if r.is(err, backends.ErrNotFound); none != nil {
		r.Errorf("%T was opened of what there is not", none)
	}
	_, err = r.b.Look(r.Context(), r.p, r.suite.missing)
	r.is(err, backends.ErrNotFound)
}

func fixedLocks(r *rig) {
	one, _ := r.first()
	for _, c := range []struct {
		held    backends.Access
		readers bool // are let in
	}{{backends.ReadShared, true}, {backends.WriteExclusive, false}} {
		other := r.process(order{Act: actHold, Name: one, Access: c.held})
		holder := fmt.Sprintf("pid %d ", other.pid())
		_, err := r.b.Open(r.Context(), r.p, one, backends.WriteExclusive)
		r.busy(err, holder)
		if c.readers {
			r.readTogether(one)
		} else {
			_, err := r.b.Open(r.Context(), r.p, one, backends.ReadShared)
			r.busy(err, holder)
		}
		_, err = r.b.Look(r.Context(), r.p, one)
		r.must(err)
		other.end()
	}
}

func fixedKilled(r *rig) {
	one, _ := r.first()
	other := r.process(order{Act: actHold, Name: one, Access: backends.WriteExclusive})
	_, err := r.b.Open(r.Context(), r.p, one, backends.WriteExclusive)
	r.busy(err, fmt.Sprintf("pid %d ", other.pid()))
	other.kill()
	r.must(r.opened(one, backends.WriteExclusive).Close())
}

func fixedInUse(r *rig) {
	one, _ := r.first()
	for _, a := range []backends.Access{backends.ReadShared, backends.WriteExclusive} {
		other := r.process(order{Act: actHold, Name: one, Access: a})
		r.busy(r.b.Stop(r.Context(), r.p), fmt.Sprintf("pid %d ", other.pid()))
		other.end()
	}
	r.must(r.b.Stop(r.Context(), r.p))
}

func fixedPlanted(r *rig) {
	one, _ := r.first()
	r.fill(one, plantedHeader())
	found, err := r.b.Look(r.Context(), r.p, one)
	r.must(err)
	if found.Format != "qcow2" || found.Capacity != 1<<50 || found.Backing != "/etc/shadow" {
		r.Errorf("found %+v", found)
	}
	v := r.opened(one, backends.ReadShared)
	info, err := v.Info()
	r.must(err)
	r.must(v.Close())
	if info.Format != "" || info.Backing != "" || info.Capacity != info.Size || info.Size != found.Size {
		r.Errorf("told %+v", info)
	}
	r.fill(one, make([]byte, 4096))
}

func fixedNames(r *rig) {
	r.first()
	for name := range BadNames() {
		_, read := r.b.Open(r.Context(), r.p, name, backends.ReadShared)
		_, write := r.b.Open(r.Context(), r.p, name, backends.WriteExclusive)
		_, look := r.b.Look(r.Context(), r.p, name)
		for method, err := range map[string]error{"read": read, "write": write, "look": look, "check": r.b.CheckName(name)} {
			if err == nil || errors.Is(err, backends.ErrNotFound) {
				r.Errorf("%s of %.20q: %v", method, name, err)
			}
		}
	}
}

func fixedPlaces(r *rig) {
	one, other := r.first()
	for _, name := range []string{one, other, r.suite.missing} {
		at := r.b.Locate(r.p, name)
		if target, is := r.b.Parse(at.Path); target != r.p.Target || is != name {
			r.Errorf("%q is at %q, which is %q in %q", name, at.Path, is, target)
		}
	}
	for _, name := range []string{one, other} {
		if v, err := r.b.Look(r.Context(), r.p, name); err != nil || v.Path != r.b.Locate(r.p, name).Path {
			r.Errorf("%q is at %q (%v)", name, v.Path, err)
		}
	}
}
