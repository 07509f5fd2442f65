package confine

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ABIs of Landlock from which on it covers more (landlock(7), "VERSIONS").
const (
	refers    = 2 // names moved and linked to other directories; before that they never may be
	truncates = 3
	nets      = 4
	ioctls    = 5 // of devices
	scopes    = 6 // signals and abstract sockets
	resolves  = 9 // sockets by name
)

// Rights on a file, and on a directory for all that is beneath it.
const (
	readFile   = unix.LANDLOCK_ACCESS_FS_READ_FILE
	writeFile  = readFile | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	runFile    = readFile | unix.LANDLOCK_ACCESS_FS_EXECUTE
	readTree   = readFile | unix.LANDLOCK_ACCESS_FS_READ_DIR
	nameTree   = unix.LANDLOCK_ACCESS_FS_READ_DIR | unix.LANDLOCK_ACCESS_FS_REFER | unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE
	changeTree = writeFile | readTree | nameTree
)

// netPort is LANDLOCK_RULE_NET_PORT of linux/landlock.h.
const netPort = 2

// landlockABI is that of the kernel, 0 where it has none or it is switched off.
func landlockABI() int {
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(abi)
}

// taken are all rights that a Landlock of that ABI can take.
func taken(abi int) (a unix.LandlockRulesetAttr) {
	a.Handled_access_fs = unix.LANDLOCK_ACCESS_FS_MAKE_SYM<<1 - 1 // all of the first
	if abi >= refers {
		a.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_REFER
	}
	if abi >= truncates {
		a.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	if abi >= nets {
		a.Handled_access_net = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
	}
	if abi >= ioctls {
		a.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	}
	if abi >= scopes {
		a.Scoped = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET
	}
	if abi >= scopes && threadsMayMeet() {
		a.Scoped |= unix.LANDLOCK_SCOPE_SIGNAL
	}
	if abi >= resolves {
		a.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_RESOLVE_UNIX
	}
	return a
}

// threadsMayMeet reports whether the kernel lets threads of one process interrupt each
// other that were restricted one by one. The first that knew of signals did not; the
// runtime of Go has to.
func threadsMayMeet() bool {
	const signals = 1 << 1 // the second of the errata
	fixed, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_ERRATA)
	return errno == 0 && fixed&signals != 0
}

// ruleset is what may be done in spite of all that is taken.
type ruleset struct {
	fd     int
	rights uint64 // on files, that are taken
	ports  uint64 // on ports of TCP
}

// newRuleset makes one that takes all there is. A process whose threads are restricted one
// by one, and of which one starts children, reaches these from the others only if it
// keeps its signals; whom it may send them to the filter says.
func newRuleset(abi int, children bool) (*ruleset, error) {
	attr := taken(abi)
	if children {
		attr.Scoped &^= unix.LANDLOCK_SCOPE_SIGNAL
	}
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
	if errno != 0 {
		return nil, fmt.Errorf("make Landlock ruleset: %w", errno)
	}
	return &ruleset{int(fd), attr.Handled_access_fs, attr.Handled_access_net}, nil
}

func (s *ruleset) close() { unix.Close(s.fd) }

// allow permits what is in rights on that object, and on all beneath it.
func (s *ruleset) allow(f *os.File, rights uint64) error {
	conn, err := f.SyscallConn() // Fd would make it block
	if err != nil {
		return err
	}
	var bad error
	err = conn.Control(func(fd uintptr) { bad = s.allowFD(int(fd), f.Name(), rights) })
	return errors.Join(err, bad)
}

func (s *ruleset) allowFD(fd int, name string, rights uint64) error {
	rule := unix.LandlockPathBeneathAttr{Allowed_access: rights & s.rights, Parent_fd: int32(fd)}
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(s.fd), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
	if errno != 0 {
		return fmt.Errorf("add Landlock rule for %s: %w", name, errno)
	}
	return nil
}

// allowPath does so for what is at the path. What is not there needs no rule.
func (s *ruleset) allowPath(path string, rights uint64) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0) // not as a file of Go's, which it would try to poll
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd) // it was opened to name an object
	return s.allowFD(fd, path, rights)
}

// allowPorts permits to connect to those ports of TCP, where the kernel minds any.
func (s *ruleset) allowPorts(ports []uint16) error {
	if s.ports == 0 {
		return nil
	}
	for _, port := range ports {
		rule := struct{ access, port uint64 }{unix.LANDLOCK_ACCESS_NET_CONNECT_TCP, uint64(port)} // struct landlock_net_port_attr
		_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(s.fd), netPort, uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
		if errno != 0 {
			return fmt.Errorf("add Landlock rule for port %d: %w", port, errno)
		}
	}
	return nil
}

// allowOpen permits what a policy does with files and directories that are open.
func (s *ruleset) allowOpen(files []*os.File, file, tree uint64) error {
	for _, f := range files {
		info, err := f.Stat()
		if err != nil {
			return err
		}
		rights := file
		if info.IsDir() {
			rights = tree
		}
		if err := s.allow(f, rights); err != nil {
			return err
		}
	}
	return nil
}

// allowPolicy permits what the policy keeps.
func (s *ruleset) allowPolicy(p Policy) error {
	if err := s.allowOpen(p.Read, readFile, readTree); err != nil {
		return err
	}
	if err := s.allowOpen(p.Write, writeFile, changeTree); err != nil {
		return err
	}
	if err := s.allowOpen(p.Places, 0, unix.LANDLOCK_ACCESS_FS_READ_DIR); err != nil {
		return err
	}
	return s.allowOpen(p.Names, 0, nameTree)
}
