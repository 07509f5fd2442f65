package image

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"storaged/internal/procfs"
	"storaged/internal/testenv"
)

// newImage makes a raw image of 1 MiB.
func newImage(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.raw")
	if err := os.WriteFile(path, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func openFile(t *testing.T, path string, flags int) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, flags, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() }) // a second time does no harm
	return f
}

// access is one of the two locks, with the open mode it needs.
type access struct {
	name  string
	flags int
	lock  func(*os.File) error
}

var (
	shared    = access{"shared", os.O_RDONLY, LockShared}
	exclusive = access{"exclusive", os.O_RDWR, LockExclusive}
	grow      = access{"grow", os.O_RDWR, LockGrow}
	sharing   = access{"sharing growth", os.O_RDONLY, func(f *os.File) error {
		if err := LockShared(f); err != nil {
			return err
		}
		return ShareGrowth(f)
	}}
	asking       = access{"asking", os.O_RDONLY, AskExclusive}
	askingToRead = access{"asking to read", os.O_RDONLY, AskShared}
)

func (a access) try(t *testing.T, path string) (*os.File, error) {
	t.Helper()
	f := openFile(t, path, a.flags)
	return f, a.lock(f)
}

// refused fails unless err names the holder.
func refused(t *testing.T, err error, holder string) {
	t.Helper()
	var used *InUseError
	if !errors.As(err, &used) {
		t.Errorf("not refused: %v", err)
		return
	}
	if used.Holder != holder {
		t.Errorf("holder %q, want %q", used.Holder, holder)
	}
}

// me is how this process is named as a holder.
func me() string { return procfs.Process(fmt.Sprint(os.Getpid())) }

func TestReadersShareAndWritersAreAlone(t *testing.T) {
	for _, c := range []struct {
		first, second access
		ok            bool
	}{
		{shared, shared, true},
		{shared, exclusive, false},
		{exclusive, shared, false},
		{exclusive, exclusive, false},
		{shared, grow, false},
		{grow, shared, false},
		{grow, sharing, false}, // it asks as a reader who keeps the size
		{grow, exclusive, false},
		{exclusive, grow, false},
		{grow, grow, false},
		{sharing, shared, true},
		{sharing, sharing, true},
		{sharing, grow, true},
		{sharing, exclusive, false},
		{shared, asking, false},
		{exclusive, asking, false},
		{grow, asking, false},
		{asking, exclusive, true},
		{exclusive, askingToRead, false},
		{shared, askingToRead, true},
		{askingToRead, exclusive, true},
	} {
		t.Run(c.first.name+" then "+c.second.name, func(t *testing.T) {
			path := newImage(t)
			first, err := c.first.try(t, path)
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.second.try(t, path)
			if c.ok && err != nil {
				t.Error(err)
			}
			if !c.ok {
				refused(t, err, me())
			}
			if err := first.Close(); err != nil {
				t.Fatal(err)
			}
			if _, err := c.second.try(t, path); !c.ok && err != nil {
				t.Errorf("after the first was closed: %v", err)
			}
		})
	}
}

func TestLocksAreOnQEMUsBytes(t *testing.T) {
	for _, c := range []struct {
		access
		want []string
	}{
		{shared, []string{"READ 100 100", "READ 201 201", "READ 203 203"}},
		{exclusive, []string{"WRITE 100 163", "WRITE 200 263"}},
		{grow, []string{"READ 103 103", "READ 201 201", "READ 203 203"}},
		{sharing, []string{"READ 100 100", "READ 201 201"}},
		{asking, nil},
	} {
		f, err := c.try(t, newImage(t))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		holds(fmt.Sprintf("/proc/self/fdinfo/%d", f.Fd()), func(l fdLock) bool {
			got = append(got, l.kind+" "+l.start+" "+l.end)
			return false
		})
		if slices.Sort(got); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q", c.name, got)
		}
	}
}

func TestRefusedLockLeavesNothingLocked(t *testing.T) {
	for _, a := range []access{shared, exclusive} {
		for _, where := range []int64{0, 101, 103, 120, 200, 220} {
			path := newImage(t)
			holder := openFile(t, path, os.O_RDWR)
			if err := lockByte(holder, where, unix.F_WRLCK); err != nil {
				t.Fatal(err)
			}
			f, err := a.try(t, path)
			if err == nil && (a.name == "exclusive" || where != 120 && where != 220) {
				t.Errorf("%s lock in spite of byte %d", a.name, where)
			}
			if err != nil {
				ownsNothing(t, f)
			}
		}
	}
}

func lockByte(f *os.File, at int64, kind int16) error {
	l := span{at, 1}.lock(kind)
	return fcntl(f, unix.F_OFD_SETLK, &l)
}

// ownsNothing fails if the kernel knows of locks of f.
func ownsNothing(t *testing.T, f *os.File) {
	t.Helper()
	info := fmt.Sprintf("/proc/self/fdinfo/%d", f.Fd())
	if holds(info, func(fdLock) bool { return true }) {
		t.Errorf("%s still has locks", f.Name())
	}
}

// openers are what QEMU 7.2 was seen to lock (read locks on single bytes).
var openers = []struct {
	name      string
	bytes     []int64
	letReader bool
}{
	{"vm, raw, read-write", []int64{100, 101, 201}, false},
	{"vm, raw, share-rw", []int64{100, 101}, false},
	{"vm, raw, read-only", []int64{100, 201}, true},
	{"vm, qcow2", []int64{100, 101, 103, 201, 203}, false},
	{"vm, backing file", []int64{100, 201, 203}, true},
	{"qemu-img create, preallocated", []int64{101, 103, 203}, false},
	{"one that shares nothing", []int64{200}, false},
}

func TestEveryOpenerOfQEMUIsSeen(t *testing.T) {
	for _, o := range openers {
		t.Run(o.name, func(t *testing.T) {
			path := newImage(t)
			vm := openFile(t, path, os.O_RDONLY)
			for _, b := range o.bytes {
				if err := lockByte(vm, b, unix.F_RDLCK); err != nil {
					t.Fatal(err)
				}
			}
			_, err := exclusive.try(t, path)
			refused(t, err, me())
			_, err = shared.try(t, path)
			if o.letReader && err != nil {
				t.Errorf("a reader is refused: %v", err)
			}
			if !o.letReader {
				refused(t, err, me())
			}
		})
	}
}

func TestRealQEMUKeepsUsAwayAndIsNamed(t *testing.T) {
	path := newImage(t)
	t.Run("read-write", func(t *testing.T) {
		holder := testenv.QEMU(t, "-f", "raw", path)
		_, err := exclusive.try(t, path)
		refused(t, err, holder)
		_, err = shared.try(t, path)
		refused(t, err, holder)
	})
	t.Run("read-only", func(t *testing.T) {
		holder := testenv.QEMU(t, "-r", "-f", "raw", path)
		_, err := exclusive.try(t, path)
		refused(t, err, holder)
		if _, err := shared.try(t, path); err != nil {
			t.Errorf("a second reader is refused: %v", err)
		}
	})
	t.Run("gone", func(t *testing.T) {
		if _, err := exclusive.try(t, path); err != nil {
			t.Error(err)
		}
	})
}

func TestWeKeepRealQEMUAway(t *testing.T) {
	testenv.Tool(t, "qemu-img")
	testenv.Tool(t, "qemu-io")
	const always, reads = "always", "reads"
	tools := []struct {
		kind string // reads: allowed beside a reader
		argv []string
	}{
		{always, []string{"qemu-io", "-f", "raw", "-c", "write 0 4k", "IMAGE"}},
		{always, []string{"qemu-img", "resize", "-f", "raw", "IMAGE", "2M"}},
		{always, []string{"qemu-img", "convert", "-f", "raw", "-O", "raw", "-n", "OTHER", "IMAGE"}},
		{always, []string{"qemu-img", "create", "-f", "qcow2", "IMAGE", "1M"}},
		{reads, []string{"qemu-io", "-r", "-f", "raw", "-c", "read 0 4k", "IMAGE"}},
		{reads, []string{"qemu-img", "convert", "-f", "raw", "-O", "raw", "IMAGE", "COPY"}},
		{reads, []string{"qemu-img", "compare", "-f", "raw", "-F", "raw", "IMAGE", "OTHER"}},
	}
	for _, a := range []access{shared, sharing, exclusive, grow} {
		path, other := newImage(t), newImage(t)
		if _, err := a.try(t, path); err != nil {
			t.Fatal(err)
		}
		put := strings.NewReplacer("IMAGE", path, "OTHER", other, "COPY", other+".copy")
		for _, tool := range tools {
			if a.name == "grow" && tool.kind == reads {
				continue // it depends on what the tool shares
			}
			argv := strings.Split(put.Replace(strings.Join(tool.argv, "\n")), "\n")
			out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
			want := a.flags == os.O_RDONLY && tool.kind == reads
			if (err == nil) != want {
				t.Errorf("beside our %s lock, %q: %v\n%s", a.name, tool.argv, err, out)
			}
			if err != nil && !strings.Contains(string(out), "lock") {
				t.Errorf("%q failed for another reason: %s", tool.argv, out)
			}
		}
	}
}

func TestReaderTakesTheSizeBack(t *testing.T) {
	path := newImage(t)
	reader, err := sharing.try(t, path)
	if err != nil {
		t.Fatal(err)
	}
	grower, err := grow.try(t, path)
	if err != nil {
		t.Fatal(err)
	}
	refused(t, KeepSize(reader), me())
	if _, err := sharing.try(t, path); err == nil {
		t.Error("a new reader came in beside somebody who grows the image")
	}
	if err := grower.Close(); err != nil {
		t.Fatal(err)
	}
	if reader, err = sharing.try(t, path); err != nil {
		t.Fatal(err)
	}
	passer := openFile(t, path, os.O_RDWR)
	for _, use := range []int64{write, resize} { // as QEMU does, before it sees that it must not
		if err := take(passer, unix.F_RDLCK, span{usesByte + use, 1}); err != nil {
			t.Fatal(err)
		}
	}
	time.AfterFunc(10*time.Millisecond, func() { release(passer) })
	if err := KeepSize(reader); err != nil {
		t.Fatal(err)
	}
	_, err = grow.try(t, path)
	refused(t, err, me())
}

// virtlockd uses locks of the old kind, which never conflict within a process,
// so that a child has to take one.
func TestVirtlockdIsSeenAndNamed(t *testing.T) {
	if path := os.Getenv("STORAGED_TEST_POSIX_LOCK"); path != "" {
		holdPosixLock(path)
		return
	}
	path := newImage(t)
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), "STORAGED_TEST_POSIX_LOCK="+path)
	child := testenv.StartChild(t, cmd)
	if line := child.Line(); line != "locked\n" {
		t.Fatalf("the child said %q", line)
	}
	for _, a := range []access{shared, exclusive} {
		_, err := a.try(t, path)
		refused(t, err, child.Holder)
	}
	child.End()
	if _, err := exclusive.try(t, path); err != nil {
		t.Error(err)
	}
}

// holdPosixLock locks virtlockd's byte until its input ends.
func holdPosixLock(path string) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		panic(err)
	}
	l := span{libvirtByte, 1}.lock(unix.F_WRLCK)
	if err := unix.FcntlFlock(f.Fd(), unix.F_SETLK, &l); err != nil {
		panic(err)
	}
	fmt.Println("locked")
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		panic(err)
	}
}

func TestLockSurvivesInAnotherProcess(t *testing.T) {
	path := newImage(t)
	f, err := exclusive.try(t, path)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("cat")
	cmd.ExtraFiles = []*os.File{f}
	child := testenv.StartChild(t, cmd)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = exclusive.try(t, path)
	refused(t, err, child.Holder)
	child.End()
	if _, err := exclusive.try(t, path); err != nil {
		t.Error(err)
	}
}

// locked fails unless another description of the file would be refused all these bytes.
func locked(t *testing.T, path string, kind int16, bytes ...span) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() // it was only asked
	for _, s := range bytes {
		if l, err := look(f, kind, s); err != nil || l.Type == unix.F_UNLCK || l.Start != s.start || l.Len != s.length {
			t.Fatalf("of the bytes %+v is locked %+v, %v", s, l, err)
		}
	}
}

// beside does something over and over beside a test, until that ends.
func beside(t *testing.T, what func()) {
	stop := make(chan struct{})
	var doing sync.WaitGroup
	doing.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				what()
			}
		}
	})
	t.Cleanup(func() {
		close(stop)
		doing.Wait()
	})
}

// Who starts programs all the time gives them what is open for an instant, locks and all.
func TestWhatChildrenHaveUntilTheirExecIsNoLock(t *testing.T) {
	path, program := newImage(t), testenv.Tool(t, "true")
	for range 2 {
		beside(t, func() {
			if err := exec.Command(program).Run(); err != nil {
				t.Error(err)
			}
		})
	}
	for n := range 300 {
		for _, a := range []access{shared, asking, exclusive, askingToRead} {
			f, err := os.OpenFile(path, a.flags, 0)
			if err != nil {
				t.Fatal(err)
			}
			if err := a.lock(f); err != nil {
				t.Fatalf("%s, the time %d: %v", a.name, n+1, err)
			}
			switch a.name {
			case shared.name:
				locked(t, path, unix.F_WRLCK, span{usesByte + consistentRead, 1}, span{unsharedByte + write, 1}, span{unsharedByte + resize, 1})
			case exclusive.name:
				locked(t, path, unix.F_RDLCK, span{usesByte, permissions}, span{unsharedByte, permissions})
			}
			f.Close() // nothing was written
		}
	}
}

// scoutedBy has a function of the test look for the holder of a lock in place of a scout: it
// gets the asker's file, and finds nobody.
func scoutedBy(t *testing.T, look func(f *os.File)) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	s := &Scout{socket: os.NewFile(uintptr(pair[0]), "scout")}
	var answering sync.WaitGroup
	answering.Go(func() {
		defer unix.Close(pair[1])
		for {
			text, f, err := receive(pair[1], maxAnswer)
			if err != nil {
				return // it was recalled
			}
			if strings.Contains(string(text), `"Start"`) {
				look(f)
			}
			f.Close() // it was only looked at
			if err := unix.Send(pair[1], []byte("{}"), 0); err != nil {
				t.Error(err)
			}
		}
	})
	sent.Store(s)
	t.Cleanup(func() {
		sent.Store(nil)
		s.socket.Close()
		answering.Wait()
	})
}

// Whoever gets the locks because somebody has gone has all of them, although to look for him
// lets go of what was locked before.
func TestWhoHasGoneTakesNoLockAway(t *testing.T) {
	for _, c := range []struct {
		access
		passing span
		kind    int16
		has     []span
	}{
		{shared, span{usesByte + write, 1}, unix.F_WRLCK, []span{{usesByte + consistentRead, 1}, {unsharedByte + write, 1}, {unsharedByte + resize, 1}}},
		{exclusive, span{libvirtByte, 1}, unix.F_RDLCK, []span{{usesByte, permissions}, {unsharedByte, permissions}}},
		{exclusive, span{unsharedByte, 1}, unix.F_RDLCK, []span{{usesByte, permissions}, {unsharedByte, permissions}}},
		{grow, span{libvirtByte, 1}, unix.F_WRLCK, []span{{usesByte + resize, 1}, {unsharedByte + write, 1}, {unsharedByte + resize, 1}}},
	} {
		for _, stays := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, byte %d, stays %v", c.name, c.passing.start, stays), func(t *testing.T) {
				path := newImage(t)
				passer := openFile(t, path, os.O_RDWR)
				comes := func() {
					l := c.passing.lock(unix.F_RDLCK)
					if err := fcntl(passer, unix.F_OFD_SETLK, &l); err != nil {
						t.Error(err)
					}
				}
				scoutedBy(t, func(f *os.File) {
					release(f) // as holder does
					if !stays {
						release(passer)
					}
				})
				comes()
				f := openFile(t, path, c.flags)
				err := c.lock(f)
				if stays == (err == nil) {
					t.Fatalf("it is locked: %v", err)
				}
				if err == nil {
					locked(t, path, c.kind, c.has...)
				}
			})
		}
	}
}

func TestLockLinesOfTheKernel(t *testing.T) {
	for line, want := range map[string]fdLock{
		"lock:\t1: OFDLCK  ADVISORY  READ -1 08:01:131090 100 101":   {"08:01:131090", "READ", "100", "101"},
		"lock:\t2: POSIX  ADVISORY  WRITE 812 fe:00:7 0 EOF":         {"fe:00:7", "WRITE", "0", "EOF"},
		"lock:\t1: FLOCK  ADVISORY  WRITE 812 fe:00:7 0 EOF trailer": {},
		"pos:\t0": {},
		"lock:":   {},
		"":        {},
	} {
		if got, ok := parseLock(line); got != want || ok != (want != fdLock{}) {
			t.Errorf("%q: %+v %v", line, got, ok)
		}
	}
}

func TestHoldersAreNamedOnEveryFileSystem(t *testing.T) {
	for _, kind := range []string{"ext4", "xfs", "btrfs", "tmpfs"} {
		t.Run(kind, func(t *testing.T) {
			path := filepath.Join(testenv.Mount(t, kind), "disk.raw")
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			first, err := exclusive.try(t, path)
			if err != nil {
				t.Fatal(err)
			}
			second, err := shared.try(t, path)
			refused(t, err, me())
			first.Close() // so that the file system can be unmounted
			second.Close()
		})
	}
}
