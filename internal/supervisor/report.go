package supervisor

import (
	"fmt"

	"golang.org/x/sys/unix"

	"storaged/internal/ipc"
	"storaged/internal/record"
	"storaged/internal/store"
	"storaged/internal/supervisor/process"
)

// resultOf makes the public result of a report; nil without one. What did not
// succeed has one if it found something out: a checksum, the state of tables, or some of
// many.
func resultOf(r *ipc.Report, j *store.Job) *record.Result {
	if r == nil || r.Outcome != ipc.Succeeded && len(r.Items) == 0 && r.Checksum == "" && r.Check == nil {
		return nil
	}
	out, subject := r.Result(), subjectOf(&j.Job)
	out.Pool, out.Volume = subject.Pool, subject.Volume
	out.Items = itemsOf(r.Items)
	return out
}

// itemsOf gives the parts of a job over many objects. Items without a state
// are findings, of a refresh say, and go to the catalog instead.
func itemsOf(in []ipc.Item) []record.Item {
	var out []record.Item
	for _, i := range in {
		if i.State == "" {
			continue
		}
		out = append(out, i.Record())
	}
	return out
}

// stats gives what was measured of the helper at work; nil when that is
// nothing.
func (r *running) stats() *record.Stats {
	out := &record.Stats{}
	switch {
	case r.report != nil:
		out = r.report.Stats()
	case r.moved != nil:
		out.BytesRead, out.BytesWritten = &r.moved.Read, &r.moved.Written
	case !r.exit.Measured:
		return nil
	}
	if r.exit.Measured {
		out.CPUS = new(r.exit.CPU.Seconds()) // r is used again by the next helper
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
