package virtrpc_test

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"storaged/internal/record"
	"storaged/internal/testenv"
	"storaged/internal/virtrpc"
	"storaged/internal/virtrpc/virtrpctest"
	"storaged/internal/virtrpc/wire"
	"storaged/internal/virtrpc/xdr"
)

// works checks that a client is answered.
func works(t *testing.T, c *virtrpctest.Client) {
	t.Helper()
	var p wire.Pool
	if c.Do(wire.StoragePoolLookupByName, new(wire.Text("images")), &p); p.Name != "images" {
		t.Errorf("the answer is %+v", p)
	}
}

// ends checks that the server closes a connection, and gives what it sent before.
func ends(t *testing.T, c *virtrpctest.Client) (got []virtrpctest.Packet) {
	t.Helper()
	for {
		p, err := c.Next()
		switch {
		case errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET):
			return got
		case err != nil:
			t.Errorf("not closed: %v", err)
			return got
		}
		got = append(got, p)
	}
}

// refused checks what a call is refused with.
func refused(t *testing.T, err error, code wire.Code, says string) {
	t.Helper()
	var f *wire.Failure
	if !errors.As(err, &f) || f.Code != code || !strings.Contains(f.Message, says) {
		t.Errorf("the answer is %v, not code %d: %s", err, code, says)
	}
}

func TestImpossiblePacketsEndTheConnection(t *testing.T) {
	h := newHost(t, nil)
	other := virtrpctest.Open(t, h.main)
	for _, length := range []uint32{0, 3, 27, wire.LengthBytes + wire.MaxPacket + 1, 33 << 20, 1<<32 - 1} {
		c := virtrpctest.Open(t, h.main)
		c.SendRaw(binary.BigEndian.AppendUint32(nil, length))
		if got := ends(t, c); len(got) > 0 {
			t.Errorf("length %d is answered by %+v", length, got)
		}
	}
	close(h.svc.end)
	c := virtrpctest.Open(t, h.main)
	hole := c.Begin(wire.StorageVolUpload, &wire.VolStreamArgs{Vol: wire.Vol{Pool: "images", Name: "base.raw"}})
	hole.Type, hole.Status = wire.StreamHole, wire.Continue
	c.Send(hole, make([]byte, 12))
	ends(t, c)
	works(t, other)
}

// Clients that send a part of a packet and no more keep nobody else waiting, and cost
// little.
func TestHalfPacketsWaitAlone(t *testing.T) {
	h := newHost(t, nil)
	other := virtrpctest.Open(t, h.main)
	packet := wire.Header{Program: wire.Remote, Version: wire.Version, Procedure: wire.StoragePoolDefineXML}.Append(nil, 4<<20)
	const each, most = 50, 64 << 10 // bytes of a connection
	heap := grown(func() {
		for range each {
			for _, n := range []int{1, 4, 20, len(packet)} {
				virtrpctest.Open(t, h.main).SendRaw(packet[:n])
			}
		}
	})
	took := looks(t, other)
	t.Logf("%d KiB of memory for %d connections; p99 of another %v", heap>>10, 4*each, took)
	if heap > 4*each*most || took > answered {
		t.Errorf("%d KiB of memory, and another waits %v", heap>>10, took)
	}
}

// looks looks with a client many times, and gives how long 99 of 100 took.
func looks(t *testing.T, c *virtrpctest.Client) time.Duration {
	t.Helper()
	var took []time.Duration
	for range 100 {
		began := time.Now()
		works(t, c)
		took = append(took, time.Since(began))
	}
	return p99(took)
}

// Arguments that are too large are not kept, and the connection goes on.
func TestLargeArgumentsAreDropped(t *testing.T) {
	h := newHost(t, nil)
	for socket, size := range map[string]int{h.main: wire.MaxPayload, h.ro: virtrpc.PlainArguments + 1} {
		c := virtrpctest.Open(t, socket)
		call := c.Header(wire.StoragePoolLookupByName)
		heap := grown(func() {
			done := make(chan struct{})
			go func() {
				defer close(done)
				c.SendRaw(call.Append(nil, size))
				for chunk := make([]byte, 64<<10); size > 0; size -= len(chunk) {
					c.SendRaw(chunk[:min(size, len(chunk))])
				}
			}()
			refused(t, c.Answer(call, nil), wire.RPCError, "Unable to decode message payload")
			<-done
		})
		t.Logf("%d KiB of memory for arguments that are too large", heap>>10)
		if heap > 4<<20 {
			t.Errorf("%d bytes of memory", heap)
		}
		works(t, c)
	}
	long := wire.Text(strings.Repeat("x", xdr.MaxString))
	c := virtrpctest.Open(t, h.main)
	refused(t, c.Call(wire.StoragePoolLookupByName, &long, nil), wire.NoStoragePool, "")
	works(t, c)
}

// grown is by how much the heap grew, in bytes.
func grown(do func()) int64 {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	return int64(after.HeapAlloc) - int64(before.HeapAlloc)
}

// Ten thousand calls at once are all answered, in little memory, and another client is
// answered meanwhile.
func TestCallsWithoutWaitingAreAllAnswered(t *testing.T) {
	h := newHost(t, nil)
	c, other := virtrpctest.Open(t, h.main), virtrpctest.Open(t, h.main)
	const calls = 10000
	seen := map[uint32]bool{}
	var sending sync.WaitGroup
	var took time.Duration
	heap := grown(func() {
		sending.Go(func() {
			for range calls {
				c.Begin(wire.StoragePoolLookupByName, new(wire.Text("images")))
			}
		})
		took = looks(t, other)
		for range calls {
			p, err := c.Next()
			if err != nil || p.Type != wire.Reply || p.Status != wire.OK || seen[p.Serial] {
				t.Fatalf("%+v, %v", p, err)
			}
			seen[p.Serial] = true
		}
	})
	sending.Wait()
	t.Logf("%d KiB of memory; p99 of another %v", heap>>10, took)
	if heap > 16<<20 || took > answered {
		t.Errorf("%d KiB of memory, and another waits %v", heap>>10, took)
	}
	works(t, c)
}

// A client that never reads is let go when it takes nothing for the time that a write
// has. Until then it costs little, and others are answered.
func TestClientThatDoesNotReadIsLetGo(t *testing.T) {
	h := newHost(t, nil)
	virtrpc.Hurry(h.srv, 500*time.Millisecond, time.Hour)
	for range 10000 {
		h.svc.volumes = append(h.svc.volumes, h.svc.volumes[0])
	}
	c, other := virtrpctest.Open(t, h.main), virtrpctest.Open(t, h.main)
	pool := *wirePool(t, other)
	var took time.Duration
	heap := grown(func() {
		call, err := xdr.Encode(&wire.PoolListArgs{Pool: pool, Need: 1})
		if err != nil {
			t.Fatal(err)
		}
		for err == nil { // until it is closed
			header := c.Header(wire.StoragePoolListAllVolumes)
			_ = c.Conn.SetWriteDeadline(time.Now().Add(virtrpctest.Patience))
			_, err = c.Conn.Write(append(header.Append(nil, len(call)), call...))
			if took == 0 { // it is at its bounds soon
				took = looks(t, other)
			}
		}
		if !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
			t.Error(err)
		}
	})
	t.Logf("%d KiB of memory; p99 of another %v", heap>>10, took)
	if heap > 128<<20 || took > answered {
		t.Errorf("%d MiB of memory, and another waits %v", heap>>20, took)
	}
	works(t, other)
}

func wirePool(t *testing.T, c *virtrpctest.Client) *wire.Pool {
	t.Helper()
	p := &wire.Pool{}
	c.Do(wire.StoragePoolLookupByName, new(wire.Text("images")), p)
	return p
}

// Long calls keep nobody waiting, be they on one connection or each on its own, and cost
// little; keepalive waits for none of them.
func TestLongCallsWaitBesideOthers(t *testing.T) {
	for _, connections := range []int{1, 500} {
		t.Run(strconv.Itoa(connections), func(t *testing.T) { longCalls(t, connections) })
	}
}

func longCalls(t *testing.T, connections int) {
	const long, most = 500, 64 << 10 // bytes of each
	h := newHost(t, nil)
	wipe := &wire.VolFlags{Vol: wire.Vol{Pool: "images", Name: "base.raw"}}
	all := make([]*virtrpctest.Client, connections)
	heap := grown(func() {
		for i := range all {
			all[i] = virtrpctest.Open(t, h.main)
		}
		for i := range long {
			all[i%connections].Begin(wire.StorageVolWipe, wipe)
		}
		for range long {
			<-h.svc.waits
		}
	})
	if heap > long*most {
		t.Errorf("%d KiB of memory", heap>>10)
	}
	looks, pings := others(t, h, all[0])
	t.Logf("%d KiB of memory; p99 of %d looks %v, of %d pings %v", heap>>10, len(looks), p99(looks), len(pings), p99(pings))
	if took := max(p99(looks), p99(pings)); took > answered {
		t.Errorf("p99 is %v", took)
	}
	close(h.svc.end)
	for i := range long {
		if p, err := all[i%connections].Next(); err != nil || p.Procedure != wire.StorageVolWipe || p.Status != wire.OK {
			t.Fatalf("%+v, %v", p, err)
		}
	}
}

// others looks on a connection of its own and on one whose calls wait, and pings there, and
// gives how long that took.
func others(t *testing.T, h *host, waiting *virtrpctest.Client) (looks, pings []time.Duration) {
	free := virtrpctest.Open(t, h.main)
	for range 500 {
		for _, c := range []*virtrpctest.Client{free, waiting} {
			began := time.Now()
			works(t, c)
			looks = append(looks, time.Since(began))
		}
		began := time.Now()
		waiting.Send(ping, nil)
		if p, err := waiting.Next(); err != nil || p.Program != wire.Keepalive || p.Procedure != wire.Pong {
			t.Errorf("a ping is answered by %+v, %v", p, err)
		}
		pings = append(pings, time.Since(began))
	}
	return looks, pings
}

// p99 is what 99 of 100 are below.
func p99(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)*99/100]
}

var ping = wire.Header{Program: wire.Keepalive, Version: wire.Version, Procedure: wire.Ping, Type: wire.Message}

// A client at the bound is not read from, and hears that the server lives.
func TestClientAtTheBoundHearsThatTheServerLives(t *testing.T) {
	h := newHost(t, nil)
	virtrpc.Hurry(h.srv, time.Minute, 200*time.Millisecond)
	c := virtrpctest.Open(t, h.main)
	wipe := &wire.VolFlags{Vol: wire.Vol{Pool: "images", Name: "base.raw"}}
	for range virtrpc.MaxCalls - 1 {
		c.Begin(wire.StorageVolWipe, wipe)
	}
	for range virtrpc.MaxCalls - 1 { // all of them wait for their job
		<-h.svc.waits
	}
	// Who answers pings is counted as silent until the bound is reached, so all is there by which it is.
	keepalive, asks := c.Packet(wire.ConnectSupportsFeature, new(wire.Int(10)))
	_, more := c.Packet(wire.StorageVolWipe, wipe)
	_, most := c.Packet(wire.StorageVolWipe, wipe)
	c.SendRaw(slices.Concat(asks, more, most))
	if err := c.Answer(keepalive, new(wire.Int)); err != nil {
		t.Fatal(err)
	}
	for range 8 { // more than what a silent client is let go after
		if p, err := c.Next(); err != nil || p.Program != wire.Keepalive || p.Procedure != wire.Ping {
			t.Fatalf("%+v, %v", p, err)
		}
	}
	close(h.svc.end)
	for answers := 0; answers <= virtrpc.MaxCalls; {
		p, err := c.Next()
		if err != nil {
			t.Fatal(err)
		}
		if p.Type == wire.Reply {
			answers++
		}
	}
}

// Who knows keepalive and does not answer any more is let go; who does not know it stays.
func TestSilentClientIsLetGo(t *testing.T) {
	h := newHost(t, nil)
	virtrpc.Hurry(h.srv, time.Minute, 10*time.Millisecond)
	stays := virtrpctest.Open(t, h.main)
	c := virtrpctest.Open(t, h.main)
	c.Do(wire.ConnectSupportsFeature, new(wire.Int(10)), new(wire.Int))
	for _, p := range ends(t, c) {
		if p.Header != ping {
			t.Errorf("it was sent %+v", p)
		}
	}
	works(t, stays)
}

func TestDescriptorsAreRefusedPolitely(t *testing.T) {
	h := newHost(t, nil)
	c := virtrpctest.Open(t, h.main)
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	call := c.Header(wire.StoragePoolLookupByName)
	call.Type = wire.CallWithFDs
	c.Send(call, append([]byte{0, 0, 0, 2}, "arguments"...))
	for range 2 {
		if _, _, err := c.Conn.WriteMsgUnix([]byte{0}, unix.UnixRights(int(f.Fd())), nil); err != nil {
			t.Fatal(err)
		}
	}
	call.Type = wire.Call
	refused(t, c.Answer(call, nil), wire.NoSupport, "file descriptors")
	works(t, c)
	call.Type = wire.CallWithFDs
	c.Send(call, []byte{0, 0, 0, 33})
	ends(t, c)
}

func TestPanicIsAnErrorOfItsCall(t *testing.T) {
	h := newHost(t, nil)
	h.svc.panics = true
	c := virtrpctest.Open(t, h.main)
	refused(t, c.Call(wire.ConnectNumOfStoragePools, nil, nil), wire.InternalError, "its log has the details")
	works(t, c)
}

// What may change something is not for those who may only read.
func TestReadOnlyConnectionsReadOnly(t *testing.T) {
	h := newHost(t, nil)
	asked := virtrpctest.Dial(t, h.main)
	asked.Do(wire.ConnectOpen, &wire.OpenArgs{Flags: wire.OpenReadOnly}, nil)
	for _, c := range []*virtrpctest.Client{virtrpctest.Open(t, h.ro), asked} {
		for number, writes := range virtrpc.Procedures(wire.JobControl) {
			var f *wire.Failure
			err := c.CallJob(number, nil, nil)
			if denied := errors.As(err, &f) && f.Code == wire.OperationDenied; denied != writes {
				t.Errorf("procedure %d about jobs: %v", number, err)
			}
		}
		for number, writes := range virtrpc.Procedures(wire.Remote) {
			var f *wire.Failure
			err := c.Call(number, nil, nil)
			if denied := errors.As(err, &f) && f.Code == wire.OperationDenied; number != wire.ConnectClose && denied != writes {
				t.Errorf("procedure %d: %v", number, err)
			}
			if number == wire.ConnectClose {
				c = virtrpctest.Open(t, h.ro)
			}
		}
		refused(t, c.Call(wire.StoragePoolRefresh, nil, nil), wire.OperationDenied, "operation forbidden: read only access prevents virStoragePoolRefresh")
		works(t, c)
	}
}

// A job goes on when its client leaves, or is canceled, as it is set.
func TestJobOfAClientThatLeaves(t *testing.T) {
	for _, cancel := range []bool{true, false} {
		h := newHost(t, func(c *virtrpc.Config) { c.Cancel = cancel })
		c := virtrpctest.Open(t, h.main)
		c.Begin(wire.StorageVolWipe, &wire.VolFlags{Vol: wire.Vol{Pool: "images", Name: "base.raw"}})
		<-h.svc.waits
		c.Conn.Close()
		if cancel {
			if by := <-h.svc.canceled; by.Owner.PID != os.Getpid() || by.Owner.Via != "libvirt" {
				t.Errorf("canceled by %+v", by)
			}
		}
		h.stop(t)
		if len(h.svc.canceled) > 0 {
			t.Error("it was canceled")
		}
	}
}

// A call that waits when the daemon stops is answered: the job goes on. The client may
// say what it likes then, which kills nobody by SIGPIPE.
func TestStopAnswersWhatWaits(t *testing.T) {
	h := newHost(t, nil)
	c := virtrpctest.Open(t, h.main)
	call := c.Begin(wire.StorageVolWipe, &wire.VolFlags{Vol: wire.Vol{Pool: "images", Name: "base.raw"}})
	<-h.svc.waits
	var stopping sync.WaitGroup
	stopping.Go(func() { h.stop(t) })
	refused(t, c.Answer(call, nil), wire.OperationFailed, "job 412 goes on")
	ends(t, c)
	for range 3 {
		c.Send(c.Header(wire.ConnectUnregisterCloseCallback), nil)
	}
	c.Conn.Close()
	stopping.Wait()
}

// Jobs are of those on whose behalf a daemon that is trusted calls.
func TestJobsAreOfWhomADaemonCallsFor(t *testing.T) {
	h := newHost(t, nil)
	close(h.svc.end)
	c := virtrpctest.Open(t, h.main)
	identity := &wire.IdentityArgs{Params: []wire.Param{
		{Field: "unix-user-name", Type: wire.ParamString, Text: "somebody"}, {Field: "unix-user-id", Type: wire.ParamUlong, Number: 4711}, {Field: "process-id", Type: wire.ParamLong, Number: uint64(os.Getppid())},
	}}
	c.Do(wire.ConnectSetIdentity, identity, nil)
	c.Do(wire.StorageVolWipe, &wire.VolFlags{Vol: wire.Vol{Pool: "images", Name: "base.raw"}}, nil)
	if o := h.svc.started(); o.UID != 4711 || o.User != "4711" || o.PID != os.Getppid() || o.Command == "" || o.Via != "libvirt" {
		t.Errorf("the job is of %+v", o)
	}
	ro := virtrpctest.Open(t, h.ro)
	ro.Do(wire.ConnectSetIdentity, identity, nil)
	refused(t, ro.Call(wire.StorageVolWipe, &wire.VolFlags{Vol: wire.Vol{Pool: "images", Name: "base.raw"}}, nil), wire.OperationDenied, "read only")
	var other *virtrpctest.Client
	testenv.AsUser(t, nobody, func() { other = virtrpctest.Open(t, h.main) })
	refused(t, other.Call(wire.ConnectSetIdentity, identity, nil), wire.AccessDenied, "only root")
}

func TestEventsOfPoolsComeToWhoAskedForThem(t *testing.T) {
	h := newHost(t, nil)
	c := virtrpctest.Open(t, h.main)
	p := wirePool(t, c)
	var all, one, refreshed wire.Int
	c.Do(wire.ConnectStoragePoolEventRegister, &wire.RegisterArgs{}, &all)
	c.Do(wire.ConnectStoragePoolEventRegister, &wire.RegisterArgs{Pool: p}, &one)
	c.Do(wire.ConnectStoragePoolEventRegister, &wire.RegisterArgs{Event: 1}, &refreshed)
	if all != 0 || one != 1 || refreshed != 2 {
		t.Errorf("callbacks are %d, %d and %d", all, one, refreshed)
	}
	refused(t, c.Call(wire.ConnectStoragePoolEventRegister, &wire.RegisterArgs{Pool: p}, nil), wire.InvalidArg, "event callback already tracked")
	refused(t, c.Call(wire.ConnectStoragePoolEventRegister, &wire.RegisterArgs{Event: 2}, nil), wire.InternalError, "unsupported storage pool event ID 2")
	c.Do(wire.ConnectStoragePoolEventDeregister, &all, nil)
	refused(t, c.Call(wire.ConnectStoragePoolEventDeregister, &all, nil), wire.InternalError, "not registered")
	ended := func(pool string, kind record.Kind, state record.State) {
		h.svc.hub.Publish(record.Event{Type: "job.ended", Job: &record.Job{Kind: kind, State: state, Objects: []record.Object{{Pool: pool}}}})
	}
	ended("images", record.PoolStart, record.Failed)
	ended("backup", record.PoolStart, record.Succeeded)
	ended("images", record.PoolStop, record.Succeeded)
	ended("images", record.PoolRefresh, record.Succeeded)
	h.svc.hub.Publish(record.Event{Type: "pool.undefined", Pool: &h.svc.pools[0]})
	for _, want := range []xdr.Value{
		&wire.LifecycleEvent{Callback: 1, Pool: *p, Event: 3}, &wire.RefreshEvent{Callback: 2, Pool: *p}, &wire.LifecycleEvent{Callback: 1, Pool: *p, Event: 1},
	} {
		got, err := c.Next()
		if b, _ := xdr.Encode(want); err != nil || got.Type != wire.Message || got.Serial != 1 || string(got.Payload) != string(b) {
			t.Errorf("%+v, %v, not %+v", got, err, want)
		}
	}
}

// The first call of a client that is refused is answered.
func TestConnectionsThatAreTooManyAreRefused(t *testing.T) {
	server, client := net.Pipe()
	go func() {
		virtrpc.Refuse(server, record.Errorf(record.QueueFull, "uid 1 has 256 connections open already"))
		server.Close()
	}()
	h, n, err := wire.ReadHeader(client)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(client, b); err != nil {
		t.Fatal(err)
	}
	refused(t, virtrpctest.Packet{Header: h, Payload: b}.Decode(nil), wire.ResourceBusy, "256 connections")
}
