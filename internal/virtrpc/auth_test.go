package virtrpc_test

import (
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"storaged/internal/polkit"
	"storaged/internal/testenv"
	"storaged/internal/virtrpc/virtrpctest"
	"storaged/internal/virtrpc/wire"
)

// policies are those of the packages.
var policies = []string{"../../scripts/packaging/org.storaged.policy", "../../scripts/packaging/org.storaged.libvirt.policy"}

// rules are an administrator's: "daemon" manages, and deletes no volumes; "bin" may not,
// "games" may not even look. About others the policies decide.
const rules = `polkit.addRule(function(action, subject) {
	if (subject.user == "daemon" && action.id == "org.storaged.volume.delete") return polkit.Result.NO;
	if (subject.user == "daemon" && action.id == "org.libvirt.unix.manage") return polkit.Result.YES;
	if (subject.user == "bin" && action.id == "org.libvirt.unix.manage") return polkit.Result.NO;
	if (subject.user == "games") return polkit.Result.NO;
});
`

func uidOf(t *testing.T, name string) int {
	t.Helper()
	u, err := user.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		t.Fatal(err)
	}
	return uid
}

// Polkit decides about virsh as libvirt's own daemon has it decide, in the same words.
func TestPolkitDecidesAsForLibvirtd(t *testing.T) {
	t.Parallel()
	bus, _ := testenv.Polkit(t, rules, policies...)
	theirs, theirsRO := testenv.LibvirtdAsking(t, bus)
	h := virtrpctest.NewHost(t)
	ours, oursRO := h.Ask(polkit.On(bus))
	for _, name := range []string{"root", "daemon", "bin", "games", "nobody"} {
		uid := uint32(uidOf(t, name))
		for our, their := range map[string]string{ours: theirs, oursRO: theirsRO} {
			want, wanted := virtrpctest.VirshAs(t, uid, virtrpctest.URI(their), "pool-list", "--all")
			got, ok := virtrpctest.VirshAs(t, uid, virtrpctest.URI(our), "pool-list", "--all")
			if got != want || ok != wanted {
				t.Errorf("%s at %s gets\n%s (%v)\nand of libvirtd\n%s (%v)", name, our, got, ok, want, wanted)
			}
		}
	}
	strangers := map[string][]packet{
		"at once":  {openIt, call(wire.ConnectSupportsFeature, new(wire.Int(10))), call(99999, nil), call(wire.ConnectClose, nil)},
		"listed":   {auth, openIt, call(wire.StorageVolDelete, &wire.VolFlags{Vol: nothing})},
		"admitted": {auth, call(wire.AuthPolkit, nil), openIt, call(wire.ConnectGetType, nil)},
		"unlisted": {call(wire.AuthPolkit, nil), openIt},
		"SASL":     {auth, call(wire.AuthSASLInit, nil)},
	}
	for name, packets := range strangers {
		for _, who := range []string{"daemon", "bin"} {
			uid := uidOf(t, who)
			want := exchangeOn(t, virtrpctest.DialAs(t, theirs, uid), packets)
			got := exchangeOn(t, virtrpctest.DialAs(t, ours, uid), packets)
			if !slices.Equal(want, got) {
				t.Errorf("%s as %s: libvirtd answers\n  %s\nand we answer\n  %s", name, who, strings.Join(want, "\n  "), strings.Join(got, "\n  "))
			}
		}
	}
}

// An administrator's rules refuse single actions to who is let in, and nothing to root.
func TestPolkitsRulesRefuseActions(t *testing.T) {
	t.Parallel()
	bus, _ := testenv.Polkit(t, rules, policies...)
	h := virtrpctest.NewHost(t)
	socket, readOnly := h.Ask(polkit.On(bus))
	uid := uint32(uidOf(t, "daemon"))
	for _, c := range []struct {
		uid     uint32
		socket  string
		command string
		refused string // "": it is done
	}{
		{uid, socket, "pool-define-as images dir --target " + h.Dir + "/images", ""},
		{uid, socket, "pool-build images", ""},
		{uid, socket, "pool-start images", ""},
		{uid, socket, "vol-create-as images disk 1M", ""},
		{uid, readOnly, "vol-info --pool images disk", ""},
		{uid, readOnly, "vol-delete --pool images disk", "read only access prevents virStorageVolDelete"},
		{uid, socket, "vol-delete --pool images disk", "access denied: daemon may not do this (org.storaged.volume.delete): access denied by policy"},
		{uid, socket, "vol-wipe --pool images disk", "org.storaged.volume.delete"},
		{uid, socket, "vol-info --pool images disk", ""},
		{0, socket, "vol-delete --pool images disk", ""},
		{uid, socket, "pool-destroy images", ""},
	} {
		out, ok := virtrpctest.VirshAs(t, c.uid, virtrpctest.URI(c.socket), strings.Fields(c.command)...)
		if ok != (c.refused == "") || !strings.Contains(out, c.refused) {
			t.Errorf("uid %d: virsh %s: %s", c.uid, c.command, out)
		}
	}
}

// fragile is a host whose polkit is stopped and killed.
type fragile struct {
	*testing.T
	asked  *polkit.Authority
	polkit *os.Process
	socket string
	hasty  string // a socket behind which nobody waits for polkit
}

func newFragile(t *testing.T) *fragile {
	t.Helper()
	bus, daemon := testenv.Polkit(t, rules, policies...)
	f := &fragile{T: t, asked: polkit.On(bus), polkit: daemon}
	hasty := polkit.On(bus)
	f.asked.Timeout, hasty.Timeout = virtrpctest.Patience, 200*time.Millisecond
	h := virtrpctest.NewHost(t)
	f.socket, _ = h.Ask(f.asked)
	f.hasty, _ = h.Ask(hasty)
	return f
}

func (f *fragile) signal(s syscall.Signal) {
	f.Helper()
	if err := f.polkit.Signal(s); err != nil {
		f.Fatal(err)
	}
}

// list has a user list pools.
func (f *fragile) list(uid int, socket string) (string, bool) {
	f.Helper()
	return virtrpctest.VirshAs(f.T, uint32(uid), virtrpctest.URI(socket), "pool-list", "--all")
}

func (f *fragile) lists(uid int) {
	f.Helper()
	if out, ok := f.list(uid, f.socket); !ok {
		f.Errorf("uid %d gets %s", uid, out)
	}
}

func (f *fragile) refuses(uid int, socket, why string) {
	f.Helper()
	if out, ok := f.list(uid, socket); ok || !strings.Contains(out, "authentication failed: cannot ask polkit: "+why) {
		f.Errorf("uid %d gets %s", uid, out)
	}
}

// While polkit hangs, the client's other packets and other clients are answered, and the
// question has an end.
func TestNobodyElseWaitsForPolkit(t *testing.T) {
	t.Parallel()
	f := newFragile(t)
	uid := uidOf(t, "daemon")
	f.signal(syscall.SIGSTOP)
	f.refuses(uid, f.hasty, "it does not answer")
	c := virtrpctest.DialAs(t, f.socket, uid)
	c.Do(wire.AuthList, nil, nil)
	asks := c.Header(wire.AuthPolkit)
	c.Send(asks, nil)
	c.Send(wire.Header{Program: wire.Keepalive, Version: wire.Version, Procedure: wire.Ping, Type: wire.Message}, nil)
	if p, err := c.Next(); err != nil || p.Program != wire.Keepalive {
		t.Errorf("while polkit hangs a ping gets %+v, %v", p, err)
	}
	f.lists(0)
	f.signal(syscall.SIGCONT)
	if p, err := c.Next(); err != nil || p.Serial != asks.Serial || p.Status != wire.OK {
		t.Errorf("afterwards the question gets %+v, %v", p, err)
	}
}

// A polkit that has gone lets nobody in but root.
func TestWithoutPolkitNobodyIsLetIn(t *testing.T) {
	t.Parallel()
	f := newFragile(t)
	uid := uidOf(t, "daemon")
	f.lists(uid)
	if err := f.polkit.Kill(); err != nil {
		t.Fatal(err)
	}
	for there := true; there; {
		var err error
		if there, err = f.asked.There(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	f.refuses(uid, f.socket, "The name org.freedesktop.PolicyKit1 was not provided by any .service files")
	f.lists(0)
}
