package tool

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A record of a node gets what is to hold, once, and nothing of the secret stands in it
// where there is none.
func TestRecordOfANode(t *testing.T) {
	const made = "# BEGIN RECORD 2.1.8\nnode.name = iqn.2026-01.test:t\nnode.startup = automatic\niface.initiatorname = <empty>\n" +
		"node.session.auth.authmethod = None\nnode.session.auth.username = old\nnode.session.auth.password = old\nnode.conn[0].address = 192.0.2.1\n# END RECORD\n"
	l := Login{Target: "iqn.2026-01.test:t", Initiator: "iqn.2026-01.test:me", Username: "u", Secret: []byte("s # = s")}
	lines := strings.Split(string(l.record([]byte(made))), "\n")
	for _, want := range []string{
		"node.name = iqn.2026-01.test:t", "node.startup = manual", "node.conn[0].address = 192.0.2.1", "iface.initiatorname = iqn.2026-01.test:me",
		"node.session.auth.authmethod = CHAP", "node.session.auth.username = u", "node.session.auth.password = s # = s",
	} {
		if !slices.Contains(lines, want) {
			t.Errorf("it lacks %q: %q", want, lines)
		}
	}
	for _, gone := range []string{"old", "automatic", "<empty>"} {
		if strings.Contains(strings.Join(lines, "\n"), gone) {
			t.Errorf("%q is left: %q", gone, lines)
		}
	}
	text := string(Login{}.record([]byte(made)))
	if strings.Contains(text, "password") || strings.Contains(text, "username") || !strings.Contains(text, "authmethod = None") || !strings.Contains(text, "<empty>") {
		t.Errorf("without a login it is %q", text)
	}
}

// The record is found, whether the program knows the group of portals or not.
func TestRecordsAreFound(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{"a/portal,1,1/default", "b/portal,1"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, path)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, path), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if found := recordsIn([]*os.File{d}); len(found) != 2 {
		t.Errorf("found %q", found)
	}
	if err := (Login{}).complete([]*os.File{d}); err == nil {
		t.Error("one of two records was taken")
	}
}

func TestTargetsAreRead(t *testing.T) {
	got := parseTargets([]byte("192.0.2.1:3260,1 iqn.a:1\n[2001:db8::1]:3260,1 iqn.a:1\n192.0.2.1:3260,1 iqn.a:2\nwhat is this\n"))
	if !slices.Equal(got, []string{"iqn.a:1", "iqn.a:2"}) {
		t.Errorf("%q", got)
	}
}

// A daemon is there when its socket is.
func TestSocketsAreSeen(t *testing.T) {
	name := "@storaged-test-" + filepath.Base(t.TempDir())
	if listens(name) {
		t.Error("it is there before")
	}
	l, err := net.Listen("unix", name)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if !listens(name) {
		t.Error("it is not seen")
	}
}

func TestDatabasesAreFound(t *testing.T) {
	dir := t.TempDir()
	nodes, err := nodesOf([]string{filepath.Join(dir, "none"), dir})
	if err != nil || !slices.Equal(nodes, []string{filepath.Join(dir, "nodes")}) {
		t.Errorf("%q, %v", nodes, err)
	}
	if _, err := nodesOf([]string{filepath.Join(dir, "none")}); err == nil {
		t.Error("there is none, and one is found")
	}
}
