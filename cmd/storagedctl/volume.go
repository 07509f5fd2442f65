package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"storaged/cmd/internal/cmdline"
	"storaged/internal/quantity"
	"storaged/internal/record"
	"storaged/internal/service"
	"storaged/internal/term"
)

func (t *tool) volumeCommand() *cli.Command {
	return &cli.Command{
		Name: "vol", Aliases: []string{"volume"}, Usage: "volumes",
		Subcommands: slices.Concat(t.volumeMakingVerbs(), t.contentCommands(), t.volumeChangingVerbs(), t.volumePartingVerbs()),
	}
}

func (t *tool) volumeMakingVerbs() []*cli.Command {
	return []*cli.Command{
		{Name: "list", Usage: "list the volumes of all or some pools", ArgsUsage: "[POOL…]", Flags: freshFlag(), Action: t.reading(volumeList)},
		{Name: "show", Usage: "show all about a volume", ArgsUsage: "VOL…", Flags: freshFlag(), Action: t.reading(volumeShow)},
		{
			Name: "create", Usage: "make a volume", ArgsUsage: "POOL/NAME [SIZE]",
			Description: "A raw volume is fully allocated unless --allocation says otherwise. With --from it is written with that\n" +
				"content before it appears under its name. It is then as large as the content, or SIZE if that is more, and\n" +
				"only the data is allocated. A file in another format than raw is stored unchanged with --format FORMAT: it\n" +
				"must begin like an image in FORMAT, and its header gives the size.\n" +
				"--as-format, --detect-zeros, --sparse and --checksum are about that content.\n\n" +
				"Examples:\n  storagedctl vol create images/vm1.raw 10G\n  storagedctl vol create images/vm2.raw 10G --allocation none\n" +
				"  storagedctl vol create images/vm3.raw --from vm3.img\n  storagedctl vol create images/vm4.qcow2 --from vm4.qcow2 --format qcow2",
			Flags: jobFlags(append(uploadFlags(),
				&cli.StringFlag{Name: "from", Usage: "`FILE|-` with its content"},
				&cli.StringFlag{Name: "format", Usage: "its format (default raw): `FORMAT`"},
				&cli.StringFlag{Name: "allocation", Usage: "how much to allocate: `full|none|SIZE`"},
				&cli.BoolFlag{Name: "exist-ok", Usage: "no failure if there is the same volume already"})...),
			Action: t.changing(volumeCreate),
		},
		{
			Name: "clone", Usage: "copy a volume", ArgsUsage: "VOL POOL/NAME…",
			Description: "Example: storagedctl vol clone images/base.raw images/vm1.raw images/vm2.raw",
			Flags: jobFlags(
				&cli.StringFlag{Name: "format", Usage: "its format (default: the source's): `FORMAT`"},
				&cli.StringFlag{Name: "size", Usage: "its capacity (default: the source's): `SIZE`"},
				&cli.StringFlag{Name: "reflink", Usage: "share blocks with the source: `auto|always|never`"},
				&cli.BoolFlag{Name: "sparse", Usage: "leave out blocks of zeros, and reserve no space"},
				&cli.BoolFlag{Name: "exist-ok", Usage: "no failure if there is a volume of that size already"}),
			Action: t.changing(volumeClone),
		},
	}
}

func (t *tool) volumeChangingVerbs() []*cli.Command {
	return []*cli.Command{
		{
			Name: "resize", Usage: "give a volume another capacity", ArgsUsage: "VOL SIZE|+SIZE",
			Description: "Example: storagedctl vol resize images/vm1.raw +5G",
			Flags: jobFlags(
				&cli.BoolFlag{Name: "shrink", Usage: "allow it to cut off the end of the content"},
				&cli.BoolFlag{Name: "allocate", Usage: "allocate what is added"}, yesFlag()),
			Action: t.changing(volumeResize),
		},
		t.wipeVerb(),
		t.trimVerb(),
		{
			Name: "verify", Usage: "read a volume and give its checksum", ArgsUsage: "VOL",
			Description: "The checksum is recorded with the volume. It is compared with --checksum, and without\nthat with what was recorded before, unless the volume was changed since; a content that\ndiffers is exit code 10.\n\nExample: storagedctl vol verify images/base.raw",
			Flags:       jobFlags(&cli.StringFlag{Name: "checksum", Usage: "sha256 or crc32c; with :HEX what it should have: `CHECKSUM`"}),
			Action:      t.changing(volumeVerify),
		},
	}
}

func (t *tool) volumePartingVerbs() []*cli.Command {
	return []*cli.Command{
		{
			Name: "move", Usage: "give a volume another name, in its pool or another", ArgsUsage: "VOL POOL/NAME",
			Description: "To a pool on another file system it is copied, and removed when the copy is complete. A volume\nthat is in use, or that others stand on, is refused.\n\n" +
				"Example: storagedctl vol move images/vm1.raw archive/vm1.raw",
			Flags:  jobFlags(),
			Action: t.changing(volumeMove),
		},
		{
			Name: "delete", Usage: "delete volumes", ArgsUsage: "VOL…",
			Flags: jobFlags(
				&cli.StringFlag{Name: "wipe", Usage: "wipe them first, with zeroes or another algorithm: `[=ALGORITHM]`"},
				&cli.BoolFlag{Name: "accept-limits", Usage: "wipe even if old content will stay readable elsewhere"},
				&cli.BoolFlag{Name: "missing-ok", Usage: "no failure if there is no such volume"}, yesFlag()),
			Action: t.changing(volumeDelete),
		},
	}
}

func (t *tool) wipeVerb() *cli.Command {
	return &cli.Command{
		Name: "wipe", Usage: "overwrite a volume's content", ArgsUsage: "VOL",
		Description: "Where old content would certainly stay readable (shared blocks, a file system that\n" +
			"does not overwrite in place), the wipe is refused without --accept-limits. What else may\n" +
			"keep old content is told with the result.\n\n" +
			"Algorithms:\n" +
			"  zero, random             once with zeros, once with random bytes\n" +
			"  nnsa, dod                three times, the last time read back\n" +
			"  pfitzner7, schneier      seven times\n" +
			"  bsi                      nine times\n" +
			"  pfitzner33, gutmann      33 and 35 times\n" +
			"  trim                     gives the blocks back and overwrites nothing\n\n" +
			"Example: storagedctl vol wipe images/old.raw --verify",
		Flags: jobFlags(
			&cli.StringFlag{Name: "algorithm", Usage: "how (default zero): `ALGORITHM`"},
			&cli.BoolFlag{Name: "verify", Usage: "read it back"},
			&cli.BoolFlag{Name: "accept-limits", Usage: "wipe even if old content will stay readable elsewhere"}, yesFlag()),
		Action: t.changing(volumeWipe),
	}
}

func (t *tool) trimVerb() *cli.Command {
	return &cli.Command{
		Name: "trim", Usage: "give back the space of what reads as zeros in a volume", ArgsUsage: "VOL",
		Description: "The content stays the same, also where the job is canceled or interrupted. A volume that\n" +
			"has space reserved is refused without --give-up-allocation; then none is reserved after.\n\n" +
			"Example: storagedctl vol trim images/vm1.raw",
		Flags: jobFlags(
			&cli.BoolFlag{Name: "give-up-allocation", Usage: "although space is reserved for it"}),
		Action: t.changing(volumeTrim),
	}
}

func (s *session) volumeShape() shape[record.Volume] {
	bytes := func(n int64) string { return size(n, s.cli.Bool("bytes")) }
	return shape[record.Volume]{
		columns: []term.Column[record.Volume]{
			{Name: "volume", Weight: 4, Cell: volumeName},
			{Name: "format", Spare: 2, Cell: func(v record.Volume) string { return v.Format }},
			{Name: "capacity", Right: true, Cell: func(v record.Volume) string { return bytes(v.Capacity) }},
			{Name: "allocation", Spare: 1, Right: true, Cell: func(v record.Volume) string { return bytes(v.Allocation) }},
			{Name: "state", Cell: volumeState},
			{Name: "pool", Extra: true, Cell: func(v record.Volume) string { return v.Pool }},
			{Name: "name", Weight: 4, Extra: true, Cell: func(v record.Volume) string { return v.Name }},
			{Name: "type", Extra: true, Cell: func(v record.Volume) string { return v.Type }},
			{Name: "path", Weight: 4, Extra: true, Cell: func(v record.Volume) string { return v.Path }},
			{Name: "key", Weight: 4, Extra: true, Cell: func(v record.Volume) string { return v.Key }},
			{Name: "backing", Weight: 4, Extra: true, Cell: func(v record.Volume) string { return v.Backing }},
			{Name: "children", Weight: 4, Extra: true, Cell: func(v record.Volume) string { return strings.Join(v.Children, ",") }},
			{Name: "origin", Extra: true, Cell: func(v record.Volume) string { return string(v.Origin) }},
			{Name: "generation", Right: true, Extra: true, Cell: func(v record.Volume) string { return fmt.Sprint(v.Generation) }},
			{Name: "description", Weight: 4, Extra: true, Cell: func(v record.Volume) string { return v.Description }},
		},
		name:   volumeName,
		detail: volumeFields,
	}
}

func volumeName(v record.Volume) string { return v.Pool + "/" + v.Name }

// volumeState gives the state with the job that explains it.
func volumeState(v record.Volume) string {
	state := string(v.State)
	if v.Reason != "" {
		state += ", not usable"
	}
	if v.Job == nil {
		return state
	}
	return fmt.Sprintf("%s (job %d)", state, *v.Job)
}

func volumeFields(s *session, v record.Volume) []field {
	bytes := func(n int64) string { return size(n, s.cli.Bool("bytes")) }
	made := string(v.Origin)
	if v.CreatedBy != nil {
		made = fmt.Sprintf("%s by job %d", v.Origin, *v.CreatedBy)
	}
	return []field{
		{"Volume", volumeName(v)}, {"State", volumeState(v)}, {"Reason", v.Reason}, {"Type", v.Type}, {"Format", v.Format},
		{"Capacity", bytes(v.Capacity)}, {"Allocation", bytes(v.Allocation)}, {"Path", v.Path}, {"Key", v.Key},
		{"Backing", v.Backing}, {"Children", strings.Join(v.Children, ", ")}, {"Origin", made},
		{"Generation", fmt.Sprint(v.Generation)}, {"Description", v.Description}, {"Checksum", recorded(v.Checksum)}, {"Read at", stamp(&v.Observed)},
	}
}

// recorded gives the checksum of a volume and whether it still holds.
func recorded(c *record.Recorded) string {
	if c == nil {
		return ""
	}
	text := fmt.Sprintf("%s by job %d, %s", c.Checksum, c.Job, stamp(&c.Time))
	if !c.Current {
		text += "; out of date, the volume was changed since"
	}
	return text
}

func volumeList(ctx context.Context, s *session) error {
	if len(s.args()) == 0 {
		volumes, err := s.client.Volumes(ctx, service.VolumeFilter{})
		if err != nil {
			return err
		}
		return printList(s, s.volumeShape(), volumes)
	}
	find := func(pool string) ([]record.Volume, error) { return s.client.PoolVolumes(ctx, pool) }
	lists, outcomes, err := findEach(s.pools(ctx), find, func(_, _ []record.Volume) bool { return false })
	if err != nil {
		return err
	}
	if len(lists) > 0 {
		err = printList(s, s.volumeShape(), slices.Concat(lists...))
	}
	return errors.Join(err, s.verdict(outcomes))
}

func volumeShow(ctx context.Context, s *session) error {
	find := func(given string) (record.Volume, error) {
		r, err := s.volume(ctx, given)
		if err != nil {
			return record.Volume{}, err
		}
		return s.client.Volume(ctx, r.pool, r.name)
	}
	return showEach(s, s.volumeShape(), find, func(a, b record.Volume) bool { return volumeName(a) == volumeName(b) })
}

func volumeCreate(ctx context.Context, s *session) error {
	r, err := s.volume(ctx, s.arg(0))
	if err != nil {
		return err
	}
	capacity := int64(0)
	if s.arg(1) == "" && !s.cli.IsSet("from") {
		return cmdline.Usagef("SIZE or --from is missing")
	}
	if s.arg(1) != "" || !s.cli.IsSet("from") {
		if capacity, err = quantity.ParseSize(s.arg(1)); err != nil {
			return cmdline.Usagef("%s", err)
		}
	}
	if s.cli.IsSet("from") {
		return s.createFrom(ctx, r, capacity)
	}
	req := service.VolumeCreate{
		Name: r.name, Capacity: capacity, Format: s.cli.String("format"),
		Allocation: allocation(s.cli.String("allocation")), JobOptions: s.jobOptions(),
	}
	return s.run(ctx, start{
		object: r.String(),
		ask: s.afterMaker(r, func(ctx context.Context, sub service.Submit) (service.Started, error) {
			return s.client.Start(ctx, sub, record.VolumeCreate, record.Object{Pool: r.pool}, req)
		}),
		settle: s.existOK(r, volumeSpec{capacity, req.Format}),
	})
}

// allocation reads full, none or a size; the grammar has checked it.
func allocation(given string) *service.Allocation {
	switch given {
	case "":
		return nil
	case "full":
		return &service.Allocation{Full: true}
	case "none":
		return &service.Allocation{}
	}
	n, err := quantity.ParseSize(given)
	if err != nil {
		panic("internal error: an allocation was not checked: " + err.Error())
	}
	return &service.Allocation{Bytes: n}
}

// anyCapacity is that of what nobody here can tell the capacity of.
const anyCapacity = -1

// volumeSpec is what a volume must be to be taken for the one asked for. An
// empty format is any, and so is a capacity of anyCapacity.
type volumeSpec struct {
	capacity int64
	format   string
}

// sameVolume is a volume that was there already.
type sameVolume struct {
	record.Volume
	Changed bool `json:"changed"`
}

// String is what it is called in a sentence.
func (w volumeSpec) String() string {
	if w.capacity == anyCapacity {
		return cmp.Or(w.format, record.FormatRaw)
	}
	return quantity.FormatBoth(w.capacity)
}

// maxPoll is how long one request waits for the job of another: as long as the
// daemon lets it.
const maxPoll = 10 * time.Minute

// existOK takes, with --exist-ok, a volume that matches for the one asked for.
func (s *session) existOK(r volumeRef, want volumeSpec) func(context.Context, error) (any, error) {
	return func(ctx context.Context, failure error) (any, error) {
		if !s.cli.Bool("exist-ok") || record.CodeOf(failure) != record.Exists {
			return nil, failure
		}
		if _, err := s.awaitMaker(ctx, r); err != nil {
			return nil, err
		}
		v, err := s.client.Volume(ctx, r.pool, r.name)
		if err != nil {
			return nil, failure
		}
		if v.State != record.VolumeReady || want.capacity != anyCapacity && v.Capacity != want.capacity || want.format != "" && v.Format != want.format {
			return nil, record.Errorf(record.Exists, "%s exists and differs: it is %s, %s with %s, not %s",
				r, volumeState(v), v.Format, quantity.FormatBoth(v.Capacity), want)
		}
		return sameVolume{Volume: v}, nil
	}
}

// afterMaker asks, with --exist-ok, for a volume again that a job was making when
// it was asked for: it is there then, or free to be made.
func (s *session) afterMaker(r volumeRef, ask asking) asking {
	if !s.cli.Bool("exist-ok") {
		return ask
	}
	return func(ctx context.Context, sub service.Submit) (service.Started, error) {
		for {
			st, err := ask(ctx, sub)
			if record.CodeOf(err) != record.Exists {
				return st, err
			}
			if waited, werr := s.awaitMaker(ctx, r); werr != nil || !waited {
				return st, cmp.Or(werr, err)
			}
		}
	}
}

// awaitMaker waits for the end of the job that is making a volume, and reports
// whether there was one.
func (s *session) awaitMaker(ctx context.Context, r volumeRef) (bool, error) {
	v, err := s.client.Volume(ctx, r.pool, r.name)
	switch {
	case record.CodeOf(err) == record.NotFound:
		return true, nil // it has ended just now, without
	case err != nil:
		return false, err
	case v.State != record.VolumeBuilding || v.Job == nil:
		return false, nil
	}
	return true, s.awaitEnd(ctx, fmt.Sprint(*v.Job))
}

// awaitEnd waits for the end of somebody else's job.
func (s *session) awaitEnd(ctx context.Context, job string) error {
	for {
		j, err := s.client.WaitJob(ctx, job, maxPoll)
		if err != nil || j.State.Terminal() {
			return err
		}
	}
}

func volumeClone(ctx context.Context, s *session) error {
	source, err := s.volume(ctx, s.arg(0))
	if err != nil {
		return err
	}
	targets, err := s.volumes(ctx, s.args()[1:])
	if err != nil {
		return err
	}
	req := service.VolumeClone{Format: s.cli.String("format"), Reflink: s.cli.String("reflink"), Sparse: s.cli.Bool("sparse"), JobOptions: s.jobOptions()}
	if n := cmdline.Size(s.cli, "size"); n != nil {
		req.Size = *n
	}
	want, err := s.cloneSpec(ctx, source, req)
	if err != nil {
		return err
	}
	var starts []start
	for _, target := range targets {
		req := req
		req.Pool, req.Name = target.pool, target.name
		starts = append(starts, start{
			object: target.String(),
			ask: s.afterMaker(target, func(ctx context.Context, sub service.Submit) (service.Started, error) {
				return s.client.Start(ctx, sub, record.VolumeClone, source.object(), req)
			}),
			settle: s.existOK(target, want),
		})
	}
	return s.run(ctx, starts...)
}

// cloneSpec says what a clone will be; it is needed for --exist-ok only.
func (s *session) cloneSpec(ctx context.Context, source volumeRef, req service.VolumeClone) (volumeSpec, error) {
	want := volumeSpec{req.Size, req.Format}
	if !s.cli.Bool("exist-ok") || want.capacity != 0 {
		return want, nil
	}
	v, err := s.client.Volume(ctx, source.pool, source.name)
	want.capacity = v.Capacity
	return want, err
}

func volumeResize(ctx context.Context, s *session) error {
	r, err := s.volume(ctx, s.arg(0))
	if err != nil {
		return err
	}
	capacity, err := s.newCapacity(ctx, r, s.arg(1))
	if err != nil {
		return err
	}
	req := service.VolumeResize{Capacity: capacity, Shrink: s.cli.Bool("shrink"), Allocate: s.cli.Bool("allocate"), JobOptions: s.jobOptions()}
	if req.Shrink {
		err := s.confirm(ctx, ruin{
			what: fmt.Sprintf("cuts %s off after %s", r, quantity.FormatBoth(capacity)),
			list: func(ctx context.Context) ([]string, error) { return s.goners(ctx, []volumeRef{r}) },
		})
		if err != nil {
			return err
		}
	}
	return s.run(ctx, start{object: r.String(), ask: func(ctx context.Context, sub service.Submit) (service.Started, error) {
		return s.client.Start(ctx, sub, record.VolumeResize, r.object(), req)
	}})
}

// newCapacity reads SIZE or +SIZE; the latter is added to what there is.
func (s *session) newCapacity(ctx context.Context, r volumeRef, given string) (int64, error) {
	n, relative, err := quantity.ParseRelative(given)
	if err != nil {
		return 0, cmdline.Usagef("%s", err)
	}
	if !relative {
		return n, nil
	}
	v, err := s.client.Volume(ctx, r.pool, r.name)
	if err != nil {
		return 0, err
	}
	if v.Capacity > math.MaxInt64-n {
		return 0, cmdline.Usagef("%s with %s more would be too large", r, given)
	}
	return v.Capacity + n, nil
}

func volumeWipe(ctx context.Context, s *session) error {
	r, err := s.volume(ctx, s.arg(0))
	if err != nil {
		return err
	}
	err = s.confirm(ctx, ruin{
		what: "overwrites the content of " + r.String(),
		list: func(ctx context.Context) ([]string, error) { return s.goners(ctx, []volumeRef{r}) },
	})
	if err != nil {
		return err
	}
	req := service.VolumeWipe{
		Algorithm: s.cli.String("algorithm"), Verify: s.cli.Bool("verify"),
		AcceptLimits: s.cli.Bool("accept-limits"), JobOptions: s.jobOptions(),
	}
	return s.run(ctx, start{object: r.String(), ask: func(ctx context.Context, sub service.Submit) (service.Started, error) {
		return s.client.Start(ctx, sub, record.VolumeWipe, r.object(), req)
	}})
}

func volumeTrim(ctx context.Context, s *session) error {
	r, err := s.volume(ctx, s.arg(0))
	if err != nil {
		return err
	}
	req := service.VolumeTrim{GiveUpAllocation: s.cli.Bool("give-up-allocation"), JobOptions: s.jobOptions()}
	return s.run(ctx, start{object: r.String(), ask: func(ctx context.Context, sub service.Submit) (service.Started, error) {
		return s.client.Start(ctx, sub, record.VolumeTrim, r.object(), req)
	}})
}

func volumeVerify(ctx context.Context, s *session) error {
	r, err := s.volume(ctx, s.arg(0))
	if err != nil {
		return err
	}
	req := service.VolumeVerify{Checksum: s.cli.String("checksum"), JobOptions: s.jobOptions()}
	return s.run(ctx, start{object: r.String(), ask: func(ctx context.Context, sub service.Submit) (service.Started, error) {
		return s.client.Start(ctx, sub, record.VolumeVerify, r.object(), req)
	}})
}

func volumeMove(ctx context.Context, s *session) error {
	r, err := s.volume(ctx, s.arg(0))
	if err != nil {
		return err
	}
	to, err := s.volume(ctx, s.arg(1))
	if err != nil {
		return err
	}
	req := service.VolumeMove{Pool: to.pool, Name: to.name, JobOptions: s.jobOptions()}
	return s.run(ctx, start{object: to.String(), ask: func(ctx context.Context, sub service.Submit) (service.Started, error) {
		return s.client.Start(ctx, sub, record.VolumeMove, r.object(), req)
	}})
}

func volumeDelete(ctx context.Context, s *session) error {
	refs, outcomes, err := findEach(s.args(), func(given string) (volumeRef, error) { return s.volume(ctx, given) },
		func(a, b volumeRef) bool { return a == b })
	if err == nil && len(refs) > 0 {
		err = s.confirmDelete(ctx, refs)
	}
	if err != nil {
		return err
	}
	req := service.VolumeDelete{Wipe: s.cli.String("wipe"), AcceptLimits: s.cli.Bool("accept-limits"), JobOptions: s.jobOptions()}
	if s.cli.IsSet("wipe") && req.Wipe == "" {
		req.Wipe = "zero"
	}
	var starts []start
	for _, o := range outcomes {
		st := unfound(o)
		if o.err == nil {
			r := refs[0]
			refs = refs[1:]
			st = start{object: r.String(), ask: func(ctx context.Context, sub service.Submit) (service.Started, error) {
				return s.client.Start(ctx, sub, record.VolumeDelete, r.object(), req)
			}}
		}
		st.settle = s.missingOK
		starts = append(starts, st)
	}
	return s.run(ctx, starts...)
}

func (s *session) confirmDelete(ctx context.Context, refs []volumeRef) error {
	names := make([]string, len(refs))
	for i, r := range refs {
		names[i] = r.String()
	}
	return s.confirm(ctx, ruin{
		what: "deletes " + strings.Join(names, ", "),
		list: func(ctx context.Context) ([]string, error) { return s.goners(ctx, refs) },
	})
}
