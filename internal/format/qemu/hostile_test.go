package qemu

import (
	"bytes"
	"encoding/json"
	"errors"
	flags "flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"storaged/internal/format/formattest"
	"storaged/internal/testenv"
	"storaged/internal/tool"
)

// canary is what no image may get at.
const canary = "a canary that sings for nobody; "

// all has all hostile images opened; else it is every twelfth.
var all = flags.Bool("hostile-all", false, "open all hostile images, which takes minutes")

// tracedEnv makes TestHostileImagesReachNothing the process that strace watches; it
// is the directory.
const tracedEnv = "STORAGED_TEST_HOSTILE"

// outcome is what came of a hostile image.
type outcome struct {
	Name  string
	Open  bool   // it could be opened
	Err   string // of opening or reading it
	Sings bool   // the canary is in what it gave
}

// Nobody has looked at the headers: all hostile images are opened, as the content of
// nothing but their file. What they name is not opened, and nothing of it is in what
// they give.
func TestHostileImagesReachNothing(t *testing.T) {
	if dir := os.Getenv(tracedEnv); dir != "" {
		openHostile(t, dir)
		return
	}
	testenv.Tool(t, tool.StorageDaemon.Name)
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "canary"), bytes.Repeat([]byte(canary), 4096), 0o644))
	server, err := net.Listen("unix", filepath.Join(dir, "socket"))
	must(t, err)
	defer server.Close()
	trace := filepath.Join(t.TempDir(), "trace")
	cmd := exec.Command(testenv.Tool(t, "strace"), "-f", "--seccomp-bpf", "-qq", "-s", "4096", "-o", trace, "-e", "trace=open,openat,openat2,socket,connect,bind,execve",
		os.Args[0], "-test.run=^"+t.Name()+"$", fmt.Sprintf("-hostile-all=%t", *all))
	cmd.Env = append(os.Environ(), tracedEnv+"="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	open, told := 0, 0
	for _, o := range outcomes(t, dir) {
		if o.Sings || strings.Contains(o.Err, canary) {
			t.Errorf("%s: what it gave has the canary in it; %s", o.Name, o.Err)
		}
		if o.Open {
			open++
		}
		told++
	}
	t.Logf("%d of %d hostile images could be opened", open, told)
	text, err := os.ReadFile(trace)
	must(t, err)
	if n := checkTrace(t, dir, string(text)); n < told {
		t.Errorf("%d children opened %d images", n, told)
	}
}

// What the inspector has nothing to say against needs no confinement: qemu-img opens
// it by its name, and nothing else.
func TestWhatIsPassedNeedsNoConfinement(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "canary"), bytes.Repeat([]byte(canary), 4096), 0o644))
	script := ""
	for i, c := range formattest.Corpus(formattest.Bait{File: filepath.Join(dir, "canary"), Socket: filepath.Join(dir, "socket")}) {
		if c.Bomb || c.Problem != "" || c.Backing != "" || c.Data != nil || c.Format == "iso" {
			continue
		}
		path := filepath.Join(dir, fmt.Sprintf("%03d", i))
		must(t, c.Write(path))
		script += fmt.Sprintf("qemu-img convert -f %s -O raw %s %s.raw || exit\n", c.Format, path, path)
	}
	trace := filepath.Join(t.TempDir(), "trace")
	cmd := exec.Command(testenv.Tool(t, "strace"), "-f", "--seccomp-bpf", "-qq", "-s", "4096", "-o", trace, "-e", "trace=open,openat,openat2,socket,connect,bind,execve", "sh", "-c", script)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text, err := os.ReadFile(trace)
	must(t, err)
	if n := checkTrace(t, dir, string(text)); n < 5 {
		t.Errorf("only %d images were opened", n)
	}
	made, err := filepath.Glob(filepath.Join(dir, "*.raw"))
	must(t, err)
	for _, path := range made {
		b, err := os.ReadFile(path)
		must(t, err)
		if bytes.Contains(b, []byte(canary)) {
			t.Errorf("%s has the canary in it", path)
		}
	}
}

func outcomes(t *testing.T, dir string) (all []outcome) {
	t.Helper()
	f, err := os.Open(filepath.Join(dir, "outcomes"))
	must(t, err)
	defer f.Close()
	for in := json.NewDecoder(f); in.More(); {
		var o outcome
		must(t, in.Decode(&o))
		all = append(all, o)
	}
	return all
}

// openHostile opens all that are not large.
func openHostile(t *testing.T, dir string) {
	out, err := os.Create(filepath.Join(dir, "outcomes"))
	must(t, err)
	defer out.Close()
	for i, c := range formattest.Corpus(formattest.Bait{File: filepath.Join(dir, "canary"), Socket: filepath.Join(dir, "socket")}) {
		if c.Bomb || c.Format == "iso" || c.Size > 1<<30 || !*all && i%12 != 0 {
			continue
		}
		path := filepath.Join(dir, fmt.Sprintf("%03d", i))
		must(t, c.Write(path))
		must(t, json.NewEncoder(out).Encode(openOne(t, path, c)))
		must(t, os.Remove(path))
	}
}

// openOne opens the image at path, and reads the beginning of its content.
func openOne(t *testing.T, path string, c formattest.Hostile) outcome {
	t.Helper()
	o := outcome{Name: c.Name}
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	i, err := Open(t.Context(), Layer{File: f, Format: c.Format}, Options{})
	if err == nil {
		o.Open = true
		var b []byte
		b, err = beginning(i)
		o.Sings = bytes.Contains(b, []byte(canary))
		i.Close() // it was only read
	}
	if err != nil {
		o.Err = err.Error()
	}
	return o
}

// beginning is some of the content.
func beginning(i *Image) ([]byte, error) {
	size, err := i.Size()
	if err != nil {
		return nil, err
	}
	b := make([]byte, min(size, 256<<10))
	_, err = i.ReadAt(b, 0)
	return b, err
}

var (
	executes = regexp.MustCompile(`^(\d+) +execve\("[^"]*/qemu-(?:storage-daemon|img)"`)
	opens    = regexp.MustCompile(`^(\d+) +open(?:at2?)?\((?:[^,"]*, )?"((?:[^"\\]|\\.)*)", [^)]*\) += (\d+)`)
	connects = regexp.MustCompile(`^(\d+) +(?:connect|bind|socket)\((.*)\) += \d+`)

	// library is what a program needs to run, and devices what it asks of the machine.
	library = regexp.MustCompile(`^(/usr)?/lib(32|64)?/|^/etc/ld\.so\.|^/sys/devices/system/(cpu|node)|^/sys/kernel/mm/transparent_hugepage/(enabled|hpage_pmd_size)$|^/proc/(self|\d+)/(fd/\d+|task/\d+/comm|maps|mounts|cgroup|status)$|^/dev/u?random$|^/dev/fd/\d+$|^/proc/(cpuinfo|meminfo|stat|sys/.*)$|^/sys/fs/cgroup|^/dev/null$|^/etc/(nsswitch|ssl|gnutls|crypto|gcrypt|localtime|group|passwd).*|^/usr/share/(locale|zoneinfo)|^/usr/lib/locale`)
)

// checkTrace fails unless the children have opened nothing but libraries, what they
// had already, and what was named to them, and have connected to nothing. It gives
// how many there were.
func checkTrace(t *testing.T, dir, text string) int {
	t.Helper()
	children, opened := map[string]bool{}, 0
	for line := range strings.Lines(text) {
		if m := executes.FindStringSubmatch(line); m != nil {
			children[m[1]] = true
		}
		if m := opens.FindStringSubmatch(line); m != nil && strings.Contains(m[2], filepath.Join(dir, "canary")) {
			t.Errorf("the canary was opened: %s", line)
		}
		if m := opens.FindStringSubmatch(line); m != nil && children[m[1]] {
			named := strings.HasPrefix(m[2], dir) && !strings.Contains(m[2], "canary") && !strings.Contains(m[2], "socket")
			if opened++; !library.MatchString(m[2]) && !named {
				t.Errorf("a child has opened what is not on the list: %s", line)
			}
		}
		if m := connects.FindStringSubmatch(line); m != nil && children[m[1]] {
			t.Errorf("a child made a socket, or used one: %s", line)
		}
	}
	if opened == 0 {
		t.Errorf("%d children have opened nothing: the trace is not read", len(children))
	}
	return len(children)
}

// Each bomb goes off in its child, and whoever opened it is told what it ran into; or
// it gives what it has bit by bit, and there is no harm in it.
func TestBombsGoOffAlone(t *testing.T) {
	testenv.Tool(t, tool.StorageDaemon.Name)
	dir := t.TempDir()
	for n, c := range formattest.Corpus(formattest.Bait{File: "/nothing", Socket: "/nothing"}) {
		if !c.Bomb && c.Size <= 1<<30 {
			continue
		}
		t.Run(c.Name, func(t *testing.T) {
			if c.Format == "luks" && !*all { // it takes all the time that there is for opening
				return
			}
			path := filepath.Join(dir, fmt.Sprint(n))
			must(t, c.Write(path))
			f, err := os.Open(path)
			must(t, err)
			defer f.Close()
			err = openBomb(t, f, c)
			said, known := bombs[c.Name]
			if !known || !regexp.MustCompile(said).MatchString(fmt.Sprint(err)) {
				t.Errorf("%v, want %q", err, said)
			}
		})
	}
}

// bombs is what is said of each, a pattern.
var bombs = map[string]string{
	"qcow2 that is a bomb":            harmless,
	"qcow2 of a petabyte":             harmless,
	"vmdk that is a bomb":             "bytes of address space",
	"luks that is a bomb":             "3m0s of processor time|within 26m0s",
	"vpc with a table of 2 GiB":       "Max Table Entries too large",
	"vdi with a table of 4 GiB":       "too many blocks",
	"parallels with a table of 4 GiB": "Catalog too large",
	"vmdk with a directory of 4 GiB":  harmless + "|input/output error", // QEMU takes the number modulo 2^32
}

// harmless is no error.
const harmless = "^<nil>$"

// openBomb opens an image and reads the beginning of its content.
func openBomb(t *testing.T, f *os.File, c formattest.Hostile) error {
	l := Layer{File: f, Format: c.Format}
	if c.Format == "luks" {
		l.Secret = []byte("secret")
	}
	i, err := Open(t.Context(), l, Options{})
	if err != nil {
		return err
	}
	_, err = beginning(i)
	return errors.Join(err, ended(i.Close(), err))
}

// ended is the error of a close, nil where there was one before.
func ended(closing, before error) error {
	if before != nil {
		return nil
	}
	return closing
}
