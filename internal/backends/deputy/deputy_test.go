package deputy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"storaged/internal/backends"
	"storaged/internal/record"
	"storaged/internal/tool"
)

// deputyHere is the argument by which the test binary is a deputy.
const deputyHere = "deputy of a test"

func TestMain(m *testing.M) {
	if !slices.Equal(os.Args[1:], []string{deputyHere}) {
		os.Exit(m.Run())
	}
	if err := Serve(func(string) (backends.Backend, error) { return toy{}, nil }); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// toy is a driver of which only the errands are there.
type toy struct{ backends.Backend }

func (toy) Grants(backends.Pool, backends.Use) []backends.Errand { return nil }

func (toy) Errand(_ context.Context, p backends.Pool, e backends.Errand) (a backends.Answer, err error) {
	switch e.Do {
	case "who":
		a.Text = fmt.Appendf(nil, "%d %s %s %t", os.Getpid(), p.ID, e.Args, p.JobLock != nil)
	case "long":
		a.Text = []byte(strings.Repeat("long ", 1<<20))
	case "open":
		a.File, err = os.Open(e.Args[0])
	case "fail":
		err = errorNamed(e.Args[0])
	}
	return a, err
}

var (
	here = backends.Pool{Type: "toy", Target: "/dev/toy", Source: record.Source{Devices: []string{"/dev/x"}}, ID: "id"}
	// fails are errors that mean something to callers.
	fails = map[string]error{
		"busy":    &backends.BusyError{Object: "o", Holder: "h", Release: "r"},
		"carries": &backends.OccupiedError{Object: "o", Carries: "c"},
		"missing": &backends.MissingError{Path: "p"},
		"another": &backends.AnotherError{Path: "p"},
		"away":    &backends.AwayError{Target: "t", Err: fmt.Errorf("away: %w", backends.ErrReplaced)},
		"room":    fmt.Errorf("no room: %w", unix.ENOSPC),
		"refusal": record.Errorf(record.WrongState, "no").WithHint("%s", record.Do("pool.start", "a")),
		"lacks":   &tool.MissingError{Program: tool.Wipefs},
		"exists":  fmt.Errorf("it %w", backends.ErrExists),
	}
)

func errorNamed(name string) error { return fmt.Errorf("wrapped: %w", fails[name]) }

// sentFor has errands done by a deputy, until the test ends.
func sentFor(t *testing.T, lock *os.File, may ...backends.Errand) {
	t.Helper()
	d, err := Send(deputyHere, lock, []Grant{{Pool: here, May: may}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Recall)
}

// What may be asked for is done by the other process, with the pool that was said first.
func TestErrandsAreDoneByTheDeputy(t *testing.T) {
	lock, err := os.Create(filepath.Join(t.TempDir(), "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	sentFor(t, lock, backends.Errand{Do: "who", Args: []string{"a", ""}}, backends.Errand{Do: "long"})
	p := here
	p.ID, p.Others = "of nobody", []backends.Identity{"other"}
	a, err := Do(t.Context(), toy{}, p, backends.Errand{Do: "who", Args: []string{"a", "anything"}})
	if is := string(a.Text); err != nil || !strings.HasSuffix(is, " id [a anything] true") || strings.HasPrefix(is, fmt.Sprint(os.Getpid(), " ")) {
		t.Errorf("%q, %v", is, err)
	}
	if a, err := Do(t.Context(), toy{}, here, backends.Errand{Do: "long"}); err != nil || len(a.Text) != 5<<20 {
		t.Errorf("%d bytes, %v", len(a.Text), err)
	}
}

// What was not said to be needed is refused.
func TestDeputyRefusesOtherErrands(t *testing.T) {
	sentFor(t, nil, backends.Errand{Do: "who", Args: []string{"a", ""}})
	elsewhere := here
	elsewhere.Target = "/dev/another"
	for _, c := range []struct {
		p backends.Pool
		e backends.Errand
	}{
		{here, backends.Errand{Do: "who", Args: []string{"b", ""}}},
		{here, backends.Errand{Do: "who", Args: []string{"a"}}},
		{here, backends.Errand{Do: "who"}},
		{here, backends.Errand{Do: "long"}},
		{elsewhere, backends.Errand{Do: "who", Args: []string{"a", ""}}},
	} {
		if a, err := Do(t.Context(), toy{}, c.p, c.e); err == nil || !strings.Contains(err.Error(), errNotGranted.Error()) {
			t.Errorf("%s of %s: %q, %v", c.e, c.p.Target, a.Text, err)
		}
	}
	if a, err := Do(t.Context(), toy{}, here, backends.Errand{Do: "who", Args: []string{"a", ""}}); err != nil || !strings.HasSuffix(string(a.Text), "false") {
		t.Errorf("after that: %q, %v", a.Text, err)
	}
}

// A file that is opened comes with the answer.
func TestDeputyGivesWhatItOpens(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	if err := os.WriteFile(path, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	sentFor(t, nil, backends.Errand{Do: "open", Args: []string{path}})
	for range 3 {
		a, err := Do(t.Context(), toy{}, here, backends.Errand{Do: "open", Args: []string{path}})
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 7)
		if _, err := a.File.ReadAt(b, 0); err != nil || string(b) != "content" || a.File.Name() != path {
			t.Errorf("%q of %s, %v", b, a.File.Name(), err)
		}
		a.File.Close()
	}
}

// An error means to who asks what it means to who does it.
func TestDeputyGivesErrorsAsTheyAre(t *testing.T) {
	sentFor(t, nil, backends.Errand{Do: "fail", Args: []string{""}})
	for name := range fails {
		want := errorNamed(name)
		_, got := Do(t.Context(), toy{}, here, backends.Errand{Do: "fail", Args: []string{name}})
		if got == nil || got.Error() != want.Error() {
			t.Errorf("%s: %v", name, got)
		}
		if is, was := meaning(got), meaning(want); is != was {
			t.Errorf("%s: it is %s, and was %s", name, is, was)
		}
	}
}

// meaning is all that an error is told apart by.
func meaning(err error) string {
	busy, _ := errors.AsType[*backends.BusyError](err)
	carries, _ := errors.AsType[*backends.OccupiedError](err)
	missing, _ := errors.AsType[*backends.MissingError](err)
	another, _ := errors.AsType[*backends.AnotherError](err)
	lacks, _ := errors.AsType[*tool.MissingError](err)
	refusal, _ := errors.AsType[*record.Error](err)
	target := ""
	if away, ok := errors.AsType[*backends.AwayError](err); ok {
		target = away.Target
	}
	text := fmt.Sprintf("%+v %+v %+v %+v %+v %s %t", busy, carries, missing, another, lacks, target, errors.Is(err, unix.ENOSPC))
	if refusal != nil {
		text += fmt.Sprint(refusal.Code, refusal.Message, refusal.Hint)
	}
	for _, s := range sentinels {
		text += fmt.Sprint(" ", errors.Is(err, s))
	}
	return text
}

// Without a deputy errands are done here, and after a recall again. One that has ended has
// nothing done.
func TestErrandsWithoutADeputy(t *testing.T) {
	who := func() string {
		a, err := Do(t.Context(), toy{}, here, backends.Errand{Do: "who"})
		return fmt.Sprintf("%.*s %v", len(fmt.Sprint(os.Getpid())), a.Text, err)
	}
	self := fmt.Sprintf("%d <nil>", os.Getpid())
	if is := who(); is != self {
		t.Errorf("%s", is)
	}
	d, err := Send(deputyHere, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.cmd.Process.Kill(); err != nil { // it is our child
		t.Fatal(err)
	}
	if is := who(); !strings.Contains(is, "does not answer") {
		t.Errorf("%s", is)
	}
	d.Recall()
	if is := who(); is != self {
		t.Errorf("%s", is)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Do(ctx, toy{}, here, backends.Errand{Do: "who"}); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}
