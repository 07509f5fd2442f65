package virtrpc

import (
	"path/filepath"
	"slices"

	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/virtrpc/wire"
	"storaged/internal/virtrpc/xdr"
	"storaged/internal/virtxml"
)

// poolLooks are the procedures that look at pools.
func poolLooks() []procedure {
	return []procedure{
		{wire.ConnectNumOfStoragePools, "virConnectNumOfStoragePools", reads, with(numOfPools(active))},
		{wire.ConnectListStoragePools, "virConnectListStoragePools", reads, with(listPools(active))},
		{wire.ConnectNumOfDefinedStoragePools, "virConnectNumOfDefinedStoragePools", reads, with(numOfPools(inactive))},
		{wire.ConnectListDefinedStoragePools, "virConnectListDefinedStoragePools", reads, with(listPools(inactive))},
		{wire.ConnectListAllStoragePools, "virConnectListAllStoragePools", reads, with(listAllPools)},
		{wire.StoragePoolLookupByName, "virStoragePoolLookupByName", reads, with(lookupPoolByName)},
		{wire.StoragePoolLookupByUUID, "virStoragePoolLookupByUUID", reads, with(lookupPoolByUUID)},
		{wire.StoragePoolLookupByVolume, "virStoragePoolLookupByVolume", reads, with(lookupPoolByVolume)},
		{wire.StoragePoolLookupByTargetPath, "virStoragePoolLookupByTargetPath", reads, with(lookupPoolByPath)},
		{wire.StoragePoolGetInfo, "virStoragePoolGetInfo", reads, with(poolInfo)},
		{wire.StoragePoolGetXMLDesc, "virStoragePoolGetXMLDesc", reads, with(poolXML)},
		{wire.ConnectGetStoragePoolCapabilities, "virConnectGetStoragePoolCapabilities", reads, with(poolCapabilities)},
		{wire.StoragePoolGetAutostart, "virStoragePoolGetAutostart", reads, with(truth(func(p record.Pool) bool { return p.Autostart }))},
		{wire.StoragePoolIsActive, "virStoragePoolIsActive", reads, with(truth(active))},
		{wire.StoragePoolIsPersistent, "virStoragePoolIsPersistent", reads, with(truth(func(p record.Pool) bool { return p.Persistent }))},
		{wire.StoragePoolNumOfVolumes, "virStoragePoolNumOfVolumes", reads, with(numOfVolumes)},
		{wire.StoragePoolListVolumes, "virStoragePoolListVolumes", reads, with(listVolumes)},
		{wire.StoragePoolListAllVolumes, "virStoragePoolListAllVolumes", reads, with(listAllVolumes)},
	}
}

func inactive(p record.Pool) bool { return !active(p) }

// pools gives those that are selected, by name.
func (c *call) pools(selected func(record.Pool) bool) ([]record.Pool, error) {
	all, err := c.svc.Pools(c.ctx())
	return slices.DeleteFunc(all, func(p record.Pool) bool { return !selected(p) }), err
}

func numOfPools(which func(record.Pool) bool) func(*call, wire.None) (xdr.Value, error) {
	return func(c *call, _ wire.None) (xdr.Value, error) {
		pools, err := c.pools(which)
		return new(wire.Int(len(pools))), err
	}
}

func listPools(which func(record.Pool) bool) func(*call, wire.Int) (xdr.Value, error) {
	return func(c *call, most wire.Int) (xdr.Value, error) {
		pools, err := c.pools(which)
		if err != nil {
			return nil, err
		}
		return firstNames(pools, int(most), "POOL", func(p record.Pool) string { return p.Name })
	}
}

// firstNames gives names, no more than the client has room for.
func firstNames[T any](all []T, asked int, of string, name func(T) string) (xdr.Value, error) {
	if asked < 0 || asked > wire.MaxNames {
		return nil, wire.Failf(wire.FromRPC, wire.RPCError, "maxnames > REMOTE_STORAGE_%s_LIST_MAX", of)
	}
	names := wire.Names{}
	for _, v := range all[:min(len(all), asked)] {
		names = append(names, name(v))
	}
	return &names, nil
}

// Flags of virConnectListAllStoragePools: of each group any of the bits that are set,
// and all if none is. Behind them there is a bit for each type.
const (
	listInactive wire.Flags = 1 << iota
	listActive
	listPersistent
	listTransient
	listAutostart
	listNoAutostart
	listFirstType
)

// poolTypes are the types of pools in the order of their bits.
var poolTypes = []string{
	"dir", "fs", "netfs", "logical", "disk", "iscsi", "scsi", "mpath", "rbd", "sheepdog", "gluster", "zfs", "vstorage", "iscsi-direct",
}

func listAllPools(c *call, a wire.ListArgs) (xdr.Value, error) {
	if err := c.flags(a.Flags, listFirstType<<len(poolTypes)-1); err != nil {
		return nil, err
	}
	pools, err := c.pools(func(p record.Pool) bool { return selects(a.Flags, p) })
	if err != nil {
		return nil, err
	}
	out := wire.Pools{Count: uint32(len(pools))}
	if a.Need == 0 {
		return &out, nil
	}
	for _, p := range pools {
		out.Pools = append(out.Pools, wirePool(p))
	}
	return &out, nil
}

// selects reports whether a pool is among those that the flags ask for.
func selects(asked wire.Flags, p record.Pool) bool {
	either := func(yes, no wire.Flags, is bool) bool {
		return asked&(yes|no) == 0 || is && asked&yes != 0 || !is && asked&no != 0
	}
	types := asked &^ (listFirstType - 1)
	kind := slices.Index(poolTypes, p.Type)
	return either(listActive, listInactive, active(p)) && either(listPersistent, listTransient, p.Persistent) && either(listAutostart, listNoAutostart, p.Autostart) &&
		(types == 0 || kind >= 0 && types&(listFirstType<<kind) != 0)
}

func lookupPoolByName(c *call, name wire.Text) (xdr.Value, error) {
	return named(c.poolNamed(string(name)))
}

// named names the pool that was found.
func named(p record.Pool, err error) (xdr.Value, error) {
	if err != nil {
		return nil, err
	}
	return new(wirePool(p)), nil
}

func lookupPoolByUUID(c *call, id wire.UUID) (xdr.Value, error) {
	return named(c.pool(wire.Pool{UUID: id}))
}

func lookupPoolByVolume(c *call, v wire.Vol) (xdr.Value, error) { return named(c.poolNamed(v.Pool)) }

// lookupPoolByPath finds an active pool by its target.
func lookupPoolByPath(c *call, path wire.Text) (xdr.Value, error) {
	pools, err := c.pools(func(p record.Pool) bool {
		return active(p) && p.Target.Path != "" && filepath.Clean(string(path)) == filepath.Clean(p.Target.Path)
	})
	if err != nil {
		return nil, err
	}
	if len(pools) == 0 {
		return nil, wire.Failf(wire.FromStorage, wire.NoStoragePool, "no storage pool with matching target path '%s'", path)
	}
	return named(pools[0], nil)
}

// poolStates are what clients are shown of states.
var poolStates = map[record.PoolState]wire.PoolState{
	record.PoolInactive:    wire.PoolInactive,
	record.PoolStarting:    wire.PoolInactive,
	record.PoolBuilding:    wire.PoolBuilding,
	record.PoolActive:      wire.PoolRunning,
	record.PoolStopping:    wire.PoolRunning,
	record.PoolDegraded:    wire.PoolDegraded,
	record.PoolUnreachable: wire.PoolInaccessible,
}

func poolInfo(c *call, a wire.Pool) (xdr.Value, error) {
	p, err := c.pool(a)
	if err != nil {
		return nil, err
	}
	info := wire.PoolInfo{State: poolStates[p.State]}
	if active(p) {
		info.Capacity, info.Allocation, info.Available = uint64(p.Capacity), uint64(p.Allocation), uint64(p.Available)
	}
	return &info, nil
}

// xmlInactive asks for a pool as it is from when it is not in use any more:
// VIR_STORAGE_XML_INACTIVE.
const xmlInactive wire.Flags = 1

func poolXML(c *call, a wire.PoolFlags) (xdr.Value, error) {
	if err := c.flags(a.Flags, xmlInactive); err != nil {
		return nil, err
	}
	p, err := c.pool(a.Pool)
	if err != nil {
		return nil, err
	}
	if a.Flags&xmlInactive != 0 && p.Next != nil {
		p = record.Pool{Name: p.Name, UUID: p.UUID, Type: p.Type, Target: p.Next.Target, Source: p.Next.Source}
	}
	return new(wire.Text(virtxml.OfPool(p).Format())), nil
}

func poolCapabilities(c *call, flags wire.Flags) (xdr.Value, error) {
	if err := c.flags(flags, 0); err != nil {
		return nil, err
	}
	return new(wire.Text(virtxml.FormatPoolCapabilities(c.svc.Capabilities()))), nil
}

// truth answers a question about a pool.
func truth(is func(record.Pool) bool) func(*call, wire.Pool) (xdr.Value, error) {
	return func(c *call, a wire.Pool) (xdr.Value, error) {
		p, err := c.pool(a)
		if err != nil {
			return nil, err
		}
		answer := wire.Int(0)
		if is(p) {
			answer = 1
		}
		return &answer, nil
	}
}

// volumes gives those of an active pool, by name.
func (c *call) volumes(a wire.Pool) ([]record.Volume, error) {
	p, err := c.activePool(a)
	if err != nil {
		return nil, err
	}
	return c.svc.Volumes(c.ctx(), contract.VolumeFilter{Pools: []string{p.Name}})
}

func numOfVolumes(c *call, a wire.Pool) (xdr.Value, error) {
	all, err := c.volumes(a)
	return new(wire.Int(len(all))), err
}

func listVolumes(c *call, a wire.PoolInt) (xdr.Value, error) {
	all, err := c.volumes(a.Pool)
	if err != nil {
		return nil, err
	}
	return firstNames(all, int(a.N), "VOL", func(v record.Volume) string { return v.Name })
}

func listAllVolumes(c *call, a wire.PoolListArgs) (xdr.Value, error) {
	if err := c.flags(a.Flags, 0); err != nil {
		return nil, err
	}
	all, err := c.volumes(a.Pool)
	if err != nil {
		return nil, err
	}
	out := wire.Vols{Count: uint32(len(all))}
	if a.Need == 0 {
		return &out, nil
	}
	for _, v := range all {
		out.Vols = append(out.Vols, wireVol(v))
	}
	return &out, nil
}
