package confine_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"storaged/internal/confine"
	"storaged/internal/confine/confinetest"
	"storaged/internal/testenv"
)

// Environment variables that say to this binary what it is to be: a scene, and how it
// gets confined.
const (
	hostileScene = "STORAGED_TEST_HOSTILE"
	hostileRole  = "STORAGED_TEST_HOSTILE_AS"

	asChild   = "child"   // by who has started it
	asProcess = "process" // by itself
	asStarter = "starter" // by itself, and it starts the child
	asCaller  = "caller"  // by itself, and it calls other hosts
)

func TestMain(m *testing.M) {
	if text := os.Getenv(hostileScene); text != "" {
		if err := beHostile(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// beHostile tries to get out and prints what came of it.
func beHostile(text string) error {
	s, err := confinetest.ParseScene(text)
	if err != nil {
		return err
	}
	volume := os.NewFile(3, s.Volume)
	switch os.Getenv(hostileRole) {
	case asProcess:
		inside, err := os.Open(s.Inside)
		if err != nil {
			return err
		}
		_, err = confine.Process(confine.Policy{Write: []*os.File{inside}, ReadPaths: []string{"/proc", "/sys/devices"}, Capabilities: confine.Capabilities{unix.CAP_DAC_OVERRIDE, unix.CAP_FOWNER}})
		if err != nil {
			return err
		}
	case asCaller:
		if err := callOut(); err != nil {
			return err
		}
	case asStarter:
		if _, err := confine.Process(confine.Policy{Read: []*os.File{volume}, ReadPaths: []string{"/proc"}, Run: []string{os.Args[0]}, Capabilities: confine.Capabilities{unix.CAP_DAC_OVERRIDE}}); err != nil {
			return err
		}
		return startHostile(volume, text)
	}
	return json.NewEncoder(os.Stdout).Encode(confinetest.Try(s, volume))
}

// callOut confines this process so that it may call the first of two ports of this host, and
// tries both.
func callOut() error {
	var at [2]net.Listener
	for i := range at {
		var err error
		if at[i], err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return err
		}
		defer at[i].Close()
	}
	port := uint16(at[0].Addr().(*net.TCPAddr).Port)
	if _, err := confine.Process(confine.Policy{ReadPaths: []string{"/proc", "/sys/devices"}, Connect: []uint16{port}}); err != nil {
		return err
	}
	if _, err := net.Dial("tcp", at[0].Addr().String()); err != nil {
		return err
	}
	if _, err := net.Dial("tcp", at[1].Addr().String()); !errors.Is(err, unix.EACCES) {
		return fmt.Errorf("to call another port: %v", err)
	}
	if _, err := net.Dial("udp", "127.0.0.1:53"); err != nil {
		return err
	}
	if _, err := net.Listen("tcp", "127.0.0.1:0"); err == nil {
		return errors.New("it could listen")
	}
	return nil
}

// startHostile has a confined child try.
func startHostile(volume *os.File, text string) error {
	cmd := exec.Command(os.Args[0])
	cmd.Env = []string{hostileScene + "=" + text, hostileRole + "=" + asChild}
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = os.Stdout, os.Stderr, []*os.File{volume}
	if _, err := confine.Start(confine.Policy{Read: []*os.File{volume}}, cmd); err != nil {
		return err
	}
	return cmd.Wait()
}

// contained fails for each escape that succeeded.
func contained(t *testing.T, out []byte) {
	t.Helper()
	var all []confinetest.Attempt
	if err := json.Unmarshal(out, &all); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if len(all) < 30 {
		t.Errorf("only %d escapes were tried", len(all))
	}
	for _, a := range all {
		if a.Succeeded {
			t.Errorf("it could %s (%s)", a.Name, a.Said)
		}
	}
}

// hostile runs this binary in that role.
func hostile(t *testing.T, s confinetest.Scene, role string) []byte {
	t.Helper()
	volume := opened(t, s.Volume, os.O_RDWR)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), hostileScene+"="+s.String(), hostileRole+"="+role)
	cmd.Stderr, cmd.ExtraFiles = os.Stderr, []*os.File{volume}
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return out
}

func needFull(t *testing.T) {
	t.Helper()
	testenv.Need(t, "a kernel that confines fully", confine.Available().Word() == confine.Full)
}

func TestNothingGetsOutOfAConfinedProcess(t *testing.T) {
	needFull(t)
	contained(t, hostile(t, confinetest.NewScene(t), asProcess))
}

// Who may call other hosts reaches nothing else by that, and none of this host's programs.
func TestACallerOfOtherHostsGetsNowhereElse(t *testing.T) {
	needFull(t)
	var all []confinetest.Attempt
	if err := json.Unmarshal(hostile(t, confinetest.NewScene(t), asCaller), &all); err != nil {
		t.Fatal(err)
	}
	all = slices.DeleteFunc(all, func(a confinetest.Attempt) bool { return strings.HasPrefix(a.Name, "make a socket of the internet") })
	out, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	contained(t, out)
}

func TestNothingGetsOutOfAChild(t *testing.T) {
	needFull(t)
	s := confinetest.NewScene(t)
	out, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	volume := opened(t, s.Volume, os.O_RDWR)
	cmd := exec.Command(os.Args[0])
	cmd.Env = []string{hostileScene + "=" + s.String(), hostileRole + "=" + asChild}
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = out, os.Stderr, []*os.File{volume}
	if _, err := confine.Start(confine.Policy{Read: []*os.File{volume}}, cmd); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	said, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	contained(t, said)
}

// A helper confines itself and then starts what it confines further.
func TestNothingGetsOutOfTheChildOfAConfinedProcess(t *testing.T) {
	needFull(t)
	contained(t, hostile(t, confinetest.NewScene(t), asStarter))
}

// That an escape is denied says something only where it would succeed else.
func TestEscapesAreReal(t *testing.T) {
	testenv.Root(t)
	s := confinetest.NewScene(t)
	volume := opened(t, filepath.Join(s.Inside, "volume"), os.O_RDWR)
	all := confinetest.TryReal(s, volume)
	if len(all) < 30 {
		t.Errorf("only %d escapes are real", len(all))
	}
	for _, a := range all {
		if a.Said != "<nil>" {
			t.Errorf("root who is not confined cannot %s: %s", a.Name, a.Said)
		}
	}
}
