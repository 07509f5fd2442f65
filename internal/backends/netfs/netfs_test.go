package netfs

import (
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"storaged/internal/backends"
	"storaged/internal/backends/backendtest"
	"storaged/internal/blockdev"
	"storaged/internal/procfs"
	"storaged/internal/record"
	"storaged/internal/testenv"
)

func TestMain(m *testing.M) { backendtest.Main(m, New()) }

// poolOn gives a pool that is mounted from this host, by a version of NFS.
func poolOn(t testing.TB, export, version string) backends.Pool {
	t.Helper()
	p := backends.Pool{
		Type: "netfs", Target: filepath.Join(t.TempDir(), "pool"),
		Source: record.Source{Hosts: []string{"localhost"}, Path: export, Format: "nfs", Options: map[string]string{}},
	}
	if version != "" {
		p.Source.Options["nfsvers"] = version
	}
	t.Cleanup(func() {
		if err := New().Stop(context.Background(), p); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	return p
}

// every has cases tested too that take minutes where a machine is emulated, and are about
// nothing that NFS does in its own way.
var every = flag.Bool("every", false, "test the whole contract on each version of NFS")

// The contract holds on what a server of Linux exports.
func contract(t *testing.T, version string) {
	testenv.VM(t)
	const (
		numbers = "a server gives the inode of what is gone to what is made next, and no time of birth: another file is taken for one that was changed"
		made    = "what a server exports it has made, and is there before a pool is built and after it is deleted"
		slow    = "it takes minutes on an emulated machine, and does not differ"
	)
	s := backendtest.Suite{
		New: func(t *testing.T) (backends.Backend, backends.Pool) {
			return New(), poolOn(t, testenv.NFS(t, 1), version)
		},
		Except: map[string]string{
			"nothing works before build": made, "delete with volumes removes them": made, "canceled methods change nothing": made, "another pool than the one meant is left alone": made,
			"what is taken away is gone for good": numbers,
		},
	}
	if !*every {
		for _, name := range []string{"many volumes are found once each", "odd ones are names and nothing else", "a huge directory is found whole"} {
			s.Except[name] = slow
		}
	}
	backendtest.Run(t, s)
	backendtest.RunTree(t, s)
}

func TestContractOnNFS3(t *testing.T) { contract(t, "3") }

func TestContractOnNFS4(t *testing.T) { contract(t, "4.2") }

// What is deleted are the volumes and the directory of the mount, and not what the server
// exports.
func TestDeletedPoolIsThereAgain(t *testing.T) {
	export := testenv.NFS(t, 1)
	p := poolOn(t, export, "4.2")
	d := New().(backends.Deleter)
	for _, mounted := range []bool{true, false} {
		id := started(t, p).ID
		volume := filepath.Join(p.Target, "v")
		if err := os.WriteFile(volume, []byte("v"), 0o600); err != nil {
			t.Fatal(err)
		}
		if !mounted {
			if err := New().Stop(t.Context(), p); err != nil {
				t.Fatal(err)
			}
		}
		p.ID = New().Lasting(id)
		if err := d.Delete(t.Context(), p, false); !errors.Is(err, backends.ErrNotEmpty) {
			t.Errorf("with a volume, mounted %v: %v", mounted, err)
		}
		if err := d.Delete(t.Context(), p, true); err != nil {
			t.Errorf("mounted %v: %v", mounted, err)
		}
		if _, err := os.Stat(p.Target); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("mounted %v: the directory of the mount: %v", mounted, err)
		}
		if left, err := os.ReadDir(export); err != nil || len(left) > 0 {
			t.Errorf("mounted %v: the server has %v, %v", mounted, left, err)
		}
	}
}

// started starts a pool.
func started(t *testing.T, p backends.Pool) backends.PoolInfo {
	t.Helper()
	if err := New().Start(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	info, err := New().Space(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// mountOf is what the kernel says of the mount of a pool.
func mountOf(t *testing.T, p backends.Pool) procfs.Mount {
	t.Helper()
	dir, err := os.Open(p.Target)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	m, ok, err := blockdev.MountAt(dir)
	if err != nil || !ok {
		t.Fatalf("nothing is mounted at %s: %v", p.Target, err)
	}
	return m.Mount
}

// The best version is taken that there is, by whatever options; and a mount is as safe as
// one of a device.
func TestVersionIsTheBest(t *testing.T) {
	export := testenv.NFS(t, 1)
	for options, want := range map[string]string{"": "vers=4.2", "vers=4": "vers=4.2", "nfsvers=4.1": "vers=4.1", "minorversion=0": "vers=4.0", "vers=3": "vers=3", "vers=3,nolock,soft,timeo=30": "timeo=30"} {
		p := poolOn(t, export, "")
		for _, o := range strings.Split(options, ",") {
			name, value, _ := strings.Cut(o, "=")
			if name != "" {
				p.Source.Options[name] = value
			}
		}
		started(t, p)
		m := mountOf(t, p)
		if !slices.Contains(strings.Split(m.Options, ","), want) {
			t.Errorf("%q: it is mounted with %s", options, m.Options)
		}
		if at, err := os.ReadFile("/proc/self/mountinfo"); err != nil || !strings.Contains(string(at), p.Target+" rw,nosuid,nodev,noexec") {
			t.Errorf("%q: it is mounted without what makes it safe (%v)", options, err)
		}
		if err := New().Stop(t.Context(), p); err != nil {
			t.Error(err)
		}
	}
	p := poolOn(t, export, "3")
	p.Source.Options["no_such_option"] = ""
	if err := New().Start(t.Context(), p); err == nil || !strings.Contains(err.Error(), "no_such_option") {
		t.Errorf("an unknown option: %v", err)
	}
}

// A pool is known by the file system that its server exports, over another mount and
// another version, and no other one is mounted for it.
func TestExportIsKnownAgain(t *testing.T) {
	b := New()
	one, other := testenv.NFS(t, 1), testenv.NFS(t, 2)
	p := poolOn(t, one, "4.2")
	known := b.Lasting(started(t, p).ID)
	if known == "" || !strings.Contains(string(known), "nfs") {
		t.Fatalf("the pool is known as %q", known)
	}
	for _, version := range []string{"3", "4.1", "4.2"} {
		again := poolOn(t, one, version)
		again.ID = known
		if err := errors.Join(b.Start(t.Context(), again), b.Stop(t.Context(), again)); err != nil {
			t.Errorf("by NFS %s: %v", version, err)
		}
	}
	for _, export := range []string{other, testenv.NFS(t, 1)} {
		strange := poolOn(t, export, "4.2")
		strange.ID = known
		if err := b.Start(t.Context(), strange); !errors.Is(err, backends.ErrReplaced) {
			t.Errorf("another export: %v", err)
		}
		if _, err := os.Stat(strange.Target); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("its directory: %v", err)
		}
	}
}

// What a server exports is found; of what it does not, and of whom it does not let in, it
// is said why.
func TestWhatIsExportedIsFound(t *testing.T) {
	export, squashed := testenv.NFS(t, 1), testenv.NFS(t, 1, "root_squash")
	found, err := New().(backends.SourceFinder).FindSources(t.Context(), record.Source{Hosts: []string{"127.0.0.1"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{export, squashed} {
		want := record.Source{Hosts: []string{"127.0.0.1"}, Path: path, Format: "nfs"}
		if !slices.ContainsFunc(found, func(s record.Source) bool { return s.SameStorage(want) && s.Format == want.Format }) {
			t.Errorf("%s is not among %+v", path, found)
		}
	}
	for _, version := range []string{"3", "4.2"} {
		p := poolOn(t, squashed, version)
		e, _ := errors.AsType[*record.Error](New().Start(t.Context(), p))
		if e == nil || e.Code != record.Denied || !strings.Contains(e.Hint.String(), "no_root_squash") {
			t.Errorf("NFS %s, where root is somebody else: %v", version, e)
		}
		p = poolOn(t, "/srv/none", version)
		if err := New().Start(t.Context(), p); err == nil {
			t.Errorf("NFS %s: what is not exported is mounted", version)
		}
	}
}

// A file that is deleted while somebody has it open is no volume, by the name that it has
// then.
func TestFileDeletedInUseIsNoVolume(t *testing.T) {
	p := poolOn(t, testenv.NFS(t, 1), "4.2")
	started(t, p)
	path := filepath.Join(p.Target, "v")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(p.Target)
	if err != nil || len(entries) != 1 || !strings.HasPrefix(entries[0].Name(), ".nfs") {
		t.Fatalf("there is %v (%v)", entries, err)
	}
	_, err = New().Refresh(t.Context(), p, func(v backends.VolumeInfo) error {
		t.Errorf("%+v is found", v)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if err := New().CheckName(entries[0].Name()); err == nil {
		t.Error("it is a name of a volume")
	}
	if err := New().(backends.Deleter).Delete(t.Context(), p, false); !errors.Is(err, backends.ErrNotEmpty) {
		t.Errorf("deleted with it: %v", err)
	}
	f.Close()
	if err := New().(backends.Deleter).Delete(t.Context(), p, false); err != nil {
		t.Errorf("when it was closed: %v", err)
	}
}

// From a server that is away nothing is unmounted, unless that is forced; and none is
// mounted from. Neither keeps anybody waiting.
func TestServerIsAway(t *testing.T) {
	b := New()
	export := testenv.NFS(t, 1)
	p, q := poolOn(t, export, "4.2"), poolOn(t, export, "3")
	started(t, p)
	known := started(t, q).ID
	r := poolOn(t, export, "4.2")
	back := testenv.AwayNFS(t)
	begun := time.Now()
	if err := b.Stop(t.Context(), p); record.CodeOf(err) != record.WrongState || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("stop: %v", err)
	}
	for _, id := range []backends.Identity{"", b.Lasting(known)} {
		r.ID = id
		_, away := errors.AsType[*backends.AwayError](b.Start(t.Context(), r))
		if away != (id != "") {
			t.Errorf("start of a pool that is known as %q: %v", id, b.Start(t.Context(), r))
		}
	}
	if err := b.(backends.Readier).Ready(t.Context(), r); err == nil {
		t.Error("a pool is ready whose server is away")
	}
	q.Force = true
	if err := b.Stop(t.Context(), q); err != nil {
		t.Errorf("forced stop: %v", err)
	}
	if took := time.Since(begun); took > testenv.Patience(20*time.Second) {
		t.Errorf("it took %v", took)
	}
	for m := range procfs.Mounts(procfs.OwnMounts) {
		if m.Point == q.Target {
			t.Error("it is mounted still")
		}
	}
	back()
	if err := b.Stop(t.Context(), p); err != nil {
		t.Errorf("stop: %v", err)
	}
}
