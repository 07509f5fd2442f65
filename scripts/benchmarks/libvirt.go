package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// libvirt is a private libvirtd: its configuration, state and sockets are in
// file systems of its own, and it has no network.
type libvirt struct {
	absent string // why there is none
	socket string
	daemon *exec.Cmd
}

// libvirtScript makes what libvirtd writes to its own, and becomes it. $1 is a
// directory for the socket and the configuration.
const libvirtScript = `set -e
for d in /run /var/lib/libvirt /etc/libvirt /var/cache/libvirt; do mkdir -p $d; mount -t tmpfs private $d; done
mkdir -p /run/libvirt
exec libvirtd --config "$1/libvirtd.conf" --pid-file "$1/pid"`

// startLibvirt starts it with a pool on dir, or says in absent why it cannot.
func startLibvirt(ctx context.Context, base, dir string) *libvirt {
	l := &libvirt{}
	for _, name := range []string{"libvirtd", "virsh", "unshare"} {
		if _, err := exec.LookPath(name); err != nil {
			l.absent = name + " is not installed (scripts/bench names its package)"
			return l
		}
	}
	home := filepath.Join(base, "libvirt")
	log, err := layLibvirt(home)
	if err != nil {
		l.absent = err.Error()
		return l
	}
	defer log.Close() // the daemon has its own
	cmd := exec.Command("unshare", "--mount", "--net", "sh", "-c", libvirtScript, "libvirtd", home)
	cmd.Env = append(os.Environ(), "LIBVIRT_DRIVER_DIR="+home)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		l.absent = "libvirtd: " + err.Error()
		return l
	}
	l.daemon, l.socket = cmd, filepath.Join(home, "libvirt-sock")
	if err := l.ready(ctx, dir); err != nil {
		l.stop()
		said, _ := os.ReadFile(log.Name())
		lines := strings.Split(strings.TrimSpace(string(said)), "\n")
		l.absent = "libvirtd does not start here: " + lines[len(lines)-1]
	}
	return l
}

// storageDriver is the one driver that is wanted; the others look for users,
// devices and a bus.
const storageDriver = "libvirt_driver_storage.so"

// layLibvirt makes the directory of a private libvirtd, and opens its log.
func layLibvirt(home string) (*os.File, error) {
	var found []string
	for _, dir := range []string{"/usr/lib*/*", "/usr/lib*"} { // with and without the architecture
		there, _ := filepath.Glob(filepath.Join(dir, "libvirt/connection-driver", storageDriver)) // fails for a bad pattern only
		found = append(found, there...)
	}
	if len(found) == 0 {
		return nil, errors.New("libvirt's storage driver is not installed")
	}
	if err := os.Mkdir(home, 0o700); err != nil {
		return nil, err
	}
	if err := os.Symlink(found[0], filepath.Join(home, storageDriver)); err != nil {
		return nil, err
	}
	config := fmt.Sprintf("unix_sock_dir = %q\nauth_unix_rw = \"none\"\nauth_unix_ro = \"none\"\n", home)
	if err := os.WriteFile(filepath.Join(home, "libvirtd.conf"), []byte(config), 0o600); err != nil {
		return nil, err
	}
	return os.Create(filepath.Join(home, "log"))
}

// ready waits for the daemon and makes the pool.
func (l *libvirt) ready(ctx context.Context, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for l.virsh(ctx, "pool-list") != nil {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("it does not answer: %w", l.virsh(context.Background(), "pool-list"))
		}
	}
	return l.virsh(ctx, "pool-create-as", peersPool, "dir", "--target", dir)
}

func (l *libvirt) virsh(ctx context.Context, args ...string) error {
	return virsh(ctx, libvirtURI(l.socket), args...)
}

// libvirtURI is how clients of libvirt find a daemon by its socket.
func libvirtURI(socket string) string { return "storage:///system?socket=" + socket }

// virsh runs a command of libvirt's own client.
func virsh(ctx context.Context, uri string, args ...string) error {
	cmd := exec.CommandContext(ctx, "virsh", append([]string{"-q", "-c", uri}, args...)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Start()
	if err == nil {
		err = errors.Join(unix.Setpriority(unix.PRIO_PROCESS, cmd.Process.Pid, 0), cmd.Wait()) // we may be ahead (goAhead)
	}
	if err != nil {
		return fmt.Errorf("virsh %s: %w: %s", args[0], err, strings.TrimSpace(out.String()))
	}
	return nil
}

// contender is a command of virsh, after the pool was looked at.
func (l *libvirt) contender(args ...string) contender {
	return contender{
		name:   "virsh " + args[0],
		absent: l.absent,
		argv:   append([]string{"virsh", "-q", "-c", libvirtURI(l.socket)}, args...),
		daemon: func() int { return l.daemon.Process.Pid },
		before: func(ctx context.Context, _ *work) error { return l.virsh(ctx, "pool-refresh", peersPool) },
	}
}

// prepared is a command of virsh after another, of a comparison with our daemon.
func (l *libvirt) prepared(before func(*work) []string, args ...string) contender {
	c := l.contender(args...)
	c.name += ", libvirtd"
	c.before = func(ctx context.Context, w *work) error { return l.virsh(ctx, before(w)...) }
	return c
}

func (l *libvirt) stop() {
	if l == nil || l.daemon == nil {
		return
	}
	_ = l.daemon.Process.Signal(syscall.SIGTERM)
	_ = l.daemon.Wait()
	l.daemon = nil
}
