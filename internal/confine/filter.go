package confine

import (
	"cmp"
	"fmt"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What becomes of a system call.
const (
	allow   = unix.SECCOMP_RET_ALLOW
	refuse  = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	unknown = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS) // libraries then do without it
	kill    = unix.SECCOMP_RET_KILL_PROCESS
)

// call is a rule for a system call. The first that matches counts.
type call struct {
	number uintptr
	when   []match // all of them; none: always
	then   uint32
}

// match compares an argument.
type match struct {
	arg         int
	mask, value uint64
}

// calls are rules alike.
func calls(then uint32, numbers ...uintptr) (all []call) {
	for _, n := range numbers {
		all = append(all, call{number: n, then: then})
	}
	return all
}

// Offsets in struct seccomp_data (seccomp(2)).
const (
	offsetNumber = 0
	offsetArch   = 4
	offsetArgs   = 16
)

// lastCall is the highest number of a system call that was known when the lists were
// written. Later ones are the same for every architecture, and x32, the other calls
// that a kernel for x86-64 may have, has higher ones.
const lastCall = 471

func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

func jump(how uint16, k uint32, yes, no int) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_K | how, K: k, Jt: uint8(yes), Jf: uint8(no)}
}

func ret(what uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: what}
}

// assemble makes a filter of rules: otherwise is what becomes of a call without any. It
// fails where the rules for one call are longer than a jump.
func assemble(rules []call, otherwise uint32) ([]unix.SockFilter, error) {
	prog := []unix.SockFilter{
		load(offsetArch), jump(unix.BPF_JEQ, auditArch, 1, 0), ret(kill),
		load(offsetNumber), jump(unix.BPF_JGT, lastCall, 0, 1), ret(unknown),
	}
	rules = slices.Clone(rules)
	slices.SortStableFunc(rules, func(a, b call) int { return cmp.Compare(a.number, b.number) })
	for len(rules) > 0 {
		n := slices.IndexFunc(rules, func(c call) bool { return c.number != rules[0].number })
		if n < 0 {
			n = len(rules)
		}
		body := alternatives(rules[:n], otherwise)
		if len(body) > 255 {
			return nil, fmt.Errorf("the rules for system call %d are too long for a filter", rules[0].number)
		}
		prog = append(append(prog, jump(unix.BPF_JEQ, uint32(rules[0].number), 0, len(body))), body...)
		rules = rules[n:]
	}
	return append(prog, ret(otherwise)), nil
}

// alternatives are the rules for one system call.
func alternatives(rules []call, otherwise uint32) (body []unix.SockFilter) {
	for _, r := range rules {
		body = append(body, r.code()...)
		if len(r.when) == 0 {
			return body
		}
	}
	return append(body, ret(otherwise))
}

// code compares the arguments, and goes on behind its end where one differs.
func (c call) code() []unix.SockFilter {
	type half struct {
		offset, mask, value uint32
	}
	var halves []half
	for _, m := range c.when {
		at := uint32(offsetArgs + 8*m.arg)
		halves = append(halves, half{at, uint32(m.mask), uint32(m.value)}, half{at + 4, uint32(m.mask >> 32), uint32(m.value >> 32)})
	}
	halves = slices.DeleteFunc(halves, func(h half) bool { return h.mask == 0 })
	var code []unix.SockFilter
	for i, h := range halves {
		rest := (len(halves) - i - 1) * 3
		code = append(code,
			load(h.offset),
			unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: h.mask},
			jump(unix.BPF_JEQ, h.value, 0, rest+1))
	}
	return append(code, ret(c.then))
}

// filterable reports whether the kernel has filters and we know its numbers.
func filterable() bool {
	action := uint32(kill)
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_GET_ACTION_AVAIL, 0, uintptr(unsafe.Pointer(&action)))
	return errno == 0 && auditArch != 0
}

// install puts a filter before every system call of the thread, or with
// SECCOMP_FILTER_FLAG_TSYNC of the process. It stays to the end.
func install(prog []unix.SockFilter, flags uintptr) error {
	fprog := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	thread, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&fprog)))
	if errno != 0 {
		return fmt.Errorf("install seccomp filter: %w", errno)
	}
	if thread != 0 {
		return fmt.Errorf("install seccomp filter: thread %d has another", thread)
	}
	return nil
}
