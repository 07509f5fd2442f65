package diskio

import (
	"bytes"
	"context"
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// fullBefore fails unless the transfer found that there is no room before it
// wrote anything.
func fullBefore(t *testing.T, f *os.File, transfer func(p *Pacer) error) {
	t.Helper()
	before := occupied(t, f)
	p := NewPacer()
	err := transfer(p)
	var short *NoRoomError
	if !errors.As(err, &short) || short.Needed <= short.Available || !errors.Is(err, unix.ENOSPC) {
		t.Errorf("error is %v", err)
	}
	if c := p.Counts(); c.Written != 0 || occupied(t, f) != before {
		t.Errorf("%d bytes are allocated, not %d: %+v", occupied(t, f), before, c)
	}
}

func TestTransfersFindWantOfRoomBeforeTheyBegin(t *testing.T) {
	src := create(t, t.TempDir(), "src")
	must(t, src.Truncate(150*mib))
	for off := int64(0); off < 150*mib; off += 10 * mib {
		writeRandom(t, src, off, 10*mib)
	}
	for kind, dir := range map[string]string{"ext4": mountLoop(t, "ext4", 100*mib), "tmpfs": mountTmpfs(t, 100*mib), "btrfs": mountLoop(t, "btrfs", 120*mib)} {
		t.Run(kind, func(t *testing.T) {
			f := thinVolume(t, dir)
			fullBefore(t, f, func(p *Pacer) error {
				_, err := Place(t.Context(), p, PlaceSpec{Dst: file{f}, Src: file{src}, Len: 150 * mib})
				return err
			})
			fullBefore(t, f, func(p *Pacer) error {
				_, err := Place(t.Context(), p, PlaceSpec{Dst: file{f}, Src: file{src}, Len: 150 * mib, Hash: noHash{}})
				return err
			})
			fullBefore(t, f, func(p *Pacer) error {
				_, err := Receive(t.Context(), p, ReceiveSpec{Dst: file{f}, From: new(broken), Max: 1 << 30, Want: 150 * mib, Dense: true})
				return err
			})
			dst := create(t, dir, "dst")
			fullBefore(t, dst, func(p *Pacer) error {
				_, err := Copy(t.Context(), p, CopySpec{Dst: file{dst}, Src: file{src}})
				return err
			})
		})
	}
}

// What has blocks already needs none, and what holes give back is there.
func TestTransfersThatFitAreNotRefused(t *testing.T) {
	for kind, dir := range map[string]string{"ext4": mountLoop(t, "ext4", 100*mib), "tmpfs": mountTmpfs(t, 100*mib)} {
		t.Run(kind, func(t *testing.T) {
			f := create(t, dir, "f")
			must(t, unix.Fallocate(int(f.Fd()), 0, 0, 60*mib))
			ones := func(buf []byte, _ int64) []byte { return bytes.Repeat([]byte{0xff}, len(buf)) }
			must(t, Overwrite(context.Background(), NewPacer(), file{f}, Round{Pattern: ones, Size: 60 * mib}))
			must(t, f.Truncate(120*mib))
			src := create(t, t.TempDir(), "src")
			must(t, src.Truncate(120*mib))
			writeRandom(t, src, 60*mib, 60*mib)
			stats, err := Place(context.Background(), NewPacer(), PlaceSpec{Dst: file{f}, Src: file{src}, Len: 120 * mib})
			if err != nil || digest(t, f) != digest(t, src) {
				t.Errorf("%+v, %v", stats, err)
			}
		})
	}
}

func TestOverlapOfExtents(t *testing.T) {
	list := []Extent{{Off: 10, Len: 10}, {Off: 30, Len: 5}, {Off: 35, Len: 5}}
	for x, want := range map[Extent]int64{{Off: 0, Len: 10}: 0, {Off: 0, Len: 100}: 20, {Off: 15, Len: 17}: 7, {Off: 34, Len: 2}: 2, {Off: 40, Len: 9}: 0, {Off: 20, Len: 10}: 0} {
		if got := overlap(list, x); got != want {
			t.Errorf("%+v: %d, not %d", x, got, want)
		}
	}
}
