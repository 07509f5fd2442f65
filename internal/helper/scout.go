package helper

import (
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"storaged/internal/confine"
	"storaged/internal/image"
)

// scouting is how a helper calls itself that is a scout (image.SendScout). It is no
// command: nobody starts it by hand.
const scouting = "scout"

// seeks reports whether locks are to be taken when the process is confined, whose holders
// it does not see any more then.
func (r *Run) seeks(t Task) bool { return t.Seeks || t.Settles || r.resumes }

// sendScout starts the scout of a task that needs one.
func (r *Run) sendScout(t Task) (err error) {
	if r.seeks(t) && !t.Pools {
		r.scout, err = image.SendScout(scouting)
	}
	return err
}

func (r *Run) recallScout() {
	if r.scout != nil {
		r.scout.Recall()
	}
}

// Scouts does the work of a scout, if it is what this process was started as.
func Scouts(args []string) (was bool) {
	if !slices.Equal(args[1:], []string{scouting}) {
		return false
	}
	// What it is asked by has it end; what a person sends is for the helper.
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2)
	if err := watch(); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", Program, err)
	}
	return true
}

// watch gives up all but what it takes to look for who has files open: it writes nothing.
func watch() error {
	for _, resource := range []int{unix.RLIMIT_FSIZE, unix.RLIMIT_CORE} {
		if err := unix.Setrlimit(resource, &unix.Rlimit{}); err != nil {
			return fmt.Errorf("cannot bound the scout: %w", err)
		}
	}
	_, err := confine.Process(confine.Policy{Anywhere: true, Capabilities: slices.Concat(reads, seeks)})
	if err != nil {
		return err
	}
	return image.Watch()
}
