package confine_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"storaged/internal/confine"
	"storaged/internal/testenv"
)

// opened opens a file for the time of the test.
func opened(t *testing.T, path string, flags int) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// run runs a program that may use the files, which it has from descriptor 3 on, and
// gives what it says.
func run(t *testing.T, p confine.Policy, files []*os.File, argv ...string) (string, error) {
	t.Helper()
	cmd := exec.Command(testenv.Tool(t, argv[0]), argv[1:]...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = &out, &out, files
	cmd.WaitDelay = time.Second
	level, err := confine.Start(p, cmd)
	if err != nil {
		t.Fatal(err)
	}
	if want := confine.Available().Word(); level.Word() != want {
		t.Errorf("level %s, want %s", level, want)
	}
	err = cmd.Wait()
	return out.String(), err
}

func mustRun(t *testing.T, p confine.Policy, files []*os.File, argv ...string) string {
	t.Helper()
	out, err := run(t, p, files, argv...)
	if err != nil {
		t.Fatalf("%v: %v: %s", argv, err, out)
	}
	return out
}

func TestImagesOfAllFormatsAreMadeAndCheckedOverDescriptors(t *testing.T) {
	for _, format := range []string{"raw", "qcow2", "qed", "vmdk", "vdi", "vpc", "vhdx"} {
		t.Run(format, func(t *testing.T) {
			f := opened(t, filepath.Join(t.TempDir(), "image"), os.O_CREATE|os.O_RDWR)
			p := confine.Policy{Write: []*os.File{f}}
			mustRun(t, p, []*os.File{f}, "qemu-img", "create", "-f", format, "/proc/self/fd/3", "16M")
			out := mustRun(t, p, []*os.File{f}, "qemu-img", "info", "-f", format, "/proc/self/fd/3")
			if !strings.Contains(out, "file format: "+format) {
				t.Errorf("qemu-img says %s", out)
			}
			serve(t, f, format)
		})
	}
}

// serve has a confined qemu-storage-daemon serve the image to a client that is connected
// before it starts.
func serve(t *testing.T, f *os.File, format string) {
	t.Helper()
	ours, monitor := socketPair(t)
	listening, client := connected(t)
	cmd := exec.Command(testenv.Tool(t, "qemu-storage-daemon"), "--chardev", "socket,id=m,fd=4", "--monitor", "chardev=m", "--nbd-server", "addr.type=fd,addr.str=5,max-connections=0")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = &out, &out, []*os.File{f, monitor, listening}
	if _, err := confine.Start(confine.Policy{Write: []*os.File{f}}, cmd); err != nil {
		t.Fatal(err)
	}
	monitor.Close()
	in := bufio.NewScanner(ours)
	in.Scan() // its greeting
	for _, command := range []string{
		`{"execute":"qmp_capabilities"}`,
		`{"execute":"blockdev-add","arguments":{"driver":"file","filename":"/proc/self/fd/3","node-name":"f","locking":"off","discard":"unmap"}}`,
		`{"execute":"blockdev-add","arguments":{"driver":"` + format + `","file":"f","node-name":"n"}}`,
		`{"execute":"block-export-add","arguments":{"type":"nbd","id":"e","node-name":"n","name":"x","writable":true}}`,
	} {
		fmt.Fprintln(ours, command)
		if in.Scan(); !strings.Contains(in.Text(), `"return"`) {
			t.Errorf("%s: %s %v %s", command, in.Text(), in.Err(), &out)
		}
	}
	greeting := make([]byte, 8)
	if _, err := io.ReadFull(client, greeting); err != nil || string(greeting) != "NBDMAGIC" {
		t.Errorf("the client is greeted with %q (%v)", greeting, err)
	}
	client.Close()
	fmt.Fprintln(ours, `{"execute":"quit"}`)
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ends with %v: %s", err, &out)
	}
}

func socketPair(t *testing.T) (ours, theirs *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs = os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "theirs")
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	return ours, theirs
}

// connected gives a socket that listens, and a connection that waits for it.
func connected(t *testing.T) (listening *os.File, client net.Conn) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // the file is another descriptor
	client, err = net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	if listening, err = l.File(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listening.Close() })
	return listening, client
}

func TestProgramOpensNothingButWhatItWasGiven(t *testing.T) {
	dir := t.TempDir()
	canary := opened(t, filepath.Join(dir, "canary"), os.O_CREATE|os.O_RDWR)
	overlay := opened(t, filepath.Join(dir, "overlay"), os.O_CREATE|os.O_RDWR)
	if err := canary.Truncate(1 << 20); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(testenv.Tool(t, "qemu-img"), "create", "-q", "-f", "qcow2", "-F", "raw", "-b", canary.Name(), overlay.Name()).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	said, err := run(t, confine.Policy{Read: []*os.File{overlay}}, []*os.File{overlay}, "qemu-img", "check", "--image-opts", "driver=qcow2,file.filename=/proc/self/fd/3,file.locking=off")
	if err != nil && !strings.Contains(said, "canary") {
		t.Errorf("check: %v: %s", err, said)
	}
	said, err = run(t, confine.Policy{Read: []*os.File{overlay}}, []*os.File{overlay}, "qemu-img", "convert", "-f", "qcow2", "-O", "raw", "/proc/self/fd/3", "/dev/null")
	if err == nil || !strings.Contains(said, "Permission denied") {
		t.Errorf("convert of an image that names another file: %v: %s", err, said)
	}
	said, err = run(t, confine.Policy{Read: []*os.File{canary}}, []*os.File{canary}, "qemu-io", "-f", "raw", "-c", "write 0 512", "/proc/self/fd/3")
	if err == nil || !strings.Contains(said, "Permission denied") {
		t.Errorf("write to what may be read, by a descriptor that can write: %v: %s", err, said)
	}
}

func TestFileOfAnotherUserIsOpenedAgain(t *testing.T) {
	testenv.Root(t)
	f := opened(t, filepath.Join(t.TempDir(), "image"), os.O_CREATE|os.O_RDWR)
	if err := f.Chown(4711, 4711); err != nil {
		t.Fatal(err)
	}
	mustRun(t, confine.Policy{Write: []*os.File{f}}, []*os.File{f}, "qemu-img", "create", "-f", "qcow2", "/proc/self/fd/3", "16M")
	mustRun(t, confine.Policy{Read: []*os.File{f}}, []*os.File{f}, "qemu-img", "info", "-f", "qcow2", "/proc/self/fd/3")
}

func TestLevelInWords(t *testing.T) {
	for _, c := range []struct {
		level confine.Level
		want  string
	}{
		{confine.Level{}, "none"},
		{confine.Level{Landlock: 3, Seccomp: true}, "full"},
		{confine.Level{Landlock: 3, Lacks: []string{"no filter"}}, "partial"},
	} {
		if got := c.level.Word(); got != c.want || !strings.HasPrefix(fmt.Sprint(c.level), c.want) {
			t.Errorf("%v: %s, want %s", c.level, got, c.want)
		}
	}
}
