package store

import (
	"encoding/json"

	"storaged/internal/record"
)

// What follows reads also records of earlier versions, which had identities in
// parts.

func (p *Pool) UnmarshalJSON(b []byte) error {
	type pool Pool
	text := struct {
		*pool
		Device uint64 `json:"device"`
		Inode  uint64 `json:"inode"`
		Stamp  string `json:"stamp"`
	}{pool: (*pool)(p)}
	err := json.Unmarshal(b, &text)
	if p.Identity == "" {
		p.Identity = record.EarlierIdentity(text.Device, text.Inode, text.Stamp)
	}
	return err
}

func (v *Volume) UnmarshalJSON(b []byte) error {
	type volume Volume
	text := struct {
		*volume
		earlierFile
	}{volume: (*volume)(v)}
	err := json.Unmarshal(b, &text)
	text.identify(&v.Identity)
	return err
}

func (r *Reference) UnmarshalJSON(b []byte) error {
	type reference Reference
	text := struct {
		*reference
		earlierFile
	}{reference: (*reference)(r)}
	err := json.Unmarshal(b, &text)
	text.identify(&r.Identity)
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
