package nbd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"storaged/internal/diskio"
	"storaged/internal/diskio/contenttest"
	"storaged/internal/diskio/diskiotest"
	"storaged/internal/testenv"
)

const mib = diskiotest.MiB

// image makes an empty image in a directory of its own below dir and gives its path.
func image(t testing.TB, dir, format string, args ...string) string {
	t.Helper()
	dir, err := os.MkdirTemp(dir, "")
	diskiotest.Must(t, err)
	path := filepath.Join(dir, "image")
	create := append([]string{"create", "-q", "-f", format, path}, args...)
	diskiotest.Run(t, testenv.Tool(t, "qemu-img"), create...)
	return path
}

// blockdev are the arguments that open an image as the node named so.
func blockdev(node, path, format string, options ...string) []string {
	return []string{
		"--blockdev", "driver=file,locking=off,discard=unmap,node-name=" + node + "file,filename=" + path,
		"--blockdev", strings.Join(append(options, "driver="+format, "discard=unmap", "node-name="+node, "file="+node+"file"), ","),
	}
}

// serve lets qemu-storage-daemon export the node named top as "x", and connects to
// it as often as asked for. It ends with the test.
func serve(t testing.TB, conns int, args ...string) []net.Conn {
	t.Helper()
	path := filepath.Join(t.TempDir(), "socket")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	diskiotest.Must(t, err)
	defer l.Close()
	f, err := l.File()
	diskiotest.Must(t, err)
	defer f.Close()
	var list []net.Conn
	for range conns { // they wait in the backlog
		c, err := net.Dial("unix", path)
		diskiotest.Must(t, err)
		list = append(list, c)
	}
	cmd := exec.Command(testenv.Tool(t, "qemu-storage-daemon"), append(args, "--nbd-server", "addr.type=fd,addr.str=3,max-connections=0",
		"--export", "type=nbd,id=e,node-name=top,name=x,writable=on,allocation-depth=on")...)
	cmd.ExtraFiles = []*os.File{f}
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	diskiotest.Must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // SIGTERM it can miss, between a look and a wait
		_ = cmd.Wait()
	})
	return list
}

func connected(t testing.TB, conns []net.Conn, export Export) *Client {
	t.Helper()
	c, err := Connect(t.Context(), conns, export)
	diskiotest.Must(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// open makes a new image of a format in a directory and opens it.
func open(t testing.TB, dir string, conns int, format string, size int64) *Client {
	t.Helper()
	path := image(t, dir, format, fmt.Sprint(size))
	unit := map[string]int64{"raw": 4096}[format]
	if unit == 0 {
		unit = 64 << 10
	}
	return connected(t, serve(t, conns, blockdev("top", path, format)...), Export{Name: "x", Granularity: unit})
}

func TestContract(t *testing.T) {
	dir := diskiotest.MountTmpfs(t, 1<<30) // no disk makes it wait
	for format, conns := range map[string]int{"raw": 1, "qcow2": 3} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			contenttest.Run(t, func(t testing.TB, size int64) diskio.Content { return open(t, dir, conns, format, size) })
		})
	}
}

// TestReadsWhatWasWritten: in pieces of any size and alignment, under way together.
func TestReadsWhatWasWritten(t *testing.T) {
	const size = 24 * mib
	for _, format := range []string{"raw", "qcow2"} {
		t.Run(format, func(t *testing.T) {
			c, want := open(t, t.TempDir(), 2, format, size), make([]byte, size)
			at := rand.New(rand.NewPCG(1, 2))
			for i := range 60 {
				off := at.Int64N(size)
				part := want[off : off+1+at.Int64N(min(size-off, 3*mib))]
				if i%4 == 3 {
					clear(part)
					if err := c.Zero(off, int64(len(part)), i%8 == 3); !errors.Is(err, diskio.ErrUnsupported) {
						diskiotest.Must(t, err)
						continue
					}
				} else if _, err := io.ReadFull(diskiotest.RandomBytes(uint64(i)), part); err != nil {
					t.Fatal(err)
				}
				_, err := c.WriteAt(part, off)
				diskiotest.Must(t, err)
				agrees(t, c, want)
			}
			diskiotest.Must(t, c.Flush())
			got := make([]byte, size+1)
			n, err := c.ReadAt(got, 0)
			if n != size || !errors.Is(err, io.EOF) || !bytes.Equal(got[:n], want) {
				t.Errorf("%d bytes, %v, or others than were written", n, err)
			}
		})
	}
}

// agrees fails unless the map says data of all that is not zero.
func agrees(t *testing.T, c *Client, want []byte) {
	t.Helper()
	var list [5]diskio.Extent
	for at, end := int64(0), int64(len(want)); at < end; {
		n, err := c.Extents(list[:], at, end)
		diskiotest.Must(t, err)
		for _, x := range list[:n] {
			if x.Off != at || x.Len <= 0 || x.End() > end {
				t.Fatalf("%+v at %d", x, at)
			}
			if x.Kind != diskio.Data && len(bytes.TrimLeft(want[x.Off:x.End()], "\x00")) > 0 {
				t.Fatalf("%+v has data", x)
			}
			at = x.End()
		}
	}
}

func TestDepths(t *testing.T) {
	dir := t.TempDir()
	img := testenv.Tool(t, "qemu-img")
	base, top := filepath.Join(dir, "base"), filepath.Join(dir, "top")
	diskiotest.Run(t, img, "create", "-q", "-f", "qcow2", base, "8M")
	diskiotest.Run(t, img, "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", top)
	diskiotest.Run(t, testenv.Tool(t, "qemu-io"), "-c", "write 1M 2M", base)
	diskiotest.Run(t, testenv.Tool(t, "qemu-io"), "-c", "write 2M 2M", top)
	args := append(blockdev("base", base, "qcow2"), blockdev("top", top, "qcow2", "backing=base")...)
	c := connected(t, serve(t, 1, args...), Export{Name: "x", Depths: true})
	var list [10]Depth
	n, err := c.Depths(list[:], mib/2, 7*mib)
	diskiotest.Must(t, err)
	want := []Depth{{mib / 2, mib / 2, 0}, {mib, mib, 2}, {2 * mib, 2 * mib, 1}, {4 * mib, 3 * mib, 0}}
	if fmt.Sprint(list[:n]) != fmt.Sprint(want) {
		t.Errorf("%v, not %v", list[:n], want)
	}
	without := connected(t, serve(t, 1, args...), Export{Name: "x"})
	if _, err := without.Depths(list[:], 0, mib); !errors.Is(err, diskio.ErrUnsupported) {
		t.Errorf("without asking for them: %v", err)
	}
}

// TestErrorsAreTheServers: of a file system that is full.
func TestErrorsAreTheServers(t *testing.T) {
	path := filepath.Join(diskiotest.MountTmpfs(t, 4*mib), "image")
	diskiotest.Must(t, os.WriteFile(path, nil, 0o600))
	diskiotest.Must(t, os.Truncate(path, 16*mib))
	c := connected(t, serve(t, 1, blockdev("top", path, "raw")...), Export{Name: "x", Granularity: 4096})
	_, err := diskio.Copy(t.Context(), diskio.NewPacer(), diskio.CopySpec{Dst: c, Src: full(t, 8*mib), Clean: true})
	if !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("error is %v", err)
	}
	if _, err := c.WriteAt([]byte{1}, 16*mib); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("behind the end: %v", err)
	}
	if _, err := c.ReadAt(make([]byte, 1), 0); err != nil {
		t.Errorf("after an error that concerns one request: %v", err)
	}
}

// full is a file of random data.
func full(t testing.TB, size int64) diskio.Content {
	f := diskiotest.Create(t, t.TempDir(), "full")
	diskiotest.WriteRandom(t, f, 0, size)
	return diskio.FileContent(f)
}

func TestAnExportThatIsNotThere(t *testing.T) {
	path := image(t, t.TempDir(), "raw", "1M")
	_, err := Connect(t.Context(), serve(t, 1, blockdev("top", path, "raw")...), Export{Name: "y"})
	if err == nil || !strings.Contains(err.Error(), `it has no export "y"`) {
		t.Errorf("error is %v", err)
	}
}
