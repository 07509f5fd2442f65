package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"storaged/cmd/internal/cmdline"
	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/virtxml"
)

// libvirtPools is where libvirt keeps the definitions of the host's pools, and
// libvirtStarts, in it, links to those that are started with it.
const (
	libvirtPools  = "/etc/libvirt/storage"
	libvirtStarts = "autostart"
)

func (t *tool) libvirtCommand() *cli.Command {
	dir := &cli.StringFlag{Name: "dir", Usage: "where libvirt keeps them (default " + libvirtPools + "): `DIR`"}
	return &cli.Command{
		Name: "libvirt", Usage: "libvirt's clients and definitions",
		Subcommands: []*cli.Command{
			{
				Name: "uri", Usage: "say by which URI libvirt's clients reach this daemon",
				Description: "Example: virsh -c \"$(storagedctl libvirt uri)\" pool-list --all",
				Action:      t.reading(libvirtURI),
			},
			{
				Name: "import", Usage: "define the pools that libvirt has", ArgsUsage: "[POOL…]",
				Description: "Each pool gets the name, uuid, target and source that it has there, and is started with the daemon if it is\n" +
					"with libvirt. Nothing is started or touched now, and libvirt keeps its definitions: one of both should\n" +
					"manage a pool.\n\nExample: storagedctl libvirt import --dry-run",
				Flags:  []cli.Flag{dir, &cli.BoolFlag{Name: "dry-run", Usage: "say what would be defined, and do nothing"}},
				Action: t.changing(libvirtImport),
			},
			{
				Name: "export", Usage: "write definitions for libvirt", ArgsUsage: "POOL…",
				Description: "libvirt reads them when its daemon starts next. A definition that is there already is not replaced.",
				Flags:       []cli.Flag{dir, &cli.BoolFlag{Name: "dry-run", Usage: "say what would be written, and do nothing"}},
				Action:      t.reading(libvirtExport),
			},
		},
	}
}

func libvirtURI(ctx context.Context, s *session) error {
	st, err := s.client.Status(ctx)
	if err != nil {
		return err
	}
	if st.LibvirtURI == "" {
		return record.Errorf(record.Unsupported, "this daemon does not answer libvirt's clients").
			WithHint("enable storaged-libvirt.socket, or, where systemd has no sockets of storaged, set listen = true in [libvirt] of %s, and start it again", st.Paths["config"])
	}
	return printLines(s.out, []string{st.LibvirtURI}, func(uri string) string { return uri })
}

// poolDir is a directory with libvirt's definitions of pools.
type poolDir string

func (s *session) poolDir() poolDir {
	if dir := s.cli.String("dir"); dir != "" {
		return poolDir(dir)
	}
	return libvirtPools
}

func (d poolDir) file(pool string) string { return filepath.Join(string(d), pool+".xml") }
func (d poolDir) link(pool string) string {
	return filepath.Join(string(d), libvirtStarts, pool+".xml")
}

// pools are the names of those that are defined.
func (d poolDir) pools() ([]string, error) {
	entries, err := os.ReadDir(string(d))
	if err != nil {
		return nil, record.Errorf(record.NotFound, "cannot read libvirt's definitions of pools: %v", err).WithHint("--dir names another directory")
	}
	var names []string
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), ".xml"); ok && !e.IsDir() {
			names = append(names, name)
		}
	}
	return names, nil
}

// definition reads one of them.
func (d poolDir) definition(pool string) (def contract.PoolDefine, err error) {
	f, err := os.Open(d.file(pool))
	if err != nil {
		return def, record.Errorf(record.NotFound, "libvirt's definition of pool %q: %v", pool, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxDefinition))
	if err != nil {
		return def, fmt.Errorf("cannot read %s: %w", f.Name(), err)
	}
	p, err := virtxml.ParsePool(b)
	if err != nil {
		return def, record.Errorf(record.Invalid, "%s: %v", f.Name(), err)
	}
	def = p.Define()
	_, err = os.Lstat(d.link(pool))
	def.Autostart = new(err == nil)
	def.ExistOK = true
	return def, nil
}

func libvirtImport(ctx context.Context, s *session) error {
	dir := s.poolDir()
	names := s.args()
	if len(names) == 0 {
		var err error
		if names, err = dir.pools(); err != nil {
			return err
		}
	}
	if len(names) == 0 {
		s.note("libvirt has defined no pools in " + string(dir))
		return nil
	}
	outcomes := make([]outcome, len(names))
	for i, name := range names {
		outcomes[i] = outcome{start: start{object: name}}
		outcomes[i].err = s.importPool(ctx, dir, name)
	}
	return s.verdict(outcomes)
}

// importPool defines one, unless it is defined already.
func (s *session) importPool(ctx context.Context, dir poolDir, name string) error {
	def, err := dir.definition(name)
	if err != nil {
		return err
	}
	said := fmt.Sprintf("pool %s (%s, %s, autostart %s)", def.Name, def.Type, def.Target.Path, yesNo(*def.Autostart))
	if s.cli.Bool("dry-run") {
		if err := s.takes(ctx, def.Type); err != nil {
			return err
		}
		s.note("would define " + said)
		return nil
	}
	_, st, err := s.client.DefinePool(ctx, s.submission(name, true), def, false, false)
	switch {
	case err != nil:
		return fmt.Errorf("pool %s: %w", name, err)
	case st.Unchanged != nil:
		s.note("pool " + name + " is defined already")
	default:
		s.note(said + " is defined")
	}
	return nil
}

// takes refuses a type that the daemon does not know.
func (s *session) takes(ctx context.Context, poolType string) error {
	types, err := s.client.Capabilities(ctx)
	if err != nil || slices.ContainsFunc(types, func(c record.Capabilities) bool { return c.Type == poolType }) {
		return err
	}
	return record.Errorf(record.Unsupported, "there are no pools of type %s here", poolType)
}

func libvirtExport(ctx context.Context, s *session) error {
	dir := s.poolDir()
	pools, outcomes, err := findEach(s.pools(ctx), func(name string) (record.Pool, error) { return s.client.Pool(ctx, name) },
		func(a, b record.Pool) bool { return a.Name == b.Name })
	if err != nil {
		return err
	}
	for i := range outcomes {
		if outcomes[i].err == nil {
			outcomes[i].err = s.exportPool(dir, pools[0])
			pools = pools[1:]
		}
	}
	return s.verdict(outcomes)
}

// exportPool writes the definition of one, as it is when the pool is inactive.
func (s *session) exportPool(dir poolDir, p record.Pool) error {
	if s.cli.Bool("dry-run") {
		s.note("would write " + dir.file(p.Name))
		return nil
	}
	p.Capacity, p.Allocation, p.Available = 0, 0, 0
	err := writeNew(dir.file(p.Name), virtxml.OfPool(p).Format())
	if err == nil && p.Autostart {
		err = errors.Join(os.MkdirAll(filepath.Dir(dir.link(p.Name)), 0o700), os.Symlink(dir.file(p.Name), dir.link(p.Name)))
	}
	switch {
	case errors.Is(err, os.ErrExist):
		return record.Errorf(record.Exists, "libvirt has a definition of pool %q already: %v", p.Name, err)
	case err != nil:
		return cmdline.Usagef("cannot write libvirt's definition of pool %q: %v", p.Name, err).WithHint("--dir names another directory")
	}
	s.note("wrote " + dir.file(p.Name))
	return nil
}

// writeNew makes a file, which must not be there.
func writeNew(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Sync(), f.Close())
}
