package helper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"storaged/internal/backends"
	"storaged/internal/backends/device"
	"storaged/internal/diskio"
	"storaged/internal/ipc"
	"storaged/internal/record"
)

// Position is what a task keeps in a checkpoint of its own.
type Position struct {
	Source *Footprint   `json:"source,omitempty"` // what is read
	Below  []*Footprint `json:"below,omitempty"`  // what an image stands on that is read
	Target *Footprint   `json:"target,omitempty"` // what is written
	// Until is when the helper of the checkpoint wrote to the target at the
	// latest, since 1970: a later write is somebody else's.
	Until     int64  `json:"until_ns,omitempty"`
	Grows     bool   `json:"grows,omitempty"`     // the target is an image, and may have another length by now
	Algorithm string `json:"algorithm,omitempty"` // of a wipe or a checksum
	Order     []int  `json:"order,omitempty"`     // of its passes
	Hash      []byte `json:"hash,omitempty"`      // state of a checksum
	// Allocation is what the target had before a trim, in bytes.
	Allocation int64 `json:"allocation,omitempty"`
}

// writesOn is how long a helper may go on writing after its last checkpoint:
// diskio makes the next one half a minute later at the latest, where the device
// takes seconds to flush, and the rest is a margin.
const writesOn = 2 * time.Minute

// Footprint is how a file is known again, and that it was changed.
type Footprint struct {
	Inode      uint64 `json:"inode"`
	BirthNS    int64  `json:"birth_ns"` // 0 where the file system keeps none
	Size       int64  `json:"size"`
	ModifiedNS int64  `json:"modified_ns"`
	ChangedNS  int64  `json:"changed_ns"`
	Device     string `json:"device,omitempty"`  // of a device: which one it is, until the host is restarted
	Written    string `json:"written,omitempty"` // how much was written to it by anybody

	mode, owner, group, links uint32 // of that moment, in no checkpoint
}

// FootprintOf looks at a content. Other kinds than regular files do not tell when
// they were written to and have none.
func FootprintOf(c diskio.Content) (*Footprint, error) {
	f := diskio.FileOf(c)
	if f == nil {
		return nil, nil
	}
	var st unix.Statx_t
	err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &st)
	if err != nil {
		return nil, fmt.Errorf("cannot look at %q: %w", f.Name(), err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, nil
	}
	fp := &Footprint{
		Inode: st.Ino, Size: int64(st.Size), ModifiedNS: nanoseconds(st.Mtime), ChangedNS: nanoseconds(st.Ctime),
		mode: uint32(st.Mode), owner: st.Uid, group: st.Gid, links: st.Nlink,
	}
	if st.Mask&unix.STATX_BTIME != 0 {
		fp.BirthNS = nanoseconds(st.Btime)
	}
	return fp, nil
}

// positionOf is FootprintOf for a checkpoint, which devices have too: within this start of the
// host they are known again, and tell that they were written to.
func positionOf(c diskio.Content) (fp *Footprint, err error) {
	f := diskio.FileOf(c)
	if fp, err = FootprintOf(c); f == nil || fp != nil || err != nil {
		return fp, err
	}
	fp = &Footprint{}
	if fp.Size, err = c.Size(); err != nil {
		return nil, err
	}
	if fp.Device, err = device.Instance(f); err == nil {
		fp.Written, err = device.Written(f)
	}
	if err != nil {
		return nil, nil // the kernel does not tell
	}
	return fp, nil
}

func nanoseconds(t unix.StatxTimestamp) int64 { return time.Unix(t.Sec, int64(t.Nsec)).UnixNano() }

// sameFile says why a file is not the one that it was, "" if it is.
func (fp *Footprint) sameFile(now *Footprint) string {
	switch {
	case fp == nil || now == nil:
		return "it does not tell whether it was changed"
	case fp.Inode != now.Inode || fp.BirthNS != now.BirthNS:
		return "it is another file now"
	case fp.Device != now.Device:
		return "it is another device now, or the host was restarted"
	case fp.Size != now.Size:
		return fmt.Sprintf("its size was %d bytes and is %d", fp.Size, now.Size)
	}
	return ""
}

// Unchanged says why the content of a file is not known to be what it was.
func (fp *Footprint) Unchanged(now *Footprint) string {
	if why := fp.sameFile(now); why != "" {
		return why
	}
	if fp.ModifiedNS != now.ModifiedNS || fp.ChangedNS != now.ChangedNS || fp.Written != now.Written {
		return "it was changed meanwhile"
	}
	return ""
}

// Rewritten tells of a file that is not unchanged whether its content may be another.
// When owner, permissions or names changed, that explains a time of change which is
// another, as long as the time of modification has stayed: a backup makes a hard link
// of what it copies, and libvirt gives an image that is only read to the user of the
// virtual machine.
func (fp *Footprint) Rewritten(now *Footprint) bool {
	touched := fp.mode != now.mode || fp.owner != now.owner || fp.group != now.group || fp.links != now.links
	return fp.Size != now.Size || fp.ModifiedNS != now.ModifiedNS || !touched
}

// earlier is what an earlier helper of the job left.
type earlier struct {
	ipc.Mark
	At Position
}

// takeUp finds the checkpoint of an earlier helper of the job. Without one that
// can be used the task begins anew.
func (r *Run) takeUp(t Task) {
	if !t.Resumes {
		return
	}
	e, err := r.Checkpoint()
	switch {
	case err != nil:
		r.Anew("%v", err)
	case e == nil: // the earlier one did not come that far
	case e.Task != t.Name:
		r.Anew("the checkpoint is of task %q", e.Task)
	default:
		r.Earlier = e
		r.Pacer.Carry(e.Read, e.Written)
	}
}

// Checkpoint gives the newest of the job, nil without one.
func (r *Run) Checkpoint() (*earlier, error) {
	m, err := r.Records.marked()
	if err != nil || m == nil {
		return nil, err
	}
	e := &earlier{Mark: *m}
	if err := json.Unmarshal([]byte(m.State), &e.At); err != nil {
		return nil, fmt.Errorf("the checkpoint cannot be read: %w", err)
	}
	return e, nil
}

// Anew forgets the checkpoint and says why.
func (r *Run) Anew(format string, args ...any) {
	r.Earlier = nil
	r.Warn("cannot go on where the job was interrupted, and begins anew: %s", fmt.Sprintf(format, args...))
}

// Held makes sure that a source is what it was at the checkpoint. Else the task
// begins anew.
func (r *Run) Held(source diskio.Content) (*Footprint, error) {
	now, err := positionOf(source)
	if err != nil || r.Earlier == nil {
		return now, err
	}
	if why := r.Earlier.At.Source.Unchanged(now); why != "" {
		r.Anew("the source: %s", why)
	}
	return now, nil
}

// Sources are Held of an image and of what it stands on.
func (r *Run) Sources(image diskio.Content, below ...diskio.Content) (at Position, err error) {
	if at.Source, err = r.Held(image); err != nil {
		return at, err
	}
	for i, c := range below {
		now, err := positionOf(c)
		if err != nil {
			return at, err
		}
		at.Below = append(at.Below, now)
		if r.Earlier == nil {
			continue
		}
		if was := r.Earlier.At.Below; len(was) != len(below) || was[i].Unchanged(now) != "" {
			r.Anew("what the image stands on has changed")
		}
	}
	return at, nil
}

// Fits says why a volume is not what the earlier helper left, "" if it is. A device tells that
// it was written to, and not by whom: the helper itself went on for a while.
func (e *earlier) Fits(target diskio.Content) string {
	if e.At.Target != nil && e.At.Target.Device != "" {
		return "it is a device, which does not tell whether somebody else has written to it"
	}
	return e.FitsDraft(target)
}

// FitsDraft is Fits of a draft, to which nobody else writes.
func (e *earlier) FitsDraft(target diskio.Content) string {
	now, err := positionOf(target)
	if err != nil {
		return err.Error()
	}
	was := e.At.Target
	if was != nil && now != nil && e.At.Grows {
		grown := *was
		grown.Size, was = now.Size, &grown
	}
	if why := was.sameFile(now); why != "" {
		return why
	}
	if now.ModifiedNS > e.At.Until {
		return "somebody has written to it since"
	}
	return ""
}

// from is where a transfer begins.
func (r *Run) from() int64 {
	if r.Earlier == nil {
		return 0
	}
	return r.Earlier.Done
}

// Checkpoints are those of a transfer into target, a draft or, with draft
// empty, a volume.
func (r *Run) Checkpoints(at Position, target diskio.Content, draft string) diskio.Checkpoints {
	if !r.Records.outlive() {
		return diskio.Checkpoints{}
	}
	return diskio.Checkpoints{From: r.from(), Save: func(done int64) {
		var err error
		if at.Target, err = positionOf(target); err != nil {
			r.unmarked(err)
			return
		}
		at.Until = time.Now().Add(writesOn).UnixNano()
		r.mark(done, at, draft)
	}}
}

// Sums are those of a checksum by the algorithm of at.
func (r *Run) Sums(at Position) diskio.SumSpec {
	spec := diskio.SumSpec{CRC32C: at.Algorithm == record.CRC32C}
	if !r.Records.outlive() {
		return spec
	}
	if r.Earlier != nil && r.Earlier.At.Algorithm != at.Algorithm {
		r.Anew("the checkpoint is of another checksum than %s", at.Algorithm)
	}
	spec.From, spec.Save = r.from(), func(done int64, state []byte) {
		at.Hash = state
		r.mark(done, at, "")
	}
	if r.Earlier != nil {
		spec.State = r.Earlier.At.Hash
	}
	return spec
}

// mark makes a checkpoint durable and tells of it. That it cannot is no reason
// to stop.
func (r *Run) mark(done int64, at Position, draft string) {
	state, err := json.Marshal(at)
	if err != nil {
		panic("internal error: " + err.Error()) // plain values
	}
	c := r.Pacer.Counts()
	m := ipc.Mark{
		Task: r.command, Phase: c.Phase, Done: done, Total: c.Total, Read: c.Read, Written: c.Written,
		Draft: draft, State: string(state),
	}
	if err := r.Records.mark(m); err != nil {
		r.unmarked(err)
		return
	}
	r.view.checkpoint(ipc.Checkpoint{Phase: c.Phase, Done: done})
}

// unmarked says, once, that there are no checkpoints.
func (r *Run) unmarked(err error) {
	r.unsaved.Do(func() {
		r.Warn("no checkpoint can be made, after an interruption the job would begin anew: %v", err)
	})
}

// begin begins a new volume, or goes on with what an earlier helper of the job
// left of it. done says that the earlier one had completed it.
func (r *Run) begin(ctx context.Context, d *Draft) (done bool, err error) {
	if d.early() {
		d.run = nil // who makes it closes it
		return false, nil
	}
	creator, err := d.Creator()
	if err != nil {
		return false, err
	}
	if r.resumes {
		if d.Draft, done, err = r.rejoin(ctx, d.Location, creator); d.Draft != nil || done || err != nil {
			r.guard.watch(d.Draft, false)
			return done, err
		}
	}
	d.As.Name, d.As.Job, d.As.Replaces = d.Location.Name, r.ID, d.Over != nil
	err = r.Step(ctx, func() (err error) {
		d.Draft, err = creator.Create(ctx, d.Pool.Pool, d.As)
		return err
	})
	if err == nil {
		r.guard.watch(d.Draft, false)
	}
	if err == nil && d.Over != nil {
		d.Draft, err = over(d.Draft, d.Over, d.Aside)
	}
	return false, err
}

// rejoin gives what an earlier helper left, if it can be relied on. What cannot
// is removed.
func (r *Run) rejoin(ctx context.Context, at Location, creator backends.Creator) (d backends.Draft, done bool, err error) {
	d, err = r.findDraft(ctx, at, creator)
	if errors.Is(err, backends.ErrNotFound) || errors.Is(err, backends.ErrUnsafe) { // or it has both names
		done, err = r.completed(ctx, at, creator)
		if r.Earlier != nil && !done && err == nil {
			r.Anew("nothing is left of %q", at.Path)
		}
		return nil, done, err
	}
	if err != nil {
		return nil, false, err
	}
	if r.Earlier != nil {
		if why := r.Earlier.FitsDraft(d.Content()); why != "" {
			r.Anew("the unfinished %q: %s", at.Path, why)
		}
	}
	if r.Earlier != nil {
		r.claim()
		return d, false, nil
	}
	return nil, false, errors.Join(d.Discard(), d.Close())
}

// claim says in the checkpoint that what is unfinished has this job's name now.
func (r *Run) claim() {
	if r.Earlier.Draft == r.ID {
		return
	}
	r.Earlier.Draft = r.ID
	if err := r.Records.mark(r.Earlier.Mark); err != nil {
		r.unmarked(err)
	}
}

// findDraft finds the draft, which has the job's name, or yet that of the job whose
// checkpoint this one goes on from.
func (r *Run) findDraft(ctx context.Context, at Location, creator backends.Creator) (d backends.Draft, err error) {
	jobs := []string{r.ID}
	if r.Earlier != nil && r.Earlier.Draft != r.ID {
		jobs = append(jobs, r.Earlier.Draft)
	}
	for _, job := range jobs {
		err = r.Step(ctx, func() error {
			d, err = creator.Resume(ctx, at.Pool.Pool, at.Name, r.ID, job)
			return err
		})
		if !errors.Is(err, backends.ErrNotFound) {
			return d, err
		}
	}
	return nil, err
}

// completed looks whether an earlier helper had given the volume its name.
func (r *Run) completed(ctx context.Context, at Location, creator backends.Creator) (done bool, err error) {
	identity, err := r.Records.Load()
	if err != nil || len(identity) == 0 {
		return false, err
	}
	if done, err = creator.Settle(ctx, at.Pool.Pool, at.Name, r.ID, identity); err != nil || !done {
		return false, err
	}
	v, err := r.Open(ctx, at, backends.ReadShared)
	if err != nil {
		return false, err
	}
	defer v.Close()
	return true, r.Describe(v)
}
