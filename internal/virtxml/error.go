package virtxml

import "fmt"

// Class is the kind of a refusal, as libvirt tells them apart (virterror.h).
type Class string

// The classes of refusals.
const (
	NotXML      Class = "not xml"     // it cannot be read at all: XML_DETAIL
	Shape       Class = "shape"       // its root, or a value of a fixed set: XML_ERROR of the XML parser
	Wrong       Class = "wrong"       // something is missing or malformed: XML_ERROR of the storage driver
	Unsupported Class = "unsupported" // CONFIG_UNSUPPORTED
	Argument    Class = "argument"    // INVALID_ARG of the storage driver
	Unit        Class = "unit"        // INVALID_ARG of nobody in particular
	Overflow    Class = "overflow"    // OVERFLOW
	Impossible  Class = "impossible"  // NO_SUPPORT
	Invalid     Class = "invalid"     // OPERATION_INVALID
)

// Error is why a document is refused. Text is libvirt's, without the words that it puts
// before all texts of a class.
type Error struct {
	Class Class
	Text  string
}

func (e *Error) Error() string { return e.Text }

func refuse(c Class, format string, args ...any) *Error {
	return &Error{Class: c, Text: fmt.Sprintf(format, args...)}
}
