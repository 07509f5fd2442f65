package ipc

import (
	"fmt"
	"time"

	"storaged/internal/record"
)

// A report in the words of the record: one translation, for the daemon and for
// a helper that a person runs.

// Errorf makes an error whose code and words are known where it happens.
func Errorf(code record.Code, format string, args ...any) *Error {
	return &Error{Code: string(code), Message: fmt.Sprintf(format, args...), Offset: -1}
}

// WithHint says what can be done about it.
func (e *Error) WithHint(format string, args ...any) *Error {
	e.Hint = fmt.Sprintf(format, args...)
	return e
}

// Record gives the error as people and programs see it. nil is a failure that
// the helper says nothing of.
func (e *Error) Record() *record.Error {
	if e == nil {
		return record.Errorf(record.FailedCode, "failed, and the helper does not say why")
	}
	out := &record.Error{Code: record.Code(e.Code), Message: e.Message, Path: e.Path}
	if e.Code == "" {
		out.Code = record.FailedCode
	}
	if e.Hint != "" {
		out.Hint = record.Hintf("%s", e.Hint)
	}
	if e.Path != "" && e.Offset >= 0 {
		out.Offset = new(e.Offset)
	}
	if e.Holder != "" {
		out.Holders = []record.Blocker{{For: "lock", Holder: &record.Holder{External: e.Holder}}}
	}
	return out
}

// Result gives what was done. Whose it is the caller knows, and of which items
// there is something to say.
func (r *Report) Result() *record.Result {
	out := &record.Result{
		Method: r.Method, Algorithm: r.Algorithm, Passes: r.Passes, Bytes: r.Bytes,
		Limits: r.Limits, Device: r.Device, Checksum: r.Checksum,
	}
	if r.Check != nil {
		out.Check = new(record.Tables(*r.Check))
	}
	if r.Checked {
		out.Verified = new(r.Verified)
	}
	if v := r.Volume; v != nil {
		out.Key, out.Path, out.Capacity, out.Allocation = v.Key, v.Path, v.Capacity, v.Allocation
	}
	return out
}

// Record gives one of the objects of a job over many.
func (it Item) Record() record.Item {
	out := record.Item{Volume: it.Name, State: it.State, Checksum: it.Checksum}
	if it.Error != nil {
		out.Error = it.Error.Record()
	}
	return out
}

// Stats gives what was measured, but for the time of the CPU.
func (r *Report) Stats() *record.Stats {
	out := &record.Stats{BytesRead: &r.Read, BytesWritten: &r.Written, BytesHoles: &r.Holes}
	if r.MaxRSS > 0 {
		out.MaxRSSBytes = &r.MaxRSS
	}
	for _, p := range r.Phases {
		out.Phases = append(out.Phases, record.PhaseStats{Name: p.Name, Seconds: time.Duration(p.NS).Seconds()})
	}
	return out
}
