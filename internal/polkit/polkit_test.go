package polkit

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"go.uber.org/goleak"

	"storaged/internal/testenv"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait: far more than anything here takes on a slow machine.
const patience = 3 * time.Minute

// answer is one of polkit's.
type answer struct {
	Allowed, Challenge bool
	Details            map[string]string
}

// fake is a polkit that answers as a test has it answer.
type fake struct {
	asked    chan question
	answers  chan answer
	canceled chan string
}

type question struct {
	Subject process
	Action  string
	Flags   uint32
	ID      string
}

func (f *fake) CheckAuthorization(p process, action string, _ map[string]string, flags uint32, id string) (answer, *dbus.Error) {
	f.asked <- question{p, action, flags, id}
	return <-f.answers, nil
}

func (f *fake) CancelCheckAuthorization(id string) *dbus.Error {
	f.canceled <- id
	return nil
}

// newFake puts one on a bus of its own.
func newFake(t *testing.T) (*fake, *Authority) {
	t.Helper()
	address, _ := testenv.Bus(t, filepath.Join(t.TempDir(), "bus"))
	f := &fake{make(chan question, 64), make(chan answer), make(chan string, 64)}
	conn, err := dbus.Connect(address)
	if err == nil {
		t.Cleanup(func() { conn.Close() })
		err = conn.Export(f, object, authority)
	}
	if err == nil {
		_, err = conn.RequestName(service, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	a := On(address)
	t.Cleanup(a.Close)
	return f, a
}

// next gives what is asked next.
func (f *fake) next(t *testing.T) question {
	t.Helper()
	select {
	case q := <-f.asked:
		return q
	case <-time.After(patience):
		t.Fatal("nothing is asked")
		panic("unreachable")
	}
}

func TestAnswersOfPolkit(t *testing.T) {
	f, a := newFake(t)
	if there, err := a.There(t.Context()); err != nil || !there {
		t.Errorf("polkit is there: %v, %v", there, err)
	}
	for _, c := range []struct {
		answer
		want error
	}{
		{answer{Allowed: true}, nil},
		{answer{Allowed: true, Challenge: true}, nil},
		{answer{}, &Refusal{Denied, "act"}},
		{answer{Challenge: true}, &Refusal{NoAgent, "act"}},
		{answer{Challenge: true, Details: map[string]string{"polkit.dismissed": "true"}}, &Refusal{Dismissed, "act"}},
	} {
		got := make(chan error)
		go func() { got <- a.Check(t.Context(), Subject{PID: 17, UID: 1000, Start: 1 << 40}, "act") }()
		q := f.next(t)
		f.answers <- c.answer
		if err := <-got; !reflect.DeepEqual(err, c.want) {
			t.Errorf("%+v is %v, not %v", c.answer, err, c.want)
		}
		want := process{"unix-process", map[string]dbus.Variant{"pid": dbus.MakeVariant(uint32(17)), "start-time": dbus.MakeVariant(uint64(1 << 40)), "uid": dbus.MakeVariant(int32(1000))}}
		if !reflect.DeepEqual(q.Subject, want) || q.Action != "act" || q.Flags != interactive || q.ID == "" {
			t.Errorf("asked is %+v", q)
		}
	}
}

// A question that nobody waits for any more is taken back, so that nobody types a password
// for it.
func TestQuestionIsTakenBack(t *testing.T) {
	f, a := newFake(t)
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan error)
	go func() { got <- a.Check(ctx, Subject{PID: 1, UID: 1, Start: 1}, "act") }()
	q := f.next(t)
	cancel()
	if err := <-got; err == nil || errors.As(err, new(*Refusal)) {
		t.Errorf("it gets %v", err)
	}
	if id := <-f.canceled; id != q.ID {
		t.Errorf("%q is taken back, not %q", id, q.ID)
	}
	f.answers <- answer{}
}

// Who answers no question keeps nobody but itself from being asked about.
func TestUserHasFewQuestionsAtOnce(t *testing.T) {
	f, a := newFake(t)
	const more = 3
	ask := func(uid int) error { return a.Check(t.Context(), Subject{PID: 1, UID: uid, Start: 1}, "act") }
	var group sync.WaitGroup
	for range maxAsked + more {
		group.Go(func() {
			if err := ask(1); err != nil {
				t.Error(err)
			}
		})
	}
	for range maxAsked {
		f.next(t)
	}
	group.Go(func() {
		if err := ask(2); err != nil {
			t.Error(err)
		}
	})
	if q := f.next(t); q.Subject.Details["uid"].Value() != int32(2) {
		t.Errorf("more than %d questions about one user: %+v", maxAsked, q)
	}
	for range maxAsked + more + 1 {
		f.answers <- answer{Allowed: true}
	}
	group.Wait()
}

// A bus that says nothing is not waited for for ever, one that has gone is an error, and
// one that comes back is asked.
func TestBusThatIsAway(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "bus")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	a := On("unix:path=" + socket)
	defer a.Close()
	check := func(why string) {
		t.Helper()
		if err := a.Check(t.Context(), Subject{PID: 1, UID: 1, Start: 1}, "act"); err == nil || !strings.Contains(err.Error(), "cannot ask polkit: ") || !strings.Contains(err.Error(), why) {
			t.Errorf("it gets %v, not %q", err, why)
		}
	}
	a.Timeout = 50 * time.Millisecond
	check("it does not answer")
	l.Close()
	a.Timeout = patience
	check("cannot connect to the bus")
	for range 2 {
		_, bus := testenv.Bus(t, socket)
		if there, err := a.There(t.Context()); there || err != nil {
			t.Errorf("polkit is there: %v, %v", there, err)
		}
		check("org.freedesktop.PolicyKit1")
		if err := bus.Kill(); err != nil {
			t.Fatal(err)
		}
		gone, err := net.Dial("unix", socket)
		for ; err == nil; gone, err = net.Dial("unix", socket) {
			gone.Close()
		}
	}
	a.Close()
	check(errClosed.Error())
}
