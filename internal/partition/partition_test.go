package partition

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"storaged/internal/testenv"
)

const (
	mib  = 1 << 20
	size = 64 * mib
)

// memory is a disk of sectors, which remembers what was written since it was last made
// durable.
type memory struct {
	durable map[int64][512]byte
	pending map[int64][512]byte
	cut     func(m *memory)
}

func newMemory() *memory {
	return &memory{durable: map[int64][512]byte{}, pending: map[int64][512]byte{}}
}

func (m *memory) ReadAt(b []byte, off int64) (int, error) {
	for i := 0; i < len(b); i += 512 {
		at := (off + int64(i)) / 512
		sector, ok := m.pending[at]
		if !ok {
			sector = m.durable[at]
		}
		copy(b[i:], sector[:])
	}
	return len(b), nil
}

func (m *memory) WriteAt(b []byte, off int64) (int, error) {
	for i := 0; i+512 <= len(b); i += 512 {
		m.pending[(off+int64(i))/512] = [512]byte(b[i:])
	}
	return len(b), nil
}

func (m *memory) Sync() error {
	if m.cut != nil {
		m.cut(m)
	}
	maps.Copy(m.durable, m.pending)
	m.pending = map[int64][512]byte{}
	return nil
}

// torn is the disk after a power failure: of what was written since it was last made durable
// some sectors are there, and others are not.
func (m *memory) torn(r *rand.Rand) *memory {
	disk := &memory{durable: maps.Clone(m.durable), pending: map[int64][512]byte{}}
	for at, sector := range m.pending {
		if r.IntN(2) == 0 {
			disk.durable[at] = sector
		}
	}
	return disk
}

// damage changes a byte.
func (m *memory) damage(at int64) {
	sector := m.durable[at/512]
	sector[at%512]++
	m.durable[at/512] = sector
}

// content is all of the disk.
func (m *memory) content(size int64) []byte {
	b := make([]byte, size)
	m.ReadAt(b, 0)
	return b
}

// holding is a disk with that content.
func holding(content []byte) *memory {
	m := newMemory()
	for i := 0; i+512 <= len(content); i += 512 {
		if sector := [512]byte(content[i:]); sector != ([512]byte{}) {
			m.durable[int64(i)/512] = sector
		}
	}
	return m
}

func newDisk(t *testing.T, label string) (*memory, *Table) {
	t.Helper()
	m := newMemory()
	table, err := New(label, size, 512)
	if err != nil {
		t.Fatal(err)
	}
	return m, saved(t, m, table)
}

// saved is a table as it is read after it was saved.
func saved(t *testing.T, m *memory, table *Table) *Table {
	t.Helper()
	if err := table.Save(m); err != nil {
		t.Fatal(err)
	}
	again, err := Read(m, size, 512)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(again.Partitions, table.Partitions) || again.ID != table.ID {
		t.Fatalf("read is\n%+v, saved was\n%+v", again.Partitions, table.Partitions)
	}
	return again
}

// A logical partition without an extended one needs the number of one for that.
func TestLogicalPartitionBesideFourPrimaryOnes(t *testing.T) {
	_, table := newDisk(t, DOS)
	for number := 1; number <= 4; number++ {
		if _, err := table.Add(number, Alignment, "job"); err != nil {
			t.Fatal(err)
		}
	}
	for _, number := range []int{5, 7} {
		if _, err := table.Add(number, Alignment, "job"); err == nil || !strings.Contains(err.Error(), "all taken") {
			t.Errorf("%d: %v", number, err)
		}
	}
}

func layoutOf(table *Table) (text string) {
	for _, p := range table.Partitions {
		text += fmt.Sprintf("%d %s %d+%d %s %q\n", p.Number, p.Kind, p.Start/512, p.Size()/512, p.Type, p.Mark)
	}
	return text
}

// numbers of partitions that tables of both kinds can have, of DOS three primary and others
// logical ones.
var numbers = map[string][]int{GPT: {1, 2, 7, 128}, DOS: {1, 2, 5, 6, 7}}

// sfdisk is what another program makes of a table.
func sfdisk(t *testing.T, disk []byte) (label string, partitions []string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "d")
	if err := errors.Join(os.WriteFile(file, disk[:mib], 0o600), os.Truncate(file, size)); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for at, sector := range holding(disk).durable { // the rest is a hole
		if _, err := f.WriteAt(sector[:], at*512); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	c := exec.Command(testenv.Tool(t, "sfdisk"), "--json", file)
	var stderr strings.Builder
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil || stderr.Len() > 0 {
		t.Fatalf("sfdisk: %v: %s", err, stderr.String())
	}
	var said struct {
		Table struct {
			Label      string
			Partitions []struct {
				Node, Type  string
				Start, Size int64
			}
		} `json:"partitiontable"`
	}
	if err := json.Unmarshal(out, &said); err != nil {
		t.Fatal(err)
	}
	for _, p := range said.Table.Partitions {
		partitions = append(partitions, fmt.Sprintf("%s %d+%d %s", strings.TrimPrefix(p.Node, file), p.Start, p.Size, strings.ToLower(p.Type)))
	}
	return said.Table.Label, partitions
}

// Another program reads what is written here, and finds nothing wrong with it.
func TestTablesAreReadByOthers(t *testing.T) {
	for label, all := range numbers {
		m, table := newDisk(t, label)
		for i, n := range all {
			if _, err := table.Add(n, int64(i+1)*mib+512, "job"+strconv.Itoa(n)); err != nil {
				t.Fatalf("%s %d: %v", label, n, err)
			}
			table = saved(t, m, table)
			if p := table.Marked("job" + strconv.Itoa(n)); p == nil || p.Number != n || p.Start%Alignment != 0 {
				t.Errorf("%s: what a job makes is %+v", label, p)
			}
			table.Complete(n)
			table = saved(t, m, table)
		}
		if err := table.Resize(2, 3*mib); (err == nil) == (table.Most(2) < 3*mib) {
			t.Errorf("%s: resized: %v", label, err)
		}
		if err := table.Remove(1); err != nil {
			t.Error(err)
		}
		table = saved(t, m, table)
		named, found := sfdisk(t, m.content(size))
		var want []string
		for _, p := range table.Partitions {
			kind := p.Type
			if label == DOS {
				kind = strings.TrimPrefix(kind, "0")
			}
			want = append(want, fmt.Sprintf("%d %d+%d %s", p.Number, p.Start/512, p.Size()/512, kind))
		}
		if named != label || !slices.Equal(found, want) {
			t.Errorf("%s is read as %s with\n%q, and is\n%q", label, named, found, want)
		}
	}
}

// Tables that others made are read, and changed without another change of theirs.
func TestTablesOfOthersAreRead(t *testing.T) {
	for script, want := range map[string]string{
		"label: gpt\nstart=2048,size=2048\nstart=8192,size=4096,name=x\n":                                                         "1 primary 2048+2048 " + linuxGUID + " \"\"\n2 primary 8192+4096 " + linuxGUID + " \"\"\n",
		"label: dos\nstart=2048,size=2048,bootable\nstart=8192,size=40960,type=5\nstart=10240,size=2048\nstart=16384,size=2048\n": "1 primary 2048+2048 83 \"\"\n2 extended 8192+40960 05 \"\"\n5 logical 10240+2048 83 \"\"\n6 logical 16384+2048 83 \"\"\n",
	} {
		file := filepath.Join(t.TempDir(), "d")
		if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Truncate(file, size)); err != nil {
			t.Fatal(err)
		}
		c := exec.Command(testenv.Tool(t, "sfdisk"), "-q", file)
		c.Stdin = strings.NewReader(script)
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		disk, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		m := holding(disk)
		table, err := Read(m, size, 512)
		if err != nil || layoutOf(table) != want {
			t.Errorf("%s is %v\n%s, want\n%s", script, err, layoutOf(table), want)
		}
		number := len(table.Partitions) + 1
		if table.Label == DOS {
			number = 7
		}
		if _, err := table.Add(number, mib, "job"); err != nil {
			t.Fatal(err)
		}
		table = saved(t, m, table)
		if err := table.Remove(number); err != nil {
			t.Fatal(err)
		}
		saved(t, m, table)
		_, now := sfdisk(t, m.content(size))
		_, before := sfdisk(t, disk)
		if !slices.Equal(now, before) {
			t.Errorf("after one came and went it is\n%q, was\n%q", now, before)
		}
	}
}

// Whenever the power fails, the table is that of before or that of after.
func TestPowerFailures(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for label, all := range numbers {
		m, table := newDisk(t, label)
		step := func(change func() error) {
			t.Helper()
			before := layoutOf(table)
			if err := change(); err != nil {
				t.Fatal(err)
			}
			after := layoutOf(table)
			m.cut = func(m *memory) {
				for range 20 {
					is, err := Read(m.torn(random), size, 512)
					if err != nil {
						t.Fatalf("%s: %v", label, err)
					}
					if got := layoutOf(is); got != before && got != after {
						t.Fatalf("%s: there is\n%s, before\n%s, after\n%s", label, got, before, after)
					}
				}
			}
			table = saved(t, m, table)
			m.cut = nil
		}
		for _, n := range all {
			step(func() error {
				_, err := table.Add(n, 2*mib, "a job of more than thirty-six characters"+strconv.Itoa(n))
				return err
			})
			step(func() error { table.Pass(n, "another"); return nil })
			step(func() error { table.Complete(n); return nil })
			step(func() error { return table.Resize(n, mib) })
		}
		for _, n := range slices.Backward(all) {
			step(func() error { return table.Remove(n) })
		}
	}
}

// Whatever is made and removed, partitions lie apart, and free extents beside them.
func TestRandomChanges(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for _, label := range []string{GPT, DOS} {
		m, table := newDisk(t, label)
		for range 300 {
			n := 1 + random.IntN(9)
			switch random.IntN(4) {
			case 0:
				_ = table.Remove(n)
			case 1:
				_ = table.Resize(n, random.Int64N(12*mib))
			default:
				before := table.Free()
				p, err := table.Add(n, random.Int64N(9*mib), "job")
				if err == nil && !slices.ContainsFunc(before, func(x Extent) bool { return x.Start <= p.Start && p.End <= x.End }) {
					t.Fatalf("%+v was made, and free was %+v", p, before)
				}
			}
			table = saved(t, m, table)
			for _, x := range table.Free() {
				for _, p := range table.Partitions {
					if p.Kind != Extended && x.Start < p.End && p.Start < x.End {
						t.Fatalf("%+v is free, and there is %+v", x, p)
					}
				}
			}
		}
	}
}

// What cannot be is refused, and leaves the table as it was.
func TestRefusals(t *testing.T) {
	_, table := newDisk(t, DOS)
	add := func(n int, size int64) error {
		_, err := table.Add(n, size, "job")
		return err
	}
	for n := 1; n <= 3; n++ {
		if err := add(n, mib); err != nil {
			t.Fatal(err)
		}
	}
	room, full := errors.AsType[*RoomError](add(4, 100*mib))
	if !full || room.Largest != 60*mib {
		t.Errorf("too large: %+v", room)
	}
	for n, word := range map[int]string{0: "from 1", 6: "number 5", 1: ErrTaken.Error()} {
		if err := add(n, mib); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%d: %v", n, err)
		}
	}
	if err := errors.Join(add(5, mib), add(6, mib)); err != nil {
		t.Fatal(err)
	}
	if err := add(4, mib); !errors.Is(err, ErrTaken) {
		t.Errorf("the number of the extended partition: %v", err)
	}
	for n, word := range map[int]string{5: "number 6, first", 4: "holds"} {
		if err := table.Remove(n); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("removing %d: %v", n, err)
		}
	}
	if err := errors.Join(table.Remove(6), table.Remove(5), table.Remove(4), add(4, 20*mib)); err != nil {
		t.Error(err)
	}
	_, gpt := newDisk(t, GPT)
	if _, err := gpt.Add(129, mib, "job"); err == nil {
		t.Error("a number beyond the table")
	}
}

// What lies on a disk that is no table is none, and what is damaged is not taken for good.
func TestWhatIsNoTable(t *testing.T) {
	vfat := make([]byte, size)
	copy(vfat[0x52:], "FAT32")
	copy(vfat[510:], bootSignature)
	for what, disk := range map[string][]byte{"nothing": make([]byte, size), "a file system": vfat} {
		if _, err := Read(holding(disk), size, 512); !errors.Is(err, ErrNone) {
			t.Errorf("%s: %v", what, err)
		}
	}
	m, table := newDisk(t, GPT)
	if _, err := table.Add(1, mib, "job"); err != nil {
		t.Fatal(err)
	}
	table = saved(t, m, table)
	m.damage(512 + 60) // the first copy is damaged: the second counts, and mends it
	again, err := Read(m, size, 512)
	if err != nil || layoutOf(again) != layoutOf(table) {
		t.Fatalf("%v\n%s", err, layoutOf(again))
	}
	again.Complete(1)
	saved(t, m, again)
	m.damage(size - 512 + 60)
	if again, err = Read(m, size, 512); err != nil || again.Partitions[0].Mark != "" {
		t.Errorf("the first copy was not mended: %v", err)
	}
	m.damage(512 + 60)
	if _, err = Read(m, size, 512); err == nil || errors.Is(err, ErrNone) {
		t.Errorf("two damaged copies: %v", err)
	}
}

func FuzzRead(f *testing.F) {
	for label, all := range numbers {
		table, err := New(label, 8*mib, 512)
		m := newMemory()
		if err == nil {
			_, err = table.Add(all[0], mib, "job")
		}
		if err = errors.Join(err, table.Save(m)); err != nil {
			f.Fatal(err)
		}
		b := m.content(8 * mib)
		f.Add(b[:40<<10], b[8*mib-40<<10:])
	}
	f.Fuzz(func(t *testing.T, head, tail []byte) {
		if len(head) > mib || len(tail) > mib {
			return
		}
		disk := holding(head)
		for at, sector := range holding(tail).durable {
			disk.durable[8*mib/512-int64(len(tail))/512+at] = sector
		}
		table, err := Read(disk, 8*mib, 512)
		if err != nil {
			return
		}
		for _, p := range table.Partitions {
			if p.Start < 512 || p.End > 8*mib || p.Size() <= 0 {
				t.Errorf("%+v", p)
			}
		}
		for n := range 8 {
			_, _ = table.Add(n, mib, "job")
			_ = table.Remove(n)
		}
		_ = table.Save(disk)
	})
}
