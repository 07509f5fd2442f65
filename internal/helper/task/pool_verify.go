package task

import (
	"context"
	"errors"
	"strconv"

	"storaged/internal/backends"
	"storaged/internal/diskio"
	"storaged/internal/helper"
	"storaged/internal/ipc"
	"storaged/internal/operation"
	"storaged/internal/record"
)

// PoolVerify makes the task of an operation.
func PoolVerify(o *operation.PoolVerify) (helper.Task, error) {
	t, err := poolTask(o, o.Volume, said{"verify", "read", true}, func(ctx context.Context, r *helper.Run, p *helper.Pool) error {
		return (&poolVerification{walk{Pool: p, run: r}}).work(ctx)
	})
	t.Undone, t.Seeks = "nothing was changed", true
	return t, err
}

// poolVerification reads the volumes of a pool one after the other.
type poolVerification struct{ walk }

func (w *poolVerification) work(ctx context.Context) error {
	err := w.begin(ctx, "read", func(backends.VolumeInfo) bool { return true })
	if err != nil {
		return err
	}
	err = w.each(ctx, func(ctx context.Context, v backends.VolumeInfo) error {
		it, err := w.read(ctx, v)
		if errors.Is(err, context.Canceled) {
			return err
		}
		w.run.Report.Items = append(w.run.Report.Items, w.judged(it, "verify", err))
		return nil
	})
	if err == nil && w.failed > 0 {
		return ipc.Errorf(record.Partial, "%d of %d volumes of pool %q could not be read", w.failed, len(w.volumes), w.Target)
	}
	return err
}

// read gives the checksum of one volume, which is held meanwhile.
func (w *poolVerification) read(ctx context.Context, planned backends.VolumeInfo) (ipc.Item, error) {
	it := helper.Item(planned)
	expected := planned.Size
	defer func() { w.run.Pacer.Foresee(-expected) }() // what does not come any more
	v, err := w.run.Open(ctx, w.at(planned), backends.ReadShared)
	if err != nil {
		return it, err
	}
	defer v.Close()
	now, err := v.Info()
	if err != nil {
		return it, err
	}
	now.Format, now.Capacity, now.Backing = planned.Format, planned.Capacity, planned.Backing
	now.References, now.Problem, now.Twofold, now.Cut, now.As = planned.References, planned.Problem, planned.Twofold, planned.Cut, planned.As
	it = helper.Item(now)
	w.run.Pacer.Foresee(now.Size - expected)
	expected = 0
	kept, err := watch(ctx, w.run, v.Content(), strconv.Quote(it.Path))
	if err != nil {
		return it, err
	}
	sum, err := diskio.Sum(ctx, w.run.Pacer, v.Content(), diskio.SumSpec{})
	if err = kept.ended(err); err == nil {
		it.Checksum = record.ContentChecksum(record.SHA256, sum.Sum)
		w.run.Report.Bytes += sum.Bytes
	}
	return it, err
}
