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
