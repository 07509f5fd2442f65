// Package wire is what the server and the client of the REST interface both write
// and read: what one says the other understands.
package wire

import (
	"strconv"
	"time"
)

// Version is that of the interface, and the first segment of its paths.
const Version = "v1"

// The media types that both ends speak.
const (
	JSONType    = "application/json"
	ProblemType = "application/problem+json"
	EventsType  = "text/event-stream"
	RawType     = "application/octet-stream"
)

// JobHeader names the job of a call whose answer is no job, by its number.
const JobHeader = "Storaged-Job"

// DescriptorProtocol is the protocol that a connection is upgraded to, to hand over
// a descriptor.
const DescriptorProtocol = "storaged-fd"

// MaxWait is the longest that one request waits for a job. A client asks
// again; so a forgotten one does not hold a connection for ever.
const MaxWait = 10 * time.Minute

// ETag is a generation as HTTP writes it.
func ETag(generation int64) string { return `"` + strconv.FormatInt(generation, 10) + `"` }
