package record

import (
	"slices"
	"strings"
)

// Capabilities are what can be done with pools of a type, and with their volumes, as GET
// /v1/capabilities says it.
type Capabilities struct {
	Type        string        `json:"type"`
	PoolVerbs   []string      `json:"pool_verbs"` // build start stop refresh delete
	VolVerbs    []string      `json:"volume_verbs"`
	Formats     []string      `json:"formats"`   // that can be created; the first is the default
	Creations   []Creation    `json:"creations"` // those that can be, and how; also what cannot now, and why
	Algorithms  []string      `json:"wipe_algorithms"`
	Contents    []FormatVerbs `json:"content_verbs"` // by format
	Snapshots   []string      `json:"snapshots"`     // how a snapshot is made: reflink, where the file system can, of any volume; overlay, elsewhere, of a qcow2; thin, of a thin volume; none: there are no snapshots
	Sparse      bool          `json:"sparse"`        // volumes may have less allocation than capacity
	MakesTarget bool          `json:"makes_target"`  // building takes nothing away, and is done when a pool is created
	Needs       []string      `json:"needs"`         // parts of a definition: target_path, source_hosts, source_devices, source_name, source_path, source_format, source_initiator, source_username, source_secret, source_options
	Takes       []string      `json:"takes"`         // those that may be given beside
	// SourceFormats are those that a source may be said to have; the first is the default.
	SourceFormats []string `json:"source_formats"`
	// Unusable are those of SourceFormats of which there are no pools all the same, and why.
	Unusable []Building `json:"unusable_formats"`
	// Builds are those in which a pool's storage can be made, where there is a choice; also
	// what cannot now, and why.
	Builds []Building `json:"builds"`
	// Finds is how storage is looked for that pools could be made of; nil: it is not.
	Finds *Search `json:"finds"`
}

// Search is how storage is looked for that pools of a type could be made of.
type Search struct {
	Needs []string `json:"needs"` // parts of a source that say where, in the words of a definition
	Takes []string `json:"takes"` // those that may be given beside
	// Unavailable says why it cannot be done on this host now, and what to install; "": it
	// can.
	Unavailable string `json:"unavailable,omitempty"`
}

// Building is how the storage of a pool is made whose source is in a format.
type Building struct {
	Format string `json:"format"`
	// Unavailable says why it cannot be made on this host now, and what to install; "": it
	// can.
	Unavailable string `json:"unavailable,omitempty"`
}

// Can refuses a kind of job that is nothing for pools of the type, or for their
// volumes.
func (c Capabilities) Can(kind Kind) error {
	noun, verb, _ := strings.Cut(string(kind), ".")
	verbs := c.VolVerbs
	switch noun {
	case "pool":
		verbs = c.PoolVerbs
	case "snapshot":
		if len(c.Snapshots) > 0 {
			return nil
		}
		return Errorf(Unsupported, "there are no snapshots of volumes in pools of type %s", c.Type)
	}
	if slices.Contains(verbs, verb) {
		return nil
	}
	return Errorf(Unsupported, "there is no %s of %ss of type %s, but %s", verb, noun, c.Type, List(verbs, len(verbs)))
}
