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
	// Locks are the objects that the job holds while it runs, all of them at
	// once, and how.
	Locks() []record.Object
	// Destroys reports whether the job may take content away for good.
	Destroys() bool
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
	// IfMatch is the generation of the object that the job is meant for; 0: any.
	IfMatch int64 `json:"if_match,omitempty"`
	// Reserve is how many bytes of the target's pool the job was promised.
	Reserve int64 `json:"reserve,omitempty"`
}

// Bound gives t itself: every operation embeds it.
func (t *Terms) Bound() *Terms { return t }

// Volume is a volume of a pool that an operation is about. Started by hand, a
// helper knows only the path: the directory is the pool, the last part the
// volume.
type Volume struct {
	Pool   string `json:"pool"`             // name of the pool
	Name   string `json:"volume,omitempty"` // "": the operation is about the pool
	Type   string `json:"type"`             // of the pool
	Path   string `json:"path"`             // of the volume, or the target of the pool
	PoolID string `json:"-"`                // what the pool's target must be, as its driver has it; "": any
	ID     string `json:"-"`                // what the volume must be, as its driver has it; "": any

	PoolSource record.Source `json:"-"` // where the storage of the pool comes from
}

// Target is a volume that an operation makes of another.
type Target struct {
	Pool   string `json:"target_pool,omitempty"`
	Name   string `json:"target_name,omitempty"`
	Type   string `json:"target_type,omitempty"`
	Path   string `json:"target_path,omitempty"`
	PoolID string `json:"-"`
	ID     string `json:"-"` // "": it is to be made

	PoolSource record.Source `json:"-"`
}

// Into is embedded by operations that make one volume of another, or move what
// is in a pool to another.
type Into struct {
	Target
}

func newInto() Into { return Into{Target{Type: defaultType}} }

func (t Target) lock(m record.Mode) record.Object { return Volume(t).lock(m) }

func (v Volume) lock(m record.Mode) record.Object {
	return record.Object{Pool: v.Pool, Volume: v.Name, Mode: m}
}

// kinds makes an operation of each kind, with the defaults of its task.
var kinds = map[record.Kind]func() Operation{
	record.VolumeCreate:   func() Operation { return NewCreate() },
	record.VolumeClone:    func() Operation { return NewClone() },
	record.VolumeResize:   func() Operation { return NewResize() },
	record.VolumeWipe:     func() Operation { return NewWipe() },
	record.VolumeTrim:     func() Operation { return NewTrim() },
	record.VolumeDelete:   func() Operation { return NewDelete() },
	record.VolumeUpload:   func() Operation { return NewUpload() },
	record.VolumeDownload: func() Operation { return NewDownload() },
	record.VolumeVerify:   func() Operation { return NewVerify() },
	record.VolumeMove:     func() Operation { return NewMove() },
	record.PoolBuild:      func() Operation { return NewPoolBuild() },
	record.PoolStart:      func() Operation { return NewPoolStart() },
	record.PoolStop:       func() Operation { return NewPoolStop() },
	record.PoolRefresh:    func() Operation { return NewPoolRefresh() },
	record.PoolVerify:     func() Operation { return NewPoolVerify() },
	record.PoolEvacuate:   func() Operation { return NewEvacuate() },
	record.PoolDelete:     func() Operation { return NewPoolDelete() },
}

// Kinds are those of which there are operations, in order.
func Kinds() []record.Kind { return slices.Sorted(maps.Keys(kinds)) }

// New makes an operation of a kind; ok is false where there is none.
func New(kind record.Kind) (o Operation, ok bool) {
	make, ok := kinds[kind]
	if !ok {
		return nil, false
	}
	return make(), true
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
	return o, nil
}
