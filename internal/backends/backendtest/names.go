package backendtest

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"

	"storaged/internal/backends"
)

// BadNames is the corpus of names that everything must refuse alike, each with
// a word of the reason.
func BadNames() map[string]string {
	return map[string]string{
		"":                             "empty",
		".":                            "directory",
		"..":                           "directory",
		"a/b":                          "slash",
		"/":                            "slash",
		"/etc/passwd":                  "slash",
		"../x":                         "slash",
		"x/..":                         "slash",
		strings.Repeat("a", 256):       "256 bytes",
		strings.Repeat("ä", 128):       "256 bytes",
		"a\nb":                         "printed",
		"a\x00b":                       "printed",
		"\x00":                         "printed",
		"a\tb":                         "printed",
		"a\x1b[31mb":                   "printed",
		"a\x7fb":                       "printed",
		"-x":                           "dash",
		"--help":                       "dash",
		"a\xff":                        "UTF-8",
		"\xc0\xaf":                     "UTF-8",
		"\xed\xa0\x80":                 "UTF-8",
		"a\u202eb":                     "printed",
		"a\u2066b":                     "printed",
		"a\u200bb":                     "printed",
		"a\u00a0b":                     "printed",
		"a\u2028b":                     "printed",
		" a":                           "space",
		"a ":                           "space",
		"a\n":                          "space",
		"\u3000a":                      "space",
		" ":                            "space",
		".x.storaged":                  "reserved",
		"..storaged":                   "reserved",
		"..x.storaged":                 "reserved",
		".0199-a.b.c.storaged":         "reserved",
		"." + strings.Repeat("x", 300): "more than 255",
	}
}

// GoodNames are odd names that nothing may refuse, or take for something else
// than names.
func GoodNames() []string {
	return []string{
		"a", "base.raw", "vm 1.raw", strings.Repeat("a", 255), strings.Repeat("ä", 127),
		"json:", `json:{"driver":"raw"}`, "nbd:unix:x", "a,locking=off", "a=b", "x-", ".hidden", "...", "..x",
		".storaged", "x.storaged", "größe", "ディスク", "a'b\"c", "a\\b", "%s", "$HOME", "a;b", "*", "\ufffd", "e\u0301",
	}
}

var nameCases = []testCase{
	{"bad ones are refused by every method", badNamesRefused},
	{"odd ones are names and nothing else", goodNamesWork},
	{"each has a place that tells it", namesLocated},
}

func badNamesRefused(r *rig) {
	r.started().made("a", []byte("a"))
	above := filepath.Dir(r.p.Target)
	for name, word := range BadNames() {
		_, create := r.creator().Create(r.Context(), r.p, small(name, "job"))
		_, read := r.b.Open(r.Context(), r.p, name, backends.ReadShared)
		_, write := r.b.Open(r.Context(), r.p, name, backends.WriteExclusive)
		_, settle := r.creator().Settle(r.Context(), r.p, name, "job", nil)
		for method, err := range map[string]error{
			"create": create, "read": read, "write": write, "settle": settle,
			"remove": r.remove(r.Context(), r.p, name), "check": r.b.CheckName(name),
		} {
			if err == nil || !strings.Contains(err.Error(), word) || errors.Is(err, backends.ErrNotFound) {
				r.Errorf("%s of %.20q: %v", method, name, err)
			}
		}
	}
	r.has("a")
	if made, err := filepath.Glob(filepath.Join(above, "*")); err != nil || len(made) > 1 && above != "/dev" {
		r.Errorf("beside the pool there is %q (%v)", made, err)
	}
}

func goodNamesWork(r *rig) {
	r.started()
	names := r.goodNames()
	for _, name := range names {
		r.made(name, []byte(name))
	}
	r.has(names...)
	for _, name := range names {
		r.holds(name, []byte(name))
		r.must(r.remove(r.Context(), r.p, name))
	}
	r.has()
}

// goodNames are those of GoodNames that volumes of the type can have.
func (r *rig) goodNames() []string {
	r.Helper()
	return slices.DeleteFunc(GoodNames(), func(name string) bool {
		return r.b.CheckName(name) != nil
	})
}

func namesLocated(r *rig) {
	r.started().made("a", []byte("a"))
	info, err := r.b.Look(r.Context(), r.p, r.n("a"))
	r.must(err)
	if at := r.b.Locate(r.p, r.n("a")); info.Path != at.Path || info.Type != at.Type || at.Key != "" && info.Key != at.Key {
		r.Errorf("foretold as %+v, found as %+v", at, info)
	}
	seen := map[string]bool{}
	for _, name := range r.goodNames() {
		path := r.b.Locate(r.p, name).Path
		if target, parsed := r.b.Parse(path); target != r.p.Target || parsed != name || seen[path] {
			r.Errorf("%q at %q is told as %q of the pool at %q", name, path, parsed, target)
		}
		seen[path] = true
	}
	if draft := r.b.LocateDraft(r.p, "job"); draft != "" && seen[draft] {
		r.Errorf("a draft lies at %q, as a volume may", draft)
	}
}
