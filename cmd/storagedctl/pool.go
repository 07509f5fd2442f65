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
	"storaged/internal/service"
	"storaged/internal/term"
)

func (t *tool) poolCommand() *cli.Command {
	return &cli.Command{Name: "pool", Usage: "storage pools", Subcommands: slices.Concat(t.poolDefiningVerbs(), t.poolStorageVerbs(), t.poolPartingVerbs())}
}

func (t *tool) poolDefiningVerbs() []*cli.Command {
	return []*cli.Command{
		{Name: "list", Usage: "list the pools", Flags: freshFlag(), Action: t.reading(poolList)},
		{Name: "show", Usage: "show all about a pool", ArgsUsage: "POOL…", Flags: freshFlag(), Action: t.reading(poolShow)},
		{
			Name: "define", Usage: "record a pool without touching storage", ArgsUsage: "[NAME]",
			Description: "The definition comes from flags, or with -f from a file of JSON as \"pool show -o json\" prints it.\n\n" +
				"Example: storagedctl pool define images --target /srv/images",
			Flags: append(definitionFlags(), &cli.BoolFlag{Name: "dry-run", Usage: "show what would be recorded, and do nothing"}), Action: t.changing(poolDefine),
		},
		{
			Name: "create", Usage: "define a pool and start it", ArgsUsage: "[NAME]",
			Description: "For a dir pool a missing directory is made; for other types --build makes the storage.\n\n" +
				"Example: storagedctl pool create images --target /srv/images",
			Flags:  jobFlags(append(definitionFlags(), &cli.BoolFlag{Name: "build", Usage: "make the pool's storage first"})...),
			Action: t.changing(poolCreate),
		},
	}
}

func (t *tool) poolStorageVerbs() []*cli.Command {
	return []*cli.Command{
		{
			Name: "build", Usage: "make a pool's storage", ArgsUsage: "POOL",
			Flags: jobFlags(
				&cli.BoolFlag{Name: "overwrite", Usage: "destroy what is there already"},
				&cli.BoolFlag{Name: "no-overwrite", Usage: "refuse if there is something already (the default)"}, yesFlag()),
			Action: t.changing(poolBuild),
		},
		{Name: "start", Usage: "make a pool's volumes reachable", ArgsUsage: "POOL…", Flags: jobFlags(), Action: t.changing(poolStart)},
		{
			Name: "stop", Usage: "take a pool out of use; its volumes and storage stay", ArgsUsage: "POOL…",
			Flags: jobFlags(
				&cli.BoolFlag{Name: "force", Usage: "cancel the jobs that are in the way"},
				&cli.BoolFlag{Name: "missing-ok", Usage: "no failure if there is no such pool"}, yesFlag()),
			Action: t.changing(poolStop),
		},
		{Name: "refresh", Usage: "read a pool anew and find volumes that others made", ArgsUsage: "POOL…", Flags: jobFlags(), Action: t.changing(poolRefresh)},
		{
			Name: "verify", Usage: "read every volume of a pool and give the checksums", ArgsUsage: "POOL…",
			Description: "A volume that cannot be read does not keep the others from being read, and makes the exit code 11.\nBetween two volumes other jobs get their turn.",
			Flags:       jobFlags(), Action: t.changing(poolVerify),
		},
	}
}

func (t *tool) poolPartingVerbs() []*cli.Command {
	return []*cli.Command{
		{
			Name: "evacuate", Usage: "move the volumes of a pool to another", ArgsUsage: "POOL",
			Description: "One after the other, each as by \"vol move\". One that cannot be moved stays, and makes the exit code 11.\nBetween two volumes other jobs get their turn.\n\n" +
				"Example: storagedctl pool evacuate images --to archive --only 'vm*'",
			Flags: jobFlags(
				&cli.StringFlag{Name: "to", Usage: "the pool to move to: `POOL`"},
				&cli.StringFlag{Name: "only", Usage: "only volumes whose names match: `GLOB`"},
				&cli.BoolFlag{Name: "skip-busy", Usage: "a volume that is in use stays, and is no failure"},
				&cli.BoolFlag{Name: "keep-source", Usage: "clone instead of moving"},
				&cli.StringFlag{Name: "on-error", Usage: "what to do after a failure (default continue): `continue|stop`"}, yesFlag()),
			Action: t.changing(poolEvacuate),
		},
		{
			Name: "autostart", Usage: "start a pool with the daemon", ArgsUsage: "POOL",
			Flags:  []cli.Flag{&cli.BoolFlag{Name: "disable", Usage: "do not start it with the daemon"}, &cli.BoolFlag{Name: "dry-run", Usage: "do nothing"}},
			Action: t.changing(poolAutostart),
		},
		{
			Name: "undefine", Usage: "forget a pool; its storage is not touched", ArgsUsage: "POOL…",
			Flags: []cli.Flag{
				&cli.BoolFlag{Name: "missing-ok", Usage: "no failure if there is no such pool"},
				&cli.BoolFlag{Name: "dry-run", Usage: "do nothing"},
			},
			Action: t.changing(poolUndefine),
		},
		{
			Name: "delete", Usage: "destroy a pool's storage", ArgsUsage: "POOL",
			Description: "A pool with volumes is refused without --with-volumes. \"pool undefine\" forgets a pool and touches no storage.",
			Flags: jobFlags(
				&cli.BoolFlag{Name: "with-volumes", Usage: "also the volumes in it"},
				&cli.BoolFlag{Name: "missing-ok", Usage: "no failure if there is no such pool"},
				&cli.StringFlag{Name: "yes", Aliases: []string{"y"}, Usage: "do not ask; repeat the pool's name: `POOL`"}),
			Action: t.changing(poolDelete),
		},
	}
}

// freshFlag is of verbs that tell of pools and volumes.
func freshFlag() []cli.Flag {
	return []cli.Flag{&cli.BoolFlag{Name: "fresh", Usage: "read the pools first; else the figures of the last reading are shown"}}
}

// definitionFlags are named as in virsh.
func definitionFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "file", Aliases: []string{"f"}, Usage: "read the definition from a file: `FILE|-`"},
		&cli.StringFlag{Name: "type", Usage: "the kind of storage (default dir): `TYPE`"},
		&cli.StringFlag{Name: "target", Usage: "the directory of the volumes: `PATH`"},
		&cli.StringSliceFlag{Name: "source-dev", Usage: "a device it is made of; may be repeated: `PATH`"},
		&cli.StringFlag{Name: "source-name", Usage: "the source's name: `SOURCE`"},
		&cli.StringFlag{Name: "source-host", Usage: "the source's host: `HOST`"},
		&cli.StringFlag{Name: "source-path", Usage: "the source's path: `PATH`"},
		&cli.StringFlag{Name: "source-format", Usage: "the source's format: `FORMAT`"},
		&cli.BoolFlag{Name: "no-autostart", Usage: "do not start it with the daemon"},
		&cli.BoolFlag{Name: "exist-ok", Usage: "no failure if there is the same pool already"},
	}
}

// poolSize gives a figure of a pool; one that was never read has none.
func (s *session) poolSize(p record.Pool, n int64) string {
	if p.Observed == nil {
		return "-"
	}
	return size(n, s.cli.Bool("bytes"))
}

func (s *session) poolShape() shape[record.Pool] {
	return shape[record.Pool]{
		columns: []term.Column[record.Pool]{
			{Name: "name", Weight: 2, Cell: func(p record.Pool) string { return p.Name }},
			{Name: "type", Spare: 2, Cell: func(p record.Pool) string { return p.Type }},
			{Name: "state", Cell: func(p record.Pool) string { return string(p.State) }},
			{Name: "autostart", Spare: 3, Cell: func(p record.Pool) string { return yesNo(p.Autostart) }},
			{Name: "capacity", Right: true, Cell: func(p record.Pool) string { return s.poolSize(p, p.Capacity) }},
			{Name: "allocation", Spare: 1, Right: true, Cell: func(p record.Pool) string { return s.poolSize(p, p.Allocation) }},
			{Name: "available", Right: true, Cell: func(p record.Pool) string { return s.poolSize(p, p.Available) }},
			{Name: "reserved", Right: true, Extra: true, Cell: func(p record.Pool) string { return s.poolSize(p, p.Reserved) }},
			{Name: "provisioned", Right: true, Extra: true, Cell: func(p record.Pool) string { return s.poolSize(p, p.Provisioned) }},
			{Name: "target", Weight: 4, Extra: true, Cell: func(p record.Pool) string { return p.Target.Path }},
			{Name: "devices", Weight: 2, Extra: true, Cell: func(p record.Pool) string { return strings.Join(p.Devices, ",") }},
			{Name: "uuid", Extra: true, Cell: func(p record.Pool) string { return p.UUID }},
			{Name: "reason", Weight: 4, Extra: true, Cell: func(p record.Pool) string { return p.Reason }},
		},
		name:   func(p record.Pool) string { return p.Name },
		detail: poolFields,
	}
}

func poolFields(s *session, p record.Pool) []field {
	state := string(p.State)
	if p.Reason != "" {
		state += " (" + p.Reason + ")"
	}
	fields := []field{
		{"Name", p.Name}, {"UUID", p.UUID}, {"Type", p.Type}, {"State", state}, {"Since", stamp(&p.Since)},
		{"Persistent", yesNo(p.Persistent)}, {"Autostart", yesNo(p.Autostart)}, {"Target", p.Target.Path},
		{"Source devices", strings.Join(p.Source.Devices, ", ")}, {"Source name", p.Source.Name}, {"Source host", p.Source.Host},
		{"Source path", p.Source.Path}, {"Source format", p.Source.Format}, {"On devices", strings.Join(p.Devices, ", ")},
		{"Capacity", s.poolSize(p, p.Capacity)}, {"Allocation", s.poolSize(p, p.Allocation)}, {"Available", s.poolSize(p, p.Available)},
		{"Reserved by jobs", s.poolSize(p, p.Reserved)}, {"Provisioned", s.poolSize(p, p.Provisioned)}, {"Read at", stamp(p.Observed)},
	}
	if p.Ignored > 0 {
		fields = append(fields, field{"Ignored", fmt.Sprintf("%d entries that are no volumes: names that are refused, or not regular files", p.Ignored)})
	}
	return fields
}

func poolList(ctx context.Context, s *session) error {
	pools, err := s.client.Pools(ctx)
	if err != nil {
		return err
	}
	return printList(s, s.poolShape(), pools)
}

func poolShow(ctx context.Context, s *session) error {
	return showEach(s, s.poolShape(), func(name string) (record.Pool, error) { return s.client.Pool(ctx, name) },
		func(a, b record.Pool) bool { return a.Name == b.Name })
}

// definition reads what pool is wanted.
func (s *session) definition() (service.PoolDefine, error) {
	var def service.PoolDefine
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
	s.defineByFlags(&def)
	return def, absolute(&def.Target.Path)
}

// absolute makes a path of the command line one that the daemon, which runs
// elsewhere, can use. An empty one stays empty.
func absolute(path *string) error {
	if *path == "" {
		return nil
	}
	abs, err := filepath.Abs(*path)
	if err != nil {
		return cmdline.Usagef("cannot resolve %q: %s", *path, err)
	}
	*path = abs
	return nil
}

func (s *session) defineByFlags(def *service.PoolDefine) {
	src := &def.Source
	for flag, field := range map[string]*string{
		"type": &def.Type, "target": &def.Target.Path, "source-name": &src.Name, "source-host": &src.Host,
		"source-path": &src.Path, "source-format": &src.Format,
	} {
		if v := s.cli.String(flag); v != "" {
			*field = v
		}
	}
	if devices := s.cli.StringSlice("source-dev"); len(devices) > 0 {
		src.Devices = devices
	}
	if s.cli.Bool("no-autostart") {
		no := false
		def.Autostart = &no
	}
	if def.Type == "" {
		def.Type = "dir"
	}
}

// maxDefinition bounds a definition, bytes: far more than a pool needs.
const maxDefinition = 1 << 20

// readDefinition reads a file of JSON. libvirt's XML is told by its first
// byte.
func (s *session) readDefinition(file string) (service.PoolDefine, error) {
	var def service.PoolDefine
	in := s.in
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return def, cmdline.Usagef("cannot read the definition: %s", err)
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, maxDefinition))
	if err != nil {
		return def, cmdline.Usagef("cannot read the definition: %s", err)
	}
	if strings.HasPrefix(strings.TrimSpace(string(b)), "<") {
		return def, record.Errorf(record.Unsupported, "definitions in XML are not supported").WithHint("write JSON, as \"pool show -o json\" does")
	}
	return decodeDefinition(b)
}

// decodeDefinition reads JSON as "pool show -o json" prints it; what cannot be
// defined of that is passed over, what is not there at all is refused.
func decodeDefinition(b []byte) (service.PoolDefine, error) {
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
		return service.PoolDefine{}, cmdline.Usagef("bad definition of a pool: %s", err)
	}
	return service.PoolDefine{
		Name: shown.Name, UUID: shown.UUID, Type: shown.Type, Target: shown.Target, Source: shown.Source, Autostart: shown.Autostart,
	}, nil
}

func poolDefine(ctx context.Context, s *session) error {
	def, err := s.definition()
	if err != nil {
		return err
	}
	if s.cli.Bool("dry-run") {
		s.note(fmt.Sprintf("would define pool %s (%s, %s); no storage is touched", def.Name, def.Type, def.Target.Path))
		return nil
	}
	p, _, err := s.client.DefinePool(ctx, s.submission(def.Name, false), def, false, false)
	if err != nil {
		same, err := s.samePool(ctx, def, err)
		if err != nil {
			return err
		}
		return s.printSamePool(same)
	}
	s.note("pool " + p.Name + " is defined")
	return s.printChanged(p.Name, p)
}

// printChanged confirms what changed without a job.
func (s *session) printChanged(name string, object any) error {
	switch s.format {
	case "json":
		return printDocument(s.out, object)
	case "jsonl":
		return printJSON(s.out, object)
	case "name":
		return printLines(s.out, []string{name}, func(n string) string { return n })
	}
	return nil
}

func (s *session) printSamePool(p samePool) error {
	if s.format == "table" {
		s.note(p.Name + ": nothing to do")
	}
	return s.printChanged(p.Name, p)
}

// samePool is a pool that was there already.
type samePool struct {
	record.Pool
	Changed bool `json:"changed"`
}

// samePool looks, with --exist-ok, whether the pool that is there is the one
// that was asked for.
func (s *session) samePool(ctx context.Context, def service.PoolDefine, failure error) (samePool, error) {
	if !s.cli.Bool("exist-ok") || record.CodeOf(failure) != record.Exists {
		return samePool{}, failure
	}
	p, err := s.client.Pool(ctx, def.Name)
	if err != nil {
		return samePool{}, failure
	}
	if p.Type != def.Type || p.Target.Path != def.Target.Path || !sameSource(p.Source, def.Source) {
		return samePool{}, record.Errorf(record.Exists, "pool %q exists and differs: it is %s at %s", p.Name, p.Type, p.Target.Path)
	}
	return samePool{Pool: p}, nil
}

func sameSource(a, b record.Source) bool {
	return a.Name == b.Name && a.Host == b.Host && a.Path == b.Path && a.Format == b.Format && slices.Equal(a.Devices, b.Devices)
}

func poolCreate(ctx context.Context, s *session) error {
	def, err := s.definition()
	if err != nil {
		return err
	}
	def.JobOptions = s.jobOptions()
	return s.run(ctx, start{
		object: def.Name,
		ask: func(ctx context.Context, sub service.Submit) (service.Started, error) {
			_, started, err := s.client.DefinePool(ctx, sub, def, s.cli.Bool("build"), true)
			return started, err
		},
		settle: func(ctx context.Context, failure error) (any, error) {
			same, err := s.samePool(ctx, def, failure)
			if err != nil {
				return nil, s.halfCreated(ctx, def.Name, err)
			}
			if same, err = s.afterStarter(ctx, same); err != nil {
				return nil, err
			}
			if same.State != record.PoolActive {
				return nil, record.Errorf(record.Exists, "pool %q exists and is %s", same.Name, same.State).
					WithHint("storagedctl pool start %s", same.Name)
			}
			return same, nil
		},
	})
}

// afterStarter gives the pool as it is when the jobs have ended that are
// starting it.
func (s *session) afterStarter(ctx context.Context, p samePool) (samePool, error) {
	jobs, err := s.allJobs(ctx, service.JobFilter{States: []string{"live"}, Kinds: []string{string(record.PoolStart)}, Pools: []string{p.Name}})
	if err != nil {
		return p, err
	}
	for _, j := range jobs {
		if err := s.awaitEnd(ctx, j.ID); err != nil {
			return p, err
		}
	}
	p.Pool, err = s.client.Pool(ctx, p.Name)
	return p, err
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
	return e.WithHint("the pool stays defined: storagedctl pool start %s tries again, storagedctl pool undefine %s forgets it", name, name)
}

func poolBuild(ctx context.Context, s *session) error {
	pool, overwrite := s.arg(0), s.cli.Bool("overwrite")
	if overwrite && s.cli.Bool("no-overwrite") {
		return cmdline.Usagef("--overwrite and --no-overwrite exclude each other")
	}
	if overwrite {
		if err := s.confirm(ctx, s.overwritingPool(pool)); err != nil {
			return err
		}
	}
	r := service.PoolBuild{Overwrite: overwrite, JobOptions: s.jobOptions()}
	return s.run(ctx, start{object: pool, ask: func(ctx context.Context, sub service.Submit) (service.Started, error) {
		return s.client.Start(ctx, sub, record.PoolBuild, record.Object{Pool: pool}, r)
	}})
}

// poolStorage says where a pool's storage is.
func (s *session) poolStorage(ctx context.Context, pool string) ([]string, error) {
	p, err := s.client.Pool(ctx, pool)
	if err != nil {
		return nil, err
	}
	lines := append([]string{}, p.Source.Devices...)
	if p.Target.Path != "" {
		lines = append(lines, p.Target.Path)
	}
	return lines, nil
}

func poolStart(ctx context.Context, s *session) error {
	return s.eachPool(ctx, func(ctx context.Context, pool string, sub service.Submit) (service.Started, error) {
		return s.client.Start(ctx, sub, record.PoolStart, record.Object{Pool: pool}, s.jobOptions())
	})
}

func poolRefresh(ctx context.Context, s *session) error {
	return s.eachPool(ctx, func(ctx context.Context, pool string, sub service.Submit) (service.Started, error) {
		return s.client.Start(ctx, sub, record.PoolRefresh, record.Object{Pool: pool}, s.jobOptions())
	})
}

func poolVerify(ctx context.Context, s *session) error {
	return s.eachPool(ctx, func(ctx context.Context, pool string, sub service.Submit) (service.Started, error) {
		return s.client.Start(ctx, sub, record.PoolVerify, record.Object{Pool: pool}, s.jobOptions())
	})
}

func poolEvacuate(ctx context.Context, s *session) error {
	pool := s.arg(0)
	r := service.PoolEvacuate{
		To: s.cli.String("to"), Only: s.cli.String("only"), SkipBusy: s.cli.Bool("skip-busy"),
		KeepSource: s.cli.Bool("keep-source"), OnError: s.cli.String("on-error"), JobOptions: s.jobOptions(),
	}
	if r.To == "" {
		return cmdline.Usagef("\"storagedctl pool evacuate\" needs --to POOL")
	}
	if !r.KeepSource {
		err := s.confirm(ctx, ruin{
			what: "moves volumes of pool " + pool + " to " + r.To,
			list: func(ctx context.Context) ([]string, error) { return s.matching(ctx, pool, r.Only) },
		})
		if err != nil {
			return err
		}
	}
	return s.run(ctx, start{object: pool, ask: func(ctx context.Context, sub service.Submit) (service.Started, error) {
		return s.client.Start(ctx, sub, record.PoolEvacuate, record.Object{Pool: pool}, r)
	}})
}

// matching lists the volumes of a pool whose names match, as far as the
// catalogue knows.
func (s *session) matching(ctx context.Context, pool, pattern string) ([]string, error) {
	volumes, err := s.client.PoolVolumes(ctx, pool)
	if err != nil {
		return nil, err
	}
	volumes = slices.DeleteFunc(volumes, func(v record.Volume) bool {
		ok, err := record.MatchName(pattern, v.Name)
		return !ok || err != nil
	})
	return s.content(ctx, volumes)
}

func poolStop(ctx context.Context, s *session) error {
	r := service.PoolStop{Force: s.cli.Bool("force"), JobOptions: s.jobOptions()}
	if r.Force {
		pools := s.pools(ctx)
		err := s.confirm(ctx, ruin{
			what: "cancels the jobs in pool " + strings.Join(pools, ", "),
			list: func(ctx context.Context) ([]string, error) { return s.jobsIn(ctx, pools) },
		})
		if err != nil {
			return err
		}
	}
	return s.eachPool(ctx, func(ctx context.Context, pool string, sub service.Submit) (service.Started, error) {
		return s.client.Start(ctx, sub, record.PoolStop, record.Object{Pool: pool}, r)
	})
}

// jobsIn lists the jobs that a forced stop cancels.
func (s *session) jobsIn(ctx context.Context, pools []string) ([]string, error) {
	jobs, err := s.allJobs(ctx, service.JobFilter{States: []string{"live"}, Pools: pools})
	if err != nil {
		return nil, err
	}
	lines := []string{}
	for i := range jobs {
		lines = append(lines, jobTitle(&jobs[i])+" of "+jobs[i].Owner.User)
	}
	if len(lines) == 0 {
		lines = append(lines, "there are none now")
	}
	return lines, nil
}

// eachPool starts a job on each pool of the command line.
func (s *session) eachPool(ctx context.Context, call func(context.Context, string, service.Submit) (service.Started, error)) error {
	var starts []start
	for _, pool := range s.pools(ctx) {
		starts = append(starts, start{object: pool, settle: s.missingOK, ask: func(ctx context.Context, sub service.Submit) (service.Started, error) {
			return call(ctx, pool, sub)
		}})
	}
	return s.run(ctx, starts...)
}

// unchanged says that there was nothing to do.
type unchanged struct {
	Changed bool `json:"changed"`
}

// missingOK takes, with --missing-ok, what is not there for done.
func (s *session) missingOK(_ context.Context, failure error) (any, error) {
	if s.cli.Bool("missing-ok") && record.CodeOf(failure) == record.NotFound {
		return unchanged{}, nil
	}
	return nil, failure
}

func poolAutostart(ctx context.Context, s *session) error {
	on := !s.cli.Bool("disable")
	if s.cli.Bool("dry-run") {
		s.note(fmt.Sprintf("would set autostart of pool %s to %s", s.arg(0), yesNo(on)))
		return nil
	}
	p, err := s.client.PatchPool(ctx, s.submission(s.arg(0), false), s.arg(0), service.PoolPatch{Autostart: &on})
	if err != nil {
		return err
	}
	s.note(fmt.Sprintf("pool %s: autostart %s", p.Name, yesNo(p.Autostart)))
	return s.printChanged(p.Name, p)
}

func poolUndefine(ctx context.Context, s *session) error {
	pools := s.pools(ctx)
	outcomes := make([]outcome, len(pools))
	for i, pool := range pools {
		if s.cli.Bool("dry-run") {
			s.note("would forget pool " + pool + "; no storage is touched")
			continue
		}
		o := outcome{start: start{object: pool, settle: s.missingOK}}
		o.err = s.client.UndefinePool(ctx, s.submission(pool, len(outcomes) > 1), pool)
		if outcomes[i] = s.settled(ctx, o); o.err == nil {
			s.note("pool " + pool + " is undefined")
		}
	}
	if err := s.printOutcomes(outcomes); err != nil {
		return err
	}
	return s.verdict(outcomes)
}

func poolDelete(ctx context.Context, s *session) error {
	pool := s.arg(0)
	r := service.PoolDelete{WithVolumes: s.cli.Bool("with-volumes"), JobOptions: s.jobOptions()}
	if err := s.confirm(ctx, s.deletingPool(pool)); err != nil {
		return err
	}
	return s.eachPool(ctx, func(ctx context.Context, pool string, sub service.Submit) (service.Started, error) {
		return s.client.Start(ctx, sub, record.PoolDelete, record.Object{Pool: pool}, r)
	})
}

// contentShown is how many volumes a question lists; more are counted.
const contentShown = 20

func (s *session) poolContent(ctx context.Context, pool string) ([]string, error) {
	lines, err := s.poolStorage(ctx, pool)
	if err != nil {
		return nil, err
	}
	volumes, err := s.client.PoolVolumes(ctx, pool)
	if err != nil {
		return nil, err
	}
	content, err := s.content(ctx, volumes)
	return append(lines, content...), err
}

// content is a line for each volume, up to contentShown.
func (s *session) content(ctx context.Context, volumes []record.Volume) ([]string, error) {
	jobs, err := s.liveJobs(ctx)
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, v := range volumes[:min(len(volumes), contentShown)] {
		lines = append(lines, s.goner(v, jobs))
	}
	if rest := len(volumes) - contentShown; rest > 0 {
		lines = append(lines, fmt.Sprintf("and %d more volumes", rest))
	}
	return lines, nil
}
