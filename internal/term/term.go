// Package term is what our programs show to people: a progress display, a
// table, a question. Writer and clock are given, so that everything but
// the detection of a terminal works without one. It imports nothing of ours.
package term

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	xterm "golang.org/x/term"
)

// The size that is taken where a terminal does not say how large it is.
const (
	defaultWidth  = 80
	defaultHeight = 24
)

// Output is where and how something is shown.
type Output struct {
	W        io.Writer
	Terminal bool       // lines can be redrawn
	Color    bool       // and coloured
	Width    func() int // columns of the terminal now
	Height   func() int // and its lines; nil: as many as most have
	Now      func() time.Time
}

// NewOutput looks at f. A terminal that calls itself dumb counts as none, and
// NO_COLOR (no-color.org) is honoured.
func NewOutput(f *os.File) Output {
	tty := IsTerminal(f) && os.Getenv("TERM") != "dumb"
	return Output{
		W:        f,
		Terminal: tty,
		Color:    tty && os.Getenv("NO_COLOR") == "",
		Width:    func() int { w, _ := sizeOf(f); return w },
		Height:   func() int { _, h := sizeOf(f); return h },
		Now:      time.Now,
	}
}

func (o Output) height() int {
	if o.Height == nil {
		return defaultHeight
	}
	return o.Height()
}

// FileOf gives the file that a stream is, also by way of a Writer; nil: it is none.
func FileOf(stream any) *os.File {
	switch s := stream.(type) {
	case *os.File:
		return s
	case *Writer:
		return s.File()
	}
	return nil
}

// IsTerminal reports whether f is a terminal.
func IsTerminal(f *os.File) bool { return xterm.IsTerminal(int(f.Fd())) }

func sizeOf(f *os.File) (width, height int) {
	w, h, err := xterm.GetSize(int(f.Fd()))
	if err != nil || w <= 0 {
		w = defaultWidth
	}
	if err != nil || h <= 0 {
		h = defaultHeight
	}
	return w, h
}

// Colour is an SGR code.
type Colour int

const (
	Bold    Colour = 1
	Reverse Colour = 7
	Red     Colour = 31
	Green   Colour = 32
	Yellow  Colour = 33
)

// Paint colours s if the output has colours.
func (o Output) Paint(c Colour, s string) string {
	if !o.Color || s == "" {
		return s
	}
	return fmt.Sprintf("\x1b[%dm%s\x1b[0m", c, s)
}

// Escape makes text from elsewhere harmless on a terminal: control and
// bidirectional characters, other invisible ones and bytes that are no UTF-8
// are shown as Go escapes. The result is one line.
func Escape(s string) string {
	if utf8.ValidString(s) && !strings.ContainsFunc(s, unprintable) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case unprintable(r):
			b.WriteString(escapeRune(r))
		default:
			b.WriteRune(r)
		}
		s = s[n:]
	}
	return b.String()
}

// unprintable holds for everything that does not show as itself; unicode has
// the bidirectional and zero-width characters among the formats (Cf).
func unprintable(r rune) bool { return !unicode.IsPrint(r) }

func escapeRune(r rune) string {
	quoted := fmt.Sprintf("%+q", string(r))
	return quoted[1 : len(quoted)-1]
}

// Width is the number of columns that s takes on a terminal.
func Width(s string) int {
	n := 0
	for _, r := range s {
		n += runeWidth(r)
	}
	return n
}

func runeWidth(r rune) int {
	switch {
	case unicode.In(r, unicode.Mn, unicode.Me):
		return 0
	case unicode.In(r, wide):
		return 2
	}
	return 1
}

// wide holds the scripts and symbols that terminals draw two columns wide
// (East Asian Width W and F, in blocks).
var wide = &unicode.RangeTable{
	R16: []unicode.Range16{
		{0x1100, 0x115f, 1}, {0x2e80, 0x303e, 1}, {0x3041, 0xa4cf, 1}, {0xac00, 0xd7a3, 1},
		{0xf900, 0xfaff, 1}, {0xfe30, 0xfe6f, 1}, {0xff00, 0xff60, 1}, {0xffe0, 0xffe6, 1},
	},
	R32: []unicode.Range32{{0x1f300, 0x1f64f, 1}, {0x1f900, 0x1f9ff, 1}, {0x20000, 0x3fffd, 1}},
}

// cutMiddle is cut that leaves out of the middle: the end stays as much as the
// beginning.
func cutMiddle(s string, width int) string {
	if Width(s) <= width || width < 3 {
		return cut(s, width)
	}
	tail, n := len(s), 0
	for tail > 0 {
		r, size := utf8.DecodeLastRuneInString(s[:tail])
		if n += runeWidth(r); n > (width-1)/2 {
			break
		}
		tail -= size
	}
	for tail < len(s) { // no mark without its letter
		r, size := utf8.DecodeRuneInString(s[tail:])
		if runeWidth(r) > 0 {
			break
		}
		tail += size
	}
	return cut(s, width-Width(s[tail:])) + s[tail:]
}

// cut shortens s to at most width columns, with an ellipsis for what is left
// out.
func cut(s string, width int) string {
	if width <= 0 {
		return "" // not even a mark that takes no column
	}
	if Width(s) <= width {
		return s
	}
	n := 0
	for i, r := range s {
		if n += runeWidth(r); n > width-1 {
			return s[:i] + "…"
		}
	}
	return s
}
