package operation

import (
	"cmp"
	"encoding/json"
	"errors"
	"os"

	"storaged/internal/quantity"
	"storaged/internal/record"
)

// Request is what a client asks of one kind of job. Implementations are pointers
// to structs of this package, whose JSON is the body of a request, and are not
// safe for concurrent use.
type Request interface {
	// Fill puts in what the request leaves out.
	Fill()
	// Check refuses what needs no catalog to be seen.
	Check() error
	// Job is what is asked of the job, whatever it does.
	Job() *JobOptions
	// Plan makes the operation, by what is known of its objects. It refuses what can
	// only be seen now, and not when the job begins.
	Plan(Known) (Operation, error)
}

// Maker is implemented by requests for a new volume.
type Maker interface {
	// NewName is that of the new volume; ok is false where the volume is there already.
	NewName() (name string, ok bool)
}

// Sender is implemented by requests whose result goes to another name or pool.
type Sender interface {
	// Goes is the name of the pool, "" for that of the volume, and the name of the
	// volume there, "" for the same.
	Goes() (pool, volume string)
}

// Carrier is implemented by requests that come with the client's file or stream.
type Carrier interface{ File() *os.File }

// Known is what is known of the objects of a request, or of an operation that is
// about to begin.
type Known struct {
	On         Volume              // that it is on, as an operation has it
	Into       Target              // where it goes
	Pool       record.Pool         // that it is on, or that the volume is in
	Own        bool                // its storage was made by a job, or has been in use: it is not another's
	Volume     record.Volume       // that it is on; zero: there is none yet
	Promised   int64               // bytes of the volume that shall have blocks
	IterTime   int64               // ms that a try of the volume's secret was to take; 0: nobody said
	Cut        bool                // the problem of the volume is only that its file is cut off
	References []Reference         // files that the volume's header names
	Can        record.Capabilities // of the type of the pool
	There      record.Capabilities // of the type of the pool that it goes to
	Near       bool                // volumes get from the pool to the other without a copy
	Apart      bool                // volumes of one share no blocks with those of the other
	// Volumes are those of the pool whose names match a pattern.
	Volumes func(pattern string) ([]record.Volume, error)
	// Chain is what the volume stands on. Its error says why it cannot be opened as
	// an image.
	Chain func() (Chain, error)
	// Under is what an image stands on whose backing is that volume: itself, and what
	// it stands on.
	Under func(pool, volume string) (Chain, error)
	// Snapshots are those of the volume, each before those that it stands on.
	Snapshots func() ([]Layer, error)
	// Above are the volume and snapshots of it that stand on that snapshot, and can
	// stand on another image instead.
	Above func(snapshot string) ([]Layer, error)
	// Other is any volume of any pool, or a snapshot, by the name of its file.
	Other func(pool, volume string) (record.Volume, error)
}

// Reference is a file that an image's header names.
type Reference struct {
	Name     string
	Data     bool // it holds content of the image
	Relative bool // it means another file where the image is elsewhere
	Volume   bool // it is to a volume of a pool
}

// name is that of the volume in a call.
func (k Known) name() string { return k.Volume.Pool + "/" + k.Volume.Name }

// quoted is that of the volume in a sentence.
func (k Known) quoted() string { return record.Quoted(k.Volume.Pool, k.Volume.Name) }

// contained refuses to do something with the content of a volume that lies in
// other files too. The hint says what to do instead.
func (k Known) contained(what string, hint record.Hint) error {
	for _, r := range k.References {
		if r.Data {
			return record.Errorf(record.Unsupported, "content of volume %s lies in %q, which %s", k.quoted(), r.Name, what).
				WithHint("%s", hint)
		}
	}
	return nil
}

// writable refuses to change an image whose content lies in other files: those are held
// for reading, as all that an image stands on.
func (k Known) writable() error {
	return k.contained("is not written to through another volume", k.whole())
}

// whole is the hint where content lies in other files.
func (k Known) whole() record.Hint {
	return record.Hintf("%s makes a volume of its content that needs no other file", k.cloneIn(LinkedFormat))
}

// cloneIn is the call for a copy of the volume's content in a format.
func (k Known) cloneIn(format string) record.Call {
	return record.Do("volume.clone", k.name(), "POOL/NAME").With("format", format)
}

// within refuses to make more of a volume that stands on what is in no pool: whoever
// opens the copy would open that, and nobody here would know that it is needed.
func (k Known) within() error {
	for _, r := range k.References {
		if !r.Volume {
			return record.Errorf(record.Unsupported, "volume %s stands on %q, which is no volume of a pool", k.quoted(), r.Name).
				WithHint("define a pool whose directory has that file, or refresh the pool that it is in")
		}
	}
	return nil
}

// portable refuses to take a volume to another pool whose header names what it
// stands on relative to where it lies, or what is in no pool.
func (k Known) portable(to string) error {
	if k.Volume.Pool == to {
		return nil
	}
	for _, r := range k.References {
		if !r.Relative {
			continue
		}
		e := record.Errorf(record.Unsupported, "volume %s stands on %q, which it would not find from pool %q", k.quoted(), r.Name, to)
		if r.Data {
			return e.WithHint("%s", k.whole())
		}
		return e.WithHint("%s makes it independent", record.Do("volume.flatten", k.name()))
	}
	return k.within()
}

// copyable refuses a copy that would not be one: it would not find what it stands
// on, or share files with the original and change them.
func (k Known) copyable(to string) error {
	return cmp.Or(k.contained("a copy of the volume's own file would share with it", k.whole()), k.portable(to), k.within())
}

// erasable refuses to wipe a volume whose content lies elsewhere.
func (k Known) erasable() error {
	return k.contained("a wipe of the volume's own file would leave as it is", record.Hintf("delete the volume, then wipe that file"))
}

// JobOptions are what every request that starts a job may say about the job.
// In a body the fields stand beside the request's own.
type JobOptions struct {
	Limit     *int64            `json:"limit,omitempty"` // bytes per second
	Priority  record.Priority   `json:"priority,omitempty"`
	Labels    map[string]string `json:"labels,omitempty"`
	OnFailure record.OnFailure  `json:"on_failure,omitempty"`
}

// Job gives o itself: every request embeds it.
func (o *JobOptions) Job() *JobOptions { return o }

// Fill puts in what a request leaves out. Every kind of request that has more
// defaults than these has a Fill of its own.
func (o *JobOptions) Fill() {
	o.Priority = cmp.Or(o.Priority, record.NormalPriority)
	o.OnFailure = cmp.Or(o.OnFailure, record.RollbackOnFailure)
}

// Check refuses what no job can have.
func (o *JobOptions) Check() error {
	if o.Limit != nil && *o.Limit < 1 {
		return record.Errorf(record.Invalid, `field "limit" is below one byte per second: %d`, *o.Limit).
			WithHint("null is no limit; a job is paused by its own call")
	}
	return cmp.Or(
		record.OneOf("priority", o.Priority, append(record.Priorities(), "")...),
		record.OneOf("on_failure", o.OnFailure, record.RollbackOnFailure, record.KeepOnFailure, ""),
		record.CheckLabels(o.Labels),
	)
}

// Allocation is "full", "none" or a number of bytes.
type Allocation struct {
	Full  bool
	Bytes int64 // when not Full; 0 is none
}

// of is how many bytes that is of a capacity.
func (a Allocation) of(capacity int64) int64 {
	if a.Full {
		return capacity
	}
	return a.Bytes
}

// MarshalJSON gives "full", "none" or the number of bytes.
func (a Allocation) MarshalJSON() ([]byte, error) {
	switch {
	case a.Full:
		return []byte(`"full"`), nil
	case a.Bytes == 0:
		return []byte(`"none"`), nil
	}
	return json.Marshal(a.Bytes)
}

// UnmarshalJSON takes what MarshalJSON gives.
func (a *Allocation) UnmarshalJSON(b []byte) error {
	switch string(b) {
	case `"full"`:
		*a = Allocation{Full: true}
		return nil
	case `"none"`:
		*a = Allocation{}
		return nil
	}
	*a = Allocation{}
	if err := json.Unmarshal(b, &a.Bytes); err != nil || a.Bytes < 0 {
		return errors.New(`allocation is "full", "none" or a number of bytes`)
	}
	return nil
}

// Data is what a content comes from or goes to: an open file, or one end of a
// pipe. It stays the caller's.
type Data struct {
	File *os.File
	Form string // FileForm, RawForm or SparseForm
	// Dense says that a stream comes without holes, in whatever form.
	Dense bool
}

// Forms of Data.
const (
	FileForm   = "file"   // a client's own regular file
	RawForm    = "raw"    // a stream of bytes
	SparseForm = "sparse" // a stream as package sparse has it
)

func checkFormat(field, format string) error {
	return record.OneOf(field, format, append(record.Formats, "")...)
}

// less says how to do with less room where nothing better is known.
func less() record.Hint {
	return record.Hintf("free some, or allocate less: %s", record.Do("").With("allocation", "none"))
}

// elsewhere says how to do where a pool has no room.
func elsewhere() record.Hint { return record.Hintf("free some, or choose another pool") }

// checkPool is the rule for the name of another pool, which may be left out.
func checkPool(field, name string) error {
	if name == "" {
		return nil
	}
	if err := record.CheckName(name); err != nil {
		return record.Errorf(record.Invalid, "field %q: %v", field, err)
	}
	return nil
}

// checkNewName is the rule for the name of a volume to be made.
func checkNewName(name string) error {
	if err := record.CheckName(name); err != nil {
		return record.Errorf(record.Invalid, `field "name": %v`, err)
	}
	return nil
}

func both(n int64) string { return quantity.FormatBoth(n) }
