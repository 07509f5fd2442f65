package filetree

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"storaged/internal/backends"
	"storaged/internal/diskio"
	"storaged/internal/testenv"
)

// newDraft is a draft named a with a byte in it.
func newDraft(t *testing.T, p backends.Pool) *draft {
	t.Helper()
	d, err := (Tree{}).Create(t.Context(), p, backends.NewVolume{Name: "a", Job: "job"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() }) // a second time does no harm
	if _, err := diskio.FileOf(d.Content()).Write([]byte("a")); err != nil {
		t.Fatal(err)
	}
	return d.(*draft)
}

func names(t *testing.T, p backends.Pool) (list []string) {
	t.Helper()
	entries, err := os.ReadDir(p.Target)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

func TestLinkInsteadOfRename(t *testing.T) {
	p := newPool(t)
	d := newDraft(t, p)
	taken := put(t, p, "taken")
	if err := d.dir.link(d.file, d.temp, d.dir, "taken"); !errors.Is(err, backends.ErrExists) {
		t.Errorf("over a taken name: %v", err)
	}
	if got, err := os.ReadFile(taken); string(got) != "taken" {
		t.Errorf("it holds %q (%v)", got, err)
	}
	if err := d.dir.link(d.file, d.temp, d.dir, "a"); err != nil {
		t.Fatal(err)
	}
	if err := d.dir.confirm("a", d.file); err != nil {
		t.Error(err)
	}
	if got := names(t, p); len(got) != 2 {
		t.Errorf("there is %q", got)
	}
}

// appendFlag is FS_APPEND_FL of linux/fs.h.
const appendFlag = 0x20

// appendOnly sets whether names can be added to a directory, but not removed.
func appendOnly(t *testing.T, p backends.Pool, on bool) {
	t.Helper()
	d, err := os.Open(p.Target)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	flags, err := unix.IoctlGetInt(int(d.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil {
		t.Fatal(err)
	}
	flags &^= appendFlag
	if on {
		flags |= appendFlag
	}
	if err := unix.IoctlSetPointerInt(int(d.Fd()), unix.FS_IOC_SETFLAGS, flags); err != nil {
		t.Fatal(err)
	}
}

func TestDiscardTakesBothNamesOfALinkThatWasNotFinished(t *testing.T) {
	p := backends.Pool{Type: "dir", Target: testenv.Mount(t, "ext4")}
	d := newDraft(t, p)
	t.Cleanup(func() { appendOnly(t, p, false) })
	appendOnly(t, p, true)
	if err := d.dir.link(d.file, d.temp, d.dir, d.name); !errors.Is(err, unix.EPERM) {
		t.Errorf("link: %v", err)
	}
	if err := d.Discard(); !errors.Is(err, unix.EPERM) {
		t.Errorf("discard: %v", err)
	}
	appendOnly(t, p, false)
	if err := d.Discard(); err != nil {
		t.Errorf("second discard: %v", err)
	}
	if got := names(t, p); len(got) != 1 || got[0] != "lost+found" {
		t.Errorf("there is %q", got)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

func TestCrashBetweenLinkAndUnlinkIsCommitted(t *testing.T) {
	p := newPool(t)
	d := newDraft(t, p)
	var identity []byte
	if err := d.recorded(t.Context(), func(b []byte) error { identity = b; return nil }); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(filepath.Join(p.Target, d.temp), filepath.Join(p.Target, "a")); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if committed, err := (Tree{}).Settle(t.Context(), p, "a", "job", identity); !committed || err != nil {
			t.Errorf("%v, %v", committed, err)
		}
	}
	if got := names(t, p); len(got) != 1 || got[0] != "a" {
		t.Errorf("there is %q", got)
	}
	v, err := (Tree{}).Open(t.Context(), p, "a", backends.WriteExclusive)
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Close(); err != nil {
		t.Error(err)
	}
}

func TestIdentityOutlivesUseButNotReplacement(t *testing.T) {
	was := identity{Inode: 7, BirthNS: 1234, Size: 10}
	for name, c := range map[string]struct {
		was, now identity
		same     bool
	}{
		"untouched":                {was, was, true},
		"grown":                    {was, identity{7, 1234, 20}, true},
		"another file, same inode": {was, identity{7, 9999, 10}, false},
		"another inode":            {was, identity{8, 1234, 10}, false},
		"no births":                {identity{7, 0, 10}, identity{7, 0, 10}, true},
		"no births, another size":  {identity{7, 0, 10}, identity{7, 0, 20}, false},
		"birth appeared":           {identity{7, 0, 10}, was, false},
	} {
		if c.was.matches(c.now) != c.same {
			t.Errorf("%s: %v", name, !c.same)
		}
	}
}

func TestFirstFsyncErrorIsFinal(t *testing.T) {
	p := backends.Pool{Type: "dir", Target: testenv.Failing(t)}
	d, err := (Tree{}).Create(t.Context(), p, backends.NewVolume{Name: "a", Job: "job"})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close() // it is lost anyway
	if _, err := diskio.FileOf(d.Content()).Write(make([]byte, 64<<20)); err != nil {
		t.Fatal(err)
	}
	never := func([]byte) error {
		t.Error("the identity of lost data was recorded")
		return nil
	}
	first := d.Commit(t.Context(), never)
	if !errors.Is(first, unix.EIO) && !errors.Is(first, unix.ENOSPC) {
		t.Fatalf("commit: %v", first)
	}
	if again := d.Commit(t.Context(), never); again != first {
		t.Errorf("second commit: %v", again)
	}
	if _, err := os.Lstat(filepath.Join(p.Target, "a")); !os.IsNotExist(err) {
		t.Errorf("the name: %v", err)
	}
	_ = d.Discard() // on such a file system it may fail too
}

// tracedEnv makes TestOrderOfDurableSteps the process that strace watches.
const tracedEnv = "STORAGED_TEST_TRACED_POOL"

// durableSteps are what a volume's life must look like to the kernel, in this
// order. Nothing else shows whether a file or a directory was made durable.
var durableSteps = []string{
	`mkdirat\(\d+<.*/top>, "above", 0755\)`,
	`fchmod\(\d+<.*/above>, 0755\)`,
	`fsync\(\d+<.*/top>\)`,
	`mkdirat\(\d+<.*/above>, "pool", 0711\)`,
	`fchmod\(\d+<.*/pool>, 0711\)`,
	`fsync\(\d+<.*/above>\)`,
	`openat2\(\d+<.*/pool>, "\.job\.storaged", \{flags=O_RDWR\|O_CREAT\|O_EXCL.*O_NOFOLLOW.*, mode=0600, resolve=RESOLVE_NO_XDEV\|RESOLVE_NO_MAGICLINKS\|RESOLVE_NO_SYMLINKS\|RESOLVE_BENEATH\}`,
	`fchmod\(\d+<.*/\.job\.storaged>, 0600\)`,
	`fsync\(\d+<.*/\.job\.storaged>\)`,
	`openat2\(\d+<.*/pool>, "\.job\.storaged", \{flags=O_RDONLY\|.*O_PATH.*RESOLVE_NO_XDEV`,
	`openat2\(\d+<.*/pool>, "a", \{flags=O_RDONLY\|.*O_PATH.*RESOLVE_NO_XDEV`,
	`openat\(.*/record", .*O_CREAT`,
	`renameat2\(\d+<.*/pool>, "\.job\.storaged", \d+<.*/pool>, "a", RENAME_NOREPLACE\)`,
	`openat2\(\d+<.*/pool>, "a", \{flags=O_RDONLY\|.*O_PATH.*RESOLVE_NO_XDEV`,
	`fsync\(\d+<.*/pool>\)`,
	`fsync\(\d+<.*/pool>\)`, // settle
	`unlinkat\(\d+<.*/pool>, "\.other\.storaged", 0\)`,
	`fsync\(\d+<.*/pool>\)`,                                                   // discard
	`openat2\(\d+<.*/pool>, "a", \{flags=O_RDONLY\|.*O_PATH.*RESOLVE_NO_XDEV`, // remove
	`openat2\(\d+<.*/pool>, "a", \{flags=O_RDWR\|.*O_NONBLOCK.*, resolve=RESOLVE_NO_XDEV\|RESOLVE_NO_MAGICLINKS\|RESOLVE_NO_SYMLINKS\|RESOLVE_BENEATH\}`,
	`statx\(\d+<.*/a>, "", `,
	`fcntl\(\d+<.*/a>, F_OFD_SETLK, \{l_type=F_WRLCK, l_whence=SEEK_SET, l_start=200, l_len=64`,
	`openat2\(\d+<.*/pool>, "a", \{flags=O_RDONLY\|.*O_PATH.*RESOLVE_NO_XDEV`,
	`unlinkat\(\d+<.*/pool>, "a", 0\)`,
	`fsync\(\d+<.*/pool>\)`,
	`unlinkat\(\d+<.*/above>, "pool", AT_REMOVEDIR\)`,
	`fsync\(\d+<.*/above>\)`,
}

func TestOrderOfDurableSteps(t *testing.T) {
	if target := os.Getenv(tracedEnv); target != "" {
		volumeLife(t, backends.Pool{Type: "dir", Target: target})
		return
	}
	top := filepath.Join(t.TempDir(), "top")
	if err := os.Mkdir(top, 0o755); err != nil {
		t.Fatal(err)
	}
	trace := filepath.Join(t.TempDir(), "trace")
	cmd := exec.Command(testenv.Tool(t, "strace"), "-f", "-y", "-o", trace,
		"-e", "trace=mkdirat,fchmod,fsync,fdatasync,openat,openat2,renameat2,linkat,unlinkat,statx,fcntl",
		os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), tracedEnv+"="+filepath.Join(top, "above/pool"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	rest := joinCalls(string(text))
	for i, step := range durableSteps {
		at := regexp.MustCompile(`(?m)^\d+ +` + step).FindStringIndex(rest)
		if at == nil {
			t.Fatalf("after step %d there is no %s in\n%s", i, step, rest)
		}
		rest = rest[at[1]:]
	}
}

// joinCalls puts together the calls that strace shows in two lines because
// another thread came in between.
func joinCalls(trace string) string {
	resumed := regexp.MustCompile(`^<\.\.\. \w+ resumed>`)
	var calls []string
	begun := map[string]int{} // by thread: its call in calls
	for line := range strings.Lines(trace) {
		thread, call, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		call = strings.TrimSpace(call)
		if mark := resumed.FindString(call); mark != "" {
			calls[begun[thread]] += call[len(mark):]
			continue
		}
		begun[thread] = len(calls)
		calls = append(calls, thread+" "+strings.TrimSuffix(call, " <unfinished ...>"))
	}
	return strings.Join(calls, "\n")
}

// volumeLife is what durableSteps expects.
func volumeLife(t *testing.T, p backends.Pool) {
	b, ctx := Tree{}, t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(b.Build(ctx, p, false))
	d := newDraft(t, p)
	var identity []byte
	must(d.Commit(ctx, func(id []byte) error {
		identity = id
		return os.WriteFile(filepath.Join(filepath.Dir(p.Target), "record"), id, 0o600)
	}))
	must(d.Close())
	if committed, err := b.Settle(ctx, p, "a", "job", identity); !committed || err != nil {
		t.Fatal(committed, err)
	}
	other, err := b.Create(ctx, p, backends.NewVolume{Name: "b", Job: "other"})
	must(err)
	must(other.Discard())
	must(other.Close())
	taken, err := b.Take(ctx, p, "a")
	must(err)
	must(taken.Remove())
	must(taken.Close())
	must(b.Delete(ctx, p, false))
}
