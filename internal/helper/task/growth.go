package task

import (
	"context"
	"fmt"
	"strconv"
	"sync"

	"storaged/internal/backends"
	"storaged/internal/diskio"
	"storaged/internal/helper"
	"storaged/internal/ipc"
	"storaged/internal/quantity"
	"storaged/internal/record"
)

// growing is the phase of a long read during which others may grow what is
// read, when they ask.
func growing(p ipc.PlanPhase) ipc.PlanPhase {
	p.Mask, p.OnCall = string(record.ModeGrow), true
	return p
}

// sharing is a long read of a volume that others may grow meanwhile, and not
// change otherwise. The read is of what the volume was when it began; what comes
// behind that is not missed.
type sharing struct {
	run    *helper.Run
	path   string
	volume backends.Volume // opened with ReadShared
	backends.Sharer
	kept *sourceWatch // as it was when somebody was last inside
	size int64        // when it was last looked at, in bytes
}

// shareGrowth reads a volume, and lets in between two chunks who wants to grow it. All
// of the run's I/O rests as long as somebody is inside.
func shareGrowth(ctx context.Context, r *helper.Run, v backends.Volume, read func(ctx context.Context) error) error {
	info, err := v.Info()
	if err != nil {
		return err
	}
	kept, err := watch(ctx, r, v.Content(), strconv.Quote(info.Path))
	if err != nil {
		return err
	}
	s := &sharing{run: r, path: info.Path, volume: v, size: info.Size, kept: kept}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	over := make(chan struct{})
	var broken error
	var host sync.WaitGroup
	if sharer, ok := v.(backends.Sharer); ok { // else nobody can make it larger
		s.Sharer = sharer
		host.Go(func() {
			if broken = s.host(ctx, over); broken != nil {
				stop(broken)
			}
		})
	}
	err = read(ctx)
	close(over)
	host.Wait()
	if err = s.kept.ended(err); broken != nil && err == nil {
		err = broken
	}
	if s.size > info.Size {
		r.Warn("%q grew meanwhile from %s to %s; what counts is what it was at the start", s.path, quantity.FormatBoth(info.Size), quantity.FormatBoth(s.size))
	}
	return err
}

// host opens a window for each call until the read is over.
func (s *sharing) host(ctx context.Context, over <-chan struct{}) error {
	for {
		select {
		case <-over:
			return nil
		case <-ctx.Done():
			return nil
		case <-s.run.Windows.Called:
			if err := s.open(ctx); err != nil {
				return err
			}
		}
	}
}

// open lets in who waits, and goes on when they have left.
func (s *sharing) open(ctx context.Context) error {
	resume, err := s.run.Rest(ctx)
	if err != nil {
		return err
	}
	defer resume()
	if err := s.kept.changed(); err != nil { // what comes now is the visitor's
		return err
	}
	if err := s.ShareGrowth(); err != nil {
		return err
	}
	if err := s.run.Windows.Visit(ctx, 0); err != nil {
		return err
	}
	if err := s.KeepSize(); err != nil {
		return err
	}
	size, err := sizeOf(s.volume)
	if err == nil && size < s.size {
		err = fmt.Errorf("%q: %w", s.path, diskio.ErrShrunk)
	}
	s.size = size
	if err == nil {
		s.kept, err = watch(ctx, s.run, s.volume.Content(), s.kept.name)
	}
	return err
}
