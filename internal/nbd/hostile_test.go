package nbd

import (
	"errors"
	"math"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"storaged/internal/diskio"
)

// hostility is what a server does wrong.
type hostility struct {
	name string
	do   func(s *server) // changes the server
	lost bool            // it is no lie: the connection ends
	use  func(c *Client) error
}

func atGreeting(do func(s *server)) func(s *server) {
	return func(s *server) {
		s.greeting = func() bool { do(s); return true }
	}
}

func atOption(id uint32, do func(s *server)) func(s *server) {
	return func(s *server) {
		s.option = func(asked uint32, _ []byte) bool {
			if asked == id {
				do(s)
			}
			return asked == id
		}
	}
}

func atRequest(command uint16, do func(s *server, q question)) func(s *server) {
	return func(s *server) {
		s.request = func(q question) bool {
			if q.command == command {
				do(s, q)
			}
			return q.command == command
		}
	}
}

func atRead(do func(s *server, q question)) func(s *server)   { return atRequest(cmdRead, do) }
func atStatus(do func(s *server, q question)) func(s *server) { return atRequest(cmdBlockStatus, do) }

// negotiations are lies before the first request.
var negotiations = []hostility{
	{name: "nothing", do: atGreeting(func(s *server) { s.Close() }), lost: true},
	{name: "half a greeting", do: atGreeting(func(s *server) { s.put(uint64(magicServer)); s.Close() }), lost: true},
	{name: "another server", do: atGreeting(func(s *server) { s.put([]byte("HTTP/1.1 200 OK\r\n\r\n")) })},
	{name: "oldstyle", do: atGreeting(func(s *server) { s.put(uint64(magicServer), uint64(0x00420281861253), uint64(1<<20), [200]byte{}) })},
	{name: "not fixed newstyle", do: atGreeting(func(s *server) { s.put(uint64(magicServer), uint64(magicOption), uint16(0)) })},
	{name: "no structured replies", do: atOption(optStructured, func(s *server) { s.reply(optStructured, repError+1) })},
	{name: "a reply to another option", do: atOption(optStructured, func(s *server) { s.reply(optGo, repAck) })},
	{name: "a reply without its magic", do: atOption(optStructured, func(s *server) { s.put([20]byte{}) })},
	{name: "a reply of 4 GiB", do: atOption(optStructured, func(s *server) {
		s.put(uint64(magicReply), uint32(optStructured), uint32(repInfo), uint32(math.MaxUint32))
	})},
	{name: "an error of 4 GiB", do: atOption(optStructured, func(s *server) {
		s.put(uint64(magicReply), uint32(optStructured), uint32(repError+1), uint32(math.MaxUint32))
	})},
	{name: "an acknowledgement with data", do: atOption(optStructured, func(s *server) { s.reply(optStructured, repAck, uint64(1)) })},
	{name: "information for nothing", do: atOption(optStructured, func(s *server) { s.reply(optStructured, repInfo, uint64(1)) })},
	{name: "contexts without an end", do: atOption(optSetMetaContext, func(s *server) {
		for i := range uint32(1000) {
			s.context(i, contextAllocation)
		}
	})},
	{name: "the same context twice", do: atOption(optSetMetaContext, func(s *server) {
		s.context(1, contextAllocation)
		s.context(2, contextAllocation)
		s.reply(optSetMetaContext, repAck)
	})},
	{name: "two contexts with one id", do: atOption(optSetMetaContext, func(s *server) {
		s.context(1, contextAllocation)
		s.context(1, contextDepth)
		s.reply(optSetMetaContext, repAck)
	})},
	{name: "a context that nobody asked for", do: atOption(optSetMetaContext, func(s *server) { s.context(1, "base:allocation ") })},
	{name: "a context without an id", do: atOption(optSetMetaContext, func(s *server) { s.reply(optSetMetaContext, repMetaContext, uint16(1)) })},
	{name: "a context of another kind", do: atOption(optSetMetaContext, func(s *server) { s.reply(optSetMetaContext, 2, uint64(1)) })},
	{name: "no size", do: atOption(optGo, func(s *server) { s.reply(optGo, repAck) })},
	{name: "two sizes", do: atOption(optGo, func(s *server) { s.export(); s.export() })},
	{name: "a size of another length", do: atOption(optGo, func(s *server) { s.reply(optGo, repInfo, uint16(infoExport), uint32(1)) })},
	{name: "information of one byte", do: atOption(optGo, func(s *server) { s.reply(optGo, repInfo, uint8(0)) })},
	{name: "information without an end", do: atOption(optGo, func(s *server) {
		for range 1000 {
			s.reply(optGo, repInfo, uint16(99), [1000]byte{})
		}
	})},
	{name: "a size of more than 8 EiB", do: func(s *server) { s.size = 1 << 63 }},
	{name: "no flags", do: func(s *server) { s.flags = 0 }},
	{name: "an end instead of the transmission", do: atOption(optGo, func(s *server) { s.Close() }), lost: true},
}

// transmissions are lies behind that.
var transmissions = []hostility{
	{name: "another magic", do: atRead(func(s *server, q question) { s.put(uint32(magicRequest), uint32(0), q.cookie) })},
	{name: "a cookie that does not wait", do: atRead(func(s *server, q question) { q.cookie += 1 << 32; s.data(q, chunkDone, q.off, q.n) })},
	{name: "a reply twice", do: atRequest(cmdFlush, func(s *server, q question) { s.simple(q, 0); s.simple(q, 0) }), use: func(c *Client) error {
		_ = c.Flush()
		c.readers.Wait()
		return c.Flush()
	}},
	{name: "a simple reply to a read", do: atRead(func(s *server, q question) { s.simple(q, 0) })},
	{name: "a simple error to a read", do: atRead(func(s *server, q question) { s.simple(q, 5) })},
	{name: "nothing but an end", do: atRead(func(s *server, q question) { s.chunk(q, chunkDone, chunkNone) })},
	{name: "an end that is none", do: atRead(func(s *server, q question) { s.chunk(q, 0, chunkNone) })},
	{name: "an end with data", do: atRead(func(s *server, q question) { s.chunk(q, chunkDone, chunkNone, uint64(1)) })},
	{name: "too little", do: atRead(func(s *server, q question) { s.data(q, chunkDone, q.off, q.n-1) })},
	{name: "a gap", do: atRead(func(s *server, q question) {
		s.data(q, 0, q.off, 10)
		s.data(q, chunkDone, q.off+11, q.n-11)
	})},
	{name: "too much", do: atRead(func(s *server, q question) { s.data(q, chunkDone, q.off, q.n+1) })},
	{name: "a byte before", do: atRead(func(s *server, q question) { s.data(q, chunkDone, q.off-1, q.n) })},
	{name: "a byte behind", do: atRead(func(s *server, q question) { s.data(q, chunkDone, q.off+1, q.n) })},
	{name: "an offset that wraps around", do: atRead(func(s *server, q question) { s.data(q, chunkDone, math.MaxUint64, q.n) })},
	{name: "data of 4 GiB", do: atRead(func(s *server, q question) {
		s.put(uint32(magicStructured), uint16(chunkDone), uint16(chunkData), q.cookie, uint32(math.MaxUint32), q.off)
	})},
	{name: "data without an offset", do: atRead(func(s *server, q question) { s.chunk(q, chunkDone, chunkData, uint32(1)) })},
	{name: "no data at an offset", do: atRead(func(s *server, q question) { s.chunk(q, 0, chunkData, q.off) })},
	{name: "the same data twice", do: atRead(func(s *server, q question) {
		s.data(q, 0, q.off, q.n)
		s.data(q, chunkDone, q.off, q.n)
	})},
	{name: "a hole in data", do: atRead(func(s *server, q question) {
		s.data(q, 0, q.off, q.n)
		s.hole(q, chunkDone, q.off+5, 1)
	})},
	{name: "data over two pieces", do: atRead(func(s *server, q question) {
		s.data(q, 0, q.off, 10)
		s.data(q, 0, q.off+20, 10)
		s.data(q, 0, q.off+5, 20)
	})},
	{name: "a hole of 4 GiB", do: atRead(func(s *server, q question) { s.hole(q, chunkDone, q.off, math.MaxUint32) })},
	{name: "a hole of nothing", do: atRead(func(s *server, q question) { s.hole(q, 0, q.off, 0) })},
	{name: "a hole without a length", do: atRead(func(s *server, q question) { s.chunk(q, chunkDone, chunkHole, q.off) })},
	{name: "a thousand pieces", do: atRead(func(s *server, q question) {
		for k := range uint64(1000) {
			s.data(q, 0, q.off+2*k, 1)
		}
	})},
	{name: "a map instead of data", do: atRead(func(s *server, q question) { s.status(q, chunkDone, allocationID, q.n, uint32(0)) })},
	{name: "a kind that is not known", do: atRead(func(s *server, q question) { s.chunk(q, chunkDone, 99, [100]byte{}) })},
	{name: "an error that is none", do: atRead(func(s *server, q question) { s.chunk(q, chunkDone, chunkIsError+1, uint32(0), uint16(0)) })},
	{name: "an error without a number", do: atRead(func(s *server, q question) { s.chunk(q, chunkDone, chunkIsError+1, uint16(5)) })},
	{name: "an error of 4 GiB", do: atRead(func(s *server, q question) {
		s.put(uint32(magicStructured), uint16(chunkDone), uint16(chunkIsError+1), q.cookie, uint32(math.MaxUint32))
	})},
	{name: "an error whose words end behind it", do: atRead(func(s *server, q question) { s.chunk(q, chunkDone, chunkIsError+1, uint32(5), uint16(9)) })},
	{name: "an error with half an offset", do: atRead(func(s *server, q question) { s.chunk(q, chunkDone, chunkErrorOffset, uint32(5), uint16(0), uint32(9)) })},
	{name: "errors without an end", do: atRead(func(s *server, q question) {
		for range 1000 {
			s.chunk(q, 0, chunkErrorOffset, uint32(5), uint16(0), q.off)
		}
	})},
	{name: "data for a write", do: atRequest(cmdWrite, func(s *server, q question) { s.data(q, chunkDone, q.off, q.n) })},
	{name: "a hole for a write", do: atRequest(cmdWrite, func(s *server, q question) { s.hole(q, chunkDone, q.off, q.n) })},
	{name: "a map for a write", do: atRequest(cmdWrite, func(s *server, q question) { s.status(q, chunkDone, allocationID, q.n, uint32(0)) })},
	{name: "success without a map", do: atStatus(func(s *server, q question) { s.simple(q, 0) })},
	{name: "one map of two", do: atStatus(func(s *server, q question) { s.status(q, chunkDone, depthID, q.n, uint32(0)) })},
	{name: "the same map twice", do: atStatus(func(s *server, q question) {
		s.status(q, 0, allocationID, q.n, uint32(0))
		s.status(q, chunkDone, allocationID, q.n, uint32(0))
	})},
	{name: "a map of another context", do: atStatus(func(s *server, q question) { s.status(q, chunkDone, 1, q.n, uint32(0)) })},
	{name: "a map without an extent", do: atStatus(func(s *server, q question) { s.status(q, chunkDone, allocationID) })},
	{name: "a map of two bytes", do: atStatus(func(s *server, q question) { s.chunk(q, chunkDone, chunkBlockStatus, uint16(1)) })},
	{name: "half an extent", do: atStatus(func(s *server, q question) { s.status(q, chunkDone, allocationID, q.n, uint32(0), uint32(1)) })},
	{name: "an extent of nothing", do: atStatus(func(s *server, q question) { s.status(q, chunkDone, allocationID, uint32(0), uint32(0)) })},
	{name: "an extent behind the end", do: atStatus(func(s *server, q question) {
		s.status(q, chunkDone, allocationID, q.n, uint32(0), uint32(1), uint32(0))
	})},
	{name: "a map of 4 GiB", do: atStatus(func(s *server, q question) {
		s.put(uint32(magicStructured), uint16(chunkDone), uint16(chunkBlockStatus), q.cookie, uint32(math.MaxUint32-3))
	})},
	{name: "data instead of a map", do: atStatus(func(s *server, q question) { s.data(q, chunkDone, 0, 100) })},
	{name: "a reply before anything is asked", do: func(s *server) {
		s.option = func(id uint32, _ []byte) bool {
			if id == optGo {
				s.export()
				s.reply(id, repAck)
				s.simple(question{cookie: 1 << 40}, 0)
			}
			return id == optGo
		}
	}},
	{name: "an end in a head", lost: true, do: atRead(func(s *server, q question) { s.put(uint32(magicStructured), uint16(0)); s.Close() })},
	{name: "an end in data", lost: true, do: atRead(func(s *server, q question) {
		s.put(uint32(magicStructured), uint16(chunkDone), uint16(chunkData), q.cookie, q.n+8, q.off, [10]byte{})
		s.Close()
	})},
	{name: "an end in a map", lost: true, do: atStatus(func(s *server, q question) {
		s.put(uint32(magicStructured), uint16(chunkDone), uint16(chunkBlockStatus), q.cookie, uint32(20), uint32(allocationID), uint32(4096))
		s.Close()
	})},
	{name: "an end instead of a reply", lost: true, do: atRequest(cmdWrite, func(s *server, q question) { s.Close() })},
}

// everything uses a client in all ways until an error.
func everything(c *Client) error {
	if _, err := c.Extents(make([]diskio.Extent, 3), 0, testSize); err != nil {
		return err
	}
	if _, err := c.ReadAt(make([]byte, 1000), 4096); err != nil {
		return err
	}
	if _, err := c.WriteAt(make([]byte, 1000), 4096); err != nil {
		return err
	}
	return c.Flush()
}

// wrong fails unless err is what a hostility leads to.
func (h hostility) wrong(t *testing.T, err error) {
	t.Helper()
	refused := errors.Is(err, ErrProtocol) || errors.Is(err, errOption)
	if closed := err != nil && strings.Contains(err.Error(), "closed"); err == nil || refused == h.lost || closed != h.lost {
		t.Errorf("error is %v", err)
	}
}

func TestHostileNegotiations(t *testing.T) {
	for _, h := range negotiations {
		t.Run(h.name, func(t *testing.T) {
			_, err := Connect(t.Context(), []net.Conn{fake(t, h.do)}, Export{Name: "x", Depths: true})
			h.wrong(t, err)
		})
	}
}

func TestHostileTransmissions(t *testing.T) {
	for _, h := range transmissions {
		t.Run(h.name, func(t *testing.T) {
			c := dial(t, h.do)
			use := h.use
			if use == nil {
				use = everything
			}
			err := use(c)
			h.wrong(t, err)
			if again := everything(c); !errors.Is(again, err) {
				t.Errorf("a later call gives %v, not %v", again, err)
			}
		})
	}
	if n := len(negotiations) + len(transmissions); n < 40 {
		t.Errorf("only %d lies are tried", n)
	}
}

func TestTwoConnectionsToTwoExports(t *testing.T) {
	conns := []net.Conn{fake(t, nil), fake(t, func(s *server) { s.size++ })}
	if _, err := Connect(t.Context(), conns, Export{Name: "x", Depths: true}); !errors.Is(err, ErrProtocol) {
		t.Errorf("error is %v", err)
	}
}

// TestAnEndlessMapIsBounded: a million extents are looked at, and few remembered.
func TestAnEndlessMapIsBounded(t *testing.T) {
	var asked atomic.Int64
	many := make([]uint32, 2*mostDescriptors)
	for i := range mostDescriptors {
		many[2*i], many[2*i+1] = 512, uint32(i%2)
	}
	c := dial(t, func(s *server) {
		s.size = 1 << 40
		s.request = func(q question) bool {
			if q.command == cmdBlockStatus {
				asked.Add(1)
				s.status(q, 0, allocationID, many)
				s.status(q, chunkDone, depthID, many)
			}
			return q.command == cmdBlockStatus
		}
	})
	var before, after runtime.MemStats
	list := make([]diskio.Extent, 1000)
	runtime.GC()
	runtime.ReadMemStats(&before)
	for at := int64(0); asked.Load() < 3; {
		n, err := c.Extents(list, at, 1<<40)
		if err != nil {
			t.Fatal(err)
		}
		at = list[n-1].End()
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 20*mib { // the server has something, too
		t.Errorf("%d bytes are remembered", grown)
	}
}
