package backends

import (
	"context"
	"os"
)

// Errand is something that a driver does to a store, or asks of it, which a confined
// process cannot: it starts programs that make and take apart devices, or opens what has
// no directory. It is data: a deputy does it for a process that is confined.
type Errand struct {
	Do   string   `json:"do"` // the driver's word for it
	Args []string `json:"args,omitempty"`
}

// Answer is what comes of an errand.
type Answer struct {
	Text []byte
	File *os.File // that was opened, nil if none was; who asked closes it
}

// Deputed is a driver that does its work by errands, through package deputy.
type Deputed interface {
	// Errand does one, with all that this process may do. It takes arguments for hostile:
	// who asks may be confined, and under the influence of an image.
	Errand(ctx context.Context, p Pool, e Errand) (Answer, error)
	// Grants are the errands that a job may have to ask for which uses the pool so, and
	// without which it would lack something. In a grant an argument that is "" is any.
	Grants(p Pool, u Use) []Errand
}

// Use is what a job may do in a pool.
type Use struct {
	Name     string  // of the volume; "" is any
	Reads    bool    // it may be opened to be read
	Makes    bool    // it may be made by drafts
	Job      string  // of the drafts; "" is any
	Origin   string  // of what is made, "" if it has none
	Replaces bool    // what is made replaces the volume of its name
	Left     string  // the job whose draft the one of Job goes on with, "" if none
	Takes    bool    // it may leave its name
	To       string  // the name that it may get instead; "" is any
	Sizes    []int64 // that it may get, bytes
}
