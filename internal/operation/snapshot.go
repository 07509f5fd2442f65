package operation

import (
	"slices"

	"storaged/internal/record"
)

// OnSnapshot is embedded by operations on a snapshot of a volume, which lies beside
// that.
type OnSnapshot struct {
	Volume
	Snapshot   string `json:"snapshot"` // its name
	SnapshotID string `json:"-"`        // which it must be, as its driver has it; "": any
}

func newOnSnapshot() OnSnapshot { return OnSnapshot{Volume: Volume{Type: defaultType}} }

// SnapshotOf is the volume and the name of its snapshot.
func (o *OnSnapshot) SnapshotOf() *OnSnapshot { return o }

// lockSnapshot is the snapshot as an object.
func (o *OnSnapshot) lockSnapshot(m record.Mode) record.Object {
	return record.Object{Pool: o.Pool, Volume: record.Shown(record.SnapshotFile(o.Name, o.Snapshot)), Mode: m}
}

// flags name both.
func (o *OnSnapshot) flags() []Flag {
	return append(o.Volume.flags("target"), o.Volume.known(),
		text("name", &o.Snapshot, "`NAME` of the snapshot"),
		text("snapshot-id", &o.SnapshotID, "refuse unless the snapshot is the one of this `IDENTITY`"))
}

// there refuses a snapshot that the volume does not have.
func (o *OnSnapshot) there(k Known) error {
	if slices.Contains(k.Volume.Snapshots, o.Snapshot) {
		return nil
	}
	return record.Errorf(record.NotFound, "volume %s has no snapshot %q", k.quoted(), o.Snapshot).
		WithHint("%s", record.Do("snapshot.list", k.name()))
}

// unfrozen refuses to take a volume away that has snapshots, which would be of no
// volume then.
func (k Known) unfrozen() error { return k.unfrozenBut(record.Hint{}) }

// unfrozenBut is unfrozen where there is something else that can be done.
func (k Known) unfrozenBut(also record.Hint) error {
	if len(k.Volume.Snapshots) == 0 {
		return nil
	}
	return record.Errorf(record.HasChildren, "volume %s has snapshots: %s", k.quoted(), record.List(k.Volume.Snapshots, 5)).
		WithHint("%s deletes one%s", record.Do("snapshot.delete", k.name()+"@"+k.Volume.Snapshots[0]), also)
}

// Overlaying is implemented by operations that make an empty image, where blocks
// cannot be shared.
type Overlaying interface {
	// Backing is the name of the volume, or of the file of the snapshot, that it would
	// stand on.
	Backing() string
	// ForbidOverlay says why it must not.
	ForbidOverlay(why string)
}

// Overlay is embedded by them.
type Overlay struct {
	Forbidden string `json:"-"`              // why there can be no such image; "": there can
	Room      int64  `json:"room,omitempty"` // bytes that it, or the file with shared blocks, may need
	// IterTime is how many ms of the processor a try of its secret takes; 0: 2000.
	IterTime int64 `json:"iter_time,omitempty"`
}

// Needs a little: whether blocks can be shared, which alone does with next to nothing,
// only the helper finds out.
func (o *Overlay) Needs() (bytes int64, unless string) { return o.Room, "" }

// Smaller is to make room: it needs as little as there is.
func (o *Overlay) Smaller() record.Hint {
	return record.Hintf("free %s where the pool lies: the volume's blocks are not copied, and what is written to it from then on needs room of its own", both(o.Room))
}

// roomFor is what a snapshot of a volume may need: where its blocks are shared that is
// noted, otherwise there is an empty image.
func roomFor(v record.Volume) int64 {
	const noted = 64 << 10
	if v.Format != "qcow2" {
		return noted
	}
	return RoomForOverlay(v.Capacity, v.Secret != "")
}

// RoomForOverlay is what an empty qcow2 of that capacity needs, by default clusters: four
// of them, more for the map of a large one, and the header of one that is encrypted. All
// are bytes.
func RoomForOverlay(capacity int64, encrypted bool) int64 {
	const clusters, keys = 256 << 10, 2 << 20
	room := clusters + capacity>>26
	if encrypted {
		room += keys
	}
	return room
}

// ForbidOverlay keeps the reason for the helper, which alone finds out whether blocks
// can be shared.
func (o *Overlay) ForbidOverlay(why string) { o.Forbidden = why }

// flags give the reason, and how such an image is encrypted.
func (o *Overlay) flags() []Flag {
	return []Flag{text("no-overlay", &o.Forbidden, "fail where blocks cannot be shared, for that `REASON`"), perTry(&o.IterTime, "the secret of an image")}
}

// perTry says how long a try of what secret is to take.
func perTry(to *int64, secret string) Flag {
	return Flag{Name: "iter-time", Default: "2000", Usage: "a try of " + secret + " takes so long on this machine, `MILLISECONDS`", value: (*number)(to)}
}

// overlayFor is an image that stands on that volume, or on its snapshot.
func overlayFor(v record.Volume, k Known) Overlay {
	room := roomFor(v)
	if slices.Contains(k.Can.Snapshots, "thin") { // which lies in what the volume gets its storage from
		room = 0
	}
	return Overlay{Room: room, IterTime: k.IterTime}
}

// OfSnapshot is implemented by requests about a snapshot that is there.
type OfSnapshot interface {
	// Named says which of the volume's.
	Named(snapshot string)
	SnapshotName() string
}

// snapshotInPath is embedded by them.
type snapshotInPath struct {
	snapshot string `json:"-"` // it stands in the path
}

// Named says which snapshot it is.
func (n *snapshotInPath) Named(snapshot string) { n.snapshot = snapshot }

// SnapshotName is its name.
func (n *snapshotInPath) SnapshotName() string { return n.snapshot }
