package main

import (
	"context"
	"time"

	"storaged/internal/record"
	"storaged/internal/rest/client"
)

// The time between two tries to reach a daemon that went away. On another host each is a
// login, of which a guard there may take many for an attack.
const (
	knockInterval = 200 * time.Millisecond
	loginInterval = 5 * time.Second
)

func (s *session) knockInterval() time.Duration {
	if s.client.Far() {
		return loginInterval
	}
	return knockInterval
}

// news is what a feed has to tell: an event, jobs read anew, that the daemon
// is lost or back, or that it is given up.
type news struct {
	event *record.Event
	jobs  []record.Job
	lost  error
	back  bool
	gone  error
}

// feed follows the event stream across restarts of the daemon.
type feed struct {
	client *client.Client
	stream *client.EventStream
	// reread reads anew what is followed, after a gap; nil: there is nothing to read.
	reread   func(context.Context) ([]record.Job, error)
	resume   bool // after a gap go on behind the last event, not from then on
	knock    time.Duration
	last     int64 // number of the last event
	patience time.Duration
	out      chan news // closed by run
}

// openFeed opens the stream behind the event with number after, or with 0
// from now on. It fails if there is no daemon now. What is to be read anew is set
// later, before run.
func openFeed(ctx context.Context, s *session, after int64) (*feed, error) {
	stream, err := s.client.Events(ctx, after)
	if err != nil {
		return nil, err
	}
	return &feed{client: s.client, stream: stream, last: after, knock: s.knockInterval(), patience: s.patience, out: make(chan news)}, nil
}

// run tells the news until ctx is over or the daemon is given up.
func (f *feed) run(ctx context.Context) {
	defer close(f.out)
	for f.relay(ctx) {
		gone := f.reconnect(ctx)
		if gone != nil {
			f.tell(ctx, news{gone: gone})
			return
		}
	}
}

// tell reports whether somebody listened.
func (f *feed) tell(ctx context.Context, n news) bool {
	select {
	case f.out <- n:
		return true
	case <-ctx.Done():
		return false
	}
}

// relay tells the events of the stream until it ends, and reports whether it
// is worth to open another one.
func (f *feed) relay(ctx context.Context) bool {
	defer f.stream.Close()
	for {
		e, err := f.stream.Next()
		if err != nil {
			return ctx.Err() == nil
		}
		f.last = e.Seq
		if !f.tell(ctx, news{event: &e}) {
			return false
		}
	}
}

// reconnect opens another stream and reads the jobs anew. Who listens hears
// of it only if that does not work at once.
func (f *feed) reconnect(ctx context.Context) error {
	deadline := time.NewTimer(f.patience)
	defer deadline.Stop()
	tick := time.NewTicker(f.knock)
	defer tick.Stop()
	for said := false; ; {
		jobs, err := f.again(ctx)
		if err == nil {
			f.tell(ctx, news{jobs: jobs, back: said})
			return nil
		}
		if !passing(err) {
			return err
		}
		if !said {
			said = f.tell(ctx, news{lost: err})
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		case <-deadline.C:
			return err
		}
	}
}

func (f *feed) again(ctx context.Context) ([]record.Job, error) {
	after := int64(0)
	if f.resume {
		after = f.last
	}
	stream, err := f.client.Events(ctx, after)
	if err != nil {
		return nil, err
	}
	var jobs []record.Job
	if f.reread != nil {
		if jobs, err = f.reread(ctx); err != nil {
			_ = stream.Close()
			return nil, err
		}
	}
	f.stream = stream
	return jobs, nil
}

// passing holds for the refusals of a daemon that restarts.
func passing(err error) bool {
	switch record.CodeOf(err) {
	case record.Unreachable, record.RecoveringCode, record.Draining:
		return true
	}
	return false
}
