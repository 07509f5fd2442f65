package helper

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"storaged/internal/ipc"
	"storaged/internal/quantity"
	"storaged/internal/record"
	"storaged/internal/wipe"
)

// failureOf gives the error of a report, nil for a success.
func failureOf(report *ipc.Report) error {
	if report.Error == nil {
		return nil
	}
	return report.Error.Record()
}

func resultOf(r *ipc.Report) *record.Result {
	out := r.Result()
	if r.Volume != nil {
		out.Volume = r.Volume.Name
	}
	if p := r.Pool; p != nil {
		out.Path, out.Capacity, out.Allocation = p.Path, p.Capacity, p.Allocation
	}
	for _, it := range r.Items {
		if it.Ignored == "" {
			out.Items = append(out.Items, itemOf(it))
		}
	}
	return out
}

// itemOf is a volume that was found, or one that something was done with.
func itemOf(it ipc.Item) record.Item {
	out := it.Record()
	out.State = cmp.Or(out.State, string(record.Succeeded))
	return out
}

// statsOf gives what was measured, and the time that this process has used.
func statsOf(r *ipc.Report) *record.Stats {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		panic("internal error: " + err.Error()) // EFAULT and EINVAL are all there is
	}
	s := r.Stats()
	s.Phases = append([]record.PhaseStats{}, s.Phases...) // a list is never null
	s.CPUS = new(time.Duration(used.Utime.Nano() + used.Stime.Nano()).Seconds())
	return s
}

// peakMemory is the most memory that this process has had, in bytes; 0 if that is
// not known. ru_maxrss of getrusage(2) is no such thing: exec(2) hands on what the
// process had that started this one.
func peakMemory() int64 {
	fd, err := unix.Open("/proc/self/status", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	var status [4 << 10]byte // it is half as long
	n, err := unix.Read(fd, status[:])
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(status[:n]), "\nVmHWM:")
	line, _, _ := strings.Cut(rest, " kB\n")
	kib, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
	if err != nil {
		return 0
	}
	return kib << 10
}

// summary is the result as a line for a person.
func summary(t Task, r *ipc.Report, took time.Duration) string {
	var facts []string
	add := func(is bool, format string, args ...any) {
		if is {
			facts = append(facts, fmt.Sprintf(format, args...))
		}
	}
	add(r.Bytes > 0, "%s", quantity.FormatBytes(r.Bytes))
	add(r.Method == wipe.MethodNone, "%s", cmp.Or(t.Idle, "nothing to overwrite"))
	add(r.Method != "" && r.Method != wipe.MethodNone, "by %s", r.Method)
	add(r.Holes > 0, "%s of holes", quantity.FormatBytes(r.Holes))
	add(r.Passes > 1, "%d passes", r.Passes)
	add(r.Verified, "verified")
	add(r.Checksum != "", "%s", r.Checksum)
	if r.Pool == nil && len(r.Items) > 0 {
		add(true, "%d volumes", volumes(r))
	}
	if r.Pool != nil {
		listed := func(p ipc.Spent) bool { return p.Name == Scanning().Name }
		add(slices.ContainsFunc(r.Phases, listed), "%d volumes", volumes(r))
		add(true, "%s available", quantity.FormatBytes(r.Pool.Available))
	}
	add(true, "in %s", quantity.FormatDuration(took))
	add(len(r.Limits) > 0, "but %s", strings.Join(r.Limits, "; "))
	return t.Done + ": " + strings.Join(facts, ", ")
}

func volumes(r *ipc.Report) int {
	n := 0
	for _, it := range r.Items {
		if it.Ignored == "" {
			n++
		}
	}
	return n
}
