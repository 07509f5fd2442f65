package record

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Quoted names a volume in a sentence.
func Quoted(pool, volume string) string { return fmt.Sprintf("\"%s/%s\"", pool, volume) }

// List names at most n things in a sentence, and how many more there are.
func List(names []string, n int) string {
	quoted := make([]string, min(len(names), n))
	for i := range quoted {
		quoted[i] = strconv.Quote(names[i])
	}
	text := strings.Join(quoted, ", ")
	if more := len(names) - n; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// Plural counts things in a sentence.
func Plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// OneOf refuses a word that is not among those of a field.
func OneOf[T ~string](field string, v T, words ...T) error {
	if slices.Contains(words, v) {
		return nil
	}
	var list []string
	for _, w := range words {
		if w != "" {
			list = append(list, string(w))
		}
	}
	return Errorf(Invalid, "field %q is %s, not one of %s", field, Short(string(v)), strings.Join(list, ", "))
}

// Short quotes hostile text for messages and logs.
func Short(s string) string {
	const most = 120
	if len(s) > most {
		return strconv.Quote(s[:most]) + "…"
	}
	return strconv.Quote(s)
}
