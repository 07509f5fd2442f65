package nbd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"storaged/internal/diskio"
	"storaged/internal/diskio/diskiotest"
)

// dial connects to a fake server.
func dial(t testing.TB, change func(s *server)) *Client {
	t.Helper()
	return connected(t, []net.Conn{fake(t, change)}, Export{Name: "x", Granularity: 64 << 10, Depths: true})
}

// check fails unless buf is what the server has at off, but for a hole in it.
func check(t *testing.T, buf []byte, off, lo, hi uint64) {
	t.Helper()
	for i, b := range buf {
		at := off + uint64(i)
		want := byteAt(at)
		if lo <= at && at < hi {
			want = 0
		}
		if b != want {
			t.Errorf("byte %d is %d, not %d", at, b, want)
			return
		}
	}
}

func TestChunksInAnyOrder(t *testing.T) {
	for name, reply := range map[string]func(s *server, q question){
		"backwards": func(s *server, q question) {
			for k := uint64(4); k > 0; k-- {
				s.data(q, 0, q.off+(k-1)*q4(q), uint32(q4(q)))
			}
			s.chunk(q, chunkDone, chunkNone)
		},
		"inside out": func(s *server, q question) {
			for _, k := range []uint64{1, 3, 0, 2} {
				s.data(q, 0, q.off+k*q4(q), uint32(q4(q)))
			}
			s.chunk(q, chunkDone, chunkNone)
		},
		"the end with data": func(s *server, q question) {
			s.data(q, 0, q.off+q4(q), q.n-uint32(q4(q)))
			s.data(q, chunkDone, q.off, uint32(q4(q)))
		},
		"byte by byte": func(s *server, q question) {
			for k := range uint64(100) {
				s.data(q, 0, q.off+k, 1)
			}
			s.data(q, chunkDone, q.off+100, q.n-100)
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, func(s *server) {
				s.request = func(q question) bool {
					if q.command != cmdRead {
						return false
					}
					reply(s, q)
					return true
				}
			})
			buf := make([]byte, mib)
			_, err := c.ReadAt(buf, 4096)
			diskiotest.Must(t, err)
			check(t, buf, 4096, 0, 0)
		})
	}
}

func q4(q question) uint64 { return uint64(q.n / 4) }

func TestHolesAreZeros(t *testing.T) {
	const lo, hi = 8192, 12288
	c := dial(t, func(s *server) {
		s.request = func(q question) bool {
			if q.command != cmdRead {
				return false
			}
			s.hole(q, 0, lo, hi-lo)
			s.data(q, 0, q.off, uint32(lo-q.off))
			s.data(q, chunkDone, hi, uint32(q.off+uint64(q.n)-hi))
			return true
		}
	})
	buf := make([]byte, 10000)
	for i := range buf {
		buf[i] = 0xff
	}
	_, err := c.ReadAt(buf, 4000)
	diskiotest.Must(t, err)
	check(t, buf, 4000, lo, hi)
}

// TestRepliesInAnyOrder: of requests that are under way together.
func TestRepliesInAnyOrder(t *testing.T) {
	const together = 5
	var waiting []question
	c := dial(t, func(s *server) {
		s.request = func(q question) bool {
			if q.command != cmdRead {
				return false
			}
			if waiting = append(waiting, q); len(waiting) < together {
				return true
			}
			for k := range 2 { // one half of each, and then the other
				for i := range waiting {
					w := waiting[len(waiting)-1-i]
					half := w.n / 2
					s.data(w, uint16(k)*chunkDone, w.off+uint64(k)*uint64(half), half)
				}
			}
			waiting = nil
			return true
		}
	})
	var group sync.WaitGroup
	defer group.Wait()
	for i := range int64(together) {
		group.Go(func() {
			buf := make([]byte, 100<<10)
			if _, err := c.ReadAt(buf, i*mib/2); err != nil {
				t.Error(err)
			}
			check(t, buf, uint64(i*mib/2), 0, 0)
		})
	}
}

func TestErrorsOfRequests(t *testing.T) {
	for _, e := range []struct {
		name  string
		reply func(s *server, q question)
		want  error
	}{
		{"simple", func(s *server, q question) { s.simple(q, 28) }, syscall.ENOSPC},
		{"one that is not known", func(s *server, q question) { s.simple(q, 4711) }, syscall.EINVAL},
		{"structured", func(s *server, q question) { s.chunk(q, chunkDone, chunkIsError+1, uint32(5), uint16(0)) }, syscall.EIO},
		{"with words", func(s *server, q question) {
			s.chunk(q, chunkDone, chunkIsError+1, uint32(12), uint16(3), []byte("why"))
		}, syscall.ENOMEM},
		{"with an offset", func(s *server, q question) {
			s.chunk(q, 0, chunkErrorOffset, uint32(5), uint16(3), []byte("why"), q.off)
			s.chunk(q, 0, chunkErrorOffset, uint32(28), uint16(0), q.off+1)
			s.chunk(q, chunkDone, chunkNone)
		}, syscall.EIO},
		{"of a kind that is not known", func(s *server, q question) {
			s.chunk(q, chunkDone, chunkIsError+99, uint32(1), uint16(2), []byte("ok, and more"))
		}, syscall.EPERM},
	} {
		t.Run(e.name, func(t *testing.T) {
			var asked atomic.Int64
			c := dial(t, func(s *server) {
				s.request = func(q question) bool {
					if q.command != cmdFlush && asked.Add(1) == 1 {
						e.reply(s, q)
						return true
					}
					return false
				}
			})
			if _, err := c.WriteAt(make([]byte, 100), 0); !errors.Is(err, e.want) {
				t.Errorf("error is %v", err)
			}
			if _, err := c.WriteAt(make([]byte, 100), 0); err != nil {
				t.Errorf("the next: %v", err)
			}
		})
	}
}

// TestOnePieceIsNotInsistedOn: a server may find that too long.
func TestOnePieceIsNotInsistedOn(t *testing.T) {
	c := dial(t, func(s *server) {
		s.flags |= sendDF
		s.request = func(q question) bool {
			if q.command != cmdRead || q.flags != flagDF || q.n <= 64<<10 {
				return false
			}
			s.chunk(q, chunkDone, chunkIsError+1, uint32(75), uint16(0))
			return true
		}
	})
	buf := make([]byte, 3*mib)
	_, err := c.ReadAt(buf, 100)
	diskiotest.Must(t, err)
	check(t, buf, 100, 0, 0)
}

// TestReadFailsInPart: an error counts, whatever data there is.
func TestReadFailsInPart(t *testing.T) {
	c := dial(t, func(s *server) {
		s.request = func(q question) bool {
			if q.command != cmdRead {
				return false
			}
			s.data(q, 0, q.off, q.n)
			s.chunk(q, chunkDone, chunkErrorOffset, uint32(5), uint16(0), q.off)
			return true
		}
	})
	if _, err := c.ReadAt(make([]byte, 100), 0); !errors.Is(err, syscall.EIO) {
		t.Errorf("error is %v", err)
	}
}

func TestTheFirstErrorOfAFlushIsFinal(t *testing.T) {
	var asked int
	c := dial(t, func(s *server) {
		s.request = func(q question) bool {
			if q.command != cmdFlush {
				return false
			}
			if asked++; asked == 1 {
				s.simple(q, 5)
				return true
			}
			return false
		}
	})
	for range 2 {
		if err := c.Flush(); !errors.Is(err, syscall.EIO) {
			t.Errorf("error is %v", err)
		}
	}
}

// TestZeroAsksForWhatItNeeds: units fast, and what is not in one anyhow.
func TestZeroAsksForWhatItNeeds(t *testing.T) {
	const unit = 64 << 10
	var mu sync.Mutex
	var asked []string
	c := dial(t, func(s *server) {
		s.request = func(q question) bool {
			mu.Lock()
			defer mu.Unlock()
			if q.command != cmdDisconnect {
				asked = append(asked, fmt.Sprintf("%d:%d %d+%d", q.command, q.flags, q.off, q.n))
			}
			return false
		}
	})
	for _, e := range []struct {
		off, n int64
		unmap  bool
		want   string
	}{
		{unit, 2 * unit, true, "[6:16 65536+131072]"},
		{unit, 2 * unit, false, "[6:18 65536+131072]"},
		{unit - 1, unit + 2, true, "[6:16 65536+65536 6:0 65535+1 6:0 131072+1]"},
		{5, 7, true, "[6:0 5+7]"},
		{testSize - 10, 10, true, "[6:0 4194294+10]"},
	} {
		asked = nil
		diskiotest.Must(t, c.Zero(e.off, e.n, e.unmap))
		if got := fmt.Sprint(asked); got != e.want {
			t.Errorf("%+v: %s", e, got)
		}
	}
}

func TestWhatTheServerCannotDo(t *testing.T) {
	c := dial(t, func(s *server) { s.flags = hasFlags })
	for what, err := range map[string]error{"zero": c.Zero(0, 4096, true), "discard": c.Discard(0, 4096), "flush": c.Flush()} {
		if !errors.Is(err, diskio.ErrUnsupported) {
			t.Errorf("%s: %v", what, err)
		}
	}
	slow := dial(t, func(s *server) {
		s.request = func(q question) bool {
			if q.flags&flagFastZero == 0 {
				return false
			}
			s.simple(q, 95)
			return true
		}
	})
	if err := slow.Zero(0, mib, true); !errors.Is(err, diskio.ErrUnsupported) {
		t.Errorf("zeroes that are not fast: %v", err)
	}
	ro := dial(t, func(s *server) { s.flags = hasFlags | readOnly })
	_, err := ro.WriteAt(make([]byte, 1), 0)
	for what, err := range map[string]error{"write": err, "zero": ro.Zero(0, 4096, true), "discard": ro.Discard(0, 4096)} {
		if !errors.Is(err, syscall.EROFS) {
			t.Errorf("%s, read-only: %v", what, err)
		}
	}
	diskiotest.Must(t, ro.Flush())
}

func TestWithoutAMapAllIsData(t *testing.T) {
	for name, option := range map[string]func(s *server, id uint32) bool{
		"an error": func(s *server, id uint32) bool {
			if id == optSetMetaContext {
				s.context(allocationID, contextAllocation) // which an error takes back
				s.reply(id, repError+1)
			}
			return id == optSetMetaContext
		},
		"none": func(s *server, id uint32) bool {
			if id == optSetMetaContext {
				s.reply(id, repAck)
			}
			return id == optSetMetaContext
		},
	} {
		c := dial(t, func(s *server) { s.option = func(id uint32, _ []byte) bool { return option(s, id) } })
		var list [4]diskio.Extent
		n, err := c.Extents(list[:], 10, 1000)
		if err != nil || n != 1 || list[0] != (diskio.Extent{Off: 10, Len: 990}) {
			t.Errorf("%s: %v, %v", name, list[:n], err)
		}
		if _, err := c.Depths(make([]Depth, 1), 10, 1000); !errors.Is(err, diskio.ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestMapsAreAskedForOnce: and again where something was written.
func TestMapsAreAskedForOnce(t *testing.T) {
	var asked atomic.Int64
	c := dial(t, func(s *server) {
		s.request = func(q question) bool {
			if q.command == cmdBlockStatus {
				asked.Add(1)
			}
			return false
		}
	})
	list := make([]diskio.Extent, 1)
	look := func(off int64, want diskio.Extent) {
		t.Helper()
		if n, err := c.Extents(list, off, testSize); err != nil || n != 1 || list[0] != want {
			t.Errorf("%v, %v", list[:n], err)
		}
	}
	look(0, diskio.Extent{Off: 0, Len: 4096})
	look(4096, diskio.Extent{Off: 4096, Len: testSize - 4096, Kind: diskio.Hole})
	look(mib, diskio.Extent{Off: mib, Len: testSize - mib, Kind: diskio.Hole})
	diskiotest.Must(t, c.Zero(0, 64<<10, true))
	look(mib, diskio.Extent{Off: mib, Len: testSize - mib, Kind: diskio.Hole})
	if n := asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
	look(0, diskio.Extent{Off: 0, Len: 4096})
	if n := asked.Load(); n != 2 {
		t.Errorf("asked %d times after a change", n)
	}
}

// TestAMapIsOldAfterAWriteMeanwhile: the answer was true when the server gave it.
func TestAMapIsOldAfterAWriteMeanwhile(t *testing.T) {
	var c *Client
	var asked atomic.Int64
	change := func(s *server) {
		s.request = func(q question) bool {
			if q.command == cmdBlockStatus && asked.Add(1) == 1 { // the write is the other connection's
				if _, err := c.WriteAt(make([]byte, 100), mib); err != nil {
					t.Error(err)
				}
			}
			return false
		}
	}
	c = connected(t, []net.Conn{fake(t, change), fake(t, change)}, Export{Name: "x", Depths: true})
	list := make([]diskio.Extent, 1)
	for i, off := range []int64{0, 2 * mib, mib} { // before what was written, behind it, and in it
		_, err := c.Extents(list, off, testSize)
		diskiotest.Must(t, err)
		if n := asked.Load(); n != []int64{1, 1, 2}[i] {
			t.Errorf("for the map at %d, asked %d times", off, n)
		}
	}
}

func TestSeveralConnectionsOnlyWhereTheServerCan(t *testing.T) {
	for flags, want := range map[uint16]int{allFlags: 3, allFlags &^ canMultiConn: 1, hasFlags | readOnly: 3} {
		conns := []net.Conn{}
		for range 3 {
			conns = append(conns, fake(t, func(s *server) { s.flags = flags }))
		}
		c := connected(t, conns, Export{Name: "x", Depths: true})
		if n := len(c.connections); n != want {
			t.Errorf("flags %#x: %d connections", flags, n)
		}
		buf := make([]byte, 2*mib)
		_, err := c.ReadAt(buf, 5)
		diskiotest.Must(t, err)
		check(t, buf, 5, 0, 0)
	}
}

// TestCloseEndsWhatWaits: also where the server takes nothing and says nothing.
func TestCloseEndsWhatWaits(t *testing.T) {
	asked, silent := make(chan struct{}, 100), make(chan struct{})
	c := dial(t, func(s *server) {
		s.request = func(q question) bool {
			asked <- struct{}{}
			<-silent
			return true
		}
	})
	t.Cleanup(func() { close(silent) }) // before the server's end is waited for
	ended := make(chan error, 2)
	go func() {
		_, err := c.ReadAt(make([]byte, mib), 0)
		ended <- err
	}()
	<-asked
	go func() {
		_, err := c.WriteAt(make([]byte, mib), 0)
		ended <- err
	}()
	diskiotest.Must(t, c.Close())
	for range 2 {
		if err := <-ended; !errors.Is(err, ErrClosed) {
			t.Errorf("error is %v", err)
		}
	}
	if err := c.Flush(); !errors.Is(err, ErrClosed) {
		t.Errorf("afterwards: %v", err)
	}
	diskiotest.Must(t, c.Close())
}

// TestTheContextEndsANegotiation that the other side does not go on with.
func TestTheContextEndsANegotiation(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	stop := make(chan struct{})
	conn := fake(t, func(s *server) {
		s.greeting = func() bool { <-stop; return true }
	})
	t.Cleanup(func() { close(stop) })
	if _, err := Connect(ctx, []net.Conn{conn}, Export{Name: "x"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error is %v", err)
	}
}
