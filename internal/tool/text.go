package tool

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
)

// maxSaid is how much of what a program said last comes into an error, bytes.
const maxSaid = 2 << 10

// tail keeps the end of what is written to it. It is safe for concurrent use.
type tail struct {
	mu   sync.Mutex
	kept []byte
	cut  bool
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, b[max(0, len(b)-maxSaid):]...)
	if over := len(t.kept) - maxSaid; over > 0 {
		t.kept = append(t.kept[:0], t.kept[over:]...)
		t.cut = true
	}
	return len(b), nil
}

// String is it as one line, as it was written.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	said := strings.TrimSpace(strings.Join(strings.FieldsFunc(string(t.kept), func(r rune) bool { return r == '\n' || r == '\r' }), "; "))
	if t.cut {
		return "…" + said
	}
	return said
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
