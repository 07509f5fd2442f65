package virtrpc

import (
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

// subscription is what a client has asked for. From the first time on a goroutine waits
// for events, until the connection ends.
type subscription struct {
	mu        sync.Mutex
	begun     bool
	callbacks []callback
}

// callback is one event that is asked for.
type callback struct {
	id    int32
	event int32
	pool  wire.UUID // none: of all pools
}

func registerEvent(c *call, a wire.RegisterArgs) (xdr.Value, error) {
	if a.Event < 0 || a.Event >= eventLast {
		return nil, wire.Failf(wire.FromRPC, wire.InternalError, "unsupported storage pool event ID %d", a.Event)
	}
	asked := callback{event: a.Event}
	if a.Pool != nil {
		asked.pool = a.Pool.UUID // which need not be there yet
	}
	s := &c.events
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.ContainsFunc(s.callbacks, func(o callback) bool { return o.event == asked.event && o.pool == asked.pool }) {
		return nil, wire.Failf(wire.FromNone, wire.InvalidArg, "event callback already tracked")
	}
	if len(s.callbacks) >= maxCallbacks {
		return nil, wire.Failf(wire.FromStorage, wire.ResourceBusy, "a connection has at most %d callbacks", maxCallbacks)
	}
	if err := c.subscribe(); err != nil {
		return nil, err
	}
	asked.id = c.callbacks.Add(1) - 1
	s.callbacks = append(s.callbacks, asked)
	return new(wire.Int(asked.id)), nil
}

// maxCallbacks bounds what a connection asks for: more than one for each event of each
// pool of any host that was seen.
const maxCallbacks = 4096

func deregisterEvent(c *call, id wire.Int) (xdr.Value, error) {
	s := &c.events
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.callbacks, func(o callback) bool { return o.id == int32(id) })
	if i < 0 {
		return nil, wire.Failf(wire.FromRPC, wire.InternalError, "storage pool event callback %d not registered", id)
	}
	s.callbacks = slices.Delete(s.callbacks, i, i+1)
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
		for e := range all {
			c.happened(e)
		}
	})
	return nil
}

// happened tells the client what it has asked for of an event.
func (c *connection) happened(e record.Event) {
	event, what, pool, ok := c.meaning(e)
	if !ok {
		return
	}
	c.events.mu.Lock()
	defer c.events.mu.Unlock()
	for _, asked := range c.events.callbacks {
		if asked.event != event || asked.pool != (wire.UUID{}) && asked.pool != pool.UUID {
			continue
		}
		h := wire.Header{Program: wire.Remote, Version: wire.Version, Procedure: wire.StoragePoolEventLifecycle, Type: wire.Message, Serial: messageSerial}
		var v xdr.Value = &wire.LifecycleEvent{Callback: asked.id, Pool: pool, Event: what}
		if event == eventRefresh {
			h.Procedure, v = wire.StoragePoolEventRefresh, &wire.RefreshEvent{Callback: asked.id, Pool: pool}
		}
		b, err := xdr.Encode(v)
		if err == nil {
			err = c.send(h, b)
		}
		if err != nil {
			return // the client is gone
		}
	}
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
