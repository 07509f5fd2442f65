package operation

import "storaged/internal/record"

// Standing is implemented by operations that put an image where it was not: it may
// stand on volumes of pools and on nothing else.
type Standing interface {
	// StandsIn says in which directories the volumes of the pools in use are.
	StandsIn(dirs []string)
}

// Homes is embedded by such operations.
type Homes struct {
	Among []string `json:"-"` // directories; nil: it is not known on what an image may stand
}

func (h *Homes) among() Flag {
	return Flag{Name: "stands-in", Usage: "an image may stand on volumes of the pool at `DIR` only; may be repeated", value: (*list)(&h.Among)}
}

// set takes the directories if there can be an image.
func (h *Homes) set(format string, dirs []string) {
	if !record.Plain(format) {
		h.Among = dirs
	}
}
