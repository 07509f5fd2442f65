package service

import (
	"storaged/internal/backends"
	"storaged/internal/backends/all"
)

// What only the driver of a pool's type knows is asked of it here. None of this
// is I/O on a pool. A pool of a type that this version does not have is like none.

// lasting is what of a pool's identity is the same after a reboot, or when its
// target was mounted anew.
func lasting(poolType, id string) string {
	b, err := all.Lookup(poolType)
	if err != nil {
		return id
	}
	return string(b.Lasting(backends.Identity(id)))
}

// sameTarget reports whether the target found is the one that is known.
func sameTarget(poolType, known, found string) bool {
	b, err := all.Lookup(poolType)
	return err == nil && b.Same(backends.Identity(known), backends.Identity(found))
}

// oneStore reports whether volumes get from one of two pools of a type to the
// other without a copy.
func oneStore(poolType, a, b string) bool {
	driver, err := all.Lookup(poolType)
	return err == nil && driver.Together(backends.Identity(a), backends.Identity(b))
}
