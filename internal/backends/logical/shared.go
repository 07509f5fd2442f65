package logical

import (
	"storaged/internal/backends"
	"storaged/internal/record"
)

// maxFill is how full a thin pool may get by what a job writes, in percent: where it is full
// the writes of all volumes in it fail.
const maxFill = 95

// writable refuses to write to a volume where that would change, or fill, what others have.
func (g *group) writable(p backends.Pool, v *logicalVolume) error {
	path := Backend{}.Locate(p, v.name).Path
	switch v.kind {
	case 'o', 'O':
		return record.Errorf(record.HasChildren, "volume %q has snapshots of LVM: what is written to it is written to the room that they have too, and ends those that are full", path).
			WithHint("remove them (lvremove)")
	case 's', 'S':
		return record.Errorf(record.Unsupported, "volume %q is a snapshot of LVM, which has room for a part of what can be written to it", path)
	case 'V':
		return g.roomy(p, v)
	}
	return nil
}

// roomy refuses to write to a thin volume that could take more than its pool has. What it
// shares with others it takes anew when it is written.
func (g *group) roomy(p backends.Pool, v *logicalVolume) error {
	path := Backend{}.Locate(p, v.name).Path
	pool := g.find(v.thin)
	if pool == nil || pool.filled < 0 {
		return record.Errorf(record.WrongState, "what is left in the thin pool %q of volume %q is not known", v.thin, path)
	}
	need := float64(v.size)
	if v.origin == "" && v.filled >= 0 && !g.origin(v) {
		need -= need * v.filled / 100
	}
	if room := float64(pool.size) * (maxFill - pool.filled) / 100; need > room || pool.tables > maxFill {
		return record.Errorf(record.NoSpace, "volume %q may take %.0f bytes more of the thin pool %q when it is written, which is %.1f %% full, and gets no fuller than %d %% by a job", path, need, v.thin, pool.filled, maxFill).
			WithHint("extend the pool (lvextend), or remove volumes of it")
	}
	return nil
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
