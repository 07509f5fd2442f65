package task

import (
	"context"
	"fmt"

	"storaged/internal/backends"
	"storaged/internal/diskio"
	"storaged/internal/format"
	"storaged/internal/format/qemu"
	"storaged/internal/helper"
	"storaged/internal/ipc"
	"storaged/internal/operation"
	"storaged/internal/quantity"
	"storaged/internal/record"
)

// Check makes the task of an operation.
func Check(o *operation.Check) (helper.Task, error) {
	at, err := volume(o, "target", o.Volume)
	if err != nil {
		return helper.Task{}, err
	}
	if err := record.OneOf("--repair", o.Repair, "", record.RepairLeaks, record.RepairAll); err != nil {
		return helper.Task{}, err
	}
	v := &helper.Volume{Location: at}
	w := tableCheck{repair: qemu.Repair(o.Repair)}
	if w.known, err = recordedOf(o.Summed); err != nil {
		return helper.Task{}, err
	}
	if o.Repair != "" {
		v.Access = backends.WriteExclusive
	}
	if w.view, err = viewOf(o, v, o.Format, o.Image); err != nil {
		return helper.Task{}, err
	}
	return helper.Task{
		Name:    o.Task().Name,
		Doing:   fmt.Sprintf("check the image %q", at.Path),
		Done:    fmt.Sprintf("checked the image %q", at.Path),
		Undone:  fmt.Sprintf("what is repaired of %q already stays so", at.Path),
		Reads:   at.Path,
		Writes:  at.Path,
		Secrets: o.Files,
		Opens:   w.opens(),
		Images:  w.images(1),
		Work:    w.work,
	}, nil
}

type tableCheck struct {
	view
	repair qemu.Repair
	known  recorded
}

func (w tableCheck) work(ctx context.Context, r *helper.Run) error {
	v := w.at.Volume
	info, err := v.Info()
	if err != nil {
		return err
	}
	r.Plan(helper.Single("check"))
	r.Next(0)
	var found qemu.Checked
	var cut format.Image
	err = r.Step(ctx, func() error {
		if cut, err = w.cut(ctx, r, info); err == nil {
			found, err = w.check(ctx, r, cut)
		}
		return err
	})
	if err != nil {
		return err
	}
	r.Report.Check = &ipc.Check{
		Errors: found.Errors, Corruptions: found.Corruptions, Leaks: found.Leaks,
		RepairedCorruptions: found.FixedCorrupt, RepairedLeaks: found.FixedLeaks, Clusters: found.Clusters, Allocated: found.Allocated,
	}
	r.Report.Checked, r.Report.Verified = true, !found.Bad()
	if !found.Bad() && found.FixedCorrupt == 0 && cut.Cut == 0 {
		w.known.giveBack(r, info)
	}
	if cut.Cut > 0 { // it may have no problem any more
		if _, err := reread(r, v, w.format); err != nil {
			return err
		}
	}
	if err := r.Describe(v); err != nil {
		return err
	}
	if found.Bad() {
		return w.corrupt(found)
	}
	return nil
}

// check has the tables checked. Of some formats an image that is cut off is not opened for
// that, or nothing is seen in it.
func (w tableCheck) check(ctx context.Context, r *helper.Run, cut format.Image) (qemu.Checked, error) {
	disk := w.disk(w.repair != qemu.RepairNothing)
	disk.Alone = len(w.chain) == 0
	found, err := r.CheckDisk(ctx, w.at.Volume, disk, w.repair)
	switch {
	case cut.Cut == 0:
		return found, err
	case w.repair == qemu.RepairAll && record.CodeOf(err) == record.Unsupported: // beyond the length of its file
		disk.Writable = false
		return r.CheckDisk(ctx, w.at.Volume, disk, qemu.RepairNothing)
	case w.repair == qemu.RepairNothing && ctx.Err() == nil:
		found.Corruptions = max(found.Corruptions, 1)
		r.Warn("%q: %s; it should have %s at least", w.at.Path, cut.Problem, quantity.FormatBoth(cut.Cut))
		return found, nil
	}
	return found, err
}

// cut is what its header says of an image whose file is cut off. To be repaired its file
// becomes as long as its tables have it: that much can be read as zeros, and QEMU finds the
// rest. Tables that name more than such an image ever has are corrupt beside that.
func (w tableCheck) cut(ctx context.Context, r *helper.Run, info backends.VolumeInfo) (format.Image, error) {
	const tables = 64 << 20 // bytes, beside what an image has of its content, and a snapshot in it
	i, err := format.Scrutinize(w.at.Volume.Content(), info.Size, w.format)
	if err != nil || i.Cut == 0 || w.repair == qemu.RepairNothing {
		return i, err
	}
	if w.repair == qemu.RepairLeaks {
		return i, ipc.Errorf(record.WrongState, "the image %q cannot be repaired like that: %s; nothing was changed", w.at.Path, i.Problem).
			WithHint("--repair all makes its file as long as it was: what is lost reads as zeros then, so make a copy of the file before")
	}
	sized, ok := w.at.Volume.(backends.Resizer)
	if !ok || info.Type != "file" || i.Cut/2-tables > i.Capacity {
		return i, nil
	}
	if _, err := sized.Resize(ctx, diskio.NewPacer(), diskio.ResizeSpec{Capacity: i.Cut}); err != nil {
		return i, err
	}
	r.Warn("the file of %q ended at byte %d, and is as long again as its tables have it, %s: what was behind that byte is lost, and reads as zeros", w.at.Path, info.Size, quantity.FormatBoth(i.Cut))
	return i, nil
}

// corrupt is the error of what was found and stays.
func (w tableCheck) corrupt(found qemu.Checked) error {
	err := ipc.Errorf(record.Mismatch, "the image %q is corrupt: %s", w.at.Path, wrongWith(found))
	if w.repair == qemu.RepairAll {
		return err.WithHint("what can still be read of it can be copied: clone it, or restore it from a backup")
	}
	return err.WithHint("--repair all repairs what it can, and may lose content; make a copy of the file before")
}

// wrongWith counts what is wrong with the tables of an image.
func wrongWith(found qemu.Checked) string {
	unchecked := record.Plural(int(found.Errors), "place") + " could not be checked"
	errors := record.Plural(int(found.Corruptions), "error") + " in its tables"
	switch {
	case found.Errors == 0:
		return errors
	case found.Corruptions == 0:
		return unchecked
	}
	return errors + ", and " + unchecked
}
