package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/urfave/cli/v2"

	"storaged/internal/backends"
	"storaged/internal/diskio"
	"storaged/internal/ipc"
	"storaged/internal/record"
)

func poolVerifyCommand() *cli.Command {
	return taskCommand(cli.Command{
		Name: "pool-verify", Usage: "read every volume of a pool and give the checksums", Flags: poolFlags(),
		Description: "The volumes are those that there are at the start. One that cannot be read does not keep the\n" +
			"others from being read, and makes the exit code 11.",
	}, "--type dir --target /var/lib/images -o json", func(c *cli.Context) (task, error) {
		t, err := poolTask(c, "verify", "read", func(ctx context.Context, r *run, p pool) error {
			return (&poolVerification{pool: p, run: r}).work(ctx)
		})
		t.undone = "nothing was changed"
		return t, err
	})
}

// poolVerification reads the volumes of a pool one after the other. Between two
// of them others may do with the pool's volumes what they like.
type poolVerification struct {
	pool
	run     *run
	volumes []backends.VolumeInfo
	failed  int
}

// everybody may visit between two volumes: none is open then, and each is
// looked at anew when its turn comes.
const everybody = "QRMGWD"

func (w *poolVerification) work(ctx context.Context) error {
	w.run.plan(scanning(), ipc.PlanPhase{Name: "read", Unit: "bytes", Weight: 1, Data: true, Mask: everybody})
	w.run.next(0)
	if err := w.run.step(ctx, func() error { return w.list(ctx) }); err != nil {
		return err
	}
	total := int64(0)
	for _, v := range w.volumes {
		total += v.Size
	}
	read := moving("read", total)
	read.Mask = everybody
	w.run.plan(scanned(), read)
	w.run.next(1)
	w.run.pacer.Foresee(total)
	if err := w.readAll(ctx); err != nil {
		return err
	}
	if w.failed > 0 {
		return failed(record.Partial, "%d of %d volumes of pool %q could not be read", w.failed, len(w.volumes), w.Target)
	}
	return nil
}

// list takes down the volumes that there are, by name.
func (w *poolVerification) list(ctx context.Context) error {
	_, err := w.backend.Refresh(ctx, w.Pool, func(v backends.VolumeInfo) error {
		if v.Ignored == "" {
			w.volumes = append(w.volumes, v)
		}
		return nil
	})
	slices.SortFunc(w.volumes, func(a, b backends.VolumeInfo) int { return cmp.Compare(a.Name, b.Name) })
	return err
}

func (w *poolVerification) readAll(ctx context.Context) error {
	if len(w.volumes) > 1 {
		w.run.windows.expect(w.volumes[0].Size)
	}
	for i, v := range w.volumes {
		it, err := w.read(ctx, v)
		if errors.Is(err, context.Canceled) {
			return err
		}
		w.run.report.Items = append(w.run.report.Items, w.judged(it, err))
		if i+1 == len(w.volumes) {
			return nil
		}
		next := w.run.pacer.Counts().Durable + w.volumes[i+1].Size
		if err := w.run.windows.visit(ctx, next); err != nil {
			return err
		}
	}
	return nil
}

// read gives the checksum of one volume, which is held meanwhile.
func (w *poolVerification) read(ctx context.Context, planned backends.VolumeInfo) (ipc.Item, error) {
	it := item(planned)
	expected := planned.Size
	defer func() { w.run.pacer.Foresee(-expected) }() // what does not come any more
	v, err := w.run.open(ctx, place{path: planned.Path, backend: w.backend, pool: w.Pool, name: planned.Name}, backends.ReadShared)
	if err != nil {
		return it, err
	}
	defer v.Close() // opened for reading
	now, err := v.Info()
	if err != nil {
		return it, err
	}
	now.Format, now.Capacity, now.Backing = planned.Format, planned.Capacity, planned.Backing
	it = item(now)
	w.run.pacer.Foresee(now.Size - expected)
	expected = 0
	sum, err := diskio.Sum(ctx, w.run.pacer, v.File())
	if err == nil {
		it.Checksum = record.Checksum(sum.SHA256)
		w.run.report.Bytes += sum.Bytes
	}
	return it, err
}

// judged says in the item how its reading ended. That a volume was deleted
// meanwhile is no failure.
func (w *poolVerification) judged(it ipc.Item, err error) ipc.Item {
	switch {
	case err == nil:
		it.State = string(record.Succeeded)
		return it
	case errors.Is(err, backends.ErrNotFound):
		it.State = "skipped"
		w.run.warn("volume %q was deleted meanwhile", it.Name)
	default:
		it.State = string(record.Failed)
		w.failed++
	}
	it.Error = fault(err, task{doing: fmt.Sprintf("verify %q", it.Path), reads: it.Path})
	if it.State == string(record.Failed) {
		w.run.warn("%s", it.Error.Message)
	}
	return it
}
