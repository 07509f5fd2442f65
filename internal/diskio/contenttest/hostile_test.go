package contenttest

import (
	"context"
	"errors"
	"io"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"storaged/internal/diskio"
	"storaged/internal/diskio/diskiotest"
	"storaged/internal/wipe"
)

// liar is a content that answers what it likes.
type liar struct {
	*Memory
	extents     func(list []diskio.Extent, off, end int64) int
	read, wrote func(n int) (int, error) // of n bytes
	sizes       []int64                  // one after the other
	unit        int64
}

func (l *liar) Extents(list []diskio.Extent, off, end int64) (int, error) {
	if l.extents == nil {
		return l.Memory.Extents(list, off, end)
	}
	return l.extents(list, off, end), nil
}

func (l *liar) ReadAt(p []byte, off int64) (int, error) {
	if l.read == nil {
		return l.Memory.ReadAt(p, off)
	}
	return l.read(len(p))
}

func (l *liar) WriteAt(p []byte, off int64) (int, error) {
	if l.wrote == nil {
		return l.Memory.WriteAt(p, off)
	}
	return l.wrote(len(p))
}

func (l *liar) Size() (int64, error) {
	if len(l.sizes) == 0 {
		return l.Memory.Size()
	}
	n := l.sizes[0]
	l.sizes = l.sizes[min(1, len(l.sizes)-1):]
	return n, nil
}

func (l *liar) Granularity() int64 { return l.unit }

// transfer is a use of a content.
type transfer struct {
	name        string
	writes      bool // to the content, which is its target
	maps, reads bool
	run         func(ctx context.Context, c diskio.Content) error
}

// transfers are all there are.
func (r rig) transfers() []transfer {
	other := func() diskio.Content { return r.used(NewMemory(size)) }
	ones := slices.Repeat([]byte{0xff}, diskio.ChunkBytes)
	round := diskio.Round{Size: size, SkipHoles: true, Pattern: func(buf []byte, _ int64) []byte { return ones[:len(buf)] }}
	return []transfer{
		{"copy from", false, true, true, func(ctx context.Context, c diskio.Content) error {
			_, err := diskio.Copy(ctx, diskio.NewPacer(), diskio.CopySpec{Dst: NewMemory(size), Src: c, Clean: true})
			return err
		}},
		{"copy to", true, true, false, func(ctx context.Context, c diskio.Content) error {
			src := other()
			r.must(src.Zero(0, mib, true)) // where the target has data
			_, err := diskio.Copy(ctx, diskio.NewPacer(), diskio.CopySpec{Dst: c, Src: src})
			return err
		}},
		{"place from", false, true, true, func(ctx context.Context, c diskio.Content) error {
			_, err := diskio.Place(ctx, diskio.NewPacer(), diskio.PlaceSpec{Dst: NewMemory(size), Src: c, Len: size, Clean: true})
			return err
		}},
		{"place to", true, true, false, func(ctx context.Context, c diskio.Content) error {
			_, err := diskio.Place(ctx, diskio.NewPacer(), diskio.PlaceSpec{Dst: c, Src: other(), Len: size, Keep: true})
			return err
		}},
		{"place in order", false, true, true, func(ctx context.Context, c diskio.Content) error {
			_, err := diskio.Place(ctx, diskio.NewPacer(), diskio.PlaceSpec{Dst: NewMemory(size), Src: c, Len: size, Hash: nothing{}})
			return err
		}},
		{"send", false, true, true, func(ctx context.Context, c diskio.Content) error {
			_, err := diskio.Send(ctx, diskio.NewPacer(), diskio.SendSpec{Src: c, Len: size, To: nothing{}})
			return err
		}},
		{"sum", false, true, true, func(ctx context.Context, c diskio.Content) error {
			_, err := diskio.Sum(ctx, diskio.NewPacer(), c, diskio.SumSpec{CRC32C: true})
			return err
		}},
		{"overwrite", true, true, false, func(ctx context.Context, c diskio.Content) error {
			return diskio.Overwrite(ctx, diskio.NewPacer(), c, round)
		}},
		{"compare", false, true, true, func(ctx context.Context, c diskio.Content) error {
			round := round
			round.Pattern = func(buf []byte, off int64) []byte { return first(r.bytes(other())[off:], len(buf)) }
			return diskio.ReadBack(ctx, diskio.NewPacer(), c, round)
		}},
		{"trim", true, true, true, func(ctx context.Context, c diskio.Content) error {
			_, err := diskio.Trim(ctx, diskio.NewPacer(), c, diskio.Checkpoints{})
			return err
		}},
		{"wipe", true, true, false, func(ctx context.Context, c diskio.Content) error {
			_, err := wipe.Run(ctx, diskio.NewPacer(), c, wipe.Spec{})
			return err
		}},
		{"discard", true, false, false, func(ctx context.Context, c diskio.Content) error {
			return diskio.Discard(ctx, diskio.NewPacer(), c)
		}},
	}
}

// nothing is a sink and a hash of no bytes.
type nothing struct{}

func (nothing) Write(p []byte) (int, error) { return len(p), nil }
func (nothing) Hole(int64) error            { return nil }
func (nothing) Sum(b []byte) []byte         { return b }
func (nothing) Reset()                      {}
func (nothing) Size() int                   { return 0 }
func (nothing) BlockSize() int              { return 1 }

// first is the first n bytes, as many as there are.
func first(b []byte, n int) []byte { return b[:min(n, len(b))] }

// TestMapsThatCannotBeAreRefused: by each transfer that asks for the map, after
// as few questions as it takes to see it.
func TestMapsThatCannotBeAreRefused(t *testing.T) {
	r := rig{t, nil}
	type extent = diskio.Extent
	maps := map[string]func(off, end int64) []extent{
		"nothing":        func(_, _ int64) []extent { return nil },
		"of no length":   func(off, _ int64) []extent { return []extent{{Off: off}} },
		"negative":       func(off, _ int64) []extent { return []extent{{Off: off, Len: -mib}} },
		"a gap":          func(off, _ int64) []extent { return []extent{{Off: off + 1, Len: 4096}} },
		"the same again": func(_, _ int64) []extent { return []extent{{Len: 4096}, {Len: 4096}} },
		"backwards":      func(off, _ int64) []extent { return []extent{{Off: off, Len: 8192}, {Off: off, Len: 4096}} },
		"overlap":        func(off, _ int64) []extent { return []extent{{Off: off, Len: 8192}, {Off: off + 4096, Len: 8192}} },
		"beyond the end": func(off, end int64) []extent { return []extent{{Off: off, Len: end - off + 1, Kind: diskio.Hole}} },
		"overflow": func(off, _ int64) []extent {
			return []extent{{Off: off, Len: 4096}, {Off: off + 4096, Len: math.MaxInt64}}
		},
		"no such kind": func(off, end int64) []extent { return []extent{{Off: off, Len: end - off, Kind: 7}} },
		"too many":     func(off, _ int64) []extent { return slices.Repeat([]extent{{Off: off, Len: 1}}, 10000) },
	}
	for name, lie := range maps {
		for _, use := range r.transfers() {
			if !use.maps {
				continue
			}
			asked := 0
			c := &liar{Memory: r.used(NewMemory(size)).(*Memory)}
			c.extents = func(list []extent, off, end int64) int {
				asked++
				told := lie(off, end)
				copy(list, told)
				return len(told)
			}
			err := use.run(t.Context(), c)
			if !errors.Is(err, diskio.ErrMap) || asked > 2 {
				t.Errorf("%s, a map with %s: %d questions, %v", use.name, name, asked, err)
			}
		}
	}
}

// TestShortAnswersAreErrors: who says that all is well and did less has not done
// it, nor who says that more was done.
func TestShortAnswersAreErrors(t *testing.T) {
	r := rig{t, nil}
	for name, lie := range map[string]func(n int) (int, error){
		"less":                func(n int) (int, error) { return n - 1, nil },
		"nothing":             func(int) (int, error) { return 0, nil },
		"more":                func(n int) (int, error) { return n + 1, nil },
		"negative":            func(int) (int, error) { return -1, nil },
		"the end":             func(n int) (int, error) { return n / 2, io.EOF },
		"all, with an error":  func(n int) (int, error) { return n, unix.EIO },
		"more, with an error": func(n int) (int, error) { return math.MaxInt, unix.EIO },
	} {
		for _, use := range r.transfers() {
			c := &liar{Memory: r.used(NewMemory(size)).(*Memory)}
			switch {
			case use.reads:
				c.read = lie
			case use.writes && use.name != "discard":
				c.wrote = lie
			default:
				continue
			}
			err := use.run(t.Context(), c)
			if _, ok := errors.AsType[*diskio.IOError](err); !ok {
				t.Errorf("%s, %s: error is %v", use.name, name, err)
			}
		}
	}
}

// TestFailingContentsEndATransfer: with the error, what failed and where.
func TestFailingContentsEndATransfer(t *testing.T) {
	r := rig{t, nil}
	calls := map[string]func(use transfer) bool{
		"Extents": func(use transfer) bool { return use.maps },
		"ReadAt":  func(use transfer) bool { return use.reads },
		"WriteAt": func(use transfer) bool { return use.writes && !use.reads && use.maps },
		"Zero":    func(use transfer) bool { return use.name == "trim" || use.name == "discard" || use.name == "copy to" },
		"Flush":   func(use transfer) bool { return use.writes },
		"Size":    func(use transfer) bool { return use.name == "sum" || use.name == "wipe" || use.name == "trim" },
	}
	for call, applies := range calls {
		for _, use := range r.transfers() {
			if !applies(use) {
				continue
			}
			c := r.used(NewMemory(size)).(*Memory)
			var failed atomic.Int64
			c.Fault = func(now string, off, n int64) error {
				if now != call || off+n <= 3*mib && (call == "ReadAt" || call == "WriteAt") {
					return nil
				}
				failed.Add(1)
				return unix.EIO
			}
			err := use.run(t.Context(), c)
			e, ok := errors.AsType[*diskio.IOError](err)
			if !ok || !errors.Is(err, unix.EIO) || (call == "ReadAt" || call == "WriteAt") && e.Offset < 2*mib {
				t.Errorf("%s, %s fails: error is %v", use.name, call, err)
			}
			if call == "Flush" && failed.Load() > 1 {
				t.Errorf("%s was told of a failed flush and asked again", use.name)
			}
		}
	}
}

// TestSizesThatCannotBe: negative, or less at the end than at the start.
func TestSizesThatCannotBe(t *testing.T) {
	r := rig{t, nil}
	for _, use := range r.transfers() {
		if use.name != "sum" && use.name != "trim" && use.name != "copy from" && use.name != "wipe" && use.name != "discard" {
			continue
		}
		c := &liar{Memory: r.used(NewMemory(size)).(*Memory), sizes: []int64{-1}}
		if err := use.run(t.Context(), c); err == nil {
			t.Errorf("%s of a content of size -1 was done", use.name)
		}
	}
	c := &liar{Memory: r.used(NewMemory(size)).(*Memory), sizes: []int64{size, size - 1}}
	if err := r.transfers()[0].run(t.Context(), c); !errors.Is(err, diskio.ErrShrunk) {
		t.Errorf("a source that shrank: %v", err)
	}
}

// TestWishesThatCannotBe: for requests at a time, and units of storage.
func TestWishesThatCannotBe(t *testing.T) {
	r := rig{t, nil}
	for _, wish := range []int64{math.MinInt64, -1, 0, 1, 3, 100000, 1 << 40, math.MaxInt64} {
		c := &liar{Memory: r.used(NewMemory(size)).(*Memory), unit: wish}
		c.AtATime = int(wish)
		want := r.bytes(c)
		if _, err := diskio.Trim(t.Context(), diskio.NewPacer(), c, diskio.Checkpoints{}); err != nil {
			t.Errorf("%d: %v", wish, err)
		}
		r.reads(c, want)
	}
}

// TestWithoutZeroZerosAreWritten: also where it turns out late that it cannot be
// done.
func TestWithoutZeroZerosAreWritten(t *testing.T) {
	r := rig{t, nil}
	for able := range 3 {
		src, dst := r.used(NewMemory(size)), NewMemory(size)
		r.write(dst, slices.Repeat([]byte{0xee}, size), 0)
		dst.Fault = func(call string, _, _ int64) error {
			if call == "Zero" {
				if able--; able < 0 {
					return diskio.ErrUnsupported
				}
			}
			return nil
		}
		_, err := diskio.Copy(t.Context(), diskio.NewPacer(), diskio.CopySpec{Dst: dst, Src: src})
		r.must(err)
		r.reads(dst, r.bytes(src))
		err = diskio.Discard(t.Context(), diskio.NewPacer(), dst)
		if e, ok := errors.AsType[*diskio.IOError](err); !ok || e.Op != "trim" || !errors.Is(err, diskio.ErrUnsupported) {
			t.Errorf("discard: %v", err)
		}
	}
}

// TestRequestsAreUnderWayTogether: a content that answers when so many wait is
// one that asked for them.
func TestRequestsAreUnderWayTogether(t *testing.T) {
	r := rig{t, nil}
	const together, long = 12, 4 * 12 * mib
	ones := slices.Repeat([]byte{1}, long)
	full := func() *Memory {
		m := NewMemory(long)
		r.write(m, ones, 0)
		m.AtATime = together
		return m
	}
	round := diskio.Round{Size: long, Pattern: func(buf []byte, _ int64) []byte { return ones[:len(buf)] }}
	for name, use := range map[string]struct {
		call string
		run  func(ctx context.Context, c *Memory) error
	}{
		"copy from": {"ReadAt", func(ctx context.Context, c *Memory) error {
			_, err := diskio.Copy(ctx, diskio.NewPacer(), diskio.CopySpec{Dst: NewMemory(long), Src: c, Clean: true})
			return err
		}},
		"copy to": {"WriteAt", func(ctx context.Context, c *Memory) error {
			_, err := diskio.Copy(ctx, diskio.NewPacer(), diskio.CopySpec{Dst: c, Src: full()})
			return err
		}},
		"place in order": {"ReadAt", func(ctx context.Context, c *Memory) error {
			_, err := diskio.Place(ctx, diskio.NewPacer(), diskio.PlaceSpec{Dst: NewMemory(long), Src: c, Len: long, Hash: nothing{}})
			return err
		}},
		"send": {"ReadAt", func(ctx context.Context, c *Memory) error {
			_, err := diskio.Send(ctx, diskio.NewPacer(), diskio.SendSpec{Src: c, Len: long, To: nothing{}})
			return err
		}},
		"sum": {"ReadAt", func(ctx context.Context, c *Memory) error {
			_, err := diskio.Sum(ctx, diskio.NewPacer(), c, diskio.SumSpec{CRC32C: true})
			return err
		}},
		"overwrite": {"WriteAt", func(ctx context.Context, c *Memory) error {
			return diskio.Overwrite(ctx, diskio.NewPacer(), c, round)
		}},
		"compare": {"ReadAt", func(ctx context.Context, c *Memory) error {
			return diskio.ReadBack(ctx, diskio.NewPacer(), c, round)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			c, gate := full(), newGate(together)
			c.Fault = func(now string, _, _ int64) error {
				if now != use.call {
					return nil
				}
				return gate.pass()
			}
			diskiotest.Must(t, use.run(t.Context(), c))
		})
	}
}

// patience is how long a request waits for others: far longer than they take, and
// not for ever if they never come.
const patience = 30 * time.Second

// gate lets requests through by so many together.
type gate struct {
	mu   sync.Mutex
	n    int
	here int
	open chan struct{} // closed and replaced when n are here
}

func newGate(n int) *gate { return &gate{n: n, open: make(chan struct{})} }

// pass waits until n requests wait.
func (g *gate) pass() error {
	g.mu.Lock()
	open := g.open
	if g.here++; g.here == g.n {
		close(g.open)
		g.here, g.open = 0, make(chan struct{})
	}
	g.mu.Unlock()
	select {
	case <-open:
		return nil
	case <-time.After(patience):
		return errors.New("fewer requests are under way than were asked for")
	}
}
