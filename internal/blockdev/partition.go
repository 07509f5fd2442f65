package blockdev

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Part is a partition of a disk as the kernel has it, which may be otherwise than in the
// disk's table. Sizes are bytes.
type Part struct {
	Device
	Start, Size int64
}

// Number is the partition's, as major:minor.
func (p Part) Number() string { return p.Attribute("dev") }

// partUnit is the unit of places and sizes in sysfs, whatever sectors a disk has.
const partUnit = 512

// Parts are the partitions of a disk that the kernel has, by their numbers.
func (d Device) Parts() map[int]Part {
	parts := map[int]Part{}
	dirs, _ := filepath.Glob(filepath.Join(d.path, "*", "partition")) // the pattern is good
	for _, dir := range dirs {
		p := Part{Device: Device{filepath.Dir(dir)}}
		number, err := strconv.Atoi(p.Attribute("partition"))
		start, err2 := strconv.ParseInt(p.Attribute("start"), 10, 64)
		size, err3 := strconv.ParseInt(p.Attribute("size"), 10, 64)
		if err == nil && err2 == nil && err3 == nil { // else it has gone meanwhile
			p.Start, p.Size = start*partUnit, size*partUnit
			parts[number] = p
		}
	}
	return parts
}

// SectorSize is the unit in which a disk is addressed, bytes.
func SectorSize(disk *os.File) (int64, error) {
	n, err := unix.IoctlGetInt(int(disk.Fd()), unix.BLKSSZGET)
	return int64(n), err
}

// Operations of BLKPG (linux/blkpg.h), by which the kernel is told of partitions whether it
// can read their table or not. All take CAP_SYS_ADMIN.
const (
	partAdd    = 1
	partDelete = 2
	partResize = 3
)

type blkpgPartition struct {
	start, length int64
	number        int32
	_             [64 + 64 + 4]byte // names, which the kernel does not read
}

type blkpgArgument struct {
	op, flags, length int32
	data              *blkpgPartition
}

// AddPart makes a device of a part of a disk. Its node is there when this returns, where
// the kernel makes nodes (devtmpfs).
func AddPart(disk *os.File, number int, start, size int64) error {
	return blkpg(disk, partAdd, blkpgPartition{start: start, length: size, number: int32(number)})
}

// RemovePart takes that device away. Who has it open makes it EBUSY.
func RemovePart(disk *os.File, number int) error {
	return blkpg(disk, partDelete, blkpgPartition{number: int32(number)})
}

// ResizePart changes how long it is, also while it is open.
func ResizePart(disk *os.File, number int, start, size int64) error {
	return blkpg(disk, partResize, blkpgPartition{start: start, length: size, number: int32(number)})
}

func blkpg(disk *os.File, op int32, p blkpgPartition) error {
	arg := blkpgArgument{op: op, length: int32(unsafe.Sizeof(p)), data: &p}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, disk.Fd(), unix.BLKPG, uintptr(unsafe.Pointer(&arg)))
	if errno != 0 {
		return fmt.Errorf("partition %d: %w", p.number, errno)
	}
	return nil
}
