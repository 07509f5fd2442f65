package filetree

import (
	"cmp"
	"fmt"
	"math/bits"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"storaged/internal/backends"
	"storaged/internal/backends/header"
	"storaged/internal/blockdev"
	"storaged/internal/procfs"
	"storaged/internal/record"
)

// objectID is the identity of a pool's directory or of a file: DEVICE:INODE, and
// :STAMP where there is one.
type objectID struct {
	device uint64 // st_dev; 0: any, since a reboot may give it another number
	inode  uint64 // 0: any
	// stamp tells an object from a later one that got the numbers of one that is
	// gone. It lasts as long as the object, over mounts and reboots. It is compared
	// where both have one; "": not known. That of a file is its time of birth. On an
	// overlay it tells all, and alone.
	stamp string
}

func (id objectID) identity() backends.Identity {
	s := fmt.Sprintf("%d:%d", id.device, id.inode)
	if id.stamp != "" {
		s += ":" + id.stamp
	}
	return backends.Identity(s)
}

// parseID reads an identity; "" is any.
func parseID(text backends.Identity) (id objectID, err error) {
	if text == "" {
		return id, nil
	}
	device, rest, _ := strings.Cut(string(text), ":")
	inode, stamp, _ := strings.Cut(rest, ":")
	id.stamp = stamp
	if id.device, err = strconv.ParseUint(device, 10, 64); err == nil {
		id.inode, err = strconv.ParseUint(inode, 10, 64)
	}
	if err != nil {
		return objectID{}, fmt.Errorf("bad identity \"%s\": it is DEVICE:INODE or DEVICE:INODE:STAMP", record.Escape(string(text)))
	}
	return id, nil
}

// CheckIdentity says what is wrong with a text that is no identity.
func (Tree) CheckIdentity(id backends.Identity) error {
	_, err := parseID(id)
	return err
}

// Same reports whether what is found is what is known.
func (Tree) Same(known, found backends.Identity) bool {
	a, err := parseID(known)
	b, err2 := parseID(found)
	return err == nil && err2 == nil && a.matches(b)
}

// Recognizes wants a stamp too: inodes are given again, and some file systems make them up.
func (t Tree) Recognizes(known, found backends.Identity) bool {
	a, err := parseID(known)
	b, err2 := parseID(found)
	return err == nil && err2 == nil && a.stamp != "" && a.stamp == b.stamp && t.Same(t.Lasting(known), found)
}

// Lasting leaves the device out: it may get another number.
func (Tree) Lasting(id backends.Identity) backends.Identity {
	object, err := parseID(id)
	if id == "" || err != nil {
		return id
	}
	object.device = 0
	return object.identity()
}

// Together reports whether both are known to lie on one file system.
func (Tree) Together(a, b backends.Identity) bool {
	p, err := parseID(a)
	q, err2 := parseID(b)
	return err == nil && err2 == nil && p.device != 0 && p.device == q.device
}

// Apart reports whether both are known to lie on different file systems; what is no
// directory does. A file system without a block device of its own has device numbers of
// major 0, and may have several: subvolumes of btrfs have, and share blocks.
func (Tree) Apart(a, b backends.Identity) bool {
	p, err := parseID(a)
	q, foreign := parseID(b)
	if err != nil || foreign != nil {
		return err == nil
	}
	return p.device != 0 && q.device != 0 && p.device != q.device && (unix.Major(p.device) != 0 || unix.Major(q.device) != 0)
}

// matches reports whether what is found is what is known. Without a device it may
// have been mounted anew since.
func (id objectID) matches(found objectID) bool {
	switch known, told := id.handled(), found.handled(); {
	case known && told:
		id.inode = found.inode
	case known || told: // an earlier version, or an earlier kernel, had no handles
		id.stamp = ""
	}
	if id.device == 0 && strings.HasPrefix(found.stamp, passing) {
		id.inode = 0
	}
	return (id.device == 0 || id.device == found.device) && (id.inode == 0 || id.inode == found.inode) &&
		(id.stamp == "" || found.stamp == "" || id.stamp == found.stamp)
}

// handled reports whether the stamp is what an overlay knows the object by.
func (id objectID) handled() bool { return strings.HasPrefix(id.stamp, header.HandleMark) }

// handled reports whether both are what an overlay knows an object by.
func handled(known, found backends.Identity) bool {
	a, err := parseID(known)
	b, err2 := parseID(found)
	return err == nil && err2 == nil && a.handled() && b.handled()
}

// replacedBy says what is at the place of the one that is known, as far as that can be told.
func (id objectID) replacedBy(found objectID) string {
	own, _, known := strings.Cut(id.stamp, ".")
	system, _, told := strings.Cut(found.stamp, ".")
	switch {
	case id.device != 0 && id.device != found.device, known && told && own != system:
		return "another file system is at its place, or its own is not mounted"
	case known && told && strings.Trim(own, "0") != "":
		return "another directory is at its place: its own was moved or replaced, or is not mounted there"
	}
	return "another directory or file system is at its place, or its own is not mounted"
}

// Identify is by what a pool is known again whose directory is open.
func (Tree) Identify(dir *os.File) (backends.Identity, error) {
	id, _, err := (&poolDir{dir, dir.Name()}).id()
	return id.identity(), err
}

// At is the pool with its directory open, which is not looked for by its path any more.
func (Tree) At(p backends.Pool, dir *os.File) backends.Pool {
	p.Opened = &poolDir{dir, p.Target}
	return p
}

// id is by what the directory is known again, and what its file system says.
// Device and inode are not enough: the kernel gives those of a file system that
// was unmounted to the next one, whose root has the inode that any root of its
// type has.
func (d *poolDir) id() (id objectID, fs unix.Statfs_t, err error) {
	st, err := blockdev.Statx(d.File)
	if err == nil {
		err = retry(func() error { return unix.Fstatfs(d.fd(), &fs) })
	}
	id = objectID{unix.Mkdev(st.Dev_major, st.Dev_minor), st.Ino, stamp(&fs, &st)}
	switch {
	case err != nil:
	case fs.Type == unix.NFS_SUPER_MAGIC:
		id.stamp = exported(fmt.Sprintf("%d:%d", st.Dev_major, st.Dev_minor))
	case fs.Type == unix.OVERLAYFS_SUPER_MAGIC:
		id.stamp = cmp.Or(header.Handle(d.File, &st), id.stamp)
	}
	return id, fs, err
}

// exported tells a file system of a server of NFS from others by the id that the server
// gives it, "" where that is not known. It has two halves where NFS 4 is spoken, and with
// NFS 3 they are one number, which servers of Linux make of both and put into the order of
// their own bytes: the same file system is to be the same by either.
func exported(device string) string {
	var major, minor uint64
	if n, _ := fmt.Sscanf(procfs.Exported(device), "%x:%x", &major, &minor); n < 2 {
		return ""
	}
	id := major ^ minor
	return fmt.Sprintf("nfs%x", min(id, bits.ReverseBytes64(id)))
}

// stamp tells a directory from one on another file system, where that is sure
// to be the same after each mount: by the file system's id of statfs(2), which
// those with a uuid make of it, and by the time of birth of the directory. One
// that was made in the same second as another can be told by the id alone (mkfs
// knows but seconds), one of xfs by the time alone: its id is but the device.
// Of NFS the kernel has neither, and what the server has is asked elsewhere (exported). Where the inode is
// another after each mount, all that stays is the kind of file system.
func stamp(fs *unix.Statfs_t, st *unix.Statx_t) string {
	var uuid [2]int32
	switch fs.Type {
	case unix.EXT4_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.TMPFS_MAGIC: // ext2 and ext3 have the number of ext4
		uuid = fs.Fsid.Val
	case unix.XFS_SUPER_MAGIC:
	default:
		if passes(fs.Type) {
			return fmt.Sprintf("%s%x", passing, uint32(fs.Type))
		}
		return ""
	}
	return fmt.Sprintf("%08x%08x.%x", uint32(uuid[0]), uint32(uuid[1]), uint64(header.BirthNS(st)))
}

// passes reports whether a file of that kind of file system may have another
// inode after a mount, or when it is looked up anew.
func passes(kind int64) bool {
	switch kind {
	case unix.MSDOS_SUPER_MAGIC, unix.EXFAT_SUPER_MAGIC, unix.FUSE_SUPER_MAGIC, unix.OVERLAYFS_SUPER_MAGIC, unix.V9FS_MAGIC,
		unix.CIFS_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC:
		return true
	}
	return false
}

// passing begins the stamp of a directory whose inode may be another after its
// file system was mounted anew.
const passing = "~"
