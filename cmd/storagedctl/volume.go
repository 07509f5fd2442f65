package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/term"
	"storaged/internal/virtxml"
)

// patterns is said of verbs that take several volumes.
const patterns = "Of several volumes a pattern may be given, in quotes lest the shell takes it: 'images/vm*'. A volume that has\nsuch a name itself is meant before others."

func (t *tool) volumeCommand() *cli.Command {
	return &cli.Command{
		Name: "vol", Aliases: []string{"volume"}, Usage: "volumes",
		Subcommands: []*cli.Command{
			{Name: "list", Usage: "list the volumes of all or some pools", ArgsUsage: "[POOL|VOL…]", Description: patterns, Flags: append(freshFlag(), templateFlag()), Action: t.reading(volumeList)},
			{Name: "show", Usage: "show all about a volume", ArgsUsage: "VOL…", Description: patterns, Flags: append(freshFlag(), templateFlag()), Action: t.reading(volumeShow)},
			t.createVerb(), t.cloneVerb(), t.uploadVerb(), t.downloadVerb(), t.resizeVerb(), t.wipeVerb(), t.trimVerb(), t.rekeyVerb(), t.verifyVerb(),
			t.moveVerb(), t.flattenVerb(), t.rebaseVerb(), t.deleteVerb(), t.snapshotCommand(),
		},
	}
}

func (s *session) volumeShape() shape[record.Volume] {
	bytes := func(n int64) string { return size(n, s.cli.Bool("bytes")) }
	return shape[record.Volume]{
		columns: []term.Column[record.Volume]{
			{Name: "volume", Weight: 4, Middle: true, Cell: volumeName},
			{Name: "format", Spare: 2, Cell: func(v record.Volume) string { return v.Format }},
			{Name: "capacity", Right: true, Cell: func(v record.Volume) string { return bytes(v.Capacity) }, Order: byValue(func(v record.Volume) int64 { return v.Capacity })},
			{Name: "allocation", Spare: 1, Right: true, Cell: func(v record.Volume) string { return bytes(v.Allocation) }, Order: byValue(func(v record.Volume) int64 { return v.Allocation })},
			{Name: "state", Cell: volumeState},
			{Name: "parent", Weight: 3, Spare: 3, Middle: true, Cell: volumeParent},
			{Name: "pool", Extra: true, Cell: func(v record.Volume) string { return v.Pool }},
			{Name: "name", Weight: 4, Middle: true, Extra: true, Cell: func(v record.Volume) string { return v.Name }},
			{Name: "type", Extra: true, Cell: func(v record.Volume) string { return v.Type }},
			{Name: "path", Weight: 4, Middle: true, Extra: true, Cell: func(v record.Volume) string { return v.Path }},
			{Name: "key", Weight: 4, Middle: true, Extra: true, Cell: func(v record.Volume) string { return v.Key }},
			{Name: "secret", Extra: true, Cell: func(v record.Volume) string { return v.Secret }},
			{Name: "backing", Weight: 4, Middle: true, Extra: true, Cell: func(v record.Volume) string { return v.Backing }},
			{Name: "problem", Weight: 4, Extra: true, Cell: func(v record.Volume) string { return v.Problem }},
			{Name: "children", Weight: 4, Extra: true, Cell: func(v record.Volume) string { return strings.Join(v.Children, ",") }},
			{Name: "snapshots", Weight: 4, Extra: true, Cell: func(v record.Volume) string { return strings.Join(v.Snapshots, ",") }},
			{Name: "origin", Extra: true, Cell: func(v record.Volume) string { return string(v.Origin) }},
			{Name: "generation", Right: true, Extra: true, Cell: func(v record.Volume) string { return fmt.Sprint(v.Generation) }, Order: byValue(func(v record.Volume) int64 { return v.Generation })},
			{Name: "description", Weight: 4, Extra: true, Cell: func(v record.Volume) string { return v.Description }},
		},
		name:   volumeName,
		xml:    func(v record.Volume) string { return virtxml.OfVolume(v).Format() },
		detail: volumeFields,
	}
}

func volumeName(v record.Volume) string { return v.Pool + "/" + v.Name }

// volumeParent is the volume that one stands on, or what its header names where that is
// none.
func volumeParent(v record.Volume) string {
	if v.Parent == nil {
		return v.Backing
	}
	return v.Parent.Pool + "/" + v.Parent.Volume
}

// volumeState gives the state with the job that explains it.
func volumeState(v record.Volume) string {
	state := string(v.State)
	switch {
	case v.Reason == "":
	case v.State == record.VolumeReady:
		state = "not usable"
	default:
		state += ", not usable"
	}
	if v.Problem != "" {
		state += ", has a problem"
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
		{"Volume", volumeName(v)}, {"State", volumeState(v)}, {"Reason", v.Reason}, {"Problem", v.Problem}, {"Type", v.Type}, {"Format", v.Format}, {"Secret", v.Secret}, {"Permissions", permissions(v.Permissions)},
		{"Capacity", bytes(v.Capacity)}, {"Allocation", bytes(v.Allocation)}, {"Path", v.Path}, {"Key", v.Key},
		{"Options", pairs(v.Options)}, {"Backing", backing(v)}, {"Parent", parent(v)}, {"Children", strings.Join(v.Children, ", ")}, {"Snapshots", strings.Join(v.Snapshots, ", ")}, {"Internal snapshots", internal(v)}, {"Origin", made},
		{"Generation", fmt.Sprintf("%d, one more with each change", v.Generation)}, {"Description", v.Description}, {"Checksum", recorded(v.Checksum)}, {"Read at", stamp(&v.Observed)},
	}
}

// backing gives what the header of a volume names, and says if nothing here is that.
func backing(v record.Volume) string {
	if v.Backing == "" || v.Parent != nil {
		return v.Backing
	}
	return v.Backing + ", which is no volume of a pool in use"
}

// parentName gives the volume that another stands on.
func parentName(v record.Volume) string {
	if v.Parent == nil {
		return ""
	}
	return v.Parent.Pool + "/" + v.Parent.Volume
}

// internal is how many snapshots the image itself has.
func internal(v record.Volume) string {
	if v.InternalSnapshots == 0 {
		return ""
	}
	return fmt.Sprintf("%d (qemu-img snapshot -l lists them)", v.InternalSnapshots)
}

// parent gives what a volume stands on, and how much there is below that.
func parent(v record.Volume) string {
	if v.Parent == nil || v.Depth == nil {
		return ""
	}
	text := fmt.Sprintf("%s (%s)", parentName(v), v.Parent.Format)
	if *v.Depth > 1 {
		text += fmt.Sprintf(", which stands on %d more", *v.Depth-1)
	}
	return text
}

// recorded gives the checksum of a volume and whether it still holds.
func recorded(c *record.Recorded) string {
	if c == nil {
		return ""
	}
	text := fmt.Sprintf("%s by job %d, %s", c.Checksum, c.Job, stamp(&c.Time))
	if c.As == record.AsFile {
		text += ", of the file as it is"
	}
	if !c.Current {
		text += "; out of date, the volume was changed since"
	}
	return text
}

func volumeList(ctx context.Context, s *session) error {
	if len(s.args()) == 0 {
		volumes, err := s.client.Volumes(ctx, contract.VolumeFilter{})
		if err != nil {
			return err
		}
		return printList(s, s.volumeShape(), volumes)
	}
	find := func(given string) ([]record.Volume, error) { return s.listOf(ctx, given) }
	lists, outcomes, err := findEach(s.pools(ctx), find, func(_, _ []record.Volume) bool { return false })
	if err != nil {
		return err
	}
	if len(lists) > 0 {
		err = printList(s, s.volumeShape(), onceBy(slices.Concat(lists...), volumeName))
	}
	return errors.Join(err, s.verdict(outcomes))
}

// listOf gives the volumes of a pool, or those that a pattern or a name is of.
func (s *session) listOf(ctx context.Context, given string) ([]record.Volume, error) {
	if !strings.Contains(given, "/") {
		return s.client.PoolVolumes(ctx, given)
	}
	if volumes, err := s.matched(ctx, given); err != nil || len(volumes) > 0 {
		return volumes, err
	}
	v, err := s.known(ctx, given)
	if err != nil {
		return nil, err
	}
	return []record.Volume{v}, nil
}

// known gives the volume that is given by name or path.
func (s *session) known(ctx context.Context, given string) (record.Volume, error) {
	r, err := s.volume(ctx, given)
	if err != nil {
		return record.Volume{}, err
	}
	return s.client.Volume(ctx, r.pool, r.name)
}

func volumeShow(ctx context.Context, s *session) error {
	find := func(given string) (record.Volume, error) { return s.known(ctx, given) }
	names, err := s.wanted(ctx, s.args())
	if err != nil {
		return err
	}
	return showEach(s, names, s.volumeShape(), find)
}

// onVolume starts a job on the volume that the command names first; ruin says what
// that loses, nil nothing.
func (s *session) onVolume(ctx context.Context, r operation.Request, ruin func(volumeRef) ruin) error {
	v, err := s.volume(ctx, s.arg(0))
	if err != nil {
		return err
	}
	if ruin != nil {
		if err := s.confirm(ctx, ruin(v)); err != nil {
			return err
		}
	}
	return s.run(ctx, s.job(v.object(), r))
}

// job is the start of a job on an object.
func (s *session) job(on record.Object, r operation.Request) start {
	return start{object: on.String(), ask: func(ctx context.Context, sub contract.Submit) (contract.Started, error) {
		return s.client.Start(ctx, sub, on.Pool, on.Volume, r)
	}}
}
