package helper

import (
	"fmt"

	"storaged/internal/backends"
	"storaged/internal/backends/all"
	"storaged/internal/operation"
	"storaged/internal/record"
)

// tasked is an operation, or its settlement: what a helper's task is made of.
type Tasked interface{ Task() operation.Task }

// left says what a cancel leaves of a new volume.
func left(keep bool, at place) string {
	if keep {
		return fmt.Sprintf("what is written of %q is kept; it is not complete", at.path)
	}
	return fmt.Sprintf("%q is not made", at.path)
}

// needed refuses a task without a flag that must be there.
func needed(o Tasked, flag string, given bool) error {
	if given {
		return nil
	}
	name := o.Task().Name
	return record.Errorf(record.Invalid, "%q needs --%s", Program+" "+name, flag).
		WithHint("%s %s --help", Program, name)
}

// volume finds the volume of a flag.
func volume(o Tasked, flag string, v operation.Volume) (place, error) {
	if err := needed(o, flag, v.Path != ""); err != nil {
		return place{}, err
	}
	at, err := placeOf(v.Path, v.Type)
	if err == nil {
		at.pool.ID, err = poolID(at.backend, v.PoolID)
	}
	if err == nil {
		at.id, err = volumeID(v.ID)
	}
	return at, err
}

// volumeID reads which volume is meant; without it any by its name will do.
func volumeID(text string) (backends.VolumeID, error) {
	id, err := backends.ParseVolumeID(text)
	if err != nil {
		return id, record.Errorf(record.Invalid, "%s", err)
	}
	return id, nil
}

// poolID reads which storage a pool is; without it any will do.
func poolID(b backends.Backend, text string) (backends.Identity, error) {
	id := backends.Identity(text)
	if err := b.CheckIdentity(id); err != nil {
		return "", record.Errorf(record.Invalid, "%s", err)
	}
	return id, nil
}

// orZero is what a bound says, 0 where it says nothing.
func orZero(bytes *int64) int64 {
	if bytes == nil {
		return 0
	}
	return *bytes
}

// orAny is what a bound says, -1 where it says nothing.
func orAny(bytes *int64) int64 {
	if bytes == nil {
		return -1
	}
	return *bytes
}

// poolOf finds the pool of a flag.
func poolOf(o Tasked, flag string, v operation.Volume) (pool, error) {
	if err := needed(o, flag, v.Path != ""); err != nil {
		return pool{}, err
	}
	backend, err := all.Lookup(v.Type)
	if err != nil {
		return pool{}, record.Errorf(record.Unsupported, "%s", err)
	}
	path, err := absolute(v.Path)
	if err != nil {
		return pool{}, err
	}
	id, err := poolID(backend, v.PoolID)
	return pool{backends.Pool{Type: v.Type, Target: path, ID: id}, backend}, err
}
