package service

import (
	"errors"
	"fmt"
	"slices"

	"storaged/internal/ipc"
	"storaged/internal/record"
	"storaged/internal/store"
)

func beginCreate(k *keeper, tx *store.Tx, w work, j *store.Job) error {
	return k.building(tx, w, j, store.Volume{Volume: record.Volume{Pool: w.Pool, Name: w.Volume, Path: w.Path}})
}

func beginClone(k *keeper, tx *store.Tx, w work, j *store.Job) error {
	if err := readable(tx, w); err != nil {
		return err
	}
	src, err := findVolume(tx, w.Pool, w.Volume)
	if err != nil {
		return err
	}
	if err := copyable(src, &store.Pool{Pool: record.Pool{Name: w.TargetPool}}); err != nil {
		return err
	}
	return k.building(tx, w, j, store.Volume{References: src.References, Volume: record.Volume{
		Pool: w.TargetPool, Name: w.TargetName, Path: w.TargetPath, Capacity: src.Capacity, Backing: src.Backing,
	}})
}

// readable refuses, when the job is about to begin, a source whose content
// cannot be relied on.
func readable(tx *store.Tx, w work) error {
	if _, err := activePool(tx, w.Pool); err != nil {
		return err
	}
	v, err := findVolume(tx, w.Pool, w.Volume)
	if err != nil {
		return err
	}
	return whole(tx, v)
}

func beginVerify(_ *keeper, tx *store.Tx, w work, _ *store.Job) error { return readable(tx, w) }

// endVerify says in the result what the catalogue knows of the volume, of which
// a reader changes nothing but the recorded checksum.
func endVerify(k *keeper, tx *store.Tx, e end) error {
	v, err := tx.Volume(e.Pool, e.Volume)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if r := e.job.Result; r != nil {
		r.Pool, r.Volume, r.Key, r.Path = v.Pool, v.Name, v.Key, v.Path
		r.Capacity, r.Allocation = v.Capacity, v.Allocation
	}
	if !k.recordSum(v, e) {
		return nil
	}
	return k.putVolume(tx, "volume.verified", v)
}

// beginTrim refuses, when the job is about to begin, what is not to be trimmed.
// Nothing is marked: a trim that stops anywhere leaves the content as it was.
func beginTrim(_ *keeper, tx *store.Tx, w work, _ *store.Job) error {
	p, err := activePool(tx, w.Pool)
	if err != nil {
		return err
	}
	v, err := findVolume(tx, w.Pool, w.Volume)
	if err == nil {
		err = whole(tx, v)
	}
	if err != nil {
		return err
	}
	return w.trimmable(p, v)
}

// endTrim takes over what the volume has allocated now. Once something may have
// been given back there is no promise any more that was given up.
func endTrim(k *keeper, tx *store.Tx, e end) error {
	v, err := tx.Volume(e.Pool, e.Volume)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil || !e.job.Granted {
		return err
	}
	k.observe(v, e)
	if e.GiveUpAllocation && e.gaveBack() {
		v.Promised = 0
	}
	v.Generation++
	k.carrySum(v, e)
	return k.putVolume(tx, "volume.changed", v)
}

// gaveBack reports whether a trim has given anything back, or may have.
func (e end) gaveBack() bool {
	return e.ok() || e.job.Go && (!e.own() || e.report.Bytes > 0)
}

// building lists a volume that a job begins to make.
func (k *keeper) building(tx *store.Tx, w work, j *store.Job, v store.Volume) error {
	p, err := activePool(tx, v.Pool)
	if err != nil {
		return err
	}
	if known, err := tx.Volume(v.Pool, v.Name); err == nil && known.State == record.VolumeBuilding && made(known, j) {
		return nil // granted once already, before the daemon went away
	}
	if err := freeName(tx, p, v.Name); err != nil {
		return err
	}
	at := locate(p.Type, p.Target.Path, v.Name)
	v.Key, v.Type, v.Format = at.Key, at.Type, w.Format
	if w.Capacity != 0 { // else the file is copied as it is
		v.Capacity = w.Capacity
	}
	v.State, v.Job, v.CreatedBy = record.VolumeBuilding, &j.Number, &j.Number
	v.Generation, v.Origin, v.Observed = 1, record.Made, k.now()
	last, err := tx.LastNumber()
	if err != nil {
		return err
	}
	v.Arrived, v.Planned, v.Promised = last, w.Allocation, w.Promise
	return k.putVolume(tx, "volume.building", &v)
}

// made reports whether the entry is of the job's making.
func made(v *store.Volume, j *store.Job) bool { return v.Job != nil && *v.Job == j.Number }

// endNewVolume makes the entry of a new volume ready, or takes it away.
func endNewVolume(k *keeper, tx *store.Tx, e end) error {
	pool, name := e.target()
	v, err := tx.Volume(pool, name)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil // refused at the grant, before there was an entry
	case err != nil:
		return err
	case v.State != record.VolumeBuilding || !made(v, e.job):
		return nil // somebody else's
	case !e.ok() && !e.kept():
		return k.dropVolume(tx, "volume.rolled_back", v)
	}
	v.State, v.Job, v.Planned = record.VolumeReady, nil, 0
	if !e.ok() {
		v.State, v.Job = record.VolumeIncomplete, &e.job.Number
	}
	v.Generation++
	k.observe(v, e)
	k.recordSum(v, e)
	return k.arrive(tx, v)
}

// kept reports whether a job that did not succeed left its target there.
func (e end) kept() bool {
	return e.job.Rollback == record.RollbackKept && e.job.Resumable == nil ||
		e.job.Code() == record.Inconsistent && e.report != nil && e.report.Volume != nil
}

// observe takes over what the helper saw of the volume, and says in the job's
// result where it is.
func (k *keeper) observe(v *store.Volume, e end) {
	if e.report != nil && e.report.Volume != nil {
		k.see(v, *e.report.Volume)
	}
	if r := e.job.Result; r != nil {
		r.Pool, r.Volume, r.Key, r.Path = v.Pool, v.Name, v.Key, v.Path
		r.Capacity, r.Allocation = v.Capacity, v.Allocation
	}
}

// see copies the figures of a volume as a helper found it. A raw volume is what
// its file is long, whatever header a guest wrote into it. Of another, capacity
// and backing are in the header, which only a helper that tells the format read.
func (k *keeper) see(v *store.Volume, it ipc.Item) {
	v.Allocation = it.Allocation
	switch {
	case v.Format == record.FormatRaw:
		v.Capacity, v.Backing, v.References = it.Size, "", nil
	case v.Format == "", it.Format != "":
		v.Capacity, v.Backing, v.References = it.Capacity, it.Backing, referencesIn(it)
	}
	v.Identity, v.ChangeNS, v.ModifyNS = it.Identity, it.ChangeNS, it.ModifyNS
	v.Reason = it.Ignored
	v.Observed = k.now()
}

// provision books a change of the volumes' capacities.
func (k *keeper) provision(tx *store.Tx, pool string, capacity int64) error {
	p, err := tx.Pool(pool)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	p.Provisioned = max(0, plus(p.Provisioned, capacity))
	return tx.PutPool(p)
}

// markVolume marks a volume whose content a job begins to change in place.
func markVolume(k *keeper, tx *store.Tx, w work, j *store.Job) error {
	if _, err := activePool(tx, w.Pool); err != nil {
		return err
	}
	v, err := findVolume(tx, w.Pool, w.Volume)
	if err != nil {
		return err
	}
	if w.destroys() {
		if err := childless(tx, v); err != nil {
			return err
		}
	}
	if err := erasable(v); err != nil && w.wipes() {
		return err
	}
	if (j.Resumed > 0 || j.From != "") && !w.follows(v, j) {
		j.Anew = true
		j.Warnings = append(slices.Clone(j.Warnings), "begun anew: "+notFollowed(v))
	}
	v.Writer = j.Number
	if v.State != record.VolumeReady {
		return tx.PutVolume(v) // the mark of an earlier job stays until one succeeds
	}
	v.State, v.Job, v.Begun, v.Observed = record.VolumeIncomplete, &j.Number, nil, k.now()
	v.Generation++
	return k.putVolume(tx, "volume.changing", v)
}

// follows reports whether nobody has changed the content since the job itself
// did, or the one that it goes on from. A job that is interrupted may lose its
// locks when it is paused, a retry has none of those of the first.
func (w work) follows(v *store.Volume, j *store.Job) bool {
	return v.Writer == j.Number || w.After != 0 && v.Writer == w.After
}

// notFollowed says why nobody goes on with what was begun in a volume.
func notFollowed(v *store.Volume) string {
	if v.Writer == 0 {
		return "it is not known whether another job has changed the volume since the work was interrupted: its file was replaced, or the database put together again"
	}
	return "another job has changed the volume since the work was interrupted"
}

// beginUpload marks the volume. What the job goes on with must still be there.
func beginUpload(k *keeper, tx *store.Tx, w work, j *store.Job) error {
	v, err := findVolume(tx, w.Pool, w.Volume)
	if err != nil {
		return err
	}
	if err := unfinished(v, w); err != nil {
		return err
	}
	return markVolume(k, tx, w, j)
}

// endInPlace clears the mark, or leaves it where the content was touched.
func endInPlace(k *keeper, tx *store.Tx, e end) error {
	v, err := tx.Volume(e.Pool, e.Volume)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if !e.job.Granted && v.Writer != e.job.Number {
		return nil // it never had the volume, and another may have it
	}
	capacity := v.Capacity
	e.reformat(v)
	k.observe(v, e)
	e.mark(v)
	v.Promised = e.promised(v, capacity)
	v.Generation++
	k.recordSum(v, e)
	if err := k.putVolume(tx, "volume.changed", v); err != nil {
		return err
	}
	return k.provision(tx, v.Pool, v.Capacity-capacity)
}

// mark says what the content is now: ready, or what of it is not complete.
func (e end) mark(v *store.Volume) {
	switch {
	case e.heals(v) || made(v, e.job) && e.untouched():
		v.State, v.Job, v.Begun = record.VolumeReady, nil, nil
	case e.ok() && v.State != record.VolumeReady:
		if e.Kind == record.VolumeUpload {
			v.Begun = e.rest(v)
		}
		first := begun(v)[0]
		v.Job = &first.Job
		e.job.Warnings = append(slices.Clone(e.job.Warnings), incomplete(first))
	case !e.ok() && !e.untouched():
		begin(v, e)
		if e.job.Rollback == record.RollbackNone {
			e.job.Rollback = record.RollbackKept // who settled it cannot know that something was written
		}
	}
}

// rest is what stays incomplete of a volume behind an upload that succeeded.
func (e end) rest(v *store.Volume) []store.Begun {
	if e.report == nil || e.report.Volume == nil {
		return begun(v)
	}
	return without(begun(v), e.changed())
}

// reformat takes over what the job has made of the volume's format. What was
// wiped is an image no more, also where the wipe stopped half-way and its header
// may be there yet.
func (e end) reformat(v *store.Volume) {
	switch {
	case e.ok() && e.AsFormat != "":
		v.Format = e.AsFormat
	case e.wipes() && v.Format != record.FormatRaw && (e.ok() || !e.untouched()):
		if e.ok() {
			e.job.Warnings = append(slices.Clone(e.job.Warnings), fmt.Sprintf("the volume was an image in format %s and is raw now", v.Format))
		}
		v.Format, v.Backing, v.References = record.FormatRaw, "", nil
	}
}

// wipes reports whether the work overwrites a volume to erase it.
func (w work) wipes() bool {
	return w.Kind == record.VolumeWipe || w.Kind == record.VolumeDelete && w.Algorithm != ""
}

// promised is how many bytes of a volume, which had that capacity before, shall
// have blocks after the job. A volume that has all of them has all when it has
// grown with --allocate.
func (e end) promised(v *store.Volume, before int64) int64 {
	switch {
	case e.Kind == record.VolumeWipe && e.Algorithm == "trim" && (e.ok() || !e.untouched()):
		return 0
	case e.Kind == record.VolumeResize && e.ok() && e.Allocate && v.Promised >= before:
		return v.Capacity
	}
	return min(v.Promised, v.Capacity)
}

// heals reports whether the job's success makes the content whole: a wipe
// replaces all of it, a resize only if it was whole before.
func (e end) heals(v *store.Volume) bool {
	return e.ok() && (e.Kind == record.VolumeWipe || made(v, e.job) || e.replaced(v))
}

// replaced reports whether an upload has written all that was wrong with the
// volume: by itself or together with those that it is the rest of, or the rest of
// what the job that marked it had begun.
func (e end) replaced(v *store.Volume) bool {
	return e.Kind == record.VolumeUpload &&
		(e.Continues != 0 && v.Job != nil && *v.Job == e.Continues || len(e.rest(v)) == 0)
}

// untouched reports whether a job that did not succeed left the content as it
// was: it never wrote, or it is a kind that adds and does not change.
func (e end) untouched() bool {
	switch {
	case !e.job.Go:
		return true
	case e.own() && e.report.Written == 0: // a trim writes nothing
		return e.job.Rollback != record.RollbackKept
	case e.Kind == record.VolumeDelete:
		return e.Algorithm == "" // a delete without a wipe is all or nothing
	}
	return e.Kind == record.VolumeResize && !e.Shrink && e.report != nil
}

// endUpload says with the job of an upload that did not succeed how much of it
// is there for certain: progress counts what may have come out of order.
func endUpload(k *keeper, tx *store.Tx, e end) error {
	if !e.ok() {
		e.job.Progress.Done = e.Skipped
		if e.own() {
			e.job.Progress.Done += e.report.Bytes
		}
	}
	return endInPlace(k, tx, e)
}

// endDelete takes the entry away when the volume is gone.
func endDelete(k *keeper, tx *store.Tx, e end) error {
	if !e.ok() {
		return endInPlace(k, tx, e)
	}
	v, err := tx.Volume(e.Pool, e.Volume)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if r := e.job.Result; r != nil {
		r.Pool, r.Volume, r.Key, r.Path = v.Pool, v.Name, v.Key, v.Path
	}
	return k.depart(tx, v)
}
