// Package partition reads partition tables, and changes them one partition at a time: GPT
// (UEFI specification 2.10, chapter 5) and that of DOS, a master boot record with the chain
// of extended ones behind it. What it does not know of a table stays as it is, byte for
// byte, and whatever moment the power fails at, the disk has the table of before or the one
// of after. Sizes are bytes, and multiples of the sector.
package partition

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Labels are the kinds of tables there are, the one for new disks first.
const (
	GPT = "gpt"
	DOS = "dos"
)

// Alignment is where partitions begin that are made here, bytes: what disks write at once
// is a part of it.
const Alignment = 1 << 20

// Disk is where a table lies.
type Disk interface {
	io.ReaderAt
	io.WriterAt
	// Sync makes durable what was written.
	Sync() error
}

// ErrNone says that a disk has no table.
var ErrNone = errors.New("it has no partition table")

// ErrTaken says that a number is that of a partition already.
var ErrTaken = errors.New("there is a partition of that number")

// RoomError is a disk without a free extent that is large enough.
type RoomError struct{ Need, Largest int64 }

func (e *RoomError) Error() string {
	return fmt.Sprintf("it needs %d bytes in one piece, and the largest free extent has %d", e.Need, e.Largest)
}

func (e *RoomError) Unwrap() error { return unix.ENOSPC }

// Extent is a part of a disk, bytes.
type Extent struct{ Start, End int64 }

// Size is how long it is.
func (x Extent) Size() int64 { return x.End - x.Start }

// Kind is what a partition is for.
type Kind string

// Kinds of partitions.
const (
	Primary  Kind = "primary"
	Logical  Kind = "logical"
	Extended Kind = "extended" // it holds the logical ones
)

// Partition is one of a table.
type Partition struct {
	Number int
	Extent
	Kind Kind
	Type string // a GUID, or two hexadecimal digits
	ID   string // by which udev names it (PARTUUID)
	// Mark is that of somebody who is making it (Table.MarkOf), "": it is complete.
	Mark string
}

// Table is the table of a disk as it was read, with what was changed since and is not
// saved.
type Table struct {
	Label      string
	ID         string // of the disk
	Size       int64  // of the disk
	Sector     int64  // bytes
	Partitions []Partition
	layout
}

// layout is the table by its bytes.
type layout interface {
	// list gives the partitions by number.
	list() []Partition
	// usable is where primary partitions may lie.
	usable() Extent
	// markOf is what marks a partition for whoever makes it.
	markOf(job string) string
	add(p Partition, free []Extent) error
	// mark gives a partition another mark, or none.
	mark(p Partition, mark string)
	resize(p Partition, end int64)
	remove(p Partition) error
	// next says why a number cannot be that of a new partition.
	next(number int) error
	save(d Disk) error
}

// Read reads the table of a disk of that size with such sectors. Without one it is ErrNone.
func Read(d io.ReaderAt, size, sector int64) (*Table, error) {
	if sector < 512 || sector > Alignment || size < 16*sector {
		return nil, ErrNone
	}
	t := &Table{Size: size / sector * sector, Sector: sector}
	first := make([]byte, sector)
	if _, err := d.ReadAt(first, 0); err != nil {
		return nil, fmt.Errorf("cannot read its first sector: %w", err)
	}
	err := t.readGPT(d, first)
	if errors.Is(err, ErrNone) {
		err = t.readDOS(d, first)
	}
	if err != nil {
		return nil, err
	}
	t.Partitions = t.list()
	return t, t.check()
}

// New makes an empty table for a disk, which is not saved.
func New(label string, size, sector int64) (*Table, error) {
	t := &Table{Size: size / sector * sector, Sector: sector}
	if t.Size < 4*Alignment {
		return nil, fmt.Errorf("%d bytes are too few for a partition table", size)
	}
	switch label {
	case GPT:
		t.newGPT()
	case DOS:
		t.newDOS()
	default:
		return nil, fmt.Errorf("no partition table is made in format %q", label)
	}
	return t, nil
}

// check refuses a table whose partitions are not each on the disk and apart.
func (t *Table) check() error {
	var last Extent
	for _, kind := range []Kind{Primary, Logical} {
		in := t.among(kind)
		last = Extent{End: t.within(kind).Start}
		for _, p := range in {
			if p.Start < last.End || p.End <= p.Start || p.End > max(t.within(kind).End, last.End) {
				return fmt.Errorf("its partition table is damaged: partition %d, from byte %d to %d, is not on the disk, or lies upon another", p.Number, p.Start, p.End)
			}
			last = p.Extent
		}
	}
	return nil
}

// among are the partitions of a kind by their places; the extended one is one of the primary
// ones then.
func (t *Table) among(kind Kind) (list []Partition) {
	for _, p := range t.Partitions {
		if (p.Kind == Logical) == (kind == Logical) {
			list = append(list, p)
		}
	}
	slices.SortFunc(list, func(a, b Partition) int { return cmp.Compare(a.Start, b.Start) })
	return list
}

// within is where partitions of a kind lie.
func (t *Table) within(kind Kind) Extent {
	if kind != Logical {
		return t.usable()
	}
	if x := t.extended(); x != nil {
		return Extent{x.Start + t.Sector, x.End}
	}
	return Extent{}
}

// extended is the partition that holds the logical ones, nil if there is none.
func (t *Table) extended() *Partition {
	for i := range t.Partitions {
		if t.Partitions[i].Kind == Extended {
			return &t.Partitions[i]
		}
	}
	return nil
}

// Find gives the partition of a number, nil if there is none.
func (t *Table) Find(number int) *Partition {
	for i := range t.Partitions {
		if t.Partitions[i].Number == number {
			return &t.Partitions[i]
		}
	}
	return nil
}

// Marked gives the partition that somebody is making, nil if there is none.
func (t *Table) Marked(job string) *Partition {
	for i := range t.Partitions {
		if t.Partitions[i].Mark == t.MarkOf(job) {
			return &t.Partitions[i]
		}
	}
	return nil
}

// MarkOf is what marks a partition as one that this job is making.
func (t *Table) MarkOf(job string) string { return t.markOf(job) }

// gaps are what lies free between the partitions of a kind.
func (t *Table) gaps(kind Kind) (free []Extent) {
	room := t.within(kind)
	at := room.Start
	for _, p := range t.among(kind) {
		if start := t.taken(p); start > at {
			free = append(free, Extent{at, start})
		}
		at = max(at, p.End)
	}
	if room.End > at {
		free = append(free, Extent{at, room.End})
	}
	return free
}

// taken is where what belongs to a partition begins: of a logical one that is its record.
func (t *Table) taken(p Partition) int64 {
	if d, ok := t.layout.(*dos); ok && p.Kind == Logical {
		return d.recordOf(p)
	}
	return p.Start
}

// Free are the extents in which partitions can be made, from where one would begin. In the
// extended partition there is one less for each, which its record takes.
func (t *Table) Free() (free []Extent) {
	for _, kind := range []Kind{Primary, Logical} {
		for _, x := range t.gaps(kind) {
			if start := t.begin(x, kind); start < x.End {
				free = append(free, Extent{start, x.End})
			}
		}
	}
	slices.SortFunc(free, func(a, b Extent) int { return cmp.Compare(a.Start, b.Start) })
	return free
}

// begin is where a partition would begin in a free extent.
func (t *Table) begin(x Extent, kind Kind) int64 {
	if kind == Logical {
		x.Start += t.Sector // its record
	}
	return up(x.Start, Alignment)
}

// up is the next multiple.
func up(n, unit int64) int64 { return (n + unit - 1) / unit * unit }

// Add makes a partition of the number for a job, in the smallest free extent that is large
// enough. Of a table of DOS those up to four are primary; the first logical one makes the
// extended partition too, in the largest free extent. It is a *RoomError where nothing is
// large enough, and ErrTaken where the number is another's.
func (t *Table) Add(number int, size int64, job string) (Partition, error) {
	if t.Find(number) != nil {
		return Partition{}, ErrTaken
	}
	if err := t.next(number); err != nil {
		return Partition{}, err
	}
	p := Partition{Number: number, Kind: t.kindOf(number), Mark: t.MarkOf(job)}
	free := t.gaps(p.Kind)
	if p.Kind == Logical && t.extended() == nil {
		free = largest(t.gaps(Primary))
		for i := range free { // the extended partition begins at its own place
			free[i].Start = up(free[i].Start, Alignment)
		}
	}
	need := max(up(size, t.Sector), t.Sector)
	at, err := t.fit(free, need, p.Kind)
	if err != nil {
		return Partition{}, err
	}
	p.Start = t.begin(at, p.Kind)
	p.End = p.Start + need
	if err := t.add(p, []Extent{at}); err != nil {
		return Partition{}, err
	}
	t.Partitions = t.list()
	return *t.Find(number), nil
}

// kindOf is the kind of partitions of a number.
func (t *Table) kindOf(number int) Kind {
	if t.Label == DOS && number > primaries {
		return Logical
	}
	return Primary
}

func largest(free []Extent) []Extent {
	if len(free) == 0 {
		return nil
	}
	return []Extent{slices.MaxFunc(free, func(a, b Extent) int { return cmp.Compare(a.Size(), b.Size()) })}
}

// fit is the smallest free extent that has room.
func (t *Table) fit(free []Extent, need int64, kind Kind) (best Extent, err error) {
	room := func(x Extent) int64 { return x.End - t.begin(x, kind) }
	most := int64(0)
	for _, x := range free {
		most = max(most, room(x))
		if room(x) >= need && (best == Extent{} || room(x) < room(best)) {
			best = x
		}
	}
	if best == (Extent{}) {
		return best, &RoomError{need, most}
	}
	return best, nil
}

// Complete takes the mark off a partition.
func (t *Table) Complete(number int) { t.change(number, func(p Partition) { t.mark(p, "") }) }

// Pass gives a partition the mark of another job.
func (t *Table) Pass(number int, job string) {
	t.change(number, func(p Partition) { t.mark(p, t.MarkOf(job)) })
}

func (t *Table) change(number int, do func(Partition)) {
	if p := t.Find(number); p != nil {
		do(*p)
		t.Partitions = t.list()
	}
}

// Most is how large a partition can become where it lies.
func (t *Table) Most(number int) int64 {
	p := t.Find(number)
	if p == nil {
		return 0
	}
	if p.Kind == Extended {
		return p.Size()
	}
	for _, x := range t.gaps(p.Kind) {
		if x.Start == p.End {
			return x.End - p.Start
		}
	}
	return p.Size()
}

// Resize gives a partition another size, at least one sector. Where what lies behind it is
// not free it is a *RoomError.
func (t *Table) Resize(number int, size int64) error {
	size = max(up(size, t.Sector), t.Sector)
	if p := t.Find(number); p != nil && p.Kind == Extended && size < p.Size() {
		return errors.New("it holds logical partitions")
	}
	if most := t.Most(number); size > most {
		return &RoomError{size, most}
	}
	t.change(number, func(p Partition) { t.resize(p, p.Start+size) })
	return nil
}

// Remove takes a partition away. Others keep their numbers: a logical one that has others
// behind it stays.
func (t *Table) Remove(number int) error {
	p := t.Find(number)
	if p == nil {
		return nil
	}
	if err := t.remove(*p); err != nil {
		return err
	}
	t.Partitions = t.list()
	return nil
}

// Erase takes what makes a table from a disk of that size, durably: the headers of a GPT, and
// of the first sector what is no boot code. Nobody needs to know what table it was.
func Erase(d Disk, size, sector int64) error {
	first := make([]byte, sector)
	if _, err := d.ReadAt(first, 0); err != nil {
		return fmt.Errorf("cannot read its first sector: %w", err)
	}
	clear(first[idAt:])
	for _, at := range []int64{1, size/sector - 1} {
		b := make([]byte, sector)
		if _, err := d.ReadAt(b, at*sector); err != nil || !strings.HasPrefix(string(b), gptSignature) {
			continue // it is not that of a table
		}
		if err := write(d, at*sector, make([]byte, sector)); err != nil {
			return err
		}
	}
	return writeFirst(d, first)
}

// Save writes what was changed, durably.
func (t *Table) Save(d Disk) error { return t.save(d) }
