package diskio

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"hash"
	"hash/crc32"
	"io"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

func TestCRCOfParts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "a")
		b := rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "b")
		if got, want := crcJoin(crcOf(a), crcOf(b), int64(len(b))), crcOf(append(bytes.Clone(a), b...)); got != want {
			t.Fatalf("%08x, want %08x", got, want)
		}
		n := rapid.IntRange(0, 1<<16).Draw(t, "zeros")
		if got, want := crcOfZeros(int64(n)), crcOf(make([]byte, n)); got != want {
			t.Fatalf("zeros: %08x, want %08x", got, want)
		}
	})
	if got, want := crcJoin(crcOfZeros(1<<40), crcOfZeros(5<<40), 5<<40), crcOfZeros(6<<40); got != want {
		t.Errorf("terabytes of zeros: %08x and %08x", got, want)
	}
}

func TestLedgerPutsPartsInOrder(t *testing.T) {
	content := bytes.Repeat([]byte("storaged"), 512)
	rapid.Check(t, func(t *rapid.T) {
		var l ledger
		order := rapid.Permutation([]int64{0, 1, 2, 3, 4, 5, 6, 7}).Draw(t, "order")
		seen := map[int64]bool{}
		for _, i := range order {
			l.add(i*512, 512, crcOf(content[i*512:(i+1)*512]))
			seen[i] = true
			whole := int64(0)
			for seen[whole] {
				whole++
			}
			if l.whole != whole*512 || l.crc != crcOf(content[:whole*512]) {
				t.Fatalf("%d bytes with %08x after %v", l.whole, l.crc, seen)
			}
		}
	})
}

// memory is a Sink that keeps what it is given.
type memory struct {
	bytes.Buffer
	holes int64
}

func (m *memory) Hole(n int64) error {
	m.holes += n
	_, err := m.Write(make([]byte, n))
	return err
}

// Whatever the layout of the two files and the ranges: the range reads as the
// source's, the rest as before, by each way there is.
func TestRangesBetweenFiles(t *testing.T) {
	onEachFS(t, func(t *testing.T, dir string) {
		rapid.Check(t, func(t *rapid.T) {
			src, dst := scratch(t, dir), scratch(t, dir)
			from, to := layout(t, src), layout(t, dst)
			srcOff := rapid.IntRange(0, len(from)).Draw(t, "source offset")
			dstOff := rapid.IntRange(0, len(to)).Draw(t, "target offset")
			n := rapid.IntRange(0, min(len(from)-srcOff, len(to)-dstOff)).Draw(t, "bytes")
			part := from[srcOff : srcOff+n]
			copy(to[dstOff:], part)
			detect := rapid.Bool().Draw(t, "detect zeros")
			p := NewPacer()
			h := sha256.New()
			var stats PlaceStats
			var err error
			if rapid.Bool().Draw(t, "in order") {
				stats, err = Place(context.Background(), p, PlaceSpec{
					Dst: file{dst}, Src: file{src}, DstOff: int64(dstOff), SrcOff: int64(srcOff), Len: int64(n), DetectZeros: detect, Hash: h,
				})
				if sum := sha256.Sum256(part); !bytes.Equal(h.Sum(nil), sum[:]) {
					t.Fatal("wrong SHA-256")
				}
			} else {
				stats, err = Place(context.Background(), p, PlaceSpec{
					Dst: file{dst}, Src: file{src}, DstOff: int64(dstOff), SrcOff: int64(srcOff), Len: int64(n), DetectZeros: detect,
				})
			}
			fail(t, err)
			if stats.Bytes != int64(n) || stats.CRC32C != crc32.Checksum(part, castagnoli) {
				t.Fatalf("%+v for %d bytes", stats, n)
			}
			if c := p.Counts(); c.Done != int64(n) || c.Durable != c.Done || c.Total != c.Done {
				t.Fatalf("counts: %+v", c)
			}
			got, err := os.ReadFile(dst.Name())
			fail(t, err)
			if !bytes.Equal(got, to) {
				t.Fatal("the target differs")
			}
		})
	})
}

func fail(t *rapid.T, err error) {
	if err != nil {
		t.Fatal(err)
	}
}

func TestSendGivesTheRange(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		src := scratch(t, dir)
		content := layout(t, src)
		off := rapid.IntRange(0, len(content)).Draw(t, "offset")
		part := content[off : off+rapid.IntRange(0, len(content)-off).Draw(t, "bytes")]
		var to memory
		h := sha256.New()
		p := NewPacer()
		stats, err := Send(context.Background(), p, SendSpec{Src: file{src}, Off: int64(off), Len: int64(len(part)), To: &to, Hash: h})
		fail(t, err)
		sum := sha256.Sum256(part)
		if !bytes.Equal(to.Bytes(), part) || stats.CRC32C != crcOf(part) || !bytes.Equal(h.Sum(nil), sum[:]) {
			t.Fatal("other bytes were sent")
		}
		if c := p.Counts(); c.Durable != int64(len(part)) || c.Holes != to.holes || c.Read != int64(len(part))-to.holes {
			t.Fatalf("counts: %+v, %d bytes of holes", c, to.holes)
		}
	})
}

// A file with all its space keeps it under a hole, one without stays sparse.
func TestHolesKeepAReservation(t *testing.T) {
	dir := t.TempDir()
	hole := create(t, dir, "hole")
	must(t, hole.Truncate(8*mib))
	for name, allocated := range map[string]bool{"reserved": true, "sparse": false} {
		f := create(t, dir, name)
		must(t, f.Truncate(8*mib))
		if allocated {
			must(t, unix.Fallocate(int(f.Fd()), 0, 0, 8*mib))
		}
		writeRandom(t, f, mib, 2*mib)
		must(t, f.Sync())
		_, err := Place(context.Background(), NewPacer(), PlaceSpec{Dst: file{f}, Src: file{hole}, Len: 8 * mib})
		must(t, err)
		var st unix.Stat_t
		must(t, unix.Fstat(int(f.Fd()), &st))
		if has := st.Blocks*512 >= 8*mib; has != allocated || allocated == false && st.Blocks > 64 {
			t.Errorf("%s: %d bytes are allocated", name, st.Blocks*512)
		}
		if digest(t, f) != digest(t, hole) {
			t.Errorf("%s: old data shows", name)
		}
	}
}

// broken is a content that ends in an error.
type broken struct {
	left  int
	err   error
	onEnd func()
}

func (b *broken) Next() (int64, bool, error) { return 1 << 30, false, nil }
func (b *broken) Read(p []byte) (int, error) {
	if b.left == 0 {
		if b.onEnd != nil {
			b.onEnd()
		}
		return 0, b.err
	}
	n := min(len(p), b.left)
	for i := range p[:n] {
		p[i] = 'x'
	}
	b.left -= n
	return n, nil
}

func TestWhatCameBeforeABreakIsCountedAndThere(t *testing.T) {
	f := create(t, t.TempDir(), "f")
	must(t, f.Truncate(8*mib))
	torn := errors.New("torn")
	stats, err := Receive(context.Background(), NewPacer(), ReceiveSpec{Dst: file{f}, From: &broken{left: 3*mib + 5, err: torn}, Max: 2 << 30, Want: -1})
	if !errors.Is(err, torn) || stats.Bytes != 3*mib+5 {
		t.Fatalf("%+v, %v", stats, err)
	}
	content, err := os.ReadFile(f.Name())
	must(t, err)
	if bytes.Count(content, []byte("x")) != 3*mib+5 || bytes.IndexByte(content, 0) != 3*mib+5 {
		t.Error("not what was counted")
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	stats, err = Receive(ctx, NewPacer(), ReceiveSpec{Dst: file{f}, From: &broken{left: mib, err: io.EOF, onEnd: func() { cancel(torn) }}, Max: 2 << 30, Want: -1})
	if err == nil || stats.Bytes != mib {
		t.Errorf("canceled: %+v, %v", stats, err)
	}
}

// plain is a stream of one extent of data.
type plain struct {
	*bytes.Reader
	len int64
}

func (p *plain) Next() (int64, bool, error) {
	n := p.len
	p.len = 0
	if n == 0 {
		return 0, false, io.EOF
	}
	return n, false, nil
}

// noHash takes no time.
type noHash struct{ hash.Hash }

func (noHash) Write(p []byte) (int, error) { return len(p), nil }

func TestContentsThatDoNotFit(t *testing.T) {
	f := create(t, t.TempDir(), "f")
	must(t, f.Truncate(mib))
	for _, c := range []struct {
		max, want int64
		is        error
	}{{mib, -1, ErrTooLong}, {2 * mib, mib, ErrTooLong}, {2 * mib, mib + 2, ErrTooShort}} {
		_, err := Receive(context.Background(), NewPacer(), ReceiveSpec{Dst: file{f}, From: &plain{bytes.NewReader(make([]byte, mib+1)), mib + 1}, Max: c.max, Want: c.want})
		if !errors.Is(err, c.is) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestSparseFilesTakeNoTimeForHoles(t *testing.T) {
	dir := t.TempDir()
	src, dst := create(t, dir, "src"), create(t, dir, "dst")
	must(t, src.Truncate(1<<40))
	must(t, dst.Truncate(1<<40))
	writeRandom(t, src, 512<<30, 5000)
	p := NewPacer()
	stats, err := Place(context.Background(), p, PlaceSpec{Dst: file{dst}, Src: file{src}, Len: 1 << 40})
	must(t, err)
	if c := p.Counts(); stats.Bytes != 1<<40 || c.Written > 64<<10 || c.Read > 64<<10 {
		t.Errorf("%+v", c)
	}
}

// countdown is a context that is canceled when it was asked so often.
type countdown struct {
	context.Context
	left int
}

func (c *countdown) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

// holes is a content that is one hole.
type holes struct {
	io.Reader
	len int64
}

func (h *holes) Next() (int64, bool, error) {
	if h.len == 0 {
		return 0, false, io.EOF
	}
	n := h.len
	h.len = 0
	return n, true, nil
}

// A long hole is made piece by piece, and may be made in part only.
func TestHoleThatIsNotCompleteHasTouchedTheTarget(t *testing.T) {
	partly := 0
	for asked := range 12 {
		f := create(t, t.TempDir(), "f")
		writeRandom(t, f, 0, mib)
		before, err := os.ReadFile(f.Name())
		must(t, err)
		must(t, f.Truncate(4*allocatePiece))
		stats, err := Receive(&countdown{context.Background(), asked}, NewPacer(), ReceiveSpec{Dst: file{f}, From: &holes{len: 4 * allocatePiece}, Max: 1 << 40, Want: -1})
		head := make([]byte, mib)
		_, rerr := f.ReadAt(head, 0)
		must(t, rerr)
		same := bytes.Equal(head, before)
		if !same && !stats.Touched {
			t.Errorf("canceled when asked %d times: the content is another, and nothing is said to be touched: %+v, %v", asked, stats, err)
		}
		if !same && err != nil {
			partly++
		}
	}
	if partly == 0 {
		t.Error("it was never canceled in the middle of the hole")
	}
}

// A stream may say that a hole is as long as it likes.
func TestHoleInACleanTargetTakesNoTime(t *testing.T) {
	h, err := newHoleMaker(NewPacer(), file{create(t, t.TempDir(), "f")}, true)
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second) // 2^34 pieces take hours
	defer cancel()
	if made, err := h.make(ctx, Extent{Len: 1 << 62}); !made || err != nil || h.touched.Load() {
		t.Errorf("made %v, touched %v (%v)", made, h.touched.Load(), err)
	}
}
