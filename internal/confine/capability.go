package confine

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// capabilityNames are those that anybody keeps.
var capabilityNames = map[uint]string{
	unix.CAP_CHOWN: "chown", unix.CAP_DAC_OVERRIDE: "dac_override", unix.CAP_DAC_READ_SEARCH: "dac_read_search", unix.CAP_FOWNER: "fowner",
	unix.CAP_FSETID: "fsetid", unix.CAP_SETFCAP: "setfcap", unix.CAP_LEASE: "lease", unix.CAP_SYS_RESOURCE: "sys_resource",
	unix.CAP_SYS_PTRACE: "sys_ptrace", unix.CAP_SYS_ADMIN: "sys_admin",
}

// Capabilities are a set of them (capabilities(7)).
type Capabilities []uint

func (c Capabilities) names() (names []string) {
	for _, number := range c {
		names = append(names, capabilityNames[number])
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// needed are those without which these files cannot be opened again: other users' are
// closed to the superuser too, if he has no capability.
func needed(p Policy) (c Capabilities, err error) {
	me := uint32(os.Geteuid())
	if me != 0 {
		return nil, nil // nobody else has any
	}
	others := func(files []*os.File) bool {
		return slices.ContainsFunc(files, func(f *os.File) bool {
			var st unix.Stat_t
			err = errors.Join(err, unix.Fstat(int(f.Fd()), &st))
			return st.Uid != me
		})
	}
	switch {
	case others(p.Write):
		c = Capabilities{unix.CAP_DAC_OVERRIDE}
	case others(p.Read):
		c = Capabilities{unix.CAP_DAC_READ_SEARCH}
	}
	return c, err
}

// sets are those that the calling thread would have, with nothing to inherit, and what
// of them it has.
func (c Capabilities) sets() (data [2]unix.CapUserData, has Capabilities, err error) {
	var have [2]unix.CapUserData
	if err := unix.Capget(&capabilityHeader, &have[0]); err != nil {
		return data, nil, fmt.Errorf("read capabilities: %w", err)
	}
	for _, number := range c {
		if have[number/32].Permitted&(1<<(number%32)) != 0 {
			data[number/32].Permitted |= 1 << (number % 32)
			has = append(has, number)
		}
	}
	for i := range data {
		data[i].Effective = data[i].Permitted
	}
	return data, has, nil
}

// capabilityHeader is for the calling thread.
var capabilityHeader = unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}

// keep takes all other capabilities from the calling thread. The bounding set is
// emptied where that may be done: a program that is executed gets none of it anyhow
// where no new privileges are to be had.
func (c Capabilities) keep() error {
	for number := range uint(unix.CAP_LAST_CAP + 1) {
		if !slices.Contains(c, number) {
			_ = unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(number), 0, 0, 0) // EPERM without CAP_SETPCAP, EINVAL of older kernels
		}
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("clear ambient capabilities: %w", err)
	}
	data, _, err := c.sets()
	if err != nil {
		return err
	}
	if err := unix.Capset(&capabilityHeader, &data[0]); err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	return nil
}
