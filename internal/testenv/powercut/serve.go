package powercut

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// diskName is the one file of the FUSE file system: the disk.
const diskName = "disk"

// servedFrom names the environment variable that makes a test program serve a
// disk instead of running tests. It holds, quoted, the image, the directory
// where the disk appears, and the one where its file system is mounted.
const servedFrom = "STORAGED_TEST_POWERCUT"

// Main is to be called first by the TestMain of a package whose tests use a
// Disk. In a process that is to serve one it does so until its standard input
// ends, and gives the exit code and true.
//
// A process of its own serves the disk because a program that waits for itself
// can wait for ever.
func Main() (code int, served bool) {
	var image, dir, mount string
	if n, _ := fmt.Sscanf(os.Getenv(servedFrom), "%q %q %q", &image, &dir, &mount); n != 3 {
		return 0, false
	}
	defer detach(mount, dir) // whoever started us is gone
	if err := serve(image, dir); err != nil {
		fmt.Fprintln(os.Stderr, "power-cut disk:", err)
		return 1, true
	}
	return 0, true
}

func detach(dirs ...string) {
	for _, dir := range dirs {
		_ = unix.Unmount(dir, unix.MNT_DETACH) // EINVAL: it was not mounted
	}
}

func serve(image, dir string) error {
	f, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close() // what it says no longer matters
	st, err := f.Stat()
	if err != nil {
		return err
	}
	d := &diskFile{cache: newCache(f), bytes: st.Size()}
	_, err = fs.Mount(dir, &folder{disk: d}, &fs.Options{MountOptions: fuse.MountOptions{
		DirectMountStrict: true, MaxWrite: 1 << 20, FsName: "powercut", Name: "powercut",
	}})
	if err != nil {
		return fmt.Errorf("cannot mount on %s: %w", dir, err)
	}
	fmt.Println("ready")
	return d.obey(os.Stdin) // requests end with the process: after a cut they wait for ever
}

// obey takes the one order there is, to cut the power, until the input ends.
func (d *diskFile) obey(orders io.Reader) error {
	for in := bufio.NewScanner(orders); in.Scan(); {
		var how Cut
		if err := json.Unmarshal(in.Bytes(), &how); err != nil {
			return fmt.Errorf("order %q: %w", in.Text(), err)
		}
		loss, err := d.cache.Cut(how)
		if err != nil {
			return err
		}
		fmt.Println(loss.Pending, loss.Kept)
	}
	return nil
}

// folder is the root of the FUSE file system.
type folder struct {
	fs.Inode
	disk *diskFile
}

func (r *folder) OnAdd(ctx context.Context) {
	r.AddChild(diskName, r.NewPersistentInode(ctx, r.disk, fs.StableAttr{Mode: fuse.S_IFREG}), false)
}

// diskFile is the disk as a file.
type diskFile struct {
	fs.Inode
	cache *cache
	bytes int64
}

var _ = (fs.NodeOpener)((*diskFile)(nil))

func (d *diskFile) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode, out.Size = 0o600, uint64(d.bytes)
	return 0
}

// Open gives no handle: there is one disk. What the kernel reads may stay in
// its page cache, for what it writes comes here at once.
func (d *diskFile) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, fuse.FOPEN_KEEP_CACHE, 0
}

func (d *diskFile) Read(_ context.Context, _ fs.FileHandle, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	n, err := d.cache.ReadAt(dest[:max(0, min(int64(len(dest)), d.bytes-off))], off)
	return fuse.ReadResultData(dest[:n]), failed(err)
}

func (d *diskFile) Write(_ context.Context, _ fs.FileHandle, data []byte, off int64) (uint32, syscall.Errno) {
	n, err := d.cache.WriteAt(data, off)
	return uint32(n), failed(err)
}

// Fsync is what FLUSH and FUA of a loop device become.
func (d *diskFile) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	return failed(d.cache.Flush())
}

func failed(err error) syscall.Errno {
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, "power-cut disk:", err)
	return syscall.EIO
}
