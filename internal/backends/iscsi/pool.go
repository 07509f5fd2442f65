package iscsi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"storaged/internal/backends"
	"storaged/internal/backends/device"
	"storaged/internal/blockdev"
	"storaged/internal/record"
	"storaged/internal/secret"
	"storaged/internal/tool"
)

// here fails if a pool is not of the target that it was started with.
func here(p backends.Pool) (where, error) {
	w, err := whereOf(p)
	if err == nil && !(Backend{}).Same(p.ID, w.identity()) {
		err = &backends.AwayError{Target: p.Target, Err: fmt.Errorf("target %q %w", w.target, backends.ErrReplaced)}
	}
	return w, err
}

// enter gives the session of a pool, which works.
func enter(ctx context.Context, p backends.Pool) (s session, err error) {
	if err := ctx.Err(); err != nil {
		return s, context.Cause(ctx)
	}
	w, err := here(p)
	if err != nil {
		return s, err
	}
	s, ok := sessionWith(blockdev.System, w)
	switch {
	case !ok:
		return s, device.Lacking(p, fmt.Errorf("this host is not logged in to target %q at %s", w.target, w.Portal))
	case s.state != loggedIn:
		return s, &backends.AwayError{Target: p.Target, Err: record.Errorf(record.WrongState, "the session with target %q at %s is %s: the target does not answer", w.target, w.Portal, s.state).
			WithHint("it is made again by itself when the target is back")}
	}
	return s, nil
}

// Ready looks whether somebody answers where the target is to be.
func (Backend) Ready(ctx context.Context, p backends.Pool) error {
	w, err := here(p)
	if err != nil {
		return err
	}
	if _, ok := sessionWith(blockdev.System, w); ok {
		return nil
	}
	if _, err := tool.ISCSIAdm.Find(); err != nil {
		return err
	}
	c, err := (&net.Dialer{Timeout: knockTime}).DialContext(ctx, "tcp", w.Portal.String())
	if err != nil {
		return device.Lacking(p, fmt.Errorf("nobody answers at %s: %w", w.Portal, err))
	}
	return c.Close()
}

// knockTime is how long a portal may take to answer at all.
const knockTime = 5 * time.Second

// Start logs in, unless this host is.
func (Backend) Start(ctx context.Context, p backends.Pool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	w, err := here(p)
	if err != nil {
		return err
	}
	if _, ok := sessionWith(blockdev.System, w); !ok {
		if err := logIn(ctx, p, w); err != nil {
			return err
		}
	}
	s, err := enter(ctx, p)
	if err == nil {
		err = s.appear(ctx, p)
	}
	return err
}

func logIn(ctx context.Context, p backends.Pool, w where) error {
	l := tool.Login{Target: w.target, Initiator: p.Source.Initiator, Portal: w.Portal, Username: p.Source.Username}
	if l.Username != "" && p.Secret == nil {
		return record.Errorf(record.NotFound, "no secret is given with which %q logs in to target %q", l.Username, w.target)
	}
	if p.Secret != nil {
		value, err := secret.Read(p.Secret)
		if err != nil {
			return fmt.Errorf("secret %q: %w", p.Source.Secret, err)
		}
		defer clear(value)
		if !plain(string(value)) {
			return record.Errorf(record.Invalid, "secret %q cannot be one of CHAP: it has more than %d bytes, others than ASCII's letters, digits and signs, or a blank or newline at its end", p.Source.Secret, maxLogin).
				WithHint("%s, without a newline at its end", record.Do("secret.set", p.Source.Secret).With("file", "FILE"))
		}
		l.Secret = value
	}
	return refused(p, w, tool.LogIn(ctx, l))
}

// refused says why a login has failed.
func refused(p backends.Pool, w where, err error) error {
	ended, ok := errors.AsType[*tool.EndError](err)
	switch {
	case errors.Is(err, tool.ErrNoISCSId):
		return record.Errorf(record.Unsupported, "cannot log in to target %q: %v", w.target, err).
			WithHint("start it: systemctl enable --now iscsid.socket")
	case ok && ended.Exit == tool.ISCSIAuthFailed && p.Source.Username != "":
		return record.Errorf(record.Denied, "target %q at %s does not let %q in by secret %q", w.target, w.Portal, p.Source.Username, p.Source.Secret).
			WithHint("%s gives another one", record.Do("secret.set", p.Source.Secret).With("file", "FILE"))
	case ok && ended.Exit == tool.ISCSIAuthFailed:
		return record.Errorf(record.Denied, "target %q at %s does not let this host in", w.target, w.Portal).
			WithHint("it may want a login, %s, or the initiator of another name", record.Do("").With("source_username", "NAME").With("source_secret", "SECRET"))
	case err != nil:
		return fmt.Errorf("cannot log in to target %q at %s: %w", w.target, w.Portal, err)
	}
	return nil
}

// appearTime is how long the kernel and udev may take for the disks of a session: they are
// looked at one by one. Who waits no longer finds them later.
const appearTime = 10 * time.Second

// appear waits until the units of a session have their disks, and the links to those.
func (s session) appear(ctx context.Context, p backends.Pool) error {
	tick := time.NewTicker(appearTime / 100)
	defer tick.Stop()
	for end := time.Now().Add(appearTime); time.Now().Before(end) && !s.appeared(p); {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

func (s session) appeared(p backends.Pool) bool {
	for _, u := range s.units() {
		node, err := filepath.EvalSymlinks(Backend{}.Locate(p, nameOf(u.lun)).Path)
		if err != nil || filepath.Base(node) != u.kernel {
			return false
		}
	}
	return true
}

// Stop logs out, if nobody uses a unit.
func (Backend) Stop(ctx context.Context, p backends.Pool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	w, err := whereOf(p)
	if err != nil {
		return err
	}
	s, ok := sessionWith(blockdev.System, w)
	if !ok {
		return nil
	}
	for _, u := range s.units() {
		if err := s.unused(ctx, p, u); err != nil {
			return err
		}
	}
	if err := tool.LogOut(ctx, s.id); err != nil {
		return fmt.Errorf("cannot log out of target %q at %s: %w", w.target, w.Portal, err)
	}
	return nil
}

// unused refuses to take away a unit that somebody uses. Who came by for a moment is waited
// for.
func (s session) unused(ctx context.Context, p backends.Pool, u logicalUnit) error {
	tick := time.NewTicker(useInterval)
	defer tick.Stop()
	for since := time.Now(); ; {
		uses := blockdev.System.Uses(u.number)
		if len(uses) == 0 && !claimed(u) {
			return nil
		}
		if time.Since(since) >= blockdev.Patience(uses) {
			who, release := blockdev.Named(uses)
			return &backends.BusyError{Object: Backend{}.Locate(p, nameOf(u.lun)).Path, Holder: who, Release: release}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// useInterval is how often it is looked whether somebody has gone.
const useInterval = 50 * time.Millisecond

// claimed reports whether somebody who is not seen from here has claimed a unit. It is not
// opened to be written: udev looks at what was when it is closed.
func claimed(u logicalUnit) bool {
	f, err := os.OpenFile(filepath.Join("/dev", u.kernel), os.O_RDONLY|unix.O_EXCL|unix.O_NONBLOCK, 0)
	if err == nil {
		f.Close() // nothing was written
	}
	return errors.Is(err, unix.EBUSY)
}

// FindSources asks a host for its targets.
func (Backend) FindSources(ctx context.Context, near record.Source) (found []record.Source, err error) {
	for _, host := range near.Hosts {
		at, err := portalOf(host)
		if err != nil {
			return nil, err
		}
		targets, err := tool.Targets(ctx, at)
		if ended, ok := errors.AsType[*tool.EndError](err); ok && ended.Exit == tool.ISCSINoObjects {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("cannot ask %s for its targets: %w", at, err)
		}
		for _, target := range targets {
			if names().MatchString(target) { // else nobody could log in
				found = append(found, record.Source{Hosts: []string{host}, Devices: []string{target}})
			}
		}
	}
	return found, nil
}
