package iscsi

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"storaged/internal/backends"
	"storaged/internal/blockdev"
	"storaged/internal/record"
	"storaged/internal/tool"
)

const target = "iqn.2026-01.test:disks"

func sourceAt(host string) record.Source {
	return record.Source{Hosts: []string{host}, Devices: []string{target}}
}

func TestSourcesAreChecked(t *testing.T) {
	two := sourceAt("h")
	two.Devices = append(two.Devices, target)
	named := func(name string) record.Source { s := sourceAt("h"); s.Devices[0] = name; return s }
	login := func(user string) record.Source { s := sourceAt("h"); s.Username, s.Secret = user, "s"; return s }
	initiator := sourceAt("h")
	initiator.Initiator = "me"
	for what, s := range map[string]record.Source{
		"no host": {Devices: []string{target}}, "two targets": two, "a device": named("/dev/sda"), "an option": named("--op"), "a blank": named("iqn.2026-01.test:a b"),
		"no port": sourceAt("h:"), "port 0": sourceAt("h:0"), "a large port": sourceAt("h:65536"), "a flag": sourceAt("-h"), "a path": sourceAt("a/b"),
		"a line": login("a\nb"), "an umlaut": login("ä"), "blanks": login("a "), "initiator": initiator,
	} {
		if err := (Backend{}).CheckSource(s); record.CodeOf(err) != record.Invalid {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, s := range []record.Source{sourceAt("h"), sourceAt("h.example:3261"), sourceAt("192.0.2.1"), sourceAt("[2001:db8::1]"), sourceAt("[2001:db8::1]:3261"), login("user name")} {
		if err := (Backend{}).CheckSource(s); err != nil {
			t.Errorf("%+v: %v", s, err)
		}
	}
}

// The path of a volume tells its pool and its name, and the other way round.
func TestVolumesAreLocated(t *testing.T) {
	for host, prefix := range map[string]string{
		"h": "ip-h:3260", "192.0.2.1:99": "ip-192.0.2.1:99", "[2001:db8::1]": "ip-2001:db8::1:3260",
	} {
		s := sourceAt(host)
		p := backends.Pool{Type: "iscsi", Target: Backend{}.TargetOf(s), Source: s}
		if want := "/dev/disk/by-path/" + prefix + "-iscsi-" + target; p.Target != want {
			t.Errorf("%s is at %q, not %q", host, p.Target, want)
		}
		for name, end := range map[string]string{"unit:0:0:0": "-lun-0", "unit:0:0:255": "-lun-255", "unit:0:0:256": "-lun-0x0100000000000000", "unit:0:0:16640": "-lun-0x4100000000000000"} {
			at := Backend{}.Locate(p, name)
			if at.Path != p.Target+end {
				t.Errorf("%s is at %q", name, at.Path)
			}
			if in, is := (Backend{}).Parse(at.Path); in != p.Target || is != name {
				t.Errorf("%q is %q in %q", at.Path, is, in)
			}
		}
		byHand, err := whereOf(backends.Pool{Target: p.Target})
		known, err2 := whereOf(p)
		if err := errors.Join(err, err2); err != nil || byHand != known {
			t.Errorf("by hand it is %+v, and else %+v, %v", byHand, known, err)
		}
	}
	for _, name := range []string{"", "unit:0:0:", "unit:0:0:01", "unit:0:1:0", "unit:0:0:-1", "unit:0:0:99999999999", "sda", "unit:0:0:4294967296"} {
		if (Backend{}).CheckName(name) == nil {
			t.Errorf("%q is a name", name)
		}
	}
	for _, path := range []string{"/srv/a", "/dev/disk/by-path/x-lun-", "/dev/disk/by-path/x-lun-0x01"} {
		if _, name := (Backend{}).Parse(path); (Backend{}).CheckName(name) == nil {
			t.Errorf("%q is of %q", path, name)
		}
	}
}

// sysfs is a session with a target, as the kernel shows it.
func sysfs(t *testing.T) blockdev.Sysfs {
	t.Helper()
	root := t.TempDir()
	for path, text := range map[string]string{
		"dev3/session7/iscsi_session/session7/targetname":                               target,
		"dev3/session7/iscsi_session/session7/state":                                    "LOGGED_IN",
		"dev3/session7/connection7:0/iscsi_connection/connection7:0/persistent_address": "server",
		"dev3/session7/connection7:0/iscsi_connection/connection7:0/persistent_port":    "3260",
		"dev3/session7/target3:0:0/3:0:0:10/type":                                       "0",
		"dev3/session7/target3:0:0/3:0:0:10/wwid":                                       "t10.LIO-ORG disk  a",
		"dev3/session7/target3:0:0/3:0:0:10/block/sdc/dev":                              "8:32",
		"dev3/session7/target3:0:0/3:0:0:10/block/sdc/size":                             "2048",
		"dev3/session7/target3:0:0/3:0:0:2/type":                                        "0",
		"dev3/session7/target3:0:0/3:0:0:2/wwid":                                        "naa.6001405abc",
		"dev3/session7/target3:0:0/3:0:0:3/type":                                        "5",
		"dev3/session7/target3:0:0/power/control":                                       "auto",
		"dev4/session8/iscsi_session/session8/targetname":                               target,
		"dev4/session8/connection8:0/iscsi_connection/connection8:0/persistent_address": "another",
		"dev4/session8/connection8:0/iscsi_connection/connection8:0/persistent_port":    "3260",
	} {
		file := filepath.Join(root, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text+"\n"), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	class := filepath.Join(root, "class/iscsi_session")
	for session, dev := range map[string]string{"session7": "dev3", "session8": "dev4"} {
		at := filepath.Join(root, dev, session)
		is := filepath.Join(at, "iscsi_session", session)
		if err := errors.Join(os.MkdirAll(class, 0o755), os.Symlink(at, filepath.Join(is, "device")), os.Symlink(is, filepath.Join(class, session))); err != nil {
			t.Fatal(err)
		}
	}
	return blockdev.Sysfs(root)
}

func TestSessionsAndTheirUnits(t *testing.T) {
	sys := sysfs(t)
	s, ok := sessionWith(sys, where{tool.Portal{Host: "SERVER", Port: "3260"}, target})
	if !ok || s.id != "7" || s.state != loggedIn {
		t.Fatalf("%+v", s)
	}
	for _, w := range []where{{tool.Portal{Host: "server", Port: "3261"}, target}, {tool.Portal{Host: "server", Port: "3260"}, "iqn.2026-01.test:x"}} {
		if s, ok := sessionWith(sys, w); ok {
			t.Errorf("%+v has %+v", w, s)
		}
	}
	units := s.units()
	if len(units) != 2 || units[0].lun != 2 || units[1].lun != 10 {
		t.Fatalf("%+v", units)
	}
	p := backends.Pool{Type: "iscsi", Source: sourceAt("server")}
	if v := s.info(p, units[0]); v.Ignored == "" || v.Key != "36001405abc" {
		t.Errorf("without a disk: %+v", v)
	}
	v := s.info(p, units[1])
	if v.Ignored != "" || v.Size != 1<<20 || v.ID != target+"/10/t10.LIO-ORG_disk__a" || v.Key != v.Path || (Backend{}).CheckIdentity(v.ID) != nil {
		t.Errorf("%+v", v)
	}
	if err := (Backend{}).CheckIdentity(s.identityOf()); err != nil {
		t.Error(err)
	}
	if is, err := s.find(p, "unit:0:0:10"); err != nil || is.number != "8:32" {
		t.Errorf("%+v, %v", is, err)
	}
	for _, name := range []string{"unit:0:0:2", "unit:0:0:3", "unit:0:0:4"} {
		if _, err := s.find(p, name); !errors.Is(err, backends.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if s.appeared(p) {
		t.Error("there are links to units of a test")
	}
}

// Why a login fails is said with what to do.
func TestRefusedLogins(t *testing.T) {
	p := backends.Pool{Source: sourceAt("h")}
	w, err := whereOf(p)
	if err != nil {
		t.Fatal(err)
	}
	user := p
	user.Source.Username, user.Source.Secret = "u", "s"
	denied := &tool.EndError{Exit: tool.ISCSIAuthFailed}
	for _, c := range []struct {
		p    backends.Pool
		err  error
		code record.Code
		says string
	}{
		{p, tool.ErrNoISCSId, record.Unsupported, "iscsid"}, {p, denied, record.Denied, "source_username"}, {user, denied, record.Denied, "secret.set"},
	} {
		err := refused(c.p, w, c.err)
		e, ok := errors.AsType[*record.Error](err)
		if !ok || e.Code != c.code || !strings.Contains(e.Hint.Words(func(c record.Call) string { return c.Verb + " " + options(c) }), c.says) {
			t.Errorf("%v: %v", c.err, err)
		}
	}
	if err := refused(p, w, errors.New("x")); !strings.Contains(err.Error(), "h:3260") {
		t.Error(err)
	}
}

func options(c record.Call) (names string) {
	for _, o := range c.Options {
		names += o.Name + " "
	}
	return names
}
