package record

import "context"

// Role is what a caller may do, decided by the socket it came through and its
// peer credentials.
type Role int

const (
	// ReaderRole may read and nothing else.
	ReaderRole Role = iota
	// UserRole came through the main socket without being in its group, which is
	// possible where its mode was widened: it may read, and do to jobs of its
	// own what the table of calls gives an owner.
	UserRole
	// MemberRole is in the main socket's group: it may do everything, as
	// membership equals root.
	MemberRole
	// RootRole is uid 0, or the daemon's own user in session mode.
	RootRole
)

// Caller is who makes a request.
type Caller struct {
	Owner Owner
	Role  Role
	// Ask has the rules of the host's administrator decide what a Member may do; nil:
	// everything.
	Ask func(context.Context, Action) error
}

// MayChange refuses to let the caller change a job where it may not: only members may
// change those of others.
func (c Caller) MayChange(j *Job) error {
	if c.Role >= MemberRole || c.Role == UserRole && j.Owner.UID == c.Owner.UID {
		return nil
	}
	return Errorf(Denied, "job %d is that of %s", j.Number, j.Owner.User).
		WithHint("root and the members of the main socket's group may do that")
}
