package netfs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"storaged/internal/backends"
	"storaged/internal/backends/mount"
	"storaged/internal/record"
	"storaged/internal/tool"
)

// versions are those of NFS that are tried where nobody says which, the best first.
var versions = []string{"4.2", "4.1", "4.0", "3"}

// detached mounts what the first server that answers exports, nowhere.
func detached(ctx context.Context, p backends.Pool) (*os.File, error) {
	if len(p.Source.Hosts) == 0 {
		return nil, record.Errorf(record.Invalid, "the pool at %q has no server", p.Target)
	}
	var last error
	for _, host := range p.Source.Hosts {
		s, err := serverOf(host)
		if err != nil {
			return nil, err
		}
		address, err := s.find(ctx)
		if err != nil {
			last = err
			continue
		}
		root, err := s.mount(ctx, address, p.Source)
		if err != nil {
			err = fmt.Errorf("cannot mount %q: %w", s.export(p.Source.Path), err)
		}
		return root, err
	}
	if p.ID != "" {
		return nil, &backends.AwayError{Target: p.Target, Err: last}
	}
	return nil, last
}

// mount mounts what a server exports by the best version that both have.
func (s server) mount(ctx context.Context, address string, source record.Source) (*os.File, error) {
	var first error
	for _, version := range tried(source.Options) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		options := maps.Clone(source.Options)
		if options == nil {
			options = map[string]string{}
		}
		for _, name := range versionOptions {
			delete(options, name)
		}
		options["addr"], options["vers"] = address, version
		if s.port != nfsPort {
			options["port"] = s.port
		}
		err := locking(ctx, version, options)
		if err == nil {
			var root *os.File
			if root, err = mount.Detached("nfs", s.export(source.Path), options); err == nil {
				return root, nil
			}
		}
		if first == nil || errors.Is(first, unix.EPROTONOSUPPORT) {
			first = fmt.Errorf("by NFS %s: %w", version, err)
		}
		if !another(err) {
			break
		}
	}
	return nil, first
}

// versionOptions are options of a mount that say the version (nfs(5)).
var versionOptions = []string{"vers", "nfsvers", "minorversion"}

// tried are the versions to try: the one that is said, or all that begin with it.
func tried(options map[string]string) []string {
	said := options["vers"] + options["nfsvers"]
	if minor := options["minorversion"]; minor != "" {
		said = "4." + minor
	}
	if said == "" || said == "4" {
		return versions[:len(versions)-len(said)] // 4 is any but the last
	}
	return []string{said}
}

// another reports whether another version may do: the server, or the kernel, does not have
// this one, or has what is exported by another name there.
func another(err error) bool {
	for _, e := range []error{unix.EPROTONOSUPPORT, unix.EINVAL, unix.ENOENT, unix.EOPNOTSUPP} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// locking makes sure that what is mounted by NFS 3 has locks, which another program than
// the server answers for on either side: without, two hosts could use one volume.
func locking(ctx context.Context, version string, options map[string]string) error {
	_, without := options["nolock"]
	if _, local := options["local_lock"]; !strings.HasPrefix(version, "3") || without || local || watched() {
		return nil
	}
	if _, err := os.Stat(serviceManager); err == nil {
		if _, err = (tool.Command{Program: tool.StartStatd, Output: maxSaid}).Administer(ctx); err == nil {
			return nil
		}
		return fmt.Errorf("there are no locks: %w", err)
	}
	return record.Errorf(record.WrongState, "locks of NFS 3 need rpc.statd, which does not run").
		WithHint("start it; or have the server export it by NFS 4; the mount option nolock does without locks, and then no other host may use the pool")
}

const (
	maxSaid = 64 << 10 // bytes that who starts rpc.statd may say
	// watcher is where rpc.statd says which process it is.
	watcher = "/run/rpc.statd.pid"
	// serviceManager is there where systemd runs, which starts rpc.statd apart from us.
	serviceManager = "/run/systemd/system"
)

// watched reports whether rpc.statd runs.
func watched() bool {
	text, err := os.ReadFile(watcher)
	if err != nil {
		return false
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	return err == nil && pid > 1 && unix.Kill(pid, 0) == nil
}
