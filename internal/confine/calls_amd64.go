package confine

import "golang.org/x/sys/unix"

// auditArch is the architecture whose numbers are listed.
const auditArch = unix.AUDIT_ARCH_X86_64

const fstatatNumber = unix.SYS_NEWFSTATAT

// legacyChildCalls are the forms that newer architectures do without.
var legacyChildCalls = []uintptr{
	unix.SYS_OPEN, unix.SYS_STAT, unix.SYS_LSTAT, unix.SYS_ACCESS, unix.SYS_READLINK, unix.SYS_DUP2, unix.SYS_PIPE, unix.SYS_POLL, unix.SYS_SELECT,
	unix.SYS_EPOLL_WAIT, unix.SYS_EVENTFD, unix.SYS_GETRLIMIT, unix.SYS_ARCH_PRCTL, unix.SYS_GETPGRP, unix.SYS_TIME, unix.SYS_ALARM,
}

// legacyRefusedCalls likewise.
var legacyRefusedCalls = []uintptr{
	unix.SYS_CHMOD, unix.SYS_CHOWN, unix.SYS_LCHOWN, unix.SYS_UTIME, unix.SYS_UTIMES, unix.SYS_FUTIMESAT, unix.SYS_MKNOD, unix.SYS_SYMLINK, unix.SYS_FORK, unix.SYS_VFORK,
	unix.SYS_IOPL, unix.SYS_IOPERM, unix.SYS_MODIFY_LDT, unix.SYS_KEXEC_FILE_LOAD, unix.SYS_CREATE_MODULE, unix.SYS_USELIB, unix.SYS__SYSCTL,
}
