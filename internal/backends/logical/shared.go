package logical

import (
	"context"
	"fmt"

	"storaged/internal/backends"
	"storaged/internal/record"
)

// writable refuses to write to a volume where that would change, or end, what others have.
func (g *group) writable(p backends.Pool, v *logicalVolume) error {
	path := Backend{}.Locate(p, v.name).Path
	switch v.kind {
	case 'o', 'O':
		return record.Errorf(record.HasChildren, "volume %q has snapshots of LVM: what is written to it is written to the room that they have too, and ends those that are full", path).
			WithHint("remove them (lvremove)")
	case 's', 'S':
		return record.Errorf(record.Unsupported, "volume %q is a snapshot of LVM, which has room for a part of what can be written to it", path)
	}
	return nil
}

// mapping is what a chunk of a thin volume may need in the metadata of its pool, bytes: more
// than the kernel says it does (thin-provisioning.rst), for blocks that are shared.
const mapping = 64

// Room is what the thin pool of the volume has.
func (v *volume) Room(ctx context.Context, most int) (room backends.Room, err error) {
	if v.kind != thinVolume || v.file == nil {
		return room, nil
	}
	if err := v.file.Sync(); err != nil {
		return room, err
	}
	g, err := look(ctx, v.pool)
	if err != nil {
		return room, err
	}
	is := g.find(v.name)
	if is == nil || is.uuid != v.uuid {
		return room, &backends.AnotherError{Path: v.path()}
	}
	return g.room(v.pool, is, float64(most))
}

// room is what the pool of a thin volume has until it is full by so many percent. What the
// volume shares with others it takes anew when it is written.
func (g *group) room(p backends.Pool, v *logicalVolume, most float64) (room backends.Room, err error) {
	pool := g.find(v.thin)
	if pool == nil || pool.filled < 0 || pool.chunk == 0 {
		return room, record.Errorf(record.WrongState, "what is left in the thin pool %q of volume %q is not known", v.thin, Backend{}.Locate(p, v.name).Path)
	}
	data := float64(pool.size) * (most - pool.filled) / 100
	metadata := float64(pool.meta) * (most - pool.tables) / 100 / mapping * float64(pool.chunk)
	room = backends.Room{Of: pool.used(g.name), Left: int64(max(min(data, metadata), 0)), Grain: pool.chunk, Lacks: v.size}
	if v.origin == "" && v.filled >= 0 && !g.origin(v) {
		room.Lacks -= int64(float64(v.size) * v.filled / 100)
	}
	return room, nil
}

// used says how full a thin pool is.
func (v *logicalVolume) used(group string) string {
	return fmt.Sprintf("the thin pool %q of volume group %q, which is %.1f %% full (%.1f %% of its metadata)", v.name, group, v.filled, max(v.tables, 0))
}

// origin reports whether others were made of the volume.
func (g *group) origin(v *logicalVolume) bool {
	for i := range g.volumes {
		if g.volumes[i].origin == v.name {
			return true
		}
	}
	return false
}

// without refuses to take away a volume that has snapshots which would go too. Thin ones
// stay.
func (g *group) without(p backends.Pool, v *logicalVolume) error {
	if v.kind != 'o' && v.kind != 'O' {
		return nil
	}
	return record.Errorf(record.HasChildren, "volume %q has snapshots of LVM, which would go with it", Backend{}.Locate(p, v.name).Path).
		WithHint("delete them first")
}
