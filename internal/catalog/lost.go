package catalog

import (
	"slices"

	"storaged/internal/ipc"
	"storaged/internal/record"
	"storaged/internal/store"
)

// What a job has left half changed stays so by whatever name it has: who renames a file
// by hand does not complete it. Within its pool it is known by its identity, if that is such
// that no other file ever gets it: else a whole one would be taken for it.

// maxLost bounds the files that are remembered of a pool; of more the oldest are forgotten.
const maxLost = 64

// incompleteOf are the volumes that are incomplete and whose files are known again.
func incompleteOf(vols []*store.Volume) (all []*store.Volume) {
	for _, v := range vols {
		if v.State == record.VolumeIncomplete && v.Identity != "" {
			all = append(all, v)
		}
	}
	return all
}

// lose remembers the file of a volume that has lost its name, if it was incomplete, can be
// recognized and has none by which it was found already. Who gave the pool stores it.
func lose(tx *store.Tx, p *store.Pool, v *store.Volume) error {
	if len(incompleteOf([]*store.Volume{v})) == 0 || !recognized(p.Type, v.Identity, v.Identity) {
		return nil
	}
	vols, err := tx.Volumes(p.Name)
	if err != nil {
		return err
	}
	for _, other := range vols {
		if other.Name != v.Name && recognized(p.Type, v.Identity, other.Identity) {
			return nil
		}
	}
	all := append(slices.Clone(p.Lost), lostOf(v))
	p.Lost = all[max(0, len(all)-maxLost):]
	return nil
}

func lostOf(v *store.Volume) store.Lost {
	return store.Lost{Identity: v.Identity, Format: v.Format, Job: v.Job, Writer: v.Writer, Begun: v.Begun}
}

// formerly gives what is known of a file that was found by another name than it had: nil where
// it was complete, or is another. held says that a job has the volume that it was, and with
// it the file.
func (s scan) formerly(it ipc.Item) (was *store.Lost, held bool, err error) {
	if !recognized(s.pool.Type, it.Identity, it.Identity) {
		return nil, false, nil
	}
	incomplete, err := s.partial()
	if err != nil {
		return nil, false, err
	}
	for _, v := range incompleteOf(incomplete) { // some are by now what was found in their place
		if v.Name != it.Name && recognized(s.pool.Type, v.Identity, it.Identity) {
			return new(lostOf(v)), s.locked(v.Name), nil
		}
	}
	if i := slices.IndexFunc(s.pool.Lost, s.isOf(it)); i >= 0 {
		return new(s.pool.Lost[i]), false, nil
	}
	return nil, false, nil
}

func (s scan) isOf(it ipc.Item) func(store.Lost) bool {
	return func(l store.Lost) bool { return recognized(s.pool.Type, l.Identity, it.Identity) }
}

// partial are the volumes of the pool that are incomplete.
func (s scan) partial() ([]*store.Volume, error) {
	if s.whole {
		return s.incomplete, nil
	}
	vols, err := s.tx.Volumes(s.pool.Name)
	return incompleteOf(vols), err
}

// staysIncomplete gives an entry what is known of its file, which is in the pool again.
func (s scan) staysIncomplete(v *store.Volume, was *store.Lost, it ipc.Item) {
	v.Format, v.State, v.Job, v.Writer, v.Begun = was.Format, record.VolumeIncomplete, was.Job, was.Writer, was.Begun
	s.pool.Lost = slices.DeleteFunc(slices.Clone(s.pool.Lost), s.isOf(it))
}
