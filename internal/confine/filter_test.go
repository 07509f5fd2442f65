//go:build amd64 || arm64

package confine

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"
)

// called is what the kernel shows a filter of a system call.
type called struct {
	number, arch uint32
	args         [6]uint64
}

// seccompData is struct seccomp_data.
func (c called) seccompData() []byte {
	b := make([]byte, 64)
	binary.LittleEndian.PutUint32(b, c.number)
	binary.LittleEndian.PutUint32(b[4:], c.arch)
	for i, a := range c.args {
		binary.LittleEndian.PutUint64(b[16+8*i:], a)
	}
	return b
}

// judge runs a filter as the kernel does.
func judge(t *testing.T, prog []unix.SockFilter, c called) uint32 {
	t.Helper()
	data := c.seccompData()
	for a, pc := uint32(0), 0; pc < len(prog); pc++ {
		in, yes := prog[pc], false
		switch in.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			a = binary.LittleEndian.Uint32(data[in.K:])
			continue
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			a &= in.K
			continue
		case unix.BPF_RET | unix.BPF_K:
			return in.K
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			yes = a == in.K
		case unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K:
			yes = a > in.K
		default:
			t.Fatalf("instruction %#x", in.Code)
		}
		if yes {
			pc += int(in.Jt)
		} else {
			pc += int(in.Jf)
		}
	}
	t.Fatal("the filter has no end")
	return 0
}

// verdict is what the rules say, without a filter.
func verdict(rules []call, otherwise uint32, c called) uint32 {
	for _, r := range rules {
		fits := r.number == uintptr(c.number)
		for _, m := range r.when {
			fits = fits && c.args[m.arg]&m.mask == m.value
		}
		if fits {
			return r.then
		}
	}
	return otherwise
}

func TestFilterSaysWhatTheRulesSay(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	few := []uint64{0, 1, 2, 1 << 32, 3 << 32, 1<<32 | 1, ^uint64(0)}
	pick := func() uint64 { return few[random.IntN(len(few))] }
	for range 300 {
		var rules []call
		for range random.IntN(12) {
			r := call{number: uintptr(random.IntN(5)), then: uint32(random.IntN(4))}
			for range random.IntN(4) {
				mask := pick()
				r.when = append(r.when, match{random.IntN(6), mask, pick() & mask})
			}
			rules = append(rules, r)
		}
		prog, err := assemble(rules, 9)
		if err != nil {
			t.Fatal(err)
		}
		for range 100 {
			c := called{number: uint32(random.IntN(6)), arch: auditArch}
			for i := range c.args {
				c.args[i] = pick()
			}
			if got, want := judge(t, prog, c), verdict(rules, 9, c); got != want {
				t.Fatalf("%+v of %+v: %d, want %d", c, rules, got, want)
			}
		}
	}
}

func TestFilterKnowsItsArchitectureOnly(t *testing.T) {
	prog, err := assemble(calls(allow, unix.SYS_READ), refuse)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		is   called
		want uint32
	}{
		{called{number: unix.SYS_READ, arch: auditArch}, allow},
		{called{number: unix.SYS_WRITE, arch: auditArch}, refuse},
		{called{number: unix.SYS_READ, arch: unix.AUDIT_ARCH_I386}, kill},
		{called{number: 0x40000000 | unix.SYS_READ, arch: auditArch}, unknown},
	} {
		if got := judge(t, prog, c.is); got != c.want {
			t.Errorf("%+v: %#x, want %#x", c.is, got, c.want)
		}
	}
}

func TestProgramStartsThreadsAndNoProcesses(t *testing.T) {
	const secret = 77 << 32
	prog, err := assemble(childCalls(secret), unknown)
	if err != nil {
		t.Fatal(err)
	}
	const vfork = unix.CLONE_VFORK | unix.CLONE_VM | uint64(unix.SIGCHLD)
	for _, c := range []struct {
		flags uint64
		want  uint32
	}{
		{unix.CLONE_VM | unix.CLONE_THREAD | unix.CLONE_SIGHAND, allow},
		{vfork, refuse},
		{secret | vfork, allow},
		{secret | vfork | unix.CLONE_NEWNS, kill},
		{78<<32 | vfork, kill},
	} {
		if got := judge(t, prog, called{unix.SYS_CLONE, auditArch, [6]uint64{c.flags}}); got != c.want {
			t.Errorf("clone(%#x): %#x, want %#x", c.flags, got, c.want)
		}
	}
}

func TestRulesThatAreTooLongAreNoFilter(t *testing.T) {
	var rules []call
	for i := range uint64(100) {
		rules = append(rules, call{1, []match{{0, ^uint64(0), i}}, allow})
	}
	if _, err := assemble(rules, refuse); err == nil {
		t.Error("a jump of more than 255 was made")
	}
}
