// Package dir is the pool type dir: a directory whose regular files are the
// volumes.
package dir

import (
	"context"

	"storaged/internal/backends"
	"storaged/internal/backends/filetree"
	"storaged/internal/record"
	"storaged/internal/wipe"
)

// Backend is the driver. It keeps no state.
type Backend struct{ filetree.Tree }

// New gives the driver.
func New() backends.Backend { return Backend{} }

// Properties are what dir pools can do.
func (Backend) Properties() record.Capabilities {
	return record.Capabilities{
		Type:        "dir",
		PoolVerbs:   []string{"build", "start", "stop", "refresh", "verify", "evacuate", "delete"},
		VolVerbs:    filetree.Verbs(),
		Formats:     filetree.Formats(),
		Creations:   filetree.Creations(),
		Algorithms:  wipe.Algorithms(),
		Snapshots:   []string{"reflink", "overlay"},
		Contents:    record.ContentVerbs(),
		Sparse:      true,
		MakesTarget: true,
		Needs:       []string{"target_path"},
	}
}

// Stop has nothing to do: a directory stays where it is.
func (Backend) Stop(ctx context.Context, _ backends.Pool) error { return ctx.Err() }
