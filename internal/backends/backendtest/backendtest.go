// Package backendtest is the contract of package backends as tests. A driver
// passes it with
//
//	func TestMain(m *testing.M) { backendtest.Main(m, New()) }
//
//	func TestContract(t *testing.T) {
//		backendtest.Run(t, backendtest.Suite{New: …})
//	}
//
// Second users of a volume, and helpers that die at a bad moment, are real
// processes: Main turns the test binary into one when Run asks for it.
package backendtest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"storaged/internal/backends"
	"storaged/internal/record"
	"storaged/internal/testenv"
)

// Suite is what the contract is tested on.
type Suite struct {
	// New gives the driver and a pool that is not built yet, and sees to the
	// pool's end with t.Cleanup.
	New func(t *testing.T) (backends.Backend, backends.Pool)
	// Except are cases that cannot hold on what lies below the pool, by name, and why.
	Except map[string]string
	// Ready is New for tests that are about volumes alone: the pool may be built, and
	// started, but is empty. nil: New is as good.
	Ready func(t *testing.T) (backends.Backend, backends.Pool)
	// Name gives a volume of a pool the name that it has there for one of the contract's, for
	// types in which not every name can be one. nil: they can.
	Name func(p backends.Pool, name string) string
	// Many is how many volumes are many, where each takes its time; 0: fifty.
	Many int

	missing string // name of no volume, for RunFixed
}

// Run tests the contract, as far as it is that of a type with these capabilities,
// each case with a pool of its own.
func Run(t *testing.T, s Suite) {
	RunPool(t, s)
	if s.Ready != nil {
		s.New = s.Ready
	}
	s.run(t, "draft", draftCases)
	s.run(t, "volume", volumeCases)
	if b, _ := s.New(t); slices.Contains(b.Properties().VolVerbs, "resize") {
		s.run(t, "resize", resizeCases)
	}
	s.run(t, "settle", settleCases)
	s.run(t, "move", moveCases)
	s.run(t, "names", nameCases)
}

// RunPool tests the part of the contract that is about pools.
func RunPool(t *testing.T, s Suite) { s.run(t, "pool", poolCases) }

// RunTree tests what a pool owes beside whose volumes are the regular files in its
// target: the tests put other things there.
func RunTree(t *testing.T, s Suite) {
	if s.Ready != nil {
		s.New = s.Ready
	}
	s.run(t, "files", fileCases)
}

// RunDirectory tests what a pool owes beside that is nothing but a directory: the tests
// move it, and make it themselves.
func RunDirectory(t *testing.T, s Suite) {
	s.run(t, "directory", directoryCases)
	s.run(t, "hostile", hostileCases)
}

func (s Suite) run(t *testing.T, group string, cases []testCase) {
	t.Run(group, func(t *testing.T) {
		for _, c := range cases {
			if why, except := s.Except[c.name]; except {
				t.Logf("%s: not here: %s", c.name, why)
				continue
			}
			t.Run(c.name, func(t *testing.T) { c.run(newRig(t, s)) })
		}
	})
}

type testCase struct {
	name string
	run  func(*rig)
}

// rig is a pool under test with what every case needs.
type rig struct {
	*testing.T
	b     backends.Backend
	p     backends.Pool
	suite Suite
}

func newRig(t *testing.T, s Suite) *rig {
	t.Helper()
	b, p := s.New(t)
	return &rig{t, b, p, s}
}

// n is the name that a volume has in the pool. What makes volumes, or looks for them, by
// methods of the rig has it from those.
func (r *rig) n(name string) string {
	if r.suite.Name == nil {
		return name
	}
	return r.suite.Name(r.p, name)
}

// builder is the driver of a type that builds pools, which the case is about.
func (r *rig) builder() backends.Builder {
	r.Helper()
	b, ok := r.b.(backends.Builder)
	if !ok {
		r.Fatal("the driver does not build pools")
	}
	return b
}

// deleter is the driver of a type that deletes pools, which the case is about.
func (r *rig) deleter() backends.Deleter {
	r.Helper()
	b, ok := r.b.(backends.Deleter)
	if !ok {
		r.Fatal("the driver does not delete pools")
	}
	return b
}

// creator is the driver of a type with volumes that are made.
func (r *rig) creator() backends.Creator {
	r.Helper()
	b, ok := r.b.(backends.Creator)
	if !ok {
		r.Fatal("the driver does not make volumes")
	}
	return b
}

// taker is the driver of a type with volumes that go.
func (r *rig) taker() backends.Taker {
	r.Helper()
	b, ok := r.b.(backends.Taker)
	if !ok {
		r.Fatal("the driver does not take volumes away")
	}
	return b
}

// remove deletes a volume, as a helper does.
func (r *rig) remove(ctx context.Context, p backends.Pool, name string) error {
	v, err := r.taker().Take(ctx, p, name)
	if err != nil {
		return err
	}
	defer v.Close() // it is gone, or as it was
	return v.Remove()
}

// small is a volume of which nothing is written, or little.
func small(name, job string) backends.NewVolume {
	return backends.NewVolume{Name: name, Job: job, Size: 4096, Format: record.FormatRaw}
}

// started builds, where the type does that, and starts the pool.
func (r *rig) started() *rig {
	r.Helper()
	if _, ok := r.b.(backends.Builder); ok {
		r.built()
	}
	r.must(r.b.Start(r.Context(), r.p))
	return r
}

// built builds the pool, unless it is there.
func (r *rig) built() {
	r.Helper()
	if err := r.builder().Build(r.Context(), r.p, false); !errors.Is(err, backends.ErrExists) {
		r.must(err)
	}
}

func (r *rig) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

// is fails unless err is one of the package's errors.
func (r *rig) is(err, want error) {
	r.Helper()
	if !errors.Is(err, want) {
		r.Errorf("error is %v, want %v", err, want)
	}
}

// busy fails unless err is a BusyError that names what and, if known, whom.
func (r *rig) busy(err error, holder string) {
	r.Helper()
	var busy *backends.BusyError
	if !errors.As(err, &busy) {
		r.Errorf("error is %v, want a BusyError", err)
		return
	}
	if busy.Object == "" || !strings.Contains(busy.Holder, holder) {
		r.Errorf("busy object is %q, holder %q, want %q", busy.Object, busy.Holder, holder)
	}
}

// unblocked fails if do has not ended within a time that no disk takes.
func (r *rig) unblocked(do func()) {
	r.Helper()
	limit := testenv.Patience(10 * time.Second)
	done := make(chan struct{})
	go func() { // do may use Error but not Fatal
		defer close(done)
		do()
	}()
	select {
	case <-done:
	case <-time.After(limit):
		r.Fatalf("still blocked after %v", limit)
	}
}

// draft begins a volume with content.
func (r *rig) draft(name, job string, content []byte) backends.Draft {
	r.Helper()
	d, err := r.creator().Create(r.Context(), r.p, backends.NewVolume{Name: r.n(name), Job: job, Size: int64(len(content)), Format: record.FormatRaw})
	r.must(err)
	r.Cleanup(func() { d.Close() }) // a second time does no harm
	_, err = d.Content().WriteAt(content, 0)
	r.must(err)
	return d
}

// made makes a volume with content.
func (r *rig) made(name string, content []byte) {
	r.Helper()
	d := r.draft(name, "make", content)
	r.must(d.Commit(r.Context(), keepNothing))
	r.must(d.Close())
}

func keepNothing([]byte) error { return nil }

// list refreshes and gives the volumes by name, without what was ignored.
func (r *rig) list() map[string]backends.VolumeInfo {
	r.Helper()
	found := map[string]backends.VolumeInfo{}
	_, err := r.b.Refresh(r.Context(), r.p, func(v backends.VolumeInfo) error {
		if v.Ignored == "" {
			if _, twice := found[v.Name]; twice {
				r.Errorf("%q is found twice", v.Name)
			}
			found[v.Name] = v
		}
		return nil
	})
	r.must(err)
	return found
}

// has fails unless the pool has exactly these volumes.
func (r *rig) has(want ...string) {
	r.Helper()
	var got []string
	for name := range r.list() {
		got = append(got, name)
	}
	want = slices.Clone(want)
	for i := range want {
		want[i] = r.n(want[i])
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		r.Errorf("volumes are %q, want %q", got, want)
	}
}

// holds fails unless the volume begins with content.
func (r *rig) holds(name string, content []byte) {
	r.Helper()
	v, err := r.b.Open(r.Context(), r.p, r.n(name), backends.ReadShared)
	r.must(err)
	got := make([]byte, len(content))
	_, err = io.ReadFull(io.NewSectionReader(v.Content(), 0, int64(len(content))), got)
	r.must(err)
	r.must(v.Close())
	if !bytes.Equal(got, content) {
		r.Errorf("%q holds %.40q, want %.40q", name, got, content)
	}
}

// canceled is a context that has ended.
func canceled(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

// tree is what lies in a directory: names with kind, mode, size and inode.
func (r *rig) tree(dir string) string {
	r.Helper()
	entries, err := os.ReadDir(dir)
	r.must(err)
	var b strings.Builder
	for _, e := range entries {
		b.WriteString(describe(r.T, dir, e.Name()))
	}
	return b.String()
}
