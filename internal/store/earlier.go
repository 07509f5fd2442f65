package store

import (
	"bytes"
	"encoding/json"

	"storaged/internal/record"
)

// What follows reads also records of earlier versions, which had identities in
// parts. They are told by the member that no other has: to look for it costs a
// twentieth of what a decoder of their own would.

// partsOfIdentity is how the JSON of such a record looks, as encoding/json writes
// it: within a string its quotes would be escaped.
var partsOfIdentity = []byte(`"inode":`)

// earlier is implemented by records that had identities in parts.
type earlier interface{ readEarlier(body []byte) error }

func readEarlier(body []byte, into any) error {
	if e, ok := into.(earlier); ok && bytes.Contains(body, partsOfIdentity) {
		return e.readEarlier(body)
	}
	return nil
}

func (p *Pool) readEarlier(body []byte) error {
	var text struct {
		Device uint64 `json:"device"`
		Inode  uint64 `json:"inode"`
		Stamp  string `json:"stamp"`
	}
	err := json.Unmarshal(body, &text)
	if p.Identity == "" {
		p.Identity = record.EarlierIdentity(text.Device, text.Inode, text.Stamp)
	}
	return err
}

func (v *Volume) readEarlier(body []byte) error {
	var text struct {
		earlierFile
		References []earlierFile `json:"references"`
	}
	err := json.Unmarshal(body, &text)
	text.identify(&v.Identity)
	for i := range min(len(v.References), len(text.References)) {
		text.References[i].identify(&v.References[i].Identity)
	}
	return err
}

// earlierFile are the parts of a file's identity.
type earlierFile struct {
	Device  uint64 `json:"device"`
	Inode   uint64 `json:"inode"`
	BirthNS int64  `json:"birth_ns"`
}

func (f earlierFile) identify(identity *string) {
	if *identity == "" {
		*identity = record.EarlierFile(f.Device, f.Inode, f.BirthNS)
	}
}
