package diskio

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"storaged/internal/diskio/diskiotest"
)

// puller copies extents of one file to another, as somebody else would.
type puller struct {
	t        *testing.T
	src, dst *os.File
	fails    int // after so many calls; 0: never
	calls    int
	bytes    int64
	first    int64 // offset of the first extent
}

func (p *puller) pull(extents []Extent) error {
	p.calls++
	for n, x := range extents {
		if p.calls == 1 && n == 0 {
			p.first = x.Off
		}
		if p.fails > 0 && p.calls > p.fails {
			return unix.EIO
		}
		buf := make([]byte, x.Len)
		_, err := p.src.ReadAt(buf, x.Off)
		must(p.t, err)
		_, err = p.dst.WriteAt(buf, x.Off)
		must(p.t, err)
		p.bytes += x.Len
	}
	return nil
}

// pulled are a source of data and holes by turns, and an empty target that pulls.
func pulled(t *testing.T) (*puller, CopySpec) {
	src, dst := create(t, t.TempDir(), "src"), create(t, t.TempDir(), "dst")
	for off := int64(0); off < 60*mib; off += 6 * mib {
		writeRandom(t, src, off+4096, 3*mib)
	}
	must(t, src.Truncate(70*mib))
	p := &puller{t: t, src: src, dst: dst}
	return p, CopySpec{Dst: file{dst}, Src: file{src}, Reflink: ReflinkNever, Pull: p.pull}
}

func TestWhatIsPulledIsIdentical(t *testing.T) {
	for _, fails := range []int{0, 1, 2} {
		p, spec := pulled(t)
		p.fails = fails
		checkCopy(t, spec)
		if fails == 0 && (p.bytes != 30*mib || p.calls > 8) || fails > 0 && p.calls != fails+1 {
			t.Errorf("to fail after %d: %d calls pulled %d bytes", fails, p.calls, p.bytes)
		}
	}
}

func TestAPullGoesOnWhereAnotherWasKilled(t *testing.T) {
	p, spec := pulled(t)
	from := int64(0)
	pacer := NewPacer()
	c := diskiotest.CrashAt(t, 20*mib, pacer, func() int64 { return pacer.Counts().Done })
	spec.Checkpoints = Checkpoints{Every: time.Nanosecond, Save: func(done int64) {
		if digestOf(t, p.dst, done) != digestOf(t, p.src, done) {
			t.Errorf("the checkpoint at %d came too early", done)
		}
		from = done
		c.Save(done)
	}}
	if _, err := Copy(c.Context, pacer, spec); !errors.Is(err, diskiotest.ErrCrash) {
		t.Fatalf("not interrupted: %v", err)
	}
	again := &puller{t: t, src: p.src, dst: p.dst}
	spec.Pull, spec.Clean, spec.Checkpoints = again.pull, true, Checkpoints{From: from}
	_, err := Copy(context.Background(), NewPacer(), spec)
	must(t, err)
	if again.first < from&^(pageSize-1) || again.bytes > 25*mib || digest(t, p.dst) != digest(t, p.src) {
		t.Errorf("from %d on %d bytes were pulled, the first at %d", from, again.bytes, again.first)
	}
}

// A slow limit is for pieces that are smaller than what is worth to be pulled.
func TestALimitHoldsForWhatIsPulled(t *testing.T) {
	p, spec := pulled(t)
	pacer := NewPacer()
	pacer.SetLimit(20 * mib)
	begun := time.Now()
	_, err := Copy(context.Background(), pacer, spec)
	must(t, err)
	if took := time.Since(begun); took < 1400*time.Millisecond || p.calls > 0 || digest(t, p.dst) != digest(t, p.src) {
		t.Errorf("30 MiB in %v, %d pulls", took, p.calls)
	}
}

func TestACancelEndsWhatPulls(t *testing.T) {
	p, spec := pulled(t)
	ctx, cancel := context.WithCancelCause(context.Background())
	spec.Pull = func(extents []Extent) error {
		cancel(diskiotest.ErrCrash)
		return p.pull(extents)
	}
	if _, err := Copy(ctx, NewPacer(), spec); !errors.Is(err, diskiotest.ErrCrash) || p.calls != 1 {
		t.Errorf("%v after %d pulls", err, p.calls)
	}
}

func TestOnlyANewTargetOfTheSameSizePulls(t *testing.T) {
	_, spec := pulled(t)
	for _, bad := range []func(*CopySpec){
		func(s *CopySpec) { s.Sparse = true },
		func(s *CopySpec) { s.Size = 80 * mib },
	} {
		wrong := spec
		bad(&wrong)
		if _, err := Copy(context.Background(), NewPacer(), wrong); err == nil {
			t.Errorf("%+v passed", wrong)
		}
	}
}
