package service

import "storaged/internal/record"

// Role is what a caller may do, decided by the socket it came through and its
// peer credentials.
type Role int

const (
	// Reader may read and nothing else.
	Reader Role = iota
	// User came through the main socket without being in its group, which is
	// possible where its mode was widened: it may read, and do to jobs of its
	// own what the table of calls gives an owner.
	User
	// Member is in the main socket's group: it may do everything, as
	// membership equals root.
	Member
	// Root is uid 0, or the daemon's own user in session mode.
	Root
)

// Caller is who makes a request.
type Caller struct {
	Owner record.Owner
	Role  Role
}
