package peer

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"storaged/internal/polkit"
	"storaged/internal/record"
	"storaged/internal/supervisor/process"
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

// Who decides about a peer that is neither root nor a member, and is asked before it is let in.
func TestStrangersAreAskedAbout(t *testing.T) {
	own, other, group := os.Geteuid(), os.Geteuid()+1, 4242
	nobody := polkit.On("unix:path=" + filepath.Join(t.TempDir(), "none"))
	for _, c := range []struct {
		uid    int
		groups []int
		asks   *polkit.Authority
		want   bool
	}{
		{own, nil, nobody, false}, {0, nil, nobody, false}, {other, []int{group}, nobody, false},
		{other, nil, nobody, true}, {other, nil, nil, false},
	} {
		s := Socket{Group: &group, Authority: c.asks, Action: "x"}
		p := &Peer{uid: c.uid, groups: c.groups, start: 1}
		if got := p.Stranger(s); got != c.want {
			t.Errorf("%+v is a stranger: %v", c, got)
		}
		if c.want && (p.Caller(s).Role != record.UserRole || p.role(Socket{Authority: c.asks}) != record.UserRole) {
			t.Errorf("before it is let in %+v is %v", c, p.Caller(s).Role)
		}
	}
	gone := &Peer{uid: other}
	if _, err := gone.Admit(t.Context(), Socket{Authority: nobody, Action: "x"}); err == nil || !strings.Contains(err.Error(), "gone") {
		t.Errorf("a process that has gone: %v", err)
	}
}

// The kernel's word about the process that has connected is of that very process.
func TestPeerHasItsStart(t *testing.T) {
	ticks, err := process.Ticks(os.Getpid())
	if got := connected(t).start; err != nil || got == 0 || got != ticks {
		t.Errorf("started at %d, not %d (%v)", got, ticks, err)
	}
}
