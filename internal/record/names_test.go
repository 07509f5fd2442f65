package record_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"storaged/internal/backends"
	"storaged/internal/backends/backendtest"
	"storaged/internal/record"
)

func TestPatternsAreThoseOfTheShell(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		matches       bool
	}{
		{"", "a", true},
		{"", ".a", true},
		{"*", "a", true},
		{"vm?.qcow2", "vm1.qcow2", true},
		{"vm[12]", "vm3", false},
		{`a\*`, "a*", true},
		{`a\*`, "ab", false},
		{"*", ".a", false},
		{"?a", ".a", false},
		{"[.]a", ".a", false},
		{".*", ".a", true},
		{`\.*`, ".a", true},
		{".a", ".a", true},
	} {
		if ok, err := record.MatchName(c.pattern, c.name); ok != c.matches || err != nil {
			t.Errorf("%q matches %q: %v, %v", c.pattern, c.name, ok, err)
		}
	}
	if _, err := record.MatchName("[", "a"); err == nil {
		t.Error("a bad pattern is taken")
	}
}

func TestBadNamesAreRefusedWithTheReason(t *testing.T) {
	for name, word := range backendtest.BadNames() {
		err := record.CheckName(name)
		if err == nil {
			t.Errorf("%q passed", name)
			continue
		}
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q: error %q does not say %q", name, err, word)
		}
		checkHarmless(t, err.Error())
	}
}

func TestOddButHarmlessNamesPass(t *testing.T) {
	for _, name := range backendtest.GoodNames() {
		if err := record.CheckName(name); err != nil {
			t.Errorf("%v", err)
		}
	}
}

// checkHarmless fails if a text could do something to a terminal or a log.
func checkHarmless(t *testing.T, text string) {
	t.Helper()
	if !utf8.ValidString(text) || strings.ContainsAny(text, "\x00\x07\x1b\n\r\u202e\u2066\u200b\u2028") {
		t.Errorf("hostile bytes in %q", text)
	}
}

func FuzzCheckName(f *testing.F) {
	for name := range backendtest.BadNames() {
		f.Add(name)
	}
	for _, name := range backendtest.GoodNames() {
		f.Add(name)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, name string) {
		err := record.CheckName(name)
		if err != nil {
			checkHarmless(t, err.Error())
			return
		}
		if strings.ContainsAny(name, "/\x00\n") || name[0] == '-' || len(name) > 255 || record.Reserved(name) {
			t.Errorf("%q passed", name)
		}
		path := filepath.Join(dir, name)
		if filepath.Dir(path) != dir || filepath.Base(path) != name {
			t.Errorf("%q leads to %q", name, path)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Errorf("%q is no file name: %v", name, err)
		}
		os.Remove(path)
		if got := record.Escape(name); len(name) < 100 && !strings.ContainsAny(name, `"\`) && got != name {
			t.Errorf("%q shown as %q though harmless", name, got)
		}
	})
}

func TestPathsOfPools(t *testing.T) {
	for path, ok := range map[string]bool{
		"/srv/images": true, "/a": true, "/srv/größe": true, "/srv/a b": true,
		"": false, "/": false, "srv": false, "/srv/": false, "/srv/../etc": false, "/srv//x": false,
		"/srv/a\nb": false, "/srv/a\x00": false, "/srv/\xff": false, "/srv/a\u202eb": false,
		"/" + strings.Repeat("a", 4000): false,
	} {
		err := record.CheckPath(path)
		if (err == nil) != ok {
			t.Errorf("%.20q: %v", path, err)
		}
		if err != nil {
			checkHarmless(t, err.Error())
		}
	}
}

func TestDraftNamesAreReservedAndFit(t *testing.T) {
	for _, job := range []string{"0199a3f2-7c1e-7f00-8000-0123456789ab", "hand-4711", strings.Repeat("x", 100)} {
		if err := record.CheckJob(job); err != nil {
			t.Errorf("%v", err)
		}
		if name := record.DraftName(job); !record.Reserved(name) || len(name) > 255 || record.CheckName(name) == nil {
			t.Errorf("temporary name %q", name)
		}
	}
	for _, job := range []string{"", "..", "../x", "a/b", "a b", "-a", "a\nb", "a\x00", "ä", strings.Repeat("x", 101)} {
		if err := record.CheckJob(job); err == nil {
			t.Errorf("job %q passed", job)
		} else {
			checkHarmless(t, err.Error())
		}
	}
}

func TestEscapeShowsHostileTextHarmlesslyAndCutsIt(t *testing.T) {
	for in, want := range map[string]string{
		"":                       "",
		"a b.raw":                "a b.raw",
		"größe":                  "größe",
		"a\nb":                   `a\nb`,
		"\x1b[2J":                `\x1b[2J`,
		"a\u202eb":               `a\u202eb`,
		"\xff":                   `\xff`,
		`a\nb`:                   `a\\nb`,
		strings.Repeat("y", 600): strings.Repeat("y", 512) + "…",
	} {
		if got := record.Escape(in); got != want {
			t.Errorf("%q became %q", in, got)
		}
	}
}

func TestBusySaysWho(t *testing.T) {
	for _, c := range []struct{ holder, want string }{
		{"pid 812 (qemu-system-x86)", `"/p/a" is in use by pid 812 (qemu-system-x86)`},
		{"", `"/p/a" is in use by another program`},
	} {
		if got := (&backends.BusyError{Object: "/p/a", Holder: c.holder}).Error(); got != c.want {
			t.Errorf("%q", got)
		}
	}
}

// Letters of any script are shown as they are; what could deceive is escaped.
func TestRefusalsShowLettersAsTheyAre(t *testing.T) {
	for name, want := range map[string]string{"-ünï": `"-ünï"`, "-日本": `"-日本"`, "-\u202eab": `"-\u202eab"`, "-a\x1b[31m": `"-a\x1b[31m"`} {
		if err := record.CheckName(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, without %s", name, err, want)
		}
		if got := record.Short(name); got != want {
			t.Errorf("%q is shown as %s, not %s", name, got, want)
		}
	}
}
