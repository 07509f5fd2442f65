package polkit

import (
	"context"
	"errors"
	"os"
	"os/user"
	"reflect"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/godbus/dbus/v5"

	proc "storaged/internal/supervisor/process"
	"storaged/internal/testenv"
)

// agent is what shows the dialogs of polkit to a person, who here cancels or does nothing.
type agent struct {
	begun    chan string // the cookie of a dialog
	canceled chan string // by polkit
	cancels  atomic.Bool
	ended    chan struct{}
}

// identity is of org.freedesktop.PolicyKit1.Identity.
type identity struct {
	Kind    string
	Details map[string]dbus.Variant
}

func (a *agent) BeginAuthentication(_, _, _ string, _ map[string]string, cookie string, _ []identity) *dbus.Error {
	a.begun <- cookie
	if !a.cancels.Load() {
		<-a.ended
	}
	return dbus.NewError(service+".Error.Cancelled", []any{"the person does not want to"})
}

func (a *agent) CancelAuthentication(cookie string) *dbus.Error {
	a.canceled <- cookie
	return nil
}

// person gives a subject that polkit has to ask a person about, by the agent.
func person(t *testing.T, address string, a *agent) Subject {
	t.Helper()
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	uid, err := strconv.Atoi(nobody.Uid)
	if err != nil {
		t.Fatal(err)
	}
	start, err := proc.Ticks(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := dbus.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	const path = "/agent"
	if err := conn.Export(a, path, service+".AuthenticationAgent"); err != nil {
		t.Fatal(err)
	}
	us := process{"unix-process", map[string]dbus.Variant{"pid": dbus.MakeVariant(uint32(os.Getpid())), "start-time": dbus.MakeVariant(start)}}
	if err := conn.Object(service, object).Call(authority+".RegisterAuthenticationAgent", 0, us, "C", path).Err; err != nil {
		t.Fatal(err)
	}
	return Subject{PID: os.Getpid(), UID: uid, Start: start}
}

// A person may cancel a dialog of polkit, and a question that nobody waits for any more
// takes its dialog away.
func TestPersonIsAsked(t *testing.T) {
	const action = "org.libvirt.unix.manage"
	address, _ := testenv.Polkit(t, "", "../../scripts/packaging/org.storaged.libvirt.policy")
	a := &agent{begun: make(chan string), canceled: make(chan string), ended: make(chan struct{})}
	a.cancels.Store(true)
	s := person(t, address, a)
	asks := On(address)
	defer asks.Close()
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan error)
	ask := func() { got <- asks.Check(ctx, s, action) }
	go ask()
	<-a.begun
	if err := <-got; !reflect.DeepEqual(err, &Refusal{Dismissed, action}) {
		t.Errorf("who cancels gets %v", err)
	}
	a.cancels.Store(false)
	go ask()
	cookie := <-a.begun
	cancel()
	if err := <-got; err == nil || errors.As(err, new(*Refusal)) {
		t.Errorf("who has left gets %v", err)
	}
	if closed := <-a.canceled; closed != cookie {
		t.Errorf("dialog %q is taken away, not %q", closed, cookie)
	}
	close(a.ended)
}
