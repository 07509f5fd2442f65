// Package operation says what a kind of job is: one file a kind, with its
// fields, the locks it needs, its class, what it destroys, the task of its
// helper, and the task that settles it after a death of its helper.
//
// An operation is kept with its job as JSON, so that a restarted daemon and a
// retry know it again. The command line of its helper is written from its
// fields by Argv, and read back into them by whoever parses the flags of Task:
// nowhere else is a flag of a helper named, but for the two by which the
// supervisor says that a job goes on, --resume and --resumable.
package operation

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"storaged/internal/record"
)

// Operation is what one job is to do. Implementations are pointers to the
// structs of this package, which are plain data and not safe for concurrent
// use.
type Operation interface {
	Kind() record.Kind
	Class() record.Class
	// On is the volume that the operation is on, or the pool, where it names no
	// volume.
	On() *Volume
	// Locks are the objects that the job holds while it runs, all of them at
	// once, and how.
	Locks() []record.Object
	// Effect is what the job changes in the catalog.
	Effect() Effect
	// Allowed refuses what the state of its objects does not allow. It is asked
	// when the job is asked for, and again when it is about to begin.
	Allowed(Known) error
	// Moves is how many bytes the job moves at most; bounds is false where that
	// says nothing about how long it takes.
	Moves() (bytes int64, bounds bool)
	// Destroys reports whether the job may take content away for good.
	Destroys() bool
	// Displaces reports whether the job takes away what other volumes may stand on.
	Displaces() bool
	// Relies reports whether the outcome depends on the content of the volume, which
	// must be complete then.
	Relies() bool
	// Wipes reports whether the job overwrites the volume to erase it.
	Wipes() bool
	// Task is what its helper does.
	Task() Task
	// Settle is what another helper does after the first has died: it finds out
	// what became of the work, and removes what is unfinished. nil: there is
	// nothing that would have to be settled.
	Settle() *Settle
	// Bound gives what the job is bound to, to be read and changed.
	Bound() *Terms
}

// Terms are what a job is bound to, whatever it does.
type Terms struct {
	// After is set for a job that goes on from an earlier one: the number of the
	// last job that may have changed the volume. It is the earlier job itself, or
	// the one before it if that never began. If another job has changed the volume
	// since, this one is refused. 0: it goes on from none.
	After int64 `json:"after,omitempty"`
	// IfMatch is the generation of the object that the job is for; 0: any.
	IfMatch int64 `json:"if_match,omitempty"`
	// Reserve is how many bytes of the target's pool are reserved for the job.
	Reserve int64 `json:"reserve,omitempty"`
}

// Bound gives t itself: every operation embeds it, and what most of them have in
// common.
func (t *Terms) Bound() *Terms { return t }

// Allowed refuses nothing.
func (*Terms) Allowed(Known) error { return nil }

// Moves nothing.
func (*Terms) Moves() (bytes int64, bounds bool) { return 0, true }

// Destroys nothing.
func (*Terms) Destroys() bool { return false }

// Displaces nothing.
func (*Terms) Displaces() bool { return false }

// Relies on nothing.
func (*Terms) Relies() bool { return false }

// Wipes nothing.
func (*Terms) Wipes() bool { return false }

// Settle: there is nothing to settle.
func (*Terms) Settle() *Settle { return nil }

// Volume is a volume of a pool that an operation is about. Started by hand, a
// helper knows only the path: the directory is the pool, the last part the
// volume.
type Volume struct {
	Pool   string `json:"pool"`                // name of the pool
	UUID   string `json:"pool_uuid,omitempty"` // of the pool; "": as an earlier version recorded it
	Name   string `json:"volume,omitempty"`    // "": the operation is about the pool
	Type   string `json:"type"`                // of the pool
	Path   string `json:"path"`                // of the volume, or the target of the pool
	PoolID string `json:"-"`                   // what the pool's target must be, as its driver has it; "": any
	ID     string `json:"-"`                   // what the volume must be, as its driver has it; "": any

	PoolSource record.Source `json:"pool_source,omitzero"` // where the storage of the pool comes from
}

// On gives v itself: every operation embeds it.
func (v *Volume) On() *Volume { return v }

// Target is a volume that an operation makes of another.
type Target struct {
	Pool   string `json:"target_pool,omitempty"`
	UUID   string `json:"target_uuid,omitempty"`
	Name   string `json:"target_name,omitempty"`
	Type   string `json:"target_type,omitempty"`
	Path   string `json:"target_path,omitempty"`
	PoolID string `json:"-"`
	ID     string `json:"-"` // "": it is to be made

	PoolSource record.Source `json:"target_source,omitzero"`
}

// Into is embedded by operations that make one volume of another, or move what
// is in a pool to another.
type Into struct {
	Target
}

func newInto() Into { return Into{Target{Type: defaultType}} }

// Destination is where it goes.
func (i *Into) Destination() *Target { return &i.Target }

// Destination is where an operation makes or moves something; nil: nowhere but
// where it is.
func Destination(o Operation) *Target {
	if into, ok := o.(interface{ Destination() *Target }); ok {
		return into.Destination()
	}
	return nil
}

// ResultOf is the volume that an operation makes or changes, or the pool.
func ResultOf(o Operation) (pool, volume string) {
	if to := Destination(o); to != nil && to.Pool != "" {
		return to.Pool, to.Name
	}
	return o.On().Pool, o.On().Name
}

// Draft is embedded by operations that make a volume out of sight, of which what
// is unfinished can stay.
type Draft struct {
	Keep bool `json:"keep,omitempty"` // what is unfinished stays
}

// Unfinished says what becomes of it.
func (d *Draft) Unfinished() *Draft { return d }

// DraftOf is what becomes of what an operation leaves unfinished; nil: it leaves
// nothing that could stay.
func DraftOf(o Operation) *Draft {
	if d, ok := o.(interface{ Unfinished() *Draft }); ok {
		return d.Unfinished()
	}
	return nil
}

// Grows is implemented by operations that need room.
type Grows interface {
	// Needs is how many bytes may have to be allocated. Where it can perhaps do without, as
	// by sharing them with the source, which only its helper finds out, that is tried where
	// there is no room: unless is the sentence that says so, "" where it cannot.
	Needs() (bytes int64, unless string)
	// Smaller says how to do with less.
	Smaller() record.Hint
}

// Fills is implemented by operations that fill a volume that is there, and maybe
// its holes too.
type Fills interface {
	// Overwrites is how many bytes of the volume are written, holes or not; nil: all.
	// ok is false where holes stay.
	Overwrites() (length *int64, ok bool)
	Smaller() record.Hint
}

// Summed is embedded by operations that compare with the checksum that is
// recorded.
type Summed struct {
	// Recorded is the checksum that the catalog has when the job begins, and
	// SummedNS when the volume was last changed then, in ns since 1970.
	Recorded string `json:"-"`
	SummedNS int64  `json:"-"`
}

func (t Target) lock(m record.Mode) record.Object { return Volume(t).lock(m) }

func (v Volume) lock(m record.Mode) record.Object {
	return record.Object{Pool: v.Pool, Volume: record.Shown(v.Name), Mode: m}
}

// kinds makes an operation of each kind, with the defaults of its task, and a
// request for one.
var kinds = map[record.Kind]struct {
	operation func() Operation
	request   func() Request
}{
	record.VolumeCreate:    {func() Operation { return NewCreate() }, func() Request { return &CreateRequest{} }},
	record.VolumeClone:     {func() Operation { return NewClone() }, func() Request { return &CloneRequest{} }},
	record.VolumeResize:    {func() Operation { return NewResize() }, func() Request { return &ResizeRequest{} }},
	record.VolumeWipe:      {func() Operation { return NewWipe() }, func() Request { return &WipeRequest{} }},
	record.VolumeTrim:      {func() Operation { return NewTrim() }, func() Request { return &TrimRequest{} }},
	record.VolumeRekey:     {func() Operation { return NewRekey() }, func() Request { return &RekeyRequest{} }},
	record.VolumeDelete:    {func() Operation { return NewDelete() }, func() Request { return &DeleteRequest{} }},
	record.VolumeUpload:    {func() Operation { return NewUpload() }, func() Request { return &UploadRequest{} }},
	record.VolumeDownload:  {func() Operation { return NewDownload() }, func() Request { return &DownloadRequest{} }},
	record.VolumeVerify:    {func() Operation { return NewVerify() }, func() Request { return &VerifyRequest{} }},
	record.VolumeCheck:     {func() Operation { return NewCheck() }, func() Request { return &CheckRequest{} }},
	record.VolumeMove:      {func() Operation { return NewMove() }, func() Request { return &MoveRequest{} }},
	record.VolumeFlatten:   {func() Operation { return NewFlatten() }, func() Request { return &FlattenRequest{} }},
	record.VolumeRebase:    {func() Operation { return NewRebase() }, func() Request { return &RebaseRequest{} }},
	record.SnapshotCreate:  {func() Operation { return NewSnapshotCreate() }, func() Request { return &SnapshotCreateRequest{} }},
	record.SnapshotRestore: {func() Operation { return NewSnapshotRestore() }, func() Request { return &SnapshotRestoreRequest{} }},
	record.SnapshotDelete:  {func() Operation { return NewSnapshotDelete() }, func() Request { return &SnapshotDeleteRequest{} }},
	record.SnapshotClone:   {func() Operation { return &SnapshotClone{*NewClone()} }, func() Request { return &SnapshotCloneRequest{} }},
	record.PoolBuild:       {func() Operation { return NewPoolBuild() }, func() Request { return &PoolBuildRequest{} }},
	record.PoolStart:       {func() Operation { return NewPoolStart() }, func() Request { return &PoolStartRequest{} }},
	record.PoolStop:        {func() Operation { return NewPoolStop() }, func() Request { return &PoolStopRequest{} }},
	record.PoolRefresh:     {func() Operation { return NewPoolRefresh() }, func() Request { return &PoolRefreshRequest{} }},
	record.PoolVerify:      {func() Operation { return NewPoolVerify() }, func() Request { return &PoolVerifyRequest{} }},
	record.PoolEvacuate:    {func() Operation { return NewEvacuate() }, func() Request { return &EvacuateRequest{} }},
	record.PoolDelete:      {func() Operation { return NewPoolDelete() }, func() Request { return &PoolDeleteRequest{} }},
}

// Kinds are those of which there are operations, in order.
func Kinds() []record.Kind { return slices.Sorted(maps.Keys(kinds)) }

// New makes an operation of a kind; ok is false where there is none.
func New(kind record.Kind) (o Operation, ok bool) {
	k, ok := kinds[kind]
	if !ok {
		return nil, false
	}
	return k.operation(), true
}

// NewRequest makes an empty request of a kind; ok is false where there is none.
func NewRequest(kind record.Kind) (r Request, ok bool) {
	k, ok := kinds[kind]
	if !ok {
		return nil, false
	}
	return k.request(), true
}

// KindOf is the kind of what a request asks for.
func KindOf(r Request) record.Kind {
	if u, ok := r.(*UploadRequest); ok && u.Create != nil {
		return record.VolumeCreate
	}
	for kind, k := range kinds {
		if reflect.TypeOf(k.request()) == reflect.TypeOf(r) {
			return kind
		}
	}
	panic(fmt.Sprintf("internal error: %T is a request of no kind", r))
}

// Encode gives what is kept with the job.
func Encode(o Operation) json.RawMessage {
	b, err := json.Marshal(struct {
		Kind record.Kind `json:"kind"`
	}{o.Kind()})
	if err == nil {
		var rest []byte
		if rest, err = json.Marshal(o); err == nil {
			b = append(append(b[:len(b)-1], ','), rest[1:]...)
		}
	}
	if err != nil {
		panic(fmt.Sprintf("internal error: %s does not encode: %v", o.Kind(), err)) // plain data
	}
	return b
}

// Decode reads what Encode gave, of this version or the one before.
func Decode(params json.RawMessage) (Operation, error) {
	var is struct {
		Kind record.Kind `json:"kind"`
	}
	if err := json.Unmarshal(params, &is); err != nil {
		return nil, fmt.Errorf("its parameters cannot be read: %v", err)
	}
	like, ok := New(is.Kind)
	if !ok {
		return nil, fmt.Errorf("kind %q is not known to this version of storaged", is.Kind)
	}
	// What is not kept is nothing, and not the default of a command line.
	o := reflect.New(reflect.TypeOf(like).Elem()).Interface().(Operation)
	if err := json.Unmarshal(params, o); err != nil {
		return nil, fmt.Errorf("its parameters cannot be read: %v", err)
	}
	if c, ok := o.(*Create); ok && c.Allocation == nil {
		c.Allocation = new(int64) // an earlier version left 0 out
	}
	return o, nil
}

// Receiver is implemented by operations whose helper has the file or stream of a
// client: Receive says by which descriptor.
type Receiver interface{ Receive(fd int) }

// Warning is implemented by operations of which a client is to know something
// before.
type Warning interface {
	Warnings(on record.Volume) []string
}

// Comparing is implemented by operations that compare with the checksum that is
// recorded.
type Comparing interface {
	Compares() *Summed
	// Sums says what the checksum is of: record.AsRaw, which "" is too, or
	// record.AsFile.
	Sums() string
}

// Making is implemented by operations that make a volume, or move one.
type Making interface{ Made() Made }

// Made is what a volume is listed as while it is made. Capacity 0 is that of the
// one it is made of.
type Made struct {
	Format             string
	Capacity, Promised int64  // bytes; so many are promised to have blocks
	Secret             string // name of the one that opens it, "" for none
	IterTime           int64  // ms that a try of that takes, as asked for; 0: as comes
	Apart              bool   // it does not name the files that its source needs
}

func deref(n *int64) int64 {
	if n == nil {
		return 0
	}
	return *n
}
