package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"storaged/cmd/internal/cmdline"
	"storaged/internal/quantity"
	"storaged/internal/record"
	"storaged/internal/service/contract"
)

// attention is something that needs a person.
type attention struct {
	What   string `json:"what"`             // daemon, helper, pool, volume, job
	Object string `json:"object,omitempty"` // pool, pool/volume or number of a job
	Text   string `json:"text"`
}

func (a attention) String() string {
	if a.Object == "" {
		return a.Text
	}
	return a.Object + ": " + a.Text
}

// observed is the daemon's state with what needs a person.
type observed struct {
	contract.Status
	Since     time.Time   `json:"failed_since"` // of the failed jobs among it
	Attention []attention `json:"attention"`
}

// observe reads it.
func (s *session) observe(ctx context.Context) (o observed, err error) {
	if o.Since, err = parseWhen(s.cli.String("since"), time.Now()); err != nil {
		return o, cmdline.Usagef("--since: %s", err)
	}
	if o.Status, err = s.client.Status(ctx); err != nil {
		return o, err
	}
	o.Attention = ofStatus(o.Status)
	for _, look := range []func(context.Context, time.Time) ([]attention, error){s.ofPools, s.ofVolumes, s.ofJobs} {
		more, err := look(ctx, o.Since)
		if err != nil {
			return o, err
		}
		o.Attention = append(o.Attention, more...)
	}
	return o, nil
}

// ofStatus is what the daemon itself says.
func ofStatus(st contract.Status) []attention {
	all := []attention{}
	if st.State == "state_unwritable" {
		all = append(all, attention{"daemon", "", "new jobs are refused: the state cannot be written"})
	}
	for _, w := range st.Warnings {
		all = append(all, attention{"daemon", "", w})
	}
	for _, h := range st.Helpers {
		if h.Stuck != "" {
			all = append(all, attention{"helper", fmt.Sprintf("job %d", h.Job), h.Stuck + " does not end when killed"})
		}
	}
	return all
}

// fullShare is what part of a pool's capacity must be left, beside what is reserved, for it
// not to be called full: a file system slows down and fragments beyond.
const fullShare = 0.05

func (s *session) ofPools(ctx context.Context, _ time.Time) (all []attention, err error) {
	pools, err := s.client.Pools(ctx)
	if err != nil {
		return nil, err
	}
	types, err := s.client.Capabilities(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range pools {
		left := max(p.Available-p.Reserved, 0)
		shares := slices.ContainsFunc(types, func(c record.Capabilities) bool { return c.Type == p.Type && c.Sparse }) // its volumes grow in what is left
		switch {
		case p.State == record.PoolUnreachable || p.State == record.PoolDegraded:
			all = append(all, attention{"pool", p.Name, string(p.State) + ": " + p.Reason})
		case p.State == record.PoolActive && shares && p.Capacity > 0 && float64(left) < fullShare*float64(p.Capacity):
			all = append(all, attention{"pool", p.Name, fmt.Sprintf("%s of %s left", quantity.FormatBytes(left), quantity.FormatBytes(p.Capacity))})
		}
	}
	return all, nil
}

// ofVolumes are those that a job has left incomplete and none is at work on.
func (s *session) ofVolumes(ctx context.Context, _ time.Time) (all []attention, err error) {
	volumes, err := s.client.Volumes(ctx, contract.VolumeFilter{States: []string{string(record.VolumeIncomplete)}})
	if err != nil {
		return nil, err
	}
	live, err := s.allJobs(ctx, contract.JobFilter{States: []string{"live"}})
	for _, v := range volumes {
		at := func(j record.Job) bool { return v.Job != nil && j.Number == *v.Job }
		if slices.ContainsFunc(live, at) {
			continue
		}
		text := "incomplete"
		if v.Job != nil {
			text += fmt.Sprintf(" since job %d", *v.Job)
		}
		all = append(all, attention{"volume", v.Pool + "/" + v.Name, text})
	}
	return all, err
}

// ofJobs are those that have failed since and still need somebody: none that was forgotten or
// only refused, none of which the work was done since, and none of a pool that is no more.
func (s *session) ofJobs(ctx context.Context, since time.Time) (all []attention, err error) {
	failed, err := s.endedSince(ctx, since, contract.JobFilter{States: []string{string(record.Failed)}})
	failed = slices.DeleteFunc(failed, func(j record.Job) bool { return j.Forgotten || j.OnlyRefused() })
	if err != nil || len(failed) == 0 {
		return nil, err
	}
	later, err := s.later(ctx, failed)
	if err != nil {
		return nil, err
	}
	pools, err := s.client.Pools(ctx)
	for _, j := range failed {
		if slices.ContainsFunc(j.Objects, inNone(pools)) || slices.ContainsFunc(later, func(l record.Job) bool { return makesUp(l, j) }) {
			continue
		}
		text := fmt.Sprintf("%s %s failed", j.Kind, j.Subject())
		if j.Error != nil {
			text += ": " + j.Error.Message
		}
		all = append(all, attention{"job", fmt.Sprintf("job %d", j.Number), text})
	}
	return all, err
}

// wholes are the kinds of jobs that leave a volume whole, or leave none, whatever was wrong
// with it before.
var wholes = []record.Kind{record.VolumeCreate, record.VolumeClone, record.VolumeUpload, record.VolumeWipe, record.VolumeDelete, record.SnapshotRestore}

// later are the jobs that may have done what failed ones had to: those that live or have
// succeeded.
func (s *session) later(ctx context.Context, failed []record.Job) ([]record.Job, error) {
	f := contract.JobFilter{States: []string{string(record.Succeeded), "live"}, Since: failed[0].Created}
	for _, j := range failed {
		f.Kinds = append(f.Kinds, string(j.Kind))
		if j.Created.Before(f.Since) {
			f.Since = j.Created
		}
	}
	for _, k := range wholes {
		f.Kinds = append(f.Kinds, string(k))
	}
	slices.Sort(f.Kinds)
	f.Kinds = slices.Compact(f.Kinds)
	return s.allJobs(ctx, f)
}

// faults are errors of the storage itself: that another job did not meet them says nothing.
var faults = []record.Code{record.IO, record.Mismatch, record.Inconsistent}

// makesUp reports whether what a job had to do that has failed is done, or is no matter any
// more, by a later one: its retry, one of the same kind on the same, or one that left all
// volumes whole that it has changed.
func makesUp(later, failed record.Job) bool {
	if later.RetryOf != nil && *later.RetryOf == failed.Number {
		return true
	}
	if later.State != record.Succeeded || endedBefore(later, failed) {
		return false
	}
	if later.Kind == failed.Kind && slices.Equal(later.Objects, failed.Objects) {
		return true
	}
	if slices.Contains(faults, failed.Code()) {
		return false
	}
	changed := changedBy(failed)
	return slices.Contains(wholes, later.Kind) && len(changed) > 0 && !slices.ContainsFunc(changed, func(o record.Object) bool {
		return !slices.ContainsFunc(changedBy(later), func(l record.Object) bool { return l.Pool == o.Pool && l.Volume == o.Volume })
	})
}

// endedBefore reports whether a job that has ended had when another did.
func endedBefore(j, other record.Job) bool {
	return j.Ended != nil && other.Ended != nil && j.Ended.Before(*other.Ended)
}

// changedBy are the objects that a job changes.
func changedBy(j record.Job) []record.Object {
	return slices.DeleteFunc(slices.Clone(j.Objects), func(o record.Object) bool {
		return o.Mode == record.ModeRead || o.Mode == record.ModeQuery
	})
}

// inNone reports whether an object is of none of the pools.
func inNone(pools []record.Pool) func(record.Object) bool {
	return func(o record.Object) bool {
		return o.Pool != "" && !slices.ContainsFunc(pools, func(p record.Pool) bool { return p.Name == o.Pool })
	}
}

// endedSince are jobs that have ended since then, whenever they were created.
func (s *session) endedSince(ctx context.Context, since time.Time, f contract.JobFilter) ([]record.Job, error) {
	jobs, err := s.allJobs(ctx, f)
	return slices.DeleteFunc(jobs, func(j record.Job) bool { return j.Ended == nil || j.Ended.Before(since) }), err
}

// mostShown is how much of a kind is shown to people, who see by then that it is much.
const mostShown = 20

// attentionFields show what is not among the fields of the status.
func attentionFields(o observed) (fields []field) {
	for _, kind := range []struct{ what, name string }{{"pool", "Pool"}, {"volume", "Volume"}, {"job", "Failed"}} {
		n := 0
		for _, a := range o.Attention {
			if a.What != kind.what {
				continue
			}
			if n++; n <= mostShown {
				fields = append(fields, field{kind.name, a.String()})
			}
		}
		if n > mostShown {
			fields = append(fields, field{kind.name, fmt.Sprintf("and %d more", n-mostShown)})
		}
	}
	return fields
}

// check prints what needs a person, and fails if there is something.
func (s *session) check(o observed) error {
	switch s.format {
	case "json":
		if err := printDocument(s.out, o); err != nil {
			return err
		}
	case "jsonl":
		for _, a := range o.Attention {
			if err := printJSON(s.out, a); err != nil {
				return err
			}
		}
	default:
		if err := printLines(s.out, o.Attention, func(a attention) string { return a.What + ": " + a.String() }); err != nil {
			return err
		}
	}
	if n := len(o.Attention); n > 0 {
		return record.Errorf(record.FailedCode, "there is something that needs a person (%d)", n).
			WithHint("storagedctl job show NUMBER, vol show VOLUME and pool show POOL say more; storagedctl job forget NUMBER dismisses a failed job")
	}
	s.note("nothing needs a person")
	return nil
}
