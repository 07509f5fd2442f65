// Package notify has receivers told of what happens: programs and web servers that an
// administrator has named. The daemon's part is here: what waits for each receiver, and the
// process that tells it, storage-notify (package sender). Whoever has a notice hands it over
// and never waits.
package notify

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"storaged/internal/record"
)

// Receiver is who is to be told, and of what: a program or the address of a web server.
type Receiver struct {
	Name    string        `json:"name"`
	Timeout time.Duration `json:"timeout"` // of one run, or request

	Program []string `json:"program,omitempty"` // argv, with an absolute path
	User    string   `json:"user,omitempty"`    // that it runs as; "": the daemon's, if that is not root

	URL          string `json:"url,omitempty"`
	URLFile      string `json:"url_file,omitempty"`      // instead: it is in the file
	CAFile       string `json:"ca_file,omitempty"`       // certificates that vouch for the server; "": those of the system
	SecretHeader string `json:"secret_header,omitempty"` // whose value is in the file
	SecretFile   string `json:"secret_file,omitempty"`

	Filter Filter `json:"-"`
}

// Filter selects notices. Different fields are "and", the values of one are "or"; an empty
// one lets all pass. A notice without what a field is about does not pass it.
type Filter struct {
	Priority record.Urgency    // the least; what is well again passes too
	Events   []string          // types of notices
	Kinds    []string          // of jobs; patterns, as of names
	Outcomes []string          // states
	Owners   []string          // names of users
	Labels   map[string]string // of jobs
}

// MaxReceivers bounds the receivers of a daemon: each has a process while there is something
// to tell, and a queue.
const MaxReceivers = 16

const (
	programTimeout = 30 * time.Second
	webTimeout     = 10 * time.Second
	maxTimeout     = time.Hour // of a run; nothing else is told to the receiver meanwhile
)

// Complete fills in what follows from the rest, and checks receivers. The error is all that is
// wrong, joined, each a *record.SettingError of notify[N].
func Complete(all []Receiver) error {
	if len(all) > MaxReceivers {
		return record.BadSetting(fmt.Sprintf("notify[%d]", MaxReceivers), "there are %d receivers of notices, and at most %d can be", len(all), MaxReceivers)
	}
	var wrong []error
	names := map[string]bool{}
	for i := range all {
		r, key := &all[i], fmt.Sprintf("notify[%d]", i)
		if r.Name == "" {
			wrong = append(wrong, record.BadSetting(key, "receiver %d of notices has no name: notify.name", i+1))
		} else if err := r.complete(); err != nil {
			wrong = append(wrong, record.BadSetting(key, "receiver %d of notices (notify.name %s): %v", i+1, record.Short(r.Name), err))
		} else if names[r.Name] {
			wrong = append(wrong, record.BadSetting(key, "two receivers of notices are called %q", r.Name))
		}
		names[r.Name] = true
	}
	return errors.Join(wrong...)
}

func (r *Receiver) complete() error {
	if err := record.CheckName(r.Name); err != nil {
		return err
	}
	ways := 0
	for _, given := range []bool{len(r.Program) > 0, r.URL != "", r.URLFile != ""} {
		if given {
			ways++
		}
	}
	if ways != 1 {
		return fmt.Errorf("it has either program or url, or url_file instead of that")
	}
	byDefault := webTimeout
	if len(r.Program) > 0 {
		byDefault = programTimeout
	}
	r.Timeout = cmp.Or(r.Timeout, byDefault)
	if r.Timeout < 0 || r.Timeout > maxTimeout {
		return fmt.Errorf("timeout is at most %v, not %v", maxTimeout, r.Timeout)
	}
	if err := r.Filter.complete(); err != nil {
		return err
	}
	if len(r.Program) > 0 {
		return r.completeProgram()
	}
	return r.checkServer()
}

// defaultUser is whom programs run as for root's daemon, if nobody is named: who is told
// that a job failed need not be root.
const defaultUser = "nobody"

func (r *Receiver) completeProgram() error {
	if !filepath.IsAbs(r.Program[0]) {
		return fmt.Errorf("program begins with an absolute path, not with %q", r.Program[0])
	}
	if r.CAFile != "" || r.SecretHeader != "" || r.SecretFile != "" {
		return fmt.Errorf("ca_file, secret_header and secret_file are for a url")
	}
	if os.Geteuid() == 0 {
		r.User = cmp.Or(r.User, defaultUser)
	}
	_, err := r.credential()
	return err
}

// CheckFiles checks that the programs of receivers can be run, and that the files are there
// that they are told by. The error is all that is wrong, as that of Complete.
func CheckFiles(all []Receiver) error {
	var wrong []error
	for i, r := range all {
		if err := r.checkFiles(); err != nil {
			wrong = append(wrong, record.BadSetting(fmt.Sprintf("notify[%d]", i), "receiver %q of notices: %v", r.Name, err))
		}
	}
	return errors.Join(wrong...)
}

func (r *Receiver) checkFiles() error {
	if len(r.Program) > 0 && filepath.IsAbs(r.Program[0]) {
		switch st, err := os.Stat(r.Program[0]); {
		case err != nil:
			return fmt.Errorf("program cannot be run: %w", err)
		case !st.Mode().IsRegular() || st.Mode()&0o111 == 0:
			return fmt.Errorf("program cannot be run: %q is no file that may be executed", r.Program[0])
		}
	}
	for name, file := range r.files() {
		if _, err := os.Stat(file); filepath.IsAbs(file) && err != nil {
			return fmt.Errorf("%s cannot be read: %w", name, err)
		}
	}
	return nil
}

// files are those that a web server is told by, by the names of their settings.
func (r *Receiver) files() map[string]string {
	return map[string]string{"ca_file": r.CAFile, "secret_file": r.SecretFile, "url_file": r.URLFile}
}

// identity is a user by numbers.
type identity struct {
	uid, gid uint32
	groups   []uint32
}

// credential is the user that a program runs as, nil: the daemon's own.
func (r *Receiver) credential() (*identity, error) {
	if r.User == "" {
		return nil, nil
	}
	u, err := user.Lookup(r.User)
	if err != nil {
		return nil, fmt.Errorf("there is no user %q to run the program as: %w", r.User, err)
	}
	uid, errUser := strconv.ParseUint(u.Uid, 10, 32)
	gid, errGroup := strconv.ParseUint(u.Gid, 10, 32)
	if err := cmp.Or(errUser, errGroup); err != nil {
		return nil, fmt.Errorf("user %q: %w", r.User, err)
	}
	if os.Geteuid() != 0 {
		if int(uid) != os.Geteuid() {
			return nil, fmt.Errorf("only root's daemon runs programs as another user (%q)", r.User)
		}
		return nil, nil
	}
	id := &identity{uid: uint32(uid), gid: uint32(gid)}
	groups, err := u.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("groups of user %q: %w", r.User, err)
	}
	for _, g := range groups {
		if n, err := strconv.ParseUint(g, 10, 32); err == nil {
			id.groups = append(id.groups, uint32(n))
		}
	}
	return id, nil
}

func (r *Receiver) checkServer() error {
	switch {
	case r.User != "":
		return fmt.Errorf("user is for a program")
	case (r.SecretHeader == "") != (r.SecretFile == ""):
		return fmt.Errorf("secret_header and secret_file belong together")
	case r.SecretHeader != "" && !isToken(r.SecretHeader):
		return fmt.Errorf("secret_header is the name of a header, not %q", r.SecretHeader)
	}
	for name, file := range r.files() {
		if file != "" && !filepath.IsAbs(file) {
			return fmt.Errorf("%s is an absolute path, not %q", name, file)
		}
	}
	if r.URLFile != "" {
		return nil // who calls the server looks at it
	}
	return r.CheckURL(r.URL)
}

// CheckURL refuses an address that the receiver cannot have. It does not say which that is,
// as it may be a secret.
func (r *Receiver) CheckURL(address string) error {
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "":
		return fmt.Errorf("url is https://HOST/… or http://HOST/…")
	case u.User != nil:
		return fmt.Errorf("url has a user or password, which everybody could read: secret_header = \"Authorization\" and secret_file are for that")
	case (r.SecretFile != "" || r.URLFile != "") && u.Scheme == "http" && !isLoopback(u.Hostname()):
		return fmt.Errorf("a secret goes over https, or to this host")
	}
	_, err = PortOf(address)
	return err
}

// PortOf is the port of TCP that a server at that address is called at.
func PortOf(address string) (uint16, error) {
	u, err := url.Parse(address)
	if err != nil {
		return 0, errors.New("url cannot be read")
	}
	byScheme := map[string]string{"https": "443", "http": "80"}
	n, err := strconv.ParseUint(cmp.Or(u.Port(), byScheme[u.Scheme]), 10, 16)
	if err != nil || n == 0 {
		return 0, errors.New("url has a port that is none")
	}
	return uint16(n), nil
}

// isToken reports whether a text that is not empty is one by RFC 9110, as names of headers are.
func isToken(s string) bool {
	const token = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	return !strings.ContainsFunc(s, func(r rune) bool { return !strings.ContainsRune(token, r) })
}

func isLoopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}

// order of the urgencies, the least first.
var order = []record.Urgency{record.Ordinary, record.Notable, record.Alarming, record.Broken}

// complete checks that each word can be met at all.
func (f *Filter) complete() error {
	f.Priority = cmp.Or(f.Priority, record.Alarming)
	if err := record.OneOf("priority", f.Priority, order...); err != nil {
		return err
	}
	for _, e := range f.Events {
		if err := record.OneOf("events", e, record.NoticeTypes()...); err != nil {
			return err
		}
	}
	outcomes := []string{string(record.VolumeIncomplete)}
	for _, s := range record.States() {
		if s.Terminal() {
			outcomes = append(outcomes, string(s))
		}
	}
	for _, s := range record.PoolStates() {
		outcomes = append(outcomes, string(s))
	}
	for _, o := range f.Outcomes {
		if err := record.OneOf("outcomes", o, outcomes...); err != nil {
			return err
		}
	}
	for _, k := range f.Kinds {
		if k == "" || !slices.ContainsFunc(record.Kinds(), func(kind record.Kind) bool { return isLike(k, string(kind)) }) {
			return fmt.Errorf("kinds: there is no kind of job like %q", k)
		}
	}
	return nil
}

func isLike(pattern, word string) bool {
	ok, err := record.MatchName(pattern, word)
	return ok && err == nil
}

// Passes reports whether the notice is one of those selected.
func (f *Filter) Passes(n *record.Notice) bool {
	if slices.Index(order, n.Urgency) < slices.Index(order, f.Priority) && !n.Recovery() {
		return false
	}
	for name, value := range f.Labels {
		if got, has := n.Labels[name]; !has || got != value {
			return false
		}
	}
	return among(f.Events, n.Type) && among(f.Outcomes, n.Outcome) && among(f.Owners, n.Owner) &&
		(len(f.Kinds) == 0 || slices.ContainsFunc(f.Kinds, func(k string) bool { return isLike(k, string(n.Kind)) }))
}

func among(words []string, word string) bool { return len(words) == 0 || slices.Contains(words, word) }
