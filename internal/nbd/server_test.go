package nbd

import (
	"encoding/binary"
	"io"
	"math"
	"net"
	"slices"
	"sync"
	"testing"
	"time"
)

// server is one that answers as it should, but for what a test has it do.
type server struct {
	net.Conn
	size  uint64
	flags uint16

	// greeting, option and request are asked first. False: the server answers as it
	// should.
	greeting func() bool
	option   func(id uint32, data []byte) bool
	request  func(q question) bool
	patience time.Duration // with a client that asks nothing; 0: any

	mu  sync.Mutex
	log [][]byte // how each request was answered, or began to be
}

// question is what a client asks.
type question struct {
	flags, command uint16
	cookie, off    uint64
	n              uint32
	data           []byte
}

const (
	testSize = 4 * mib
	allFlags = hasFlags | sendFlush | sendTrim | sendWriteZeroes | sendFastZero | canMultiConn

	allocationID, depthID = 7, 9
)

// fake is a server and the other end of its connection. It ends when that is
// closed.
func fake(t testing.TB, change func(s *server)) net.Conn {
	ours, theirs := net.Pipe()
	s := &server{Conn: theirs, size: testSize, flags: allFlags}
	if change != nil {
		change(s)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer theirs.Close()
		if s.greet() && s.options() {
			for s.answer() {
			}
		}
	}()
	t.Cleanup(func() {
		ours.Close()
		<-ended
	})
	return ours
}

// put sends numbers, big-endian, and bytes. What fails shows at the next read.
func (s *server) put(list ...any) {
	var b []byte
	for _, x := range list {
		b, _ = binary.Append(b, binary.BigEndian, x)
	}
	s.mu.Lock()
	if last := len(s.log) - 1; last >= 0 {
		s.log[last] = append(s.log[last], b[:min(len(b), math.MaxUint16)]...)
	}
	s.mu.Unlock()
	_, _ = s.Write(b)
}

// said is how each request was answered.
func (s *server) said() [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.log)
}

func (s *server) get(n uint32) (b []byte, ok bool) {
	b = make([]byte, n)
	_, err := io.ReadFull(s, b)
	return b, err == nil
}

func (s *server) greet() bool {
	if s.greeting == nil || !s.greeting() {
		s.put(uint64(magicServer), uint64(magicOption), uint16(fixedNewstyle|noZeroes))
	}
	_, ok := s.get(4)
	return ok
}

// reply is one to an option.
func (s *server) reply(id, kind uint32, data ...any) {
	b := []byte{}
	for _, x := range data {
		b, _ = binary.Append(b, binary.BigEndian, x)
	}
	s.put(uint64(magicReply), id, kind, uint32(len(b)), b)
}

func (s *server) context(id uint32, name string) {
	s.reply(optSetMetaContext, repMetaContext, id, []byte(name))
}

func (s *server) options() bool {
	for {
		head, ok := s.get(16)
		if !ok {
			return false
		}
		id := binary.BigEndian.Uint32(head[8:])
		data, ok := s.get(binary.BigEndian.Uint32(head[12:]))
		if !ok {
			return false
		}
		if s.option == nil || !s.option(id, data) {
			switch id {
			case optSetMetaContext:
				s.context(allocationID, contextAllocation)
				s.context(depthID, contextDepth)
			case optGo:
				s.export()
			}
			s.reply(id, repAck)
		}
		if id == optGo {
			return true
		}
	}
}

func (s *server) export() { s.reply(optGo, repInfo, uint16(infoExport), s.size, s.flags) }

func (s *server) answer() bool {
	if s.patience > 0 {
		_ = s.SetReadDeadline(time.Now().Add(s.patience))
	}
	b, ok := s.get(requestBytes)
	if !ok {
		return false
	}
	q := question{
		flags: binary.BigEndian.Uint16(b[4:]), command: binary.BigEndian.Uint16(b[6:]), cookie: binary.BigEndian.Uint64(b[8:]),
		off: binary.BigEndian.Uint64(b[16:]), n: binary.BigEndian.Uint32(b[24:]),
	}
	s.mu.Lock()
	s.log = append(s.log, nil)
	s.mu.Unlock()
	if q.command == cmdWrite {
		if q.data, ok = s.get(q.n); !ok {
			return false
		}
	}
	switch {
	case s.request != nil && s.request(q):
	case q.command == cmdDisconnect:
		return false
	case q.command == cmdRead:
		s.data(q, chunkDone, q.off, q.n)
	case q.command == cmdBlockStatus:
		s.status(q, 0, allocationID, uint32(4096), uint32(0), q.n-4096, uint32(stateHole|stateZero))
		s.status(q, chunkDone, depthID, q.n, uint32(1))
	default:
		s.simple(q, 0)
	}
	return true
}

func (s *server) simple(q question, code uint32) { s.put(uint32(magicSimple), code, q.cookie) }

// chunk is one of a structured reply.
func (s *server) chunk(q question, flags, kind uint16, list ...any) {
	b := []byte{}
	for _, x := range list {
		b, _ = binary.Append(b, binary.BigEndian, x)
	}
	s.put(uint32(magicStructured), flags, kind, q.cookie, uint32(len(b)), b)
}

// data is a chunk of it, each byte by its offset.
func (s *server) data(q question, flags uint16, off uint64, n uint32) {
	b := make([]byte, n)
	for i := range b {
		b[i] = byteAt(off + uint64(i))
	}
	s.chunk(q, flags, chunkData, off, b)
}

// byteAt is the content that the server has. It is never zero.
func byteAt(off uint64) byte { return byte(off%251 + 1) }

func (s *server) hole(q question, flags uint16, off uint64, n uint32) {
	s.chunk(q, flags, chunkHole, off, n)
}

func (s *server) status(q question, flags uint16, id uint32, descriptors ...any) {
	s.chunk(q, flags, chunkBlockStatus, append([]any{id}, descriptors...)...)
}
