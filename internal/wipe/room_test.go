package wipe

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"storaged/internal/diskio"
)

// What a wipe fills needs room, which is looked for before anything is written.
func TestWipeFindsWantOfRoomBeforeItBegins(t *testing.T) {
	for kind, dir := range map[string]string{"ext4": mountLoop(t, "ext4", 100*mib), "tmpfs": mountTmpfs(t, 100*mib), "btrfs": mountLoop(t, "btrfs", 120*mib)} {
		t.Run(kind, func(t *testing.T) {
			f := thinVolume(t, dir)
			before := occupied(t, f)
			for _, algorithm := range []string{Random, NNSA, BSI} {
				p := diskio.NewPacer()
				_, err := Run(t.Context(), p, diskio.FileContent(f), Spec{Algorithm: algorithm})
				var short *diskio.NoRoomError
				if !errors.As(err, &short) || short.Needed <= short.Available || !errors.Is(err, unix.ENOSPC) {
					t.Errorf("error is %v", err)
				}
				if c := p.Counts(); c.Written != 0 || occupied(t, f) != before {
					t.Errorf("%d bytes are allocated, not %d: %+v", occupied(t, f), before, c)
				}
			}
			_, err := Run(t.Context(), diskio.NewPacer(), diskio.FileContent(f), Spec{})
			must(t, err) // of what there is
		})
	}
}

// What has blocks already needs none.
func TestWipeThatFitsIsNotRefused(t *testing.T) {
	for kind, dir := range map[string]string{"ext4": mountLoop(t, "ext4", 100*mib), "tmpfs": mountTmpfs(t, 100*mib)} {
		t.Run(kind, func(t *testing.T) {
			f := create(t, dir, "f")
			must(t, unix.Fallocate(int(f.Fd()), 0, 0, 60*mib))
			_, err := Run(t.Context(), diskio.NewPacer(), diskio.FileContent(f), Spec{Algorithm: Random})
			must(t, err)
		})
	}
}
