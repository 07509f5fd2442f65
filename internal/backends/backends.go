// Package backends is the seam between storaged and the kinds of storage it
// manages. A driver implements Backend in a folder of its own, and of the other
// interfaces those that its verbs need; package all lists the drivers; package
// backendtest holds the contract that each must pass.
//
// Drivers run in helper processes only. They know nothing of jobs, frames or
// the daemon, and take images, names and directories for hostile.
package backends

import (
	"context"
	"io"
	"os"
	"time"

	"storaged/internal/diskio"
	"storaged/internal/record"
)

// Backend is one type of pool, as far as all types can do the same. Its methods,
// and those of the interfaces that a driver may have beside, may be called
// concurrently for different objects; the job locks keep callers off the same one.
type Backend interface {
	// Properties are what the type can do, as data.
	Properties() record.Capabilities
	Identities
	Names
	Pools
	Volumes
}

// Names say where volumes are, as text. They do no I/O, so that also who does not
// touch pools may ask.
type Names interface {
	// CheckName is the rule for names of the type's volumes: record.CheckName, and
	// what the type demands beside it. All that a driver does to volumes by their
	// names it does to their snapshots too, if its type has them, by the names of
	// record.SnapshotFile; for those this is not asked.
	CheckName(name string) error
	// Locate tells of a name where its volume is or will be in a pool.
	Locate(p Pool, name string) Location
	// LocateDraft tells where a job makes a volume of a pool, "" where that is
	// nowhere for people to look at.
	LocateDraft(p Pool, job string) string
	// Parse finds the target of the pool and the name in the path of a volume; the
	// name is not checked, and of no path at all neither means anything.
	Parse(path string) (target, name string)
}

// Location is where a volume is.
type Location struct {
	Path string
	Key  string // libvirt's for the type; "" for what is known only of a volume that is there
	Type string // file, block, …
}

// Identities compare objects: targets of pools with each other, and volumes with
// each other and with what images name. They do no I/O, so that also who does not
// touch pools may ask. What is no identity of the type is nothing's.
type Identities interface {
	// CheckIdentity says what is wrong with a text that is no identity.
	CheckIdentity(id Identity) error
	// Same reports whether the object found is the one known.
	Same(known, found Identity) bool
	// Recognizes reports whether the volume found is surely the one known, by whatever name
	// it is found in its pool: no other ever gets what is known of it.
	Recognizes(known, found Identity) bool
	// Lasting is what of an identity is the same after a reboot, or when the
	// pool's target was mounted anew. It tells a volume from others of its pool,
	// and not of all pools.
	Lasting(id Identity) Identity
	// Together reports whether two pools are known to lie so that a volume gets
	// from one to the other without a copy.
	Together(a, b Identity) bool
}

// Separator is a driver that can tell where blocks cannot be shared. It does no I/O.
type Separator interface {
	// Apart reports whether two pools, the other perhaps of another type, are known to lie so
	// that no volume of one shares blocks with one of the other.
	Apart(a, b Identity) bool
}

// Pools are the operations on a pool as a whole. Each is safe to repeat.
type Pools interface {
	// Start makes the pool's volumes reachable.
	Start(ctx context.Context, p Pool) error
	// Stop makes them unreachable; volumes in use are a *BusyError.
	Stop(ctx context.Context, p Pool) error
	// Refresh reads the pool and calls found for each volume, in the caller's
	// goroutine, once each; an error of found ends it. Entries that are no
	// volumes by our rules are reported with Ignored set. Nothing is changed.
	// Only here are format, capacity and backing read from image headers: they
	// are what the content claims, and for volumes we made not to be believed.
	Refresh(ctx context.Context, p Pool, found func(VolumeInfo) error) (PoolInfo, error)
	// Space gives the figures of the pool alone, in a time that does not grow
	// with what it holds.
	Space(ctx context.Context, p Pool) (PoolInfo, error)
}

// SourceChecker is a driver whose pools have a source. It does no I/O, so that also who
// does not touch pools may ask.
type SourceChecker interface {
	// CheckSource says what is wrong with the words of a source, which has all the parts
	// that the type needs, and no others than it takes.
	CheckSource(s record.Source) error
}

// SourceFinder is a driver that finds storage that pools of its type could be made of.
// Those whose capabilities say so are.
type SourceFinder interface {
	// FindSources gives what there is, as sources of pools. near says where to look, as
	// far as the type wants to know it: on which hosts, say. Nothing is changed, and what
	// cannot be looked at is an error, not nothing. The process is not confined.
	FindSources(ctx context.Context, near record.Source) ([]record.Source, error)
}

// Namer is a driver in whose pools not every name that CheckName passes can be a volume's. It
// does no I/O, so that also who does not touch pools may ask.
type Namer interface {
	// CheckNameIn is all of the rule for names in a pool.
	CheckNameIn(p Pool, name string) error
}

// Placed is a driver whose pools lie where their sources say. It does no I/O, so that also
// who does not touch pools may ask.
type Placed interface {
	// TargetOf is the target of the pool with that source, which was checked.
	TargetOf(s record.Source) string
}

// Opener is a driver that opens a pool's target once, for all that is done in it
// from then on.
type Opener interface {
	// OpenPool gives the pool with Opened set. Methods that are given that go to what
	// is open, whatever is at the target's place by then, and look for no identity
	// any more. Nothing is changed, and no lock taken.
	OpenPool(ctx context.Context, p Pool) (Pool, error)
}

// Directory is what OpenPool opened of a pool whose volumes are files.
type Directory interface {
	// Directory is that of the pool. It stays open until the pool is closed.
	Directory() *os.File
}

// Builder is a driver that makes the storage a pool stands on. Those of types with
// the verb are.
type Builder interface {
	// Build makes the storage the pool stands on (for a directory, mkdir). It
	// destroys nothing unless overwrite is set, and gives ErrExists instead.
	Build(ctx context.Context, p Pool, overwrite bool) error
}

// Privileged is a driver whose pools are built, stopped and deleted by what a process that
// is confined cannot do: it mounts, or starts programs that do. It reads nothing of what
// volumes hold for that.
type Privileged interface{ Privileged() }

// Readier is a driver whose pools are not to be seen at their targets before they are
// started.
type Readier interface {
	// Ready fails unless what the pool stands on is there. Nothing is changed by that, and
	// Start may still refuse it.
	Ready(ctx context.Context, p Pool) error
}

// Deleter is a driver that unmakes the storage a pool stood on. Those of types with
// the verb are.
type Deleter interface {
	// Delete unmakes what Build made. A pool that holds anything is
	// ErrNotEmpty unless withVolumes is set, and even then only what this
	// package's rules take for volumes goes, and nothing if there is anything
	// else, or a volume that the pool's Listed does not have. A target of no known identity that is gone already is no error.
	Delete(ctx context.Context, p Pool, withVolumes bool) error
}

// Volumes are the operations on single volumes.
type Volumes interface {
	// Open opens a volume safely: a regular file or device of its own, below
	// the pool, no symbolic link, one hard link; and takes the image locks of
	// the access. A volume in use elsewhere is a *BusyError naming the holder.
	Open(ctx context.Context, p Pool, name string, a Access) (Volume, error)
	// Look tells what a volume is, as Refresh does of each. It takes no locks. A
	// missing one is a *MissingError, a name that is no volume has Ignored set.
	Look(ctx context.Context, p Pool, name string) (VolumeInfo, error)
}

// Creator is a driver that makes volumes. Those of types with the verb create are.
type Creator interface {
	// Create begins a new volume out of sight: under a temporary name that carries
	// the job, or with a mark of it. Nothing by its final name exists before
	// Draft.Commit. A taken name is ErrExists.
	Create(ctx context.Context, p Pool, v NewVolume) (Draft, error)
	// Resume takes up what a process of the job left, which has died, had begun
	// to make of name, and makes it job's own. Nothing left is ErrNotFound; what
	// somebody still has open is a *BusyError. Where the name is taken by now it
	// is ErrExists, and what was left is gone. The content is as that process
	// left it; who resumes must know what of it to rely on.
	Resume(ctx context.Context, p Pool, name, job, left string) (Draft, error)
	// Settle looks after a job that ended without a report: it finds out
	// whether the job had committed name (by the commit record, nil when there
	// is none) and removes the job's temporary objects. It touches only what
	// carries job; a temporary object that somebody still has open for the job
	// is a *BusyError. What it answers is durable, and it may be asked again.
	Settle(ctx context.Context, p Pool, name, job string, commit []byte) (committed bool, err error)
}

// NewVolume is what is to be made of a volume.
type NewVolume struct {
	Name string
	Job  string // which makes it
	// Size is how many bytes are to be written at most. A store of volumes of a
	// fixed size makes one of the next size that it can; -1: nobody knows.
	Size    int64
	Format  string // of what is to be written
	Promise int64  // bytes from the start that are to have storage of their own
	// Options are those that only the pool's type has, as its Creation names them.
	Options map[string]string
	// Origin is a volume of the pool, or a snapshot, by its name, with whose content the new
	// one begins, and whose storage it shares (Cloner); "": none.
	Origin string
	// Replaces says that the name is that of a volume which the new one is to
	// replace (Replacer): it may be taken.
	Replaces bool
}

// Cloner is a driver that can make a volume of another one at once: both share their storage
// until they are written to.
type Cloner interface {
	// Clonable refuses an open volume that cannot be the Origin of that new one in a pool,
	// and says why.
	Clonable(p Pool, n NewVolume, origin Volume) error
}

// Taker is a driver that lets volumes leave their names. Those of types with the
// verb delete or move are.
type Taker interface {
	// Take opens a volume that is to leave its name, as Open with WriteExclusive
	// does.
	Take(ctx context.Context, p Pool, name string) (Taken, error)
	// SettleTaken looks after the source of a move that ended without a report
	// and whose target is committed: it removes the volume of that identity. One
	// that was changed since, as far as the store can tell, is ErrChanged, one in
	// use a *BusyError; both stay. One that is gone, or has left the name to
	// another, is no error. What it answers is durable, and it may be asked again.
	SettleTaken(ctx context.Context, p Pool, name string, identity []byte) error
}

// Access is how a volume is opened.
type Access int

const (
	// ReadShared keeps writers away and lets readers in.
	ReadShared Access = iota
	// WriteExclusive keeps everybody away.
	WriteExclusive
	// Grow is for making a volume larger. It lets those in who read and share
	// that (Sharer), and keeps everybody else away.
	Grow
)

// Volume is an open volume. Close releases its locks.
type Volume interface {
	// Content is what the open volume holds; it is read and written by diskio.
	Content() diskio.Content
	// Info reads what the volume is now. Format and Backing are empty and
	// Capacity is Size: who opened it knows the format.
	Info() (VolumeInfo, error)
	// Is gives a *AnotherError if the open volume is not the one of that identity,
	// which may be of before a reboot.
	Is(id Identity) error
	// Close may be called more than once.
	Close() error
}

// Resizer is an open volume whose capacity can be changed; those of types with
// the verb are. A volume that is to grow is opened with Grow or WriteExclusive, one
// that is to shrink with WriteExclusive.
type Resizer interface {
	// Resize changes the capacity durably, as diskio.Resize does that of a file.
	Resize(ctx context.Context, p *diskio.Pacer, spec diskio.ResizeSpec) (diskio.AllocateStats, error)
}

// Sharer is an open volume that others may make larger while it is read; those of
// types with the verb resize are.
type Sharer interface {
	// ShareGrowth lets others open a volume with Grow that was opened with
	// ReadShared, until KeepSize. Writers are kept away all the while.
	ShareGrowth() error
	// KeepSize ends ShareGrowth. Somebody who is growing the volume still is a
	// *BusyError, a volume that is not safe any more ErrUnsafe; it is locked no
	// longer then.
	KeepSize() error
}

// Filler is an open volume that may get its storage only as it is written, of what others
// get theirs of too: where that is used up their writes fail.
type Filler interface {
	// Room is what may be taken, by all, until what there is is used by so many percent.
	// What was written to the volume before counts as used: it is made durable.
	Room(ctx context.Context, most int) (Room, error)
}

// Room is what there is for volumes that get their storage as they are written.
type Room struct {
	Of    string // what it is of, and how far that is used, for people; "": the volume has its storage, and takes no more
	Left  int64  // bytes that may be taken
	Grain int64  // bytes that are taken at a time
	Lacks int64  // bytes that the volume itself may take yet
}

// Taken is a volume that nobody else has open, to be renamed or removed.
type Taken interface {
	Volume
	// Identity is by what SettleTaken knows the volume, and that its content has
	// stayed as it is.
	Identity() ([]byte, error)
	// Rename gives the volume a name in a pool, its own or another, without
	// replacing another volume. record is as in Draft.Commit, and the identity it
	// gets is for Settle. ErrElsewhere says that only a copy gets it there. After
	// an error it has its old name. Info tells the new one after a success. ctx
	// counts until record is called.
	Rename(ctx context.Context, to Pool, name string, record func(identity []byte) error) error
	// Remove deletes the volume durably, if the name still means it.
	Remove() error
}

// Draft is a volume being made, open for writing and locked. Commit or Discard
// decides what becomes of it, Close comes last in any case; a draft that is
// closed undecided stays for Settle. Info gives the name and path to be.
type Draft interface {
	Volume
	// Clean reports whether it reads as zeros where nothing was written. One that
	// does not has what others have left there: who makes a volume of it writes
	// all of it, and nobody gets it before.
	Clean() bool
	// Commit makes the content durable and gives the volume its name without
	// replacing another: fsync, then record (the caller makes the bytes it is
	// given durable: the identity by which Settle knows the volume), then the
	// name, durably. When it fails nothing has the name, and the draft is to be
	// discarded. ctx counts until record is called.
	Commit(ctx context.Context, record func(identity []byte) error) error
	// Discard removes the draft durably. After a Commit that succeeded it is
	// an error and removes nothing.
	Discard() error
}

// Replacer is a draft that can take the name of a volume that is there. Those of
// types with snapshots are.
type Replacer interface {
	// Replace is Commit for a name that another volume has, which the caller has
	// taken: from one instant to the next the name means the new one. The old one is
	// gone with that, durably; or it has the name aside then, which is free, if that is
	// not "". When it fails the name means what it did.
	Replace(ctx context.Context, old Taken, aside string, record func(identity []byte) error) error
}

// Replacing is a driver whose drafts are Replacers.
type Replacing interface {
	// SettleReplaced looks after a Replace that ended without a report and did not come to
	// its end: where the volume of that name has the name aside too, it has that no more.
	// What it answers is durable, and it may be asked again.
	SettleReplaced(ctx context.Context, p Pool, name, aside string) error
}

// Pool is what a driver needs to know of a pool. Paths are absolute and clean.
type Pool struct {
	Type    string
	Target  string        // the directory of dir pools, …
	Source  record.Source // where its storage comes from; a dir pool has none
	ID      Identity      // which the target must be
	Others  []Identity    // of pools in use; none of them is deleted under another name
	Listed  []string      // names of the volumes and snapshots that Delete may take; nil: any
	Spared  []string      // source devices of other pools, by their paths: they are not touched by other names either
	Rights  diskio.Rights // that Build gives the target
	Secret  *os.File      // for Start: what the secret of the source is in (secret.Read); nil: there is none
	Force   bool          // Stop takes away a mount whose server does not answer
	JobLock *os.File      // the job's, for programs that write; nil: there is no job
	Opened  io.Closer     // what OpenPool opened of it, the driver's own; nil: its target has to be found
}

// Identity is by what a driver knows an object again where something else may have
// come to its place: the directory below an absent mount instead of a pool's target,
// say, or another file by the name of a volume. It is text that the driver makes and
// compares; it means nothing to others, and "" is any. A method that finds another
// target than its pool's, or none, gives an *AwayError (ErrReplaced, if it is
// another) and touches nothing; Build does not look.
type Identity string

// PoolInfo is a pool as found. Sizes are bytes.
type PoolInfo struct {
	Path       string // resolved, links followed
	ID         Identity
	Capacity   int64
	Allocation int64
	Available  int64
	Free       []record.FreeExtent // where volumes can be made, of a disk; record.MaxFree at most
	ThinPools  []record.ThinPool   // of a volume group; record.MaxThinPools at most
	Disk       string              // whole physical device as major:minor, "" if there is none; Refresh alone looks for it
	// Permissions are those of the target; nil where it has none.
	Permissions *record.Permissions
}

// VolumeInfo is a volume as found. Sizes are bytes.
type VolumeInfo struct {
	Name       string
	Path       string
	Key        string // libvirt's for the type; the path for files
	Type       string // file, block, …
	Format     string // as the header says; "" where it was not read
	Capacity   int64  // as the guest sees it, by Format
	Size       int64  // length of the file or device: the capacity of a raw volume
	Allocation int64
	Options    map[string]string // of creation, as the header says
	Internal   int64             // snapshots that the image itself has, as the header says
	Backing    string            // as the header says, escaped, never followed; "?" if it has one without a name
	References []Reference       // the files that the header names
	ID         Identity          // "" only where it is ignored, and nothing is known of it
	Change     time.Time         // of the content or of anything else; zero where the store does not tell
	Modify     time.Time         // of the content; likewise
	Access     time.Time         // likewise
	Birth      time.Time         // likewise
	// Extents are the parts of devices that a volume is made of, record.MaxExtents at most; none
	// where that is a file's, or not known.
	Extents []record.Extent
	// Permissions are those of the file; nil where the store has none.
	Permissions *record.Permissions
	// Of a file with several names (hard links) all is told beside that can be
	// without opening it: it may be a volume that somebody makes a backup of.
	Ignored string // why this is no volume; Name is escaped then
	Problem string // why it must not be opened as an image, by its header; "" if it may
	Cut     bool   // that is only because its file is cut off: it has less than its tables name
	Twofold bool   // that is only because it is in several formats at once, and none for who knows in which it is
	// As is what the header says to who knows that the volume is in another format
	// than Format: of each that it begins like.
	As []Header
}

// Header is what the header of a volume says, read as that of an image in Format.
type Header struct {
	Format     string
	Capacity   int64
	Backing    string
	References []Reference
	Problem    string
}

// Reference is a file that an image's header names: its backing, or one that
// holds some of its content. What a guest could write is no reason to open the
// file; only what it is was looked at.
type Reference struct {
	Name     string   // as the header says, escaped; "?" if it has one without a name
	Format   string   // that the header says it has; "" if it says none, or one that is not known
	Data     bool     // it holds content of the image, which is not whole without it
	Relative bool     // the name means another file where the image is elsewhere
	Path     string   // where it is, links followed; "" for what is no local file
	ID       Identity // "": it is not there, or could not be looked at
}
