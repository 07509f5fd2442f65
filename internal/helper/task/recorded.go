package task

import (
	"storaged/internal/backends"
	"storaged/internal/helper"
	"storaged/internal/ipc"
	"storaged/internal/operation"
	"storaged/internal/record"
)

// recorded is the checksum that the content of a volume is known to have, and that a task
// does not change.
type recorded struct {
	sum   string // "" is none
	since int64  // when the volume was last changed if it is to count, ns since 1970; 0: it counts
}

// recordedOf reads it.
func recordedOf(s operation.Summed) (recorded, error) {
	if s.Recorded == "" {
		return recorded{}, nil
	}
	_, sum, err := record.ParseContentChecksum(s.Recorded)
	if err != nil {
		return recorded{}, record.Errorf(record.Invalid, "--checksum: %v", err)
	}
	return recorded{sum, s.SummedNS}, nil
}

// giveBack names it with the description of the volume, of which info is as it was before
// the task began, if nobody else has changed that.
func (k recorded) giveBack(r *helper.Run, info backends.VolumeInfo) {
	if k.sum == "" || k.since != 0 && info.Change.UnixNano() != k.since {
		return
	}
	r.Knows(func(v *ipc.Item) { v.Checksum, v.ChecksumAs = k.sum, record.AsRaw })
}
