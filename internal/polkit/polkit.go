// Package polkit asks polkit what a process may do (polkit(8), the D-Bus interface
// org.freedesktop.PolicyKit1.Authority). It decides nothing itself, and remembers nothing.
package polkit

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/google/uuid"
)

const (
	// answerTimeout bounds a question, with the time in which a person types a password:
	// libvirt's own daemon waits no longer.
	answerTimeout = 30 * time.Second

	// maxAsked bounds what polkit is asked at once about one user, so that somebody who
	// does not answer its questions keeps nobody else from being asked about: the system's
	// bus has 128 calls of a connection under way (max_replies_per_connection).
	maxAsked = 4
)

const (
	service   = "org.freedesktop.PolicyKit1"
	object    = "/org/freedesktop/PolicyKit1/Authority"
	authority = service + ".Authority"

	// interactive lets polkit ask a person (AllowUserInteraction).
	interactive uint32 = 1
)

// Subject is a process of a user. Its number may pass to another process: Start tells
// them apart, in ticks since boot (proc_pid_stat(5)).
type Subject struct {
	PID, UID int
	Start    uint64
}

// Why says why polkit does not allow something.
type Why int

const (
	Denied    Why = iota // by the rules
	Dismissed            // the person did not want to be asked
	NoAgent              // it would have to ask, and there is nobody to
)

// Refusal is what polkit answers when it does not allow something. Its text is that of
// libvirt's daemon.
type Refusal struct {
	Why    Why
	Action string
}

func (r *Refusal) Error() string {
	switch r.Why {
	case Dismissed:
		return "user cancelled authentication process"
	case NoAgent:
		return fmt.Sprintf("no polkit agent available to authenticate action '%s'", r.Action)
	}
	return "access denied by policy"
}

// Authority is polkit on a bus. Its methods may be called concurrently.
type Authority struct {
	Timeout time.Duration // of a question, with the time in which a person answers

	address string
	dialing chan struct{} // has one while somebody connects

	mu     sync.Mutex
	bus    *bus
	closed bool
	lines  map[int]chan struct{} // by user: one for each question under way
}

// bus is a connection, until end.
type bus struct {
	*dbus.Conn
	end context.CancelFunc
}

var errClosed = errors.New("polkit is not asked any more")

// On is the polkit of a bus with the D-Bus address given. Nothing is asked before Check.
func On(address string) *Authority {
	return &Authority{Timeout: answerTimeout, address: address, dialing: make(chan struct{}, 1), lines: map[int]chan struct{}{}}
}

// Close ends what is being asked, and asks no more.
func (a *Authority) Close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	if a.bus != nil {
		a.bus.end()
	}
}

// There reports whether the bus has polkit, or would start it.
func (a *Authority) There(ctx context.Context) (bool, error) {
	b, err := a.connected(ctx)
	if err != nil {
		return false, err
	}
	for _, list := range []string{"ListActivatableNames", "ListNames"} {
		var names []string
		if err := b.BusObject().CallWithContext(ctx, "org.freedesktop.DBus."+list, 0).Store(&names); err != nil {
			return false, fmt.Errorf("cannot ask the bus for polkit: %w", err)
		}
		for _, n := range names {
			if n == service {
				return true, nil
			}
		}
	}
	return false, nil
}

// Check asks whether the subject may do the action. The error is a *Refusal where polkit
// has answered that it may not. It waits for a person if polkit asks one; it ends with
// ctx, and after a.Timeout.
func (a *Authority) Check(ctx context.Context, s Subject, action string) error {
	ctx, cancel := context.WithTimeout(ctx, a.Timeout)
	defer cancel()
	leave, err := a.enter(ctx, s.UID)
	if err != nil {
		return unasked(err)
	}
	defer leave()
	b, err := a.connected(ctx)
	if err != nil {
		return unasked(err)
	}
	return b.check(ctx, s, action)
}

func unasked(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		err = errors.New("it does not answer")
	}
	return fmt.Errorf("cannot ask polkit: %w", err)
}

// enter takes a place of those for questions about a user, and gives it back by leave.
func (a *Authority) enter(ctx context.Context, uid int) (leave func(), err error) {
	a.mu.Lock()
	line := a.lines[uid]
	if line == nil {
		line = make(chan struct{}, maxAsked)
		a.lines[uid] = line
	}
	a.mu.Unlock()
	select {
	case line <- struct{}{}:
		return func() { <-line }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// process is a subject as polkit's interface has it.
type process struct {
	Kind    string
	Details map[string]dbus.Variant
}

// check asks on this connection. A question that nobody waits for any more is taken back,
// so that no person is asked it.
func (b *bus) check(ctx context.Context, s Subject, action string) error {
	p := process{"unix-process", map[string]dbus.Variant{
		"pid": dbus.MakeVariant(uint32(s.PID)), "start-time": dbus.MakeVariant(s.Start), "uid": dbus.MakeVariant(int32(s.UID)),
	}}
	var answer struct {
		Allowed, Challenge bool
		Details            map[string]string
	}
	question := uuid.NewString()
	polkit := b.Object(service, object)
	err := polkit.CallWithContext(ctx, authority+".CheckAuthorization", 0, p, action, map[string]string{}, interactive, question).Store(&answer)
	switch {
	case ctx.Err() != nil:
		polkit.Go(authority+".CancelCheckAuthorization", dbus.FlagNoReplyExpected, nil, question)
		return unasked(ctx.Err())
	case err != nil:
		return unasked(err)
	case answer.Allowed:
		return nil
	case answer.Details["polkit.dismissed"] == "true":
		return &Refusal{Dismissed, action}
	case answer.Challenge:
		return &Refusal{NoAgent, action}
	}
	return &Refusal{Denied, action}
}

// connected gives the connection to the bus, a new one where there is none any more.
func (a *Authority) connected(ctx context.Context) (*bus, error) {
	select {
	case a.dialing <- struct{}{}:
		defer func() { <-a.dialing }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	a.mu.Lock()
	b, closed := a.bus, a.closed
	a.mu.Unlock()
	switch {
	case closed:
		return nil, errClosed
	case b != nil && b.Connected():
		return b, nil
	case b != nil:
		b.end()
	}
	b, err := dial(ctx, a.address)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.bus = b; a.closed {
		b.end()
		return nil, errClosed
	}
	return b, nil
}

// dial connects to a bus. A bus that does not answer is left when ctx ends.
func dial(ctx context.Context, address string) (*bus, error) {
	life, end := context.WithCancel(context.Background())
	waits := context.AfterFunc(ctx, end)
	conn, err := dbus.Connect(address, dbus.WithContext(life))
	if !waits() {
		err = errors.Join(ctx.Err(), err)
	}
	if err != nil {
		end()
		return nil, fmt.Errorf("cannot connect to the bus: %w", err)
	}
	return &bus{conn, end}, nil
}
