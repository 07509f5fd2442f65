// Package process starts the helper processes, finds them again, watches for
// their end, and reaches everything they started. It knows processes, locks
// and control groups of Linux, and nothing of jobs.
//
// A process is named by its pid together with its start time and the boot it
// belongs to, held by a pidfd, and never signalled through a bare pid.
package process

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrGone says that the process asked for does not exist any more: its pid is
// free, belongs to another process, or is a zombie's.
var ErrGone = errors.New("no such process")

// Spec is a process to start.
type Spec struct {
	Path   string     // absolute path of the program
	Argv   []string   // with the program's name in front
	Env    []string   // all of the environment
	Log    *os.File   // its standard output and error
	Lock   *os.File   // becomes descriptor 3
	Data   *os.File   // becomes descriptor 4; nil: there is none
	More   []*os.File // become descriptors 5 and so on
	Cgroup *os.File   // directory of the cgroup v2 to start in; nil for our own
}

// Proc is a running process that we started or found again. Its methods may be
// called from any goroutine.
type Proc struct {
	pid   int
	ticks uint64
	pidfd *os.File

	exited chan struct{} // closed by watch when the process has ended
	watch  sync.WaitGroup
	exit   Exit // valid once exited is closed
}

// Exit is how a process ended.
type Exit struct {
	Known  bool // false: it was not our child and the kernel does not know
	Code   int  // exit status; -1 after a signal
	Signal syscall.Signal
	CPU    time.Duration // user and system, with its children that were waited for

	Measured bool // CPU is known: it was our child
}

// Start runs the process in a session of its own, with standard input from
// /dev/null and no other descriptor of ours than those of the Spec. There is
// no Pdeathsig: it fires when the thread that forked ends (golang/go#27505),
// and a helper is to outlive the daemon.
func Start(s Spec) (*Proc, error) {
	// What we were started with (sockets of socket activation, say) has no
	// close-on-exec flag. A kernel before 5.11 refuses, and nothing is lost
	// but tidiness.
	_ = unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot start %q: %w", s.Path, err)
	}
	defer null.Close()
	pidfd := -1
	sys := &syscall.SysProcAttr{Setsid: true, PidFD: &pidfd}
	if s.Cgroup != nil {
		sys.UseCgroupFD, sys.CgroupFD = true, int(s.Cgroup.Fd())
	}
	files := []*os.File{null, s.Log, s.Log, s.Lock}
	switch {
	case s.Data != nil:
		files = append(files, s.Data)
	case len(s.More) > 0:
		files = append(files, null)
	}
	files = append(files, s.More...)
	p, err := os.StartProcess(s.Path, s.Argv, &os.ProcAttr{Dir: "/", Env: s.Env, Sys: sys, Files: files})
	if err != nil {
		return nil, fmt.Errorf("cannot start %q: %w", s.Path, err)
	}
	pid := p.Pid
	if pidfd < 0 {
		p.Kill() // without a pidfd it could not be watched
		p.Wait() // status of no interest
		return nil, fmt.Errorf("cannot start %q: the kernel has no pidfd (Linux 5.3 has)", s.Path)
	}
	p.Release() // the pidfd is our handle
	expose(pid)
	level(pid)
	st, err := readStat(pid)
	if err != nil {
		return nil, fmt.Errorf("internal error: child %d is not in /proc: %w", pid, err)
	}
	return watched(pid, st.ticks, pidfd)
}

// expose takes away from a child the protection from the kernel's killer for
// want of memory that a service may have (OOMScoreAdjust=) and that children
// inherit: a helper that eats memory is to die before a virtual machine does. It has no
// children yet. A child that has ended already needs none of this.
func expose(pid int) {
	own, err := os.ReadFile("/proc/self/oom_score_adj")
	if err == nil && strings.HasPrefix(string(own), "-") {
		_ = os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid), []byte("0"), 0)
	}
}

// level takes away from a child, which leads a process group of its own, that we
// go before others on a busy processor: it competes with virtual machines. A child that
// has ended already needs none of this.
func level(pid int) {
	const neutral = 20 // what getpriority(2) gives for nice 0, and more for less
	if own, err := unix.Getpriority(unix.PRIO_PROCESS, 0); err == nil && own > neutral {
		_ = unix.Setpriority(unix.PRIO_PGRP, pid, 0)
	}
}

// yields is the nice value of a process that makes way for others: a fifth of the share of
// one that does not.
const yields = 7

// Yield has a process that leads a session, and all that it starts from now on, go behind
// others on a busy processor. One that has ended needs none of this.
func (p *Proc) Yield() {
	const neutral = 20 // what getpriority(2) gives for nice 0, and less for more
	if now, err := unix.Getpriority(unix.PRIO_PROCESS, p.pid); err != nil || neutral-now >= yields {
		return // ESRCH: it is gone; or who started us has put us further behind
	}
	_ = unix.Setpriority(unix.PRIO_PGRP, p.pid, yields) // ESRCH
	// Outside the cgroups of a service manager the sessions of a host share its
	// processors, sched(7), whatever nice values their processes have.
	_ = os.WriteFile(filepath.Join(dirOf(p.pid), "autogroup"), []byte(strconv.Itoa(yields)), 0) // ENOENT: this kernel has none
}

// Adopt finds a process again by pid and start time. The pidfd is opened
// before the start time is compared, so that the process compared is the
// process held. ErrGone when there is none, or only its zombie.
func Adopt(pid int, ticks uint64) (*Proc, error) {
	if pid <= 0 {
		return nil, ErrGone
	}
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) {
		return nil, ErrGone
	}
	if err != nil {
		return nil, fmt.Errorf("cannot hold process %d: %w", pid, err)
	}
	st, err := readStat(pid)
	if err != nil || st.ticks != ticks || st.state == 'Z' {
		unix.Close(fd)
		return nil, ErrGone
	}
	return watched(pid, ticks, fd)
}

func watched(pid int, ticks uint64, fd int) (*Proc, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, fmt.Errorf("cannot watch process %d: %w", pid, err)
	}
	p := &Proc{pid: pid, ticks: ticks, exited: make(chan struct{})}
	p.pidfd = os.NewFile(uintptr(fd), fmt.Sprintf("pidfd of %d", pid))
	conn, err := p.pidfd.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("cannot watch process %d: %w", pid, err)
	}
	p.watch.Go(func() {
		// A pidfd is readable from the process's end on, zombie or not.
		if err := conn.Read(readable); err != nil {
			return // released
		}
		p.exit = p.reap()
		close(p.exited)
	})
	return p, nil
}

func readable(fd uintptr) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n > 0
}

// PID and Ticks name the process; Ticks is field 22 of /proc/PID/stat.
func (p *Proc) PID() int      { return p.pid }
func (p *Proc) Ticks() uint64 { return p.ticks }

// Exited is closed when the process has ended. It stays open after Release.
func (p *Proc) Exited() <-chan struct{} { return p.exited }

// Exit gives how it ended. It may be called once Exited is closed.
func (p *Proc) Exit() Exit {
	select {
	case <-p.exited:
		return p.exit
	default:
		panic("internal error: Exit of a process that runs")
	}
}

// Signal sends a signal to this process alone. A process that has ended is no
// error.
func (p *Proc) Signal(sig syscall.Signal) error {
	conn, err := p.pidfd.SyscallConn()
	if err != nil {
		return fmt.Errorf("cannot signal process %d: %w", p.pid, err)
	}
	var serr error
	if err := conn.Control(func(fd uintptr) { serr = unix.PidfdSendSignal(int(fd), sig, nil, 0) }); err != nil {
		return fmt.Errorf("cannot signal process %d: %w", p.pid, err)
	}
	if serr != nil && !errors.Is(serr, unix.ESRCH) {
		return fmt.Errorf("cannot signal process %d: %w", p.pid, serr)
	}
	return nil
}

// Release ends the watching and leaves the process as it is.
func (p *Proc) Release() {
	p.pidfd.Close() // ends watch; a pidfd has nothing to flush
	p.watch.Wait()
}

// reap gets the exit status: by wait if it is our child, else from the kernel's
// record of it (PIDFD_INFO_EXIT, Linux 6.15), else from the zombie that its
// parent has not reaped yet.
func (p *Proc) reap() Exit {
	var ws unix.WaitStatus
	var ru unix.Rusage
	for {
		pid, err := unix.Wait4(p.pid, &ws, unix.WNOHANG, &ru)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err == nil && pid == p.pid {
			e := exitOf(ws)
			e.CPU, e.Measured = time.Duration(ru.Utime.Nano()+ru.Stime.Nano()), true
			return e
		}
		break
	}
	if ws, ok := p.exitInfo(); ok {
		return exitOf(ws)
	}
	if e, ok := Zombie(p.pid, p.ticks); ok {
		return e
	}
	if ws, ok := p.exitInfo(); ok {
		return exitOf(ws) // reaped between the two looks
	}
	return Exit{Code: -1}
}

// Zombie gives the exit of a process that has ended and was not reaped yet, by
// a parent that is slow or never does.
func Zombie(pid int, ticks uint64) (e Exit, ok bool) {
	st, err := readStat(pid)
	if err != nil || st.ticks != ticks || st.state != 'Z' {
		return Exit{Code: -1}, false
	}
	return exitOf(unix.WaitStatus(st.exit)), true
}

// exitInfo asks for the exit status of a process that was not ours to wait
// for. The kernel knows it only once the process has been reaped; an older
// kernel knows nothing.
func (p *Proc) exitInfo() (ws unix.WaitStatus, ok bool) {
	conn, err := p.pidfd.SyscallConn()
	if err != nil {
		return 0, false
	}
	info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_EXIT}
	err = conn.Control(func(fd uintptr) {
		ok = unix.IoctlPidfdInfo(int(fd), &info) == nil && info.Mask&unix.PIDFD_INFO_EXIT != 0
	})
	return unix.WaitStatus(info.Exit_code), ok && err == nil
}

func exitOf(ws unix.WaitStatus) Exit {
	if ws.Signaled() {
		return Exit{Known: true, Code: -1, Signal: ws.Signal()}
	}
	return Exit{Known: true, Code: ws.ExitStatus()}
}
