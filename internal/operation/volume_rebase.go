package operation

import (
	"fmt"
	"slices"
	"strings"

	"storaged/internal/record"
)

// Rebase has a volume stand on another one, with the content that it has; or, Unsafe,
// with what it itself has of its content and the rest of that other one, where nobody can
// read any more what it stood on.
type Rebase struct {
	Terms
	Volume
	Sealed
	Chain             // what it stands on before; of an unsafe one that is not known
	Onto       Chain  `json:"onto"` // what it is to stand on
	Unsafe     bool   `json:"unsafe,omitempty"`
	Format     string `json:"format"`
	Capacity   int64  `json:"capacity,omitempty"`   // bytes that may have to be read
	Allocation int64  `json:"allocation,omitempty"` // bytes that it may need
	Resume     bool   `json:"-"`
}

var _ interface {
	Operation
	Chained
	Grows
	Warning
} = (*Rebase)(nil)

// NewRebase gives one with the defaults of its task.
func NewRebase() *Rebase { return &Rebase{Volume: Volume{Type: defaultType}, Format: "qcow2"} }

// Kind is volume.rebase.
func (*Rebase) Kind() record.Kind { return record.VolumeRebase }

// Class: it takes as long as there is to compare.
func (o *Rebase) Class() record.Class {
	if o.Unsafe {
		return record.Normal
	}
	return record.Async
}

// Chains are what it stands on, and what it is to stand on.
func (o *Rebase) Chains() []*Chain { return []*Chain{&o.Chain, &o.Onto} }

// Locks the volume against everybody; the others may be read.
func (o *Rebase) Locks() []record.Object {
	all := []record.Object{o.lock(record.ModeWrite)}
	for _, l := range slices.Concat(o.Chain.locks(), o.Onto.locks()) {
		if !slices.Contains(all, l) {
			all = append(all, l)
		}
	}
	return all
}

// Settle looks what it is now.
func (o *Rebase) Settle() *Settle { return &Settle{Volume: o.Volume, Format: o.Format} }

// Effect: the content stays the same.
func (*Rebase) Effect() Effect { return Arranges }

// Relies on the content.
func (*Rebase) Relies() bool { return true }

// Allowed refuses an image whose content lies in other files, and one that would stand on
// itself.
func (o *Rebase) Allowed(k Known) error {
	if err := k.detachable(); err != nil {
		return err
	}
	for _, l := range o.Onto.Layers {
		if l.Pool == k.Volume.Pool && l.Name == k.Volume.Name {
			return record.Errorf(record.Invalid, "volume %s would stand on itself", record.Quoted(l.Pool, l.Name))
		}
	}
	if o.Unsafe {
		return o.replaces(k)
	}
	return nil
}

// replaces refuses what cannot be the backing that an image has lost.
func (o *Rebase) replaces(k Known) error {
	of := k.quoted()
	if k.Volume.Problem != "" {
		return record.Errorf(record.Unsupported, "volume %s cannot be opened as an image: %s", of, k.Volume.Problem)
	}
	if len(k.References) == 0 {
		return record.Errorf(record.WrongState, "volume %s stands on nothing: there is nothing to be put in the place of", of).
			WithHint("leave out %s: it keeps its content then", record.Do("").With("unsafe"))
	}
	on := o.Onto.Layers[0]
	has, err := k.Other(on.Pool, on.Name)
	if err == nil && has.Capacity < k.Volume.Capacity {
		name := on.Pool + "/" + record.Shown(on.Name)
		err = record.Errorf(record.Invalid, "volume %s has %s, and %s has %s: less than what it is to be the rest of", record.Quoted(on.Pool, record.Shown(on.Name)), both(has.Capacity), of, both(k.Volume.Capacity)).
			WithHint("if that was so before too, let it grow, which adds zeros: %s", record.Do("volume.resize", name, "SIZE"))
	}
	return err
}

// Warnings say what is for whoever asks to make sure, and that what it stands on counts
// for its own snapshots too.
func (o *Rebase) Warnings(on record.Volume) []string {
	if !o.Unsafe {
		return losesInternal(on, shifted)
	}
	l := o.Onto.Layers[0]
	return []string{fmt.Sprintf("nothing is compared: volume %s has its content only if %s has the same as %q, which it stood on, and had when it was written to last",
		record.Quoted(on.Pool, on.Name), record.Quoted(l.Pool, record.Shown(l.Name)), on.Backing)}
}

// Moves what may have to be read.
func (o *Rebase) Moves() (bytes int64, bounds bool) { return o.Capacity, true }

// Needs what those have that it stood on, as far as it has not as much itself.
func (o *Rebase) Needs() (bytes int64, unless string) { return o.Allocation, "" }

// Smaller is to choose another pool.
func (*Rebase) Smaller() record.Hint { return elsewhere() }

// Task is rebase.
func (o *Rebase) Task() Task {
	return Task{
		Name:  "rebase",
		Usage: "have a volume stand on another one, with the content that it has",
		Description: "Where the new backing has another content than the old one, that of the old one is copied into the\n" +
			"volume, and then its header names the new one. The content stays the same, at any time. With --unsafe\n" +
			"nothing is compared or copied: where the old backing is lost, and the new one has the same content.",
		Example: `--target vm1.qcow2 --layer '{"path":"/i/old.raw","format":"raw"}' --onto '{"path":"/i/new.raw","format":"raw"}'`,
		Flags: append(append(append(append(o.Volume.flags("target"), o.Volume.known(), imageFormat(&o.Format)), o.Chain.flags("layer")...), o.Onto.flags("onto")...),
			append(o.Sealed.flags(&o.Chain.Secret), onOff("unsafe", &o.Unsafe, "change the header alone, whatever it names"), resume(&o.Resume))...),
	}
}

// RebaseRequest asks to have a volume stand on another one, Backing: POOL/NAME, or a
// name in its own pool.
type RebaseRequest struct {
	Backing string `json:"backing"`
	Unsafe  bool   `json:"unsafe,omitempty"` // the header alone is changed: what it stood on is lost, and Backing has the same content
	JobOptions
}

// Check refuses what names no volume.
func (r *RebaseRequest) Check() error {
	if _, _, err := backingOf("", r.Backing); err != nil {
		return err
	}
	return r.JobOptions.Check()
}

// backingOf reads the name of a volume to stand on: POOL/NAME, or a name in the pool.
func backingOf(pool, backing string) (string, string, error) {
	name := backing
	if p, n, ok := strings.Cut(backing, "/"); ok {
		pool, name = p, n
		if err := record.CheckName(pool); err != nil {
			return "", "", record.Errorf(record.Invalid, `field "backing": %v`, err)
		}
	}
	if err := record.CheckName(name); err != nil {
		return "", "", record.Errorf(record.Invalid, `field "backing": %v`, err)
	}
	return pool, name, nil
}

// Plan reads what the volume stands on, unless that is lost, and what it is to stand on.
func (r *RebaseRequest) Plan(k Known) (Operation, error) {
	if err := k.detachable(); err != nil {
		return nil, err
	}
	pool, name, err := backingOf(k.Volume.Pool, r.Backing)
	if err != nil {
		return nil, err
	}
	o := &Rebase{Volume: k.On, Unsafe: r.Unsafe, Format: k.Volume.Format, Chain: Chain{Secret: k.Volume.Secret}}
	if !r.Unsafe {
		if o.Chain, err = k.Chain(); err != nil {
			return nil, err
		}
		if err := k.takesInClear(o.Chain); err != nil {
			return nil, err
		}
		o.Capacity, o.Allocation = k.Volume.Capacity, k.lacks(o.Chain)
	}
	o.Onto, err = k.Under(pool, name)
	if err == nil && !r.Unsafe { // which puts back what was, and writes nothing
		err = standsInClear(record.Volume{}, o.Onto, k.Volume.Secret, k.cloneIn(LinkedFormat).With("secret", "SECRET"))
	}
	return o, err
}
