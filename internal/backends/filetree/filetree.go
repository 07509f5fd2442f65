// Package filetree is what pool types share whose pools are directories and whose
// volumes are the regular files there.
//
// The directory may belong to somebody hostile, who changes it at any moment.
// It is opened once per operation and everything else is reached through its
// descriptor; a name is looked at before it is opened, opened so that nothing
// blocks or leads elsewhere, looked at again when it is open, and a third time
// when it is locked. What is not a regular file with one name is never touched.
package filetree

import (
	"os"

	"storaged/internal/backends"
)

// Tree is a driver, but for what the type can do and how its pools are stopped. It
// keeps no state. A type that has to make or to mount something first does that in
// a method of its own, before that of the tree.
type Tree struct {
	// Belongs fails unless a directory is what a pool of the type has there, when nobody
	// knows the pool's identity. nil: any directory will do.
	Belongs func(p backends.Pool, dir *os.File) error
}

var (
	_ backends.Identities = Tree{}
	_ backends.Names      = Tree{}
	_ backends.Volumes    = Tree{}
	_ backends.Opener     = Tree{}
	_ backends.Builder    = Tree{}
	_ backends.Deleter    = Tree{}
	_ backends.Creator    = Tree{}
	_ backends.Taker      = Tree{}
	_ backends.Replacing  = Tree{}
)
