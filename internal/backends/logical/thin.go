package logical

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"storaged/internal/backends"
	"storaged/internal/backends/deputy"
	"storaged/internal/diskio"
	"storaged/internal/record"
)

// Kinds of lv_attr (lvs(8)).
const (
	thinVolume = 'V'
	thinPool   = 't'
)

// pooled gives the thin pool of a name, of which volumes can be made.
func (g *group) pooled(name string) (*logicalVolume, error) {
	switch pool := g.find(name); {
	case pool == nil:
		return nil, record.Errorf(record.NotFound, "volume group %q has no thin pool %q", g.name, name).
			WithHint("make one (lvcreate --type thin-pool), or leave option %s out", record.OptionThinPool)
	case pool.kind != thinPool:
		return nil, record.Errorf(record.Invalid, "%q of volume group %q is no thin pool", name, g.name)
	default:
		return pool, nil
	}
}

// makeThin makes a thin volume by a temporary name. Nothing of the pool is taken for it.
func (g *group) makeThin(ctx context.Context, p backends.Pool, name string, extents int64, pool string) error {
	if _, err := g.pooled(pool); err != nil {
		return err
	}
	args := []string{name, strconv.FormatInt(extents*g.extent, 10), pool}
	_, err := deputy.Do(ctx, Backend{}, p, backends.Errand{Do: doCreateThin, Args: args})
	return err
}

// share makes a thin snapshot of a volume by a temporary name.
func (g *group) share(ctx context.Context, p backends.Pool, name, origin string) error {
	of := g.find(origin)
	if of == nil {
		return &backends.MissingError{Path: Backend{}.Locate(p, origin).Path}
	}
	_, err := deputy.Do(ctx, Backend{}, p, backends.Errand{Do: doShare, Args: []string{name, string(of.uuid), origin}})
	return err
}

// Clonable refuses all but thin volumes of the group, and a new one in another thin pool.
func (Backend) Clonable(p backends.Pool, n backends.NewVolume, origin backends.Volume) error {
	v, ok := origin.(*volume)
	switch pool := n.Options[record.OptionThinPool]; {
	case !ok || groupOf(v.pool) != groupOf(p):
		return record.Errorf(record.Unsupported, "volumes of different volume groups share no storage")
	case v.kind != thinVolume:
		return record.Errorf(record.Unsupported, "volume %q is no thin one: only those share their storage", v.path()).
			WithHint("clone it with option %s", record.OptionThinPool)
	case pool != "" && pool != v.thin:
		return record.Errorf(record.Unsupported, "volume %q gets its storage from thin pool %q, and shares none with volumes of %q", v.path(), v.thin, pool)
	}
	return nil
}

// content is what the volume holds. A thin one gives storage back by chunks of its pool, if
// those read as zeros when they are given out: else all of a chunk that is written in part must
// be written.
func (v *volume) content() diskio.Content {
	if v.kind == thinVolume && v.zeroes && diskio.ThinUnit(v.chunk) {
		return diskio.ThinContent(v.file, v.chunk)
	}
	return diskio.FileContent(v.file)
}

// forget has what a thin volume gains read as zeros: LVM leaves what it had there before it was
// made smaller. Of a pool that takes nothing back it is written.
func (v *volume) forget(ctx context.Context, p *diskio.Pacer, from, size int64) error {
	const most = 1 << 30 // bytes at a time
	for off := from; off < size; off += most {
		if _, err := p.Admit(ctx, 0); err != nil {
			return err
		}
		err := v.content().Zero(off, min(most, size-off), true)
		p.Finished(diskio.Moved{})
		if errors.Is(err, diskio.ErrUnsupported) {
			_, err = diskio.Clear(ctx, p, v.Content(), off)
			return err
		}
		if err != nil {
			return fmt.Errorf("cannot clear what volume %q gains: %w", v.path(), err)
		}
	}
	return nil
}
