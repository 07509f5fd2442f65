package operation

import "storaged/internal/record"

// OnPool is what operations on a pool have in common. Each is safe to repeat:
// there is nothing to settle.
type OnPool struct {
	Terms
	Volume // of which only the pool counts
}

func newOnPool() OnPool { return OnPool{Volume: Volume{Type: defaultType}} }

// Class: it takes no longer than a look at a directory.
func (*OnPool) Class() record.Class { return record.Normal }

// Locks the pool against everybody.
func (o *OnPool) Locks() []record.Object { return []record.Object{o.lock(record.ModeDelete)} }

// Beside is embedded by operations that write to the source of a pool, or mount it, and
// so must leave those of other pools alone.
type Beside struct {
	Spared []string `json:"-"` // source devices of other pools, when the job begins
}

// Spare says which devices are other pools'.
func (b *Beside) Spare(devices []string) { b.Spared = devices }

func (b *Beside) flags() []Flag {
	return []Flag{{Name: "spare", Usage: "refuse if the pool's storage is on this `DEVICE`, which is another pool's; may be repeated", value: (*list)(&b.Spared)}}
}

// Sparing is an operation that leaves devices of other pools alone.
type Sparing interface{ Spare(devices []string) }

// Active refuses a pool that is not in use.
func Active(p record.Pool) error {
	if p.State != record.PoolInactive {
		return nil
	}
	return record.Errorf(record.WrongState, "pool %q is not active", p.Name).WithHint("%s", record.Do("pool.start", p.Name))
}

// Inactive refuses a pool that is in use.
func Inactive(p record.Pool) error {
	if p.State == record.PoolInactive {
		return nil
	}
	return record.Errorf(record.WrongState, "pool %q is %s", p.Name, p.State).WithHint("%s", record.Do("pool.stop", p.Name))
}
