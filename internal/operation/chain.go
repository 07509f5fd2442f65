package operation

import (
	"cmp"
	"encoding/json"

	"storaged/internal/record"
)

// MaxDepth bounds how many images an image may stand on, one on the other, and MaxLayers
// those with all files that hold their content. Each is open while the image is, in the
// helper and in the process that serves it.
const (
	MaxDepth  = 64
	MaxLayers = 2 * MaxDepth
)

// Layer is a volume that an image stands on. It is opened by its format as the
// catalog has it, whatever a header says.
type Layer struct {
	Volume
	Format string `json:"format"`
	Secret string `json:"secret,omitempty"` // name of the secret that opens it; "": none does
	// Data says that it holds the content of the layer above it, or of the image
	// itself; else it is what that stands on.
	Data bool `json:"data,omitempty"`
	// Allocation is how many bytes it has, as they were seen last.
	Allocation int64 `json:"allocation,omitempty"`
}

// Whose chain it is. What an image stands on is looked up when the job is asked
// for, and again when it begins.
const (
	ChainOfVolume   = "volume"   // that of the volume that the operation is on
	ChainOfSnapshot = "snapshot" // that of the snapshot that it is on
	ChainOfTables   = "tables"   // nothing: of the volume only the tables are opened
	ChainOfNew      = "new"      // that of an image yet to stand on it: the first layer is its backing
)

// Chain is embedded by operations that open an image: what that stands on, from the
// top down, all of it held for reading. The zero Chain is of an operation that
// opens no image.
type Chain struct {
	Of     string  `json:"chain_of,omitempty"`
	Secret string  `json:"secret,omitempty"` // name of the secret that opens the image itself; "": none does
	Layers []Layer `json:"layers,omitempty"`
}

// Chained is implemented by operations that open images.
type Chained interface{ Chains() []*Chain }

// Chains gives c itself: who embeds it has no other.
func (c *Chain) Chains() []*Chain { return []*Chain{c} }

// keys are the names of the secrets that open the image and its layers.
func (c *Chain) keys() []string {
	names := []string{c.Secret}
	for _, l := range c.Layers {
		names = append(names, l.Secret)
	}
	return names
}

// locks are those of the layers.
func (c *Chain) locks() (all []record.Object) {
	for _, l := range c.Layers {
		all = append(all, l.lock(record.ModeRead))
	}
	return all
}

// flags name the layers.
func (c *Chain) flags(name string) []Flag {
	return []Flag{{
		Name: name, Usage: "what the image stands on, a `LAYER` as JSON: its path and format; may be repeated, from the top down", value: (*layers)(&c.Layers),
	}}
}

// layers is a flag that is repeated for each layer.
type layers []Layer

// layerFlag is a layer on the command line.
type layerFlag struct {
	Path   string         `json:"path"`
	Format string         `json:"format"`
	Data   bool           `json:"data,omitempty"`
	Secret string         `json:"secret,omitempty"`
	Type   string         `json:"type,omitempty"` // of its pool
	PoolID string         `json:"pool_id,omitempty"`
	ID     string         `json:"id,omitempty"`
	Source *record.Source `json:"source,omitempty"` // of its pool
}

func (l *layers) set(text string) error {
	var f layerFlag
	if err := json.Unmarshal([]byte(text), &f); err != nil {
		return err
	}
	v := Volume{Path: f.Path, Type: cmp.Or(f.Type, defaultType), PoolID: f.PoolID, ID: f.ID}
	if f.Source != nil {
		v.PoolSource = *f.Source
	}
	*l = append(*l, Layer{Volume: v, Format: f.Format, Secret: f.Secret, Data: f.Data})
	return nil
}

func (l *layers) texts() (all []string) {
	for _, one := range *l {
		f := layerFlag{one.Path, one.Format, one.Data, one.Secret, one.Type, one.PoolID, one.ID, nil}
		if (poolSource{&one.PoolSource}).texts() != nil {
			f.Source = &one.PoolSource
		}
		b, err := json.Marshal(f)
		if err != nil {
			panic("internal error: " + err.Error()) // texts
		}
		all = append(all, string(b))
	}
	return all
}
