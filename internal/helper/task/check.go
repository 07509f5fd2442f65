package task

import (
	"context"
	"fmt"

	"storaged/internal/backends"
	"storaged/internal/format/qemu"
	"storaged/internal/helper"
	"storaged/internal/ipc"
	"storaged/internal/operation"
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
	err = r.Step(ctx, func() error {
		found, err = r.CheckDisk(ctx, v, w.disk(w.repair != qemu.RepairNothing), w.repair)
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
	if !found.Bad() && found.FixedCorrupt == 0 {
		w.known.giveBack(r, info)
	}
	if err := r.Describe(v); err != nil {
		return err
	}
	if found.Bad() {
		return w.corrupt(found)
	}
	return nil
}

// corrupt is the error of what was found and stays.
func (w tableCheck) corrupt(found qemu.Checked) error {
	err := ipc.Errorf(record.Mismatch, "the image %q is corrupt: %d errors in its tables, and %d places that could not be checked", w.at.Path, found.Corruptions, found.Errors)
	if w.repair == qemu.RepairAll {
		return err.WithHint("what can still be read of it can be copied: clone it, or restore it from a backup")
	}
	return err.WithHint("--repair all repairs what it can, and may lose content; make a copy of the file before")
}
