package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	persistent = 100    // connections that list and look
	longJobs   = 20     // at work meanwhile
	longBytes  = "1GiB" // that each of them writes, again and again
)

// served is a daemon as clients of libvirt see it.
type served struct {
	name   string
	socket string
	pid    int
	took   samples
	wipes  atomic.Int64
}

func (s *served) virsh(ctx context.Context, args ...string) error {
	return virsh(ctx, libvirtURI(s.socket), args...)
}

// callers measures what clients of libvirt wait for while others are at work: of us and
// of libvirtd in turn, and of us alone while hundreds of calls wait.
func callers(ctx context.Context, bin string, args []string) error {
	set := flag.NewFlagSet("callers", flag.ContinueOnError)
	length := set.Duration("length", 20*time.Second, "how long a round is")
	rounds := set.Int("n", 3, "rounds of each daemon, in turn")
	if err := set.Parse(args); err != nil {
		return err
	}
	r, err := startRig(ctx, bin)
	if err != nil {
		return err
	}
	defer r.stop()
	theirs := filepath.Join(r.dir, "theirs")
	if err := errors.Join(os.Mkdir(theirs, 0o700), r.definePool(ctx, peersPool, filepath.Join(r.dir, "ours"))); err != nil {
		return err
	}
	l := startLibvirt(ctx, r.dir, theirs)
	defer l.stop()
	all := []*served{{name: "storaged", socket: r.libvirtSocket(), pid: r.daemon.Process.Pid}}
	if l.absent == "" {
		all = append(all, &served{name: "libvirtd", socket: l.socket, pid: l.daemon.Process.Pid})
	} else {
		fmt.Fprintln(os.Stderr, "libvirtd is not measured:", l.absent)
	}
	if err := beside(ctx, all, *rounds, *length); err != nil {
		return err
	}
	return waits(ctx, r, *length)
}

// goAhead puts the clients that are timed before all else on a busy processor: it is to be
// seen how soon a daemon answers, and not how long a client waits for its turn to hear that.
func goAhead() error {
	const ahead = -15
	tasks, err := filepath.Glob("/proc/self/task/*")
	for _, t := range tasks {
		tid, _ := strconv.Atoi(filepath.Base(t)) // the kernel names them by numbers
		err = errors.Join(err, unix.Setpriority(unix.PRIO_PROCESS, tid, ahead))
	}
	return err
}

// beside measures calls on many connections while long jobs run.
func beside(ctx context.Context, all []*served, rounds int, length time.Duration) error {
	for _, d := range all {
		for i := range longJobs {
			if err := errors.Join(d.virsh(ctx, "vol-create-as", peersPool, long(i), longBytes), d.virsh(ctx, "vol-create-as", peersPool, still(i), "1MiB")); err != nil {
				return err
			}
		}
		forgetPeak(d.pid)
	}
	if err := goAhead(); err != nil {
		return err
	}
	for range rounds {
		for _, d := range all {
			if err := d.round(ctx, length); err != nil {
				return fmt.Errorf("%s: %w", d.name, err)
			}
		}
	}
	fmt.Printf("\n## %d connections that list and look while %d wipes run, half of them at what is wiped\n\n| | calls a second | median | p99 | longest | wipes a second | memory |\n|---|---|---|---|---|---|---|\n", persistent, longJobs)
	for _, d := range all {
		seconds := length.Seconds() * float64(rounds)
		fmt.Printf("| %s | %.0f | %s | %s | %s | %.1f | %.0f MiB |\n", d.name, float64(len(d.took))/seconds,
			milli(d.took.at(0.5)), milli(d.took.at(0.99)), milli(d.took.at(1)), float64(d.wipes.Load())/seconds, peak(d.pid)/(1<<20))
	}
	return nil
}

// long names a volume that is wiped.
func long(i int) string { return fmt.Sprint("long-", i) }

// still names one that is only looked at.
func still(i int) string { return fmt.Sprint("still-", i) }

// round is one of a daemon: jobs all the time, and calls on all connections.
func (s *served) round(ctx context.Context, length time.Duration) error {
	until := time.Now().Add(length)
	var all sync.WaitGroup
	failures := make([]error, longJobs+persistent)
	for i := range longJobs {
		all.Go(func() {
			for failures[i] == nil && time.Now().Before(until) {
				failures[i] = s.virsh(ctx, "vol-wipe", long(i), peersPool)
				s.wipes.Add(1)
			}
		})
	}
	took := make([]samples, persistent)
	for i := range persistent {
		volume := long(i / 2 % longJobs) // every other connection looks at one that a job has
		if i%2 == 0 {
			volume = still(i / 2 % longJobs)
		}
		all.Go(func() { took[i], failures[longJobs+i] = lookAgain(until, s.socket, peersPool, volume) })
	}
	all.Wait()
	for _, one := range took {
		s.took = append(s.took, one...)
	}
	return errors.Join(failures...)
}
