package virtxml

import (
	"fmt"
	"strings"
)

// writer writes elements as libvirt lays them out: two spaces for each level, single
// quotes, one element a line.
type writer struct {
	out    strings.Builder
	indent int
}

// attribute is one of an element.
type attribute struct{ name, value string }

func attr(name, value string) attribute { return attribute{name, value} }

// escaped replaces what has a meaning in XML, and drops control characters, which it
// cannot have at all.
func escaped(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' && !strings.ContainsRune("\t\n\r", r) {
			return -1
		}
		return r
	}, text)
	return escapes.Replace(text)
}

var escapes = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "'", "&apos;", `"`, "&quot;")

// line writes one, at the level that it is at.
func (w *writer) line(parts ...string) {
	w.out.WriteString(strings.Repeat("  ", w.indent))
	for _, p := range parts {
		w.out.WriteString(p)
	}
	w.out.WriteByte('\n')
}

// tag is the inside of a start tag.
func tag(name string, attrs []attribute) string {
	for _, a := range attrs {
		name += " " + a.name + "='" + escaped(a.value) + "'"
	}
	return name
}

// with writes an element that has others, which inside writes.
func (w *writer) with(name string, inside func(), attrs ...attribute) {
	w.line("<", tag(name, attrs), ">")
	w.indent++
	inside()
	w.indent--
	w.line("</", name, ">")
}

// text writes an element with a text, and nothing for "".
func (w *writer) text(name, text string, attrs ...attribute) {
	if text != "" {
		w.line("<", tag(name, attrs), ">", escaped(text), "</", name, ">")
	}
}

// number writes one with a number.
func (w *writer) number(name string, n int64, attrs ...attribute) {
	w.text(name, fmt.Sprint(n), attrs...)
}

// bytes writes one with a size.
func (w *writer) bytes(name string, n int64) { w.number(name, n, attr("unit", "bytes")) }

// empty writes one that has nothing but attributes.
func (w *writer) empty(name string, attrs ...attribute) { w.line("<", tag(name, attrs), "/>") }

// named writes one whose only attribute has a value, and nothing for "".
func (w *writer) named(name, attribute, value string) {
	if value != "" {
		w.empty(name, attr(attribute, value))
	}
}

func (w *writer) String() string { return w.out.String() }
