package diskio

import (
	"context"
	"errors"
	"io"
	"os"
	"testing"

	"storaged/internal/diskio/diskiotest"
	form "storaged/internal/sparse"
	"storaged/internal/testenv"
)

// counting is a Sink that keeps no holes.
type counting struct{ *memory }

func (c counting) Hole(n int64) error {
	c.holes += n
	return nil
}

// TestHoleCostsNothingHoweverLong counts steps, not seconds: there are a few per
// extent, and none per byte of a hole.
func TestHoleCostsNothingHoweverLong(t *testing.T) {
	dir := testenv.Mount(t, "xfs")
	src := diskiotest.HugeHole(t, dir, "src")
	size := sizeOf(t, src)
	for name, transfer := range map[string]func(ctx context.Context, dst *os.File) error{
		"copy": func(ctx context.Context, dst *os.File) error {
			_, err := Copy(ctx, NewPacer(), CopySpec{Dst: file{dst}, Src: file{src}, Reflink: ReflinkNever})
			return err
		},
		"sum": func(ctx context.Context, _ *os.File) error {
			_, err := Sum(ctx, NewPacer(), file{src}, SumSpec{CRC32C: true})
			return err
		},
		"place in a new file": func(ctx context.Context, dst *os.File) error {
			must(t, dst.Truncate(size))
			_, err := Place(ctx, NewPacer(), PlaceSpec{Dst: file{dst}, Src: file{src}, Len: size, Clean: true})
			return err
		},
		"place in a file with holes": func(ctx context.Context, dst *os.File) error {
			must(t, dst.Truncate(size))
			writeRandom(t, dst, 100<<40, mib)
			_, err := Place(ctx, NewPacer(), PlaceSpec{Dst: file{dst}, Src: file{src}, Len: size})
			return err
		},
		"receive": func(ctx context.Context, dst *os.File) error {
			must(t, dst.Truncate(size))
			writeRandom(t, dst, 100<<40, mib)
			in, out := io.Pipe()
			go func() {
				to := form.NewWriter(out)
				_, err := Send(t.Context(), NewPacer(), SendSpec{Src: file{src}, Len: size, To: to})
				out.CloseWithError(errors.Join(err, to.Close()))
			}()
			_, err := Receive(ctx, NewPacer(), ReceiveSpec{Dst: file{dst}, From: form.NewReader(in), Max: size, Want: size})
			return err
		},
		"send": func(ctx context.Context, _ *os.File) error {
			_, err := Send(ctx, NewPacer(), SendSpec{Src: file{src}, Len: size, To: counting{new(memory)}})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			dst := create(t, dir, "dst")
			defer os.Remove(dst.Name())
			ctx := &diskiotest.Asked{Context: t.Context()}
			must(t, transfer(ctx, dst))
			if n := ctx.Times(); n > 100 {
				t.Errorf("%d steps for three extents", n)
			}
			if name != "sum" && name != "send" {
				sameEnds(t, src, dst)
			}
		})
	}
}

// sameEnds compares what is not a hole, and what was none in the target.
func sameEnds(t *testing.T, a, b *os.File) {
	t.Helper()
	for _, off := range []int64{0, 100 << 40, sizeOf(t, a) - mib} {
		x, y := make([]byte, mib), make([]byte, mib)
		_, err := a.ReadAt(x, off)
		must(t, err)
		_, err = b.ReadAt(y, off)
		must(t, err)
		if string(x) != string(y) {
			t.Errorf("the content differs from byte %d on", off)
		}
	}
}
