// Package contenttest is the contract of diskio.Content as tests: what transfers
// and wipes do with one. An implementation passes it with
//
//	func TestContract(t *testing.T) {
//		contenttest.Run(t, func(t testing.TB, size int64) diskio.Content { … })
//	}
package contenttest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"testing"
	"time"

	"storaged/internal/diskio"
	"storaged/internal/diskio/diskiotest"
	"storaged/internal/sparse"
	"storaged/internal/wipe"
)

const mib = diskiotest.MiB

// size is that of the contents: of no unit.
const size = 9*mib + 777

// New makes a new content that reads as zeros, of that size or one that is
// larger by less than a sector.
type New func(t testing.TB, size int64) diskio.Content

// rig is a test with the contents that it is about.
type rig struct {
	*testing.T
	make New
}

// Run tests the contract, with contents of this kind at both ends, and a file at
// the other.
func Run(t *testing.T, make New) {
	for _, c := range []struct {
		name string
		run  func(rig)
	}{
		{"clone", rig.clone},
		{"clone into a used target", rig.cloneUsed},
		{"clone that leaves zeros out", rig.cloneSparse},
		{"clone that goes on", rig.cloneResumed},
		{"clone with reflink", rig.cloneShared},
		{"fill and compare", rig.fill},
		{"sum", rig.sum},
		{"trim", rig.trim},
		{"wipe", rig.wipe},
		{"wipe by trim", rig.wipeTrim},
		{"wipe of nothing", rig.wipeNothing},
		{"upload of a part", rig.uploadPart},
		{"upload of a stream", rig.uploadStream},
		{"download to a file", rig.downloadFile},
		{"cancel", rig.cancel},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(rig{t, make}) })
	}
}

func (r rig) must(err error) {
	r.Helper()
	diskiotest.Must(r, err)
}

// file is a new file of that size, as a content.
func (r rig) file(size int64) diskio.Content {
	f := diskiotest.Create(r, r.TempDir(), "f")
	r.must(f.Truncate(size))
	return diskio.FileContent(f)
}

// used gives a content data, zeros that are written, zeros that are known, and
// parts that were never touched.
func (r rig) used(c diskio.Content) diskio.Content {
	r.Helper()
	for _, off := range []int64{100, 3*mib - 5, 7 * mib} {
		b := make([]byte, mib+13)
		_, err := io.ReadFull(diskiotest.RandomBytes(uint64(off)), b)
		r.must(err)
		r.write(c, b, off)
	}
	r.write(c, make([]byte, mib/2), 5*mib)
	r.write(c, []byte{1}, 6*mib)
	if err := c.Zero(6*mib, mib/4, true); !errors.Is(err, diskio.ErrUnsupported) {
		r.must(err)
	}
	r.must(c.Flush())
	return c
}

func (r rig) write(c diskio.Content, b []byte, off int64) {
	r.Helper()
	_, err := io.NewOffsetWriter(c, off).Write(b)
	r.must(err)
}

// bytes is all of a content.
func (r rig) bytes(c diskio.Content) []byte {
	r.Helper()
	n, err := c.Size()
	r.must(err)
	b, err := io.ReadAll(io.NewSectionReader(c, 0, n))
	r.must(err)
	return b
}

// reads fails unless a content begins with what is wanted and has zeros behind.
func (r rig) reads(c diskio.Content, want []byte) {
	r.Helper()
	got := r.bytes(c)
	if len(got) < len(want) || !bytes.Equal(got[:len(want)], want) || !zero(got[len(want):]) {
		r.Errorf("%d bytes are not the %d that are wanted", len(got), len(want))
	}
	if m, ok := c.(*Memory); ok && m.Unflushed() > 0 {
		r.Errorf("%d changes are not durable", m.Unflushed())
	}
}

func zero(b []byte) bool { return len(bytes.TrimLeft(b, "\x00")) == 0 }

// complete fails unless all that was expected is counted as durable.
func (r rig) complete(p *diskio.Pacer) {
	r.Helper()
	if c := p.Counts(); c.Durable != c.Total || c.Done != c.Total || c.Work != c.WorkAll || c.Total == 0 {
		r.Errorf("counts are not complete: %+v", c)
	}
}

// pairs are sources and targets: the content at one end, and at both.
func (r rig) pairs(test func(src, dst diskio.Content)) {
	test(r.used(r.make(r, size)), r.make(r, size+mib))
	test(r.used(r.file(size)), r.make(r, size+mib))
	test(r.used(r.make(r, size)), r.file(0))
}

func (r rig) clone() {
	r.pairs(func(src, dst diskio.Content) {
		want := r.bytes(src)
		p := diskio.NewPacer()
		stats, err := diskio.Copy(r.Context(), p, diskio.CopySpec{Dst: dst, Src: src, Size: size + mib, Clean: true})
		r.must(err)
		r.complete(p)
		r.reads(dst, want)
		if stats.Method != diskio.MethodCopy || stats.Data+stats.Holes != int64(len(want)) || stats.Holes < 2*mib {
			r.Errorf("%+v", stats)
		}
	})
}

func (r rig) cloneUsed() {
	r.pairs(func(src, dst diskio.Content) {
		if n, _ := dst.Size(); n == 0 {
			return
		}
		r.write(dst, bytes.Repeat([]byte{0xee}, size+mib), 0)
		want := r.bytes(src)
		_, err := diskio.Copy(r.Context(), diskio.NewPacer(), diskio.CopySpec{Dst: dst, Src: src, Size: size + mib})
		r.must(err)
		r.reads(dst, want)
	})
}

func (r rig) cloneSparse() {
	r.pairs(func(src, dst diskio.Content) {
		want := r.bytes(src)
		stats, err := diskio.Copy(r.Context(), diskio.NewPacer(), diskio.CopySpec{Dst: dst, Src: src, Clean: true, Sparse: true})
		r.must(err)
		r.reads(dst, want)
		if stats.Data > 4*mib {
			r.Errorf("%d bytes of data, with zeros", stats.Data)
		}
	})
}

func (r rig) cloneResumed() {
	src, dst := r.used(r.make(r, size)), r.make(r, size)
	want := r.bytes(src)
	p := diskio.NewPacer()
	c := diskiotest.CrashAt(r, 2*mib, p, func() int64 { return 0 })
	p.SetLimit(2 * mib) // so little is over before a busy machine looks: it is slow from its start
	spec := diskio.CopySpec{Dst: dst, Src: src, Clean: true, Checkpoints: diskio.Checkpoints{Every: time.Nanosecond, Save: c.Save}}
	_, err := diskio.Copy(c.Context, p, spec)
	if !errors.Is(err, diskiotest.ErrCrash) || !bytes.Equal(r.bytes(dst)[:c.Kept()], want[:c.Kept()]) {
		r.Fatalf("not interrupted with what lies before %d in place: %v", c.Kept(), err)
	}
	if diskio.FileOf(dst) == nil { // the power may have left anything
		r.write(dst, bytes.Repeat([]byte{0xee}, int(size-c.Kept())), c.Kept())
	}
	spec.Checkpoints = diskio.Checkpoints{From: c.Kept()}
	_, err = diskio.Copy(r.Context(), diskio.NewPacer(), spec)
	r.must(err)
	r.reads(dst, want)
}

func (r rig) cloneShared() {
	r.pairs(func(src, dst diskio.Content) {
		_, err := diskio.Copy(r.Context(), diskio.NewPacer(), diskio.CopySpec{Dst: dst, Src: src, Reflink: diskio.ReflinkAlways})
		if e, ok := errors.AsType[*diskio.IOError](err); !ok || e.Op != "reflink" {
			r.Errorf("error is %v", err)
		}
	})
}

func (r rig) fill() {
	c := r.used(r.make(r, size))
	ones := bytes.Repeat([]byte{0xff}, diskio.ChunkBytes)
	round := diskio.Round{Size: size, Pattern: func(buf []byte, _ int64) []byte { return ones[:len(buf)] }}
	r.must(diskio.Overwrite(r.Context(), diskio.NewPacer(), c, round))
	r.reads(c, bytes.Repeat([]byte{0xff}, size))
	r.must(diskio.ReadBack(r.Context(), diskio.NewPacer(), c, round))
	r.write(c, []byte{0xfe}, 5*mib+3)
	r.must(c.Flush())
	err := diskio.ReadBack(r.Context(), diskio.NewPacer(), c, round)
	if e, ok := errors.AsType[*diskio.IOError](err); !ok || !errors.Is(err, diskio.ErrMismatch) || e.Offset != 5*mib+3 {
		r.Errorf("error is %v", err)
	}
}

func (r rig) sum() {
	c := r.used(r.make(r, size))
	want := r.bytes(c)
	p := diskio.NewPacer()
	sum, err := diskio.Sum(r.Context(), p, c, diskio.SumSpec{})
	r.must(err)
	r.complete(p)
	if sha := sha256.Sum256(want); !bytes.Equal(sum.Sum, sha[:]) || sum.Holes < 2*mib {
		r.Errorf("SHA-256: %+v", sum)
	}
	sum, err = diskio.Sum(r.Context(), diskio.NewPacer(), c, diskio.SumSpec{CRC32C: true, Len: 8 * mib})
	r.must(err)
	if binary.BigEndian.Uint32(sum.Sum) != crc32.Checksum(want[:8*mib], crc32.MakeTable(crc32.Castagnoli)) {
		r.Errorf("CRC-32C: %+v", sum)
	}
}

// held is how much has storage.
func (r rig) held(c diskio.Content) int64 {
	l, err := diskio.LayoutOf(r.Context(), c)
	r.must(err)
	return l.Held
}

func (r rig) trim() {
	c := r.used(r.make(r, size))
	if err := c.Zero(mib+mib/2, mib/2, false); !errors.Is(err, diskio.ErrUnsupported) { // has storage
		r.must(err)
	}
	r.must(c.Flush())
	want, before := r.bytes(c), r.held(c)
	p := diskio.NewPacer()
	did, err := diskio.Trim(r.Context(), p, c, diskio.Checkpoints{})
	r.must(err)
	r.complete(p)
	r.reads(c, want)
	if n := r.held(c); did.Bytes < mib/2 || n > before-mib/2 || n > 4*mib {
		r.Errorf("%d bytes have storage, of %d: %+v", n, before, did)
	}
}

func (r rig) wipe() {
	for _, algorithm := range []string{wipe.Zero, wipe.Random, wipe.DoD} {
		c := r.used(r.make(r, size))
		before := r.held(c)
		p := diskio.NewPacer()
		did, err := wipe.Run(r.Context(), p, c, wipe.Spec{Algorithm: algorithm, Verify: true})
		r.must(err)
		r.complete(p)
		if !did.Verified || did.Method != wipe.MethodOverwrite || !did.Touched {
			r.Errorf("%s: %+v", algorithm, did)
		}
		if algorithm == wipe.Zero {
			r.reads(c, nil)
			if n := r.held(c); n != before {
				r.Errorf("%d bytes have storage, not %d: holes were filled, or something was not overwritten", n, before)
			}
		} else if bytes.Contains(r.bytes(c), make([]byte, 4096)) {
			r.Errorf("%s left zeros", algorithm)
		}
	}
}

func (r rig) wipeTrim() {
	c := r.used(r.make(r, size))
	did, err := wipe.Run(r.Context(), diskio.NewPacer(), c, wipe.Spec{Algorithm: wipe.Trim, Verify: true})
	r.must(err)
	r.reads(c, nil)
	if n := r.held(c); n > 4096 || !did.Verified || did.Passes != 0 {
		r.Errorf("%d bytes have storage: %+v", n, did)
	}
}

func (r rig) wipeNothing() {
	c := r.make(r, size)
	p := diskio.NewPacer()
	did, err := wipe.Run(r.Context(), p, c, wipe.Spec{})
	r.must(err)
	if r.held(c) == 0 && (did.Method != wipe.MethodNone || p.Counts().Written > 0) {
		r.Errorf("%+v", did)
	}
}

func (r rig) uploadPart() {
	src, dst := r.used(r.file(size)), r.used(r.make(r, size))
	want := r.bytes(dst)
	copy(want[mib+1:], r.bytes(src)[2*mib+5:6*mib])
	spec := diskio.PlaceSpec{Dst: dst, Src: src, DstOff: mib + 1, SrcOff: 2*mib + 5, Len: 4*mib - 5}
	did, err := diskio.Place(r.Context(), diskio.NewPacer(), spec)
	r.must(err)
	r.reads(dst, want)
	spec.Hash, spec.DetectZeros = sha256.New(), true
	again, err := diskio.Place(r.Context(), diskio.NewPacer(), spec)
	r.must(err)
	r.reads(dst, want)
	if sum := sha256.Sum256(want[mib+1 : 5*mib-4]); again.CRC32C != did.CRC32C || !bytes.Equal(spec.Hash.Sum(nil), sum[:]) {
		r.Errorf("%+v and %+v", did, again)
	}
}

// uploadStream takes what a download gives, in the form with holes.
func (r rig) uploadStream() {
	src, dst := r.used(r.make(r, size)), r.used(r.make(r, size))
	want := r.bytes(src)
	in, out := io.Pipe()
	sent := make(chan error, 1)
	go func() {
		to := sparse.NewWriter(out)
		_, err := diskio.Send(r.Context(), diskio.NewPacer(), diskio.SendSpec{Src: src, Len: size, To: to})
		out.CloseWithError(errors.Join(err, to.Close()))
		sent <- err
	}()
	p := diskio.NewPacer()
	did, err := diskio.Receive(r.Context(), p, diskio.ReceiveSpec{Dst: dst, From: sparse.NewReader(in), Max: size, Want: size, DetectZeros: true})
	r.must(errors.Join(err, <-sent))
	r.complete(p)
	r.reads(dst, want)
	if did.Bytes != size || !did.Touched {
		r.Errorf("%+v", did)
	}
}

func (r rig) downloadFile() {
	src, dst := r.used(r.make(r, size)), r.file(size)
	want := r.bytes(src)[:size]
	p := diskio.NewPacer()
	_, err := diskio.Place(r.Context(), p, diskio.PlaceSpec{Dst: dst, Src: src, Len: size, Clean: true})
	r.must(err)
	r.complete(p)
	r.reads(dst, want)
	if c := p.Counts(); c.Holes < 2*mib {
		r.Errorf("holes were moved: %+v", c)
	}
}

func (r rig) cancel() {
	ctx, cancel := context.WithCancel(r.Context())
	p := diskio.NewPacer()
	defer diskiotest.Observe(p.Counts, func(c diskio.Counts) {
		if c.Done > 0 {
			cancel()
		}
	})()
	p.SetLimit(mib)
	if _, err := diskio.Copy(ctx, p, diskio.CopySpec{Dst: r.make(r, size), Src: r.used(r.make(r, size)), Clean: true}); !errors.Is(err, context.Canceled) {
		r.Errorf("error is %v", err)
	}
	r.must(p.Pause(context.Background())) // nothing is in flight
}
