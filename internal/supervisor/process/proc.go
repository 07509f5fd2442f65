package process

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// BootID names this boot of the host.
func BootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("cannot tell which boot this is: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// stat is what we read of /proc/PID/stat.
type stat struct {
	state byte
	ticks uint64 // start time since boot, field 22
	exit  int    // wait status, field 52; of a zombie
}

// Ticks gives the start time of a process, which with its pid names it within
// this boot.
func Ticks(pid int) (uint64, error) {
	st, err := readStat(pid)
	return st.ticks, err
}

// readStat reads fields counted from behind the command's name, which may hold
// spaces and parentheses (proc_pid_stat(5)).
func readStat(pid int) (stat, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, err
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	// Fields 3, 22 and 52; the first behind the name is field 3.
	const state, start, exit = 0, 19, 49
	if len(f) <= exit {
		return stat{}, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(f))
	}
	ticks, err := strconv.ParseUint(f[start], 10, 64)
	if err != nil {
		return stat{}, fmt.Errorf("/proc/%d/stat: start time: %w", pid, err)
	}
	code, err := strconv.Atoi(f[exit])
	if err != nil {
		return stat{}, fmt.Errorf("/proc/%d/stat: exit code: %w", pid, err)
	}
	return stat{f[state][0], ticks, code}, nil
}

// Wchan says where in the kernel a process waits, "" when it does not or we
// may not know.
func Wchan(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/wchan", pid))
	if err != nil || string(b) == "0" {
		return ""
	}
	return string(b)
}

// allPIDs lists the processes of the host.
func allPIDs() ([]int, error) {
	d, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer d.Close() // opened for reading
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, n := range names {
		if pid, err := strconv.Atoi(n); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}
