package partition

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
	"unicode/utf16"

	"crypto/sha256"
	"encoding/hex"

	"github.com/google/uuid"
)

// Types of partitions, by their GUIDs.
const (
	linuxGUID = "0fc63daf-8483-4772-8e79-3d69d8477de4"
	// draftGUID is that of a partition that storaged is making, and stands for nothing else.
	draftGUID = "7d2f6b7e-50a4-4d0e-9b8b-3c1d1f6a9a55"
)

const (
	gptSignature = "EFI PART"
	gptHeader    = 92  // bytes of a header
	gptEntry     = 128 // bytes of an entry, at least
	gptEntries   = 128 // of a new table
	maxGPT       = 1 << 20
	nameUnits    = 36   // of UTF-16 that a name has
	protective   = 0xee // type of the partition of DOS that stands for all of a disk with a GPT
)

// gpt is a table with its copy. Places are sectors.
type gpt struct {
	sector  int64
	header  []byte // of the copy that was read
	entries []byte
	size    int64  // bytes of an entry
	first   []byte // sector for the master boot record of a new table
}

func (t *Table) readGPT(d io.ReaderAt, first []byte) error {
	if guarded := slotsOf(first); !valid(first) || !guarded.any(protective) {
		return ErrNone
	} else if guarded.others(protective) {
		return errors.New("its partition table is of two kinds at once (a hybrid of GPT and DOS), which is not supported")
	}
	g := &gpt{sector: t.Sector}
	wrong := g.read(d, 1, t.Size)
	if wrong != nil {
		if err := g.read(d, t.Size/t.Sector-1, t.Size); err != nil {
			return fmt.Errorf("its partition table is damaged, and so is the copy of it: %w", errors.Join(wrong, err))
		}
	}
	t.Label, t.ID, t.layout = GPT, guidIn(g.header[56:]), g
	return nil
}

// read reads the copy of the table with its header at a place.
func (g *gpt) read(d io.ReaderAt, at, size int64) error {
	h := make([]byte, g.sector)
	if _, err := d.ReadAt(h, at*g.sector); err != nil {
		return err
	}
	length := binary.LittleEndian.Uint32(h[12:])
	if !bytes.HasPrefix(h, []byte(gptSignature)) || length < gptHeader || int64(length) > g.sector {
		return fmt.Errorf("there is no header in sector %d", at)
	}
	if headerSum(h) != binary.LittleEndian.Uint32(h[16:]) || int64(word(h, 24)) != at {
		return fmt.Errorf("the header in sector %d is damaged", at)
	}
	count, entry := int64(binary.LittleEndian.Uint32(h[80:])), int64(binary.LittleEndian.Uint32(h[84:]))
	if entry < gptEntry || entry > g.sector || count < 1 || count*entry > maxGPT {
		return fmt.Errorf("the header in sector %d has %d entries of %d bytes", at, count, entry)
	}
	entries := make([]byte, count*entry)
	if _, err := d.ReadAt(entries, int64(word(h, 72))*g.sector); err != nil {
		return err
	}
	last := size / g.sector
	if crc32.ChecksumIEEE(entries) != binary.LittleEndian.Uint32(h[88:]) || int64(word(h, 48)) >= last || word(h, 40) > word(h, 48) || int64(word(h, 32)) >= last {
		return fmt.Errorf("the entries of the header in sector %d are damaged", at)
	}
	g.header, g.entries, g.size = h, entries, entry
	return nil
}

func word(b []byte, at int) uint64 { return binary.LittleEndian.Uint64(b[at:]) }

// headerSum is the checksum of a header, in which itself is zero.
func headerSum(h []byte) uint32 {
	b := bytes.Clone(h[:binary.LittleEndian.Uint32(h[12:])])
	clear(b[16:20])
	return crc32.ChecksumIEEE(b)
}

func (t *Table) newGPT() {
	g := &gpt{sector: t.Sector, size: gptEntry, header: make([]byte, t.Sector), entries: make([]byte, gptEntries*gptEntry), first: make([]byte, t.Sector)}
	sectors := t.Size / t.Sector
	taken := up(gptEntries*gptEntry, t.Sector) / t.Sector
	copy(g.header, gptSignature)
	put := binary.LittleEndian.PutUint64
	binary.LittleEndian.PutUint32(g.header[8:], 1<<16)
	binary.LittleEndian.PutUint32(g.header[12:], gptHeader)
	put(g.header[24:], 1)
	put(g.header[32:], uint64(sectors-1))
	put(g.header[40:], uint64(2+taken))
	put(g.header[48:], uint64(sectors-taken-2))
	copy(g.header[56:], guidBytes(uuid.New()))
	put(g.header[72:], 2)
	binary.LittleEndian.PutUint32(g.header[80:], gptEntries)
	binary.LittleEndian.PutUint32(g.header[84:], gptEntry)
	putSlot(g.first, 0, slot{kind: protective, start: 1, sectors: min(sectors-1, maxSectors)})
	copy(g.first[510:], bootSignature)
	t.Label, t.ID, t.layout = GPT, guidIn(g.header[56:]), g
}

func (g *gpt) entry(number int) []byte { return g.entries[int64(number-1)*g.size:][:g.size] }

func (g *gpt) count() int { return len(g.entries) / int(g.size) }

func (g *gpt) list() (list []Partition) {
	for number := 1; number <= g.count(); number++ {
		e := g.entry(number)
		kind := guidIn(e)
		if kind == uuid.Nil.String() {
			continue
		}
		p := Partition{Number: number, Kind: Primary, Type: kind, ID: guidIn(e[16:]), Extent: Extent{int64(word(e, 32)) * g.sector, int64(word(e, 40)+1) * g.sector}}
		if kind == draftGUID {
			p.Mark = nameIn(e[56:])
		}
		list = append(list, p)
	}
	return list
}

func (g *gpt) usable() Extent {
	return Extent{int64(word(g.header, 40)) * g.sector, int64(word(g.header, 48)+1) * g.sector}
}

// markOf is the job as the name of the partition, if it is no longer than those are.
func (g *gpt) markOf(job string) string {
	if len(job) <= nameUnits {
		return job
	}
	sum := sha256.Sum256([]byte(job))
	return hex.EncodeToString(sum[:nameUnits/2])
}

func (g *gpt) next(number int) error {
	if number < 1 || number > g.count() {
		return fmt.Errorf("the table has room for partitions up to number %d", g.count())
	}
	return nil
}

func (g *gpt) add(p Partition, _ []Extent) error {
	e := g.entry(p.Number)
	clear(e)
	copy(e[16:], guidBytes(uuid.New()))
	g.resize(p, p.End)
	binary.LittleEndian.PutUint64(e[32:], uint64(p.Start/g.sector))
	g.mark(p, p.Mark)
	return nil
}

func (g *gpt) mark(p Partition, mark string) {
	e, kind := g.entry(p.Number), linuxGUID
	if mark != "" {
		kind = draftGUID
	}
	copy(e, guidBytes(uuid.MustParse(kind)))
	name := e[56:gptEntry]
	clear(name)
	for i, unit := range utf16.Encode([]rune(mark)) {
		binary.LittleEndian.PutUint16(name[2*i:], unit)
	}
}

func (g *gpt) resize(p Partition, end int64) {
	binary.LittleEndian.PutUint64(g.entry(p.Number)[40:], uint64(end/g.sector-1))
}

func (g *gpt) remove(p Partition) error {
	clear(g.entry(p.Number))
	return nil
}

// save writes first the copy that was not read, and when that is durable the other: one of
// them is good at any time, and the reader takes the first of those that are.
func (g *gpt) save(d Disk) error {
	binary.LittleEndian.PutUint32(g.header[88:], crc32.ChecksumIEEE(g.entries))
	read, other := g.header, bytes.Clone(g.header)
	at, alternate := word(read, 24), word(read, 32)
	binary.LittleEndian.PutUint64(other[24:], alternate)
	binary.LittleEndian.PutUint64(other[32:], at)
	place := uint64(2)
	if alternate > at { // its entries lie before it, and those of the first behind that
		place = alternate - uint64(up(int64(len(g.entries)), g.sector)/g.sector)
	}
	if end := place + uint64(up(int64(len(g.entries)), g.sector)/g.sector); end > alternate && alternate > at || place <= word(read, 48) && end > word(read, 40) {
		return errors.New("its partition table has no room for a copy of itself")
	}
	binary.LittleEndian.PutUint64(other[72:], place)
	for _, h := range [][]byte{other, read} {
		binary.LittleEndian.PutUint32(h[16:], headerSum(h))
		if err := write(d, int64(word(h, 72))*g.sector, g.entries); err != nil {
			return err
		}
		if err := write(d, int64(word(h, 24))*g.sector, h); err != nil {
			return err
		}
		if err := d.Sync(); err != nil {
			return fmt.Errorf("cannot make the partition table durable: %w", err)
		}
	}
	if g.first == nil {
		return nil
	}
	return writeFirst(d, g.first)
}

func write(d Disk, at int64, b []byte) error {
	if _, err := d.WriteAt(b, at); err != nil {
		return fmt.Errorf("cannot write the partition table: %w", err)
	}
	return nil
}

func writeFirst(d Disk, b []byte) error {
	if err := write(d, 0, b); err != nil {
		return err
	}
	if err := d.Sync(); err != nil {
		return fmt.Errorf("cannot make the partition table durable: %w", err)
	}
	return nil
}

// swapped are the bytes of a GUID in the order of the other of its two forms: its first three
// numbers are little-endian in a table.
func swapped(b []byte) (id uuid.UUID) {
	for i, from := range []int{3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15} {
		id[i] = b[from]
	}
	return id
}

func guidIn(b []byte) string { return swapped(b).String() }

func guidBytes(id uuid.UUID) []byte {
	b := swapped(id[:])
	return b[:]
}

// nameIn is the name of a partition.
func nameIn(b []byte) string {
	units := make([]uint16, nameUnits)
	for i := range units {
		units[i] = binary.LittleEndian.Uint16(b[2*i:])
	}
	name, _, _ := strings.Cut(string(utf16.Decode(units)), "\x00")
	return name
}
