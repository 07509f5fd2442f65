package operation

// Effect is what a job changes in the catalog: what is shown of its objects while
// it runs, and what when it has ended.
type Effect int

const (
	// Effects on volumes.

	Reads     Effect = iota // a volume; its end may tell the checksum
	Arranges                // the blocks of a volume, whose content stays the same at any time
	Changes                 // the content of a volume in place
	Makes                   // a volume
	Transfers               // a volume to another name
	Removes                 // a volume
	Preserves               // a volume as it is, by a snapshot
	Reverts                 // a volume to a snapshot
	Discards                // a snapshot of a volume

	// Effects on pools.

	Builds
	Starts
	Stops
	Lists    // the volumes of a pool
	Inspects // the contents of a pool
	Empties  // a pool into another
	Destroys // the storage of a pool
)
