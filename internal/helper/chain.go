package helper

import "storaged/internal/backends"

// Layer is a volume that an image stands on, or one that holds its content (Data).
// It is open for reading, with its locks, and is opened by its format alone.
type Layer struct {
	*Volume
	Format string
	Secret string // name of the secret that opens it, "" for none
	Data   bool
}

// Chain is what an image stands on, from the top down: of each layer first what
// holds its content, then what it stands on.
type Chain []Layer

// split gives what holds the content of the image above the chain, and what that image
// stands on.
func (c Chain) split() (data, below Chain) {
	n := 0
	for n < len(c) && c[n].Data {
		n++
	}
	return c[:n], c[n:]
}

// is reports whether the layer is the file of that identity.
func (l Layer) is(id backends.Identity) bool { return id != "" && l.Volume.Volume.Is(id) == nil }

// Openings are those of the layers.
func (c Chain) Openings() (all []Opening) {
	for _, l := range c {
		all = append(all, l.Volume)
	}
	return all
}
