package service

import (
	"context"
	"time"

	"storaged/internal/record"
)

// troubleInterval is how often it is looked whether the state can be written: who is told of
// it within so long has not lost much of the time that there is to make room.
const troubleInterval = 10 * time.Second

// alarms are the troubles that somebody was told of, so that each is told once, and its end
// too. It is for one goroutine.
type alarms struct {
	herald *herald
	pools  map[string]record.PoolState // those that cannot be used as they should
	state  bool                        // it cannot be written
}

// KeepTelling tells of pools and of the state when they come into trouble or out of it, until
// ctx ends.
func (s *Service) KeepTelling(ctx context.Context) {
	a := &alarms{herald: s.herald, pools: map[string]record.PoolState{}}
	tick := time.NewTicker(troubleInterval)
	defer tick.Stop()
	for {
		s.follow(ctx, a, tick.C)
		select { // others have made more events than are remembered, or there are no more
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// follow has a look at what is, and takes what happens from then on, as long as events come.
func (s *Service) follow(ctx context.Context, a *alarms, tick <-chan time.Time) {
	events := s.hub.Subscribe(ctx, 0)
	pools, err := s.Pools(ctx)
	if err != nil {
		s.log.Error("how the pools are is not known", "error", err)
	}
	for i := range pools {
		a.pool(&pools[i])
	}
	for {
		select {
		case e, open := <-events:
			if !open {
				return
			}
			if e.Pool != nil {
				a.pool(e.Pool)
			}
		case <-tick:
			a.writable(s.store.Trouble())
		}
	}
}

// pool takes a pool as it is now.
func (a *alarms) pool(p *record.Pool) {
	was, known := a.pools[p.Name]
	n := record.Notice{Type: record.NoticePool, Object: p.Name, Outcome: string(p.State)}
	switch p.State {
	case record.PoolUnreachable, record.PoolDegraded:
		a.pools[p.Name] = p.State
		n.Urgency, n.Message, n.Error = record.Alarming, "pool cannot be used as it should", p.Reason
		if was != p.State {
			a.herald.tell(n)
		}
	case record.PoolActive, record.PoolInactive:
		delete(a.pools, p.Name)
		n.Urgency, n.Message = record.Notable, "pool is well again"
		if known && p.State == record.PoolActive {
			a.herald.tell(n)
		}
	}
}

// writable takes why the state cannot be written, nil if it can.
func (a *alarms) writable(trouble error) {
	switch {
	case trouble != nil && !a.state:
		a.herald.ail("the state cannot be written", trouble)
	case trouble == nil && a.state:
		a.herald.tell(record.Notice{Type: record.NoticeState, Urgency: record.Notable, Message: "the state can be written again"})
	}
	a.state = trouble != nil
}
