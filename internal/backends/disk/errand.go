package disk

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"storaged/internal/backends"
	"storaged/internal/backends/device"
	"storaged/internal/blockdev"
	"storaged/internal/crash"
	"storaged/internal/partition"
	"storaged/internal/record"
)

// What is done to a disk, with its arguments.
const (
	doLook     = "look"     // reads the table
	doPeek     = "peek"     // NAME: opens a volume to read what it begins with
	doOpen     = "open"     // NAME ACCESS
	doMake     = "make"     // NAME JOB SIZE: makes a draft, and opens it
	doRejoin   = "rejoin"   // NAME JOB JOB: opens what the first job left, as the draft of the second
	doComplete = "complete" // NAME JOB: the draft is a volume from here on
	doDiscard  = "discard"  // NAME JOB: removes the draft
	doDrop     = "drop"     // NAME IDENTITY: removes the volume
	doExtend   = "extend"   // NAME IDENTITY SIZE: the device gets that size, and the table does not have it yet
	doResize   = "resize"   // NAME IDENTITY SIZE
)

// errands say how many arguments each has, and do it, with the disk locked.
var errands = map[string]struct {
	arguments int
	do        func(d *disk, ctx context.Context, args []string) (backends.Answer, error)
}{
	doLook: {0, (*disk).doLook}, doPeek: {1, (*disk).doPeek}, doOpen: {2, (*disk).doOpen},
	doMake: {3, (*disk).doMake}, doRejoin: {3, (*disk).doRejoin}, doComplete: {2, (*disk).doComplete}, doDiscard: {2, (*disk).doDiscard},
	doDrop: {2, (*disk).doDrop}, doExtend: {3, (*disk).doExtend}, doResize: {3, (*disk).doResize},
}

// Errand does one.
func (Backend) Errand(ctx context.Context, p backends.Pool, e backends.Errand) (backends.Answer, error) {
	is, ok := errands[e.Do]
	if !ok || len(e.Args) != is.arguments {
		return backends.Answer{}, fmt.Errorf("%q with %d arguments is nothing that is done to a disk", e.Do, len(e.Args))
	}
	d, err := enter(ctx, p)
	if err != nil {
		return backends.Answer{}, err
	}
	defer d.Close()
	return is.do(d, ctx, e.Args)
}

// Grants are what a job needs.
func (Backend) Grants(_ backends.Pool, u backends.Use) []backends.Errand {
	all := []backends.Errand{{Do: doLook}}
	add := func(do string, args ...string) { all = append(all, backends.Errand{Do: do, Args: args}) }
	if u.Reads {
		add(doPeek, u.Name)
		add(doOpen, u.Name, device.Word(backends.ReadShared))
	}
	if u.Makes {
		add(doMake, u.Name, u.Job, "")
		add(doRejoin, u.Name, cmp.Or(u.Left, u.Job), u.Job)
		add(doComplete, u.Name, u.Job)
		add(doDiscard, u.Name, u.Job)
	}
	if u.Takes {
		add(doOpen, u.Name, device.Word(backends.WriteExclusive))
		add(doDrop, u.Name, "")
	}
	for _, size := range u.Sizes {
		add(doExtend, u.Name, "", strconv.FormatInt(size, 10))
		add(doResize, u.Name, "", strconv.FormatInt(size, 10))
	}
	return all
}

// seen is what the table has.
func seen(ctx context.Context, p backends.Pool) (s device.Seen, err error) {
	err = s.Ask(ctx, Backend{}, p, doLook)
	return s, err
}

func (d *disk) doLook(_ context.Context, _ []string) (a backends.Answer, err error) {
	s := device.Seen{Pool: d.info()}
	for _, x := range d.table.Partitions {
		switch v := d.volume(x); {
		case x.Mark != "":
		case x.Kind == partition.Extended:
			s.Volumes = append(s.Volumes, backends.VolumeInfo{Name: v.Name, Ignored: holds})
		default:
			s.Volumes = append(s.Volumes, v)
		}
	}
	a.Text, err = json.Marshal(s)
	return a, err
}

// info is the pool as the table has it.
func (d *disk) info() backends.PoolInfo {
	info := backends.PoolInfo{Path: d.node.Path, ID: identityOf(d.table), Disk: blockdev.System.Disk(d.node.Number)}
	for _, x := range d.table.Partitions {
		if x.Kind != partition.Extended {
			info.Allocation += x.Size()
		}
	}
	for _, x := range d.table.Free() {
		info.Available += x.Size()
		if len(info.Free) < record.MaxFree {
			info.Free = append(info.Free, record.FreeExtent{Start: x.Start, End: x.End})
		}
	}
	info.Capacity = d.table.Size
	return info
}

// volume is a partition as a volume.
func (d *disk) volume(x partition.Partition) backends.VolumeInfo {
	at := Backend{}.Locate(d.pool, nameOf(d.pool, x.Number))
	return backends.VolumeInfo{
		Name: nameOf(d.pool, x.Number), Path: at.Path, Key: at.Key, Type: at.Type, ID: partIdentity(d.table, x),
		Capacity: x.Size(), Size: x.Size(), Allocation: x.Size(),
		Extents: []record.Extent{{Device: pathOf(d.pool), Start: x.Start, End: x.End}},
	}
}

// answer is an open partition.
func (d *disk) answer(x partition.Partition, f *os.File) (a backends.Answer, err error) {
	a.File = f
	a.Text, err = json.Marshal(d.volume(x))
	return a, err
}

func (d *disk) doPeek(_ context.Context, args []string) (a backends.Answer, err error) {
	x, err := d.find(args[0])
	if err != nil {
		return a, err
	}
	part, ok := d.parts[x.Number]
	if !ok || part.Start != x.Start {
		return d.answer(x, nil)
	}
	f, err := os.OpenFile(part.Node(), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return a, fmt.Errorf("cannot open volume: %w", err)
	}
	if number, err := blockdev.Of(f); err != nil || number != part.Number() {
		return a, errors.Join(err, f.Close(), fmt.Errorf("volume %q %w: its node is that of device %s", args[0], backends.ErrUnsafe, number))
	}
	return d.answer(x, f)
}

func (d *disk) doOpen(ctx context.Context, args []string) (a backends.Answer, err error) {
	access, err := strconv.Atoi(args[1])
	if err != nil {
		return a, err
	}
	x, err := d.find(args[0])
	if err != nil {
		return a, err
	}
	f, err := d.open(ctx, x, backends.Access(access))
	if err != nil {
		return a, err
	}
	return d.answer(x, f)
}

// number is that of the partition by a name.
func (d *disk) number(name string) (int, error) {
	_, number, _ := divided(name)
	return number, (Backend{}).CheckNameIn(d.pool, name)
}

func (d *disk) exists(name string) error {
	return fmt.Errorf("volume %q %w", Backend{}.Locate(d.pool, name).Path, backends.ErrExists)
}

func (d *disk) doMake(_ context.Context, args []string) (a backends.Answer, err error) {
	name, job := args[0], args[1]
	size, err := strconv.ParseInt(args[2], 10, 64)
	number, bad := d.number(name)
	if err := errors.Join(err, bad, record.CheckJob(job)); err != nil {
		return a, err
	}
	if d.table.Marked(job) != nil {
		return a, fmt.Errorf("what job %s makes on device %q %w", job, d.node.Path, backends.ErrExists)
	}
	x, err := d.add(name, number, size, job)
	if err != nil {
		return a, err
	}
	if err := d.vanish(number); err != nil { // of a table that somebody else changed
		return a, err
	}
	if err := d.save(); err != nil {
		return a, err
	}
	crash.At(crash.Drafted)
	part, err := d.appear(x)
	var f *os.File
	if err == nil {
		f, err = device.Node{Path: part.Node(), Number: part.Number()}.OpenNew()
	}
	if err != nil {
		return a, errors.Join(err, d.drop(x))
	}
	return d.answer(x, f)
}

// add adds a draft to the table.
func (d *disk) add(name string, number int, size int64, job string) (partition.Partition, error) {
	for _, x := range d.table.Partitions {
		if x.Mark != "" && x.Kind == partition.Logical && number > x.Number {
			return x, &backends.BusyError{Object: Backend{}.Locate(d.pool, name).Path, Holder: fmt.Sprintf("a job that makes logical partition %d, from which its number follows", x.Number)}
		}
	}
	x, err := d.table.Add(number, size, job)
	room, full := errors.AsType[*partition.RoomError](err)
	switch {
	case errors.Is(err, partition.ErrTaken):
		return x, d.exists(name)
	case full:
		return x, fmt.Errorf("cannot create volume %q: %w", name, room)
	case err != nil:
		return x, record.Errorf(record.Invalid, "cannot create volume %q: %v", name, err)
	}
	return x, nil
}

// drafted finds the draft of a job, nil if there is none. With the name of another volume it is
// another's: of a table of DOS the mark is short.
func (d *disk) drafted(name, job string) (*partition.Partition, error) {
	if err := errors.Join(record.CheckName(name), record.CheckJob(job)); err != nil {
		return nil, err
	}
	x := d.table.Marked(job)
	if number, err := d.number(name); x != nil && err == nil && number != x.Number {
		return nil, nil
	}
	return x, nil
}

func (d *disk) doRejoin(ctx context.Context, args []string) (a backends.Answer, err error) {
	name, left, job := args[0], args[1], args[2]
	_, bad := d.number(name)
	if err := errors.Join(bad, record.CheckJob(job)); err != nil {
		return a, err
	}
	x, err := d.drafted(name, left)
	if err != nil {
		return a, err
	}
	if x == nil {
		return a, fmt.Errorf("what job %s left of volume %q: %w", left, name, backends.ErrNotFound)
	}
	f, err := d.open(ctx, *x, backends.WriteExclusive)
	if err != nil {
		return a, err
	}
	if left != job {
		d.table.Pass(x.Number, job)
		if err := d.save(); err != nil {
			return a, errors.Join(err, f.Close())
		}
	}
	return d.answer(*x, f)
}

func (d *disk) doComplete(_ context.Context, args []string) (a backends.Answer, err error) {
	x, err := d.drafted(args[0], args[1])
	if err != nil {
		return a, err
	}
	if x == nil {
		return a, fmt.Errorf("what job %s was making of volume %q: %w", args[1], args[0], backends.ErrNotFound)
	}
	d.table.Complete(x.Number)
	if err := d.save(); err != nil {
		return a, err
	}
	crash.At(crash.Renamed)
	return a, nil
}

func (d *disk) doDiscard(_ context.Context, args []string) (a backends.Answer, err error) {
	x, err := d.drafted(args[0], args[1])
	if err != nil || x == nil {
		return a, err
	}
	err = d.drop(*x)
	crash.At(crash.Cleared)
	return a, err
}

// known finds a volume, which must be that one.
func (d *disk) known(name, id string) (partition.Partition, error) {
	x, err := d.find(name)
	if err == nil && string(partIdentity(d.table, x)) != id {
		err = &backends.AnotherError{Path: Backend{}.Locate(d.pool, name).Path}
	}
	return x, err
}

func (d *disk) doDrop(_ context.Context, args []string) (a backends.Answer, err error) {
	x, err := d.known(args[0], args[1])
	if err == nil {
		err = d.drop(x)
	}
	crash.At(crash.Removed)
	return a, err
}

// sized finds a volume that gets another size, and gives what that is in sectors.
func (d *disk) sized(args []string) (x partition.Partition, err error) {
	size, err := strconv.ParseInt(args[2], 10, 64)
	if err != nil {
		return x, err
	}
	if x, err = d.known(args[0], args[1]); err != nil {
		return x, err
	}
	if err := d.table.Resize(x.Number, size); err != nil {
		return x, fmt.Errorf("cannot resize volume %q: %w", args[0], err)
	}
	return *d.table.Find(x.Number), nil
}

func (d *disk) doExtend(_ context.Context, args []string) (a backends.Answer, err error) {
	x, err := d.sized(args)
	if err == nil {
		err = d.fit(x)
	}
	return a, err
}

func (d *disk) doResize(_ context.Context, args []string) (a backends.Answer, err error) {
	x, err := d.sized(args)
	if err == nil {
		err = d.save()
	}
	if err == nil {
		err = d.fit(x)
	}
	return a, err
}
