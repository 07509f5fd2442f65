package tool

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
)

const (
	// maxSaid is how much is kept of what a program said first, and of what it said last,
	// bytes.
	maxSaid = 2 << 10
	// maxLines and maxShown bound what of it comes into an error: an error is read as a
	// sentence.
	maxLines = 4
	maxShown = 600 // bytes
)

// saying keeps the beginning and the end of what is written to it. It is safe for
// concurrent use.
type saying struct {
	mu          sync.Mutex
	first, last []byte
	cut         bool // between them
}

func (s *saying) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := min(len(b), maxSaid-len(s.first))
	s.first = append(s.first, b[:n]...)
	rest := b[n:]
	s.last = append(s.last, rest[max(0, len(rest)-maxSaid):]...)
	if over := len(s.last) - maxSaid; over > 0 {
		s.last = append(s.last[:0], s.last[over:]...)
		s.cut = true
	}
	return len(b), nil
}

// lineEnd is between lines that are shown as one.
const lineEnd = "; "

// String is it as one line, as it was written.
func (s *saying) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	between := ""
	if s.cut {
		between = "\n…"
	}
	text := string(s.first) + between + string(s.last)
	return strings.TrimSpace(strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' }), lineEnd))
}

// brief is what counts of what a program said: not how it is used, which some say of every
// mistake, and of many lines the first and the last ones.
func brief(said string) string {
	lines := strings.Split(said, lineEnd)
	for i, line := range lines {
		if word := strings.ToLower(strings.TrimSpace(line)); i > 0 && strings.HasPrefix(word, "usage:") {
			lines = lines[:i]
			break
		}
	}
	if over := len(lines) - maxLines; over > 0 {
		half := maxLines / 2
		lines = append(append(lines[:half:half], "…"), lines[half+over:]...)
	}
	text := strings.Join(lines, lineEnd)
	if len(text) > maxShown {
		return text[:maxShown] + "…"
	}
	return text
}

// escape makes text of a program safe to show, and no longer than maxSaid bytes
// before it is escaped.
func escape(text string) string {
	q := strconv.Quote(strings.TrimSpace(text[:min(len(text), maxSaid)]))
	return strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`)
}

// output keeps all that is written to it, and fails beyond a bound. That ends the
// program, which finds its pipe closed.
type output struct {
	kept []byte
	most int
	over error
}

func (o *output) Write(b []byte) (int, error) {
	if len(o.kept)+len(b) > o.most {
		o.over = fmt.Errorf("it says more than %d bytes", o.most)
		return 0, o.over
	}
	o.kept = append(o.kept, b...)
	return len(b), nil
}
