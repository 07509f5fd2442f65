package catalog

import (
	"cmp"
	"fmt"
	"slices"

	"storaged/internal/ipc"
	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/store"
)

// A checksum is recorded with the generation of the volume and the change time
// of its file. It holds as long as both are the same: whatever a job of ours
// changes counts up the one, whoever else writes moves the other.

// recall looks up the checksum that a job is to compare with, and says if that
// does not hold any more.
func recall(tx *store.Tx, o operation.Operation, j *store.Job) error {
	c, ok := o.(operation.Comparing)
	if !ok || c.Compares() == nil {
		return nil
	}
	v, err := Volume(tx, o.On().Pool, o.On().Name)
	if err != nil || v.Checksum == nil {
		return err
	}
	of := sumOf(v)
	if v.Checksum.Current && of == cmp.Or(c.Sums(), record.AsRaw) {
		*c.Compares() = operation.Summed{Recorded: v.Checksum.Checksum, SummedNS: v.SummedNS}
		return nil
	}
	if _, verifies := o.(*operation.Verify); !verifies {
		return nil // it would only have given it back
	}
	why := fmt.Sprintf("the checksum that job %d recorded is out of date: the volume was changed since", v.Checksum.Job)
	if v.Checksum.Current {
		why = fmt.Sprintf("the checksum that job %d recorded is not compared: it is of %s", v.Checksum.Job, sumObject[of])
	}
	if !slices.Contains(j.Warnings, why) { // granted once already, before the daemon went away
		j.Warnings = append(slices.Clone(j.Warnings), why)
	}
	return nil
}

// sumOf is what the recorded checksum of a volume is of. What an earlier version has
// recorded of an image is of its file.
func sumOf(v *store.Volume) string {
	if !record.IsImage(v.Format) {
		return record.AsRaw
	}
	return cmp.Or(v.Checksum.As, record.AsFile)
}

var sumObject = map[string]string{
	record.AsRaw: "the content that a guest sees", record.AsFile: "the file of the image, as it is",
}

// recordSum records the checksum that a job found the volume to have as it is
// now, and reports whether there was one. The generation must be the final one.
func (c *Catalog) recordSum(v *store.Volume, e end) bool {
	if !e.ok() || !e.own() || e.report.Volume == nil {
		return false
	}
	it := e.report.Volume
	if it.Checksum == "" || it.ChangeNS == 0 || Lasting(e.On().Type, it.Identity) != Lasting(e.On().Type, v.Identity) {
		return false // of another file, by the same name, a refresh must tell
	}
	v.ChangeNS, v.SummedNS, v.ModifyNS = it.ChangeNS, it.ChangeNS, it.ModifyNS
	v.Checksum = &record.Recorded{
		Checksum: it.Checksum, As: it.ChecksumAs, Generation: v.Generation, Job: e.job.Number, Time: c.now(), Current: true,
	}
	v.Checksum.As = sumOf(v)
	return true
}

// carrySum takes the recorded checksum along behind a trim: it changes the file
// and not the content, also where it did not come to its end. Its helper gives
// the checksum back if nobody had changed the file before.
func carrySum(v *store.Volume, e end) {
	sum := v.Checksum
	if sum == nil || !sum.Current || sum.Generation != v.Generation-1 {
		return
	}
	if e.own() && e.report.Volume != nil && e.report.Volume.Checksum == sum.Checksum {
		v.SummedNS = v.ChangeNS
	}
	keepSum(v)
}

// ageSum finds out whether the recorded checksum still holds. Once it does not
// it never will.
func ageSum(v *store.Volume) {
	if c := v.Checksum; c != nil && c.Current && (c.Generation != v.Generation || v.SummedNS != v.ChangeNS) {
		old := *c // events have the other
		old.Current = false
		v.Checksum = &old
	}
}

// linkSum takes the recorded checksum along when a file got another name or lost
// it, which moves its time of change and leaves that of modification. It tells
// whether that explains the former.
func linkSum(v *store.Volume, it ipc.Item) bool {
	if v.Reason == "" && it.Ignored == "" || v.ModifyNS == 0 || v.ModifyNS != it.ModifyNS {
		return false
	}
	if v.SummedNS == v.ChangeNS {
		v.SummedNS = it.ChangeNS
	}
	return true
}

// keepSum takes the recorded checksum along to a new generation of the same
// content.
func keepSum(v *store.Volume) {
	if c := v.Checksum; c != nil && c.Current {
		same := *c
		same.Generation = v.Generation
		v.Checksum = &same
	}
}
