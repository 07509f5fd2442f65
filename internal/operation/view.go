package operation

import (
	"cmp"

	"storaged/internal/record"
)

// View is embedded by operations that read or write the bytes of a volume, which of
// an image are its file's, or its content's.
type View struct {
	As string `json:"as,omitempty"` // record.AsRaw or record.AsFile; "": both are the same
	Image
}

// Image is embedded by operations that open a volume as an image.
type Image struct {
	Chain
	Sealed
}

// flags say what it stands on, and what opens it.
func (i *Image) flags() []Flag { return append(i.Chain.flags("layer"), i.Sealed.flags(&i.Secret)...) }

// opens reports whether the volume is opened as an image of that format.
func (v *View) opens(format string) bool { return v.As == record.AsRaw && record.IsImage(format) }

// flags say how it is taken, and what it stands on.
func (v *View) flags() []Flag {
	return append([]Flag{
		text("as", &v.As, "of an image the content that a guest sees, or its file as it is: `raw|file`"),
	}, v.Image.flags()...)
}

func checkAs(as string) error { return record.OneOf("as", as, record.AsRaw, record.AsFile, "") }

// participles say of what is done to a content that it is.
var participles = map[string]string{
	record.VerbRead: "read", record.VerbWrite: "written", record.VerbGrow: "made larger", record.VerbShrink: "made smaller",
	record.VerbAllocate: "allocated beforehand", record.VerbTrim: "trimmed",
}

// view is how a job takes the volume. An image of which the content is wanted must
// be one that can be opened.
func (k Known) view(as, verb string) (View, error) {
	v := View{As: as}
	if !record.IsImage(k.Volume.Format) {
		return View{}, nil
	}
	if as != record.AsRaw {
		return v, nil
	}
	var err error
	v.Chain, err = k.chain(verb)
	return v, err
}

// chain is what an image stands on whose content something is to be done with.
func (k Known) chain(verb string) (c Chain, err error) {
	if !record.FormatCan(k.Volume.Format, verb) {
		e := record.Errorf(record.Unsupported, "volume %s is in format %s, in which a content cannot be %s; it can in %s", k.quoted(),
			cmp.Or(k.Volume.Format, "unknown"), participles[verb], record.List(record.FormatsThatCan(verb), 20))
		if !record.FormatCan(k.Volume.Format, record.VerbRead) {
			return c, e
		}
		return c, e.WithHint("%s makes a copy in which it can", k.cloneIn(LinkedFormat))
	}
	return k.Chain()
}
