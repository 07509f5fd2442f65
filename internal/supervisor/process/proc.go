package process

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// BootID names this boot of the host.
func BootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("cannot find out which boot this is: %w", err)
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

// dirOf is where the kernel shows a process, proc(5).
func dirOf(pid int) string { return fmt.Sprintf("/proc/%d", pid) }

func readStat(pid int) (stat, error) { return statIn(dirOf(pid)) }

// statIn reads fields of a process or a thread, counted from behind the
// command's name, which may hold spaces and parentheses (proc_pid_stat(5)).
func statIn(dir string) (stat, error) {
	b, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return stat{}, err
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	// Fields 3, 22 and 52; the first behind the name is field 3.
	const state, start, exit = 0, 19, 49
	if len(f) <= exit {
		return stat{}, fmt.Errorf("%s/stat has %d fields", dir, len(f))
	}
	ticks, err := strconv.ParseUint(f[start], 10, 64)
	if err != nil {
		return stat{}, fmt.Errorf("%s/stat: start time: %w", dir, err)
	}
	code, err := strconv.Atoi(f[exit])
	if err != nil {
		return stat{}, fmt.Errorf("%s/stat: exit code: %w", dir, err)
	}
	return stat{f[state][0], ticks, code}, nil
}

// threadOf gives the directory in /proc that shows most of what a process does:
// that of the process itself, which is that of its first thread, unless another
// thread waits in the kernel where no signal reaches it, or the first one has
// ended before others. Of such a process /proc/PID shows but a zombie.
func threadOf(pid int) string {
	best := dirOf(pid)
	most := rankOf(best)
	threads, err := os.ReadDir(filepath.Join(best, "task"))
	if err != nil {
		return best // it has ended
	}
	for _, t := range threads {
		dir := filepath.Join(dirOf(pid), "task", t.Name())
		if rank := rankOf(dir); rank > most {
			best, most = dir, rank
		}
	}
	return best
}

// rankOf ranks a thread by how much its state says.
func rankOf(dir string) int {
	st, err := statIn(dir)
	switch {
	case err != nil || st.state == 'X' || st.state == 'x':
		return 0
	case st.state == 'Z':
		return 1
	case st.state == 'D':
		return 3
	}
	return 2
}

// describe says for people in which state a process is and where in the kernel
// it waits; "" of one that has ended.
func describe(pid int) string {
	dir := threadOf(pid)
	st, err := statIn(dir)
	if err != nil {
		return ""
	}
	s := fmt.Sprintf("process %d", pid)
	if dir != dirOf(pid) {
		s += fmt.Sprintf(", thread %s,", filepath.Base(dir))
	}
	s += fmt.Sprintf(" in state %c", st.state)
	if w := wchan(dir); w != "" {
		s += " (" + w + ")"
	}
	return s
}

// fuseWait is where a thread waits for the program that answers for a file system of FUSE:
// a signal reaches it there at first.
const fuseWait = "request_wait_answer"

// wait says who does not answer where a thread waits at a place in the kernel, by the
// beginning of its name.
type wait struct{ at, who string }

// awaited are those that are known, what says most first.
var awaited = []wait{
	{"rpc_", "a server of NFS"}, {"nfs", "a server of NFS"}, {fuseWait, "the program behind a file system of FUSE"}, {"fuse_", "the program behind a file system of FUSE"},
	{"io_schedule", "a device"}, {"blk_", "a device"}, {"bio_", "a device"}, {"jbd2_", "a device"}, {"xfs_", "a device"},
	{"folio_wait", "a device or a server"}, {"wait_on_page", "a device or a server"},
}

// waitOf describes a process that waits for a device or a server, or is stopped; "" of one
// that is neither. Of several threads that wait, the one counts of which most is known.
func waitOf(pid int) string {
	best, text := len(awaited)+1, ""
	threads, _ := filepath.Glob(filepath.Join(dirOf(pid), "task", "*")) // the pattern is good
	for _, thread := range threads {
		st, err := statIn(thread)
		at := wchan(thread)
		if err == nil && (st.state == 'T' || st.state == 't') {
			return fmt.Sprintf("process %d is stopped, by a signal or a debugger", pid)
		}
		if err != nil || st.state != 'D' && at != fuseWait {
			continue
		}
		rank := slices.IndexFunc(awaited, func(a wait) bool { return strings.HasPrefix(at, a.at) })
		if rank < 0 && text == "" {
			text = describe(pid)
		}
		if rank >= 0 && rank < best {
			best, text = rank, fmt.Sprintf("process %d waits for %s (%s)", pid, awaited[rank].who, at)
		}
	}
	return text
}

// wchan says where in the kernel a thread waits, "" when it does not or we may
// not know.
func wchan(dir string) string {
	b, err := os.ReadFile(filepath.Join(dir, "wchan"))
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
	defer d.Close()
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
