package virtrpc

import (
	"path/filepath"

	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/virtrpc/wire"
	"storaged/internal/virtrpc/xdr"
	"storaged/internal/virtxml"
)

// volumeLooks are the procedures that look at volumes.
func volumeLooks() []procedure {
	return []procedure{
		{wire.StorageVolLookupByName, "virStorageVolLookupByName", reads, with(lookupVolByName)},
		{wire.StorageVolLookupByKey, "virStorageVolLookupByKey", reads, with(lookupVolByKey)},
		{wire.StorageVolLookupByPath, "virStorageVolLookupByPath", reads, with(lookupVolByPath)},
		{wire.StorageVolGetInfo, "virStorageVolGetInfo", reads, with(volInfo)},
		{wire.StorageVolGetInfoFlags, "virStorageVolGetInfoFlags", reads, with(volInfoFlags)},
		{wire.StorageVolGetXMLDesc, "virStorageVolGetXMLDesc", reads, with(volXML)},
		{wire.StorageVolGetPath, "virStorageVolGetPath", reads, with(volPath)},
	}
}

func lookupVolByName(c *call, a wire.PoolText) (xdr.Value, error) {
	p, err := c.pool(a.Pool)
	if err != nil {
		return nil, err
	}
	v, err := c.volumeOf(p, a.Text)
	if err != nil {
		return nil, err
	}
	return new(wireVol(v)), nil
}

func lookupVolByKey(c *call, key wire.Text) (xdr.Value, error) {
	return c.firstVol(contract.VolumeFilter{Keys: []string{string(key)}},
		wire.Failf(wire.FromStorage, wire.NoStorageVol, "no storage vol with matching key %s", key))
}

func lookupVolByPath(c *call, path wire.Text) (xdr.Value, error) {
	return c.firstVol(contract.VolumeFilter{Paths: []string{filepath.Clean(string(path))}},
		wire.Failf(wire.FromStorage, wire.NoStorageVol, "no storage vol with matching path '%s'", path))
}

// firstVol names the first volume of active pools that is selected.
func (c *call) firstVol(f contract.VolumeFilter, none error) (xdr.Value, error) {
	all, err := c.svc.Volumes(c.ctx(), f)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, none
	}
	return new(wireVol(all[0])), nil
}

// volTypes are what clients call the types of volumes.
var volTypes = map[string]wire.VolType{
	"file": wire.VolFile, "block": wire.VolBlock, "dir": wire.VolDir, "network": wire.VolNetwork, "netdir": wire.VolNetDir, "ploop": wire.VolPloop,
}

func volInfo(c *call, a wire.Vol) (xdr.Value, error) { return infoOf(c.volSizes(a)) }

func infoOf(v record.Volume, err error) (xdr.Value, error) {
	if err != nil {
		return nil, err
	}
	return &wire.VolInfo{Type: volTypes[v.Type], Capacity: uint64(v.Capacity), Allocation: uint64(v.Allocation)}, nil
}

// infoPhysical asks for the size of the file instead of what it allocates:
// VIR_STORAGE_VOL_GET_PHYSICAL.
const infoPhysical wire.Flags = 1

func volInfoFlags(c *call, a wire.VolFlags) (xdr.Value, error) {
	if err := c.flags(a.Flags, infoPhysical); err != nil {
		return nil, err
	}
	v, err := c.volSizes(a.Vol)
	if a.Flags&infoPhysical != 0 {
		v.Allocation = v.Length
	}
	return infoOf(v, err)
}

func volXML(c *call, a wire.VolFlags) (xdr.Value, error) {
	if err := c.flags(a.Flags, 0); err != nil {
		return nil, err
	}
	v, err := c.volNow(a.Vol)
	if err != nil {
		return nil, err
	}
	doc := virtxml.OfVolume(v)
	if p, err := c.svc.Pool(c.ctx(), v.Pool); err == nil { // else it has just gone
		doc.In(p.Type)
	}
	if v.Parent != nil {
		if other, err := c.svc.Volume(c.ctx(), v.Parent.Pool, v.Parent.Volume); err == nil { // else it has just gone
			doc.Stand(other)
		}
	}
	return new(wire.Text(doc.Format())), nil
}

func volPath(c *call, a wire.Vol) (xdr.Value, error) {
	v, err := c.vol(a)
	return new(wire.Text(v.Path)), err
}
