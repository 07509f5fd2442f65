package partition

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
)

const (
	bootSignature = "\x55\xaa"
	slotsAt       = 446 // of four entries
	slotBytes     = 16
	idAt          = 440 // of the disk's number
	primaries     = 4
	maxLogical    = 128 // more than any tool makes
	maxSectors    = 1<<32 - 1
	linuxType     = 0x83
	linkType      = 0x05 // of the entry that leads to the next record
	extendedType  = 0x0f
	// draftType is that of a partition that is being made. It is for what is local and
	// temporary (Alternative OS Development Partition Standard); whose it is says the place of
	// its addresses by cylinder, which nobody has read on disks of this size.
	draftType = 0x7f
	// draftHead begins that: no disk has so many heads.
	draftHead = 0xff
)

// beyond is the address by cylinder of what has none.
var beyond = [3]byte{0xfe, 0xff, 0xff}

// slot is an entry of a record. Places are sectors.
type slot struct {
	boot           byte
	from, to       [3]byte // by cylinder, head and sector
	kind           byte
	start, sectors int64
}

func (s slot) extended() bool { return s.kind == 0x05 || s.kind == 0x0f || s.kind == 0x85 }

type slots [primaries]slot

func slotsOf(b []byte) (all slots) {
	for i := range all {
		e := b[slotsAt+i*slotBytes:][:slotBytes]
		all[i] = slot{
			boot: e[0], from: [3]byte(e[1:4]), kind: e[4], to: [3]byte(e[5:8]),
			start: int64(binary.LittleEndian.Uint32(e[8:])), sectors: int64(binary.LittleEndian.Uint32(e[12:])),
		}
	}
	return all
}

// any reports whether one is of a type.
func (all slots) any(kind byte) bool {
	return slices.ContainsFunc(all[:], func(s slot) bool { return s.kind == kind })
}

// others reports whether one is of another type.
func (all slots) others(kind byte) bool {
	return slices.ContainsFunc(all[:], func(s slot) bool { return s.kind != kind && s.kind != 0 && s.sectors != 0 })
}

func putSlot(b []byte, i int, s slot) {
	if s.sectors > 0 && s.from == ([3]byte{}) {
		s.from, s.to = beyond, beyond
	}
	e := b[slotsAt+i*slotBytes:][:slotBytes]
	e[0], e[4] = s.boot, s.kind
	copy(e[1:], s.from[:])
	copy(e[5:], s.to[:])
	binary.LittleEndian.PutUint32(e[8:], uint32(s.start))
	binary.LittleEndian.PutUint32(e[12:], uint32(s.sectors))
}

// valid reports whether a sector is a record: boot code and file systems are not.
func valid(b []byte) bool {
	if string(b[510:512]) != bootSignature {
		return false
	}
	all := slotsOf(b)
	return !slices.ContainsFunc(all[:], func(s slot) bool { return s.boot&^0x80 != 0 })
}

// fat reports whether a sector begins a file system that looks like a record: where a
// partition would be it has text, or nothing.
func fat(b []byte) bool {
	return string(b[0x36:0x39]) == "FAT" || string(b[0x52:0x55]) == "FAT" || string(b[3:11]) == "NTFS    " || string(b[3:11]) == "EXFAT   "
}

// dos is a table by its records. Places are sectors.
type dos struct {
	sector  int64
	sectors int64 // of the disk
	master  []byte
	chain   []record // of the extended partition; the first is where that begins
	changed []change // in the order in which they are written
}

// record is an extended boot record, at a sector: its first entry is a logical partition, from the record
// on, and its second the next record, from the extended partition on.
type record struct {
	at int64
	b  []byte
}

// change is a sector that is to be written.
type change struct {
	at int64
	b  []byte
}

func (t *Table) readDOS(d io.ReaderAt, first []byte) error {
	if !valid(first) || fat(first) {
		return ErrNone
	}
	x := &dos{sector: t.Sector, sectors: min(t.Size/t.Sector, maxSectors), master: first}
	outer := -1
	for i, s := range slotsOf(first) {
		switch {
		case s.extended() && outer >= 0:
			return errors.New("its partition table has two extended partitions, which is not supported")
		case s.extended():
			outer = i
		}
	}
	if outer >= 0 {
		if err := x.follow(d, slotsOf(first)[outer]); err != nil {
			return err
		}
	}
	t.Label, t.ID, t.layout = DOS, fmt.Sprintf("%08x", x.id()), x
	return nil
}

func (x *dos) id() uint32 { return binary.LittleEndian.Uint32(x.master[idAt:]) }

// follow reads the chain of an extended partition.
func (x *dos) follow(d io.ReaderAt, outer slot) error {
	damaged := func(why string) error {
		return fmt.Errorf("its partition table is damaged: the chain of logical partitions %s", why)
	}
	for at := outer.start; ; {
		switch {
		case at < outer.start || at >= outer.start+outer.sectors || slices.ContainsFunc(x.chain, func(r record) bool { return r.at == at }):
			return damaged("leaves the extended partition, or comes back to itself")
		case len(x.chain) > maxLogical:
			return damaged("does not end")
		}
		b := make([]byte, x.sector)
		if _, err := d.ReadAt(b, at*x.sector); err != nil {
			return fmt.Errorf("cannot read a record of a logical partition: %w", err)
		}
		if !valid(b) {
			if len(x.chain) > 0 {
				return damaged("is broken")
			}
			b = blank(x.sector) // nobody has made a logical one yet
		}
		all := slotsOf(b)
		link := all[1]
		empty := len(x.chain) > 0 && all[0].sectors == 0
		if empty || all[0].extended() && all[0].sectors > 0 || link.sectors > 0 && !link.extended() || all[2].sectors > 0 || all[3].sectors > 0 {
			return damaged("is not one that is supported")
		}
		x.chain = append(x.chain, record{at, b})
		if link.sectors == 0 {
			return nil
		}
		at = outer.start + link.start
	}
}

// blank is a record without entries.
func blank(sector int64) []byte {
	b := make([]byte, sector)
	copy(b[510:], bootSignature)
	return b
}

func (t *Table) newDOS() {
	x := &dos{sector: t.Sector, sectors: min(t.Size/t.Sector, maxSectors), master: blank(t.Sector)}
	for x.id() == 0 {
		rand.Read(x.master[idAt : idAt+4]) // it does not fail
	}
	x.write(0, x.master)
	t.Label, t.ID, t.layout = DOS, fmt.Sprintf("%08x", x.id()), x
}

// write notes a sector as one that has changed.
func (x *dos) write(at int64, b []byte) { x.changed = append(x.changed, change{at, bytes.Clone(b)}) }

func (x *dos) list() (list []Partition) {
	for i, s := range slotsOf(x.master) {
		if s.sectors == 0 || s.kind == 0 {
			continue
		}
		p := x.partition(i+1, 0, s)
		p.Kind = Primary
		if s.extended() {
			p.Kind = Extended
		}
		list = append(list, p)
	}
	number := primaries
	for _, r := range x.chain {
		if s := slotsOf(r.b)[0]; s.sectors > 0 && s.kind != 0 {
			number++
			p := x.partition(number, r.at, s)
			p.Kind = Logical
			list = append(list, p)
		}
	}
	return list
}

func (x *dos) partition(number int, from int64, s slot) Partition {
	start := (from + s.start) * x.sector
	p := Partition{
		Number: number, Extent: Extent{start, start + s.sectors*x.sector},
		Type: fmt.Sprintf("%02x", s.kind), ID: fmt.Sprintf("%08x-%02x", x.id(), number),
	}
	if s.kind == draftType && s.from[0] == draftHead {
		p.Mark = hex.EncodeToString(append(s.from[1:], s.to[:]...))
	}
	return p
}

// usable begins behind the first sector, and ends where the numbers of a table do.
func (x *dos) usable() Extent { return Extent{x.sector, x.sectors * x.sector} }

// markOf is as much of a sum of the job as there is room for.
func (x *dos) markOf(job string) string {
	sum := sha256.Sum256([]byte(job))
	return hex.EncodeToString(sum[:5])
}

// logicals are the records that have a partition.
func (x *dos) logicals() (list []int) {
	for i, r := range x.chain {
		if s := slotsOf(r.b)[0]; s.sectors > 0 && s.kind != 0 {
			list = append(list, i)
		}
	}
	return list
}

func (x *dos) next(number int) error {
	last := primaries + len(x.logicals())
	switch {
	case number > primaries && x.full() && len(x.chain) == 0:
		return errors.New("there is no extended partition to hold it, and the four numbers of which one would be that are all taken")
	case number > primaries && number != last+1:
		return fmt.Errorf("the next logical partition is number %d", last+1)
	case number > primaries && last >= primaries+maxLogical:
		return fmt.Errorf("there are %d logical partitions already", maxLogical)
	case number < 1:
		return errors.New("partitions have numbers from 1 on")
	}
	return nil
}

// full reports whether all of the master boot record's entries are taken.
func (x *dos) full() bool {
	all := slotsOf(x.master)
	return !slices.ContainsFunc(all[:], func(s slot) bool { return s.kind == 0 || s.sectors == 0 })
}

// recordOf is where the record of a logical partition lies, bytes.
func (x *dos) recordOf(p Partition) int64 {
	if i := x.indexOf(p); i > 0 {
		return x.chain[i].at * x.sector
	}
	return p.Start // that of the first is no room between partitions
}

// indexOf is the place of a logical partition in the chain.
func (x *dos) indexOf(p Partition) int { return x.logicals()[p.Number-primaries-1] }

func (x *dos) add(p Partition, free []Extent) error {
	if p.Kind == Primary {
		putSlot(x.master, p.Number-1, slot{start: p.Start / x.sector, sectors: p.Size() / x.sector})
		x.mark(p, p.Mark)
		return nil
	}
	made, err := x.extend(free[0])
	if err != nil {
		return err
	}
	i, link := x.room(p, free[0])
	r := x.chain[i]
	s := marked(slot{start: p.Start/x.sector - r.at, sectors: p.Size() / x.sector}, p.Mark)
	putSlot(r.b, 0, s)
	x.write(r.at, r.b)
	if link >= 0 { // the record is there before anything leads to it
		before, base := x.chain[link], x.chain[0].at
		putSlot(before.b, 1, slot{kind: linkType, start: r.at - base, sectors: p.End/x.sector - r.at})
		x.write(before.at, before.b)
	}
	if made {
		x.write(0, x.master)
	}
	return nil
}

// extend makes the extended partition of all of a free extent, if there is none. Its entry is
// to be written when what it leads to is.
func (x *dos) extend(free Extent) (made bool, err error) {
	if len(x.chain) > 0 {
		return false, nil
	}
	for i, s := range slotsOf(x.master) {
		if s.kind == 0 || s.sectors == 0 {
			at := free.Start / x.sector
			putSlot(x.master, i, slot{kind: extendedType, start: at, sectors: free.End/x.sector - at})
			x.chain = []record{{at, blank(x.sector)}}
			return true, nil
		}
	}
	return false, errors.New("there is no extended partition, and the numbers for one are all taken")
}

// room is the record for a new logical partition, and the one that has to lead to it, -1 if
// none has: the first one is there with the extended partition.
func (x *dos) room(p Partition, free Extent) (i, link int) {
	if len(x.chain) == 1 && len(x.logicals()) == 0 {
		return 0, -1
	}
	at := max(p.Start-Alignment, free.Start) / x.sector
	x.chain = append(x.chain, record{at, blank(x.sector)})
	return len(x.chain) - 1, len(x.chain) - 2
}

// marked is an entry with a mark, or that of a partition that is complete.
func marked(s slot, mark string) slot {
	s.kind, s.from, s.to = linuxType, beyond, beyond
	if b, err := hex.DecodeString(mark); mark != "" && err == nil {
		s.kind = draftType
		s.from, s.to = [3]byte{draftHead, b[0], b[1]}, [3]byte(b[2:5])
	}
	return s
}

// edit changes the entry of a partition.
func (x *dos) edit(p Partition, do func(s slot, base int64) slot) {
	if p.Kind != Logical {
		putSlot(x.master, p.Number-1, do(slotsOf(x.master)[p.Number-1], 0))
		x.write(0, x.master)
		return
	}
	r := x.chain[x.indexOf(p)]
	putSlot(r.b, 0, do(slotsOf(r.b)[0], r.at))
	x.write(r.at, r.b)
}

func (x *dos) mark(p Partition, mark string) {
	x.edit(p, func(s slot, _ int64) slot { return marked(s, mark) })
}

func (x *dos) resize(p Partition, end int64) {
	x.edit(p, func(s slot, base int64) slot {
		s.sectors = end/x.sector - base - s.start
		return s
	})
}

func (x *dos) remove(p Partition) error {
	switch {
	case p.Kind == Extended && len(x.logicals()) > 0:
		return errors.New("it holds logical partitions")
	case p.Kind == Extended:
		x.chain = nil
	case p.Kind == Logical:
		return x.removeLast(p)
	}
	putSlot(x.master, p.Number-1, slot{})
	x.write(0, x.master)
	return nil
}

// removeLast takes the end off the chain.
func (x *dos) removeLast(p Partition) error {
	all := x.logicals()
	i := x.indexOf(p)
	if i != all[len(all)-1] {
		return fmt.Errorf("the logical partitions behind it would get other numbers: it goes when they have gone, the last of them, number %d, first", primaries+len(all))
	}
	if i == 0 {
		putSlot(x.chain[0].b, 0, slot{})
		x.write(x.chain[0].at, x.chain[0].b)
		return nil
	}
	before := x.chain[i-1]
	putSlot(before.b, 1, slot{})
	x.write(before.at, before.b)
	x.chain = x.chain[:i]
	return nil
}

// save writes one sector after the other, each of which is written as a piece: what leads to
// another is written when that is there.
func (x *dos) save(d Disk) error {
	for len(x.changed) > 0 {
		c := x.changed[0]
		if err := write(d, c.at*x.sector, c.b); err != nil {
			return err
		}
		if err := d.Sync(); err != nil {
			return fmt.Errorf("cannot make the partition table durable: %w", err)
		}
		x.changed = x.changed[1:]
	}
	return nil
}
