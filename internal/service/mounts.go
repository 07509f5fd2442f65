package service

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// mountChanges tells of everything that is mounted or unmounted, until ctx ends.
// It is told by poll(2) on the list of mounts, which is not read.
func mountChanges(ctx context.Context, changed chan<- struct{}) error {
	// Not by package os, whose poller would be told instead of us.
	list, err := unix.Open("/proc/self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("cannot open the list of mounts: %w", err)
	}
	defer unix.Close(list)
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("cannot make an eventfd: %w", err)
	}
	defer unix.Close(wake)
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		_, _ = unix.Write(wake, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // it is empty
	})
	defer func() {
		if !stop() {
			<-ended // before its descriptor is another's
		}
	}()
	for {
		fds := []unix.PollFd{{Fd: int32(list), Events: unix.POLLPRI}, {Fd: int32(wake), Events: unix.POLLIN}}
		_, err := unix.Poll(fds, -1)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("cannot wait for mounts: %w", err)
		case fds[1].Revents != 0:
			return nil
		}
		select {
		case changed <- struct{}{}:
		default: // told already
		}
	}
}
