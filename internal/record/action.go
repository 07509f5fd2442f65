package record

import "context"

// Action is what a caller does as far as an administrator may refuse it: the name by which
// polkit's rules know it. Who may look may do so always.
type Action string

const (
	DefinePools   Action = "org.storaged.pool.define"   // define, build, change and forget them
	RunPools      Action = "org.storaged.pool.run"      // start, stop, refresh and verify them
	DeletePools   Action = "org.storaged.pool.delete"   // with what is in them
	CreateVolumes Action = "org.storaged.volume.create" // new ones, clones, and snapshots
	ReadVolumes   Action = "org.storaged.volume.read"   // what they hold
	ChangeVolumes Action = "org.storaged.volume.change" // size, content, format, place
	DeleteVolumes Action = "org.storaged.volume.delete" // delete and wipe them, and snapshots
	ControlJobs   Action = "org.storaged.job.control"   // of others: cancel, pause, limit, forget them
)

// Actions gives all of them.
func Actions() []Action {
	return []Action{DefinePools, RunPools, DeletePools, CreateVolumes, ReadVolumes, ChangeVolumes, DeleteVolumes, ControlJobs}
}

// ActionOf gives the action that starting a job of a kind is.
func ActionOf(k Kind) Action {
	switch k {
	case PoolBuild:
		return DefinePools
	case PoolStart, PoolStop, PoolRefresh, PoolVerify:
		return RunPools
	case PoolDelete:
		return DeletePools
	case VolumeCreate, VolumeClone, SnapshotCreate, SnapshotClone:
		return CreateVolumes
	case VolumeDownload, VolumeVerify:
		return ReadVolumes
	case VolumeDelete, VolumeWipe, SnapshotDelete:
		return DeleteVolumes
	}
	return ChangeVolumes
}

// May refuses what the rules of the host's administrator do not allow the caller. It asks
// them, and may wait for a person.
func (c Caller) May(ctx context.Context, a Action) error {
	if c.Ask == nil {
		return nil
	}
	return c.Ask(ctx, a)
}

// MayStart is May for a job of a kind.
func (c Caller) MayStart(ctx context.Context, k Kind) error { return c.May(ctx, ActionOf(k)) }
