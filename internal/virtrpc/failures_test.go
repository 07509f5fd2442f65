package virtrpc_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/testenv"
	"storaged/internal/virtrpc/virtrpctest"
	"storaged/internal/virtrpc/wire"
	"storaged/internal/virtrpc/xdr"
)

// What libvirt's own driver does wrong, and is not so here: docs/libvirt.md has the list.

// answered is how long a call takes at most that waits for nobody, also if it has a job of
// its own and the machine is busy: those that wait for a slow one get no answer at all here.
const answered = 20 * time.Second

// stuck is a host with three pools. Everything that is written to the first waits in the
// kernel; the second is on the same disk, the third is not.
type stuck struct {
	*virtrpctest.Host
	*virtrpctest.Client // whose calls are the slow ones
	t                   *testing.T
	slow, near, far     wire.Pool
	thaw                func()
}

func newStuck(t *testing.T) *stuck {
	t.Helper()
	dir, other := testenv.Mount(t, "ext4"), testenv.Mount(t, "tmpfs")
	h := virtrpctest.NewHost(t)
	s := &stuck{Host: h, Client: virtrpctest.Open(t, h.Socket), t: t}
	s.slow = s.pool("slow", dir)
	s.near = s.pool("near", filepath.Join(h.Dir, "near"))
	s.far = s.pool("far", other)
	s.thaw = testenv.Freeze(t, dir)
	return s
}

// pool makes a pool with a volume.
func (s *stuck) pool(name, dir string) (p wire.Pool) {
	s.t.Helper()
	doc := "<pool type='dir'><name>" + name + "</name><target><path>" + dir + "</path></target></pool>"
	s.Do(wire.StoragePoolCreateXML, &wire.TextFlags{Text: doc, Flags: 1}, &p)
	s.Do(wire.StorageVolCreateXML, volumeIn(p, "disk", 1), nil)
	return p
}

// volumeIn asks for a volume of a MiB, of which so many are allocated.
func volumeIn(p wire.Pool, name string, allocated int) *wire.VolCreateArgs {
	doc := fmt.Sprintf("<volume><name>%s</name><capacity unit='M'>1</capacity><allocation unit='M'>%d</allocation></volume>", name, allocated)
	return &wire.VolCreateArgs{Pool: p, XML: doc}
}

// resizes begins to resize the volume of the slow pool, and waits until its job runs.
func (s *stuck) resizes() wire.Header {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), virtrpctest.Patience)
	defer cancel()
	all, err := s.Service.Subscribe(ctx, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	call := s.Begin(wire.StorageVolResize, &wire.VolResizeArgs{Vol: wire.Vol{Pool: "slow", Name: "disk"}, Capacity: 2 << 20, Flags: 1})
	for e := range all {
		if e.Job != nil && e.Job.Kind == record.VolumeResize && e.Job.State == record.Running {
			return call
		}
	}
	s.t.Fatal("no resize runs")
	return call
}

// asked is a call, and its arguments.
type asked struct {
	procedure wire.Procedure
	args      xdr.Value
}

// looks are the calls by which clients look at the slow pool, at the other and at both.
func (s *stuck) looks() []asked {
	return []asked{
		{wire.ConnectListAllStoragePools, &wire.ListArgs{Need: 1}},
		{wire.StoragePoolGetInfo, &s.slow}, {wire.StoragePoolGetInfo, &s.near}, {wire.StoragePoolGetInfo, &s.far},
		{wire.StoragePoolListAllVolumes, &wire.PoolListArgs{Pool: s.slow, Need: 1}},
		{wire.StorageVolGetInfo, &wire.Vol{Pool: "slow", Name: "disk"}},
		{wire.StorageVolGetXMLDesc, &wire.VolFlags{Vol: wire.Vol{Pool: "slow", Name: "disk"}}},
		{wire.ConnectGetURI, nil},
	}
}

// promptly makes calls on a connection of its own, each of which must be answered at
// once, and gives how long they took.
func (s *stuck) promptly(calls ...asked) (took []time.Duration) {
	c := virtrpctest.Open(s.t, s.Socket)
	for _, a := range calls {
		began := time.Now()
		if err := c.Call(a.procedure, a.args, nil); err != nil {
			s.t.Errorf("procedure %d: %v", a.procedure, err)
		}
		if took = append(took, time.Since(began)); took[len(took)-1] > answered {
			s.t.Errorf("procedure %d was answered after %v", a.procedure, took[len(took)-1])
		}
	}
	return took
}

// unanswered fails if something has come to the client whose call is slow; its end must be
// good, once the pool is thawed.
func (s *stuck) unanswered(calls ...wire.Header) {
	s.t.Helper()
	jobs, err := s.Service.Jobs(s.t.Context(), contract.JobFilter{States: []string{"live"}}, contract.Page{Limit: 100})
	if err != nil || len(jobs.Items) != len(calls) {
		s.t.Errorf("%d slow calls have %d jobs, %v", len(calls), len(jobs.Items), err)
	}
	s.thaw()
	for range calls {
		p, err := s.Next()
		if err != nil || p.Type != wire.Reply || p.Status != wire.OK {
			s.t.Errorf("a slow call is answered by %+v, %v", p.Header, err)
		}
	}
}

// A slow resize keeps no look at its pool waiting, and no definition of another.
func TestSlowResizeKeepsNobodyWaiting(t *testing.T) {
	t.Parallel()
	s := newStuck(t)
	call := s.resizes()
	define := "<pool type='dir'><name>new</name><target><path>" + filepath.Join(s.Dir, "new") + "</path></target></pool>"
	s.promptly(append(s.looks(), asked{wire.StoragePoolDefineXML, &wire.TextFlags{Text: define}})...)
	s.unanswered(call)
}

// So it is when many look at once, all the time.
func TestManyWhoLookAtASlowPoolKeepNobodyWaiting(t *testing.T) {
	t.Parallel()
	s := newStuck(t)
	call := s.resizes()
	const clients, rounds = 25, 4
	var all []time.Duration
	var mu sync.Mutex
	var looking sync.WaitGroup
	for range clients {
		looking.Go(func() {
			for range rounds {
				took := s.promptly(s.looks()...)
				mu.Lock()
				all = append(all, took...)
				mu.Unlock()
			}
		})
	}
	looking.Wait()
	t.Logf("%d looks of %d clients at a time: p99 %v", len(all), clients, p99(all))
	s.unanswered(call)
}

// Any number of slow creations leaves everything of a pool on another disk as quick as it
// was, and of one on the same disk what moves no data.
func TestSlowCreationsKeepNobodyWaiting(t *testing.T) {
	t.Parallel()
	s := newStuck(t)
	var calls []wire.Header
	for i := range 20 {
		calls = append(calls, s.Begin(wire.StorageVolCreateXML, volumeIn(s.slow, fmt.Sprint("new", i), 1)))
	}
	s.promptly(s.looks()...)
	s.promptly(asked{wire.StoragePoolRefresh, &wire.PoolFlags{Pool: s.far}}, asked{wire.StorageVolCreateXML, volumeIn(s.far, "new", 1)},
		asked{wire.StorageVolWipe, &wire.VolFlags{Vol: wire.Vol{Pool: "far", Name: "disk"}}})
	s.promptly(asked{wire.StoragePoolRefresh, &wire.PoolFlags{Pool: s.near}}, asked{wire.StorageVolCreateXML, volumeIn(s.near, "new", 0)},
		asked{wire.StorageVolDelete, &wire.VolFlags{Vol: wire.Vol{Pool: "near", Name: "disk"}}})
	s.unanswered(calls...)
}

// place is a directory with a pool and a client of it.
type place struct {
	*virtrpctest.Host
	*virtrpctest.Client
	t   *testing.T
	dir string
}

func newPlace(t *testing.T, dir string) *place {
	t.Helper()
	h := virtrpctest.NewHost(t)
	if dir == "" {
		dir = filepath.Join(h.Dir, "p")
	}
	p := &place{Host: h, Client: virtrpctest.Open(t, h.Socket), t: t, dir: dir}
	p.Do(wire.StoragePoolCreateXML, &wire.TextFlags{Text: "<pool type='dir'><name>p</name><target><path>" + dir + "</path></target></pool>", Flags: 1}, nil)
	return p
}

// virsh runs a command, and checks whether it succeeds, or else that it says why.
func (p *place) virsh(fails, command string) {
	p.t.Helper()
	out, ok := virtrpctest.Virsh(p.t, p.URI(), strings.Fields(command)...)
	if ok != (fails == "") || !strings.Contains(out, fails) {
		p.t.Errorf("virsh %s: %v %s\nnot %q", command, ok, out, fails)
	}
}

// holds fails unless a volume has that content and no more.
func (p *place) holds(volume string, want []byte) {
	p.t.Helper()
	if got := must(os.ReadFile(filepath.Join(p.dir, volume)))(p.t); !bytes.Equal(got, want) {
		p.t.Errorf("%s has %d bytes, not those %d", volume, len(got), len(want))
	}
}

// noise is a content that nobody can guess.
func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}

// given writes a file beside the pool.
func (p *place) given(name string, content []byte) string {
	p.t.Helper()
	path := filepath.Join(p.Dir, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		p.t.Fatal(err)
	}
	return path
}

// A volume that is uploaded is in use until the last byte has come.
func TestVolumeThatIsUploadedIsInUse(t *testing.T) {
	t.Parallel()
	p := newPlace(t, "")
	content := noise(1 << 20)
	p.virsh("", "vol-create-as p disk 1M")
	h := p.Begin(wire.StorageVolUpload, &wire.VolStreamArgs{Vol: wire.Vol{Pool: "p", Name: "disk"}})
	if err := p.Answer(h, nil); err != nil {
		t.Fatal(err)
	}
	h.Type, h.Status = wire.Stream, wire.Continue
	p.Send(h, content[:1<<19])
	for _, command := range []string{"vol-wipe disk p", "vol-upload disk " + p.given("other", noise(100)) + " p", "vol-resize disk 2M --pool p", "vol-delete disk p", "vol-clone disk copy p"} {
		p.virsh("volume 'disk' is still in use.", command)
	}
	p.virsh("pool 'p' has asynchronous jobs running.", "pool-destroy p")
	p.virsh("", "pool-refresh p")
	p.Send(h, content[1<<19:])
	h.Status = wire.OK
	p.Send(h, nil)
	if got, err := p.Next(); err != nil || got.Header != h {
		t.Errorf("the end is answered by %+v, %v", got, err)
	}
	p.holds("disk", content)
}

// A copy is as long as its source, also where the file system allocates more for that than
// it holds.
func TestCopyDoesNotGrow(t *testing.T) {
	t.Parallel()
	p := newPlace(t, testenv.Mount(t, "ext4"))
	p.virsh("", "vol-create-as p disk 4M")
	path := filepath.Join(p.dir, "disk")
	content := make([]byte, 4<<20)
	f := must(os.OpenFile(path, os.O_WRONLY, 0))(t)
	for at := 0; at < len(content); at += 64 << 10 { // of which each makes an extent
		copy(content[at:], noise(4096))
		must(f.WriteAt(content[at:at+4096], int64(at)))(t)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	f.Close()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil || st.Blocks*512 <= st.Size {
		t.Fatalf("the file has %d bytes, and %d blocks of 512, %v", st.Size, st.Blocks, err)
	}
	p.virsh("", "pool-refresh p")
	from := "disk"
	for i := range 3 {
		to := fmt.Sprint("copy", i)
		p.virsh("", "vol-clone "+from+" "+to+" p")
		p.holds(to, content)
		from = to
	}
}

// What is left out of a sparse content reads as zeros, whatever was there, and the volume
// is as long as it was.
func TestHolesOfASparseUploadAreZeros(t *testing.T) {
	t.Parallel()
	p := newPlace(t, "")
	const size = 12 << 20
	p.virsh("", "vol-create-as p disk 12M")
	p.virsh("", "vol-upload disk "+p.given("old", noise(size))+" p")
	content := make([]byte, size)
	copy(content, noise(1<<20))
	copy(content[6<<20:], noise(1<<20))
	path := p.given("new", nil)
	f := must(os.OpenFile(path, os.O_WRONLY, 0))(t)
	defer f.Close()
	for _, at := range []int64{0, 6 << 20} {
		must(f.WriteAt(content[at:at+1<<20], at))(t)
	}
	if err := f.Truncate(size); err != nil { // it ends with a hole
		t.Fatal(err)
	}
	p.virsh("", "vol-upload --sparse disk "+path+" p")
	p.holds("disk", content)
}

// A content that is longer than the volume is refused, and makes it no longer.
func TestUploadMakesNoVolumeLonger(t *testing.T) {
	t.Parallel()
	p := newPlace(t, "")
	content := noise(8 << 20)
	path := p.given("long", content)
	p.virsh("", "vol-create-as p disk 1M")
	p.virsh("nothing grows by an upload", "vol-upload disk "+path+" p")
	if st := must(os.Stat(filepath.Join(p.dir, "disk")))(t); st.Size() != 1<<20 {
		t.Errorf("the volume has %d bytes", st.Size())
	}
	p.virsh("No space left on device", "vol-upload disk "+path+" p --length 1048576")
	p.virsh("", "vol-upload disk "+p.given("fits", content[:1<<20])+" p")
	p.holds("disk", content[:1<<20])
}

// Who opens a connection twice is refused, and keeps it.
func TestSecondOpenLeavesTheFirst(t *testing.T) {
	h := newHost(t, nil)
	c := virtrpctest.Open(t, h.main)
	refused(t, c.Call(wire.ConnectOpen, &wire.OpenArgs{}, nil), wire.InternalError, "connection already open")
	works(t, c)
}

var (
	rowOfFailure = regexp.MustCompile("(?m)^\\| .* \\| .* \\| `(Test\\w+)` \\|$")
	testsOfOurs  = []string{"*_test.go", "../../cmd/storaged/libvirt_failures_test.go"}
)

// The table of what libvirt does wrong names a test for each row, and each of them is
// there.
func TestFreshTableOfLibvirtsFailures(t *testing.T) {
	document := string(must(os.ReadFile("../../docs/libvirt.md"))(t))
	_, table, _ := strings.Cut(document, "## What libvirt loses and blocks")
	table, _, _ = strings.Cut(table, "\n## ")
	var code []byte
	for _, pattern := range testsOfOurs {
		for _, path := range must(filepath.Glob(pattern))(t) {
			code = append(code, must(os.ReadFile(path))(t)...)
		}
	}
	rows := rowOfFailure.FindAllStringSubmatch(table, -1)
	const header = 2
	if len(rows) != strings.Count(table, "\n|")-header || len(rows) < 11 {
		t.Errorf("%d rows name a test, of\n%s", len(rows), table)
	}
	for _, row := range rows {
		if !bytes.Contains(code, []byte("\nfunc "+row[1]+"(t *testing.T) {")) {
			t.Errorf("there is no test %s", row[1])
		}
	}
}

// A device that no job of ours is at is refused in words that say so.
func TestDeviceOfAPoolThatOthersUse(t *testing.T) {
	t.Parallel()
	p := newPlace(t, "")
	device := blankDevice(t)
	p.virsh("", "pool-define-as fs fs --source-dev "+device+" --source-format ext4 --target "+filepath.Join(p.Dir, "fs"))
	p.virsh("", "pool-build fs")
	held, err := os.OpenFile(device, os.O_RDONLY|unix.O_EXCL, 0)
	if err != nil {
		t.Fatal(err)
	}
	p.virsh("is in use", "pool-delete fs")
	p.virsh("is in use", "pool-build fs --overwrite")
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	p.virsh("", "pool-delete fs")
}
