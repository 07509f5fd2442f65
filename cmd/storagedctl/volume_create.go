package main

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"storaged/cmd/internal/cmdline"
	"storaged/internal/operation"
	"storaged/internal/quantity"
	"storaged/internal/record"
	"storaged/internal/service/contract"
)

func (t *tool) createVerb() *cli.Command {
	return &cli.Command{
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
	}
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
	req := operation.CreateRequest{
		Name: r.name, Capacity: capacity, Format: s.cli.String("format"),
		Allocation: allocation(s.cli.String("allocation")), JobOptions: s.jobOptions(),
	}
	st := s.job(record.Object{Pool: r.pool}, &req)
	return s.run(ctx, start{object: r.String(), ask: s.afterMaker(r, st.ask), settle: s.existOK(r, volumeSpec{capacity, req.Format})})
}

// allocation reads full, none or a size; the grammar has checked it.
func allocation(given string) *operation.Allocation {
	switch given {
	case "":
		return nil
	case "full":
		return &operation.Allocation{Full: true}
	case "none":
		return &operation.Allocation{}
	}
	n, err := quantity.ParseSize(given)
	if err != nil {
		panic("internal error: an allocation was not checked: " + err.Error())
	}
	return &operation.Allocation{Bytes: n}
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
	return func(ctx context.Context, sub contract.Submit) (contract.Started, error) {
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
