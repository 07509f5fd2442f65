package diskio

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Attributes are what a file has beside its content: whose it is, who may do
// what with it, what others have noted about it, and its times.
type Attributes struct {
	rights
	extended map[string][]byte // attributes by name, ACLs apart; nil: there are no attributes
	times    []unix.Timespec   // of the last access and change; nil: not to be kept
}

const (
	aclAttribute = "system.posix_acl_access"
	capability   = "security.capability"

	labelAttribute = "security.selinux" // of which the NUL at its end is a part
)

// passable reports whether an attribute can be given to another file as it is.
// ACLs have other names besides (xfs, NFS), by which they would be set too
// early, and the kernel makes a digest of one file alone.
func passable(name string) bool {
	return name != "security.evm" && !strings.HasPrefix(name, "system.") && !strings.HasPrefix(name, "trusted.SGI_")
}

// AttributesOf reads those of a file; other contents have none. What a file system
// has no notion of is not there.
func AttributesOf(c Content) (Attributes, error) {
	f := regularOf(c)
	if f == nil {
		return Attributes{}, nil
	}
	st, err := statOf(f)
	if err != nil {
		return Attributes{}, err
	}
	a := Attributes{rights: rights{owner: st.Uid, group: st.Gid, mode: st.Mode & 0o7777}, extended: map[string][]byte{}}
	a.times = []unix.Timespec{st.Atim, st.Mtim}
	names, err := attributeNames(f)
	if err != nil {
		return Attributes{}, err
	}
	for _, name := range names {
		value, err := attributeOf(f, name)
		switch {
		case errors.Is(err, unix.ENODATA): // gone meanwhile
		case err != nil:
			return Attributes{}, ioError("read attribute "+name, nowhere, err)
		case name == aclAttribute:
			a.acl = value
		case passable(name):
			a.extended[name] = value
		}
	}
	return a, nil
}

// Labelled reports whether a content has attributes that only an administrator may
// give, or may have.
func Labelled(c Content) bool {
	f := regularOf(c)
	if f == nil {
		return false
	}
	names, err := attributeNames(f)
	return err != nil || slices.ContainsFunc(names, func(name string) bool {
		return passable(name) && !strings.HasPrefix(name, "user.")
	})
}

// OfCopy are those that another file with the same content has: who may use it,
// and what its users have noted. Labels and capabilities, which the
// administrator gave to the one file, are not, nor are its times.
func (a Attributes) OfCopy() Attributes {
	a.extended, a.times = maps.Clone(a.extended), nil
	maps.DeleteFunc(a.extended, func(name string, _ []byte) bool { return !strings.HasPrefix(name, "user.") })
	return a
}

// Give gives them to a file that nobody else has used yet, and says in words
// what it could not be given. At no instant may anybody do more with it than
// with the file that had them, which also decides what is done where something
// cannot be kept. It comes after the last write, which changes times.
func (a Attributes) Give(c Content) (lost []string) {
	f := regularOf(c)
	if f == nil || a.extended == nil {
		return nil
	}
	lose := func(what string, err error) {
		if err != nil {
			lost = append(lost, fmt.Sprintf("%s (%v)", what, err))
		}
	}
	if err := seclude(f); err != nil {
		lose("its permissions", err)
		return lost
	}
	for _, name := range slices.Sorted(maps.Keys(a.extended)) {
		if name != capability { // which a change of owner takes away
			lose("the attribute "+name, a.note(f, name))
		}
	}
	lost = append(lost, a.rights.give(f)...)
	if _, ok := a.extended[capability]; ok {
		lose("the attribute "+capability, a.note(f, capability))
	}
	if a.times != nil {
		lose("its time of change", setTimes(f, a.times))
	}
	return lost
}

// note gives a file one attribute, unless it has it already.
func (a Attributes) note(f *os.File, name string) error {
	want := a.extended[name]
	if have, err := attributeOf(f, name); err == nil && string(have) == string(want) {
		return nil
	}
	return retry(func() error { return unix.Fsetxattr(int(f.Fd()), name, want, 0) })
}

// seclude leaves a file to its owner alone, and takes away what the ACL of its
// directory gave to others: a later change of its mode would let them in.
func seclude(f *os.File) error {
	st, err := statOf(f)
	if err != nil {
		return err
	}
	if st.Mode&0o7077 != 0 {
		if err := chmod(f, st.Mode&0o700); err != nil && !errors.Is(err, unix.EPERM) { // as vfat says it
			return err
		}
	}
	err = retry(func() error { return unix.Fremovexattr(int(f.Fd()), aclAttribute) })
	if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return nil
	}
	return err
}

// attributeNames are the extended attributes that a file has.
func attributeNames(f *os.File) ([]string, error) {
	list, err := sized(func(b []byte) (int, error) { return unix.Flistxattr(int(f.Fd()), b) })
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) || len(list) == 0 {
		return nil, nil
	}
	return strings.Split(strings.TrimSuffix(string(list), "\x00"), "\x00"), ioError("list attributes", nowhere, err)
}

func attributeOf(f *os.File, name string) ([]byte, error) {
	return sized(func(b []byte) (int, error) { return unix.Fgetxattr(int(f.Fd()), name, b) })
}

// sized makes a call that gives as many bytes as there are, which it tells when
// it is given no room.
func sized(call func([]byte) (int, error)) ([]byte, error) {
	for {
		n, err := call(nil)
		if err != nil || n == 0 {
			return nil, err
		}
		b := make([]byte, n)
		if n, err = call(b); !errors.Is(err, unix.ERANGE) { // it may have grown
			return b[:max(n, 0)], err
		}
	}
}

func statOf(f *os.File) (st unix.Stat_t, err error) {
	err = retry(func() error { return unix.Fstat(int(f.Fd()), &st) })
	return st, ioError("stat", nowhere, err)
}

func chmod(f *os.File, mode uint32) error {
	return retry(func() error { return unix.Fchmod(int(f.Fd()), mode) })
}

// setTimes is futimens(3), which package unix lacks: utimensat(2) without a
// name.
func setTimes(f *os.File, times []unix.Timespec) error {
	return retry(func() error {
		_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, f.Fd(), 0, uintptr(unsafe.Pointer(&times[0])), 0, 0, 0)
		if errno != 0 {
			return errno
		}
		return nil
	})
}

// fileAttributes is struct fsxattr of linux/fs.h, which package unix lacks.
type fileAttributes struct {
	flags, extentUnit, extents, project, copyUnit uint32
	_                                             [8]byte
}

// extentUnit is in what pieces, in bytes, space is found for f where its owner has
// asked for larger ones than blocks; 0: nobody has.
func extentUnit(f *os.File) int64 {
	const get = 0x801C581F // FS_IOC_FSGETXATTR
	var a fileAttributes
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), get, uintptr(unsafe.Pointer(&a)))
	if errno != 0 {
		return 0
	}
	return int64(a.extentUnit)
}
