package operation

import (
	"cmp"

	"storaged/internal/quantity"
	"storaged/internal/record"
)

// Evacuate moves the volumes of a pool to another.
type Evacuate struct {
	OnPool
	Into                // the other pool: its Name is "", its Path the pool's target
	Capacity   int64    `json:"capacity,omitempty"`   // bytes of the volumes
	Allocation int64    `json:"allocation,omitempty"` // bytes that they may need there
	Names      []string `json:"names,omitempty"`      // of the volumes that the catalog had when it was asked for
	Only       string   `json:"only,omitempty"`       // pattern of names; "": any
	SkipBusy   bool     `json:"skip_busy,omitempty"`
	KeepSource bool     `json:"keep_source,omitempty"` // copy instead of moving
	Apart      bool     `json:"apart,omitempty"`       // the other pool shares no blocks with this one
	OnError    string   `json:"on_error"`              // continue, stop
	Homes
	Images []string `json:"-"` // FORMAT:NAME of the volumes that are images, as it is known then
	Stays  []string `json:"-"` // volumes that cannot be moved, as it is known when the job begins
}

var _ interface {
	Operation
	Grows
} = (*Evacuate)(nil)

// NewEvacuate gives one with the defaults of its task.
func NewEvacuate() *Evacuate {
	return &Evacuate{OnPool: newOnPool(), Into: newInto(), OnError: "continue"}
}

// Kind is pool.evacuate.
func (*Evacuate) Kind() record.Kind { return record.PoolEvacuate }

// Class: it takes as long as there is to copy.
func (*Evacuate) Class() record.Class { return record.Async }

// Locks: the source pool stands for all its volumes; of the target pool only the
// names that the volumes get are held, so that its other volumes are free all the
// while.
func (o *Evacuate) Locks() []record.Object {
	source := o.Volume.lock(record.ModeDelete)
	if o.KeepSource {
		source = o.Volume.lock(record.ModeRead)
	}
	locks := []record.Object{source, {Pool: o.Target.Pool, Mode: record.ModeQuery}}
	for _, name := range o.Names {
		locks = append(locks, record.Object{Pool: o.Target.Pool, Volume: name, Mode: record.ModeWrite})
	}
	return locks
}

// Settle finds out about the volume between the pools.
func (o *Evacuate) Settle() *Settle {
	return &Settle{Volume: Volume(o.Target), Source: &o.Volume, Pools: true}
}

// Effect: its volumes are in another then.
func (*Evacuate) Effect() Effect { return Empties }

// Allowed refuses a pool that is not in use.
func (*Evacuate) Allowed(k Known) error { return Active(k.Pool) }

// StandsIn is of interest for its images.
func (o *Evacuate) StandsIn(dirs []string) { o.Among = dirs }

// Displaces its volumes, unless they are copied.
func (o *Evacuate) Displaces() bool { return !o.KeepSource }

// Moves what its volumes hold, as far as they are known.
func (o *Evacuate) Moves() (bytes int64, bounds bool) { return o.Capacity, false }

// Needs what its volumes have allocated.
func (o *Evacuate) Needs() (bytes int64, unless string) {
	if o.KeepSource && !o.Apart {
		unless = "all of them can be copied only if the copies can share blocks with the volumes"
	}
	return o.Allocation, unless
}

// Smaller is to put them elsewhere.
func (*Evacuate) Smaller() record.Hint { return elsewhere() }

// CanLeave refuses a volume that cannot be taken to the other pool.
func (o *Evacuate) CanLeave(k Known) error {
	if o.KeepSource {
		return k.copyable(o.Target.Pool)
	}
	return cmp.Or(k.unfrozen(), k.portable(o.Target.Pool))
}

// Task is evacuate.
func (o *Evacuate) Task() Task {
	return Task{
		Name: "evacuate", Usage: "move the volumes of a pool to another",
		Description: "The volumes are those that there are at the start. Each is moved as by \"move\", one after the\n" +
			"other. One that cannot be moved stays, and makes the exit code 11.",
		Example: "--target /var/lib/images --to /srv/images --only 'vm*'",
		Flags: append(o.Volume.pool(),
			identity("pool-id", &o.Volume.PoolID),
			text("to", &o.Target.Path, "`PATH` of the pool to move to"),
			text("to-type", &o.Target.Type, "its `TYPE`"),
			identity("to-pool-id", &o.Target.PoolID),
			source("to-pool-source", &o.Target.PoolSource),
			text("only", &o.Only, "only volumes whose names match the `GLOB`"),
			onOff("skip-busy", &o.SkipBusy, "one that is in use stays, and is no failure"),
			onOff("keep-source", &o.KeepSource, "copy instead of moving"),
			text("on-error", &o.OnError, "what to do after a failure: `continue|stop`"),
			o.among(),
			Flag{Name: "image", Usage: "the volume `FORMAT:NAME` is an image; may be repeated", value: (*list)(&o.Images)},
			Flag{Name: "stays", Usage: "the volume `NAME` cannot be moved, because other images need it; may be repeated", value: (*list)(&o.Stays)},
		),
	}
}

// maxEvacuated bounds the volumes of one evacuation: each is a lock, and stands
// in the job's record.
const maxEvacuated = 1000

// EvacuateRequest asks to move the volumes of a pool to another, To.
type EvacuateRequest struct {
	To         string `json:"to"`
	Only       string `json:"only,omitempty"` // pattern of names; empty is any
	SkipBusy   bool   `json:"skip_busy,omitempty"`
	KeepSource bool   `json:"keep_source,omitempty"` // copy instead of moving
	OnError    string `json:"on_error,omitempty"`    // continue (default), stop
	JobOptions
}

var _ interface {
	Request
	Sender
} = (*EvacuateRequest)(nil)

// Goes: the other pool.
func (r *EvacuateRequest) Goes() (pool, volume string) { return r.To, "" }

// Fill puts in what it leaves out.
func (r *EvacuateRequest) Fill() {
	r.JobOptions.Fill()
	r.OnError = cmp.Or(r.OnError, "continue")
}

// Check refuses bad names and patterns.
func (r *EvacuateRequest) Check() error {
	if err := record.CheckName(r.To); err != nil {
		return record.Errorf(record.Invalid, `field "to": %v`, err)
	}
	if _, err := record.MatchName(r.Only, ""); err != nil {
		return record.Errorf(record.Invalid, `field "only": %v`, err)
	}
	return cmp.Or(record.OneOf("on_error", r.OnError, "continue", "stop", ""), r.JobOptions.Check())
}

// Plan names the volumes.
func (r *EvacuateRequest) Plan(k Known) (Operation, error) {
	o := &Evacuate{
		OnPool: OnPool{Volume: k.On}, Into: Into{k.Into}, Only: r.Only, SkipBusy: r.SkipBusy, KeepSource: r.KeepSource, Apart: k.Apart, OnError: r.OnError,
	}
	if err := Active(k.Pool); err != nil {
		return nil, err
	}
	if o.Target.Pool == o.Volume.Pool {
		return nil, record.Errorf(record.Invalid, "pool %q cannot be evacuated to itself", o.Volume.Pool)
	}
	vols, err := k.Volumes(r.Only)
	if err != nil {
		return nil, err
	}
	for _, v := range vols {
		o.Names = append(o.Names, v.Name)
		o.Capacity = quantity.Sum(o.Capacity, v.Capacity)
		if r.KeepSource || !k.Near {
			o.Allocation = quantity.Sum(o.Allocation, v.Allocation)
		}
	}
	if len(o.Names) == 0 && r.Only != "" {
		return nil, record.Errorf(record.NotFound, "no volume of pool %q matches %q", o.Volume.Pool, r.Only).WithHint("%s", record.Do("volume.list", o.Volume.Pool))
	}
	if len(o.Names) > maxEvacuated {
		return nil, record.Errorf(record.TooLarge, "%d volumes of pool %q are to be moved; one job moves %d at most", len(o.Names), o.Volume.Pool, maxEvacuated).
			WithHint("%s chooses some of them", record.Do("").With("only", "GLOB"))
	}
	return o, nil
}
