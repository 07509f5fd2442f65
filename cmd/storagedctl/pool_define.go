package main

import (
	"bytes"
	"context"
	"encoding/json"
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

func (t *tool) defineVerb() *cli.Command {
	return &cli.Command{
		Name: "define", Usage: "record a pool without touching storage", ArgsUsage: "[NAME]",
		Description: "The definition comes from flags, or with -f from a file of JSON or libvirt's XML, as\n\"pool show -o json\" and \"pool show -o xml\" print it.\n\n" +
			"Example: storagedctl pool define images --target /srv/images",
		Flags: append(definitionFlags(), &cli.BoolFlag{Name: "dry-run", Usage: "show what would be recorded, and do nothing"}), Action: t.changing(poolDefine),
	}
}

func (t *tool) poolCreateVerb() *cli.Command {
	return &cli.Command{
		Name: "create", Usage: "define a pool and start it", ArgsUsage: "[NAME]",
		Description: "For a dir pool a missing directory is made; for other types --build makes the storage.\n\n" +
			"Examples:\n  storagedctl pool create images --target /srv/images\n" +
			"  storagedctl pool create data --type fs --source-dev /dev/disk/by-id/ID --source-format ext4 --target /srv/data --build",
		Flags:  jobFlags(append(definitionFlags(), &cli.BoolFlag{Name: "build", Usage: "make the pool's storage first"})...),
		Action: t.changing(poolCreate),
	}
}

// definitionFlags are named as in virsh.
func definitionFlags() []cli.Flag {
	return append([]cli.Flag{
		&cli.StringFlag{Name: "file", Aliases: []string{"f"}, Usage: "read the definition from a file: `FILE|-`"},
		&cli.StringFlag{Name: "type", Usage: "the kind of storage (default dir): `TYPE`"},
		&cli.StringFlag{Name: "target", Usage: "the directory of the volumes: `PATH`"},
		&cli.StringSliceFlag{Name: "source-dev", Usage: "a device it is made of; may be repeated: `PATH`"},
		&cli.StringFlag{Name: "source-name", Usage: "the source's name: `SOURCE`"},
		&cli.StringSliceFlag{Name: "source-host", Usage: "a host of the source; may be repeated: `HOST`"},
		&cli.StringFlag{Name: "source-path", Usage: "the source's path: `PATH`"},
		&cli.StringFlag{Name: "source-format", Usage: "the source's format: `FORMAT`"},
		&cli.StringFlag{Name: "source-initiator", Usage: "by which name this host logs in: `NAME`"},
		&cli.StringFlag{Name: "source-username", Aliases: []string{"auth-username"}, Usage: "as whom this host logs in, by --source-secret: `NAME`"},
		&cli.StringFlag{Name: "source-secret", Usage: "by what this host logs in: `SECRET`"},
		&cli.StringSliceFlag{Name: "option", Aliases: []string{"O"}, Usage: "an option of the kind of storage, such as one of its mount; may be repeated: `KEY[=VALUE]`"},
		&cli.BoolFlag{Name: "autostart", Usage: "start it with the daemon (the default)"},
		&cli.BoolFlag{Name: "no-autostart", Usage: "do not start it with the daemon"},
		&cli.BoolFlag{Name: "exist-ok", Usage: "no failure if there is the same pool already"},
	}, rightsFlags("the directory built for it", "0711, or as they are")...)
}

// definition reads what pool is wanted.
func (s *session) definition() (contract.PoolDefine, error) {
	var def contract.PoolDefine
	if file := s.cli.String("file"); file != "" {
		var err error
		if def, err = s.readDefinition(file); err != nil {
			return def, err
		}
	}
	if name := s.arg(0); name != "" {
		if def.Name != "" && def.Name != name {
			return def, cmdline.Usagef("the definition is of pool %q, not %q", def.Name, name)
		}
		def.Name = name
	}
	if def.Name == "" {
		return def, cmdline.Usagef("the pool needs a name").WithHint("usage: storagedctl %s %s", s.verb(), s.cli.Command.ArgsUsage)
	}
	if err := s.defineByFlags(&def); err != nil {
		return def, err
	}
	def.ExistOK = s.cli.Bool("exist-ok")
	return def, s.absolute(&def.Target.Path)
}

// absolute makes a path of the command line one that the daemon, which runs
// elsewhere, can use. An empty one stays empty.
func (s *session) absolute(path *string) error {
	switch {
	case *path == "":
		return nil
	case s.client.Far() && !filepath.IsAbs(*path):
		return cmdline.Usagef("%q is to be an absolute path: it is one of another host", *path)
	}
	abs, err := filepath.Abs(*path)
	if err != nil {
		return cmdline.Usagef("cannot resolve %q: %s", *path, err)
	}
	*path = abs
	return nil
}

func (s *session) defineByFlags(def *contract.PoolDefine) error {
	src := &def.Source
	for flag, field := range map[string]*string{
		"type": &def.Type, "target": &def.Target.Path, "source-name": &src.Name, "source-path": &src.Path,
		"source-format": &src.Format, "source-initiator": &src.Initiator,
		"source-username": &src.Username, "source-secret": &src.Secret,
	} {
		if v := s.cli.String(flag); v != "" {
			*field = v
		}
	}
	for flag, list := range map[string]*[]string{"source-dev": &src.Devices, "source-host": &src.Hosts} {
		if values := s.cli.StringSlice(flag); len(values) > 0 {
			*list = values
		}
	}
	for _, text := range s.cli.StringSlice("option") {
		if src.Options == nil {
			src.Options = map[string]string{}
		}
		name, value, _ := strings.Cut(text, "=")
		src.Options[name] = value
	}
	if s.cli.IsSet("autostart") && s.cli.IsSet("no-autostart") {
		return cmdline.Usagef("--autostart and --no-autostart exclude each other")
	}
	if s.cli.IsSet("autostart") {
		def.Autostart = new(s.cli.Bool("autostart"))
	}
	if s.cli.Bool("no-autostart") {
		def.Autostart = new(false)
	}
	if def.Type == "" {
		def.Type = "dir"
	}
	rights, err := s.rights()
	def.Target.Rights = rights.Over(def.Target.Rights)
	return err
}

// maxDefinition bounds a definition, bytes: far more than a pool needs.
const maxDefinition = 1 << 20

// readDefinition reads a file with a definition.
func (s *session) readDefinition(file string) (contract.PoolDefine, error) {
	b, err := s.readFile(file)
	if err != nil {
		return contract.PoolDefine{}, err
	}
	return decodeDefinition(b)
}

// readFile reads a definition of a pool, or a description of a volume.
func (s *session) readFile(file string) ([]byte, error) {
	in := s.in
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, cmdline.Usagef("cannot read the definition: %s", err)
		}
		defer f.Close() // it was only read
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, maxDefinition))
	if err != nil {
		return nil, cmdline.Usagef("cannot read the definition: %s", err)
	}
	return b, nil
}

// decodeDefinition reads a definition in JSON, or libvirt's XML, which is known by its
// first byte. The latter says nothing of autostart.
func decodeDefinition(b []byte) (contract.PoolDefine, error) {
	if !bytes.HasPrefix(bytes.TrimSpace(b), []byte("<")) {
		return decodeJSON(b)
	}
	p, err := virtxml.ParsePool(b)
	if err != nil {
		return contract.PoolDefine{}, cmdline.Usagef("bad definition of a pool: %s", err)
	}
	def := p.Define()
	def.Autostart = nil
	return def, nil
}

// decodeJSON reads JSON as "pool show -o json" prints it; what cannot be
// defined of that is passed over, what is not there at all is refused.
func decodeJSON(b []byte) (contract.PoolDefine, error) {
	var shown struct {
		record.Pool
		Autostart *bool `json:"autostart"`
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	err := d.Decode(&shown)
	if err == nil && d.More() {
		err = errors.New("there is something behind it")
	}
	if err != nil {
		return contract.PoolDefine{}, cmdline.Usagef("bad definition of a pool: %s", err)
	}
	return contract.PoolDefine{
		Name: shown.Name, UUID: shown.UUID, Type: shown.Type, Target: shown.Target, Source: shown.Source, Autostart: shown.Autostart,
	}, nil
}

func poolDefine(ctx context.Context, s *session) error {
	def, err := s.definition()
	if err != nil {
		return err
	}
	s.warnOfSystem(def)
	if s.cli.Bool("dry-run") {
		s.note(fmt.Sprintf("would define pool %s (%s, %s); no storage is touched", def.Name, def.Type, def.Target.Path))
		return nil
	}
	p, st, err := s.client.DefinePool(ctx, s.submission(def.Name, false), def, false, false)
	switch {
	case err != nil:
		return err
	case st.Unchanged != nil:
		return s.printOutcomes([]outcome{{start: start{object: def.Name}, same: st.Unchanged}})
	}
	s.note("pool " + p.Name + " is defined")
	return s.printChanged(p.Name, p)
}

// systems are directories that hold the system, with all below them, and hearts those that
// do so themselves.
var (
	systems = []string{"/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/sbin", "/sys", "/usr"}
	hearts  = []string{"/", "/home", "/root", "/run", "/var", "/var/lib"}
	spared  = []string{"/dev/shm", "/usr/local", "/usr/share"} // below the first, where images may be
)

// warnOfSystem says what comes of a pool whose target is a directory of the system. It may
// be meant, and nothing is lost by it yet.
func (s *session) warnOfSystem(def contract.PoolDefine) {
	target := filepath.Clean(def.Target.Path)
	below := func(dirs []string) bool {
		return slices.ContainsFunc(dirs, func(dir string) bool { _, ok := under(target, dir); return ok })
	}
	inFiles := slices.Contains([]string{"dir", "fs", "netfs"}, def.Type) // of others it is where devices are
	if !inFiles || !slices.Contains(hearts, target) && (!below(systems) || below(spared)) {
		return
	}
	s.note(fmt.Sprintf("storagedctl: warning: %s is a directory of the system: a pool there makes its files volumes, which whoever may use the pool can overwrite and delete", target))
	s.note(fmt.Sprintf("storagedctl: hint: if that is not meant: storagedctl pool undefine %s touches none of them", def.Name))
}

func poolCreate(ctx context.Context, s *session) error {
	def, err := s.definition()
	if err != nil {
		return err
	}
	s.warnOfSystem(def)
	def.JobOptions = s.jobOptions()
	return s.run(ctx, start{
		object: def.Name,
		ask: func(ctx context.Context, sub contract.Submit) (contract.Started, error) {
			_, started, err := s.client.DefinePool(ctx, sub, def, s.cli.Bool("build"), true)
			return started, err
		},
		advise: func(ctx context.Context, failure error) error { return s.halfCreated(ctx, def.Name, failure) },
	})
}

// halfCreated says what to do about a pool that is defined and did not start.
func (s *session) halfCreated(ctx context.Context, name string, failure error) error {
	var e *record.Error
	if !errors.As(failure, &e) || e.Code == record.Exists {
		return failure
	}
	p, err := s.client.Pool(ctx, name)
	if err != nil || p.State != record.PoolInactive {
		return failure
	}
	stays := record.Hintf("the pool stays defined: storagedctl pool start %s tries again, storagedctl pool undefine %s forgets it", name, name)
	if e.Hint != nil {
		stays = record.Hintf("%s; %s", e.Hint, stays)
	}
	return e.WithHint("%s", stays)
}
