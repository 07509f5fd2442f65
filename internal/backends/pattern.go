package backends

import (
	"regexp"
	"sync"
)

// Pattern is a regular expression of a driver, compiled when it is first asked for: a helper
// that works with one type of pool has no use for those of the others, and compiling them
// takes longer than to make a volume. It panics then where the text is none.
func Pattern(text string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(text) })
}
