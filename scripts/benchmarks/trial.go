package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"storaged/internal/record"
)

// contender is one way to do the work of a case.
type contender struct {
	name string
	// absent says why it cannot run here, "" if it can.
	absent string
	// argv is one command; SOURCE and TARGET in it are the files.
	argv []string
	// daemon is who works for the command, if it is not the command itself.
	daemon func() int
	// before runs ahead of each trial and is not measured.
	before func(ctx context.Context, w *work) error
	warmth warmth
	// inner gives the time that counts by what the command printed, in seconds;
	// nil: all of it counts.
	inner func(out []byte) (float64, error)
	// most is what ours may take of its time, 0 if nothing is promised; of ours
	// it is the time itself, in seconds.
	most float64
	all  bool // memory is that of all its processes together
}

// bound promises that ours takes at most so many times the time of this one.
func (c contender) bound(share float64) contender {
	c.most = share
	return c
}

// in promises that ours takes at most so many seconds.
func (c contender) in(seconds float64) contender {
	c.most = seconds
	return c
}

func (c contender) named(name string) contender {
	c.name = name
	return c
}

// work is where a trial finds its files.
type work struct {
	source, target string
	besides        string // another source, "" if there is none
	keep           bool   // the target is the object and stays (a wipe)
}

// figures are what one trial took.
type figures struct {
	durable float64 // seconds until the target was durable, or the contender's inner time
	cpu     float64 // seconds, of all processes that worked
	rss     float64 // bytes at most, of the largest of them, or of all together
	cache   float64 // bytes of both files that are in the page cache afterwards
}

// trial runs a contender once. The clock stops when the target and its
// directory are durable, which costs nothing where they are already.
func (c contender) trial(ctx context.Context, w *work) (figures, error) {
	if err := c.prepare(ctx, w); err != nil {
		return figures{}, err
	}
	debug.FreeOSMemory()
	forgetPeak(os.Getpid()) // a process inherits it, wait4(2) would give it as the command's
	cmd := exec.CommandContext(ctx, c.argv[0], w.fill(c.argv[1:])...)
	var pid int
	var spent float64
	if c.daemon != nil {
		pid = c.daemon()
		spent = processCPU(pid)
		forgetPeak(pid)
	}
	start := time.Now()
	out, together, err := c.output(cmd)
	if err == nil {
		err = w.settle()
	}
	took := time.Since(start)
	if err != nil {
		return figures{}, fmt.Errorf("%s: %w%s", c.name, err, said(err))
	}
	f := figures{durable: took.Seconds()}
	if c.inner != nil {
		if f.durable, err = c.inner(out); err != nil {
			return figures{}, fmt.Errorf("%s: %w", c.name, err)
		}
	}
	usage := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	f.cpu = (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
	f.rss = max(float64(usage.Maxrss)*1024, together)
	if pid != 0 {
		f.cpu += processCPU(pid) - spent
		f.rss = max(f.rss, peak(pid), helperPeak(out))
	}
	f.cache = float64(cached(w.source) + cached(w.target))
	return f, nil
}

// output runs a command, and measures its processes together if that is wanted.
func (c contender) output(cmd *exec.Cmd) (out []byte, together float64, err error) {
	if !c.all {
		out, err = cmd.Output()
		return out, 0, err
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		return nil, 0, err
	}
	stop := watchMemory(cmd.Process.Pid)
	err = cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		exit.Stderr = stderr.Bytes()
	}
	return stdout.Bytes(), stop(), err
}

// prepare does what goes before a trial and is not measured.
func (c contender) prepare(ctx context.Context, w *work) error {
	if c.before != nil {
		if err := c.before(ctx, w); err != nil {
			return err
		}
	}
	for _, path := range w.there() {
		if err := c.warmth.apply(path); err != nil {
			return err
		}
	}
	return nil
}

// said is what a command that failed wrote to stderr.
func said(err error) string {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return ": " + strings.TrimSpace(string(exit.Stderr))
	}
	return ""
}

// there are the files that a trial finds.
func (w *work) there() []string {
	files := []string{w.source, w.besides}
	if w.keep {
		files = append(files, w.target)
	}
	return slices.DeleteFunc(files, func(path string) bool { return path == "" })
}

// fill puts the files into a command line.
func (w *work) fill(args []string) []string {
	names := strings.NewReplacer("SOURCE", w.source, "TARGET", w.target, "BESIDES-NAME", filepath.Base(w.besides), "BESIDES", w.besides,
		"POOL", filepath.Dir(w.target), "NAME", filepath.Base(w.target), "FROM", filepath.Base(w.source))
	var out []string
	for _, a := range args {
		out = append(out, names.Replace(a))
	}
	return out
}

// settle makes the target durable.
func (w *work) settle() error {
	return errors.Join(syncPath(w.target), syncPath(filepath.Dir(w.target)))
}

func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// clean removes what a trial made.
func (w *work) clean() error {
	if w.keep {
		return nil
	}
	if err := os.Remove(w.target); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return syncPath(filepath.Dir(w.target)) // freeing blocks is nobody's time
}

// cool takes a file out of the page cache.
func cool(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return err
	}
	return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
}

// readAll brings a file into the page cache.
func readAll(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	buf := make([]byte, 1<<20)
	for off := int64(0); ; { // only the data: holes are in nobody's cache
		off, err = unix.Seek(int(f.Fd()), off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil
		}
		if err != nil {
			return err
		}
		n, err := f.ReadAt(buf, off)
		if n == 0 {
			return err
		}
		off += int64(n)
	}
}

// cached is how many bytes of a file are in the page cache, by cachestat(2).
func cached(path string) int64 {
	f, err := os.Open(path)
	if err != nil {
		return 0
	}
	defer f.Close()
	var stat unix.Cachestat_t
	if unix.Cachestat(uint(f.Fd()), &unix.CachestatRange{}, &stat, 0) != nil {
		return 0
	}
	return int64(stat.Cache) * int64(os.Getpagesize())
}

// clockTicks is the unit of times in /proc/PID/stat: USER_HZ, 100 on every
// architecture of ours.
const clockTicks = 100

// processCPU is what a process and its ended children have used, in seconds.
func processCPU(pid int) float64 {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(b), ") ")
	words := strings.Fields(rest)
	sum := 0.0
	for i := 11; i < 15 && i < len(words); i++ { // utime stime cutime cstime, proc(5)
		n, _ := strconv.ParseFloat(words[i], 64)
		sum += n / clockTicks
	}
	return sum
}

// forgetPeak makes a process's peak of memory begin anew, proc(5).
func forgetPeak(pid int) {
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0)
}

// helperPeak is the most memory that the helper of a job had, by the job that a
// command has printed; 0 of any other output.
func helperPeak(out []byte) float64 {
	var job record.Job
	if json.Unmarshal(out, &job) != nil || job.Stats == nil || job.Stats.MaxRSSBytes == nil {
		return 0
	}
	return float64(*job.Stats.MaxRSSBytes)
}

// phaseTime is how long the phases of a job took, by the job that a command has
// printed: without the starts of processes and the daemon's part.
func phaseTime(out []byte) (sum float64, err error) {
	var job record.Job
	if err := json.Unmarshal(out, &job); err != nil {
		return 0, fmt.Errorf("no job in its output: %w", err)
	}
	if job.Stats == nil || len(job.Stats.Phases) == 0 {
		return 0, errors.New("the job has no phases")
	}
	for _, p := range job.Stats.Phases {
		sum += p.Seconds
	}
	return sum, nil
}

// secondsPrinted takes a command at its word.
func secondsPrinted(out []byte) (float64, error) {
	return strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
}

// peak is the most memory that a process had at once, in bytes.
func peak(pid int) float64 {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	var kib float64
	_, _ = fmt.Sscan(rest, &kib)
	return kib * 1024
}
