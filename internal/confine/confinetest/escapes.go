package confinetest

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// escape is one way out. What it changes it changes back, so that it can be tried by
// who is not confined.
type escape struct {
	name string
	real bool // it succeeds for root who is not confined
	try  func(s Scene, volume *os.File) error
}

// call makes a system call that gives nothing to close.
func call(number uintptr, args ...uintptr) error {
	args = append(args, make([]uintptr, 6-len(args))...)
	_, _, errno := unix.Syscall6(number, args[0], args[1], args[2], args[3], args[4], args[5])
	if errno != 0 {
		return errno
	}
	return nil
}

// opens makes a descriptor by a call and closes it.
func opens(number uintptr, args ...uintptr) error {
	args = append(args, make([]uintptr, 6-len(args))...)
	fd, _, errno := unix.Syscall6(number, args[0], args[1], args[2], args[3], args[4], args[5])
	if errno != 0 {
		return errno
	}
	return unix.Close(int(fd))
}

func open(path string, flags int) error {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC|unix.O_NOCTTY|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

func proc(pid int, name string) string { return fmt.Sprintf("/proc/%d/%s", pid, name) }

func pathPointer(path string) uintptr { // it is kept by who calls: constant, or a field of the scene
	p, err := unix.BytePtrFromString(path)
	if err != nil {
		panic("internal error: " + err.Error())
	}
	kept = append(kept, p)
	return uintptr(unsafe.Pointer(p))
}

// kept are arguments that the kernel reads.
var kept []*byte

func start(path string) error {
	pid, err := syscall.ForkExec(path, []string{"true"}, &syscall.ProcAttr{Env: []string{}})
	if err != nil {
		return err
	}
	_, err = syscall.Wait4(pid, nil, 0, nil)
	return err
}

func connect(network int, to unix.Sockaddr) error {
	fd, err := unix.Socket(network, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if to == nil {
		return nil
	}
	return unix.Connect(fd, to)
}

var files = []escape{
	{"read a file outside", true, func(s Scene, _ *os.File) error { return open(s.canary(), unix.O_RDONLY) }},
	{"open a file outside to write", true, func(s Scene, _ *os.File) error { return open(s.canary(), unix.O_WRONLY) }},
	{"cut a file outside by opening it", false, func(s Scene, _ *os.File) error { return open(s.canary(), unix.O_RDONLY|unix.O_TRUNC) }},
	{"cut a file outside", true, func(s Scene, _ *os.File) error { return unix.Truncate(s.canary(), int64(len(canary))) }},
	{"make a file outside", true, func(s Scene, _ *os.File) error {
		path := filepath.Join(s.Outside, "made")
		if err := open(path, unix.O_CREAT|unix.O_WRONLY); err != nil {
			return err
		}
		return unix.Unlink(path)
	}},
	{"make a file without a name outside", true, func(s Scene, _ *os.File) error { return open(s.Outside, unix.O_TMPFILE|unix.O_RDWR) }},
	{"list a directory outside", true, func(s Scene, _ *os.File) error { return open(s.Outside, unix.O_RDONLY|unix.O_DIRECTORY) }},
	{"make a directory outside", true, func(s Scene, _ *os.File) error {
		path := filepath.Join(s.Outside, "made")
		if err := unix.Mkdir(path, 0o700); err != nil {
			return err
		}
		return unix.Rmdir(path)
	}},
	{"change permissions by name", true, func(s Scene, _ *os.File) error { return unix.Fchmodat(unix.AT_FDCWD, s.canary(), 0o600, 0) }},
	{"change the owner by name", true, func(s Scene, _ *os.File) error { return unix.Fchownat(unix.AT_FDCWD, s.canary(), -1, -1, 0) }},
	{"change times by name", false, func(s Scene, _ *os.File) error {
		return unix.UtimesNanoAt(unix.AT_FDCWD, s.canary(), []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Nsec: unix.UTIME_OMIT}}, 0)
	}},
	{"set an attribute by name", false, func(s Scene, _ *os.File) error { return unix.Setxattr(s.canary(), "user.a", nil, 0) }},
	{"remove an attribute by name", false, func(s Scene, _ *os.File) error { return unix.Removexattr(s.canary(), "user.a") }},
	{"follow a link that leads outside", true, func(s Scene, _ *os.File) error { return open(filepath.Join(s.Inside, "link"), unix.O_RDONLY) }},
	{"follow .. outside", true, func(s Scene, _ *os.File) error { return open(s.Inside+"/../outside/canary", unix.O_RDONLY) }},
	{"make a link that leads outside", true, func(s Scene, _ *os.File) error {
		path := filepath.Join(s.Inside, "made")
		if err := unix.Symlink(s.canary(), path); err != nil {
			return err
		}
		return unix.Unlink(path)
	}},
	{"take a file in by a second name", false, func(s Scene, _ *os.File) error { return unix.Link(s.canary(), filepath.Join(s.Inside, "made")) }},
	{"take a file in by another name", false, func(s Scene, _ *os.File) error { return unix.Rename(s.canary(), filepath.Join(s.Inside, "made")) }},
	{"put a file outside by another name", false, func(s Scene, _ *os.File) error {
		return unix.Rename(filepath.Join(s.Inside, "other"), filepath.Join(s.Outside, "made"))
	}},
	{"remove a file outside", false, func(s Scene, _ *os.File) error { return unix.Unlink(s.canary()) }},
	{"make a device", true, func(s Scene, _ *os.File) error {
		path := filepath.Join(s.Inside, "made")
		if err := unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))); err != nil {
			return err
		}
		return unix.Unlink(path)
	}},
	{"make a FIFO", true, func(s Scene, _ *os.File) error {
		path := filepath.Join(s.Inside, "made")
		if err := unix.Mkfifo(path, 0o600); err != nil {
			return err
		}
		return unix.Unlink(path)
	}},
	{"open a file by its handle", false, func(s Scene, volume *os.File) error {
		handle, _, err := unix.NameToHandleAt(unix.AT_FDCWD, s.canary(), 0)
		if err != nil {
			return err
		}
		fd, err := unix.OpenByHandleAt(int(volume.Fd()), handle, unix.O_RDONLY)
		if err != nil {
			return err
		}
		return unix.Close(fd)
	}},
	{"open a control device", true, func(Scene, *os.File) error { return open("/dev/loop-control", unix.O_RDWR) }},
	{"write to its own program", false, func(Scene, *os.File) error { return open("/proc/self/exe", unix.O_WRONLY) }},
	{"change permissions of what is open", true, func(_ Scene, volume *os.File) error { return unix.Fchmod(int(volume.Fd()), 0o600) }},
	{"set an attribute of what is open", false, func(_ Scene, volume *os.File) error {
		return unix.Fsetxattr(int(volume.Fd()), "trusted.a", nil, 0)
	}},
	{"watch a file system", false, func(Scene, *os.File) error { return opens(unix.SYS_FANOTIFY_INIT, 0, 0) }},
}

var processes = []escape{
	{"trace another process", false, func(s Scene, _ *os.File) error { return call(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(s.Victim)) }},
	{"signal another process", true, func(s Scene, _ *os.File) error { return unix.Kill(s.Victim, unix.SIGCONT) }},
	{"signal a thread of another process", true, func(s Scene, _ *os.File) error { return unix.Tgkill(s.Victim, s.Victim, unix.SIGCONT) }},
	{"signal all processes", false, func(Scene, *os.File) error { return unix.Kill(-1, 0) }},
	{"queue a signal", false, func(s Scene, _ *os.File) error {
		return call(unix.SYS_RT_SIGQUEUEINFO, uintptr(s.Victim), uintptr(unix.SIGCONT))
	}},
	{"signal by a descriptor", false, func(s Scene, _ *os.File) error {
		fd, err := unix.PidfdOpen(s.Victim, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.PidfdSendSignal(fd, unix.SIGCONT, nil, 0)
	}},
	{"take a descriptor of another process", false, func(s Scene, _ *os.File) error { return opens(unix.SYS_PIDFD_GETFD, 0, 0) }},
	{"read memory of another process", false, func(s Scene, _ *os.File) error { return call(unix.SYS_PROCESS_VM_READV, uintptr(s.Victim)) }},
	{"write memory of another process", false, func(s Scene, _ *os.File) error { return call(unix.SYS_PROCESS_VM_WRITEV, uintptr(s.Victim)) }},
	{"open the memory of another process", true, func(s Scene, _ *os.File) error { return open(proc(s.Victim, "mem"), unix.O_RDWR) }},
	{"read the environment of another process", true, func(s Scene, _ *os.File) error {
		_, err := os.ReadFile(proc(s.Victim, "environ"))
		return err
	}},
	{"go through the root of another process", true, func(s Scene, _ *os.File) error { return open(proc(s.Victim, "root")+s.canary(), unix.O_RDONLY) }},
	{"change the OOM score of another process", true, func(s Scene, _ *os.File) error { return open(proc(s.Victim, "oom_score_adj"), unix.O_WRONLY) }},
	{"limit another process", false, func(s Scene, _ *os.File) error {
		return unix.Prlimit(s.Victim, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 64, Max: 64}, nil)
	}},
	{"start a program", true, func(Scene, *os.File) error { return start("/bin/true") }},
	{"start a shell by its loader", false, func(Scene, *os.File) error { return start("/lib64/ld-linux-x86-64.so.2") }},
	{"start a program out of memory", true, func(Scene, *os.File) error {
		fd, err := unix.MemfdCreate("true", 0)
		if err != nil {
			return err
		}
		f := os.NewFile(uintptr(fd), "true")
		defer f.Close()
		if program, err := os.ReadFile("/bin/true"); err == nil {
			_, _ = f.Write(program)
		}
		return start(fmt.Sprintf("/proc/self/fd/%d", fd))
	}},
	{"execute a descriptor", false, func(_ Scene, volume *os.File) error {
		return call(unix.SYS_EXECVEAT, volume.Fd(), pathPointer(""), 0, 0, unix.AT_EMPTY_PATH)
	}},
	{"write to the memory of whoever maps it", false, func(Scene, *os.File) error { return opens(unix.SYS_USERFAULTFD, 0) }},
	{"hide memory", false, func(Scene, *os.File) error { return opens(unix.SYS_MEMFD_SECRET, 0) }},
}

var sockets = []escape{
	{"connect to a socket by its name", true, func(s Scene, _ *os.File) error { return connect(unix.AF_UNIX, &unix.SockaddrUnix{Name: s.socket()}) }},
	{"connect to an abstract socket", true, func(s Scene, _ *os.File) error { return connect(unix.AF_UNIX, &unix.SockaddrUnix{Name: s.abstract()}) }},
	{"make a socket of the internet", true, func(Scene, *os.File) error { return connect(unix.AF_INET, nil) }},
	{"make a socket of the internet, version 6", false, func(Scene, *os.File) error { return connect(unix.AF_INET6, nil) }},
	{"make a socket to the kernel", false, func(Scene, *os.File) error {
		return opens(unix.SYS_SOCKET, unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	}},
	{"make a pair of sockets", true, func(Scene, *os.File) error {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		return unix.Close(fds[0])
	}},
	{"make a ring of requests", false, func(Scene, *os.File) error { return opens(unix.SYS_IO_URING_SETUP, 1, 0) }},
}

var system = []escape{
	{"mount", false, func(s Scene, _ *os.File) error { return unix.Mount("none", s.Inside, "nothing", 0, "") }},
	{"unmount", false, func(s Scene, _ *os.File) error { return unix.Unmount(s.Inside, 0) }},
	{"make a tree of mounts", true, func(s Scene, _ *os.File) error {
		return opens(unix.SYS_OPEN_TREE, ^uintptr(99), pathPointer(s.Inside), 1)
	}},
	{"make a file system", true, func(Scene, *os.File) error { return opens(unix.SYS_FSOPEN, pathPointer("tmpfs"), 0) }},
	{"change the root of mounts", false, func(s Scene, _ *os.File) error { return unix.PivotRoot(s.Inside, s.Inside) }},
	{"change its root", false, func(s Scene, _ *os.File) error { return unix.Chroot(s.Inside + "/none") }},
	{"make a namespace of mounts", false, func(Scene, *os.File) error { return unix.Unshare(unix.CLONE_NEWNS | 1) }},
	{"make a namespace of users", false, func(Scene, *os.File) error { return unix.Unshare(unix.CLONE_NEWUSER | 1) }},
	{"enter a namespace", false, func(s Scene, _ *os.File) error { return call(unix.SYS_SETNS, ^uintptr(0), 0) }},
	{"become another user", false, func(Scene, *os.File) error { return call(unix.SYS_SETRESUID, 4711, 4711, 4711) }},
	{"become another group", false, func(Scene, *os.File) error { return call(unix.SYS_SETRESGID, 4711, 4711, 4711) }},
	{"take back a capability", false, func(Scene, *os.File) error {
		header, data := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, [2]unix.CapUserData{}
		data[0].Permitted, data[0].Effective = 1<<unix.CAP_SYS_MODULE, 1<<unix.CAP_SYS_MODULE
		return unix.Capset(&header, &data[0])
	}},
	{"load a program into the kernel", false, func(Scene, *os.File) error { return opens(unix.SYS_BPF, 0, 0, 0) }},
	{"watch the processor", false, func(Scene, *os.File) error { return opens(unix.SYS_PERF_EVENT_OPEN, 0, 0, 0, ^uintptr(0)) }},
	{"use the kernel's keys", false, func(Scene, *os.File) error { return call(unix.SYS_KEYCTL, 0, ^uintptr(2), 0) }},
	{"add a key", false, func(Scene, *os.File) error { return call(unix.SYS_ADD_KEY, 0, 0, 0, 0, 0) }},
	{"load a module", false, func(_ Scene, volume *os.File) error {
		return call(unix.SYS_FINIT_MODULE, volume.Fd(), pathPointer(""), 0)
	}},
	{"load another kernel", false, func(Scene, *os.File) error { return call(unix.SYS_KEXEC_LOAD, 0, 0, 0, 1) }},
	{"restart the machine", false, func(Scene, *os.File) error { return call(unix.SYS_REBOOT, 0, 0, 0, 0) }},
	{"swap to a file", false, func(s Scene, _ *os.File) error { return call(unix.SYS_SWAPON, pathPointer(s.Volume), 0) }},
	{"count what processes do", false, func(s Scene, _ *os.File) error { return call(unix.SYS_ACCT, pathPointer(s.Inside)) }},
	{"set the clock", false, func(Scene, *os.File) error { return call(unix.SYS_CLOCK_SETTIME, 99, 0) }},
	{"name the host", false, func(Scene, *os.File) error { return call(unix.SYS_SETHOSTNAME, 0, 1<<20) }},
	{"read the kernel's log", true, func(Scene, *os.File) error { return call(unix.SYS_SYSLOG, 10, 0, 0) }},
	{"change a setting of the kernel", true, func(Scene, *os.File) error { return open("/proc/sys/kernel/hostname", unix.O_WRONLY) }},
	{"type into the terminal", false, func(_ Scene, volume *os.File) error {
		return call(unix.SYS_IOCTL, volume.Fd(), unix.TIOCSTI, pathPointer("x"))
	}},
}

// escapes are all.
var escapes = append(append(append(append([]escape{}, files...), processes...), sockets...), system...)
