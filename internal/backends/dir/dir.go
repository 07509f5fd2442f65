// Package dir is the pool type dir: a directory whose regular files are the
// volumes.
//
// The directory may belong to somebody hostile, who changes it at any moment.
// It is opened once per operation and everything else is reached through its
// descriptor; a name is looked at before it is opened, opened so that nothing
// blocks or leads elsewhere, looked at again when it is open, and a third time
// when it is locked. What is not a regular file with one name is never touched.
package dir

import (
	"storaged/internal/backends"
	"storaged/internal/record"
	"storaged/internal/wipe"
)

// Backend is the driver. It keeps no state.
type Backend struct{}

var (
	_ backends.Backend = Backend{}
	_ backends.Builder = Backend{}
	_ backends.Deleter = Backend{}
	_ backends.Creator = Backend{}
	_ backends.Taker   = Backend{}
)

// New gives the driver.
func New() backends.Backend { return Backend{} }

// Properties are what dir pools can do.
func (Backend) Properties() record.Capabilities {
	return record.Capabilities{
		Type:        "dir",
		PoolVerbs:   []string{"build", "start", "stop", "refresh", "verify", "evacuate", "delete"},
		VolVerbs:    []string{"create", "clone", "upload", "download", "resize", "wipe", "trim", "verify", "move", "delete"},
		Formats:     []string{"raw"},
		Algorithms:  wipe.Algorithms(),
		Sparse:      true,
		MakesTarget: true,
		Needs:       []string{"target_path"},
	}
}
