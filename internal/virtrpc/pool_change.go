package virtrpc

import (
	"slices"

	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/virtrpc/wire"
	"storaged/internal/virtrpc/xdr"
	"storaged/internal/virtxml"
)

// poolChanges are the procedures that do something to pools.
func poolChanges() []procedure {
	return []procedure{
		{wire.StoragePoolCreateXML, "virStoragePoolCreateXML", writes, with(createPool)},
		{wire.StoragePoolDefineXML, "virStoragePoolDefineXML", writes, with(definePool)},
		{wire.StoragePoolUndefine, "virStoragePoolUndefine", writes, with(undefinePool)},
		{wire.StoragePoolBuild, "virStoragePoolBuild", writes, with(buildPool)},
		{wire.StoragePoolCreate, "virStoragePoolCreate", writes, with(startPool)},
		{wire.StoragePoolDestroy, "virStoragePoolDestroy", writes, with(stopPool)},
		{wire.StoragePoolDelete, "virStoragePoolDelete", writes, with(deletePool)},
		{wire.StoragePoolRefresh, "virStoragePoolRefresh", writes, with(refreshPool)},
		{wire.StoragePoolSetAutostart, "virStoragePoolSetAutostart", writes, with(setAutostart)},
	}
}

// validate asks to hold a document against libvirt's schema: VIR_STORAGE_POOL_DEFINE_VALIDATE.
// Ours are always read strictly.
const validate wire.Flags = 1

func definePool(c *call, a wire.TextFlags) (xdr.Value, error) {
	if err := c.flags(a.Flags, validate); err != nil {
		return nil, err
	}
	r, old, err := c.definition(a.Text)
	if err != nil {
		return nil, err
	}
	if old == nil {
		p, _, err := c.svc.DefinePool(c.ctx(), c.submit(), r, false, false)
		return named(p, err)
	}
	r.Autostart = &old.Autostart
	p, err := c.svc.ReplacePool(c.ctx(), c.submit(), old.UUID, r)
	return named(p, poolInUse(*old, err))
}

// definition reads a document, and gives the pool that it is of, nil where it is a new one.
func (c *call) definition(text string) (r contract.PoolDefine, old *record.Pool, err error) {
	doc, err := virtxml.ParsePool([]byte(text))
	if err != nil {
		return r, nil, err
	}
	if !c.makes(doc.Type) {
		return r, nil, missingBackend(doc.Type)
	}
	r = doc.Define()
	old, err = c.defined(r)
	return r, old, err
}

// makes reports whether there are pools of a type.
func (c *call) makes(poolType string) bool { return c.can(poolType, "") }

// can reports whether there are pools of a type, and something can be done to their volumes.
func (c *call) can(poolType, verb string) bool {
	return slices.ContainsFunc(c.svc.Capabilities(), func(k record.Capabilities) bool {
		return k.Type == poolType && (verb == "" || slices.Contains(k.VolVerbs, verb))
	})
}

func missingBackend(poolType string) error {
	return wire.Failf(wire.FromStorage, wire.InternalError, "missing backend for pool type %d (%s)", virtxml.Number(poolType), poolType)
}

// createPool makes a pool that is there as long as it is active, or starts one that is
// defined.
func createPool(c *call, a wire.TextFlags) (xdr.Value, error) {
	if err := c.startFlags(a.Flags); err != nil {
		return nil, err
	}
	r, old, err := c.definition(a.Text)
	switch {
	case err != nil:
		return nil, err
	case old != nil && active(*old):
		return nil, wire.Failf(wire.FromStorage, wire.OperationInvalid, "pool is already active as '%s'", old.Name)
	case old != nil && !old.Definition().Is(record.Definition{Target: r.Target, Source: r.Source}):
		return nil, wire.Failf(wire.FromStorage, wire.OperationInvalid, "pool '%s' is defined otherwise: it is at %s", old.Name, old.Target.Path)
	case old != nil:
		return named(*old, c.activate(*old, a.Flags))
	}
	if a.Flags&startOverwrite != 0 && slices.Contains([]string{"fs", "logical", "disk"}, r.Type) {
		return nil, wire.Failf(wire.FromStorage, wire.OperationUnsup, "no pool that is forgotten when it stops overwrites a device: define pool '%s', build it with --overwrite, and start it", r.Name)
	}
	r.Transient = true
	p, st, err := c.svc.DefinePool(c.ctx(), c.submit(), r, a.Flags != 0, true)
	if _, err := c.await(st, err); err != nil {
		return nil, err
	}
	return named(p, nil)
}

// defined gives the pool that a definition is of, nil where it is a new one. It refuses
// one that has the name of one and the uuid of another, or none.
func (c *call) defined(r contract.PoolDefine) (*record.Pool, error) {
	if r.UUID != "" {
		p, err := c.svc.Pool(c.ctx(), r.UUID)
		switch {
		case err == nil && p.Name != r.Name:
			return nil, wire.Failf(wire.FromStorage, wire.OperationFailed, "pool '%s' is already defined with uuid %s", p.Name, p.UUID)
		case err == nil:
			return &p, nil
		case record.CodeOf(err) != record.NotFound:
			return nil, err
		}
	}
	p, err := c.svc.Pool(c.ctx(), r.Name)
	switch {
	case record.CodeOf(err) == record.NotFound:
		return nil, nil
	case err != nil:
		return nil, err
	}
	return nil, wire.Failf(wire.FromStorage, wire.OperationFailed, "pool '%s' already exists with uuid %s", p.Name, p.UUID)
}

// idle gives a pool that must not be in use; says is how libvirt says that it is.
func (c *call) idle(a wire.Pool, says string) (record.Pool, error) {
	p, err := c.pool(a)
	if err == nil && active(p) {
		err = wire.Failf(wire.FromStorage, wire.OperationInvalid, "storage pool '%s' is %s active", p.Name, says)
	}
	return p, err
}

func undefinePool(c *call, a wire.Pool) (xdr.Value, error) {
	p, err := c.idle(a, "still")
	if err != nil {
		return nil, err
	}
	_, err = c.svc.UndefinePool(c.ctx(), c.submit(), p.UUID, contract.PoolUndefine{})
	return nil, poolInUse(p, err)
}

// Flags of virStoragePoolBuild. To repair or to resize nothing of libvirt's does either.
const (
	buildNoOverwrite wire.Flags = 4
	buildOverwrite   wire.Flags = 8
)

func buildPool(c *call, a wire.PoolFlags) (xdr.Value, error) {
	if err := c.flags(a.Flags, buildNoOverwrite|buildOverwrite); err != nil {
		return nil, err
	}
	if err := exclusive(a.Flags, buildNoOverwrite, buildOverwrite); err != nil {
		return nil, err
	}
	p, err := c.idle(a.Pool, "already")
	if err != nil {
		return nil, err
	}
	err = c.build(p, a.Flags&buildOverwrite != 0)
	if a.Flags == 0 && p.Type == "fs" && record.CodeOf(err) == record.Exists { // then libvirt makes the directory alone
		err = nil
	}
	return nil, built(err)
}

// build builds a pool.
func (c *call) build(p record.Pool, overwrite bool) error {
	return c.doPool(p, &operation.PoolBuildRequest{Overwrite: overwrite})
}

// built is a refusal to build what is there already, as libvirt calls it.
func built(err error) error {
	if record.CodeOf(err) != record.Exists {
		return err
	}
	f := failureOf(err)
	is := wire.Failf(wire.FromStorage, wire.StoragePoolBuilt, "%s", f.Detail)
	is.Reason = f.Reason
	return is
}

// exclusive refuses two flags that say the opposite.
func exclusive(given, one, other wire.Flags) error {
	if given&one == 0 || given&other == 0 {
		return nil
	}
	return wire.Failf(wire.FromStorage, wire.InvalidArg, "Overwrite and no overwrite flags are mutually exclusive")
}

// doPool has a job done to a pool.
func (c *call) doPool(p record.Pool, r operation.Request) error {
	_, err := c.do(p.UUID, "", r)
	return poolInUse(p, err)
}

// Flags of virStoragePoolCreate and virStoragePoolCreateXML.
const (
	startBuild       wire.Flags = 1
	startOverwrite   wire.Flags = 2
	startNoOverwrite wire.Flags = 4
)

func startPool(c *call, a wire.PoolFlags) (xdr.Value, error) {
	if err := c.startFlags(a.Flags); err != nil {
		return nil, err
	}
	p, err := c.idle(a.Pool, "already")
	if err != nil {
		return nil, err
	}
	return nil, c.activate(p, a.Flags)
}

// startFlags refuses those that say the opposite, or nothing that is known.
func (c *call) startFlags(given wire.Flags) error {
	if err := c.flags(given, startBuild|startOverwrite|startNoOverwrite); err != nil {
		return err
	}
	return exclusive(given, startOverwrite, startNoOverwrite)
}

// activate starts a pool, which it builds before if one of the flags says so.
func (c *call) activate(p record.Pool, flags wire.Flags) error {
	if flags != 0 {
		if err := c.build(p, flags&startOverwrite != 0); err != nil {
			return built(err)
		}
	}
	return c.doPool(p, &operation.PoolStartRequest{})
}

func stopPool(c *call, a wire.Pool) (xdr.Value, error) {
	p, err := c.activePool(a)
	if err != nil {
		return nil, err
	}
	return nil, c.doPool(p, &operation.PoolStopRequest{})
}

func deletePool(c *call, a wire.PoolFlags) (xdr.Value, error) {
	if err := c.flags(a.Flags, 0); err != nil {
		return nil, err
	}
	p, err := c.idle(a.Pool, "still")
	if err != nil {
		return nil, err
	}
	return nil, c.doPool(p, &operation.PoolDeleteRequest{})
}

func refreshPool(c *call, a wire.PoolFlags) (xdr.Value, error) {
	if err := c.flags(a.Flags, 0); err != nil {
		return nil, err
	}
	p, err := c.activePool(a.Pool)
	if err != nil {
		return nil, err
	}
	return nil, c.doPool(p, &operation.PoolRefreshRequest{})
}

func setAutostart(c *call, a wire.PoolInt) (xdr.Value, error) {
	p, err := c.pool(a.Pool)
	if err != nil {
		return nil, err
	}
	if !p.Persistent {
		return nil, wire.Failf(wire.FromStorage, wire.InternalError, "pool has no config file")
	}
	_, err = c.svc.PatchPool(c.ctx(), c.submit(), p.UUID, contract.PoolPatch{Autostart: new(a.N != 0)})
	return nil, err
}
