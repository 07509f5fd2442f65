package virtrpc

import (
	"storaged/internal/virtrpc/wire"
	"storaged/internal/virtrpc/xdr"
	"storaged/internal/virtxml"
)

// poolSources is the procedure that looks for the storage that pools could be made of.
func poolSources() []procedure {
	return []procedure{{wire.ConnectFindStoragePoolSources, "virConnectFindStoragePoolSources", writes, with(findSources)}}
}

// findSources refuses: no type of pools that there is can be looked for.
func findSources(c *call, a wire.SourcesArgs) (xdr.Value, error) {
	if err := c.flags(a.Flags, 0); err != nil {
		return nil, err
	}
	switch number := virtxml.Number(a.Type); {
	case number < 0:
		return nil, wire.Failf(wire.FromStorage, wire.InternalError, "unknown storage pool type %s", a.Type)
	case !c.makes(a.Type):
		return nil, missingBackend(a.Type)
	}
	return nil, wire.Failf(wire.FromStorage, wire.NoSupport, "pool type '%s' does not support source discovery", a.Type)
}
