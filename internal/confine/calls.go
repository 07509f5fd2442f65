//go:build amd64 || arm64

package confine

import "golang.org/x/sys/unix"

// childCalls are those of a program that serves an image: it reads and writes what is
// open, opens what Landlock lets it, and has memory, threads and time. All others do not
// exist for it, so that libraries do without them as on an older kernel.
func childCalls(secret uint64) []call {
	all := calls(allow, legacyChildCalls...)
	all = append(all, calls(allow,
		unix.SYS_READ, unix.SYS_WRITE, unix.SYS_READV, unix.SYS_WRITEV, unix.SYS_PREAD64, unix.SYS_PWRITE64,
		unix.SYS_PREADV, unix.SYS_PWRITEV, unix.SYS_PREADV2, unix.SYS_PWRITEV2, unix.SYS_LSEEK, unix.SYS_COPY_FILE_RANGE,
		unix.SYS_FSYNC, unix.SYS_FDATASYNC, unix.SYS_SYNC_FILE_RANGE, unix.SYS_FALLOCATE, unix.SYS_FTRUNCATE, unix.SYS_FADVISE64, unix.SYS_READAHEAD,
		unix.SYS_IO_SETUP, unix.SYS_IO_SUBMIT, unix.SYS_IO_GETEVENTS, unix.SYS_IO_PGETEVENTS, unix.SYS_IO_CANCEL, unix.SYS_IO_DESTROY,
		unix.SYS_OPENAT, unix.SYS_CLOSE, unix.SYS_CLOSE_RANGE, unix.SYS_FSTAT, fstatatNumber, unix.SYS_STATX, unix.SYS_FACCESSAT, unix.SYS_FACCESSAT2, unix.SYS_READLINKAT,
		unix.SYS_STATFS, unix.SYS_FSTATFS, unix.SYS_GETDENTS64, unix.SYS_GETCWD, unix.SYS_CHDIR, unix.SYS_FCNTL, unix.SYS_FLOCK, unix.SYS_DUP, unix.SYS_DUP3, unix.SYS_PIPE2,
		unix.SYS_PPOLL, unix.SYS_PSELECT6, unix.SYS_EPOLL_CREATE1, unix.SYS_EPOLL_CTL, unix.SYS_EPOLL_PWAIT, unix.SYS_EPOLL_PWAIT2, unix.SYS_EVENTFD2, unix.SYS_SIGNALFD4,
		unix.SYS_TIMERFD_CREATE, unix.SYS_TIMERFD_SETTIME, unix.SYS_TIMERFD_GETTIME,
	)...)
	all = append(all, calls(allow,
		// Sockets that are open, and those that come in at one that listens.
		unix.SYS_ACCEPT, unix.SYS_ACCEPT4, unix.SYS_SENDMSG, unix.SYS_RECVMSG, unix.SYS_SENDTO, unix.SYS_RECVFROM, unix.SYS_SENDMMSG, unix.SYS_RECVMMSG,
		unix.SYS_GETSOCKNAME, unix.SYS_GETPEERNAME, unix.SYS_GETSOCKOPT, unix.SYS_SETSOCKOPT, unix.SYS_SHUTDOWN, unix.SYS_LISTEN,
		// Memory.
		unix.SYS_BRK, unix.SYS_MMAP, unix.SYS_MUNMAP, unix.SYS_MREMAP, unix.SYS_MPROTECT, unix.SYS_MADVISE, unix.SYS_MINCORE, unix.SYS_MEMBARRIER, unix.SYS_GET_MEMPOLICY,
		// Threads, and how they wait for each other.
		unix.SYS_FUTEX, unix.SYS_SET_ROBUST_LIST, unix.SYS_GET_ROBUST_LIST, unix.SYS_RSEQ, unix.SYS_SET_TID_ADDRESS, unix.SYS_SCHED_YIELD, unix.SYS_SCHED_GETAFFINITY,
		unix.SYS_SCHED_GETPARAM, unix.SYS_SCHED_GETSCHEDULER, unix.SYS_GETCPU, unix.SYS_GETTID, unix.SYS_EXIT, unix.SYS_EXIT_GROUP, unix.SYS_WAITID,
		unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK, unix.SYS_RT_SIGRETURN, unix.SYS_RT_SIGSUSPEND, unix.SYS_RT_SIGTIMEDWAIT, unix.SYS_RT_SIGPENDING, unix.SYS_SIGALTSTACK, unix.SYS_RESTART_SYSCALL,
		// Time.
		unix.SYS_NANOSLEEP, unix.SYS_CLOCK_NANOSLEEP, unix.SYS_CLOCK_GETTIME, unix.SYS_CLOCK_GETRES, unix.SYS_GETTIMEOFDAY, unix.SYS_TIMER_CREATE, unix.SYS_TIMER_SETTIME, unix.SYS_TIMER_GETTIME, unix.SYS_TIMER_DELETE, unix.SYS_SETITIMER, unix.SYS_GETITIMER,
		// What it is.
		unix.SYS_GETPID, unix.SYS_GETPPID, unix.SYS_GETUID, unix.SYS_GETEUID, unix.SYS_GETGID, unix.SYS_GETEGID, unix.SYS_GETRESUID, unix.SYS_GETRESGID, unix.SYS_GETGROUPS, unix.SYS_GETPGID, unix.SYS_GETSID,
		unix.SYS_CAPGET, unix.SYS_GETRUSAGE, unix.SYS_TIMES, unix.SYS_UNAME, unix.SYS_SYSINFO, unix.SYS_GETRANDOM, unix.SYS_UMASK, unix.SYS_SETSID, unix.SYS_SETPGID,
		// The program is executed; Landlock knows which.
		unix.SYS_EXECVE,
	)...)
	return append(all, bounded(secret)...)
}

// bounded are calls that do harm with some arguments.
func bounded(secret uint64) []call {
	const upper = uint64(0xffffffff) << 32
	self := uint64(unix.Getpid())
	all := calls(refuse, refusedChildCalls...)
	return append(all,
		call{unix.SYS_CLONE, []match{{0, unix.CLONE_THREAD, unix.CLONE_THREAD}}, allow},
		call{unix.SYS_CLONE, []match{{0, upper, secret}, {0, newNamespaces, 0}}, allow},
		call{unix.SYS_CLONE, []match{{0, upper, 0}}, refuse},
		call{unix.SYS_CLONE, nil, kill}, // it guesses
		// The runtime of this program interrupts its threads.
		call{unix.SYS_TGKILL, []match{{0, 0xffffffff, self}, {2, 0xffffffff, uint64(unix.SIGURG)}}, allow},
		call{unix.SYS_TGKILL, nil, refuse},
		call{unix.SYS_PRLIMIT64, []match{{0, 0xffffffff, 0}, {2, ^uint64(0), 0}}, allow}, // to read one's own
		call{unix.SYS_PRLIMIT64, []match{{0, 0xffffffff, self}}, allow},
		call{unix.SYS_PRLIMIT64, nil, refuse},
		call{unix.SYS_PRCTL, []match{{0, 0xffffffff, unix.PR_SET_NAME}}, allow},
		call{unix.SYS_PRCTL, []match{{0, 0xffffffff, unix.PR_GET_NAME}}, allow},
		call{unix.SYS_PRCTL, []match{{0, 0xffffffff, unix.PR_SET_TIMERSLACK}}, allow},
		call{unix.SYS_PRCTL, []match{{0, 0xffffffff, unix.PR_SET_PDEATHSIG}, {1, 0xffffffff, uint64(unix.SIGKILL)}}, allow},
		call{unix.SYS_PRCTL, []match{{0, 0xffffffff, unix.PR_CAPBSET_READ}}, allow},
		call{unix.SYS_PRCTL, []match{{0, 0xffffffff, unix.PR_SET_VMA}}, allow},
		call{unix.SYS_PRCTL, nil, refuse},
		call{unix.SYS_IOCTL, []match{{1, 0xffffffff, unix.TIOCSTI}}, refuse},
		call{unix.SYS_IOCTL, []match{{1, 0xffffffff, unix.TIOCLINUX}}, refuse},
		call{unix.SYS_IOCTL, nil, allow},
	)
}

// newNamespaces are the flags of clone(2) that make any.
const newNamespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_PTRACE

// refusedChildCalls are known and refused: no library has a reason to try another way.
var refusedChildCalls = []uintptr{
	unix.SYS_SOCKET, unix.SYS_SOCKETPAIR, unix.SYS_CONNECT, unix.SYS_BIND,
	unix.SYS_FCHMOD, unix.SYS_FCHMODAT, unix.SYS_FCHOWN, unix.SYS_FCHOWNAT, unix.SYS_UTIMENSAT,
	unix.SYS_SETXATTR, unix.SYS_LSETXATTR, unix.SYS_FSETXATTR, unix.SYS_REMOVEXATTR, unix.SYS_LREMOVEXATTR, unix.SYS_FREMOVEXATTR,
	unix.SYS_TRUNCATE, unix.SYS_UNLINKAT, unix.SYS_RENAMEAT2, unix.SYS_LINKAT, unix.SYS_SYMLINKAT, unix.SYS_MKDIRAT, unix.SYS_MKNODAT,
	unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_KILL, unix.SYS_TKILL,
	unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT, unix.SYS_UNSHARE, unix.SYS_SETNS,
	unix.SYS_SETUID, unix.SYS_SETGID, unix.SYS_SETREUID, unix.SYS_SETREGID, unix.SYS_SETRESUID, unix.SYS_SETRESGID, unix.SYS_SETGROUPS, unix.SYS_CAPSET,
	unix.SYS_KEYCTL, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD,
	unix.SYS_KEXEC_LOAD, unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE, unix.SYS_REBOOT, unix.SYS_OPEN_BY_HANDLE_AT,
}

// processCalls are those that a process like this one is refused: what changes the
// system or other processes, and what its policy does not name. All others it keeps:
// it is our own program, and what it opens by name is not the filter's affair.
func processCalls(p Policy) []call {
	self := uint64(unix.Getpid())
	all := calls(refuse, refusedCalls...)
	all = append(all, calls(refuse, legacyRefusedCalls...)...)
	// glibc and the runtime of Go make threads without it.
	all = append(all, call{unix.SYS_CLONE3, nil, unknown}, call{unix.SYS_IO_URING_SETUP, nil, unknown})
	// A signal to itself, which the runtime of Go interrupts its threads with.
	for _, number := range []uintptr{unix.SYS_KILL, unix.SYS_TGKILL} {
		all = append(all, call{number, []match{{0, 0xffffffff, self}}, allow}, call{number, nil, refuse})
	}
	all = append(all,
		call{unix.SYS_IOCTL, []match{{1, 0xffffffff, unix.TIOCSTI}}, refuse},
		call{unix.SYS_IOCTL, []match{{1, 0xffffffff, unix.TIOCLINUX}}, refuse},
	)
	if !p.Attributes {
		all = append(all, calls(refuse, unix.SYS_FCHMOD, unix.SYS_FCHOWN, unix.SYS_FSETXATTR, unix.SYS_FREMOVEXATTR, unix.SYS_UTIMENSAT)...)
	}
	// Without a name utimensat(2) is about a descriptor.
	all = append(all, call{unix.SYS_UTIMENSAT, []match{{1, ^uint64(0), 0}}, allow}, call{unix.SYS_UTIMENSAT, nil, refuse})
	if !p.Anywhere {
		all = append(all, calls(refuse, unix.SYS_KCMP)...)
	}
	if len(p.Connect) > 0 {
		all = append(all, internetCalls()...)
	} else {
		all = append(all, calls(refuse, unix.SYS_SOCKET, unix.SYS_CONNECT)...)
	}
	return append(all, startCalls(p, self)...)
}

// internetCalls are those of who calls other hosts: sockets of TCP and UDP, and none of those
// by which programs of this host are reached, or the kernel.
func internetCalls() (all []call) {
	const kinds = 0xf // of a socket; the rest are flags
	for _, family := range []uint64{unix.AF_INET, unix.AF_INET6} {
		for _, kind := range []uint64{unix.SOCK_STREAM, unix.SOCK_DGRAM} {
			all = append(all, call{unix.SYS_SOCKET, []match{{0, 0xffffffff, family}, {1, kinds, kind}}, allow})
		}
	}
	return append(all, call{unix.SYS_SOCKET, nil, refuse})
}

// startCalls are about processes that are started, and how they are restricted. Some
// listen at sockets that they are given.
func startCalls(p Policy, self uint64) []call {
	if len(p.Run) == 0 {
		return append(calls(refuse, unix.SYS_EXECVE, unix.SYS_LISTEN, unix.SYS_SECCOMP, unix.SYS_LANDLOCK_CREATE_RULESET, unix.SYS_LANDLOCK_ADD_RULE, unix.SYS_LANDLOCK_RESTRICT_SELF, unix.SYS_CAPSET, unix.SYS_PIDFD_SEND_SIGNAL),
			call{unix.SYS_CLONE, []match{{0, unix.CLONE_THREAD, unix.CLONE_THREAD}}, allow},
			call{unix.SYS_CLONE, nil, refuse},
			call{unix.SYS_PRLIMIT64, []match{{0, 0xffffffff, 0}}, allow},
			call{unix.SYS_PRLIMIT64, []match{{0, 0xffffffff, self}}, allow},
			call{unix.SYS_PRLIMIT64, nil, refuse})
	}
	return []call{
		{unix.SYS_CLONE, []match{{0, newNamespaces, 0}}, allow},
		{unix.SYS_CLONE, nil, refuse},
	}
}

// refusedCalls are those that no helper needs.
var refusedCalls = []uintptr{
	// Other processes, and the memory of this one by ways that others may use.
	unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_PROCESS_MADVISE, unix.SYS_PROCESS_MRELEASE, unix.SYS_PIDFD_OPEN, unix.SYS_PIDFD_GETFD,
	unix.SYS_TKILL, unix.SYS_RT_SIGQUEUEINFO, unix.SYS_RT_TGSIGQUEUEINFO, unix.SYS_USERFAULTFD, unix.SYS_MEMFD_CREATE, unix.SYS_MEMFD_SECRET, unix.SYS_EXECVEAT,
	unix.SYS_MIGRATE_PAGES, unix.SYS_MOVE_PAGES, unix.SYS_SCHED_SETAFFINITY, unix.SYS_SCHED_SETATTR, unix.SYS_SCHED_SETPARAM, unix.SYS_SCHED_SETSCHEDULER, unix.SYS_PERSONALITY,
	// Mounts and namespaces.
	unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT, unix.SYS_UNSHARE, unix.SYS_SETNS,
	unix.SYS_OPEN_TREE, unix.SYS_MOVE_MOUNT, unix.SYS_FSOPEN, unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_FSPICK, unix.SYS_MOUNT_SETATTR,
	// Who it is.
	unix.SYS_SETUID, unix.SYS_SETGID, unix.SYS_SETREUID, unix.SYS_SETREGID, unix.SYS_SETRESUID, unix.SYS_SETRESGID, unix.SYS_SETGROUPS, unix.SYS_SETFSUID, unix.SYS_SETFSGID,
	// Sockets, beside those that a policy has.
	unix.SYS_SOCKETPAIR, unix.SYS_BIND,
	// Parts of the kernel with a history.
	unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER, unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_KEYCTL, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY,
	unix.SYS_FANOTIFY_INIT, unix.SYS_FANOTIFY_MARK, unix.SYS_LOOKUP_DCOOKIE, unix.SYS_NFSSERVCTL, unix.SYS_OPEN_BY_HANDLE_AT,
	// The system.
	unix.SYS_KEXEC_LOAD, unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE, unix.SYS_REBOOT, unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_ACCT,
	unix.SYS_QUOTACTL, unix.SYS_QUOTACTL_FD, unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME, unix.SYS_CLOCK_ADJTIME, unix.SYS_ADJTIMEX, unix.SYS_SETHOSTNAME, unix.SYS_SETDOMAINNAME,
	unix.SYS_SYSLOG, unix.SYS_VHANGUP,
	// Owner, permissions, attributes and length by name, which goes past Landlock; devices, sockets and links.
	unix.SYS_FCHMODAT, unix.SYS_FCHMODAT2, unix.SYS_FCHOWNAT, unix.SYS_SETXATTR, unix.SYS_LSETXATTR, unix.SYS_REMOVEXATTR, unix.SYS_LREMOVEXATTR, unix.SYS_SETXATTRAT, unix.SYS_REMOVEXATTRAT,
	unix.SYS_FILE_SETATTR, unix.SYS_TRUNCATE, unix.SYS_MKNODAT, unix.SYS_SYMLINKAT,
}
