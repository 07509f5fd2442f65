package helper

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"storaged/internal/backends"
	"storaged/internal/diskio"
	"storaged/internal/ipc"
	"storaged/internal/quantity"
	"storaged/internal/record"
)

// What is written between two looks is bounded by a part of what there was, so that it stays
// so where some jobs write at once and guests do too, and by time.
const (
	rationShare = 8               // of the room, one part
	leastRation = 4               // grains: with fewer nothing goes on
	rationTime  = 5 * time.Second // a look is a run of LVM
)

// defaultFill is how full jobs make what thin volumes share, in percent, unless the daemon
// says otherwise.
const defaultFill = 95

// guard keeps a run from using up what the volumes it writes to share with others: while
// there is no room it waits.
type guard struct {
	run     *Run
	most    int           // percent
	every   time.Duration // it looks, while it waits
	changed chan struct{} // one token: what it waits for is another

	mu      sync.Mutex
	volumes []backends.Filler
	inPlace bool // the first one is there already, and what is to be written to it is planned
	planned int64
	waits   string // for what; "": it does not wait
}

// watch has what is written to a volume, or a draft, kept within its room.
func (g *guard) watch(v any, inPlace bool) {
	f, ok := v.(backends.Filler)
	if !ok {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inPlace = inPlace && len(g.volumes) == 0
	g.volumes = append(g.volumes, f)
	g.run.Pacer.RationBy(g.ration)
}

// plan notes how much the task is to write.
func (g *guard) plan(phases []ipc.PlanPhase) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range phases {
		if p.Data && p.Unit == "bytes" {
			g.planned = max(g.planned, p.Total)
		}
	}
}

// ration is what may be written until it is asked again. Where that is nothing it waits until
// room is made; a task that can be seen to need more, and has written nothing, fails.
func (g *guard) ration(ctx context.Context) (diskio.Ration, error) {
	defer g.wait("")
	again := time.NewTicker(g.every)
	defer again.Stop()
	for {
		room, err := g.room(ctx)
		switch {
		case err != nil:
			return diskio.Ration{}, err
		case room.Of == "":
			return diskio.Ration{Bytes: math.MaxInt64, Grain: 1}, nil
		case room.Left >= leastRation*room.Grain:
			return diskio.Ration{Bytes: max(room.Left/rationShare, leastRation*room.Grain), Grain: room.Grain, For: rationTime}, nil
		}
		g.wait(fmt.Sprintf("no more may be taken of %s: a job makes it no fuller than %d %%, and goes on when it is extended (lvextend) or volumes of it are removed", room.Of, g.most))
		select {
		case <-ctx.Done():
			return diskio.Ration{}, context.Cause(ctx)
		case <-again.C:
		}
	}
}

// room is the least that any of the volumes has.
func (g *guard) room(ctx context.Context) (least backends.Room, err error) {
	g.mu.Lock()
	volumes, need := g.volumes, int64(0)
	if g.inPlace {
		need = g.planned
	}
	g.inPlace = false
	g.mu.Unlock()
	for _, v := range volumes {
		room, err := v.Room(ctx, g.most)
		if err != nil {
			return room, err
		}
		if room.Of != "" && (least.Of == "" || room.Left < least.Left) {
			least = room
		}
	}
	if need = min(need, least.Lacks); need > least.Left {
		return least, ipc.Errorf(record.NoSpace, "%s may be written that have no storage yet, and %s may be taken of %s: a job makes it no fuller than %d %%; nothing was written",
			quantity.FormatBytes(need), quantity.FormatBytes(least.Left), least.Of, g.most).
			WithHint("extend the pool (lvextend), or remove volumes of it")
	}
	return least, nil
}

// wait notes for what it waits.
func (g *guard) wait(what string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.waits == what {
		return
	}
	g.waits = what
	select {
	case g.changed <- struct{}{}:
	default: // it is known
	}
}

// waiting is for what the run waits, "" if it does not.
func (g *guard) waiting() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.waits
}
