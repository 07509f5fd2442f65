package iscsi

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"storaged/internal/backends"
	"storaged/internal/backends/backendtest"
	"storaged/internal/record"
	"storaged/internal/testenv"
)

func TestMain(m *testing.M) { backendtest.Main(m, New()) }

const mib = 1 << 20

// poolOf is a pool of a target, stopped at the end of the test.
func poolOf(t *testing.T, x *testenv.Target) backends.Pool {
	s := record.Source{Hosts: []string{x.Portal}, Devices: []string{x.Name}}
	p := backends.Pool{Type: "iscsi", Target: Backend{}.TargetOf(s), Source: s}
	t.Cleanup(func() { stopped(t, p) })
	return p
}

func TestContractOnATarget(t *testing.T) {
	x := testenv.NewTarget(t, "contract", 16*mib, 24*mib)
	p := poolOf(t, x)
	backendtest.RunFixed(t, backendtest.Suite{New: func(*testing.T) (backends.Backend, backends.Pool) { return New(), p }}, "unit:0:0:7")
}

// stopped stops a pool when the context of its test has ended.
func stopped(t *testing.T, p backends.Pool) {
	t.Helper()
	if err := New().Stop(context.Background(), p); err != nil {
		t.Errorf("stop: %v", err)
	}
}

// What is logged in by is right or refused, and is seen nowhere while that is done.
func TestLoginBySecret(t *testing.T) {
	const right, wrong = "right-secret-of-chap", "wrong-secret-of-chap"
	x := testenv.NewTarget(t, "login", 16*mib)
	x.Only("user", right)
	p := poolOf(t, x)
	err := New().Start(t.Context(), p)
	if record.CodeOf(err) != record.Denied || !strings.Contains(err.Error(), "does not let this host in") {
		t.Errorf("without a secret: %v", err)
	}
	p.Source.Username, p.Source.Secret = "user", "chap"
	for secret, code := range map[string]record.Code{wrong: record.Denied, "blank at the end ": record.Invalid, "line\n": record.Invalid} {
		p.Secret = memory(t, secret)
		if err := New().Start(t.Context(), p); record.CodeOf(err) != code || strings.Contains(err.Error(), secret) {
			t.Errorf("%q: %v", secret, err)
		}
	}
	p.Secret = memory(t, right)
	seen := watchArguments(right)
	err = New().Start(t.Context(), p)
	if shown := seen(); shown != "" {
		t.Errorf("the secret is in %s", shown)
	}
	if err != nil {
		t.Fatal(err)
	}
	nowhereBelow(t, "/etc/iscsi", right, wrong)
	nowhereBelow(t, "/var/lib/iscsi", right, wrong)
}

// memory is a file with a secret.
func memory(t *testing.T, secret string) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// watchArguments looks into arguments and environments of all processes until it is asked
// where a text was.
func watchArguments(text string) (seen func() string) {
	end := make(chan struct{})
	var at string
	var done sync.WaitGroup
	done.Go(func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
			more, _ := filepath.Glob("/proc/[0-9]*/environ")
			for _, file := range append(files, more...) {
				if b, err := os.ReadFile(file); err == nil && strings.Contains(string(b), text) {
					at = file + ": " + strings.ReplaceAll(string(b), "\x00", " ")
				}
			}
			select {
			case <-end:
				return
			case <-tick.C:
			}
		}
	})
	return func() string { close(end); done.Wait(); return at }
}

func nowhereBelow(t *testing.T, dir string, texts ...string) {
	t.Helper()
	_ = filepath.WalkDir(dir, func(path string, _ os.DirEntry, _ error) error {
		b, err := os.ReadFile(path)
		for _, text := range texts {
			if err == nil && strings.Contains(string(b), text) {
				t.Errorf("%s has the secret", path)
			}
		}
		return nil
	})
}

// A host is asked for its targets, and one that does not answer is an error.
func TestTargetsAreFound(t *testing.T) {
	x := testenv.NewTarget(t, "found", 16*mib)
	near := record.Source{Hosts: []string{"127.0.0.1"}}
	found, err := Backend{}.FindSources(t.Context(), near)
	want := []record.Source{{Hosts: near.Hosts, Devices: []string{x.Name}}}
	if err != nil || !reflect.DeepEqual(found, want) {
		t.Errorf("%+v, %v", found, err)
	}
	if _, err := (Backend{}).FindSources(t.Context(), record.Source{Hosts: []string{"127.0.0.1:3999"}}); err == nil {
		t.Error("nobody's targets are found")
	}
}

// A host by its name, and an initiator of another one, work too; a unit that is added is
// found, and one that holds another disk is not taken for the one that it was.
func TestUnitsComeAndChange(t *testing.T) {
	x := testenv.NewTarget(t, "units", 16*mib)
	s := record.Source{Hosts: []string{"localhost"}, Devices: []string{x.Name}, Initiator: "iqn.2026-01.test:another"}
	p := backends.Pool{Type: "iscsi", Target: Backend{}.TargetOf(s), Source: s}
	if err := New().Start(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	defer stopped(t, p)
	list := func() (names []string) {
		t.Helper()
		if _, err := New().Refresh(t.Context(), p, func(v backends.VolumeInfo) error {
			if _, err := os.Stat(v.Path); err != nil {
				t.Error(err)
			}
			names = append(names, v.Name)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return names
	}
	if names := list(); len(names) != 1 {
		t.Errorf("there are %q", names)
	}
	initiators, _ := filepath.Glob("/sys/class/iscsi_session/*/initiatorname")
	for _, file := range initiators {
		if b, err := os.ReadFile(file); err != nil || strings.TrimSpace(string(b)) != s.Initiator {
			t.Errorf("the initiator is %s, %v", b, err)
		}
	}
	x.Add(24 * mib)
	if names := list(); len(names) != 2 || names[1] != "unit:0:0:1" {
		t.Errorf("there are %q", names)
	}
	x.Swap(0, 16*mib)
	v, err := New().Open(t.Context(), p, "unit:0:0:0", backends.ReadShared)
	if err == nil {
		v.Close()
	}
	if _, another := errors.AsType[*backends.AnotherError](err); !another {
		t.Errorf("another unit in its place: %v", err)
	}
}
