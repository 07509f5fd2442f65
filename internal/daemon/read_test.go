package daemon

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
)

// loaded reads files, the first of which is the config file and the others are beside it,
// and gives what is wrong with them, without the directory.
func loaded(t *testing.T, files map[string]string) (c Config, wrong []string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c = DefaultConfig()
	c.Helper = "/bin/true"
	faults := Faults(c.Load(filepath.Join(dir, "s.toml"), true))
	for _, f := range append(faults, Faults(c.Complete())...) {
		wrong = append(wrong, strings.ReplaceAll(f.Error(), dir+"/", ""))
	}
	return c, wrong
}

// All that is wrong is said, each with the line on which it stands.
func TestAllThatIsWrongIsSaidWithItsLine(t *testing.T) {
	_, got := loaded(t, map[string]string{
		"s.toml": `# settings
log_level = "loud"
ruler = 3

[limits]
running = "many"
  "running_pool" = 0
ruling = { a = 1 }

[[notify]]
name = "one"
url = "https://h"

[[notify]]
name = "two"
program = "/bin/true"
[notify.labels]
team = 3

[stop]
drain = "soon"
`,
		"s.toml.d/10-more.toml": `history = 7
[pools]
read_every = "1ms"
[[notify]]
name = "one"
url = "https://other"
`,
		"s.toml.d/20-broken.toml": "\n= 3\n",
		"s.toml.d/.hidden.toml":   "[",
		"s.toml.d/readme":         "[",
	})
	want := []string{
		`s.toml:3: unknown key "ruler"`,
		`s.toml:6: limits.running: it is a whole number, and not a text in quotes`,
		`s.toml:8: unknown key "limits.ruling"`,
		`s.toml:16: notify[1].program: it is a list, and not a text in quotes`,
		`s.toml:17: notify[1].labels: what is in it are texts in quotes`,
		`s.toml:21: stop.drain: `,
		`s.toml.d/10-more.toml:1: history is a table of settings: [history]`,
		`s.toml.d/20-broken.toml:2: `,
		`s.toml:2: log level is trace, debug, info, warn or error, not "loud"`,
		`s.toml:7: limits.running_pool must be at least 1, not 0`,
		`s.toml.d/10-more.toml:3: pools.read_every must be at least 1s`,
		`s.toml.d/10-more.toml:4: two receivers of notices are called "one"`,
	}
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || !strings.HasPrefix(got[i], want[i]) {
			t.Fatalf("it says\n%s\nnot\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

// What follows from a setting that is wrong is no fault of its own.
func TestWhatFollowsFromAWrongSettingIsNotSaid(t *testing.T) {
	_, got := loaded(t, map[string]string{"s.toml": "socket = \"run/s.sock\"\n[libvirt]\nsocket_ro = \"ro.sock\"\n"})
	want := []string{
		`s.toml:1: socket is an absolute path, not "run/s.sock"`,
		`s.toml:3: libvirt.socket_ro is the absolute path of a socket, not "ro.sock"`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("it says\n%s\nnot\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// What comes later counts; receivers add up.
func TestFilesBesideTheConfigFileAreReadInOrder(t *testing.T) {
	c, wrong := loaded(t, map[string]string{
		"s.toml":             "log_level = \"warn\"\n[limits]\nrunning = 1\nqueued = 2\n[[notify]]\nname = \"a\"\nurl = \"https://h\"\n",
		"s.toml.d/9-b.toml":  "[limits]\nrunning = 3\n[[notify]]\nname = \"c\"\nurl = \"https://h\"\n",
		"s.toml.d/10-a.toml": "[limits]\nrunning = 4\nrunning_pool = 5\n[[notify]]\nname = \"b\"\nurl = \"https://h\"\n",
	})
	if len(wrong) > 0 || c.LogLevel != "warn" || c.Limits.Running != 3 || c.Limits.Queued != 2 || c.Limits.RunningPool != 5 {
		t.Errorf("%q; level %s, %+v", wrong, c.LogLevel, c.Limits)
	}
	names := ""
	for _, r := range c.receivers {
		names += r.Name
	}
	if names != "abc" || len(c.Files) != 3 {
		t.Errorf("receivers %q, files %q", names, c.Files)
	}
}

func TestLinesOfKeys(t *testing.T) {
	const text = `a = 1 # [x]
"b c" = "]]\" = #"
d.e = [ # one
  "[[f]]", '#',
] 
g = """
[h]
i = 1"""" # it ends with a quote
j = '''
[k] \'''
[ l . m ]
n = { o = "}", p = [1,
2] }
[[q.r]]
s = ""

[[q.r]]
s = ''
[q.r.t]
u = 1
[[q.r.v]]
w = 1`
	got := keyLines(text)
	want := map[string]int{
		"a": 1, "b c": 2, "d.e": 3, "g": 6, "j": 9, "l.m": 11, "l.m.n": 12, "q.r[0]": 14, "q.r[0].s": 15, "q.r[1]": 17, "q.r[1].s": 18,
		"q.r[1].t": 19, "q.r[1].t.u": 20, "q.r[1].v[0]": 21, "q.r[1].v[0].w": 22,
	}
	if !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	var tree map[string]any
	if _, err := toml.Decode(text, &tree); err != nil {
		t.Error(err)
	}
}

func FuzzLinesOfKeys(f *testing.F) {
	f.Add("a = 1\n[b]\nc = \"\"\n[[d]]\ne=[1]")
	f.Fuzz(func(t *testing.T, text string) {
		lines := keyLines(text) // whatever it is, it comes to an end
		var tree map[string]any
		meta, err := toml.Decode(text, &tree)
		if err != nil || strings.ContainsAny(text, "\"'[") {
			return
		}
		for _, key := range meta.Keys() {
			if strings.Contains(text, "{") {
				return
			}
			if name := strings.Join(key, "."); lines[name] == 0 && meta.Type(key...) != "Hash" {
				t.Errorf("%q: no line of %q in %v", text, name, lines)
			}
		}
	})
}

// Of what changes, all is said: what holds at once, and what from the next start on.
func TestChangesOfSettings(t *testing.T) {
	was, wrong := loaded(t, map[string]string{"s.toml": ""})
	is, more := loaded(t, map[string]string{"s.toml": `log_format = "json"
[limits]
running = 7
[upload]
silence = "2h"
[resume]
wipe = "keep"
[stop]
drain = "1m"
[[notify]]
name = "a"
url = "https://secret"
`})
	if len(wrong)+len(more) > 0 {
		t.Fatal(wrong, more)
	}
	if got, want := was.changes(is), []string{"limits.running 64 -> 7", "notify", "stop.drain 0s -> 1m"}; !slices.Equal(got, want) {
		t.Errorf("changes %q, want %q", got, want)
	}
	want := []string{`log_format stays "text"; "json" holds`, `resume.wipe stays "auto"; "keep" holds`, `upload.silence stays "1h"; "2h" holds`}
	got := was.fixedBut(is)
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || !strings.HasPrefix(got[i], want[i]) {
			t.Fatalf("for later: %q, want %q", got, want)
		}
	}
}
