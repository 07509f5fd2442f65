package virtrpc

import (
	"math"
	"slices"

	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/virtrpc/wire"
	"storaged/internal/virtrpc/xdr"
	"storaged/internal/virtxml"
)

// volumeChanges are the procedures that do something to volumes.
func volumeChanges() []procedure {
	return []procedure{
		{wire.StorageVolCreateXML, "virStorageVolCreateXML", writes, with(createVol)},
		{wire.StorageVolCreateXMLFrom, "virStorageVolCreateXMLFrom", writes, with(createVolFrom)},
		{wire.StorageVolDelete, "virStorageVolDelete", writes, with(deleteVol)},
		{wire.StorageVolWipe, "virStorageVolWipe", writes, with(wipeVol)},
		{wire.StorageVolWipePattern, "virStorageVolWipePattern", writes, with(wipeVolPattern)},
		{wire.StorageVolResize, "virStorageVolResize", writes, with(resizeVol)},
	}
}

// Flags of virStorageVolCreateXML and virStorageVolCreateXMLFrom.
const (
	createMetadata wire.Flags = 1
	createReflink  wire.Flags = 2
	createValidate wire.Flags = 4
)

func createVol(c *call, a wire.VolCreateArgs) (xdr.Value, error) {
	if err := c.flags(a.Flags, createMetadata|createValidate); err != nil {
		return nil, err
	}
	p, err := c.activePool(a.Pool)
	if err != nil {
		return nil, err
	}
	doc, err := virtxml.ParseVolume([]byte(a.XML), p.Type)
	if err != nil {
		return nil, err
	}
	if _, err := c.svc.Volume(c.ctx(), p.Name, doc.Name); err == nil {
		return nil, wire.Failf(wire.FromStorage, wire.StorageVolExist, "%s", doc.Name)
	}
	if !c.can(p.Type, "create") {
		return nil, wire.Failf(wire.FromStorage, wire.NoSupport, "storage pool does not support volume creation")
	}
	r, err := c.creation(doc, a.Flags)
	if err != nil {
		return nil, err
	}
	return c.made(p, doc.Name, r)
}

// creation asks for the volume that a document describes.
func (c *call) creation(doc virtxml.Volume, flags wire.Flags) (*operation.CreateRequest, error) {
	r, err := doc.Create()
	if err != nil {
		return nil, err
	}
	if flags&createMetadata != 0 {
		if r.Format == record.FormatRaw {
			return nil, wire.Failf(wire.FromStorage, wire.InvalidArg, "metadata preallocation is not supported for raw volumes")
		}
		r.Options["preallocation"] = preallocated(doc)
	}
	if err := possible(doc); err != nil {
		return nil, err
	}
	if doc.Backing != nil {
		if r.Backing, r.Capacity, err = c.backing(doc.Backing.Path, r.Capacity); err != nil {
			return nil, err
		}
	}
	if x := doc.Target.Encryption; x != nil {
		r.Secret = x.Secret()
	}
	return &r, nil
}

// preallocated is what is made beforehand of an image whose tables are to be: all, unless
// the document says that it needs less.
func preallocated(doc virtxml.Volume) string {
	if doc.Allocation == nil || doc.Capacity != nil && *doc.Allocation >= *doc.Capacity {
		return "falloc"
	}
	return "metadata"
}

// possible refuses in libvirt's words what no image can be.
func possible(doc virtxml.Volume) error {
	t := doc.Target
	switch {
	case doc.Backing != nil && t.OurFormat() == record.FormatRaw:
		return wire.Failf(wire.FromStorage, wire.NoSupport, "backing storage not supported for raw volumes")
	case t.Compat == "0.10" && slices.Contains(t.Features, "lazy_refcounts"):
		return wire.Failf(wire.FromStorage, wire.ConfigUnsupported, "lazy_refcounts not supported with compat level 0.10")
	}
	return nil
}

// backing names the volume at a path, which another is to stand on, and gives the other's
// capacity: that of the volume, if none is said.
func (c *call) backing(path string, capacity int64) (string, int64, error) {
	all, err := c.svc.Volumes(c.ctx(), contract.VolumeFilter{Paths: []string{path}})
	switch {
	case err != nil:
		return "", 0, err
	case len(all) == 0:
		return "", 0, wire.Failf(wire.FromStorage, wire.SystemError, "inaccessible backing store volume %s: it is no volume of an active pool", path)
	case capacity == 0:
		capacity = all[0].Capacity
	}
	return all[0].Pool + "/" + all[0].Name, capacity, nil
}

// made has a volume made, and names it.
func (c *call) made(p record.Pool, name string, r operation.Request) (xdr.Value, error) {
	if _, err := c.do(p.Name, "", r); err != nil {
		return nil, poolInUse(p, err)
	}
	v, err := c.volumeOf(p, name)
	if err != nil {
		return nil, err
	}
	return new(wireVol(v)), nil
}

func createVolFrom(c *call, a wire.VolCreateFromArgs) (xdr.Value, error) {
	if err := c.flags(a.Flags, createMetadata|createReflink|createValidate); err != nil {
		return nil, err
	}
	p, err := c.activePool(a.Pool)
	if err != nil {
		return nil, err
	}
	from, err := c.vol(a.From)
	if err != nil {
		return nil, err
	}
	doc, err := virtxml.ParseVolume([]byte(a.XML), p.Type)
	if err != nil {
		return nil, err
	}
	if _, err := c.svc.Volume(c.ctx(), p.Name, doc.Name); err == nil {
		return nil, wire.Failf(wire.FromStorage, wire.InternalError, "storage volume name '%s' already in use.", doc.Name)
	}
	if a.Flags&createMetadata != 0 && doc.Target.OurFormat() == record.FormatRaw {
		return nil, wire.Failf(wire.FromStorage, wire.ConfigUnsupported, "metadata preallocation is not supported for raw volumes")
	}
	r := cloneOf(doc, from)
	if a.Flags&createMetadata != 0 {
		r.Format, r.Options = doc.Target.OurFormat(), doc.Target.Options()
		r.Options["preallocation"] = preallocated(doc)
		if x := doc.Target.Encryption; x != nil { // its content is copied, and not the file
			r.Secret = x.Secret()
		}
	}
	r.Rights = doc.Target.Permissions.Rights()
	r.Pool = p.Name
	if a.Flags&createReflink != 0 {
		r.Reflink = "always"
	}
	if _, err := c.do(from.Pool, from.Name, r); err != nil {
		return nil, c.volInUse(from, err)
	}
	v, err := c.volumeOf(p, doc.Name)
	if err != nil {
		return nil, err
	}
	return new(wireVol(v)), nil
}

// cloneOf asks for the volume that a document describes, with the content of another:
// it is at least as large, and all of it is allocated unless the document says less.
func cloneOf(doc virtxml.Volume, from record.Volume) *operation.CloneRequest {
	r := &operation.CloneRequest{Name: doc.Name, Format: doc.Target.OurFormat(), Options: doc.Target.Options()}
	size := from.Capacity
	if doc.Capacity != nil {
		size = max(size, *doc.Capacity)
	}
	if size > from.Capacity {
		r.Size = size
	}
	if x := doc.Target.Encryption; x != nil && x.Secret() != from.Secret {
		r.Secret = x.Secret()
	} else if r.Format == from.Format {
		r.Format, r.Options = "", nil
	}
	if made := doc.Target.OurFormat(); made != record.FormatRaw { // of an image nothing is reserved
		r.Sparse = made != from.Format
	} else {
		r.Sparse = doc.Allocation != nil && *doc.Allocation < size
	}
	return r
}

// Flags of virStorageVolDelete.
const (
	deleteZeroed        wire.Flags = 1
	deleteWithSnapshots wire.Flags = 2
)

func deleteVol(c *call, a wire.VolFlags) (xdr.Value, error) {
	if err := c.flags(a.Flags, deleteZeroed|deleteWithSnapshots); err != nil {
		return nil, err
	}
	if p, err := c.poolNamed(a.Vol.Pool); err == nil && !c.can(p.Type, "delete") {
		return nil, wire.Failf(wire.FromStorage, wire.NoSupport, "storage pool does not support vol deletion")
	}
	r := &operation.DeleteRequest{WithSnapshots: a.Flags&deleteWithSnapshots != 0}
	if a.Flags&deleteZeroed != 0 {
		r.Wipe, r.AcceptLimits = "zero", true
	}
	return nil, c.doVol(a.Vol, r)
}

// doVol has a job done to a volume.
func (c *call) doVol(a wire.Vol, r operation.Request) error {
	v, err := c.vol(a)
	if err != nil {
		return err
	}
	_, err = c.do(v.Pool, v.Name, r)
	return c.volInUse(v, err)
}

// algorithms are those of a wipe, in the order of virStorageVolWipeAlgorithm.
var algorithms = []string{"zero", "nnsa", "dod", "bsi", "gutmann", "schneier", "pfitzner7", "pfitzner33", "random", "trim"}

func wipeVol(c *call, a wire.VolFlags) (xdr.Value, error) {
	return wipeVolPattern(c, wire.VolWipeArgs{Vol: a.Vol, Flags: a.Flags})
}

// wipeVolPattern wipes. Where a file system may keep what was there before, libvirt does
// not say so, and its clients cannot be asked.
func wipeVolPattern(c *call, a wire.VolWipeArgs) (xdr.Value, error) {
	if err := c.flags(a.Flags, 0); err != nil {
		return nil, err
	}
	if a.Algorithm >= uint32(len(algorithms)) {
		return nil, wire.Failf(wire.FromStorage, wire.InvalidArg, "wiping algorithm %d not supported", int32(a.Algorithm))
	}
	return nil, c.doVol(a.Vol, &operation.WipeRequest{Algorithm: algorithms[a.Algorithm], AcceptLimits: true})
}

// Flags of virStorageVolResize.
const (
	resizeAllocate wire.Flags = 1
	resizeDelta    wire.Flags = 2
	resizeShrink   wire.Flags = 4
)

func resizeVol(c *call, a wire.VolResizeArgs) (xdr.Value, error) {
	if err := c.flags(a.Flags, resizeAllocate|resizeDelta|resizeShrink); err != nil {
		return nil, err
	}
	if a.Capacity == 0 && a.Flags&(resizeDelta|resizeShrink) == 0 {
		return nil, badArgument("capacity", "capacity in virStorageVolResize cannot be zero without 'delta' or 'shrink' flags set")
	}
	v, err := c.vol(a.Vol)
	if err != nil {
		return nil, err
	}
	capacity, err := resized(v, a)
	if err != nil {
		return nil, err
	}
	r := &operation.ResizeRequest{Capacity: capacity, Shrink: a.Flags&resizeShrink != 0, Allocate: a.Flags&resizeAllocate != 0}
	_, err = c.do(v.Pool, v.Name, r)
	return nil, c.volInUse(v, err)
}

// resized is the capacity that a volume is to have.
func resized(v record.Volume, a wire.VolResizeArgs) (int64, error) {
	shrink, has := a.Flags&resizeShrink != 0, uint64(v.Capacity)
	capacity := a.Capacity
	switch {
	case a.Flags&resizeDelta == 0:
	case shrink:
		capacity = has - min(has, a.Capacity)
	default:
		capacity = has + min(a.Capacity, math.MaxInt64)
	}
	switch {
	case capacity > math.MaxInt64:
		return 0, wire.Failf(wire.FromStorage, wire.Overflow, "capacity is too large")
	case capacity < uint64(v.Allocation) && v.Format == record.FormatRaw && !shrink:
		return 0, wire.Failf(wire.FromStorage, wire.InvalidArg, "can't shrink capacity below existing allocation")
	case capacity < has && !shrink:
		return 0, wire.Failf(wire.FromStorage, wire.InvalidArg, "Can't shrink capacity below current capacity unless shrink flag explicitly specified")
	}
	return int64(capacity), nil
}
