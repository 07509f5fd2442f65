package operation

import (
	"cmp"
	"fmt"
	"slices"

	"storaged/internal/record"
)

// The content of an encrypted volume is written where it is not encrypted only for who has
// named another format than the volume's for a copy, asked for the content that a guest
// sees, or opened a content of his own: and then with a warning. A volume that stands on an
// encrypted one has content of it, whatever it is itself. What takes the file as it is
// (clone, move, evacuate, download, snapshots) leaves that encrypted.

// sealed is the encrypted volume that an image has content of: itself, or the first that it
// stands on; ok is false if there is none.
func sealed(on record.Volume, c Chain) (quoted string, ok bool) {
	if on.Secret != "" {
		return record.Quoted(on.Pool, on.Name), true
	}
	i := slices.IndexFunc(c.Layers, func(l Layer) bool { return l.Secret != "" })
	if i < 0 {
		return "", false
	}
	return record.Quoted(c.Layers[i].Pool, record.Shown(c.Layers[i].Name)), true
}

// exposed warns of a content that is encrypted in its source and not where it goes.
func exposed(on record.Volume, c Chain, secret, what string) []string {
	of, ok := sealed(on, c)
	if !ok || secret != "" {
		return nil
	}
	return []string{fmt.Sprintf("volume %s is encrypted, and %s is not", of, what)}
}

// checkClear refuses a copy of the content in clear, unless another format was named for it.
func (r *CloneRequest) checkClear(v record.Volume, c Chain) error {
	of, ok := sealed(v, c)
	if !ok || r.Secret != "" || cmp.Or(r.Format, v.Format) != v.Format {
		return nil
	}
	e := record.Errorf(record.Invalid, "volume %s is encrypted, and the copy would be in clear: what is copied is the content, and not the file", of)
	clear := record.Hintf("%s, without options, makes one that is not encrypted", record.Do("").With("format", record.FormatRaw))
	if r.Options[Compression] != "" { // which excludes a secret
		return e.WithHint("%s", clear)
	}
	return e.WithHint("%s encrypts the copy too; %s", record.Do("").With("secret", cmp.Or(v.Secret, "SECRET")), clear)
}

// standsInClear refuses an image that would not be encrypted, and stand on one that is: a
// volume, where that is known, and what is under the image.
func standsInClear(on record.Volume, c Chain, secret string, with record.Call) error {
	of, ok := sealed(on, c)
	if !ok || secret != "" {
		return nil
	}
	return record.Errorf(record.Unsupported, "volume %s is encrypted, and what is written to an image that stands on it would not be", of).
		WithHint("a new volume that stands on it needs a secret: %s", with)
}

// takesInClear refuses to write into a volume that is not encrypted what it has from one
// that is.
func (k Known) takesInClear(c Chain) error {
	of, ok := sealed(k.Volume, c)
	if !ok || k.Volume.Secret != "" {
		return nil
	}
	return record.Errorf(record.Unsupported, "volume %s is encrypted, and what volume %s has of it would be in clear there", of, k.quoted()).
		WithHint("%s makes a volume of its content that is encrypted, and needs no other", k.cloneIn(LinkedFormat).With("secret", "SECRET"))
}
