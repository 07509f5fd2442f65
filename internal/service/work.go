package service

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"storaged/internal/ipc"
	"storaged/internal/record"
	"storaged/internal/store"
	"storaged/internal/supervisor"
)

// work is what a job is to do, in the daemon's words. It is kept with the job
// as its Params, so that a restarted daemon and a retry know it again.
type work struct {
	Kind   record.Kind `json:"kind"`
	Pool   string      `json:"pool"`
	Volume string      `json:"volume,omitempty"`

	PoolUUID   string `json:"pool_uuid,omitempty"` // "": as an earlier version recorded it
	TargetUUID string `json:"target_uuid,omitempty"`

	Type string `json:"type"` // of the pool
	Path string `json:"path"` // of the volume, or the pool's target

	// The directories that the pools were started with, as the catalogue has
	// them when the job begins.
	PoolID   string `json:"-"`
	TargetID string `json:"-"`
	// VolumeID is what the catalogue has of the volume when the job begins; "":
	// nobody has looked at it.
	VolumeID string `json:"-"`

	// Of a verify or a trim: the recorded checksum that holds when the job begins, and
	// when the file was last changed then.
	Recorded string `json:"-"`
	SummedNS int64  `json:"-"`

	Warnings []string `json:"-"` // of what was found when it was asked for

	// Also is made durable with the job, or neither is.
	Also func(*store.Tx) error `json:"-"`

	// After is set for a job that goes on from an earlier one: the number of the
	// last job that may have changed the volume. It is the earlier job itself, or
	// the one before it if that never began. If another job has changed the volume
	// since, this one is refused. 0: it goes on from none.
	After int64 `json:"after,omitempty"`

	IfMatch int64 `json:"if_match,omitempty"` // generation of its object that it is meant for; 0: any

	// Reserve is how many bytes of the target's pool it was promised. An earlier
	// job that it goes on from has left it has of its Allocation.
	Reserve int64 `json:"reserve,omitempty"`
	has     int64

	// Of a clone or a move: where it goes.
	TargetPool string `json:"target_pool,omitempty"`
	TargetName string `json:"target_name,omitempty"`
	TargetType string `json:"target_type,omitempty"`
	TargetPath string `json:"target_path,omitempty"`

	Format           string `json:"format,omitempty"`
	Capacity         int64  `json:"capacity,omitempty"`   // bytes
	Allocation       int64  `json:"allocation,omitempty"` // bytes the target may need
	Promise          int64  `json:"promise,omitempty"`    // bytes of the target that shall have blocks
	Reflink          string `json:"reflink,omitempty"`
	Sparse           bool   `json:"sparse,omitempty"` // what reads as zeros is left out
	Algorithm        string `json:"algorithm,omitempty"`
	Verify           bool   `json:"verify,omitempty"`
	Checksum         string `json:"checksum,omitempty"` // algorithm, or what the content must have
	AcceptLimits     bool   `json:"accept_limits,omitempty"`
	Shrink           bool   `json:"shrink,omitempty"`
	Allocate         bool   `json:"allocate,omitempty"`
	Build            bool   `json:"build,omitempty"`
	GiveUpAllocation bool   `json:"give_up_allocation,omitempty"`
	Overwrite        bool   `json:"overwrite,omitempty"`
	WithVolumes      bool   `json:"with_volumes,omitempty"`
	Keep             bool   `json:"keep,omitempty"` // a new volume that was not completed

	// Of a content that comes from outside or goes there.
	Form        string   `json:"form,omitempty"` // as Data has it, of what the helper is handed; "": nothing
	Data        *os.File `json:"-"`              // that
	Offset      int64    `json:"offset,omitempty"`
	Length      *int64   `json:"length,omitempty"`    // bytes; nil: as it comes, or up to the end
	Skipped     int64    `json:"skipped,omitempty"`   // bytes before Offset that Continues has uploaded
	Beginning   string   `json:"beginning,omitempty"` // checksum of those, as the client has them
	Known       bool     `json:"known,omitempty"`     // Length is what the jobs that it is the rest of say
	Continues   int64    `json:"continues,omitempty"` // number of the job of the same content that marked the volume, or was the first
	AsFormat    string   `json:"as_format,omitempty"`
	DetectZeros bool     `json:"detect_zeros,omitempty"`
	Dense       bool     `json:"dense,omitempty"` // as Data has it

	// Of an evacuation. Names are the volumes that the catalogue had when it was
	// asked for; TargetPath is the target pool's.
	Names      []string `json:"names,omitempty"`
	Only       string   `json:"only,omitempty"`
	SkipBusy   bool     `json:"skip_busy,omitempty"`
	KeepSource bool     `json:"keep_source,omitempty"`
	OnError    string   `json:"on_error,omitempty"`
	Discard    []string `json:"discard,omitempty"` // of a refresh: jobs whose unfinished volumes are to go
	stays      []string // volumes that cannot be moved, as the catalogue has it when the job begins

	others []string // of a pool's delete: the directories of pools in use, when the job begins
}

// kind is what becomes of the catalogue by one kind of job.
type kind struct {
	keeps    bool // what it did not complete can be kept
	granted  func(k *keeper, tx *store.Tx, w work, j *store.Job) error
	advanced func(k *keeper, tx *store.Tx, e end, items []ipc.Item) error // nil: it is about one object
	ended    func(k *keeper, tx *store.Tx, e end) error
}

// kindOf is the table of what there is.
func kindOf(name record.Kind) (kind, bool) {
	switch name {
	case record.VolumeCreate:
		return kind{keeps: true, granted: beginCreate, ended: endNewVolume}, true
	case record.VolumeClone:
		return kind{keeps: true, granted: beginClone, ended: endNewVolume}, true
	case record.VolumeResize, record.VolumeWipe:
		return kind{granted: markVolume, ended: endInPlace}, true
	case record.VolumeTrim:
		return kind{granted: beginTrim, ended: endTrim}, true
	case record.VolumeDelete:
		return kind{granted: markVolume, ended: endDelete}, true
	case record.VolumeUpload:
		return kind{granted: beginUpload, ended: endUpload}, true
	case record.VolumeDownload, record.VolumeVerify:
		return kind{granted: beginVerify, ended: endVerify}, true
	case record.VolumeMove:
		return kind{granted: beginMove, ended: endMove}, true
	case record.PoolBuild:
		return kind{granted: beginPool(record.PoolBuilding), ended: endPoolBuild}, true
	case record.PoolStart:
		return kind{granted: beginPool(record.PoolStarting), ended: endPoolStart}, true
	case record.PoolStop:
		return kind{granted: beginPool(record.PoolStopping), ended: endPoolStop}, true
	case record.PoolRefresh:
		return kind{granted: beginPool(""), ended: endPoolRefresh}, true
	case record.PoolVerify:
		return kind{granted: beginPool(""), ended: endPoolVerify}, true
	case record.PoolEvacuate:
		return kind{granted: beginEvacuate, advanced: (*keeper).evacuated, ended: endEvacuate}, true
	case record.PoolDelete:
		return kind{granted: beginPool(record.PoolInactive), ended: endPoolDelete}, true
	}
	return kind{}, false
}

// request makes the supervisor's request of the work.
func (w work) request() supervisor.Request {
	o := w.operation()
	return supervisor.Request{
		Kind:     w.Kind,
		Class:    o.Class(),
		Objects:  o.Locks(),
		Argv:     o.Task().Argv(),
		UndoArgv: w.settle(),
		Params:   w.encode(),
		Destroys: o.Destroys(),
		Warnings: w.Warnings,
		Reserved: w.Reserve,
		Also:     w.also,
		Data:     w.Data,
	}
}

// encode gives what is kept with the job.
func (w work) encode() json.RawMessage {
	params, err := json.Marshal(w)
	if err != nil {
		panic(fmt.Sprintf("internal error: work of %s does not encode: %v", w.Kind, err))
	}
	return params
}

// also is what is made durable with the job.
func (w work) also(tx *store.Tx) error {
	if w.Also != nil {
		if err := w.Also(tx); err != nil {
			return err
		}
	}
	return w.promise(tx)
}

func (w work) kind() kind {
	k, ok := kindOf(w.Kind)
	if !ok {
		panic(fmt.Sprintf("internal error: no such kind of job: %q", w.Kind))
	}
	return k
}

// workOf reads the work back from a job's record.
func workOf(j *store.Job) (work, error) {
	var w work
	if err := json.Unmarshal(j.Params, &w); err != nil {
		return work{}, fmt.Errorf("job %d: its parameters cannot be read: %v", j.Number, err)
	}
	if _, ok := kindOf(w.Kind); !ok {
		return work{}, fmt.Errorf("job %d: kind %q is not known to this version of storaged", j.Number, w.Kind)
	}
	return w, nil
}

// locate takes over the identities of the pools.
func (w *work) locate(tx *store.Tx) error {
	for _, at := range []struct {
		pool string
		id   *string
	}{{w.Pool, &w.PoolID}, {w.TargetPool, &w.TargetID}} {
		p, err := tx.Pool(at.pool)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		*at.id = p.Identity
		if w.Kind == record.PoolRefresh && p.State == record.PoolUnreachable {
			*at.id = lasting(p.Type, p.Identity) // what is mounted anew may get another device
		}
	}
	return errors.Join(w.identify(tx), w.spare(tx), w.stay(tx))
}

// identify takes over what the volume is that the work is on.
func (w *work) identify(tx *store.Tx) error {
	v, err := tx.Volume(w.Pool, w.Volume)
	if err == nil && v.State != record.VolumeBuilding {
		w.VolumeID = v.Identity
	}
	return ignoreNotFound(err)
}

// spare finds the directories that a delete of a pool must not take for its own.
func (w *work) spare(tx *store.Tx) error {
	w.others = nil
	if w.Kind != record.PoolDelete {
		return nil
	}
	pools, err := tx.Pools()
	for _, p := range pools {
		if p.Name != w.Pool && inUse(p) && p.Identity != "" {
			w.others = append(w.others, p.Identity)
		}
	}
	return err
}

// target is the volume the work makes or changes.
func (w work) target() (pool, volume string) {
	if w.TargetPool != "" {
		return w.TargetPool, w.TargetName
	}
	return w.Pool, w.Volume
}
