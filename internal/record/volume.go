package record

import (
	"fmt"
	"strings"
	"time"
)

// VolumeState says whether a volume may be taken for whole.
type VolumeState string

const (
	VolumeReady      VolumeState = "ready"
	VolumeBuilding   VolumeState = "building"   // a live job makes it
	VolumeIncomplete VolumeState = "incomplete" // a job left it so; the job is named
)

// VolumeStates lists every state.
func VolumeStates() []VolumeState {
	return []VolumeState{VolumeReady, VolumeBuilding, VolumeIncomplete}
}

// Origin says whether we made a volume or found it. The format of one we made
// is never probed.
type Origin string

const (
	Made  Origin = "made"
	Found Origin = "found"
)

// Volume is the public record of a volume. Sizes are bytes, as last observed.
type Volume struct {
	Pool        string            `json:"pool"`
	Name        string            `json:"name"`
	Key         string            `json:"key"` // libvirt's for the type; the path for files
	Path        string            `json:"path"`
	Type        string            `json:"type"` // file, block, …
	Format      string            `json:"format"`
	Secret      string            `json:"secret"` // name of the secret that opens its content, "" for none
	Capacity    int64             `json:"capacity"`
	Allocation  int64             `json:"allocation"`
	Length      int64             `json:"length"`            // of its file or device
	Extents     []Extent          `json:"extents,omitempty"` // of devices, of which it is made; none are known of a file
	Options     map[string]string `json:"options"`           // with which an image like it is made, as its header says
	Permissions *Permissions      `json:"permissions"`       // nil: not known
	Times       *Times            `json:"times"`             // nil: not known
	Backing     string            `json:"backing"`           // as its header says
	Parent      *Parent           `json:"parent"`            // that backing as a volume; nil: there is none, or it is no volume of a pool
	Depth       *int              `json:"depth"`             // how many volumes it stands on, one on the other; nil: not known
	Children    []string          `json:"children"`
	Snapshots   []string          `json:"snapshots"` // their names, in order
	// InternalSnapshots are how many an image itself has, which others have made (qemu-img
	// snapshot); no verb of ours is about them.
	InternalSnapshots int64 `json:"internal_snapshots"`

	Description string      `json:"description"`
	State       VolumeState `json:"state"`
	Reason      string      `json:"reason"`  // why jobs leave it alone although it is there, "" if they do not
	Problem     string      `json:"problem"` // why its content must not be opened as an image, "" if it may
	Job         *int64      `json:"job"`     // that builds it or left it incomplete
	Generation  int64       `json:"generation"`
	Origin      Origin      `json:"origin"`
	CreatedBy   *int64      `json:"created_by"` // job
	Observed    time.Time   `json:"observed"`
	Checksum    *Recorded   `json:"checksum"` // nil: none was recorded
}

// Extent is a part of a device, in bytes.
type Extent struct {
	Device string `json:"device"` // path
	Start  int64  `json:"start"`
	End    int64  `json:"end"`
}

// Permissions say who may do what with the file of a volume, or the directory of a pool
// (chmod(1), chown(1), chcon(1)).
type Permissions struct {
	Mode  string `json:"mode"`  // octal: "0640"
	Owner uint32 `json:"owner"` // uid
	Group uint32 `json:"group"` // gid
	Label string `json:"selinux_label,omitempty"`
}

// String is MODE OWNER:GROUP, and the label if there is one.
func (p Permissions) String() string {
	return strings.TrimSpace(fmt.Sprintf("%s %d:%d %s", p.Mode, p.Owner, p.Group, p.Label))
}

// Times are those of the file of a volume (statx(2)). Nil is not known.
type Times struct {
	Accessed *time.Time `json:"accessed"`
	Modified *time.Time `json:"modified"` // its content
	Changed  *time.Time `json:"changed"`  // that, or anything else of it
	Born     *time.Time `json:"born"`
}

// Parent is the volume that another stands on.
type Parent struct {
	Pool   string `json:"pool"`
	Volume string `json:"volume"`
	Format string `json:"format"`
	Path   string `json:"path"`
}

// Snapshot is a volume as it was at some time. Sizes are bytes.
type Snapshot struct {
	Pool       string     `json:"pool"`
	Volume     string     `json:"volume"` // of which it is
	Name       string     `json:"name"`
	Path       string     `json:"path"`
	Format     string     `json:"format"`
	Capacity   int64      `json:"capacity"`
	Allocation int64      `json:"allocation"` // shared blocks count
	Created    *time.Time `json:"created"`    // nil: it was found
	CreatedBy  *int64     `json:"created_by"` // job
	Children   []string   `json:"children"`   // the volumes and snapshots that stand on it
}

// Recorded is the checksum that a job found the whole content to have.
type Recorded struct {
	Checksum   string    `json:"checksum"`     // ALGORITHM:HEX
	As         string    `json:"as,omitempty"` // what it is of, AsRaw or AsFile; "": of the file, by an earlier version
	Generation int64     `json:"generation"`   // of the volume then
	Job        int64     `json:"job"`
	Time       time.Time `json:"time"`
	// Current says that nothing has changed the volume since, as far as is
	// known: no job of ours, nor, when it was last looked at, anybody else.
	Current bool `json:"current"`
}
