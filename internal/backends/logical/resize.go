package logical

import (
	"context"
	"fmt"
	"strconv"

	"storaged/internal/backends"
	"storaged/internal/backends/deputy"
	"storaged/internal/diskio"
	"storaged/internal/image"
	"storaged/internal/record"
)

// Resize changes the number of extents, to the next that holds the capacity. What is new
// is cleared before anybody is told of it.
func (v *volume) Resize(ctx context.Context, p *diskio.Pacer, spec diskio.ResizeSpec) (diskio.AllocateStats, error) {
	g, err := look(ctx, v.pool)
	if err != nil {
		return diskio.AllocateStats{}, err
	}
	now := g.find(v.name)
	if now == nil {
		return diskio.AllocateStats{}, &backends.MissingError{Path: v.path()}
	}
	size := g.extents(spec.Capacity) * g.extent
	if size < now.size && !spec.Shrink {
		return diskio.AllocateStats{}, fmt.Errorf("a capacity of %d bytes is less than the %d that the volume has", spec.Capacity, now.size)
	}
	before := v.size
	if size != now.size {
		if err := v.resize(ctx, &g, spec.Capacity, size); err != nil {
			return diskio.AllocateStats{}, err
		}
	}
	v.size = size
	switch did := (diskio.AllocateStats{Method: diskio.MethodSparse, Allocated: size, Kept: true}); {
	case size <= before:
		return did, nil
	case v.kind == thinVolume:
		return did, v.forget(ctx, p, before, size)
	}
	return diskio.Clear(ctx, p, v.Content(), before)
}

// resize has the size changed, which was asked for as that capacity.
func (v *volume) resize(ctx context.Context, g *group, capacity, size int64) error {
	switch need := size - v.size; {
	case v.kind != '-' && v.kind != thinVolume:
		return record.Errorf(record.Unsupported, "volume %q is no linear one, striped one or thin one: others are resized by LVM's own tools", v.path())
	case v.kind != thinVolume && need > g.free:
		return &diskio.NoRoomError{Needed: need, Available: g.free}
	}
	args := []string{string(v.uuid), v.name, strconv.FormatInt(capacity, 10)}
	if _, err := deputy.Do(ctx, Backend{}, v.pool, backends.Errand{Do: doResize, Args: args}); err != nil {
		return fmt.Errorf("cannot resize volume %q: %w", v.path(), err)
	}
	return nil
}

// ShareGrowth lets others make it larger meanwhile.
func (v *volume) ShareGrowth() error { return v.node().Busy(image.ShareGrowth(v.file)) }

// KeepSize ends that.
func (v *volume) KeepSize() error { return v.node().Busy(image.KeepSize(v.file)) }
