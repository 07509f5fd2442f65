package tool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"storaged/internal/confine"
)

// Exit codes of iscsiadm(8).
const (
	ISCSINoObjects   = 21 // there is nothing of that kind
	ISCSIAuthFailed  = 24 // the target does not let this host in
	ISCSITimedOut    = 8
	ISCSIUnreachable = 4 // the connection fails
)

const (
	// iscsiTime is how long iscsiadm may take: a login is tried a few times, and a target
	// that is busy answers late.
	iscsiTime = 2 * time.Minute
	// maxTargets bounds what it may say, bytes: some hundred bytes a target.
	maxTargets = 1 << 20
)

// Portal is where a target is reached.
type Portal struct{ Host, Port string }

func (p Portal) String() string { return net.JoinHostPort(p.Host, p.Port) }

// Login is how this host logs in to a target.
type Login struct {
	Target, Initiator string // Initiator may be "": the host's own name
	Portal
	Username string // "": nobody is asked who this is
	Secret   []byte
}

// iscsiSocket is where iscsid(8) is asked, in the abstract name space.
const iscsiSocket = "@ISCSIADM_ABSTRACT_NAMESPACE"

// ErrNoISCSId says that iscsid is not there to be asked.
var ErrNoISCSId = errors.New("iscsid does not run")

// databases are where iscsiadm may have its records, by how it was built.
var databases = []string{"/etc/iscsi", "/var/lib/iscsi"}

// LogIn logs in to a target. iscsiadm takes a secret from a record of its database, or from
// its arguments, which everybody sees. So it gets a database that only this one process
// sees, in memory, and nothing of it is left when it has ended: iscsid is given all that it
// needs, and keeps it.
func LogIn(ctx context.Context, l Login) error {
	if !listens(iscsiSocket) { // it would be started where the database is, and keep that
		return ErrNoISCSId
	}
	nodes, err := nodesOf(databases)
	if err != nil {
		return err
	}
	hidden, err := confine.Hide(nodes...)
	if err != nil {
		return err
	}
	defer hidden.Close()
	node := []string{"--mode", "node", "--targetname", l.Target, "--portal", l.Portal.String()}
	run := func(more ...string) error {
		_, err := iscsiadm(ctx, hidden.Namespace, append(node[:len(node):len(node)], more...)...)
		return err
	}
	if err := run("--op", "new"); err != nil {
		return err
	}
	if err := l.complete(hidden.Directories); err != nil {
		return fmt.Errorf("cannot write down how to log in: %w", err)
	}
	return run("--login")
}

// nodesOf are the directories in which iscsiadm may have its records.
func nodesOf(databases []string) (all []string, err error) {
	for _, dir := range databases {
		if _, err := os.Stat(dir); err != nil {
			continue
		}
		nodes := filepath.Join(dir, "nodes")
		if err := os.Mkdir(nodes, 0o700); err != nil && !errors.Is(err, fs.ErrExist) { // as iscsiadm does
			return nil, fmt.Errorf("cannot make the database of iscsiadm: %w", err)
		}
		all = append(all, nodes)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("the database of iscsiadm is in none of %s", strings.Join(databases, ", "))
	}
	return all, nil
}

// complete adds to the only record of a database what iscsiadm is not to be told by its
// arguments.
func (l Login) complete(dirs []*os.File) error {
	records := recordsIn(dirs)
	if len(records) != 1 {
		return fmt.Errorf("there are %d records in its database, and not one", len(records))
	}
	f, err := os.OpenFile(records[0], os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close() // it is memory
	text, err := os.ReadFile(records[0])
	if err != nil {
		return err
	}
	text = l.record(text)
	defer clear(text)
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err = f.WriteAt(text, 0)
	return err
}

// recordsIn are the records of databases: each is the file of a portal in the directory of
// its target, or one further below.
func recordsIn(dirs []*os.File) (records []string) {
	for _, dir := range dirs {
		at := fmt.Sprintf("/proc/self/fd/%d/", dir.Fd())
		portals, _ := filepath.Glob(at + "*/*") // the patterns are good
		below, _ := filepath.Glob(at + "*/*/*")
		for _, path := range append(portals, below...) {
			if info, err := os.Lstat(path); err == nil && info.Mode().IsRegular() {
				records = append(records, path)
			}
		}
	}
	return records
}

// loginTime and loginTries bound a login at a target that does not answer: whoever starts a
// pool waits for it, and may try again. Seconds.
const (
	loginTime  = "15"
	loginTries = "2"
)

// record adds what is to hold to a record of a node (iscsiadm(8), iscsid.conf(5)).
func (l Login) record(text []byte) []byte {
	values := [][2]string{
		{"node.startup", "manual"}, {"node.session.initial_login_retry_max", loginTries}, {"node.conn[0].timeo.login_timeout", loginTime},
		{"node.session.auth.authmethod", "None"},
	}
	if l.Initiator != "" {
		values = append(values, [2]string{"iface.initiatorname", l.Initiator})
	}
	if l.Username != "" {
		values[3][1] = "CHAP"
		values = append(values, [2]string{"node.session.auth.username", l.Username})
	}
	var out bytes.Buffer
	out.Grow(len(text) + 4<<10) // it is not copied about
	for line := range bytes.Lines(text) {
		name, _, _ := bytes.Cut(line, []byte(" "))
		known := bytes.HasPrefix(line, []byte("#")) || bytes.HasPrefix(name, []byte("node.session.auth."))
		for _, v := range values {
			known = known || string(name) == v[0]
		}
		if !known {
			out.Write(line)
		}
	}
	for _, v := range values {
		fmt.Fprintf(&out, "%s = %s\n", v[0], v[1])
	}
	if l.Username != "" {
		out.WriteString("node.session.auth.password = ")
		out.Write(l.Secret)
		out.WriteByte('\n')
	}
	return out.Bytes()
}

// LogOut ends a session.
func LogOut(ctx context.Context, session string) error {
	_, err := iscsiadm(ctx, nil, "--mode", "session", "--sid", session, "--logout")
	return err
}

// Rescan looks for what a target has by now.
func Rescan(ctx context.Context, session string) error {
	_, err := iscsiadm(ctx, nil, "--mode", "session", "--sid", session, "--rescan")
	return err
}

// Targets are the names of those that a portal knows of. Nothing is kept of it.
func Targets(ctx context.Context, at Portal) ([]string, error) {
	out, err := iscsiadm(ctx, nil, "--mode", "discovery", "--type", "sendtargets", "--portal", at.String(), "--op", "nonpersistent")
	if err != nil {
		return nil, err
	}
	return parseTargets(out), nil
}

// parseTargets reads lines of an address, a group of portals and a target: a target has one
// for each of its portals.
func parseTargets(out []byte) (names []string) {
	seen := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		if fields := strings.Fields(line); len(fields) == 2 && !seen[fields[1]] {
			seen[fields[1]] = true
			names = append(names, fields[1])
		}
	}
	return names
}

func iscsiadm(ctx context.Context, namespace *os.File, options ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, iscsiTime, fmt.Errorf("it has not ended within %v", iscsiTime))
	defer cancel()
	return Command{Program: ISCSIAdm, Options: options, Output: maxTargets, within: namespace}.Administer(ctx)
}

// listens reports whether somebody listens at a socket, as the kernel shows its name.
func listens(name string) bool {
	b, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		return true // the program finds out
	}
	for line := range strings.Lines(string(b)) {
		if strings.HasSuffix(strings.TrimSuffix(line, "\n"), " "+name) {
			return true
		}
	}
	return false
}
