package supervisor

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"storaged/internal/ipc"
	"storaged/internal/record"
	"storaged/internal/store"
	"storaged/internal/supervisor/process"
)

// cost is what a job's helpers used, as far as the kernel told us.
type cost struct {
	cpu    time.Duration
	maxRSS int64
}

func (c *cost) add(e process.Exit) {
	c.cpu += e.CPU
	c.maxRSS = max(c.maxRSS, e.MaxRSS)
}

// resultOf makes the public result of a report; nil without one. What did not
// succeed has one if it found something out: a checksum, or some of many.
func resultOf(r *ipc.Report, j *store.Job) *record.Result {
	if r == nil || r.Outcome != ipc.Succeeded && len(r.Items) == 0 && r.Checksum == "" {
		return nil
	}
	out := &record.Result{
		Method: r.Method, Algorithm: r.Algorithm, Passes: r.Passes, Bytes: r.Bytes,
		Limits: r.Limits, Device: r.Device, Checksum: r.Checksum,
	}
	if r.Checked {
		verified := r.Verified
		out.Verified = &verified
	}
	subject := subjectOf(&j.Job)
	out.Pool, out.Volume = subject.Pool, subject.Volume
	if v := r.Volume; v != nil {
		out.Key, out.Path, out.Capacity, out.Allocation = v.Key, v.Path, v.Capacity, v.Allocation
	}
	out.Items = itemsOf(r.Items)
	return out
}

// itemsOf gives the parts of a job over many objects. Items without a state
// are findings, of a refresh say, and go to the catalogue instead.
func itemsOf(in []ipc.Item) []record.Item {
	var out []record.Item
	for _, i := range in {
		if i.State == "" {
			continue
		}
		item := record.Item{Volume: i.Name, State: i.State, Checksum: i.Checksum}
		if i.Error != nil {
			item.Error = errorOf(i.Error)
		}
		out = append(out, item)
	}
	return out
}

// statsOf gives what was measured; nil when no helper ran.
func statsOf(r *ipc.Report, c cost) *record.Stats {
	if r == nil && c == (cost{}) {
		return nil
	}
	out := &record.Stats{CPUS: c.cpu.Seconds(), MaxRSSBytes: c.maxRSS}
	if r == nil {
		return out
	}
	out.BytesRead, out.BytesWritten, out.BytesHoles = r.Read, r.Written, r.Holes
	for _, p := range r.Phases {
		out.Phases = append(out.Phases, record.PhaseStats{Name: p.Name, Seconds: time.Duration(p.NS).Seconds()})
	}
	return out
}

// subjectOf is the object that a job's result is about: the one it changes, or
// the first.
func subjectOf(j *record.Job) record.Object {
	for _, o := range j.Objects {
		if o.Mode == record.ModeWrite || o.Mode == record.ModeDelete || o.Mode == record.ModeGrow {
			return o
		}
	}
	if len(j.Objects) == 0 {
		return record.Object{}
	}
	return j.Objects[0]
}

// signalName gives "SIGKILL".
func signalName(e process.Exit) string {
	if n := unix.SignalName(e.Signal); n != "" {
		return n
	}
	return fmt.Sprintf("signal %d", int(e.Signal))
}
