package confine

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/psx"
)

// Process restricts this process to the policy, every thread that it has and every one
// that it will have. An error means that it may be restricted in part. It stops all
// threads for an instant, and so waits for those that are in system calls that cannot
// be interrupted.
func Process(p Policy) (Level, error) {
	level := available(p)
	if len(p.Run) > 0 { // else there are no children but those that were started before, and package os knows
		learnPidfds()
	}
	starting.awaitEnd()
	_, keeps, err := p.Capabilities.sets()
	if err == nil {
		level.Capabilities = keeps.names()
		err = p.apply(level)
	}
	if err != nil {
		return level, fmt.Errorf("cannot confine this process: %w", err)
	}
	return level, nil
}

// apply takes what the kernel can take.
func (p Policy) apply(level Level) error {
	var names *ruleset
	if level.Landlock > 0 {
		var err error
		if names, err = p.ruleset(level.Landlock); err != nil {
			return err
		}
		defer names.close()
	}
	if err := forbidPrivileges(level.Seccomp); err != nil {
		return err
	}
	if err := p.Capabilities.keepEverywhere(); err != nil {
		return err
	}
	if names != nil {
		if err := names.enforce(level.Landlock); err != nil {
			return err
		}
	}
	if !level.Seccomp {
		return nil
	}
	return filterEverywhere(processCalls(p))
}

// ForbidPrivileges has this process and what it starts gain nothing by programs that are
// set-user-ID or the like. It takes nothing else.
func ForbidPrivileges() error { return forbidPrivileges(false) }

// forbidPrivileges forbids all threads new privileges, without which nobody may do the
// rest. Where there are filters the kernel does it in one call, for those who get one,
// which permits everything yet: all that follows has calls of its own to make.
func forbidPrivileges(filters bool) error {
	if filters {
		return filterEverywhere(nil)
	}
	if _, _, errno := psx.Syscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0); errno != 0 {
		return fmt.Errorf("forbid new privileges: %w", errno)
	}
	return nil
}

// filterEverywhere gives all threads a filter of those rules.
func filterEverywhere(rules []call) error {
	prog, err := assemble(rules, allow)
	if err != nil {
		return err
	}
	runtime.LockOSThread() // the others follow the thread that forbids privileges
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("forbid new privileges: %w", err)
	}
	return install(prog, unix.SECCOMP_FILTER_FLAG_TSYNC)
}

// ruleset is what the policy lets a process open.
func (p Policy) ruleset(abi int) (*ruleset, error) {
	s, err := newRuleset(abi, len(p.Run) > 0)
	if err != nil {
		return nil, err
	}
	if err := p.allowed(s); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (p Policy) allowed(s *ruleset) error {
	if err := s.allowPolicy(p); err != nil {
		return err
	}
	for _, path := range p.ReadPaths {
		if err := s.allowPath(path, readOf(path)); err != nil {
			return err
		}
	}
	for _, program := range p.Run {
		if err := s.allowProgram(program); err != nil {
			return err
		}
	}
	return s.allowPorts(p.Connect)
}

// enforce restricts all threads.
func (s *ruleset) enforce(abi int) error {
	const synced = 8 // ABI from which on the kernel does all threads at once
	if abi >= synced {
		if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(s.fd), unix.LANDLOCK_RESTRICT_SELF_TSYNC, 0); errno != 0 {
			return fmt.Errorf("enforce Landlock ruleset: %w", errno)
		}
		return nil
	}
	if _, _, errno := psx.Syscall3(unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(s.fd), 0, 0); errno != 0 {
		return fmt.Errorf("enforce Landlock ruleset: %w", errno)
	}
	return nil
}

// keepEverywhere takes all other capabilities from all threads.
func (c Capabilities) keepEverywhere() error {
	sets, _, err := c.sets()
	if err != nil {
		return err
	}
	var pinned runtime.Pinner // other threads read it
	defer pinned.Unpin()
	data := &sets
	pinned.Pin(data)
	if _, _, errno := psx.Syscall3(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&capabilityHeader)), uintptr(unsafe.Pointer(data)), 0); errno != 0 {
		return fmt.Errorf("drop capabilities: %w", errno)
	}
	return nil
}
