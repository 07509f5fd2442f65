package record

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// PoolState is what a pool is doing.
type PoolState string

const (
	PoolInactive    PoolState = "inactive"
	PoolStarting    PoolState = "starting"
	PoolActive      PoolState = "active"
	PoolDegraded    PoolState = "degraded"
	PoolUnreachable PoolState = "unreachable"
	PoolStopping    PoolState = "stopping"
	PoolBuilding    PoolState = "building"
)

// PoolStates lists every state.
func PoolStates() []PoolState {
	return []PoolState{PoolInactive, PoolStarting, PoolActive, PoolDegraded, PoolUnreachable, PoolStopping, PoolBuilding}
}

// InUse reports whether a pool in that state is in use, which is active to libvirt: also one
// that cannot be reached now, and one that is in use no longer than until it has stopped.
func (s PoolState) InUse() bool {
	switch s {
	case PoolActive, PoolDegraded, PoolUnreachable, PoolStopping:
		return true
	}
	return false
}

// Pool is the public record of a pool. Sizes are bytes, as last observed.
type Pool struct {
	Name       string    `json:"name"`
	UUID       string    `json:"uuid"`
	Type       string    `json:"type"`
	State      PoolState `json:"state"`
	Reason     string    `json:"reason"`
	Since      time.Time `json:"since"`
	Persistent bool      `json:"persistent"`
	Autostart  bool      `json:"autostart"`
	Target     Target    `json:"target"`
	Real       string    `json:"real"` // the target's path without symbolic links, as last read; "" before
	// Permissions are those of the target, as last read; nil: they were not, or there are none.
	Permissions *Permissions `json:"permissions"`
	Source      Source       `json:"source"`
	Devices     []string     `json:"devices"` // physical ones it lies on, as major:minor; none where that is not known, or memory, or a server
	// Next is how it is defined from when it is not in use any more; nil: as it is.
	Next        *Definition `json:"next"`
	Capacity    int64       `json:"capacity"`
	Allocation  int64       `json:"allocation"`
	Available   int64       `json:"available"`
	Reserved    int64       `json:"reserved"`    // by live jobs
	Provisioned int64       `json:"provisioned"` // sum of the volumes' capacities
	Ignored     int         `json:"ignored"`     // entries that are no volumes: by their names, or not regular files
	// FreeExtents are parts of a disk, as last read, in which partitions could be made; of other
	// types there are none.
	FreeExtents []FreeExtent `json:"free_extents,omitempty"`
	// ThinPools are those of LVM in a volume group, as last read; of other types there are none.
	ThinPools  []ThinPool `json:"thin_pools,omitempty"`
	Generation int64      `json:"generation"`
	Observed   *time.Time `json:"observed"` // nil: never read
}

// FreeExtent is a part of a disk that nobody has, in bytes.
type FreeExtent struct {
	Start int64 `json:"start"`
	End   int64 `json:"end"`
}

// ThinPool is what thin logical volumes take their storage from. When its data or its
// metadata are full, what is written to any of them fails. Sizes are bytes.
type ThinPool struct {
	Name               string `json:"name"`
	Capacity           int64  `json:"capacity"`
	Allocation         int64  `json:"allocation"`
	MetadataCapacity   int64  `json:"metadata_capacity"`
	MetadataAllocation int64  `json:"metadata_allocation"`
}

// Target is where the pool's volumes are on this host, and what the directory there is to
// have when it is built.
type Target struct {
	Path string `json:"path,omitempty"`
	Rights
}

// Definition is where a pool is, and where its storage comes from.
type Definition struct {
	Target Target `json:"target"`
	Source Source `json:"source"`
}

// Is reports whether both say the same: nothing, and an empty list, say the same.
func (d Definition) Is(o Definition) bool {
	a, err := json.Marshal(d)
	b, err2 := json.Marshal(o)
	return err == nil && err2 == nil && bytes.Equal(a, b)
}

// Definition is how it is defined now.
func (p Pool) Definition() Definition { return Definition{Target: p.Target, Source: p.Source} }

// EarlierIdentity is the identity of a pool's target of which an earlier version
// recorded or reported the parts. All pools were directories then.
func EarlierIdentity(device, inode uint64, stamp string) string {
	switch {
	case inode == 0: // not known
		return ""
	case stamp == "":
		return fmt.Sprintf("%d:%d", device, inode)
	}
	return fmt.Sprintf("%d:%d:%s", device, inode, stamp)
}

// EarlierFile is that of a volume, or of a file that an image names. A time of
// birth of 0 is not known.
func EarlierFile(device, inode uint64, birthNS int64) string {
	stamp := ""
	if birthNS != 0 {
		stamp = strconv.FormatInt(birthNS, 10)
	}
	return EarlierIdentity(device, inode, stamp)
}
