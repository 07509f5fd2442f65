// Package netfs is the pool type netfs: a file system that a server exports by NFS 3 or 4,
// mounted at the pool's target, whose regular files are the volumes.
//
// Mounts are hard unless their options say otherwise: who reads or writes waits for a
// server that is away, however long, and goes on when it is back. What waits so is the
// helper of the job.
package netfs

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"storaged/internal/backends"
	"storaged/internal/backends/filetree"
	"storaged/internal/backends/mount"
	"storaged/internal/blockdev"
	"storaged/internal/record"
	"storaged/internal/tool"
	"storaged/internal/wipe"
)

// Backend is the driver. It keeps no state.
type Backend struct{ filetree.Tree }

var (
	_ backends.SourceChecker = Backend{}
	_ backends.SourceFinder  = Backend{}
	_ backends.Privileged    = Backend{}
	_ backends.Readier       = Backend{}
)

// New gives the driver.
func New() backends.Backend { return Backend{filetree.Tree{Belongs: belongs}} }

// formatNFS is that of the sources that are mounted; auto is the same.
const (
	auto      = "auto"
	formatNFS = "nfs"
)

// unusable are formats that libvirt knows, and why there are no pools of them.
var unusable = []record.Building{
	{Format: "cifs", Unavailable: "shares of SMB are not mounted: nobody has tested how volumes are locked there"},
	{Format: "glusterfs", Unavailable: "volumes of Gluster are not mounted: a process for each mount would have to outlive the helper that mounts"},
}

// Properties are what netfs pools can do.
func (Backend) Properties() record.Capabilities {
	formats := []string{auto, formatNFS}
	for _, f := range unusable {
		formats = append(formats, f.Format)
	}
	return record.Capabilities{
		Type:          "netfs",
		PoolVerbs:     []string{"build", "start", "stop", "refresh", "verify", "evacuate", "delete"},
		VolVerbs:      filetree.Verbs(),
		Formats:       filetree.Formats(),
		Creations:     filetree.Creations(),
		Algorithms:    wipe.Algorithms(),
		Snapshots:     []string{"reflink", "overlay"},
		Contents:      record.ContentVerbs(),
		Sparse:        true,
		MakesTarget:   true,
		Needs:         []string{"target_path", "source_hosts", "source_path"},
		Takes:         []string{"source_format", "source_options"},
		SourceFormats: formats,
		Unusable:      slices.Clone(unusable),
		Finds:         &record.Search{Needs: []string{"source_hosts"}, Takes: []string{}, Unavailable: tool.Lacking(tool.Showmount)},
	}
}

// Privileged: it mounts.
func (Backend) Privileged() {}

// CheckSource wants servers, the path that they export, and options of a mount.
func (Backend) CheckSource(s record.Source) error {
	if i := slices.IndexFunc(unusable, func(f record.Building) bool { return f.Format == s.Format }); i >= 0 {
		return record.Errorf(record.Unsupported, "there are no pools of format %s: %s", s.Format, unusable[i].Unavailable)
	}
	for _, host := range s.Hosts {
		if _, err := serverOf(host); err != nil {
			return err
		}
	}
	if err := record.CheckPath(s.Path); err != nil && s.Path != "/" {
		return record.Errorf(record.Invalid, "source path: %v", err)
	}
	for _, name := range []string{"addr", "port", "fg", "bg", "retry"} {
		if _, given := s.Options[name]; given {
			return record.Errorf(record.Invalid, "%s is no option for the mount of a pool", name).
				WithHint("the source's host says where the server is, HOST or HOST:PORT, and a mount is tried once")
		}
	}
	return mount.CheckOptions(s.Options)
}

// ours reports whether a mount is that of a source of the pool, by the name that the pool
// has for it.
func ours(p backends.Pool, m blockdev.Mount) bool {
	if m.Kind != "nfs" && m.Kind != "nfs4" {
		return false
	}
	return slices.ContainsFunc(p.Source.Hosts, func(host string) bool {
		s, err := serverOf(host)
		return err == nil && s.export(p.Source.Path) == m.Source
	})
}

// belongs refuses the bare directory that is at the target while nothing is mounted, and
// what else may be.
func belongs(p backends.Pool, dir *os.File) error {
	m, root, err := blockdev.MountAt(dir)
	switch {
	case err != nil:
		return fmt.Errorf("cannot look at pool directory %q: %w", p.Target, err)
	case !root:
		return fmt.Errorf("pool directory %q: nothing is mounted there: %w", p.Target, backends.ErrNotFound)
	case len(p.Source.Hosts) > 0 && !ours(p, m): // without any it is by hand, by the path of a volume alone
		return mount.Other(p.Target, m)
	}
	return nil
}

// mounting is how the pool is mounted from its servers.
func (b Backend) mounting(ctx context.Context, p backends.Pool) mount.Pool {
	return mount.Pool{
		Pool: p, Tree: b.Tree,
		Ours:     func(m blockdev.Mount) bool { return ours(p, m) },
		Detached: func() (*os.File, error) { return detached(ctx, p) },
	}
}

// Build makes the directory for the mount. What the server exports, it has made.
func (b Backend) Build(ctx context.Context, p backends.Pool, overwrite bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if _, mounted, err := mount.At(p.Target); err != nil || mounted {
		return err
	}
	return b.Tree.Build(ctx, p, overwrite)
}

// Start mounts what the server exports, unless it is mounted at the target already.
func (b Backend) Start(ctx context.Context, p backends.Pool) error {
	if err := errors.Join(ctx.Err(), record.CheckPath(p.Target)); err != nil {
		return err
	}
	err := b.mounting(ctx, p).Start(ctx)
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
		return record.Errorf(record.Denied, "%v", err).WithHint("have the server let this host mount it, and root read and write there: " +
			"in exports(5) rw, and no_root_squash, or an owner of the directory that root is taken for")
	}
	return err
}

// Ready asks whether one of the servers answers.
func (Backend) Ready(ctx context.Context, p backends.Pool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var last error
	for _, host := range p.Source.Hosts {
		s, err := serverOf(host)
		if err == nil {
			_, err = s.find(ctx)
		}
		if err == nil {
			return nil
		}
		last = err
	}
	return last
}

// Stop unmounts it. From a server that does not answer nothing is unmounted unless that is
// forced: it would be waited for.
func (b Backend) Stop(ctx context.Context, p backends.Pool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m, mounted, err := mount.At(p.Target)
	if err != nil || !mounted || !ours(p, m) {
		return errors.Join(err, b.mounting(ctx, p).Stop(ctx))
	}
	away := answers(ctx, addressOf(m))
	switch {
	case away == nil:
		return b.mounting(ctx, p).Stop(ctx)
	case p.Force:
		return abandon(m)
	}
	return record.Errorf(record.WrongState, "the server of %s does not answer (%v), and an unmount would wait for it", m.Source, away).
		WithHint("stop the pool when the server is back; --force takes the mount away now: what others write there fails, and what they have not written yet is lost")
}

// addressOf is that of the server of a mount, as the kernel says it.
func addressOf(m blockdev.Mount) string {
	host, port := "", nfsPort
	for _, o := range strings.Split(m.Options, ",") {
		name, value, _ := strings.Cut(o, "=")
		switch name {
		case "addr":
			host = value
		case "port":
			port = value
		}
	}
	return net.JoinHostPort(host, port)
}

// abandon takes away the mount of a server that does not answer: requests on their way
// to it fail, and who has files open there keeps them until it closes them.
func abandon(m blockdev.Mount) error {
	if err := unix.Unmount(m.Point, unix.MNT_FORCE|unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
		return fmt.Errorf("cannot take away the mount at %q: %w", m.Point, err)
	}
	return nil
}

// Delete removes the volumes that are to go too, if there is nothing else, and the
// directory of the mount. What the server exports stays.
func (b Backend) Delete(ctx context.Context, p backends.Pool, withVolumes bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m := b.mounting(ctx, p)
	if err := m.Clear(ctx, withVolumes); err != nil {
		return err
	}
	return m.RemoveDirectory(ctx)
}

// FindSources gives what a server says that it exports.
func (Backend) FindSources(ctx context.Context, near record.Source) (found []record.Source, err error) {
	for _, host := range near.Hosts {
		s, err := serverOf(host)
		if err != nil {
			return nil, err
		}
		paths, err := tool.Exports(ctx, s.name)
		if err != nil {
			return nil, fmt.Errorf("%q does not say what it exports: %w", s.name, err)
		}
		for _, path := range paths {
			found = append(found, record.Source{Hosts: []string{host}, Path: path, Format: formatNFS})
		}
	}
	return found, nil
}
