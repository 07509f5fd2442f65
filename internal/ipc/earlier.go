package ipc

import (
	"github.com/vmihailenco/msgpack/v5"

	"storaged/internal/record"
)

// What follows reads also what a helper of an earlier version reports, which had
// identities in parts.

func (p *Pool) DecodeMsgpack(dec *msgpack.Decoder) error {
	type pool Pool
	var wire struct {
		pool
		Device uint64 `msgpack:"device"`
		Inode  uint64 `msgpack:"inode"`
		Stamp  string `msgpack:"stamp"`
	}
	err := dec.Decode(&wire)
	*p = Pool(wire.pool)
	if p.Identity == "" {
		p.Identity = record.EarlierIdentity(wire.Device, wire.Inode, wire.Stamp)
	}
	return err
}

func (it *Item) DecodeMsgpack(dec *msgpack.Decoder) error {
	type item Item
	var wire struct {
		item
		earlierFile
	}
	err := dec.Decode(&wire)
	*it = Item(wire.item)
	wire.identify(&it.Identity)
	return err
}

func (r *Reference) DecodeMsgpack(dec *msgpack.Decoder) error {
	type reference Reference
	var wire struct {
		reference
		earlierFile
	}
	err := dec.Decode(&wire)
	*r = Reference(wire.reference)
	wire.identify(&r.Identity)
	return err
}

// earlierFile are the parts of a file's identity.
type earlierFile struct {
	Device  uint64 `msgpack:"device"`
	Inode   uint64 `msgpack:"inode"`
	BirthNS int64  `msgpack:"birth_ns"`
}

func (f earlierFile) identify(identity *string) {
	if *identity == "" {
		*identity = record.EarlierFile(f.Device, f.Inode, f.BirthNS)
	}
}
