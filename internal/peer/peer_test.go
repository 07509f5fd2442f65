package peer

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"storaged/internal/record"
)

// The kernel tells who has connected, with all groups, however many.
func TestPeerHasItsGroups(t *testing.T) {
	many := make([]int, 200)
	for i := range many {
		many[i] = 5000 + i
	}
	own, err := os.Getgroups()
	if err != nil {
		t.Fatal(err)
	}
	for _, groups := range [][]int{own, many} {
		if os.Geteuid() == 0 {
			if err := syscall.Setgroups(groups); err != nil {
				t.Fatal(err)
			}
			defer syscall.Setgroups(own)
		} else {
			groups = own
		}
		got := connected(t)
		slices.Sort(got.groups)
		want := slices.Sorted(slices.Values(append(slices.Clone(groups), os.Getegid())))
		if !slices.Equal(got.groups, want) || got.uid != os.Geteuid() || got.pid != os.Getpid() {
			t.Errorf("peer is %+v, groups should be %v", got, want)
		}
	}
}

// connected gives the peer of a connection that this process makes to itself.
func connected(t *testing.T) *Peer {
	t.Helper()
	_, conn := pair(t)
	return conn.Peer
}

// pair gives both ends of such a connection.
func pair(t *testing.T) (client net.Conn, server *Conn) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if client, err = net.Dial("unix", path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	conn, err := (&Listener{Listener: l, Count: new(Connections)}).Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return client, conn.(*Conn)
}

func TestPeerNamesAreHarmless(t *testing.T) {
	for in, want := range map[string]string{
		"storagedctl": "storagedctl", "evil\x1b[2J\n": `evil\x1b[2J\n`, "a\u202eb": `a\u202eb`, "\xff": `\xff`, `a"b`: `a\"b`, "": "",
	} {
		if got := printable(in); got != want {
			t.Errorf("%q is shown as %s", in, got)
		}
	}
	if got := userName("4294967290"); got != "4294967290" {
		t.Errorf("a uid without a name is shown as %s", got)
	}
}

func TestRoleFollowsSocketUIDAndGroup(t *testing.T) {
	own, other, group := os.Geteuid(), os.Geteuid()+1, 4242
	for _, c := range []struct {
		uid      int
		groups   []int
		readOnly bool
		group    *int
		want     record.Role
	}{
		{0, nil, false, nil, record.RootRole}, {0, nil, true, nil, record.ReaderRole}, {own, nil, false, nil, record.RootRole}, {own, nil, true, nil, record.ReaderRole},
		{other, nil, false, nil, record.MemberRole}, {other, nil, true, nil, record.ReaderRole},
		{0, nil, false, &group, record.RootRole}, {own, nil, false, &group, record.RootRole},
		{other, nil, false, &group, record.UserRole}, {other, []int{1, 4241}, false, &group, record.UserRole},
		{other, []int{1, 4242}, false, &group, record.MemberRole}, {other, []int{4242}, true, &group, record.ReaderRole},
	} {
		p := &Peer{uid: c.uid, groups: c.groups, loginUID: "0"}
		if got := p.Caller(Socket{ReadOnly: c.readOnly, Group: c.group}); got.Role != c.want || got.Owner.LoginUser != "root" {
			t.Errorf("uid %d of %v, read-only %v, members %v: %+v", c.uid, c.groups, c.readOnly, c.group, got)
		}
	}
	p := &Peer{uid: 0, loginUID: noLoginUID}
	if got := p.Caller(Socket{}); got.Owner.LoginUser != "" {
		t.Errorf("without a login: %+v", got)
	}
}

// The same peer may come through several front ends.
func TestFrontEndSaysWhatAPeerCameThrough(t *testing.T) {
	p := connected(t)
	for _, via := range []string{"rest", "rpc"} {
		c := p.Caller(Socket{Via: via})
		if c.Owner.Via != via || c.Owner.UID != os.Geteuid() || c.Owner.PID != os.Getpid() || c.Owner.User == "" {
			t.Errorf("through %s: %+v", via, c.Owner)
		}
	}
}
