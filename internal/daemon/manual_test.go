package daemon

import (
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"storaged/internal/notify"
)

// keysBelow are all keys of a struct in a file, with their tables.
func keysBelow(t reflect.Type, table string) (all []string) {
	for i := range t.NumField() {
		f := t.Field(i)
		name := f.Tag.Get("toml")
		switch {
		case f.Anonymous:
			all = append(all, keysBelow(f.Type, table)...)
		case name == "" || name == "-":
		case isTable(f.Type):
			all = append(all, keysBelow(f.Type, below(table, name))...)
		case f.Type.Kind() == reflect.Slice && isTable(f.Type.Elem()):
			all = append(all, keysBelow(f.Type.Elem(), below(table, name))...)
		default:
			all = append(all, below(table, name))
		}
	}
	return all
}

func TestManualHasEverySetting(t *testing.T) {
	var described []string
	for _, table := range Manual() {
		for _, s := range table.Settings {
			described = append(described, below(table.Name, s.Key))
			if s.Is == "" || s.Type == "" || s.Example == "" || table.Is == "" {
				t.Errorf("it does not say all of %s: %+v", s.Key, s)
			}
		}
	}
	keys := keysBelow(reflect.TypeFor[Config](), "")
	slices.Sort(described)
	slices.Sort(keys)
	if !slices.Equal(described, keys) {
		t.Errorf("the manual has\n%q, and there are\n%q", described, keys)
	}
}

// companions are what a receiver needs beside a key, so that it can be read.
var companions = map[string]string{
	"program": "", "url": "", "url_file": "", "user": "program = [\"/bin/true\"]\n",
	"secret_header": "url = \"https://h\"\nsecret_file = \"/f\"\n", "secret_file": "url = \"https://h\"\nsecret_header = \"A\"\n",
}

// file is a config file with a setting.
func file(table Table, s Setting, value string) string {
	text := s.Key + " = " + value + "\n"
	switch {
	case table.Repeats:
		beside, ok := companions[s.Key]
		if !ok {
			beside = "url = \"https://h\"\n"
		}
		if s.Key != "name" {
			beside += "name = \"one\"\n"
		}
		return "[[" + table.Name + "]]\n" + text + beside
	case table.Name != "":
		return "[" + table.Name + "]\n" + text
	}
	return text
}

// What the manual says that a setting may be it may be, and nothing else.
func TestSettingsAreAsTheManualSays(t *testing.T) {
	refused := func(table Table, s Setting, value string) bool {
		_, wrong := loaded(t, map[string]string{"s.toml": file(table, s, value)})
		return slices.ContainsFunc(wrong, func(w string) bool { return !isOfThisHost(w) })
	}
	for _, table := range Manual() {
		for _, s := range table.Settings {
			right, wrong := []string{s.Example}, []string{}
			if s.Default != "" {
				right = append(right, s.Default)
			}
			for _, w := range s.Words {
				right = append(right, strconv.Quote(w))
			}
			if s.Words != nil {
				wrong = append(wrong, `"nonesuch"`)
			}
			if s.Most > 0 {
				right = append(right, strconv.Itoa(s.Least), strconv.Itoa(s.Most))
				wrong = append(wrong, strconv.Itoa(s.Least-1), strconv.Itoa(s.Most+1))
			}
			for _, v := range right {
				if refused(table, s, v) {
					t.Errorf("refused:\n%s", file(table, s, v))
				}
			}
			for _, v := range wrong {
				if !refused(table, s, v) {
					t.Errorf("not refused:\n%s", file(table, s, v))
				}
			}
		}
	}
}

// isOfThisHost holds for what is wrong because a host need not have what examples name.
func isOfThisHost(wrong string) bool {
	return slices.ContainsFunc([]string{"this host has no such group", "no user", "no helper program", "only root's daemon"}, func(w string) bool { return strings.Contains(wrong, w) })
}

// What the manual calls the default of a receiver's settings is.
func TestManualHasDefaultsOfReceivers(t *testing.T) {
	all := []notify.Receiver{{Name: "one", Program: []string{"/bin/true"}}, {Name: "two", URL: "https://h"}}
	if err := notify.Complete(all); err != nil {
		t.Fatal(err)
	}
	without := map[string]string{}
	for _, table := range Manual() {
		for _, s := range table.Settings {
			if table.Repeats {
				without[s.Key] = s.Without
			}
		}
	}
	if os.Geteuid() == 0 && !strings.HasPrefix(without["user"], all[0].User+",") {
		t.Errorf("user is %q, not %q", all[0].User, without["user"])
	}
	if all[0].Timeout != 30*time.Second || all[1].Timeout != 10*time.Second || without["timeout"] != `"30s" for a program, "10s" for a server` {
		t.Errorf("timeouts are %v and %v, not %s", all[0].Timeout, all[1].Timeout, without["timeout"])
	}
	if string(all[0].Filter.Priority) != without["priority"] {
		t.Errorf("priority is %q, not %q", all[0].Filter.Priority, without["priority"])
	}
}

// keyLine is a key of a table in a file that people read, also one commented out.
var (
	keyLine   = regexp.MustCompile(`^ *#?([a-z_]+) *= ("[^"]*"|[^" #\n]+)`)
	tableLine = regexp.MustCompile(`^ *#?(\[+[a-z]+\]+)`)
)

// shown are the settings that a text shows, by their keys; those of tables that repeat apart.
func shown(text string) map[string]string {
	all, table := map[string]string{}, ""
	for l := range strings.Lines(text) {
		if m := tableLine.FindStringSubmatch(l); m != nil {
			table = strings.Trim(m[1], "[]")
			if strings.HasPrefix(m[1], "[[") {
				table = m[1]
			}
		} else if m := keyLine.FindStringSubmatch(l); m != nil && !strings.HasPrefix(table, "[[") {
			all[below(table, m[1])] = m[2]
		}
	}
	return all
}

// Every setting is in the files that show what they are by default, but those of the packages'
// file that its units say.
func TestSettingsShownByDefaultAreFresh(t *testing.T) {
	byUnits := []string{"socket", "socket_ro", "state_dir", "runtime_dir", "helper", "libvirt.listen", "libvirt.socket", "libvirt.socket_ro", "libvirt.run_dir"}
	packaged, err := os.ReadFile("../../scripts/packaging/storaged.toml")
	if err != nil {
		t.Fatal(err)
	}
	operations, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, documented, ok := strings.Cut(string(operations), "By default they are:\n")
	documented, _, ends := strings.Cut(documented, "\n`")
	if !ok || !ends {
		t.Fatal("operations.md has no settings by default")
	}
	inPackage, inDocs := shown(string(packaged)), shown(documented)
	for key := range inPackage {
		if _, ok := inDocs[key]; !ok {
			t.Errorf("operations.md has no %s", key)
		}
	}
	for _, table := range Manual() {
		for _, s := range table.Settings {
			key := below(table.Name, s.Key)
			if got := inPackage[key]; got != s.Default && !table.Repeats && !slices.Contains(byUnits, key) {
				t.Errorf("storaged.toml of the packages has %s = %s, not %s", key, got, s.Default)
			}
			if got := inDocs[key]; got != s.Default && !table.Repeats {
				t.Errorf("operations.md has %s = %s, not %s", key, got, s.Default)
			}
		}
	}
}
