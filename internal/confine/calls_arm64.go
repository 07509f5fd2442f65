package confine

import "golang.org/x/sys/unix"

// auditArch is the architecture whose numbers are listed.
const auditArch = unix.AUDIT_ARCH_AARCH64

const fstatatNumber = unix.SYS_FSTATAT

// legacyChildCalls are the forms that newer architectures do without: this is one.
var legacyChildCalls []uintptr

// legacyRefusedCalls likewise.
var legacyRefusedCalls = []uintptr{unix.SYS_KEXEC_FILE_LOAD}
