package ipc

import "storaged/internal/record"

// Outcome is how a helper's task ended, as the helper sees it.
type Outcome string

const (
	Succeeded Outcome = "succeeded"
	Failed    Outcome = "failed"
	Canceled  Outcome = "canceled"
)

// Report is a result file: what the task did, and, for tasks over
// many objects, one Item each. ItemCount is set when it is saved.
type Report struct {
	Summary
	Items []Item
}

// Summary is the first record of a result file.
type Summary struct {
	Outcome   Outcome  `msgpack:"outcome"`
	Untouched bool     `msgpack:"untouched"` // GO never came: nothing was begun
	Rollback  string   `msgpack:"rollback"`  // none (or empty), done, kept_partial, failed
	Resumable bool     `msgpack:"resumable"` // settled: what is unfinished stays for a retry to go on with
	Error     *Error   `msgpack:"error"`
	Volume    *Item    `msgpack:"volume"`   // the volume as it is now
	Snapshot  *Item    `msgpack:"snapshot"` // the snapshot of it that was made
	Pool      *Pool    `msgpack:"pool"`     // the pool as it is now
	Pools     []Pool   `msgpack:"pools"`    // of a task on volumes: those that it may have changed, as they are in its end
	Method    string   `msgpack:"method"`
	Algorithm string   `msgpack:"algorithm"`
	Passes    int      `msgpack:"passes"`
	Bytes     int64    `msgpack:"bytes"`
	Reach     int64    `msgpack:"reach"`   // bytes of a content that has not come to its end, behind which nothing was changed; 0: not known
	Checked   bool     `msgpack:"checked"` // a verification was asked for
	Verified  bool     `msgpack:"verified"`
	Limits    []string `msgpack:"limits"`
	Device    string   `msgpack:"device"`
	Checksum  string   `msgpack:"checksum"`
	Check     *Check   `msgpack:"check"` // of the tables of an image
	Read      int64    `msgpack:"read"`
	Written   int64    `msgpack:"written"`
	Holes     int64    `msgpack:"holes"`
	Phases    []Spent  `msgpack:"phases"`
	MaxRSS    int64    `msgpack:"max_rss"` // bytes of memory that the helper has had at most; 0: not known
	Warnings  []string `msgpack:"warnings"`
	ItemCount int      `msgpack:"item_count"`
}

// Check is what a check of the tables of an image has found, in clusters, as
// record.Tables has it.
type Check struct {
	Errors              int64 `msgpack:"errors"`
	Corruptions         int64 `msgpack:"corruptions"`
	Leaks               int64 `msgpack:"leaks"`
	RepairedCorruptions int64 `msgpack:"repaired_corruptions"`
	RepairedLeaks       int64 `msgpack:"repaired_leaks"`
	Clusters            int64 `msgpack:"clusters"`
	Allocated           int64 `msgpack:"allocated"`
}

// Spent is the time a phase took.
type Spent struct {
	Name string `msgpack:"name"`
	NS   int64  `msgpack:"ns"`
}

// Error is a failure that crosses the process boundary as data. Code is one of
// package record's codes.
type Error struct {
	Code    string `msgpack:"code"`
	Message string `msgpack:"message"`
	Hint    string `msgpack:"hint"`
	Path    string `msgpack:"path"`
	Offset  int64  `msgpack:"offset"` // bytes; -1 where there is none
	Holder  string `msgpack:"holder"` // holder that is no job, "qemu pid 812"
}

func (e *Error) Error() string { return e.Message }

// Item is a volume as a task found it, or as it is after the task.
type Item struct {
	Name       string      `msgpack:"name"`
	Path       string      `msgpack:"path"`
	Key        string      `msgpack:"key"`
	VolType    string      `msgpack:"type"` // file, block, …
	Format     string      `msgpack:"format"`
	Capacity   int64       `msgpack:"capacity"` // as a virtual machine sees it, by Format
	Size       int64       `msgpack:"size"`     // length of the file or device: the capacity of a raw volume
	Allocation int64       `msgpack:"allocation"`
	Backing    string      `msgpack:"backing"`
	Identity   string      `msgpack:"identity"`  // as the pool's driver made it; "": not known
	ChangeNS   int64       `msgpack:"change_ns"` // since 1970; an identity, may be negative
	ModifyNS   int64       `msgpack:"modify_ns"` // likewise
	AccessNS   int64       `msgpack:"access_ns"` // likewise
	BornNS     int64       `msgpack:"born_ns"`   // likewise
	Mode       string      `msgpack:"mode"`      // of the file, in octal; "" where there is none, and no owner
	Owner      int64       `msgpack:"owner"`     // uid
	Group      int64       `msgpack:"group"`     // gid
	Label      string      `msgpack:"label"`     // of SELinux, "" for none
	Options    []string    `msgpack:"options"`   // of creation, as the header says, NAME=VALUE
	Internal   int64       `msgpack:"internal"`  // snapshots that the image itself has
	State      string      `msgpack:"state"`     // of a job over many: succeeded, failed, skipped
	Checksum   string      `msgpack:"checksum"`
	ChecksumAs string      `msgpack:"checksum_as"` // what it is of: raw, the content, or file; "": of the file
	Error      *Error      `msgpack:"error"`
	Problem    string      `msgpack:"problem"`    // why it must not be opened as an image, by its header
	Ignored    string      `msgpack:"ignored"`    // why this entry is no volume, or none that may be touched; Name is escaped then
	References []Reference `msgpack:"references"` // files that the volume's header names
	Twofold    bool        `msgpack:"twofold"`    // the problem is only that it is in several formats at once, and none for who knows in which it is
	Cut        bool        `msgpack:"cut"`        // the problem is only that its file is cut off
	As         []Header    `msgpack:"as"`         // what the header says in other formats that it begins like
	Extents    []Extent    `msgpack:"extents"`    // parts of devices that it is made of
	Source     *Source     `msgpack:"source"`     // it is no volume, but storage that a pool could be made of; nil: it is one
}

// Extent is a part of a device, in bytes.
type Extent struct {
	Device string `msgpack:"device"`
	Start  int64  `msgpack:"start"`
	End    int64  `msgpack:"end"`
}

// Source is storage that was found, as package record has the source of a pool.
type Source struct {
	Hosts     []string `msgpack:"hosts"`
	Devices   []string `msgpack:"devices"`
	Name      string   `msgpack:"name"`
	Path      string   `msgpack:"path"`
	Format    string   `msgpack:"format"`
	Initiator string   `msgpack:"initiator"`
}

// Record gives it in the words of records.
func (s *Source) Record() record.Source {
	return record.Source{Hosts: s.Hosts, Devices: s.Devices, Name: s.Name, Path: s.Path, Format: s.Format, Initiator: s.Initiator}
}

// Header is what the header of a volume says to who knows that the volume is in Format.
type Header struct {
	Format     string      `msgpack:"format"`
	Capacity   int64       `msgpack:"capacity"` // as a virtual machine sees it
	Backing    string      `msgpack:"backing"`
	References []Reference `msgpack:"references"`
	Problem    string      `msgpack:"problem"`
}

// Reference is a file that an image needs: its backing, or one that holds some
// of its content.
type Reference struct {
	Name     string `msgpack:"name"`   // as the header says
	Format   string `msgpack:"format"` // as the header says; "" if it says none, or one that is not known
	Data     bool   `msgpack:"data"`
	Relative bool   `msgpack:"relative"` // the name means another file where the image is elsewhere
	Path     string `msgpack:"path"`     // links followed; "" for what is no local file
	Identity string `msgpack:"identity"` // as the driver of the image's pool made it; "": not there, or not looked at
}

// Pool is a pool as a task found it. Sizes are bytes.
type Pool struct {
	Target     string  `msgpack:"target"`   // as the task was given it
	Path       string  `msgpack:"path"`     // resolved
	Identity   string  `msgpack:"identity"` // of the target, as its driver made it
	Capacity   int64   `msgpack:"capacity"`
	Allocation int64   `msgpack:"allocation"`
	Available  int64   `msgpack:"available"`
	Free       []int64 `msgpack:"free"`  // extents of a disk that no partition has: where each starts, and where it ends
	Thin       []Thin  `msgpack:"thin"`  // pools of thin volumes in a volume group
	Disk       string  `msgpack:"disk"`  // physical device, "259:0", for the scheduler
	Mode       string  `msgpack:"mode"`  // of the target, in octal; "" where there is none, and no owner
	Owner      int64   `msgpack:"owner"` // uid
	Group      int64   `msgpack:"group"` // gid
	Label      string  `msgpack:"label"` // of SELinux, "" for none
}

// Thin is a pool of thin volumes in a volume group. Sizes are bytes.
type Thin struct {
	Name           string `msgpack:"name"`
	Capacity       int64  `msgpack:"capacity"`
	Allocation     int64  `msgpack:"allocation"`
	MetaCapacity   int64  `msgpack:"meta_capacity"`
	MetaAllocation int64  `msgpack:"meta_allocation"`
}

// Record gives it in the words of records.
func (t Thin) Record() record.ThinPool {
	return record.ThinPool{
		Name: t.Name, Capacity: t.Capacity, Allocation: t.Allocation,
		MetadataCapacity: t.MetaCapacity, MetadataAllocation: t.MetaAllocation,
	}
}

// Mark is a checkpoint: how far a task is for certain, and what a later helper
// needs to go on from there.
type Mark struct {
	Task    string `msgpack:"task"` // its name, as on the command line
	Phase   int    `msgpack:"phase"`
	Done    int64  `msgpack:"done"`    // in the phase's unit
	Total   int64  `msgpack:"total"`   // of the phase
	Read    int64  `msgpack:"read"`    // bytes read by the job up to here
	Written int64  `msgpack:"written"` // bytes written by the job up to here
	Draft   string `msgpack:"draft"`   // the job in the name of the volume in the making; "" without one
	State   string `msgpack:"state"`   // the task's own
}

// End closes a file; without it the file is torn. Digest is the SHA-256, in
// hex, of every byte before this record.
type End struct {
	Records int    `msgpack:"records"`
	Digest  string `msgpack:"digest"`
}

func (Summary) Type() Type { return TypeOutcome }
func (Item) Type() Type    { return TypeItem }
func (End) Type() Type     { return TypeEnd }
func (Mark) Type() Type    { return TypeMark }
