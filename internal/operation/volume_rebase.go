package operation

import (
	"cmp"
	"slices"
	"strings"

	"storaged/internal/record"
)

// Rebase has a volume stand on another one, with the content that it has.
type Rebase struct {
	Terms
	Volume
	Sealed
	Chain           // what it stands on before
	Onto     Chain  `json:"onto"` // what it is to stand on
	Format   string `json:"format"`
	Capacity int64  `json:"capacity,omitempty"` // bytes that may have to be read
	Resume   bool   `json:"-"`
}

var _ interface {
	Operation
	Chained
} = (*Rebase)(nil)

// NewRebase gives one with the defaults of its task.
func NewRebase() *Rebase { return &Rebase{Volume: Volume{Type: defaultType}, Format: "qcow2"} }

// Kind is volume.rebase.
func (*Rebase) Kind() record.Kind { return record.VolumeRebase }

// Class: it takes as long as there is to compare.
func (*Rebase) Class() record.Class { return record.Async }

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
func (o *Rebase) Settle() *Settle { return &Settle{Volume: o.Volume} }

// Effect: the content stays the same.
func (*Rebase) Effect() Effect { return Arranges }

// Relies on the content.
func (*Rebase) Relies() bool { return true }

// Allowed refuses an image whose content lies in other files.
func (o *Rebase) Allowed(k Known) error { return k.detachable() }

// Moves what may have to be read.
func (o *Rebase) Moves() (bytes int64, bounds bool) { return o.Capacity, true }

// Task is rebase.
func (o *Rebase) Task() Task {
	return Task{
		Name:  "rebase",
		Usage: "have a volume stand on another one, with the content that it has",
		Description: "Where the new backing has another content than the old one, that of the old one is copied into the\n" +
			"volume, and then its header names the new one. The content stays the same, at any time.",
		Example: `--target vm1.qcow2 --layer '{"path":"/i/old.raw","format":"raw"}' --onto '{"path":"/i/new.raw","format":"raw"}'`,
		Flags: append(append(append(append(o.Volume.flags("target"), o.Volume.known(), imageFormat(&o.Format)), o.Chain.flags("layer")...), o.Onto.flags("onto")...),
			append(o.Sealed.flags(&o.Chain.Secret), resume(&o.Resume))...),
	}
}

// RebaseRequest asks to have a volume stand on another one, Backing: POOL/NAME, or a
// name in its own pool.
type RebaseRequest struct {
	Backing string `json:"backing"`
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

// Plan refuses a volume that stands on the one itself.
func (r *RebaseRequest) Plan(k Known) (Operation, error) {
	if err := k.detachable(); err != nil {
		return nil, err
	}
	pool, name, err := backingOf(k.Volume.Pool, r.Backing)
	if err != nil {
		return nil, err
	}
	chain, err := k.Chain()
	onto, wrong := k.Under(pool, name)
	if err := cmp.Or(err, wrong); err != nil {
		return nil, err
	}
	for _, l := range onto.Layers {
		if l.Pool == k.Volume.Pool && l.Name == k.Volume.Name {
			return nil, record.Errorf(record.Invalid, "volume %s would stand on itself", record.Quoted(l.Pool, l.Name))
		}
	}
	return &Rebase{Volume: k.On, Chain: chain, Onto: onto, Format: k.Volume.Format, Capacity: k.Volume.Capacity}, nil
}
