package virtrpc

import (
	"context"
	"slices"
	"sync"

	"storaged/internal/record"
	"storaged/internal/virtrpc/wire"
	"storaged/internal/virtrpc/xdr"
)

// events are the procedures by which a client asks for events of pools.
func events() []procedure {
	return []procedure{
		{wire.ConnectStoragePoolEventRegister, "virConnectStoragePoolEventRegisterAny", reads, with(registerEvent)},
		{wire.ConnectStoragePoolEventDeregister, "virConnectStoragePoolEventDeregisterAny", reads, with(deregisterEvent)},
	}
}

// Events that can be asked for: virStoragePoolEventID.
const (
	eventLifecycle int32 = iota
	eventRefresh
	eventLast
)

// What a lifecycle event says: virStoragePoolEventLifecycleType.
const (
	poolDefined int32 = iota
	poolUndefined
	poolStarted
	poolStopped
	poolCreated // built, that is
	poolDeleted
)

// ended are the events of jobs that have succeeded.
var ended = map[record.Kind]int32{
	record.PoolStart: poolStarted, record.PoolStop: poolStopped, record.PoolBuild: poolCreated, record.PoolDelete: poolDeleted,
}

// messageSerial is that of all messages, as libvirt's daemon sends them.
const messageSerial = 1

// maxCallbacks bounds what a connection asks for: more than one for each event of each
// pool of any host that was seen.
const maxCallbacks = 4096

// lost is the type of the event that says: there are events that did not come, and will
// not.
const lost = "reset"

// subscription is what a client has asked for. From the first time on a goroutine waits
// for events, until the connection ends.
type subscription struct {
	mu     sync.Mutex
	begun  bool
	pools  []callback[poolTopic]
	jobs   []callback[jobTopic]
	phases map[string]int // of jobs that live, by id, since somebody asked for events of jobs
}

// callback is a topic of which events are asked for.
type callback[T comparable] struct {
	id    int32
	topic T
}

// poolTopic is an event of a pool, or, without one, of all.
type poolTopic struct {
	event int32
	pool  wire.UUID
}

func registerEvent(c *call, a wire.RegisterArgs) (xdr.Value, error) {
	if a.Event < 0 || a.Event >= eventLast {
		return nil, wire.Failf(wire.FromRPC, wire.InternalError, "unsupported storage pool event ID %d", a.Event)
	}
	topic := poolTopic{event: a.Event}
	if a.Pool != nil {
		topic.pool = a.Pool.UUID // which need not be there yet
	}
	return register(c, &c.events.pools, topic)
}

// register has the client get the events of a topic from now on.
func register[T comparable](c *call, list *[]callback[T], topic T) (xdr.Value, error) {
	s := &c.events
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.ContainsFunc(*list, func(o callback[T]) bool { return o.topic == topic }) {
		return nil, wire.Failf(wire.FromNone, wire.InvalidArg, "event callback already tracked")
	}
	if len(*list) >= maxCallbacks {
		return nil, wire.Failf(wire.FromStorage, wire.ResourceBusy, "a connection has at most %d callbacks", maxCallbacks)
	}
	if err := c.subscribe(); err != nil {
		return nil, err
	}
	id := c.callbacks.Add(1) - 1
	*list = append(*list, callback[T]{id, topic})
	return new(wire.Int(id)), nil
}

func deregisterEvent(c *call, id wire.Int) (xdr.Value, error) {
	return deregister(c, &c.events.pools, id, "storage pool")
}

// deregister ends what register has begun. What comes afterwards is no event of it.
func deregister[T comparable](c *call, list *[]callback[T], id wire.Int, of string) (xdr.Value, error) {
	s := &c.events
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(*list, func(o callback[T]) bool { return o.id == int32(id) })
	if i < 0 {
		return nil, wire.Failf(wire.FromRPC, wire.InternalError, "%s event callback %d not registered", of, id)
	}
	*list = slices.Delete(*list, i, i+1)
	return nil, nil
}

// subscribe begins to wait for events. The lock is held.
func (c *connection) subscribe() error {
	if c.events.begun {
		return nil
	}
	ctx, done := c.patient()
	all, err := c.svc.Subscribe(ctx, 0)
	if err != nil {
		done()
		return err
	}
	c.events.begun = true
	c.group.Go(func() {
		defer done()
		c.relay(ctx, all)
	})
	return nil
}

// relay says what happens to who has asked for it. A client that takes events more slowly
// than they come loses some, and gets those that follow.
func (c *connection) relay(ctx context.Context, all <-chan record.Event) {
	for behind := true; behind; {
		var last record.Event
		for e := range all {
			last = e
			c.poolHappened(e)
			c.jobHappened(e)
		}
		if behind = last.Type == lost; behind {
			var err error
			if all, err = c.svc.Subscribe(ctx, last.Seq); err != nil {
				c.Log.Warn("a client gets no more events", "error", err)
				return
			}
		}
	}
}

// poolHappened says what has happened to a pool.
func (c *connection) poolHappened(e record.Event) {
	event, what, pool, ok := c.meaning(e)
	if !ok {
		return
	}
	c.events.mu.Lock()
	defer c.events.mu.Unlock()
	for _, asked := range c.events.pools {
		if asked.topic.event != event || asked.topic.pool != (wire.UUID{}) && asked.topic.pool != pool.UUID {
			continue
		}
		number, v := wire.StoragePoolEventLifecycle, xdr.Value(&wire.LifecycleEvent{Callback: asked.id, Pool: pool, Event: what})
		if event == eventRefresh {
			number, v = wire.StoragePoolEventRefresh, &wire.RefreshEvent{Callback: asked.id, Pool: pool}
		}
		if err := c.message(wire.Remote, number, v); err != nil {
			return // the client is gone
		}
	}
}

// message sends what no call has asked for just now.
func (c *connection) message(p wire.Program, number wire.Procedure, v xdr.Value) error {
	b, err := xdr.Encode(v)
	if err != nil {
		return err
	}
	return c.send(wire.Header{Program: p, Version: wire.Version, Procedure: number, Type: wire.Message, Serial: messageSerial}, b)
}

// meaning says what an event is to libvirt's clients.
func (c *connection) meaning(e record.Event) (event, what int32, pool wire.Pool, ok bool) {
	switch {
	case e.Type == "pool.defined" && e.Pool != nil: // of one that is not to stay only its start counts
		return eventLifecycle, poolDefined, wirePool(*e.Pool), e.Pool.Persistent
	case e.Type == "pool.undefined" && e.Pool != nil && !e.Pool.Persistent:
		return eventLifecycle, poolStopped, wirePool(*e.Pool), true
	case e.Type == "pool.undefined" && e.Pool != nil:
		return eventLifecycle, poolUndefined, wirePool(*e.Pool), true
	case e.Type != "job.ended" || e.Job == nil || e.Job.State != record.Succeeded || len(e.Job.Objects) == 0:
		return event, what, pool, false
	}
	event = eventLifecycle
	if what, ok = ended[e.Job.Kind]; !ok {
		if event = eventRefresh; e.Job.Kind != record.PoolRefresh && e.Job.Kind != record.VolumeUpload {
			return event, what, pool, false
		}
	}
	p, err := c.svc.Pool(c.gone, e.Job.Objects[0].Pool)
	if err != nil {
		return event, what, pool, false // it was undefined meanwhile
	}
	return event, what, wirePool(p), true
}
