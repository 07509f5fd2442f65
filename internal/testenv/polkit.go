package testenv

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// busPatience bounds the start of a bus and of polkit, which take some 100 ms.
const busPatience = 2 * time.Minute

// polkitd is where Debian and its like have the program.
const polkitd = "/usr/lib/polkit-1/polkitd"

// busConfig lets everybody do everything on a bus.
const busConfig = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
<type>system</type><listen>unix:path=%s</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/></policy>
</busconfig>
`

// Shared is a directory until the end of the test that other users may enter.
func Shared(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "storaged-test-")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// Bus starts a bus of D-Bus at a socket until the end of the test, and gives its address
// and its process.
func Bus(t testing.TB, socket string) (address string, daemon *os.Process) {
	t.Helper()
	config := socket + ".conf"
	write(t, config, fmt.Sprintf(busConfig, socket))
	s := spawn(t, "exec "+Tool(t, "dbus-daemon")+" --nofork --nopidfile --config-file="+config)
	until(t, s, func() bool {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return "unix:path=" + socket, s.cmd.Process
}

// Polkit starts a bus with polkit on it until the end of the test, and gives the bus's
// address and polkit's process. It has the rules given, the policies of the files given,
// and no others. It needs root.
func Polkit(t testing.TB, rules string, policies ...string) (address string, daemon *os.Process) {
	t.Helper()
	Root(t)
	_, err := os.Stat(polkitd)
	Need(t, "the program "+polkitd, err == nil)
	dir := Shared(t)
	address, _ = Bus(t, filepath.Join(dir, "bus"))
	for _, sub := range []string{"actions", "rules", "none"} {
		makeDir(t, filepath.Join(dir, sub))
	}
	for _, p := range policies {
		content, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, "actions", filepath.Base(p)), string(content))
	}
	write(t, filepath.Join(dir, "rules", "10-test.rules"), rules)
	script := fmt.Sprintf(`mount --bind %[1]s/actions /usr/share/polkit-1/actions && mount --bind %[1]s/rules /etc/polkit-1/rules.d &&
		mount --bind %[1]s/none /usr/share/polkit-1/rules.d && exec %[2]s --no-debug`, dir, polkitd)
	p := spawn(t, script, "DBUS_SYSTEM_BUS_ADDRESS="+address)
	until(t, p, func() bool {
		names := exec.Command(Tool(t, "dbus-send"), "--bus="+address, "--print-reply", "--dest=org.freedesktop.DBus", "/", "org.freedesktop.DBus.NameHasOwner", "string:org.freedesktop.PolicyKit1")
		out, err := names.Output()
		return err == nil && bytes.Contains(out, []byte("true"))
	})
	return address, p.cmd.Process
}

// spawned is a program until the end of the test.
type spawned struct {
	cmd  *exec.Cmd
	said *bytes.Buffer
}

// spawn runs a script where it can mount.
func spawn(t testing.TB, script string, env ...string) spawned {
	t.Helper()
	s := spawned{Mounting(context.Background(), t, script), new(bytes.Buffer)}
	s.cmd.Stdout, s.cmd.Stderr = s.said, s.said
	s.cmd.Env = append(os.Environ(), env...)
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill() // it may be stopped, or gone
		_ = s.cmd.Wait()
		if t.Failed() && s.said.Len() > 0 {
			t.Logf("%s\nsaid: %s", script, s.said)
		}
	})
	return s
}

// until waits until a program that was started does what it is to.
func until(t testing.TB, s spawned, does func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	late := time.After(busPatience)
	for !does() {
		select {
		case <-tick.C:
		case <-late:
			_ = s.cmd.Process.Kill()
			_ = s.cmd.Wait()
			t.Fatalf("%q is not ready in %v: %s", s.cmd.Args, busPatience, s.said)
		}
	}
}
