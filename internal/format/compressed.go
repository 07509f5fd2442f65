package format

import (
	"encoding/binary"
	"io"
)

const (
	// sampledTables is of how many tables of a qcow2 the beginning is looked at.
	sampledTables = 8
	// sampledBytes is how much of a table.
	sampledBytes = 4096

	qcow2Offset     = 1<<56 - 1<<9 // of an entry of a table
	qcow2Compressed = 1 << 62      // of an entry of an L2 table
)

// Compressed guesses whether most of the content that an image holds is compressed,
// from a few places: a hint for who reads it, which nothing but speed may rest on.
// size is the length of f, bytes. What cannot be read is not compressed.
func Compressed(f io.ReaderAt, size int64, format string) bool {
	s, err := newSource(f, size)
	if err != nil {
		return false
	}
	defer s.done()
	switch format {
	case "vmdk":
		return string(s.at(0, 4)) == "KDMV" && s.little32(8)&vmdkCompressed != 0
	case "qcow2":
		return isQcow2(s) && s.qcow2Compressed()
	}
	return false
}

// qcow2Compressed samples the tables.
func (s *source) qcow2Compressed() bool {
	tables, packed, clusters := 0, 0, 0
	step := 1
	if s.qcow2Incompatible()&qcow2ExtendedL2 != 0 {
		step = 2
	}
	for _, table := range words(s.at(int64(s.big64(40)), int(min(8*uint64(s.big32(36)), sampledBytes)))) {
		if table &= qcow2Offset; table == 0 || tables == sampledTables {
			continue
		}
		tables++
		for i, entry := range words(s.at(int64(table), sampledBytes)) {
			if entry == 0 || i%step != 0 {
				continue
			}
			clusters++
			if entry&qcow2Compressed != 0 {
				packed++
			}
		}
	}
	return packed > clusters/2
}

func words(b []byte) (list []uint64) {
	for ; len(b) >= 8; b = b[8:] {
		list = append(list, binary.BigEndian.Uint64(b))
	}
	return list
}
