package diskio

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// slowShare is the part of a second that one chunk may take under a limit,
	// so that the flow is smooth and a change takes effect soon.
	slowShare = 10
	// leastChunk is the smallest chunk under a limit: a sector.
	leastChunk = 512
	// pageSize is what larger chunks are rounded down to.
	pageSize = 4096
	// lightShare is how many bytes that cost no transfer (holes, allocated or
	// shared extents) weigh as much as one that was moved.
	lightShare = 256
)

// ErrResumed ends a Pause that a Resume has overtaken.
var ErrResumed = errors.New("resumed before the pause was complete")

// Counts say how far a phase is; all are bytes and never fall within it. Work
// and WorkAll are bytes weighed by what they cost; Work follows Durable.
type Counts struct {
	Phase   int   // as given to StartPhase
	Done    int64 // handed to the kernel, holes included
	Durable int64 // of Done: written back, holes included
	Total   int64 // of Done, at the end; 0 while not known
	Work    int64
	WorkAll int64
	Holes   int64 // of Done: never transferred, because they read as zeros
	Read    int64 // read since NewPacer, over all phases, and what was carried
	Written int64 // written since NewPacer, over all phases, and what was carried

	Allocated int64 // given blocks before they are written, since NewPacer, over all phases
}

// Moved is what one step did, in bytes.
type Moved struct {
	Done    int64
	Durable int64
	Holes   int64
	Light   int64 // of Durable: cost no transfer
	Read    int64
	Written int64

	Allocated int64 // given blocks, without being written
}

// Pacer is how the transfers of a job meet the world: they ask it before each
// chunk and tell it after, and so can be paused, slowed down and watched. One
// Pacer serves all streams of a job together. All methods are safe for
// concurrent use.
type Pacer struct {
	mu       sync.Mutex
	counts   Counts
	light    int64 // of counts.Durable
	lightAll int64 // of counts.Total
	ahead    int64 // of counts.Total: foreseen, and not expected yet by who moves it
	paused   bool
	inFlight int
	limit    int64
	limiter  *rate.Limiter // nil without a limit
	give     Rations       // nil: nothing is rationed
	ration   Ration        // what is left of it
	lapses   time.Time
	fresh    bool          // nothing was taken from it: it is good for one chunk, however late that comes
	asking   chan struct{} // has the token of who asks for a ration
	changed  chan struct{} // closed and replaced by whoever changes what waiters wait for
}

// NewPacer makes a Pacer without limit.
func NewPacer() *Pacer { return &Pacer{changed: make(chan struct{}), asking: make(chan struct{}, 1)} }

// StartPhase begins counting afresh under that number. Read, Written and Allocated
// go on.
func (p *Pacer) StartPhase(phase int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counts = Counts{Phase: phase, Read: p.counts.Read, Written: p.counts.Written, Allocated: p.counts.Allocated}
	p.light, p.lightAll, p.ahead = 0, 0, 0
}

// Carry counts as read and written what earlier processes of the job moved.
func (p *Pacer) Carry(read, written int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counts.Read += read
	p.counts.Written += written
}

// Skipped counts bytes that an earlier transfer had moved.
func (p *Pacer) Skipped(n int64) {
	p.Expect(n, n)
	p.account(Moved{Done: n, Durable: n, Light: n})
}

// Counts are the counts now. At the end all the work is done, also where less was light
// than was expected: blocks that were never written are a hole only while the page cache
// has nothing of them, which may change between the measure and the transfer.
func (p *Pacer) Counts() Counts {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.counts
	c.Work = c.Durable - p.light + p.light/lightShare
	c.WorkAll = c.Total - p.lightAll + p.lightAll/lightShare
	if c.Durable == c.Total {
		c.WorkAll = c.Work
	}
	return c
}

// Admit asks to move up to want bytes. It blocks while the Pacer is paused and
// until limit and rations allow it, and gives how many bytes may be moved now: want,
// or fewer under a limit or by a ration, never zero unless want is. Each success must be
// followed by one Finished. A canceled ctx gives its cause.
func (p *Pacer) Admit(ctx context.Context, want int64) (int64, error) {
	return p.admit(ctx, want, true)
}

// admit is Admit of what is written, or of what is only read.
func (p *Pacer) admit(ctx context.Context, want int64, writes bool) (int64, error) {
	for {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		n, wait, changed := p.reserve(want, writes)
		switch wait {
		case 0:
			return n, nil
		case untilGiven:
			if err := p.ask(ctx); err != nil {
				return 0, err
			}
			continue
		}
		admitted, err := p.await(ctx, wait, changed)
		if err != nil || admitted {
			return n, err
		}
	}
}

// untilChanged is the wait of somebody whom only a change can help.
const untilChanged = time.Duration(1<<63 - 1)

// reserve takes the bytes from ration and limit and gives how long to wait for them.
// Without a wait the chunk is in flight at once.
func (p *Pacer) reserve(want int64, writes bool) (n int64, wait time.Duration, changed chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.still() {
		return 0, untilChanged, p.changed
	}
	if n = want; p.limiter != nil {
		n = min(n, chunkUnder(p.limit))
	}
	if writes && want > 0 {
		if n = p.rationed(n); n == 0 {
			return 0, untilGiven, p.changed
		}
		p.spend(n)
	}
	if p.limiter != nil && want > 0 {
		now := time.Now()
		wait = p.limiter.ReserveN(now, int(n)).DelayFrom(now)
	}
	if wait == 0 {
		p.inFlight++
	}
	return n, wait, p.changed
}

// await waits for what reserve promised. It is not admitted if pause or limit
// changed meanwhile: the limiter it was reserved from is gone then.
func (p *Pacer) await(ctx context.Context, wait time.Duration, changed chan struct{}) (admitted bool, err error) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false, context.Cause(ctx)
	case <-changed:
		return false, nil
	case <-timer.C:
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if changed != p.changed {
		return false, nil
	}
	p.inFlight++
	return true, nil
}

// chunkUnder is the largest chunk under a limit, in bytes.
func chunkUnder(limit int64) int64 {
	n := limit / slowShare
	if n >= pageSize {
		return n &^ (pageSize - 1)
	}
	return max(n&^(leastChunk-1), leastChunk)
}

// Finished ends what Admit began, and counts it.
func (p *Pacer) Finished(m Moved) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.add(m)
	p.leave()
}

// account counts what needs no admission, such as a finished write-back.
func (p *Pacer) account(m Moved) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.add(m)
}

// Foresee adds to the total of the phase what transfers to come will move, for
// a phase of several transfers; a negative number takes it back. What a
// transfer then turns out to move is taken for what was foreseen.
func (p *Pacer) Foresee(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n = max(n, -p.ahead)
	p.counts.Total += n
	p.ahead += n
}

// Expect adds to the total of the phase; light of it cost no transfer.
func (p *Pacer) Expect(total, light int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	known := min(total, p.ahead)
	p.ahead -= known
	p.counts.Total += total - known
	p.lightAll += light
}

// skip counts a hole: nothing is to be moved, so it is durable at once.
func (p *Pacer) skip(n int64) {
	p.account(Moved{Done: n, Durable: n, Holes: n, Light: n})
}

func (p *Pacer) add(m Moved) {
	p.counts.Done += m.Done
	p.counts.Durable += m.Durable
	p.counts.Holes += m.Holes
	p.counts.Read += m.Read
	p.counts.Written += m.Written
	p.counts.Allocated += m.Allocated
	p.light += m.Light
	if p.counts.Durable > p.counts.Done {
		panic("internal error: more bytes durable than done")
	}
}

// hold says that I/O goes on outside any admitted chunk, until release.
func (p *Pacer) hold() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inFlight++
}

func (p *Pacer) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.leave()
}

func (p *Pacer) leave() {
	if p.inFlight == 0 {
		panic("internal error: chunk finished twice")
	}
	p.inFlight--
	if p.inFlight == 0 && p.still() {
		p.wake()
	}
}

// still reports whether nothing is admitted. The caller holds mu.
func (p *Pacer) still() bool { return p.paused }

// wake makes everyone who waits look again.
func (p *Pacer) wake() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// SetLimit changes the rate of all streams together, in bytes per second; 0 is
// none. It holds for the next chunk of each stream, also of those that wait, which
// begin to wait anew: not if nothing changes, or who says it often would stop all.
func (p *Pacer) SetLimit(bytesPerSec int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if max(bytesPerSec, 0) == p.limit {
		return
	}
	p.limit = max(bytesPerSec, 0)
	p.refill()
	p.wake()
}

// SetPace is SetLimit, and Resume or a Pause that does not wait.
func (p *Pacer) SetPace(bytesPerSec int64, paused bool) {
	p.SetLimit(bytesPerSec)
	if !paused {
		p.Resume()
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.paused {
		p.paused = true
		p.wake()
	}
}

// Limit is the rate in force, in bytes per second; 0 is none.
func (p *Pacer) Limit() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.limit
}

// refill makes a limiter that starts empty, so that neither a change of the
// limit nor a pause gives bytes for free.
func (p *Pacer) refill() {
	if p.limit == 0 {
		p.limiter = nil
		return
	}
	burst := int(chunkUnder(p.limit))
	p.limiter = rate.NewLimiter(rate.Limit(p.limit), burst)
	p.limiter.AllowN(time.Now(), burst)
}

// Pause stops all streams and returns when no I/O is being done: no chunk is in
// flight and what was written is written back. If ctx ends first its cause is
// returned and the Pacer stays paused; ErrResumed if Resume came first.
func (p *Pacer) Pause(ctx context.Context) error {
	p.SetPace(p.Limit(), true)
	return p.Still(ctx)
}

// Still waits, as Pause does, for a pause to be complete.
func (p *Pacer) Still(ctx context.Context) error {
	for {
		p.mu.Lock()
		paused, inFlight, changed := p.paused, p.inFlight, p.changed
		p.mu.Unlock()
		switch {
		case !paused:
			return ErrResumed
		case inFlight == 0:
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		}
	}
}

// Resume ends a pause. Without one it does nothing.
func (p *Pacer) Resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.paused {
		p.paused = false
		p.refill()
		p.wake()
	}
}

// activity is what the flusher waits for; changed is closed when it may have
// changed.
func (p *Pacer) activity() (still bool, changed <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.still(), p.changed
}
