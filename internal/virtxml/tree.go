package virtxml

import (
	"bytes"
	"cmp"
	"encoding/xml"
	"errors"
	"io"
	"slices"
	"strings"
)

// Bounds of a document. A pool's is a kilobyte, with a device for each disk of a large
// volume group some ten.
const (
	maxDocument   = 1 << 20 // bytes
	maxDepth      = 16
	maxElements   = 4096
	maxAttributes = 16
)

// repeated are the elements of which a parent may have several.
var repeated = []string{"host", "device", "freeExtent", "extent", "secret", "option"}

// element is one of a document. Its methods may be called on nil, which is an element
// that is not there: it has no text, no attributes and no children.
type element struct {
	space    string // of its name, "" for libvirt's own
	name     string
	text     string // of itself, without that of its children
	attrs    map[string]string
	children []*element
}

// document reads a document that what names, as libvirt calls it, and gives its root.
func document(doc []byte, what, root string) (*element, error) {
	if len(doc) > maxDocument {
		return nil, refuse(NotXML, "(%s): document is larger than %d bytes", what, maxDocument)
	}
	e, err := newReader(doc).document()
	if err != nil {
		return nil, refuse(NotXML, "(%s): %v", what, err)
	}
	if e.name != root || e.space != "" {
		return nil, refuse(Shape, "expecting root element of '%s', not '%s'", root, e.name)
	}
	return e, nil
}

// reader reads one document.
type reader struct {
	tokens   *xml.Decoder
	elements int
}

func newReader(doc []byte) *reader { return &reader{tokens: xml.NewDecoder(bytes.NewReader(doc))} }

var (
	errEmpty    = errors.New("document is empty")
	errType     = errors.New("a document type is not accepted")
	errExtra    = errors.New("extra content at the end of the document")
	errDepth    = errors.New("elements are nested too deeply")
	errElements = errors.New("too many elements")
	errAttrs    = errors.New("too many attributes")
)

// document reads the root, and that nothing follows it.
func (r *reader) document() (*element, error) {
	start, err := r.next(errEmpty)
	if err != nil {
		return nil, err
	}
	root, err := r.element(start, 1)
	if err != nil {
		return nil, err
	}
	if _, err := r.next(io.EOF); !errors.Is(err, io.EOF) {
		return nil, cmp.Or(err, errExtra)
	}
	return root, nil
}

// next is the next element outside all others. At the end of the document it gives end.
func (r *reader) next(end error) (xml.StartElement, error) {
	for {
		token, err := r.tokens.Token()
		switch t := token.(type) {
		case nil:
			if errors.Is(err, io.EOF) {
				err = end
			}
			return xml.StartElement{}, err
		case xml.StartElement:
			return t, nil
		case xml.CharData:
			if len(bytes.TrimSpace(t)) != 0 {
				return xml.StartElement{}, errors.New("start tag expected, '<' not found")
			}
		case xml.Directive:
			return xml.StartElement{}, errType
		}
	}
}

// element reads to the end of the element that start begins, at a depth.
func (r *reader) element(start xml.StartElement, depth int) (*element, error) {
	if r.elements++; r.elements > maxElements {
		return nil, errElements
	}
	if depth > maxDepth {
		return nil, errDepth
	}
	attrs, err := attributes(start)
	if err != nil {
		return nil, err
	}
	e := &element{space: start.Name.Space, name: start.Name.Local, attrs: attrs}
	return e, r.fill(e, depth)
}

// fill reads what an element has, to its end.
func (r *reader) fill(e *element, depth int) error {
	var text strings.Builder
	for {
		token, err := r.tokens.Token()
		switch t := token.(type) {
		case nil:
			return err
		case xml.CharData:
			text.Write(t)
		case xml.Directive:
			return errType
		case xml.EndElement:
			e.text = text.String()
			return nil
		case xml.StartElement:
			child, err := r.element(t, depth+1)
			if err != nil {
				return err
			}
			if err := e.add(child); err != nil {
				return err
			}
		}
	}
}

// add puts a child in, unless it is there and may be there once only.
func (e *element) add(child *element) error {
	if e.child(child.name) != nil && child.space == "" && !slices.Contains(repeated, child.name) {
		return errors.New("element <" + child.name + "> is in <" + e.name + "> twice")
	}
	e.children = append(e.children, child)
	return nil
}

// attributes are those of a start tag by their names. XML allows none twice, which the
// decoder does not look for.
func attributes(start xml.StartElement) (map[string]string, error) {
	if len(start.Attr) > maxAttributes {
		return nil, errAttrs
	}
	attrs := make(map[string]string, len(start.Attr))
	for _, a := range start.Attr {
		if a.Name.Space != "" || a.Name.Local == "xmlns" {
			continue
		}
		if _, twice := attrs[a.Name.Local]; twice {
			return nil, errors.New("attribute " + a.Name.Local + " of <" + start.Name.Local + "> is there twice")
		}
		attrs[a.Name.Local] = a.Value
	}
	return attrs, nil
}

// child is the first that has that name.
func (e *element) child(name string) *element { return e.childOf("", name) }

// childOf is the first that has that name of a name space.
func (e *element) childOf(space, name string) *element {
	if e == nil {
		return nil
	}
	for _, c := range e.children {
		if c.space == space && c.name == name {
			return c
		}
	}
	return nil
}

// all are those of that name.
func (e *element) all(name string) (all []*element) {
	if e == nil {
		return nil
	}
	for _, c := range e.children {
		if c.name == name {
			all = append(all, c)
		}
	}
	return all
}

// attr is the value of an attribute, "" without.
func (e *element) attr(name string) string {
	if e == nil {
		return ""
	}
	return e.attrs[name]
}

// of is the text of a child, "" without.
func (e *element) of(name string) string {
	if c := e.child(name); c != nil {
		return c.text
	}
	return ""
}
