package term

import (
	"io"
	"os"
	"slices"
	"sync"
	"time"
)

// leavePatience is how long who is leaving waits for a terminal to take what is left to
// say: a far one needs less, and one that is stopped may never.
const leavePatience = time.Second

// Writer writes to a terminal, which takes nothing while it is stopped (Ctrl-S) or its
// window hangs. A goroutine of the Writer's, which lasts while there is something to write,
// is the only one that waits for the terminal as long as it likes: whoever draws never
// does, and whoever writes no longer than until Hurry. It may be used by several goroutines.
type Writer struct {
	file    *os.File
	hurry   sync.Once
	hurried chan struct{} // closed by Hurry

	mu    sync.Mutex
	queue []source
	idle  chan struct{} // closed by run when all is written; nil while nothing is to be
	stuck bool          // somebody has waited for leavePatience, and nothing was taken since
	err   error         // of the last write
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
// longer than leavePatience.
func (w *Writer) Hurry() { w.hurry.Do(func() { close(w.hurried) }) }

// Write waits until p is written, by the rules of Flush. That it was not is no error.
func (w *Writer) Write(p []byte) (int, error) {
	w.later(&words{string(p)})
	w.Flush()
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(p), w.err
}

// words are a source of what is to be written as it is.
type words struct{ text string }

func (t *words) next() string { return t.text }

// Flush waits until all is written, or until Hurry and leavePatience after it.
func (w *Writer) Flush() {
	w.mu.Lock()
	idle := w.idle
	w.mu.Unlock()
	if idle == nil {
		return
	}
	select {
	case <-idle:
	case <-w.hurried:
		w.settle()
	}
}

// settle waits until all is written, for leavePatience at most, and not at all where that
// was in vain already.
func (w *Writer) settle() {
	w.mu.Lock()
	idle, stuck := w.idle, w.stuck
	w.mu.Unlock()
	if idle == nil || stuck {
		return
	}
	patience := time.NewTimer(leavePatience)
	defer patience.Stop()
	select {
	case <-idle:
	case <-patience.C:
		w.mu.Lock()
		w.stuck = w.idle != nil
		w.mu.Unlock()
	}
}

// later has s asked when the terminal has taken what came before.
func (w *Writer) later(s source) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Contains(w.queue, s) {
		w.queue = append(w.queue, s)
	}
	if w.idle == nil {
		w.idle = make(chan struct{})
		go w.run()
	}
}

// run writes until there is nothing left.
func (w *Writer) run() {
	for s := w.first(); s != nil; s = w.first() {
		text := s.next()
		if text == "" {
			continue
		}
		_, err := io.WriteString(w.file, text)
		w.mu.Lock()
		w.err, w.stuck = err, false
		w.mu.Unlock()
	}
}

// first takes the first source, nil where all is written.
func (w *Writer) first() source {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.queue) == 0 {
		close(w.idle)
		w.idle, w.stuck = nil, false
		return nil
	}
	s := w.queue[0]
	w.queue = w.queue[1:]
	return s
}
