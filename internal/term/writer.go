package term

import (
	"cmp"
	"io"
	"os"
	"slices"
	"sync"
	"time"
)

// leavePatience is how long who is leaving waits for a terminal that takes nothing: a far
// one takes some bytes in less, and one that is stopped may never take any.
const leavePatience = time.Second

// pieceBytes is what a terminal is given at a time, so that it is seen to take them.
const pieceBytes = 1 << 10

// Writer writes to a terminal, which takes nothing while it is stopped (Ctrl-S) or its
// window hangs. A goroutine of the Writer's, which lasts while there is something to write,
// is the only one that waits for the terminal as long as it likes, at the end of the program
// too: whoever draws never does, and whoever writes no longer than until Hurry. It may be
// used by several goroutines.
type Writer struct {
	file    *os.File
	hurry   sync.Once
	hurried chan struct{} // closed by Hurry

	mu      sync.Mutex
	queue   []source
	running bool  // there is a goroutine
	taken   int64 // bytes, ever
	stuck   bool  // somebody has waited for leavePatience, and nothing was taken since
	err     error // the first of a write: a terminal that is gone stays away
}

// source has something to be written. What it is is asked when the terminal takes it, so
// that it is the newest.
type source interface {
	next() string // "" is nothing any more
}

// NewWriter makes a Writer to a terminal.
func NewWriter(file *os.File) *Writer { return &Writer{file: file, hurried: make(chan struct{})} }

// File is the terminal.
func (w *Writer) File() *os.File { return w.file }

// Output is the terminal as an output by way of w.
func (w *Writer) Output() Output {
	out := NewOutput(w.file)
	out.W = w
	return out
}

// Hurry says that the program was told to leave: from now on nobody waits for the terminal
// when it has taken nothing for leavePatience.
func (w *Writer) Hurry() { w.hurry.Do(func() { close(w.hurried) }) }

// Write waits until p is written, by the rules of Flush. That it was not is no error.
func (w *Writer) Write(p []byte) (int, error) {
	w.later(&words{string(p)})
	w.Flush()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return 0, w.err
	}
	return len(p), nil
}

// words are a source of what is to be written as it is.
type words struct{ text string }

func (t *words) next() string { return t.text }

// mark is a source of nothing: all that came before it is written when it is asked.
type mark struct{ reached chan struct{} }

func (m *mark) next() string {
	close(m.reached)
	return ""
}

// Flush waits until all is written that was to be by now; from Hurry on as long as the
// terminal takes it.
func (w *Writer) Flush() {
	m := &mark{make(chan struct{})}
	w.later(m)
	select {
	case <-m.reached:
	case <-w.hurried:
		w.await(m)
	}
}

// settle waits as Flush does after Hurry.
func (w *Writer) settle() {
	m := &mark{make(chan struct{})}
	w.later(m)
	w.await(m)
}

// await waits for a mark while the terminal takes something, and not at all where somebody
// has waited in vain already.
func (w *Writer) await(m *mark) {
	patience := time.NewTicker(leavePatience)
	defer patience.Stop()
	for before := w.progress(); before >= 0; {
		select {
		case <-m.reached:
			return
		case <-patience.C:
			before = w.after(before)
		}
	}
}

// progress is what the terminal has taken, bytes; -1 where it takes nothing.
func (w *Writer) progress() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stuck {
		return -1
	}
	return w.taken
}

// after is progress when leavePatience is over since it was before.
func (w *Writer) after(before int64) int64 {
	w.mu.Lock()
	w.stuck = w.running && w.taken == before
	w.mu.Unlock()
	return w.progress()
}

// later has s asked when the terminal has taken what came before.
func (w *Writer) later(s source) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Contains(w.queue, s) {
		w.queue = append(w.queue, s)
	}
	if !w.running {
		w.running = true
		go w.run()
	}
}

// run writes until there is nothing left.
func (w *Writer) run() {
	for s := w.first(); s != nil; s = w.first() {
		for text := s.next(); text != ""; {
			n, err := io.WriteString(w.file, text[:min(len(text), pieceBytes)])
			text = text[n:]
			w.wrote(n, err)
			if err != nil {
				break
			}
		}
	}
}

// wrote takes down what came of a write.
func (w *Writer) wrote(n int, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.taken += int64(n)
	w.stuck = w.stuck && n == 0
	w.err = cmp.Or(w.err, err)
}

// first takes the first source, nil where all is written.
func (w *Writer) first() source {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.queue) == 0 {
		w.running = false
		return nil
	}
	s := w.queue[0]
	w.queue = w.queue[1:]
	return s
}
