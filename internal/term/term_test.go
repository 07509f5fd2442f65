package term

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"storaged/internal/term/ptytest"
)

func TestEscapeShowsWhatCannotBeSeen(t *testing.T) {
	for in, want := range map[string]string{
		"plain name.raw": "plain name.raw", "größe-漢字": "größe-漢字", "a\nb": `a\nb`, "\x1b[31mred": `\x1b[31mred`,
		"\u202egpj.exe": `\u202egpj.exe`, "zero\u200bwidth": `zero\u200bwidth`, "\xff\xfe": `\xff\xfe`, "tab\there": `tab\there`,
		"\u2028": `\u2028`, "\ufeff": `\ufeff`, "\u2066x\u2069": `\u2066x\u2069`, "\x00": `\x00`, "\x7f": `\x7f`, "\u009b": `\u009b`, "\U000e0001": `\U000e0001`,
		"\ufffd": "\ufffd", "back\\slash": "back\\slash",
	} {
		if got := Escape(in); got != want {
			t.Errorf("Escape(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestEscapeLeavesNothingToInterpret(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := string(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")) + rapid.String().Draw(t, "text")
		got := Escape(in)
		if strings.ContainsFunc(got, unprintable) {
			t.Fatalf("Escape(%q) = %q", in, got)
		}
		if Escape(got) != got {
			t.Fatalf("Escape is not stable on %q", got)
		}
	})
}

func TestWidth(t *testing.T) {
	for in, want := range map[string]int{"": 0, "abc": 3, "漢字": 4, "e\u0301": 1, "ü": 1, "🎉": 2} {
		if got := Width(in); got != want {
			t.Errorf("Width(%q) = %d, want %d", in, got, want)
		}
	}
}

// stage is an output whose clock and width the test moves.
type stage struct {
	bytes.Buffer
	now   time.Time
	width int
}

func (s *stage) output(terminal, color bool) Output {
	s.now, s.width = time.Unix(1000, 0), 80
	return Output{W: s, Terminal: terminal, Color: color, Width: func() int { return s.width }, Now: func() time.Time { return s.now }}
}

func (s *stage) take() string {
	defer s.Reset()
	return s.String()
}

func at(percent float64) Figures {
	return Figures{
		Name: "job 412", Title: "job 412: clone images/vm1.raw", Percent: &percent,
		Amount: "700 MiB of 2.00 GiB", Rate: "488 MiB/s", Left: "3 s left", Phase: "copy",
	}
}

func TestPlainLinesComeEveryTenPercentAndFiveMinutes(t *testing.T) {
	var s stage
	d := NewDisplay(s.output(false, false))
	d.Start(at(0))
	if got, want := s.take(), "job 412: clone images/vm1.raw: 0.0 %, copy, 700 MiB of 2.00 GiB, 488 MiB/s, 3 s left\n"; got != want {
		t.Fatalf("at the start: %q", got)
	}
	steps := []struct {
		after   time.Duration
		percent float64
		says    bool
	}{
		{time.Minute, 11, false},      // a new tenth, but too soon
		{4 * time.Minute, 11.5, true}, // five minutes after the last line
		{time.Hour, 19.9, false},      // long, but no new tenth
		{time.Second, 20, true},       // a new tenth
		{4*time.Minute + 59*time.Second, 99, false},
		{time.Second, 99, true},
	}
	for _, step := range steps {
		s.now = s.now.Add(step.after)
		d.Update(at(step.percent))
		if got := s.take(); (got != "") != step.says {
			t.Errorf("at %g %%: printed %q", step.percent, got)
		}
	}
	d.End("job 412: succeeded in 4 s")
	if got := s.take(); got != "job 412: succeeded in 4 s\n" {
		t.Errorf("at the end: %q", got)
	}
}

func TestPlainLineWithoutKnownPercent(t *testing.T) {
	var s stage
	d := NewDisplay(s.output(false, false))
	d.Start(Figures{Title: "job 5: refresh images", Waits: "waits for 410"})
	d.Update(Figures{Title: "job 5: refresh images"})
	if got := s.take(); got != "job 5: refresh images: waits for 410\n" {
		t.Errorf("%q", got)
	}
	d.Report()
	if got := s.take(); got != "job 5: refresh images\n" {
		t.Errorf("reported %q", got)
	}
}

func TestHundredPercentIsNeverShownEarly(t *testing.T) {
	for p, want := range map[float64]string{99.96: "99.9 %", 100: "100.0 %", 0: "0.0 %", 34.2: "34.2 %", 0.3: "0.3 %"} {
		if got := percent(&p); got != want {
			t.Errorf("%g shows as %q, want %q", p, got, want)
		}
	}
}

func TestBarIsRedrawnInPlace(t *testing.T) {
	var s stage
	d := NewDisplay(s.output(true, false))
	d.Start(at(50))
	want := "\rjob 412  50.0 %  [======      ]  700 MiB of 2.00 GiB  488 MiB/s  3 s left  copy\x1b[K"
	if got := s.take(); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	d.Update(at(51))
	if got := s.take(); got != "" {
		t.Errorf("redrawn at once: %q", got)
	}
	s.now = s.now.Add(redrawInterval)
	d.Update(at(52))
	if got := s.take(); !strings.HasPrefix(got, "\rjob 412  52.0 %") {
		t.Errorf("not redrawn: %q", got)
	}
	d.Note("connection to the daemon is lost\n")
	if got := s.take(); !strings.HasPrefix(got, "\r\x1b[Kconnection to the daemon is lost\\n\njob 412  52.0 %") {
		t.Errorf("note: %q", got)
	}
	d.End("done")
	if got := s.take(); got != "\r\x1b[Kdone\n" {
		t.Errorf("end: %q", got)
	}
	d.Note("after")
	if got := s.take(); got != "after\n" {
		t.Errorf("after the end: %q", got)
	}
}

func TestBarShowsAtOnceForWhomItWaits(t *testing.T) {
	var s stage
	d := NewDisplay(s.output(true, true))
	d.Start(Figures{Name: "job 5", Title: "job 5: clone a/b"})
	s.take()
	d.Update(Figures{Name: "job 5", Title: "job 5: clone a/b", Waits: "waits for 410"})
	if got := s.take(); !strings.Contains(got, "\x1b[33mwaits for 410\x1b[0m") {
		t.Errorf("%q", got)
	}
}

func TestBarFitsAnyWidth(t *testing.T) {
	var s stage
	d := NewDisplay(s.output(true, false))
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringOfN(rapid.Rune(), 0, 60, -1)
		p := rapid.Float64Range(0, 100).Draw(t, "percent")
		f := Figures{
			Name: text.Draw(t, "name"), Title: text.Draw(t, "title"), Percent: &p, Amount: text.Draw(t, "amount"),
			Rate: text.Draw(t, "rate"), Left: text.Draw(t, "left"), Phase: text.Draw(t, "phase"), Waits: text.Draw(t, "waits"),
		}
		s.width = rapid.IntRange(0, 200).Draw(t, "width")
		if got := d.bar(f); Width(got) > max(s.width-1, 0) {
			t.Fatalf("%d columns for a width of %d: %q", Width(got), s.width, got)
		}
	})
}

func TestBarOnARealTerminal(t *testing.T) {
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "")
	pty := ptytest.Open(t, 60)
	out := NewOutput(pty.Slave)
	if !out.Terminal || !out.Color || out.Width() != 60 {
		t.Fatalf("terminal %v, colour %v, width %d", out.Terminal, out.Color, out.Width())
	}
	pty.Resize(40)
	if out.Width() != 40 {
		t.Errorf("width %d after the change", out.Width())
	}
	NewDisplay(out).Start(at(50))
	pty.Expect("50.0 %")
	t.Setenv("NO_COLOR", "1")
	if out := NewOutput(pty.Slave); out.Color || !out.Terminal {
		t.Error("NO_COLOR is not honoured")
	}
	t.Setenv("TERM", "dumb")
	if NewOutput(pty.Slave).Terminal {
		t.Error("a dumb terminal gets a bar")
	}
}

func TestConfirm(t *testing.T) {
	for in, want := range map[string]bool{"y\n": true, "YES\n": true, " y \n": true, "n\n": false, "\n": false, "": false, "yo\n": false, "y": true} {
		var out bytes.Buffer
		got, err := Confirm(strings.NewReader(in), &out, "delete images/a?")
		if got != want || err != nil || out.String() != "delete images/a? [y/N] " {
			t.Errorf("answer %q: %v, %v, %q", in, got, err, out.String())
		}
	}
}

func TestAskLeavesTheRestOfTheInput(t *testing.T) {
	in := strings.NewReader("first\nsecond\n")
	for _, want := range []string{"first", "second", ""} {
		if got, err := Ask(in, &bytes.Buffer{}, "?"); got != want || err != nil {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
	}
}

type item struct {
	name string
	size int
}

var itemColumns = []Column[item]{
	{Name: "name", Cell: func(i item) string { return i.name }},
	{Name: "size", Right: true, Cell: func(i item) string { return fmt.Sprint(i.size) }},
	{Name: "note", Cell: func(item) string { return "" }},
	{Name: "twice", Right: true, Extra: true, Cell: func(i item) string { return fmt.Sprint(2 * i.size) }},
}

func TestTable(t *testing.T) {
	items := []item{{"vm1.raw", 7}, {"漢字\n", 12345}, {"", 0}}
	for name, c := range map[string]struct {
		layout Layout
		want   string
	}{
		"all":        {Layout{}, "NAME      SIZE  NOTE\nvm1.raw      7  -\n漢字\\n   12345  -\n-            0  -\n"},
		"no headers": {Layout{NoHeaders: true, Columns: []string{"name"}}, "vm1.raw\n漢字\\n\n-\n"},
		"chosen":     {Layout{Columns: []string{"TWICE", "name"}}, "TWICE  NAME\n   14  vm1.raw\n24690  漢字\\n\n    0  -\n"},
	} {
		var out bytes.Buffer
		if err := Table(&out, itemColumns, items, c.layout); err != nil || out.String() != c.want {
			t.Errorf("%s: %v\ngot:\n%swant:\n%s", name, err, out.String(), c.want)
		}
	}
}

// A table takes no more columns than the terminal has, as long as that can be:
// what has a weight is cut, and after that columns are left out.
func TestTableFitsTheTerminal(t *testing.T) {
	columns := []Column[item]{
		{Name: "name", Weight: 2, Cell: func(i item) string { return i.name }},
		{Name: "size", Right: true, Cell: func(i item) string { return fmt.Sprint(i.size) }},
		{Name: "note", Weight: 1, Spare: 1, Cell: func(i item) string { return "as " + i.name }},
	}
	items := []item{{"a-very-long-name-of-a-volume", 1234567}, {"漢字漢字漢字漢字漢字漢字", 1}}
	for width, want := range map[int]string{
		0:   "a-very-long-name-of-a-volume  1234567  as a-very-long-name-of-a-volume\n漢字漢字漢字漢字漢字漢字            1  as 漢字漢字漢字漢字漢字漢字\n",
		100: "a-very-long-name-of-a-volume  1234567  as a-very-long-name-of-a-volume\n漢字漢字漢字漢字漢字漢字            1  as 漢字漢字漢字漢字漢字漢字\n",
		45:  "a-very-long-name-of-a…  1234567  as a-very-l…\n漢字漢字漢字漢字漢字…         1  as 漢字漢字…\n",
		30:  "a-very-long-name-of-…  1234567\n漢字漢字漢字漢字漢字…        1\n",
		5:   "a-very-long…  1234567\n漢字漢字漢…         1\n",
	} {
		var out bytes.Buffer
		if err := Table(&out, columns, items, Layout{NoHeaders: true, Width: width}); err != nil || out.String() != want {
			t.Errorf("%d columns: %v\ngot:\n%swant:\n%s", width, err, out.String(), want)
		}
	}
	var out bytes.Buffer
	if err := Table(&out, columns, items[:1], Layout{NoHeaders: true, Width: 30, Columns: []string{"name", "size", "note"}}); err != nil || out.String() != "a-very-long…  1234567  as a-very-l…\n" {
		t.Errorf("what was asked for by name is left out: %q", out.String())
	}
}

func TestSeveralBarsAreRedrawnInPlace(t *testing.T) {
	var s stage
	out := s.output(true, false)
	lines := 4
	out.Height = func() int { return lines }
	d := NewDisplay(out)
	total := 5
	d.Rest(func(fit int) string {
		if fit == total {
			return ""
		}
		return fmt.Sprintf("and %d more", total-fit)
	})
	bars := func(n int) (all []Figures) {
		for i := range n {
			all = append(all, Figures{Name: fmt.Sprint("job ", i), Title: fmt.Sprint("job ", i)})
		}
		return all
	}
	d.Start(bars(5)...)
	if got := s.take(); got != "\rjob 0\x1b[K\njob 1\x1b[K\nand 3 more\x1b[K" {
		t.Errorf("five in four lines: %q", got)
	}
	d.Note("a word")
	if got := s.take(); got != "\r\x1b[2A\x1b[Ja word\njob 0\x1b[K\njob 1\x1b[K\nand 3 more\x1b[K" {
		t.Errorf("a note: %q", got)
	}
	total = 2
	d.Start(bars(2)...)
	if got := s.take(); got != "\r\x1b[2Ajob 0\x1b[K\njob 1\x1b[K\x1b[J" {
		t.Errorf("two: %q", got)
	}
	d.End("")
	if got := s.take(); got != "\r\x1b[1A\x1b[J" {
		t.Errorf("the end: %q", got)
	}
}

// No number is cut where it finds no room, and what stands still says so.
func TestNoNumberOfABarIsCut(t *testing.T) {
	var s stage
	d := NewDisplay(s.output(true, false))
	p := 43.2
	f := Figures{Name: "job 412", Title: "job 412: volume.verify images/a.raw", Waits: "paused (user)", Percent: &p}
	for width, want := range map[int]string{
		80: "job 412: volume.verify images/a.raw  paused (user)  43.2 %  [=======          ]", 31: "job 412  paused (user)  43.2 %", 23: "paused (user)  43.2 %", 15: "paused (user)", 9: "paused …",
	} {
		s.width = width
		if got := d.bar(f); got != want {
			t.Errorf("%d columns: %q, not %q", width, got, want)
		}
	}
}

func TestTableNamesItsColumns(t *testing.T) {
	err := Table(&bytes.Buffer{}, itemColumns, nil, Layout{Columns: []string{"color"}})
	if err == nil || err.Error() != `no column "color"; there are name, size, note, twice` {
		t.Error(err)
	}
}

// Of a path both ends are left, whatever the scripts and marks in it, and never
// more than the columns there are.
func TestCutInTheMiddleLeavesBothEnds(t *testing.T) {
	for _, c := range []struct {
		width    int
		in, want string
	}{
		{20, "images/vm1.raw", "images/vm1.raw"}, {14, "images/vm1.raw", "images/vm1.raw"}, {13, "images/vm1.raw", "images…m1.raw"}, {12, "images/vm1.raw", "images…1.raw"},
		{3, "images/vm1.raw", "i…w"}, {2, "images/vm1.raw", "i…"}, {1, "images/vm1.raw", "…"}, {0, "images/vm1.raw", ""},
		{9, "漢字漢字漢字", "漢字…漢字"}, {8, "漢字漢字漢字", "漢字…字"}, {5, "abcdefe\u0301g", "ab…e\u0301g"},
	} {
		if got := cutMiddle(c.in, c.width); got != c.want {
			t.Errorf("%q in %d columns: %q, not %q", c.in, c.width, got, c.want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		in, width := Escape(rapid.String().Draw(t, "text")), rapid.IntRange(0, 40).Draw(t, "width")
		got := cutMiddle(in, width)
		if Width(got) > width || Width(in) <= width && width > 0 && got != in || !utf8.ValidString(got) {
			t.Fatalf("%q in %d columns is %q", in, width, got)
		}
	})
}

// Where a table is too wide, cells are shortened before anything is cut.
func TestShortCellsComeBeforeCuts(t *testing.T) {
	columns := []Column[item]{
		{Name: "name", Weight: 1, Middle: true, Cell: func(i item) string { return i.name }},
		{Name: "made", Cell: func(item) string { return "2026-11-21 09:12:00" }, Short: func(item) string { return "3 h ago" }},
		{Name: "size", Spare: 1, Cell: func(i item) string { return fmt.Sprint(i.size) }},
	}
	items := []item{{"images/a-long-name-01.raw", 7}}
	for width, want := range map[int]string{
		0:  "images/a-long-name-01.raw  2026-11-21 09:12:00  7\n",
		49: "images/a-long-name-01.raw  2026-11-21 09:12:00  7\n",
		48: "images/a-long-name-01.raw  3 h ago  7\n",
		34: "images/a-lo…ame-01.raw  3 h ago  7\n",
		31: "images/a-lo…ame-01.raw  3 h ago\n",
		23: "images/a-l…me-01.raw  3 h ago\n",
	} {
		var out bytes.Buffer
		if err := Table(&out, columns, items, Layout{NoHeaders: true, Width: width}); err != nil || out.String() != want {
			t.Errorf("%d columns: %v\ngot:\n%swant:\n%s", width, err, out.String(), want)
		}
	}
}

func TestSortIsByFiguresAndLeavesWhatHasNoneBehind(t *testing.T) {
	columns := []Column[item]{
		{Name: "name", Cell: func(i item) string { return i.name }},
		{Name: "size", Order: func(a, b item) int { return a.size - b.size }, Cell: func(i item) string {
			if i.size == 0 {
				return "-"
			}
			return fmt.Sprint(i.size)
		}},
	}
	for by, want := range map[string]string{
		"size": "a b c d ", "-size": "c b a d ", "name": "a b c d ", "-NAME": "d c b a ",
	} {
		rows := []item{{"b", 9}, {"d", 0}, {"a", 7}, {"c", 10}}
		if err := Sort(columns, rows, by); err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, r := range rows {
			got += r.name + " "
		}
		if got != want {
			t.Errorf("by %s: %s, not %s", by, got, want)
		}
	}
	if err := Sort(columns, nil, "-color"); err == nil || err.Error() != `no column "color"; there are name, size` {
		t.Error(err)
	}
}
