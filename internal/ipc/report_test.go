package ipc

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// sampleReport has two items that differ.
func sampleReport() *Report {
	var r Report
	for _, m := range samples() {
		switch m := m.(type) {
		case Summary:
			r.Summary = m
		case Item:
			ok := Item{Name: "b.raw", Path: "/p/b.raw", State: "succeeded"}
			r.Items = []Item{m, ok}
		}
	}
	return &r
}

// savedReport gives the report's file and its bytes.
func savedReport(t testing.TB, r *Report) (path string, data []byte, digest string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "result")
	digest, err := SaveReport(path, r)
	if err != nil {
		t.Fatal(err)
	}
	data, err = os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return path, data, digest
}

func TestAReportComesBackWithItsDigest(t *testing.T) {
	want := sampleReport()
	path, data, saved := savedReport(t, want)
	got, digest, err := LoadReport(path)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) || got.ItemCount != 2 {
		t.Errorf("came back as\n%+v, want\n%+v", got, want)
	}
	if digest != saved || digest != digestOf(data) {
		t.Errorf("digest %s, saved %s, of the bytes %s", digest, saved, digestOf(data))
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("beside the result: %v, %v", entries, err)
	}
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
}

func TestATornReportNeverLoads(t *testing.T) {
	_, data, _ := savedReport(t, sampleReport())
	for cut := range len(data) {
		if r, _, err := readReport(bytes.NewReader(data[:cut])); !errors.Is(err, ErrTorn) {
			t.Fatalf("cut at %d of %d: %+v, %v", cut, len(data), r, err)
		}
	}
}

func TestAFlippedBitNeverLoads(t *testing.T) {
	_, data, _ := savedReport(t, sampleReport())
	for bit := range 8 * len(data) {
		flipped := bytes.Clone(data)
		flipped[bit/8] ^= 1 << (bit % 8)
		if r, _, err := readReport(bytes.NewReader(flipped)); err == nil {
			t.Fatalf("bit %d of byte %d (%q): loaded %+v", bit%8, bit/8, data[max(0, bit/8-8):bit/8+1], r)
		}
	}
}

func TestAZeroedOrLongerReportNeverLoads(t *testing.T) {
	_, data, _ := savedReport(t, sampleReport())
	for name, in := range map[string][]byte{
		"empty": nil, "zeros": make([]byte, len(data)), "tail of zeros": append(bytes.Clone(data), 0, 0, 0, 0, 0, 0, 0, 0, 0),
		"one byte more": append(bytes.Clone(data), 0), "twice": slices.Concat(data, data),
		"last half lost": append(bytes.Clone(data[:len(data)/2]), make([]byte, len(data)-len(data)/2)...),
	} {
		if _, _, err := readReport(bytes.NewReader(in)); err == nil {
			t.Errorf("%s: loaded", name)
		}
	}
}

// sealed gives a file of these records with a true End: what a helper that
// lies well could leave.
func sealed(t testing.TB, records ...[]byte) []byte {
	data := slices.Concat(records...)
	b, err := Encode(Frame{Seq: uint64(len(records)), Body: End{Records: len(records), Digest: digestOf(data)}}, MaxRecord)
	if err != nil {
		t.Fatal(err)
	}
	return append(data, b...)
}

func encoded(t testing.TB, i int, m Message) []byte {
	t.Helper()
	b, err := Encode(Frame{Seq: uint64(i), Body: m}, MaxRecord)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestALyingReportNeverLoads(t *testing.T) {
	two := Summary{Outcome: Succeeded, ItemCount: 2}
	none := Summary{Outcome: Succeeded}
	item := Item{Name: "a"}
	timed, err := Encode(Frame{MonoNS: 1, Body: none}, MaxRecord)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"no record":        sealed(t),
		"an item missing":  sealed(t, encoded(t, 0, two), encoded(t, 1, item)),
		"an item too many": sealed(t, encoded(t, 0, none), encoded(t, 1, item)),
		"no summary":       sealed(t, encoded(t, 0, item)),
		"summary last":     sealed(t, encoded(t, 0, item), encoded(t, 1, Summary{Outcome: Succeeded, ItemCount: 1})),
		"two summaries":    sealed(t, encoded(t, 0, none), encoded(t, 1, none)),
		"wrong number":     sealed(t, encoded(t, 1, none)),
		"number twice":     sealed(t, encoded(t, 0, two), encoded(t, 1, item), encoded(t, 1, item)),
		"a time":           sealed(t, timed),
		"a frame inside":   sealed(t, encoded(t, 0, none), encoded(t, 1, Beat{})),
		"end too early":    append(sealed(t, encoded(t, 0, none)), encoded(t, 2, item)...),
	} {
		if r, _, err := readReport(bytes.NewReader(data)); err == nil {
			t.Errorf("%s: loaded %+v", name, r)
		}
	}
	if _, _, err := readReport(bytes.NewReader(sealed(t, encoded(t, 0, none)))); err != nil {
		t.Errorf("an honest one: %v", err)
	}
}

func TestRecordsOfANewerHelperArePassedOver(t *testing.T) {
	unknown := rawFrame([]byte{0x94, 0xcc, 200, 1, 0, 0x80})
	r, _, err := readReport(bytes.NewReader(sealed(t, encoded(t, 0, Summary{Outcome: Canceled}), unknown)))
	if err != nil || r.Outcome != Canceled {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestAFileOfEmptyItemsIsBounded(t *testing.T) {
	if _, err := Encode(Frame{Body: Summary{Outcome: Failed, ItemCount: maxItems + 1}}, MaxRecord); err == nil {
		t.Error("more items than a file can hold")
	}
	endless := io.MultiReader(bytes.NewReader(encoded(t, 0, Summary{Outcome: Failed, ItemCount: 3})), &emptyItems{})
	var err error
	used := allocated(func() { _, _, err = readReport(endless) })
	if err == nil || used > 1<<20 {
		t.Errorf("error %v, %d bytes allocated", err, used)
	}
}

// emptyItems is an endless file of the shortest items.
type emptyItems struct {
	n    uint32
	rest []byte
}

func (e *emptyItems) Read(p []byte) (int, error) {
	if len(e.rest) == 0 {
		e.n++
		e.rest = rawFrame([]byte{0x94, 0xcc, byte(TypeItem), 0xce, byte(e.n >> 24), byte(e.n >> 16), byte(e.n >> 8), byte(e.n), 0, 0x80})
	}
	n := copy(p, e.rest)
	e.rest = e.rest[n:]
	return n, nil
}

func TestWhateverLiesInPlaceOfAReportIsNotWaitedFor(t *testing.T) {
	dir := t.TempDir()
	real, _, _ := savedReport(t, sampleReport())
	for name, put := range map[string]func(string) error{
		"no regular file": func(p string) error { return unix.Mkfifo(p, 0o600) },
		"link":            func(p string) error { return os.Symlink(real, p) },
		"directory":       func(p string) error { return os.Mkdir(p, 0o700) },
		"device":          func(p string) error { return os.Symlink("/dev/zero", p) },
		"too long": func(p string) error {
			return errors.Join(os.WriteFile(p, nil, 0o600), os.Truncate(p, maxFile+1))
		},
	} {
		path := filepath.Join(dir, strings.ReplaceAll(name, " ", "-"))
		if err := put(path); err != nil {
			t.Fatal(err)
		}
		if _, _, err := LoadReport(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		} else if name == "no regular file" && !strings.Contains(err.Error(), ": "+name) {
			t.Errorf("a fifo: %v", err)
		}
	}
	if _, _, err := LoadReport(filepath.Join(dir, "missing")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
}

func TestTheLongestReportCanBeSaved(t *testing.T) {
	flood := strings.Repeat("\x1b[31m\xff\n", 20_000)
	many := make([]string, 500)
	for i := range many {
		many[i] = flood
	}
	path := "/" + strings.Repeat("日", (maxPath-1)/3)
	failure := &Error{Code: strings.Repeat("c", maxName), Message: flood, Hint: flood, Path: flood, Holder: flood}
	volume := Item{Name: path, Path: path, Key: path, Backing: path, Ignored: flood, Problem: flood, Error: failure, Checksum: strings.Repeat("c", maxSum)}
	r := &Report{Summary: Summary{
		Outcome: Failed, Error: failure, Volume: &volume, Pool: &Pool{Path: path}, Device: path, Limits: many, Warnings: many,
		Phases: slices.Repeat([]Spent{{Name: strings.Repeat("n", maxName), NS: 1 << 62}}, MaxPhases),
	}, Items: []Item{volume}}
	file, _, _ := savedReport(t, r)
	got, _, err := LoadReport(file)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(got.Warnings); n != MaxWarnings || got.Warnings[n-1] != "and 469 more, not kept" {
		t.Errorf("%d warnings, last %q", n, got.Warnings[n-1])
	}
	if m := got.Error.Message; len(m) > maxMessage || !strings.HasSuffix(m, "…") || !strings.HasPrefix(m, " [31m\ufffd  [31m") {
		t.Errorf("message of %d bytes: %.40q", len(m), m)
	}
	if len(failure.Message) != len(flood) {
		t.Error("saving changed the caller's error")
	}
}

func TestAReportThatCannotBeReadBackIsNotSaved(t *testing.T) {
	for name, r := range map[string]*Report{
		"no outcome":     {},
		"negative bytes": {Summary: Summary{Outcome: Succeeded, Bytes: -1}},
		"a bad item":     {Summary: Summary{Outcome: Succeeded}, Items: []Item{{Capacity: -1}}},
		"too many items": {Summary: Summary{Outcome: Succeeded}, Items: make([]Item, maxItems+1)},
	} {
		path := filepath.Join(t.TempDir(), "result")
		if _, err := SaveReport(path, r); err == nil {
			t.Errorf("%s: saved", name)
		}
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: something was written: %v", name, err)
		}
	}
}

func TestSavingTellsWhatFailedAndLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "busy")
	if err := os.MkdirAll(filepath.Join(target, "inside"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{target, filepath.Join(dir, "missing", "file")} {
		if err := SaveDurable(path, []byte("x")); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestSavingReplacesALeftoverAndFollowsNoLink(t *testing.T) {
	dir := t.TempDir()
	path, victim := filepath.Join(dir, "result"), filepath.Join(dir, "victim")
	if err := errors.Join(os.WriteFile(path+".tmp", []byte("left by a crash"), 0o600), SaveDurable(path, []byte("new"))); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "new" {
		t.Errorf("%q, %v", got, err)
	}
	if err := errors.Join(os.WriteFile(victim, []byte("precious"), 0o600), os.Symlink(victim, path+".tmp")); err != nil {
		t.Fatal(err)
	}
	if err := SaveDurable(path, []byte("newer")); err == nil {
		t.Error("wrote through a link")
	}
	if got, err := os.ReadFile(victim); err != nil || string(got) != "precious" {
		t.Errorf("victim is %q, %v", got, err)
	}
}

// FuzzReport holds that a report that loads is in bounds, and the same after
// being saved. With seal the input is the records alone, and a true End is put
// behind them: digests are no defence against the one who writes them.
func FuzzReport(f *testing.F) {
	_, data, _ := savedReport(f, sampleReport())
	f.Add(data, 0)
	f.Add(data[:len(data)-3], 0)
	f.Add(encoded(f, 0, Summary{Outcome: Succeeded}), 1)
	f.Add(slices.Concat(encoded(f, 0, Summary{Outcome: Failed, ItemCount: 1}), encoded(f, 1, Item{Name: "a"})), 2)
	for _, bomb := range bombs() {
		f.Add(rawFrame(bomb), 1)
		for _, body := range bodyAround(bomb) {
			f.Add(frameOf(TypeOutcome, body), 1)
		}
	}
	f.Fuzz(func(t *testing.T, in []byte, records int) {
		if records > 0 {
			in = append(bytes.Clone(in), encoded(t, records, End{Records: records, Digest: digestOf(in)})...)
		}
		r, _, err := readReport(bytes.NewReader(in))
		if err != nil {
			return
		}
		path, _, _ := savedReport(t, r)
		again, _, err := LoadReport(path)
		if err != nil || len(again.Items) != r.ItemCount || again.Outcome != r.Outcome {
			t.Fatalf("loaded %+v, saved and loaded again %+v, %v", r, again, err)
		}
	})
}
