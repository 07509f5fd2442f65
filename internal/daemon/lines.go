package daemon

import (
	"fmt"
	"strings"
)

// keyLines says on which line of a text of TOML each key and each table stands, the first
// being 1. The text has been parsed: what is wrong with it is not looked for. Keys are
// written with dots, as notify[1].url in the second of several tables; what stands in
// braces or brackets has the line of its key.
func keyLines(text string) map[string]int {
	s := &keyScanner{rest: text, line: 1, lines: map[string]int{}, counts: map[string]int{}}
	table := ""
	for s.blank(); s.rest != ""; s.blank() {
		line := s.line
		switch {
		case strings.HasPrefix(s.rest, "[["):
			s.skip(2)
			table = s.next(s.path("", s.key()))
			s.skip(2)
			s.lines[table] = line
		case s.rest[0] == '[':
			s.skip(1)
			table = s.path("", s.key())
			s.skip(1)
			s.lines[table] = line
		default:
			s.lines[s.path(table, s.key())] = line
			s.skip(1) // =
			s.value()
		}
	}
	return s.lines
}

// keyScanner walks through a text.
type keyScanner struct {
	rest   string
	line   int
	lines  map[string]int
	counts map[string]int // how many tables a list of them has by now
}

// skip goes on behind n bytes.
func (s *keyScanner) skip(n int) {
	n = min(n, len(s.rest))
	s.line += strings.Count(s.rest[:n], "\n")
	s.rest = s.rest[n:]
}

// blank goes on at what is neither blank nor a comment.
func (s *keyScanner) blank() {
	for s.rest != "" {
		switch s.rest[0] {
		case ' ', '\t', '\r', '\n':
			s.skip(1)
		case '#':
			s.comment()
		default:
			return
		}
	}
}

// comment goes on at the end of the line.
func (s *keyScanner) comment() { s.skip(len(s.rest[:lineEnd(s.rest)])) }

func lineEnd(text string) int {
	if i := strings.IndexByte(text, '\n'); i >= 0 {
		return i
	}
	return len(text)
}

// key reads the parts of a key, and goes on at what follows.
func (s *keyScanner) key() (parts []string) {
	for {
		s.blank()
		if s.rest == "" {
			return parts
		}
		if quote := s.rest[0]; quote == '"' || quote == '\'' {
			before := s.rest
			s.text()
			parts = append(parts, strings.Trim(before[:len(before)-len(s.rest)], string(quote)))
		} else {
			n := strings.IndexAny(s.rest, " \t\r\n.=]")
			if n < 0 {
				n = len(s.rest)
			}
			parts = append(parts, s.rest[:n])
			s.skip(n)
		}
		if s.blank(); !strings.HasPrefix(s.rest, ".") {
			return parts
		}
		s.skip(1)
	}
}

// path is a key below a table; of a list of tables it is about the last one.
func (s *keyScanner) path(table string, key []string) string {
	at := table
	for i, part := range key {
		if at != "" {
			at += "."
		}
		at += part
		if n := s.counts[at]; n > 0 && (i < len(key)-1) {
			at = fmt.Sprintf("%s[%d]", at, n-1)
		}
	}
	return at
}

// next begins another table of a list.
func (s *keyScanner) next(list string) string {
	s.counts[list]++
	return fmt.Sprintf("%s[%d]", list, s.counts[list]-1)
}

// value goes on behind a value.
func (s *keyScanner) value() {
	for depth := 0; s.rest != ""; {
		switch c := s.rest[0]; {
		case c == '"' || c == '\'':
			s.text()
			continue
		case c == '#':
			s.comment()
			continue
		case c == '[' || c == '{':
			depth++
		case c == ']' || c == '}':
			depth--
		case c == '\n' && depth == 0:
			return
		}
		s.skip(1)
	}
}

// text goes on behind a text in quotes, of one or of several lines.
func (s *keyScanner) text() {
	quote := s.rest[:1]
	if long := strings.Repeat(quote, 3); strings.HasPrefix(s.rest, long) {
		quote = long
	}
	s.skip(len(quote))
	for s.rest != "" && !strings.HasPrefix(s.rest, quote) {
		if s.rest[0] == '\\' && quote[0] == '"' {
			s.skip(1)
		}
		s.skip(1)
	}
	s.skip(len(quote))
	for len(quote) == 3 && strings.HasPrefix(s.rest, quote[:1]) { // of those that end it the first may be its own
		s.skip(1)
	}
}
