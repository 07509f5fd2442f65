package main_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"storaged/internal/blockdev"
	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/testenv"
)

// parted is a host with a pool "disk" on a loop device, and the path of that. The pool's
// table has the format.
type parted struct {
	*host
	device string
}

// newParted makes one. Nothing of another disk may change meanwhile.
func newParted(t *testing.T, label string) parted {
	t.Helper()
	h := parted{newHost(t), newLoop(t, 256*mib)}
	other := newLoop(t, 8*mib)
	h.must(os.WriteFile(other, noise(8*mib), 0))
	before, err := os.ReadFile(other)
	h.must(err)
	t.Cleanup(func() {
		if after, err := os.ReadFile(other); err != nil || !bytes.Equal(before, after) {
			t.Errorf("another disk was changed (%v)", err)
		}
	})
	_, st, err := h.client.DefinePool(h.ctx(), contract.Submit{}, contract.PoolDefine{
		Name: "disk", Type: "disk", Source: record.Source{Devices: []string{h.device}, Format: label},
	}, true, true)
	h.succeed(st, err)
	return h
}

// newLoop gives a loop device in memory, from which partitions are taken in the end.
func newLoop(t *testing.T, size int64) string {
	t.Helper()
	testenv.Loop(t)
	dir := t.TempDir()
	testenv.MountImage(t, "", dir)
	t.Cleanup(func() { testenv.Unmount(t, dir) })
	file := filepath.Join(dir, "disk")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Truncate(file, size)); err != nil {
		t.Fatal(err)
	}
	device, _ := testenv.Attach(t, file)
	t.Cleanup(func() {
		disk, err := blockdev.OpenNode(device)
		if err != nil {
			t.Error(err)
			return
		}
		defer disk.Close()
		for number := range partsOf(t, disk.Number) {
			tick := time.NewTicker(10 * time.Millisecond) // udev may look at it still
			defer tick.Stop()
			err := blockdev.RemovePart(disk.File, number)
			for end := time.Now().Add(testenv.Patience(10 * time.Second)); errors.Is(err, syscall.EBUSY) && time.Now().Before(end); <-tick.C {
				err = blockdev.RemovePart(disk.File, number)
			}
			if err != nil {
				t.Error(err)
			}
		}
	})
	return device
}

func partsOf(t *testing.T, number string) map[int]blockdev.Part {
	t.Helper()
	d, ok := blockdev.System.Device(number)
	if !ok {
		t.Fatalf("there is no device %s", number)
	}
	return d.Parts()
}

// node is the path of a partition, and its volume's name in the pool.
func (h parted) node(number int) string { return fmt.Sprintf("%sp%d", h.device, number) }

func (h parted) volume(number int) string { return "disk/" + filepath.Base(h.node(number)) }

// has fails unless a partition begins with that content, and has zeros behind it.
func (h parted) has(number int, content []byte) {
	h.t.Helper()
	b, err := os.ReadFile(h.node(number))
	if err != nil || len(b) < len(content) || !bytes.Equal(b[:len(content)], content) || len(bytes.Trim(b[len(content):], "\x00")) > 0 {
		h.t.Errorf("partition %d has %d bytes, and not the %d that were written and zeros (%v)", number, len(b), len(content), err)
	}
}

// numbers are those of the partitions that the kernel has.
func (h parted) numbers() (all string) {
	h.t.Helper()
	nodes, err := filepath.Glob(h.device + "p*")
	h.must(err)
	for _, n := range nodes {
		all += strings.TrimPrefix(n, h.device+"p") + " "
	}
	return strings.TrimSpace(all)
}

// What can be done to volumes can be done to partitions, in tables of both kinds: of DOS the
// sixth is the second logical one.
func TestDiskPool(t *testing.T) {
	t.Parallel()
	for label, n := range map[string][3]int{"gpt": {1, 2, 9}, "dos": {1, 5, 6}} {
		t.Run(label, func(t *testing.T) {
			t.Parallel()
			partitions(newParted(t, label), n[0], n[1], n[2])
		})
	}
}

func partitions(h parted, first, second, third int) {
	h.succeed(h.create(h.volume(first), 9*mib+512))
	if v := h.is(h.volume(first), record.Volume{State: record.VolumeReady}); v.Capacity != 9*mib+512 || v.Path != h.node(first) || v.Type != "block" || v.Format != record.FormatRaw || v.Key != v.Path {
		h.t.Errorf("the volume is %s", shown(v))
	}
	h.has(first, nil)
	content := noise(5 * mib)
	file := h.outside("x")
	h.must(os.WriteFile(file.Name(), content, 0o600))
	h.succeed(h.hand(h.volume(first), file))
	h.succeed(h.clone(h.volume(first), h.volume(second)))
	h.has(second, content)
	h.succeed(h.resize(h.volume(second), 20*mib))
	h.has(second, content)
	h.refuses(record.Invalid, "would be lost")(h.resize(h.volume(second), 12*mib))
	h.succeed(h.resize(h.volume(second), 8*mib, shrink))
	h.has(second, content)
	h.fails(h.end(h.resize(h.volume(second), 400*mib)), record.NoSpace)
	h.has(second, content)
	h.succeed(h.verify(h.volume(second)))
	h.succeed(h.trim(h.volume(second), giveUpAllocation))
	h.succeed(h.clone(h.volume(second), "pool/file"))
	h.succeed(h.clone("file", "image", format("qcow2")))
	h.succeed(h.clone("image", h.volume(third), format("raw")))
	h.has(third, content)
	h.succeed(h.wipe(h.volume(first)))
	h.has(first, nil)
	down, err := os.Create(file.Name())
	h.must(err)
	defer down.Close()
	h.succeed(h.handDown(h.volume(third), down))
	h.succeed(h.move(h.volume(third), "pool/moved"))
	if got, err := os.ReadFile(h.path("moved")); err != nil || !bytes.Equal(got[:len(content)], content) {
		h.t.Errorf("it holds something else after it was moved (%v)", err)
	}
	h.refuses(record.Invalid, filepath.Base(h.node(7)))(h.create("disk/sdx7", mib))
	h.refuses(record.Invalid, "number")(h.create("disk/a", mib))
	h.refuses(record.NoSpace, "has no room")(h.create(h.volume(third), 1<<40))
	h.keepsOthers(first)
	h.succeed(h.remove(h.volume(second)))
	h.succeed(h.evacuatePool("disk", "pool"))
	if _, err := os.Stat(h.path(filepath.Base(h.node(first)))); err != nil || h.numbers() != "" {
		h.t.Errorf("after it was evacuated it has the partitions %s (%v)", h.numbers(), err)
	}
	st, err := h.client.Start(h.ctx(), contract.Submit{}, "disk", "", &operation.PoolStopRequest{})
	h.succeed(st, err)
	h.succeed(h.deletePool("disk"))
	disk, err := os.Open(h.device)
	h.must(err)
	defer disk.Close()
	label := make([]byte, 4096)
	if _, err := io.ReadFull(disk, label); err != nil || bytes.Contains(label, []byte("EFI PART")) || label[510] != 0 {
		h.t.Errorf("the disk has its table still (%v)", err)
	}
}

// keepsOthers fails unless a partition that is mounted stays, and the table with it.
func (h parted) keepsOthers(number int) {
	h.t.Helper()
	testenv.Formatted(h.t, h.node(number), "ext4")
	dir, unmount := testenv.MountedFrom(h.t, h.node(number))
	file, kept := filepath.Join(dir, "file"), noise(mib)
	h.must(os.WriteFile(file, kept, 0o600))
	h.fails(h.end(h.wipe(h.volume(number))), record.Busy, dir)
	h.fails(h.end(h.remove(h.volume(number))), record.Busy, dir)
	unmount()
	again, unmount := testenv.MountedFrom(h.t, h.node(number))
	if is, err := os.ReadFile(filepath.Join(again, "file")); err != nil || !bytes.Equal(is, kept) {
		h.t.Errorf("what was mounted was changed (%v)", err)
	}
	unmount()
}

// At whatever moment a clone is canceled, or its helper or the daemon is killed, the new
// partition is complete or is not there, and no other is touched.
func TestPartitionsThroughDeaths(t *testing.T) {
	t.Parallel()
	for _, label := range []string{"gpt", "dos"} {
		t.Run(label, func(t *testing.T) {
			t.Parallel()
			newParted(t, label).deaths()
		})
	}
}

func (h parted) deaths() {
	kept, content := noise(4*mib), noise(8*mib)
	h.succeed(h.create(h.volume(1), 4*mib))
	h.must(os.WriteFile(h.node(1), kept, 0))
	h.succeed(h.create("image", 8*mib, format("qcow2")))
	file := h.outside("content")
	h.must(os.WriteFile(file.Name(), content, 0o600))
	h.succeed(h.hand("image", file, asFormat("raw")))
	seed := uint64(time.Now().UnixNano())
	h.t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	deaths := []func(st started){
		h.cancelUnlessEnded,
		func(st started) {
			if j := h.job(st); j.Helper != nil && !j.State.Terminal() {
				_ = syscall.Kill(j.Helper.PID, syscall.SIGKILL) // or it has just ended
			}
		},
		func(started) { h.kill(); h.start() },
	}
	for i := range 6 {
		st := h.began(h.clone("image", h.volume(5), format("raw"), limited(16*mib)))
		moment := time.Duration(random.Int64N(int64(testenv.Patience(600 * time.Millisecond))))
		<-time.After(moment)
		deaths[i%len(deaths)](st)
		j := h.end(st, nil)
		h.t.Logf("%d after %v: %s", i%len(deaths), moment, outcome(j))
		left := "1"
		if j.State == record.Succeeded {
			left = "1 5"
			h.has(5, content)
		}
		h.await("the end of what the job has left", func() bool { return h.numbers() == left })
		if j.State == record.Succeeded {
			h.succeed(h.remove(h.volume(5)))
		}
	}
	h.has(1, kept)
}
