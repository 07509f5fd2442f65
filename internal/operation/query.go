package operation

import "storaged/internal/record"

// PoolLook is a question: what some volumes of a pool are now. It is no kind of job: nothing
// is recorded of it.
type PoolLook struct {
	Volume
	Names []string // of the volumes; the daemon names them when the helper runs, and others later
}

// NewPoolLook gives one with the defaults of its task.
func NewPoolLook() *PoolLook { return &PoolLook{Volume: Volume{Type: defaultType}} }

// Task is pool-look.
func (o *PoolLook) Task() Task {
	return Task{
		Name:        "pool-look",
		Usage:       "tell what volumes of a pool are",
		Description: "The volumes are not locked; others may be changing them.",
		Example:     "--type dir --target /var/lib/images --volume vm1.raw -o json",
		Flags: append(o.Volume.pool(), identity("pool-id", &o.PoolID),
			Flag{Name: "volume", Usage: "look at the volume of this `NAME`; may be repeated", value: (*list)(&o.Names)}),
	}
}

// Space is a question: how much room a pool has. Nothing is recorded of it.
type Space struct{ Volume }

// NewSpace gives one with the defaults of its task.
func NewSpace() *Space { return &Space{Volume{Type: defaultType}} }

// Task is pool-space.
func (o *Space) Task() Task {
	return Task{
		Name: "pool-space", Usage: "tell how much room a pool has",
		Description: "The file system is asked; no volume is looked at.",
		Example:     "--type dir --target /var/lib/images -o json",
		Flags:       append(o.Volume.pool(), identity("pool-id", &o.PoolID)),
	}
}

// Ready is a question: whether what a pool stands on is there, so that it could be started.
// Nothing is recorded of it.
type Ready struct{ Volume }

// NewReady gives one with the defaults of its task.
func NewReady() *Ready { return &Ready{Volume{Type: defaultType}} }

// Task is pool-ready.
func (o *Ready) Task() Task {
	return Task{
		Name: "pool-ready", Usage: "tell whether a pool could be started",
		Description: "What it stands on is looked at; nothing is mounted or changed.",
		Example:     "--type dir --target /var/lib/images",
		Flags:       append(o.Volume.pool(), identity("pool-id", &o.PoolID)),
	}
}

// FindSources is a question: which storage there is that pools of a type could be made of.
// Nothing is recorded of it.
type FindSources struct {
	Type string
	Near record.Source // where to look, as far as the type wants to know it
}

// NewFindSources gives one with the defaults of its task.
func NewFindSources() *FindSources { return &FindSources{} }

// Task is pool-sources.
func (o *FindSources) Task() Task {
	return Task{
		Name: "pool-sources", Usage: "find storage that pools could be made of",
		Description: "What is found is printed as JSON, a source a line.",
		Example:     `--type netfs --near '{"hosts":["server"]}'`,
		Flags: []Flag{
			text("type", &o.Type, "`TYPE` of the pools"),
			{Name: "near", Usage: "where to look, as the `JSON` of a source", value: poolSource{&o.Near}},
		},
	}
}
