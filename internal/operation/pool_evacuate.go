package operation

import "storaged/internal/record"

// Evacuate moves the volumes of a pool to another.
type Evacuate struct {
	OnPool
	Into                // the other pool: its Name is "", its Path the pool's target
	Capacity   int64    `json:"capacity,omitempty"`   // bytes of the volumes
	Allocation int64    `json:"allocation,omitempty"` // bytes that they may need there
	Names      []string `json:"names,omitempty"`      // of the volumes that the catalogue had when it was asked for
	Only       string   `json:"only,omitempty"`       // pattern of names; "": any
	SkipBusy   bool     `json:"skip_busy,omitempty"`
	KeepSource bool     `json:"keep_source,omitempty"` // copy instead of moving
	OnError    string   `json:"on_error"`              // continue, stop
	Stays      []string `json:"-"`                     // volumes that cannot be moved, as it is known when the job begins
}

var _ Operation = (*Evacuate)(nil)

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
			Flag{Name: "stays", Usage: "the volume `NAME` cannot be moved, because other images need it; may be repeated", value: (*list)(&o.Stays)},
		),
	}
}
