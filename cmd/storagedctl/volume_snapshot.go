package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"storaged/cmd/internal/cmdline"
	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/term"
)

func (t *tool) snapshotCommand() *cli.Command {
	return &cli.Command{
		Name: "snapshot", Usage: "volumes as they were at some time",
		Subcommands: []*cli.Command{
			{
				Name: "create", Usage: "keep a volume as it is now", ArgsUsage: "VOL@NAME",
				Description: "Nothing is copied: the snapshot shares the volume's blocks until that is written to. Where the file\n" +
					"system cannot share blocks (xfs and btrfs can), a volume in format qcow2 becomes an overlay on its\n" +
					"snapshot, and others are refused. Of logical volumes thin ones have snapshots.\n\n" +
					"Example: storagedctl vol snapshot create images/vm1.raw@before-upgrade",
				Flags: jobFlags(), Action: t.changing(snapshotCreate),
			},
			{Name: "list", Usage: "list the snapshots of a volume", ArgsUsage: "VOL", Flags: append(freshFlag(), templateFlag()), Action: t.reading(snapshotList)},
			{
				Name: "restore", Usage: "make a volume what it was when the snapshot was made", ArgsUsage: "VOL@NAME",
				Description: "What the volume has now is gone after that. The snapshot stays.",
				Flags:       jobFlags(yesFlag()), Action: t.changing(snapshotRestore),
			},
			{
				Name: "delete", Usage: "delete a snapshot", ArgsUsage: "VOL@NAME",
				Description: "The volume stays as it is. Where it, or later snapshots, stand on the snapshot, they get what they lack\n" +
					"of it before, which needs room for as much. A snapshot that other volumes stand on is refused.",
				Flags: jobFlags(yesFlag()), Action: t.changing(snapshotDelete),
			},
			{
				Name: "clone", Usage: "make a new volume of a snapshot", ArgsUsage: "VOL@NAME POOL/NAME",
				Description: "The file is copied, or shared where the file system can. In another --format, or with a --secret that is\n" +
					"to encrypt the copy, what a virtual machine sees is copied instead.\n\n" +
					"Examples:\n  storagedctl vol snapshot clone images/vm1.raw@before-upgrade images/vm2.raw\n" +
					"  storagedctl vol snapshot clone images/vm1.qcow2@before-upgrade images/vm2.qcow2 --secret disks",
				Flags: jobFlags(
					&cli.StringFlag{Name: "format", Usage: "its format (default: the snapshot's), of " + creatable() + ": `FORMAT`"},
					&cli.StringFlag{Name: "secret", Usage: "encrypt the copy (formats luks and qcow2), so that this opens it: `SECRET`"},
					optionFlag(),
					&cli.StringFlag{Name: "reflink", Usage: "share blocks with the snapshot: `auto|always|never`"}),
				Action: t.changing(snapshotClone),
			},
		},
	}
}

// parseSnapshot reads VOLUME@NAME.
func parseSnapshot(s string) (volume, name string, err error) {
	at := strings.LastIndexByte(s, '@')
	if at < 0 {
		return "", "", fmt.Errorf("%q is no snapshot: write POOL/VOLUME@NAME", s)
	}
	volume, name = s[:at], s[at+1:]
	if err := record.CheckName(name); err != nil {
		return "", "", fmt.Errorf("snapshot: %w", err)
	}
	_, err = parseVolume(volume)
	return volume, name, err
}

// snapshot finds out the volume of a snapshot that the command names first.
func (s *session) snapshot(ctx context.Context) (v volumeRef, name string, err error) {
	volume, name, err := parseSnapshot(s.arg(0))
	if err != nil {
		return v, "", cmdline.Usagef("%s", err)
	}
	v, err = s.volume(ctx, volume)
	return v, name, err
}

// onSnapshot starts a job on one that is there.
func (s *session) onSnapshot(v volumeRef, name string, r operation.Request) start {
	return s.job(snapshotOf(v, name), r)
}

// snapshotOf is a snapshot as the object of a job.
func snapshotOf(v volumeRef, name string) record.Object {
	o := v.object()
	o.Volume += "@" + name
	return o
}

func snapshotCreate(ctx context.Context, s *session) error {
	v, name, err := s.snapshot(ctx)
	if err != nil {
		return err
	}
	st := s.job(v.object(), &operation.SnapshotCreateRequest{Name: name, JobOptions: s.jobOptions()})
	st.object = v.String() + "@" + name
	return s.run(ctx, st)
}

func snapshotRestore(ctx context.Context, s *session) error {
	v, name, err := s.snapshot(ctx)
	if err == nil {
		err = s.confirm(ctx, s.losing("replaces the content of "+v.String()+" by its snapshot "+name, v))
	}
	if err != nil {
		return err
	}
	return s.run(ctx, s.onSnapshot(v, name, &operation.SnapshotRestoreRequest{JobOptions: s.jobOptions()}))
}

func snapshotDelete(ctx context.Context, s *session) error {
	v, name, err := s.snapshot(ctx)
	if err == nil {
		err = s.confirm(ctx, s.deletingSnapshot(snapshotOf(v, name)))
	}
	if err != nil {
		return err
	}
	return s.run(ctx, s.onSnapshot(v, name, &operation.SnapshotDeleteRequest{JobOptions: s.jobOptions()}))
}

// deletingSnapshot is the ruin of a snapshot, as the object of a job.
func (s *session) deletingSnapshot(o record.Object) ruin {
	return ruin{what: "deletes the snapshot " + o.String(), list: func(ctx context.Context) ([]string, error) {
		volume, name, err := parseSnapshot(o.String())
		if err != nil {
			return nil, err
		}
		v, err := s.volume(ctx, volume)
		if err == nil {
			_, err = s.client.Snapshot(ctx, v.pool, v.name, name)
		}
		return []string{o.String()}, err
	}}
}

func snapshotClone(ctx context.Context, s *session) error {
	v, name, err := s.snapshot(ctx)
	if err != nil {
		return err
	}
	to, err := s.volume(ctx, s.arg(1))
	if err != nil {
		return err
	}
	r := operation.SnapshotCloneRequest{CloneRequest: operation.CloneRequest{
		Pool: to.pool, Name: to.name, Format: s.cli.String("format"), Secret: s.cli.String("secret"), Options: s.options(),
		Reflink: s.cli.String("reflink"), JobOptions: s.jobOptions(),
	}}
	st := s.onSnapshot(v, name, &r)
	st.object = to.String()
	return s.run(ctx, st)
}

func snapshotList(ctx context.Context, s *session) error {
	v, err := s.volume(ctx, s.arg(0))
	if err != nil {
		return err
	}
	all, err := s.client.Snapshots(ctx, v.pool, v.name)
	if err != nil {
		return err
	}
	return printList(s, s.snapshotShape(), all)
}

func (s *session) snapshotShape() shape[record.Snapshot] {
	bytes := func(n int64) string { return size(n, s.cli.Bool("bytes")) }
	name := func(r record.Snapshot) string { return r.Pool + "/" + r.Volume + "@" + r.Name }
	return shape[record.Snapshot]{
		columns: []term.Column[record.Snapshot]{
			{Name: "snapshot", Weight: 4, Middle: true, Cell: name},
			{Name: "format", Spare: 2, Cell: func(r record.Snapshot) string { return r.Format }},
			{Name: "capacity", Right: true, Cell: func(r record.Snapshot) string { return bytes(r.Capacity) }, Order: byValue(func(r record.Snapshot) int64 { return r.Capacity })},
			{Name: "allocation", Spare: 1, Right: true, Cell: func(r record.Snapshot) string { return bytes(r.Allocation) }, Order: byValue(func(r record.Snapshot) int64 { return r.Allocation })},
			timed(term.Column[record.Snapshot]{Name: "created"}, func(r record.Snapshot) *time.Time { return r.Created }),
			{Name: "children", Weight: 4, Extra: true, Cell: func(r record.Snapshot) string { return strings.Join(r.Children, ",") }},
			{Name: "path", Weight: 4, Middle: true, Extra: true, Cell: func(r record.Snapshot) string { return r.Path }},
		},
		name: name,
	}
}
