package catalog

import (
	"storaged/internal/backends"
	"storaged/internal/backends/all"
	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/store"
)

// What only the driver of a pool's type knows is asked of it here. None of this
// is I/O on a pool. A pool of a type that this version does not have is like none.

// Capabilities of a pool type.
func Capabilities(poolType string) (record.Capabilities, error) {
	b, err := all.Lookup(poolType)
	if err != nil {
		return record.Capabilities{}, record.Errorf(record.Unsupported, "%v", err).WithHint("%s", record.Do("capabilities"))
	}
	return b.Properties(), nil
}

// CheckSource refuses a source that the type's driver can do nothing with.
func CheckSource(poolType string, s record.Source) error {
	b, err := all.Lookup(poolType)
	if c, ok := b.(backends.SourceChecker); err == nil && ok {
		return c.CheckSource(s)
	}
	return nil
}

// TargetOf is the target of a pool with a source that was checked: the one that is given,
// or where such pools lie in any case.
func TargetOf(poolType string, s record.Source, given string) (string, error) {
	b, err := all.Lookup(poolType)
	placed, ok := b.(backends.Placed)
	if err != nil || !ok {
		return given, nil
	}
	is := placed.TargetOf(s)
	if given != "" && given != is {
		return "", record.Errorf(record.Invalid, "a pool of type %s with that source lies at %q, and not at %q", poolType, is, given)
	}
	return is, nil
}

// Able refuses an operation that the types of its pools are not able to do.
func Able(o operation.Operation) error {
	can, err := Capabilities(o.On().Type)
	if err == nil {
		err = can.Can(o.Kind())
	}
	to := operation.Destination(o)
	if err != nil || to == nil || to.Pool == "" {
		return err
	}
	if can, err = Capabilities(to.Type); err == nil {
		err = can.Can(record.VolumeCreate)
	}
	return err
}

// Lasting is what of a pool's identity is the same after a reboot, or when its
// target was mounted anew.
func Lasting(poolType, id string) string {
	b, err := all.Lookup(poolType)
	if err != nil {
		return id
	}
	return string(b.Lasting(backends.Identity(id)))
}

// isIdentity reports whether a text is one that the type's driver may have made.
func isIdentity(poolType, text string) bool {
	b, err := all.Lookup(poolType)
	return err == nil && b.CheckIdentity(backends.Identity(text)) == nil
}

// sameObject reports whether what is found is what is known.
func sameObject(poolType, known, found string) bool {
	b, err := all.Lookup(poolType)
	return err == nil && b.Same(backends.Identity(known), backends.Identity(found))
}

// sameVolume reports whether the volume found is the one that is known, of before
// a reboot perhaps. What nobody has looked at yet is taken for what it was: else a
// guest's header in a raw volume would be believed.
func sameVolume(poolType, known, found string) bool {
	return sameObject(poolType, Lasting(poolType, known), found)
}

// recognized reports whether a volume that was found by whatever name is surely the one that
// is known, of before a reboot perhaps.
func recognized(poolType, known, found string) bool {
	b, err := all.Lookup(poolType)
	return err == nil && b.Recognizes(backends.Identity(known), backends.Identity(found))
}

// oneStore reports whether volumes get from one of two pools of a type to the
// other without a copy.
func oneStore(poolType, a, b string) bool {
	driver, err := all.Lookup(poolType)
	return err == nil && driver.Together(backends.Identity(a), backends.Identity(b))
}

// unshared reports whether volumes of a pool of a type share no blocks with those of
// another, of whatever type that is.
func unshared(poolType, a, b string) bool {
	driver, err := all.Lookup(poolType)
	s, ok := driver.(backends.Separator)
	return err == nil && ok && s.Apart(backends.Identity(a), backends.Identity(b))
}

// nameable refuses a name that volumes of the pool's type cannot have.
func nameable(p *store.Pool, name string) error {
	b, err := all.Lookup(p.Type)
	if n, ok := b.(backends.Namer); err == nil && ok {
		err = n.CheckNameIn(poolOf(p), name)
	} else if err == nil {
		err = b.CheckName(name)
	}
	if err != nil {
		return record.Errorf(record.Invalid, "volume of pool %q: %v", p.Name, err)
	}
	return nil
}

// locationOf tells where a volume of a pool is, or will be.
func locationOf(p *store.Pool, name string) backends.Location {
	b, err := all.Lookup(p.Type)
	if err != nil {
		return backends.Location{}
	}
	return b.Locate(poolOf(p), name)
}

// draftPath is where a job makes a volume of the pool.
func draftPath(p *store.Pool, job string) string {
	b, err := all.Lookup(p.Type)
	if err != nil {
		return ""
	}
	return b.LocateDraft(poolOf(p), job)
}

// poolOf is the pool as its driver has it.
func poolOf(p *store.Pool) backends.Pool {
	return backends.Pool{Type: p.Type, Target: p.Target.Path, Source: p.Source}
}

// targetOf is the target of the pool that a volume of that path is in.
func targetOf(poolType, path string) string {
	target, _ := targetAndName(poolType, path)
	return target
}

// targetAndName are those of a volume of that path.
func targetAndName(poolType, path string) (target, name string) {
	b, err := all.Lookup(poolType)
	if err != nil {
		return "", ""
	}
	return b.Parse(path)
}
