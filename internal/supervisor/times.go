package supervisor

import (
	"time"

	"storaged/internal/record"
)

// Times are the waits of a Supervisor, in one place. Tests shorten them.
type Times struct {
	Hello      time.Duration
	CancelAck  time.Duration
	GroupTerm  time.Duration
	PauseAck   time.Duration
	KillAgain  time.Duration
	Stuck      time.Duration
	Linger     time.Duration
	Silence    time.Duration
	Drain      time.Duration
	LockPoll   time.Duration
	LockPollUp time.Duration
	Tick       time.Duration
	Window     time.Duration
	Progress   time.Duration
	LockWait   time.Duration
	Ageing     time.Duration
	RetrySave  time.Duration
	QueryReuse time.Duration
	QueryStay  time.Duration
	QueryAge   time.Duration
	Prune      time.Duration
}

// DefaultTimes are the waits with the reason for each.
func DefaultTimes() Times {
	return Times{
		// A helper says HELLO 1 to 3 ms after exec. Ten seconds were not enough for
		// a host that is starved of processors and pages its binary in meanwhile.
		Hello: 30 * time.Second,
		// First rung: what a helper needs at most to notice a cancel, with at
		// most 64 MiB of dirty data to flush before it looks.
		CancelAck: 10 * time.Second,
		// Second rung: as long again for its tools, after a TERM to them all.
		GroupTerm: 10 * time.Second,
		// A helper that pauses ends its step first, a few MiB: milliseconds, but
		// more on a busy disk. Who asked hears after this that it is under way.
		PauseAck: 2 * time.Second,
		// Third rung: a kill is repeated, for what was forked between two.
		KillAgain: time.Second,
		// After this a process that a kill does not end is called stuck. A kill
		// takes milliseconds, except in the kernel's D state.
		Stuck: 5 * time.Second,
		// A helper that has announced its result has nothing to do any more but exit.
		Linger: 10 * time.Second,
		// A helper that acknowledged a cancel or settles a job sends BEAT every
		// few seconds. One that is silent for a minute is not going to end.
		Silence: time.Minute,
		// The FIFO holds at most 64 KiB when the last writer is gone: reading
		// it takes a millisecond. The rest is a margin for a loaded host.
		Drain: 2 * time.Second,
		// A lock that outlives the helper is let go by dying tools within
		// milliseconds, or by the kernel after minutes: ask often, then less.
		LockPoll:   5 * time.Millisecond,
		LockPollUp: time.Second,
		// Housekeeping of a running job: bounds of its log, stalls, visitors.
		Tick: time.Second,
		// Two jobs that read one volume must have their windows open at once for
		// anybody to grow it. Each is called within a tick and ends a chunk first;
		// one that does not come by then does not keep the other any longer.
		Window: 5 * time.Second,
		// At most one progress event per second and job: readers are people.
		Progress: time.Second,
		// Normal jobs are short, and somebody waits for each: half a minute of
		// waiting for locks is as long as a person takes it for work.
		LockWait: 30 * time.Second,
		Ageing:   record.Ageing,
		// A state directory that is full stays so for a while.
		RetrySave: time.Second,
		// What a query helper found is good for one second: fresh to people, and
		// a stampede of readers is one helper.
		QueryReuse: time.Second,
		// A helper that waits for the next query costs memory, and one that is
		// started a processor for some 10 ms. Who polls asks once a second.
		QueryStay: 2 * time.Second,
		// Who reads headers that strangers made is not trusted for ever.
		QueryAge: time.Minute,
		// Records are kept for weeks: an hour more or less is nothing to anybody.
		Prune: time.Hour,
	}
}
