package operation

import (
	"fmt"

	"storaged/internal/record"
)

// What is so already need not be done, where the request says so. Whether it is so is
// looked at when the job is asked for, and again when a job was refused for it:
// another may have been faster.

// Repeatable is implemented by operations that may find done what they are to do.
type Repeatable interface {
	// Tolerates is the failure that tells of it; "": none is tolerated.
	Tolerates() record.Code
	// Done reports whether what there is now is what the job was to bring about. The
	// error says how it differs.
	Done(Known) (bool, error)
}

// Waits reports whether an operation is to wait for those that are about to do the
// same, however long that takes.
func Waits(o Operation) bool {
	r, ok := o.(Repeatable)
	return ok && r.Tolerates() != "" && r.Tolerates() != record.NotFound
}

// Remover is implemented by requests to take away what may be gone already.
type Remover interface{ MayBeGone() bool }

// Missing is embedded by them.
type Missing struct {
	MissingOK bool `json:"missing_ok,omitempty"` // what is gone already is no failure
}

// MayBeGone reports whether that is no failure.
func (m *Missing) MayBeGone() bool { return m.MissingOK }

// Existing is embedded by operations that make a volume that may be there already.
type Existing struct {
	ExistOK bool   `json:"exist_ok,omitempty"` // one that matches is taken for the one to be made
	Match   *int64 `json:"match,omitempty"`    // capacity that it must have; nil: any
}

// Tolerates that the volume is there.
func (e *Existing) Tolerates() record.Code {
	if !e.ExistOK {
		return ""
	}
	return record.Exists
}

// matches holds a volume against what was to be made.
func (e *Existing) matches(v record.Volume, format, secret string) (bool, error) {
	capacity := e.Match == nil || *e.Match == v.Capacity
	wanted := "ready"
	switch {
	case v.Name == "":
		return false, nil
	case !capacity && v.Format != format:
		wanted = format + " with " + both(*e.Match)
	case !capacity:
		wanted = both(*e.Match)
	case v.Format != format:
		wanted = format
	case secret != "" && v.Secret != secret:
		return false, record.Errorf(record.Exists, "%s/%s exists and differs: %s", v.Pool, v.Name, opener(v.Secret, secret))
	case v.State == record.VolumeReady:
		return true, nil
	}
	return false, record.Errorf(record.Exists, "%s/%s exists and differs: it is %s, %s with %s, not %s", v.Pool, v.Name, v.State, v.Format, both(v.Capacity), wanted)
}

// opener says how a volume is opened instead of by the secret that it should be.
func opener(secret, wanted string) string {
	if secret == "" {
		return fmt.Sprintf("it is not known to be opened by secret %q", wanted)
	}
	return fmt.Sprintf("it is opened by secret %q, not %q", secret, wanted)
}
