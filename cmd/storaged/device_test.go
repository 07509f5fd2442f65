package main_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/testenv"
)

// A pool on a device stays mounted when the daemon dies, is active for the next one, and
// is not taken away from under who is in it.
func TestPoolOnADeviceOutlivesTheDaemon(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	disk := filepath.Join(t.TempDir(), "disk")
	if err := errors.Join(os.WriteFile(disk, nil, 0o600), os.Truncate(disk, 64<<20)); err != nil {
		t.Fatal(err)
	}
	device, _ := testenv.Attach(t, disk)
	target := filepath.Join(h.dir, "data")
	t.Cleanup(func() { _ = unix.Unmount(target, unix.MNT_DETACH) }) // it is mounted only where the test has failed
	_, st, err := h.client.DefinePool(h.ctx(), contract.Submit{}, contract.PoolDefine{
		Name: "data", Type: "fs", Target: record.Target{Path: target}, Source: record.Source{Devices: []string{device}, Format: "ext4"},
	}, true, true)
	h.succeed(st, err)
	file := filepath.Join(target, "v")
	if err := os.WriteFile(file, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.kill()
	h.start()
	if p, err := h.client.Pool(h.ctx(), "data"); err != nil || p.State != record.PoolActive {
		t.Fatalf("the pool is %+v, %v", p, err)
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "content" {
		t.Errorf("%q, %v", b, err)
	}
	in, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	stop := func() (contract.Started, error) {
		return h.client.Start(h.ctx(), contract.Submit{}, "data", "", &operation.PoolStopRequest{})
	}
	st, err = stop()
	if j := h.end(st, err); j.Code() != record.Busy || !strings.Contains(j.Error.Message, "is in use by pid") {
		t.Errorf("the stop of a pool in use: %s", outcome(j))
	}
	in.Close()
	st, err = stop()
	h.succeed(st, err)
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is mounted: %v", err)
	}
	if err := unix.Mount(device, target, "ext4", 0, ""); err != nil { // as a start that was ended leaves it
		t.Fatal(err)
	}
	st, err = stop()
	h.succeed(st, err)
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is mounted still: %v", err)
	}
	if out, err := exec.Command(testenv.Tool(t, "mkfs.ext4"), "-q", "-F", device).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	st, err = h.client.Start(h.ctx(), contract.Submit{}, "data", "", &operation.PoolStartRequest{})
	if j := h.end(st, err); j.Error == nil || j.Error.Hint == nil || !strings.Contains(j.Error.Hint.String(), "pool undefine data, and define it then") {
		t.Errorf("the start on another file system: %s", outcome(j)) // which a build would destroy
	}
	h.runs(record.ExitBusy, "storagedctl pool undefine data, which forgets the pool and leaves alone what is there now", "pool", "delete", "data", "--yes=data")
	h.runs(record.ExitBusy, "it is another file system", "pool", "delete", "data", "--yes=data")
}

// A pool on a device that says no format is not built; the commands that are named give it
// one. What nobody has built or started is not deleted.
func TestPoolOnADeviceGetsAFormatByWhatIsSaid(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	disk := filepath.Join(t.TempDir(), "disk")
	h.must(errors.Join(os.WriteFile(disk, nil, 0o600), os.Truncate(disk, 64<<20)))
	device, _ := testenv.Attach(t, disk)
	target := filepath.Join(h.dir, "data")
	t.Cleanup(func() { _ = unix.Unmount(target, unix.MNT_DETACH) }) // it is mounted only where the test has failed
	create := []string{"pool", "create", "data", "--type", "fs", "--source-dev", device, "--target", target}
	h.runs(record.ExitUsage, "--source-format ext4", append(create, "--build")...)
	if _, err := h.client.Pool(h.ctx(), "data"); record.CodeOf(err) != record.NotFound {
		t.Errorf("it is defined: %v", err)
	}
	h.runs(record.ExitNotFound, `device "`+device+`" carries no file system`+"\n", create...)
	h.runs(record.ExitBusy, "was never started or built", "pool", "delete", "data", "--yes=data")
	anew := "storagedctl pool create data --type fs --source-dev " + device + " --source-format ext4 --target " + target + " --build"
	h.runs(record.ExitNotFound, "storagedctl pool undefine data, then "+anew, "pool", "start", "data")
	h.runs(record.ExitUsage, "storagedctl pool undefine data, then "+anew, "pool", "build", "data")
	h.runs(0, "", "pool", "undefine", "data")
	h.runs(0, "", strings.Fields(anew)[1:]...)
	h.runs(0, "", "pool", "stop", "data")
	h.runs(0, "", "pool", "delete", "data", "--yes=data")
	h.absentFile(target)
}

// A device that is not there is none that a build could make: its name may be wrong.
func TestPoolOnADeviceThatIsNotThereSaysToLookAtTheName(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	target := filepath.Join(h.dir, "data")
	create := []string{"pool", "create", "data", "--type", "fs", "--source-dev", "/dev/storaged-none", "--source-format", "ext4", "--target", target}
	says := "look whether its name is right, or attach it: lsblk --paths names the devices of this host"
	h.runs(record.ExitNotFound, says+"; the pool stays defined", create...)
	h.runs(record.ExitNotFound, says+"\n", "pool", "start", "data")
	h.runs(record.ExitNotFound, says+"\n", "pool", "build", "data")
	h.absentFile(target)
}
