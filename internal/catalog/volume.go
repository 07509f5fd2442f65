package catalog

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"storaged/internal/ipc"
	"storaged/internal/operation"
	"storaged/internal/quantity"
	"storaged/internal/record"
	"storaged/internal/store"
)

// beginReading refuses, when the job is about to begin, a volume whose content
// cannot be relied on.
func beginReading(_ *Catalog, tx *store.Tx, o operation.Operation, j *store.Job) error {
	_, err := allowed(tx, o, j)
	return err
}

// allowed gives the volume that a job is about to begin with.
func allowed(tx *store.Tx, o operation.Operation, j *store.Job) (*store.Volume, error) {
	p, err := ActivePool(tx, o.On().Pool)
	if err != nil {
		return nil, err
	}
	v, err := Volume(tx, p.Name, o.On().Name)
	if err != nil {
		return nil, err
	}
	return v, VolumeAllows(tx, v, o, j)
}

// VolumeAllows refuses what a volume does not allow, and the volumes that stand on it.
// It is asked when a job is submitted, of which j is nil, and again when the job gets
// the volume.
func VolumeAllows(tx *store.Tx, v *store.Volume, o operation.Operation, j *store.Job) error {
	if v.State == record.VolumeBuilding || o.Relies() && !marked(v, j) {
		if err := Complete(tx, v); err != nil {
			return err
		}
	}
	p, err := tx.Pool(v.Pool)
	if err != nil {
		return err
	}
	if o.Displaces() {
		if err := childless(tx, v, o); err != nil {
			return err
		}
	}
	k, err := Known(tx, p, v, nil)
	if err != nil {
		return err
	}
	return o.Allowed(k)
}

// marked reports whether it was the job that marked the volume as incomplete, before the
// daemon went away, or the one that it is the retry of.
func marked(v *store.Volume, j *store.Job) bool {
	return j != nil && (Made(v, j) || v.Job != nil && j.RetryOf != nil && *v.Job == *j.RetryOf)
}

// beginMaking lists a volume that a job begins to make.
func beginMaking(c *Catalog, tx *store.Tx, o operation.Operation, j *store.Job) error {
	if operation.Destination(o) == nil {
		return c.building(tx, o, j, store.Volume{Volume: record.Volume{Pool: o.On().Pool, Name: o.On().Name, Path: o.On().Path}})
	}
	src, err := allowed(tx, o, j)
	if err != nil {
		return err
	}
	to := operation.Destination(o)
	v := store.Volume{Volume: record.Volume{Pool: to.Pool, Name: to.Name, Path: to.Path, Capacity: src.Capacity}}
	if !o.(operation.Making).Made().Apart {
		v.Backing, v.References, v.Secret, v.IterTime = src.Backing, src.References, src.Secret, src.IterTime
		v.Options, v.InternalSnapshots = src.Options, src.InternalSnapshots
	}
	return c.building(tx, o, j, v)
}

// endReading follows what a reader saw of the volume, which it did not change, says that
// in the result, and records the checksum.
func endReading(c *Catalog, tx *store.Tx, e end) error {
	v, err := tx.Volume(e.On().Pool, e.On().Name)
	if err != nil {
		return IgnoreNotFound(err)
	}
	if err := c.seenBy(tx, v, e); err != nil {
		return err
	}
	e.describe(v)
	if !c.recordSum(v, e) {
		return nil
	}
	return c.putVolume(tx, "volume.verified", v)
}

// seenBy takes over what a job that only read saw of the volume, as a refresh would, if it
// is the volume still and nobody else has it.
func (c *Catalog) seenBy(tx *store.Tx, v *store.Volume, e end) error {
	if !e.own() || e.report.Volume == nil || !sameVolume(e.On().Type, v.Identity, e.report.Volume.Identity) {
		return nil
	}
	busy, err := lockedNames(tx, v.Pool, e.job.Number)
	if err != nil {
		return err
	}
	capacity, s := v.Capacity, scan{Catalog: c, tx: tx, began: &store.Job{}, busy: busy}
	if s.pool, err = tx.Pool(v.Pool); err != nil {
		return IgnoreNotFound(err)
	}
	if err := s.apply(v, *e.report.Volume); err != nil {
		return err
	}
	return c.provision(tx, v.Pool, v.Capacity-capacity)
}

// endArranging takes over what the volume has allocated now. Once something may have
// been given back there is no promise any more that was given up.
func endArranging(c *Catalog, tx *store.Tx, e end) error {
	v, err := tx.Volume(e.On().Pool, e.On().Name)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil || !e.job.Granted {
		return err
	}
	c.observe(v, e)
	if t, ok := e.Operation.(*operation.Trim); ok && t.GiveUpAllocation && e.gaveBack() {
		v.Promised = 0
	}
	if k, ok := e.Operation.(*operation.Rekey); ok && e.ok() {
		rekeyed(v, k)
	}
	v.Generation++
	carrySum(v, e)
	return c.putVolume(tx, "volume.changed", v)
}

// rekeyed takes over which secret opens a volume now.
func rekeyed(v *store.Volume, k *operation.Rekey) {
	if secret := cmp.Or(k.New, k.OpenedBy); secret != "" && (secret != v.Secret || k.IterTime > 0) {
		v.Secret, v.IterTime = secret, k.IterTime
	}
}

// gaveBack reports whether a trim has given anything back, or may have.
func (e end) gaveBack() bool {
	return e.ok() || e.job.Go && (!e.own() || e.report.Bytes > 0)
}

// building lists a volume that a job begins to make.
func (c *Catalog) building(tx *store.Tx, o operation.Operation, j *store.Job, v store.Volume) error {
	p, err := ActivePool(tx, v.Pool)
	if err != nil {
		return err
	}
	if known, err := tx.Volume(v.Pool, v.Name); err == nil && known.State == record.VolumeBuilding && Made(known, j) {
		return nil // granted once already, before the daemon went away
	}
	if err := FreeName(tx, p, v.Name); err != nil {
		return err
	}
	at := locationOf(p, v.Name)
	made := o.(operation.Making).Made()
	v.Key, v.Type, v.Format = at.Key, at.Type, cmp.Or(v.Format, made.Format)
	if made.Secret != "" {
		v.Secret, v.IterTime = made.Secret, made.IterTime
	}
	if made.Capacity != 0 { // else the file is copied as it is
		v.Capacity = made.Capacity
	}
	v.State, v.Job, v.CreatedBy = record.VolumeBuilding, &j.Number, &j.Number
	v.Generation, v.Origin, v.Observed = 1, record.Made, c.now()
	last, err := tx.LastNumber()
	if err != nil {
		return err
	}
	v.Arrived, v.Promised = last, made.Promised
	return c.putVolume(tx, "volume.building", &v)
}

// Made reports whether the entry is of the job's making.
func Made(v *store.Volume, j *store.Job) bool { return v.Job != nil && *v.Job == j.Number }

// endMaking makes the entry of a new volume ready, or takes it away.
func endMaking(c *Catalog, tx *store.Tx, e end) error {
	pool, name := operation.ResultOf(e.Operation)
	v, err := tx.Volume(pool, name)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil // refused at the grant, before there was an entry
	case err != nil:
		return err
	case v.State != record.VolumeBuilding || !Made(v, e.job):
		return nil // somebody else's
	case !e.ok() && !e.kept():
		return c.dropVolume(tx, "volume.rolled_back", v)
	}
	v.State, v.Job = record.VolumeReady, nil
	if !e.ok() {
		v.State, v.Job = record.VolumeIncomplete, &e.job.Number
	}
	v.Generation++
	c.observe(v, e)
	c.recordSum(v, e)
	return c.arrive(tx, v)
}

// kept reports whether a job that did not succeed left its target there.
func (e end) kept() bool {
	return e.job.Rollback == record.RollbackKept && e.job.Resumable == nil ||
		e.job.Code() == record.Inconsistent && e.report != nil && e.report.Volume != nil
}

// observe takes over what the helper saw of the volume, and says in the job's
// result where it is.
func (c *Catalog) observe(v *store.Volume, e end) {
	if e.report != nil && e.report.Volume != nil {
		c.see(v, *e.report.Volume)
	}
	e.describe(v)
}

// describe says in the job's result what the catalog has of the volume.
func (e end) describe(v *store.Volume) {
	if r := e.job.Result; r != nil {
		r.Pool, r.Volume, r.Key, r.Path = v.Pool, v.Name, v.Key, v.Path
		r.Capacity, r.Allocation, r.Format = v.Capacity, v.Allocation, v.Format
		r.From = e.from()
	}
}

// from is the format of what the job has made a volume of, "" where there is none.
func (e end) from() string {
	switch o := e.Operation.(type) {
	case *operation.Clone:
		return o.Format
	case *operation.Create:
		return o.FromFormat
	}
	return ""
}

// see copies the figures of a volume as a helper found it. A raw volume is what
// its file is long, whatever header a guest wrote into it. Of another, capacity
// and backing are in the header, read as one in the volume's format: into a fixed VHD,
// say, a guest writes any other.
func (c *Catalog) see(v *store.Volume, it ipc.Item) {
	it = asKnown(v, it)
	v.Allocation, v.Length = it.Allocation, it.Size
	v.Extents, v.Permissions, v.Times = extentsIn(it), permissionsIn(it), timesIn(it)
	switch {
	case record.Plain(v.Format):
		v.Capacity, v.Backing, v.References, v.Options, v.InternalSnapshots = it.Size, "", nil, nil, 0
	case v.Format == "", it.Format == v.Format:
		v.Capacity, v.Backing, v.References, v.Options = it.Capacity, it.Backing, referencesIn(it), optionsIn(it)
		v.InternalSnapshots = it.Internal
	}
	v.Identity, v.ChangeNS, v.ModifyNS = it.Identity, it.ChangeNS, it.ModifyNS
	v.Reason, v.Key = it.Ignored, cmp.Or(it.Key, v.Key)
	if it.Format != "" { // else nobody has read its header
		v.Problem, v.Cut = it.Problem, it.Cut
	}
	v.Observed = c.now()
}

// asKnown is what was found of a volume as its format says it, whatever a guest makes it
// look like: of what we made, and of what was found in no other format as well. Of what
// others have made in several at once nobody knows the format.
func asKnown(v *store.Volume, it ipc.Item) ipc.Item {
	known := v.Origin != record.Found || v.Problem == "" && v.Identity != ""
	i := slices.IndexFunc(it.As, func(h ipc.Header) bool { return h.Format == v.Format })
	switch {
	case record.Plain(v.Format):
		it.Backing, it.References, it.Problem, it.Cut = "", nil, "", false
	case v.Format == "" || it.Format == "": // nobody has read its header before, or now
	case it.Format == v.Format && it.Twofold && known:
		it.Problem = ""
	case it.Format == v.Format:
	case i >= 0:
		h := it.As[i]
		it.Cut, it.Format, it.Capacity, it.Backing, it.References, it.Options, it.Internal = false, h.Format, h.Capacity, h.Backing, h.References, nil, 0
		if it.Problem = h.Problem; !known {
			it.Problem = cmp.Or(h.Problem, v.Problem)
		}
	default:
		it.Problem, it.Cut = fmt.Sprintf("its header is none of an image in format %s", v.Format), false
	}
	return it
}

// extentsIn are those that a helper has found.
func extentsIn(it ipc.Item) (all []record.Extent) {
	for _, x := range it.Extents {
		all = append(all, record.Extent{Device: x.Device, Start: x.Start, End: x.End})
	}
	return all
}

// permissionsIn are those that a helper has found; nil where there are none.
func permissionsIn(it ipc.Item) *record.Permissions {
	if it.Mode == "" {
		return nil
	}
	return &record.Permissions{Mode: it.Mode, Owner: uint32(it.Owner), Group: uint32(it.Group), Label: it.Label}
}

// timesIn are those that a helper has found; nil where the store keeps none.
func timesIn(it ipc.Item) *record.Times {
	if it.ChangeNS == 0 {
		return nil
	}
	return &record.Times{Accessed: timeIn(it.AccessNS), Modified: timeIn(it.ModifyNS), Changed: timeIn(it.ChangeNS), Born: timeIn(it.BornNS)}
}

func timeIn(ns int64) *time.Time {
	if ns == 0 {
		return nil
	}
	return new(time.Unix(0, ns).UTC())
}

// optionsIn are those with which an image like the one that a helper has found is made.
func optionsIn(it ipc.Item) map[string]string {
	if len(it.Options) == 0 {
		return nil
	}
	all := map[string]string{}
	for _, o := range it.Options {
		name, value, _ := strings.Cut(o, "=")
		all[name] = value
	}
	return all
}

// provision books a change of the volumes' capacities.
func (c *Catalog) provision(tx *store.Tx, pool string, capacity int64) error {
	p, err := tx.Pool(pool)
	if err != nil {
		return IgnoreNotFound(err)
	}
	p.Provisioned = max(0, quantity.Sum(p.Provisioned, capacity))
	return tx.PutPool(p)
}

// markVolume marks a volume whose content a job begins to change in place.
func markVolume(c *Catalog, tx *store.Tx, o operation.Operation, j *store.Job) error {
	v, err := allowed(tx, o, j)
	if err != nil {
		return err
	}
	if u, ok := o.(*operation.Upload); ok {
		if err := Unfinished(v, u); err != nil { // what it goes on with must still be there
			return err
		}
	}
	if (j.Resumed > 0 || j.From != "") && !follows(o, v, j) {
		j.Anew = true
		j.Warnings = append(slices.Clone(j.Warnings), "begun anew: "+notFollowed(v))
	}
	v.Writer = j.Number
	if v.State != record.VolumeReady {
		return tx.PutVolume(v) // the mark of an earlier job stays until one succeeds
	}
	v.State, v.Job, v.Begun, v.Observed = record.VolumeIncomplete, &j.Number, nil, c.now()
	v.Generation++
	return c.putVolume(tx, "volume.changing", v)
}

// follows reports whether nobody has changed the content since the job itself
// did, or the one that it goes on from. A job that is interrupted may lose its
// locks when it is paused, a retry has none of those of the first.
func follows(o operation.Operation, v *store.Volume, j *store.Job) bool {
	after := o.Bound().After
	return v.Writer == j.Number || after != 0 && v.Writer == after
}

// notFollowed says why nobody goes on with what was begun in a volume.
func notFollowed(v *store.Volume) string {
	if v.Writer == 0 {
		return "it is not known whether another job has changed the volume since the work was interrupted: its file was replaced, or the database put together again"
	}
	return "another job has changed the volume since the work was interrupted"
}

// endInPlace clears the mark, or leaves it where the content was touched.
func endInPlace(c *Catalog, tx *store.Tx, e end) error {
	if u, ok := e.Operation.(*operation.Upload); ok && !e.ok() {
		e.placed(u)
	}
	v, err := tx.Volume(e.On().Pool, e.On().Name)
	if err != nil {
		return IgnoreNotFound(err)
	}
	if !e.job.Granted && v.Writer != e.job.Number {
		return nil // it never had the volume, and another may have it
	}
	capacity := v.Capacity
	e.reformat(v)
	c.observe(v, e)
	e.mark(v)
	v.Promised = e.promised(v, capacity)
	v.Generation++
	c.recordSum(v, e)
	if err := c.putVolume(tx, "volume.changed", v); err != nil {
		return err
	}
	return c.provision(tx, v.Pool, v.Capacity-capacity)
}

// mark says what the content is now: ready, or what of it is not complete.
func (e end) mark(v *store.Volume) {
	switch {
	case e.heals(v) || Made(v, e.job) && e.untouched():
		v.State, v.Job, v.Begun = record.VolumeReady, nil, nil
	case e.ok() && v.State != record.VolumeReady:
		if _, ok := e.Operation.(*operation.Upload); ok {
			v.Begun = e.rest(v)
		}
		first := begun(v)[0]
		v.Job = &first.Job
		e.job.Warnings = append(slices.Clone(e.job.Warnings), incomplete(begun(v)))
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
	u, _ := e.Operation.(*operation.Upload)
	switch {
	case u != nil && e.ok() && u.AsFormat != "" && !u.Opens():
		v.Format = u.AsFormat
	case e.Wipes() && v.Format != record.FormatRaw && (e.ok() || !e.untouched()):
		if e.ok() {
			e.job.Warnings = append(slices.Clone(e.job.Warnings), fmt.Sprintf("the volume was an image in format %s and is raw now", v.Format))
		}
		v.Format, v.Backing, v.References, v.Problem, v.Cut = record.FormatRaw, "", nil, "", false
	}
}

// promised is how many bytes of a volume, which had that capacity before, shall
// have blocks after the job. A volume that has all of them has all when it has
// grown with --allocate.
func (e end) promised(v *store.Volume, before int64) int64 {
	switch o := e.Operation.(type) {
	case *operation.Wipe:
		if o.Algorithm == "trim" && (e.ok() || !e.untouched()) {
			return 0
		}
	case *operation.Resize:
		if e.ok() && o.Allocate && v.Promised >= before {
			return v.Capacity
		}
	}
	return min(v.Promised, v.Capacity)
}

// heals reports whether the job's success makes the content complete: a wipe
// replaces all of it, a resize only if it was complete before.
func (e end) heals(v *store.Volume) bool {
	_, all := e.Operation.(*operation.Wipe)
	return e.ok() && (all || Made(v, e.job) || e.covered(v))
}

// covered reports whether an upload has written all that was wrong with the
// volume: by itself or together with those that it is the rest of, or the rest of
// what the job that marked it had begun.
func (e end) covered(v *store.Volume) bool {
	u, ok := e.Operation.(*operation.Upload)
	return ok && (u.Continues != 0 && v.Job != nil && *v.Job == u.Continues || len(e.rest(v)) == 0)
}

// untouched reports whether a job that did not succeed left the content as it
// was: it never wrote, or it is a kind that adds and does not change.
func (e end) untouched() bool {
	switch {
	case !e.job.Go:
		return true
	case e.own() && e.report.Written == 0: // a trim writes nothing
		return e.job.Rollback != record.RollbackKept
	}
	switch o := e.Operation.(type) {
	case *operation.Delete:
		return !o.Wipes() // a delete without a wipe is all or nothing
	case *operation.Resize:
		return !o.Shrink && e.report != nil
	}
	return false
}

// placed says with the job of an upload that did not succeed how much of it is
// there for certain: progress counts what may have come out of order.
func (e end) placed(u *operation.Upload) {
	e.job.Progress.Done = u.Skipped
	if e.own() {
		e.job.Progress.Done += e.report.Bytes
	}
}

// endDelete takes the entry away when the volume is gone.
func endDelete(c *Catalog, tx *store.Tx, e end) error {
	if !e.ok() {
		return endInPlace(c, tx, e)
	}
	v, err := tx.Volume(e.On().Pool, e.On().Name)
	if err != nil {
		return IgnoreNotFound(err)
	}
	if r := e.job.Result; r != nil {
		r.Pool, r.Volume, r.Key, r.Path = v.Pool, v.Name, v.Key, v.Path
	}
	if v.Job != nil && *v.Job == e.job.Number { // who hears of it hears what it was
		v.State, v.Job = record.VolumeReady, nil
	}
	return c.depart(tx, v)
}
