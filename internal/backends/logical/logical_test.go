package logical

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"storaged/internal/backends"
	"storaged/internal/backends/backendtest"
	"storaged/internal/record"
	"storaged/internal/testenv"
)

func TestMain(m *testing.M) { backendtest.Main(m, New()) }

// groups counts those that were made: LVM knows the last one of a name for a while.
var groups atomic.Int64

// newPool gives a pool on a disk that nobody uses, and takes it away in the end.
func newPool(t *testing.T) (backends.Backend, backends.Pool) { return poolOn(t, testenv.Disk(t, 1)) }

func poolOn(t *testing.T, disk string) (backends.Backend, backends.Pool) {
	name := fmt.Sprintf("test%d-%d", os.Getpid(), groups.Add(1))
	p := backends.Pool{Type: "logical", Target: "/dev/" + name, Source: record.Source{Name: name, Devices: []string{disk}}}
	t.Cleanup(func() {
		if _, err := look(context.WithoutCancel(t.Context()), backends.Pool{Source: p.Source}); err == nil {
			run(t, "vgremove", "--force", "--yes", name)
		}
		run(t, "wipefs", "--all", "--quiet", p.Source.Devices[0])
	})
	return New(), p
}

// readyPools gives pools that are made once, two to a test at most.
func readyPools(t *testing.T) func(t *testing.T) (backends.Backend, backends.Pool) {
	var made [2]backends.Pool
	given := map[string]int{}
	make := sync.OnceFunc(func() {
		for i := range made {
			b, p := poolOn(t, testenv.Disk(t, 2+i))
			if err := b.(backends.Builder).Build(t.Context(), p, false); err != nil {
				t.Fatal(err)
			}
			made[i] = p
		}
	})
	return func(t *testing.T) (backends.Backend, backends.Pool) {
		make()
		p := made[given[t.Name()]]
		given[t.Name()]++
		t.Cleanup(func() { emptied(t, p) })
		if g, err := look(t.Context(), p); err != nil || len(g.volumes) > 0 {
			return newPool(t) // the test before has taken it away, or left something
		}
		return New(), p
	}
}

// emptied removes what a test has left in a pool.
func emptied(t *testing.T, p backends.Pool) {
	ctx := context.WithoutCancel(t.Context())
	g, err := look(ctx, backends.Pool{Source: p.Source})
	if err != nil {
		return // it is removed
	}
	for i := range g.volumes {
		if err := g.volumes[i].remove(ctx, p); err != nil {
			t.Error(err)
		}
	}
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Errorf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

func TestContract(t *testing.T) {
	testenv.VM(t)
	backendtest.Run(t, backendtest.Suite{New: newPool, Ready: readyPools(t), Many: 8})
}

// inThinPool is the driver where all volumes are made in a thin pool.
type inThinPool struct{ Backend }

func (b inThinPool) Create(ctx context.Context, p backends.Pool, n backends.NewVolume) (backends.Draft, error) {
	if n.Origin == "" {
		n.Options = map[string]string{record.OptionThinPool: "tp"}
	}
	return b.Backend.Create(ctx, p, n)
}

// A volume of a thin pool is what every volume is, and who was killed when it gave the name of
// one to another has given it or has not.
func TestThinVolumes(t *testing.T) {
	testenv.VM(t)
	b, p := newPool(t)
	if err := b.(backends.Builder).Build(t.Context(), p, false); err != nil {
		t.Fatal(err)
	}
	run(t, "lvcreate", "--yes", "--type", "thin-pool", "--name", "tp", "--size", "64m", "--chunksize", "64k", p.Source.Name)
	b = inThinPool{}
	for i, killed := range []func(d *draft, old *volume) error{
		func(d *draft, old *volume) error { return nil },
		func(d *draft, old *volume) error { return old.becomes(t.Context(), p, awayOf(d.job)) },
		func(d *draft, old *volume) error {
			return errors.Join(old.becomes(t.Context(), p, awayOf(d.job)), d.becomes(t.Context(), p, d.final))
		},
	} {
		name := fmt.Sprint("v", i)
		old := made(t, b, p, backends.NewVolume{Name: name, Job: "first"})
		d, err := b.(backends.Creator).Create(t.Context(), p, backends.NewVolume{Name: name, Job: "second", Size: 1 << 20, Origin: name, Replaces: true})
		if err != nil {
			t.Fatal(err)
		}
		id := encode(identity{UUID: d.(*draft).uuid, Replaces: old.uuid})
		if err := errors.Join(killed(d.(*draft), old), old.Close(), d.Close()); err != nil {
			t.Fatal(err)
		}
		done, err := b.(backends.Creator).Settle(t.Context(), p, name, "second", id)
		if err != nil || done != (i > 0) {
			t.Errorf("%d: it has the name: %t, %v", i, done, err)
		}
		want, is := old.uuid, found(t, p, name)
		if done {
			want = d.(*draft).uuid
		}
		if is.uuid != want {
			t.Errorf("%d: the name is %s's, not %s's", i, is.uuid, want)
		}
	}
	if out := strings.Fields(run(t, "lvs", "--noheadings", "--options", "lv_name", p.Source.Name)); !slices.Equal(out, []string{"tp", "v0", "v1", "v2"}) {
		t.Errorf("the group has %q", out)
	}
}

// made makes a volume, and opens it to leave its name.
func made(t *testing.T, b backends.Backend, p backends.Pool, n backends.NewVolume) *volume {
	t.Helper()
	n.Size = 1 << 20
	d, err := b.(backends.Creator).Create(t.Context(), p, n)
	if err != nil {
		t.Fatal(err)
	}
	if !d.Clean() {
		t.Error("a new thin volume does not read as zeros")
	}
	err = d.Commit(t.Context(), func([]byte) error { return nil })
	if err := errors.Join(err, d.Close()); err != nil {
		t.Fatal(err)
	}
	v, err := b.(backends.Taker).Take(t.Context(), p, n.Name)
	if err != nil {
		t.Fatal(err)
	}
	return v.(*volume)
}

func found(t *testing.T, p backends.Pool, name string) logicalVolume {
	t.Helper()
	_, v, err := volumeOf(t.Context(), p, name)
	if err != nil {
		t.Fatal(err)
	}
	return *v
}

const (
	uuid  = "AbCdEf-AbCd-AbCd-AbCd-AbCd-AbCd-AbCdEf"
	vgRow = `"vg_name":"g","vg_uuid":"` + uuid + `","vg_size":"2143289344","vg_free":"2134900736","vg_extent_size":"4194304","vg_missing_pv_count":"0"`
)

// lvRow is a volume of a report.
func lvRow(name, attr, size, origin, pool, data string) string {
	meta := ""
	if attr[0] == 't' {
		meta = "1048576"
	}
	return fmt.Sprintf(`{"lv_name":%q,"lv_uuid":%q,"lv_size":%q,"lv_attr":%q,"lv_active":"active","origin":%q,"pool_lv":%q,"data_percent":%q,"metadata_percent":"","lv_metadata_size":%q}`, name, uuid, size, attr, origin, pool, data, meta)
}

func reported(lv ...string) []byte {
	return []byte(`{"report":[{"vg":[{` + vgRow + `}],"pv":[{"pv_name":"/dev/x","pv_missing":"","pe_start":"1048576"},{"pv_name":"[unknown]","pv_missing":"missing"}],"lv":[` + strings.Join(lv, ",") + `],"seg":[{"lv_name":"pool","lv_uuid":"","seg_pe_ranges":"","chunk_size":"65536"},{"lv_name":"thin","lv_uuid":"","seg_pe_ranges":"","chunk_size":"0"}]}]}`)
}

func TestReport(t *testing.T) {
	for _, c := range []struct{ report, want string }{
		{string(reported()), "{g " + uuid + " 2143289344 2134900736 4194304 0 [/dev/x] []} <nil>"},
		{
			string(reported(lvRow("b", "-wi-a-----", "4194304", "", "", ""), lvRow("a", "Vwi-a-tz--", "8388608", "o", "p", "12.50"))),
			"{g " + uuid + " 2143289344 2134900736 4194304 0 [/dev/x] [{a " + uuid + " 8388608 12.5 -1 0 0 86 true true o p []} {b " + uuid + " 4194304 -1 -1 0 0 45 false true   []}]} <nil>",
		},
		{`{"report":[{"vg":[]}]}`, "{  0 0 0 0 [] []} it is not of one group"},
		{`{"report":[{"vg":[{"vg_name":"g"}]}]}`, "{g  0 0 0 0 [] []} it has no vg_uuid"},
		{string(reported(`{"lv_name":"b"}`)), "{g " + uuid + " 2143289344 2134900736 4194304 0 [/dev/x] [{b  0 -1 -1 0 0 0 false false   []}]} it has no lv_uuid"},
		{`x`, "{  0 0 0 0 [] []} invalid character 'x' looking for beginning of value"},
	} {
		g, err := parse([]byte(c.report))
		if got := fmt.Sprint(g, " ", err); got != c.want {
			t.Errorf("%s\nis %s\nnot %s", c.report, got, c.want)
		}
	}
}

// Where a volume lies is told as it is on the device, in bytes.
func TestExtents(t *testing.T) {
	v := logicalVolume{uuid: uuid}
	g := group{extent: 4 << 20, volumes: []logicalVolume{v}}
	begins := map[string]int64{"/dev/x": 1 << 20}
	for _, on := range []string{"/dev/x:0-1 /dev/x:5-5", "", "a_rimage_0:0-1", "/dev/missing:0-1"} {
		g.place(uuid, on, begins)
	}
	g.place("another", "/dev/x:0-1", begins)
	want := []record.Extent{{Device: "/dev/x", Start: 1 << 20, End: 9 << 20}, {Device: "/dev/x", Start: 21 << 20, End: 25 << 20}}
	if !reflect.DeepEqual(g.volumes[0].lies, want) {
		t.Errorf("%+v", g.volumes[0].lies)
	}
}

func TestNames(t *testing.T) {
	for name, fits := range map[string]bool{"a": true, "vm.1-root+x_": true, "a b": false, "ä": false, "snapshot1": false, "a_tmeta": false, "-a": false, ".": false, strings.Repeat("a", 101): false} {
		if err := New().CheckName(name); (err == nil) != fits {
			t.Errorf("%q: %v", name, err)
		}
	}
	for name, fits := range map[string]bool{"vg0": true, "": false, "a/b": false, "..": false, "-v": false, strings.Repeat("a", 61): false} {
		if err := (Backend{}).CheckSource(record.Source{Name: name}); (err == nil) != fits || err != nil && record.CodeOf(err) != record.Invalid {
			t.Errorf("group %q: %v", name, err)
		}
	}
	if err := (Backend{}).CheckSource(record.Source{Name: "v", Devices: []string{"sda"}}); record.CodeOf(err) != record.Invalid {
		t.Errorf("a device without a path: %v", err)
	}
}

// A snapshot has a name in LVM, and that name no other meaning.
func TestNamesOfSnapshots(t *testing.T) {
	for _, c := range []struct{ volume, snapshot, lv string }{
		{"a", "s", ".a+-s.storaged"}, {"a+", "s+-t", ".a+++-s++-t.storaged"}, {"a+-b", "c", ".a++-b+-c.storaged"}, {"a", "b+-c", ".a+-b++-c.storaged"},
	} {
		name := record.SnapshotFile(c.volume, c.snapshot)
		if is := inLVM(name); is != c.lv || named(is) != name || checkName(name) != nil {
			t.Errorf("%s is %s there, and that is %s here (%v)", name, is, named(is), checkName(name))
		}
	}
	for _, lv := range []string{"a", "a+-b", ".j.storaged", ".a+b+-c.storaged", ".a+-.storaged", ".+-a.storaged", ".a+-b+-c.storaged"} {
		if is := named(lv); is != lv && inLVM(is) != lv {
			t.Errorf("%s is taken for %s", lv, is)
		}
	}
	for _, name := range []string{record.SnapshotFile("a", "b c"), record.SnapshotFile("a", "x_tmeta"), record.SnapshotFile("a", strings.Repeat("b", 100))} {
		if err := checkName(name); record.CodeOf(err) != record.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	if path := (Backend{}).Locate(backends.Pool{Source: record.Source{Name: "g"}}, record.SnapshotFile("a", "s")).Path; path != "/dev/g/.a+-s.storaged" {
		t.Errorf("it is at %s", path)
	}
}

func TestDevicesOfVolumesAreKnownByTheirUUIDs(t *testing.T) {
	digits := strings.ReplaceAll(uuid, "-", "")
	other := strings.Repeat("0", 32)
	if g, v, ok := identified("LVM-" + digits + other); !ok || g != uuid || v != "000000-0000-0000-0000-0000-0000-000000" || New().CheckIdentity(v) != nil {
		t.Errorf("%s, %s, %v", g, v, ok)
	}
	for _, bad := range []string{"", "LVM-" + digits, "LVM-" + digits + other + "-tpool", "mpath-" + digits + other} {
		if _, _, ok := identified(bad); ok {
			t.Errorf("%q is taken for a volume's", bad)
		}
	}
	if is := escaped("vg-0") + "-" + escaped("a-b"); is != "vg--0-a--b" {
		t.Errorf("%s", is)
	}
}

// A job gets what it needs and no more.
func TestGrants(t *testing.T) {
	for _, c := range []struct {
		use  backends.Use
		want string
	}{
		{backends.Use{}, "report()"},
		{backends.Use{Name: "a", Reads: true, Makes: true, Job: "j"}, "report() open(look  a) open(read  a) create(.j.storaged ) create-thin(.j.storaged  ) open(write  .j.storaged) rename( .j.storaged a) remove( .j.storaged) mend(.j.storaged) mend(a)"},
		{backends.Use{Name: "a", Makes: true, Job: "j", Left: "i"}, "report() create(.j.storaged ) create-thin(.j.storaged  ) open(write  .j.storaged) rename( .j.storaged a) remove( .j.storaged) mend(.j.storaged) mend(a) open(write  .i.storaged) rename( .i.storaged .j.storaged) remove( .i.storaged) mend(.i.storaged)"},
		{backends.Use{Name: "a", Makes: true, Job: "j", Origin: "o", Replaces: true}, "report() share(.j.storaged  o) resize( .j.storaged ) create(.j.storaged ) create-thin(.j.storaged  ) open(write  .j.storaged) rename( .j.storaged a) remove( .j.storaged) mend(.j.storaged) mend(a) rename( a .j-replaced.storaged) rename( .j-replaced.storaged a) remove( .j-replaced.storaged) mend(.j-replaced.storaged)"},
		{backends.Use{Name: "a", Takes: true}, "report() open(write  a) remove( a) mend(a)"},
		{backends.Use{Name: "a", Takes: true, To: "b"}, "report() open(write  a) remove( a) mend(a) rename( a b)"},
		{backends.Use{Name: "a", Sizes: []int64{5, 4194304}}, "report() resize( a 5) resize( a 4194304)"},
	} {
		var got []string
		for _, e := range New().(backends.Deputed).Grants(backends.Pool{}, c.use) {
			got = append(got, e.Do+"("+strings.Join(e.Args, " ")+")")
		}
		if is := strings.Join(got, " "); is != c.want {
			t.Errorf("%+v\nis %s\nnot %s", c.use, is, c.want)
		}
	}
}

// What is asked of a deputy by somebody who was taken over does nothing that is no errand.
func TestErrandsAreChecked(t *testing.T) {
	p := backends.Pool{Type: "logical", Target: "/dev/none", Source: record.Source{Name: "none"}}
	for _, e := range []backends.Errand{
		{Do: "sh"}, {Do: doReport, Args: []string{"x"}}, {Do: doCreate, Args: []string{"a", "1"}}, {Do: doCreate, Args: []string{".a b.storaged", "1"}},
		{Do: doCreate, Args: []string{".j.storaged", "-1"}}, {Do: doCreate, Args: []string{".j.storaged", "100%FREE"}}, {Do: doRename, Args: []string{"", "../x", "a"}},
		{Do: doCreateThin, Args: []string{"a", "1", "tp"}}, {Do: doCreateThin, Args: []string{".j.storaged", "1", "-x"}}, {Do: doCreateThin, Args: []string{".j.storaged", "x", "tp"}},
		{Do: doShare, Args: []string{"a", "", "b"}}, {Do: doShare, Args: []string{".j.storaged", "", "b"}},
		{Do: doOpen, Args: []string{"read", uuid, "a"}}, {Do: doResize, Args: []string{"", "a", "1"}},
	} {
		if a, err := New().(backends.Deputed).Errand(t.Context(), p, e); err == nil || a.File != nil {
			t.Errorf("%v: done", e)
		}
	}
	p.Source.Name = "a b"
	if _, err := New().(backends.Deputed).Errand(t.Context(), p, backends.Errand{Do: doReport}); err == nil || !strings.Contains(err.Error(), "bad name") {
		t.Errorf("a group of that name: %v", err)
	}
}

// Nobody's snapshots end by a write.
func TestWhatIsSharedIsNotWrittenTo(t *testing.T) {
	const mib = "1048576"
	for _, c := range []struct {
		name, want string
		volumes    []string
	}{
		{"plain", "", []string{lvRow("plain", "-wi-a-----", mib, "", "", "")}},
		{"origin", "has snapshots", []string{lvRow("origin", "owi-a-s---", mib, "", "", "")}},
		{"snap", "is a snapshot", []string{lvRow("snap", "swi-a-s---", mib, "origin", "", "1.0")}},
		{"thin", "", []string{lvRow("thin", "Vwi-a-tz--", mib, "", "pool", "0.00"), lvRow("pool", "twi-aotz--", mib+"0", "", "", "90.00")}},
	} {
		g, err := parse(reported(c.volumes...))
		if err != nil {
			t.Fatal(err)
		}
		err = g.writable(backends.Pool{Source: record.Source{Name: "g"}}, g.find(c.name))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%q: %v", c.volumes, err)
		}
	}
}

// A write to a thin volume has the room that is left of its pool up to a percentage, by its data
// and by its metadata; and it takes what the volume has not, or shares with others.
func TestRoomOfThinVolumes(t *testing.T) {
	const gib = "1073741824"
	thin := func(filled string) string { return lvRow("thin", "Vwi-a-tz--", "1048576", "", "pool", filled) }
	pool := func(filled, tables string) string {
		return strings.Replace(lvRow("pool", "twi-aotz--", gib, "", "", filled), `"metadata_percent":""`, `"metadata_percent":"`+tables+`"`, 1)
	}
	for _, c := range []struct {
		want    string
		volumes []string
	}{
		{"53687091 65536 1048576", []string{thin("0.00"), pool("90.00", "0.00")}},
		{"0 65536 0", []string{thin("100.00"), pool("99.00", "0.00")}},
		{"53687091 65536 524288", []string{thin("50.00"), pool("90.00", "50.00")}},
		{"10737418 65536 524288", []string{thin("50.00"), pool("10.00", "94.00")}},
		{"53687091 65536 1048576", []string{thin("50.00"), lvRow("s", "Vwi-a-tz--", "1048576", "thin", "pool", "50.00"), pool("90.00", "1.00")}},
		{"is not known", []string{thin("0.00")}},
	} {
		g, err := parse(reported(c.volumes...))
		if err != nil {
			t.Fatal(err)
		}
		room, err := g.room(backends.Pool{Source: record.Source{Name: "g"}}, g.find("thin"), 95)
		is := fmt.Sprint(room.Left, room.Grain, room.Lacks)
		if err != nil {
			is = err.Error()
		}
		if !strings.Contains(is, c.want) || err == nil && !strings.Contains(room.Of, `thin pool "pool" of volume group "g"`) {
			t.Errorf("%q: %s (%s), not %s", c.volumes, is, room.Of, c.want)
		}
	}
}

// Pools of thin volumes are shown, and are none to be used.
func TestWhatHoldsVolumesIsNone(t *testing.T) {
	g, err := parse(reported(lvRow("pool", "twi-aotz--", "8388608", "", "", "25.00"), lvRow("thin", "Vwi-a-tz--", "4194304", "", "pool", "50.00")))
	if err != nil {
		t.Fatal(err)
	}
	if why := g.find("pool").ignored(); !strings.Contains(why, "25.0 %") {
		t.Errorf("the pool: %q", why)
	}
	if info := g.find("thin").info(backends.Pool{Source: record.Source{Name: "g"}}); info.Allocation != 2097152 || info.Path != "/dev/g/thin" {
		t.Errorf("the volume: %+v", info)
	}
	names := []string{}
	for _, v := range g.volumes {
		names = append(names, v.name)
	}
	if !slices.Equal(names, []string{"pool", "thin"}) {
		t.Errorf("%q", names)
	}
}

func TestFoundGroups(t *testing.T) {
	const report = `{"report":[{"pv":[{"pv_name":"/dev/sdb","vg_name":"two"},{"pv_name":"/dev/sda","vg_name":"one"},{"pv_name":"/dev/sdc","vg_name":"two"},{"pv_name":"[unknown]","vg_name":"two"},{"pv_name":"/dev/sdd","vg_name":""}]}]}`
	found, err := parseDevices([]byte(report))
	want := []record.Source{{Name: "one", Devices: []string{"/dev/sda"}, Format: format}, {Name: "two", Devices: []string{"/dev/sdb", "/dev/sdc"}, Format: format}}
	if err != nil || !reflect.DeepEqual(found, want) {
		t.Errorf("%+v, %v", found, err)
	}
	for _, bad := range []string{"x", `{"report":[{"pv":[{"pv_name":"/dev/sda"}]}]}`} {
		if _, err := parseDevices([]byte(bad)); err == nil {
			t.Errorf("%s is read", bad)
		}
	}
}

// A group tells how full its thin pools are, and of nothing else that holds volumes.
func TestThinPoolsAreAmongTheFiguresOfAGroup(t *testing.T) {
	pool := lvRow("pool", "twi-aotz--", "1000000", "", "", "12.50")
	g, err := parse(reported(lvRow("plain", "-wi-a-----", "4194304", "", "", ""), strings.Replace(pool, `"metadata_percent":""`, `"metadata_percent":"25.00"`, 1),
		lvRow("thin", "Vwi-a-tz--", "8388608", "", "pool", "50.00"), lvRow("snap", "swi-a-s---", "4194304", "plain", "", "1.00"), lvRow("off", "twi---tz--", "1000000", "", "", "")))
	if err != nil {
		t.Fatal(err)
	}
	want := []record.ThinPool{{Name: "pool", Capacity: 1000000, Allocation: 125000, MetadataCapacity: 1048576, MetadataAllocation: 262144}}
	if got := g.info(backends.Pool{}).ThinPools; !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
}
