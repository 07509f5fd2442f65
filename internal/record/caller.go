package record

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
}
