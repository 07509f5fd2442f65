package virtrpc

import (
	"slices"

	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/virtrpc/wire"
	"storaged/internal/virtrpc/xdr"
	"storaged/internal/virtxml"
)

// poolSources is the procedure that looks for the storage that pools could be made of.
func poolSources() []procedure {
	return []procedure{{wire.ConnectFindStoragePoolSources, "virConnectFindStoragePoolSources", writes, with(findSources)}}
}

// findSources has a helper look for sources of a type.
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
	search := c.search(a.Type)
	if search == nil {
		return nil, wire.Failf(wire.FromStorage, wire.NoSupport, "pool type '%s' does not support source discovery", a.Type)
	}
	near, err := whereToLook(a, search)
	if err != nil {
		return nil, err
	}
	found, err := c.svc.FindSources(c.ctx(), c.caller, contract.SourcesFind{Type: a.Type, Source: near})
	return new(wire.Text(virtxml.FormatSources(a.Type, found))), err
}

// search is how sources of a type are looked for, nil: they are not.
func (c *call) search(poolType string) *record.Search {
	all := c.svc.Capabilities()
	return all[slices.IndexFunc(all, func(k record.Capabilities) bool { return k.Type == poolType })].Finds
}

// whereToLook reads the document of a search, which a type that wants to know nothing does
// not look at.
func whereToLook(a wire.SourcesArgs, search *record.Search) (near record.Source, err error) {
	hosts := slices.Contains(search.Needs, "source_hosts")
	if !hosts && len(search.Takes) == 0 {
		return near, nil
	}
	if a.Spec != nil {
		if near, err = virtxml.ParseSource(a.Type, []byte(*a.Spec)); err != nil {
			return near, err
		}
	}
	switch {
	case hosts && a.Spec == nil:
		return near, wire.Failf(wire.FromStorage, wire.InvalidArg, "hostname must be specified for %s sources", a.Type)
	case hosts && len(near.Hosts) != 1:
		code := wire.InternalError
		if a.Type == "netfs" {
			code = wire.ConfigUnsupported
		}
		return near, wire.Failf(wire.FromStorage, code, "Expected exactly 1 host for the storage pool")
	}
	return near, nil
}
