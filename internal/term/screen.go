package term

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	xterm "golang.org/x/term"

	"golang.org/x/sys/unix"
)

// Screen is a terminal that a program has for itself: it draws all of it and gets
// every key. Close gives back what was there before.
type Screen struct {
	in     *os.File
	w      *Writer
	out    Output       // by way of w
	before *xterm.State // nil while the terminal is not ours
	keys   chan Key     // closed by read

	mu    sync.Mutex
	modes string // what takes or gives the terminal, if it is not written yet
	frame string // what is shown then, if it is not written yet: one takes the other's place

	closing chan struct{} // closed by Close, which ends tell
	wake    *os.File      // closed by Close, which ends poll: awoken is its other end
	awoken  *os.File
	ended   chan struct{} // closed by read
}

// Key is what was typed: a character, or the name of another key.
type Key string

// Keys that are no characters.
const (
	KeyUp        Key = "up"
	KeyDown      Key = "down"
	KeyPageUp    Key = "page up"
	KeyPageDown  Key = "page down"
	KeyHome      Key = "home"
	KeyEnd       Key = "end"
	KeyEnter     Key = "enter"
	KeyEscape    Key = "escape"
	KeyBackspace Key = "backspace"
	KeyInterrupt Key = "ctrl-c"
	KeyQuit      Key = "ctrl-\\"
	KeySuspend   Key = "ctrl-z"
	KeyRedraw    Key = "ctrl-l"
	KeyClear     Key = "ctrl-u"
)

// Line is a line of a screen.
type Line struct {
	Text  string
	Style Colour // 0 is plain
}

// How a screen is taken and given back: the other buffer of the terminal, without
// cursor, and what is too long for a line does not go on in the next one.
const (
	takeScreen = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J"
	giveScreen = "\x1b[?7h\x1b[?25h\x1b[?1049l"
)

var _ source = (*Screen)(nil)

// OpenScreen takes the terminal that in and out are.
func OpenScreen(in *os.File, out *Writer) (*Screen, error) {
	awoken, wake, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("cannot read keys: %w", err)
	}
	s := &Screen{in: in, w: out, out: out.Output(), keys: make(chan Key), closing: make(chan struct{}), wake: wake, awoken: awoken, ended: make(chan struct{})}
	if err := s.take(); err != nil {
		_ = wake.Close()
		_ = awoken.Close()
		return nil, err
	}
	go s.read()
	return s, nil
}

// take makes the terminal ours.
func (s *Screen) take() error {
	before, err := xterm.MakeRaw(int(s.in.Fd()))
	if err != nil {
		return fmt.Errorf("cannot take the terminal: %w", err)
	}
	s.before = before
	s.show(func() { s.modes, s.frame = takeScreen, "" })
	return nil
}

// give makes the terminal what it was: of one that takes nothing at least the modes.
func (s *Screen) give() {
	if s.before == nil {
		return
	}
	s.show(func() { s.modes, s.frame = s.modes+giveScreen, "" })
	s.w.settle()
	_ = xterm.Restore(int(s.in.Fd()), s.before) // a terminal that is gone needs nothing
	s.before = nil
}

// Close gives the terminal back. Nobody waits long for that any more.
func (s *Screen) Close() {
	s.w.Hurry()
	s.give()
	close(s.closing)
	_ = s.wake.Close()
	<-s.ended
	_ = s.awoken.Close()
}

// Suspend gives the terminal back and stops the program, as Ctrl-Z does, until it is
// let go on.
func (s *Screen) Suspend() error {
	s.give()
	if err := suspend(); err != nil {
		return err
	}
	return s.take()
}

// Retake takes the terminal again for a program that was stopped and goes on: whoever
// had it meanwhile may have changed it.
func (s *Screen) Retake() {
	_, _ = xterm.MakeRaw(int(s.in.Fd())) // that it is gone is learned from its keys
	s.show(func() { s.modes, s.frame = takeScreen, "" })
}

// Keys gives what is typed. It is closed when the terminal is gone.
func (s *Screen) Keys() <-chan Key { return s.keys }

// Size is that of the terminal now.
func (s *Screen) Size() (width, height int) { return s.out.Width(), s.out.Height() }

// Draw shows lines from the top on, as far as there is room, and nothing else. Their
// texts are escaped and cut here.
func (s *Screen) Draw(lines []Line) {
	width, height := s.Size()
	var b strings.Builder
	b.WriteString("\x1b[H")
	for i, l := range lines[:min(len(lines), height)] {
		if i > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString(s.out.line(l, width) + "\x1b[K")
	}
	b.WriteString("\x1b[J")
	s.show(func() { s.frame = b.String() })
}

// line gives a line as it is written. One that is shown reversed is so to its end.
func (o Output) line(l Line, width int) string {
	text := cut(Escape(l.Text), width)
	switch l.Style {
	case 0:
		return text
	case Bold:
		return fmt.Sprintf("\x1b[%dm%s\x1b[0m", l.Style, text)
	case Reverse:
		return fmt.Sprintf("\x1b[%dm%s%s\x1b[0m", l.Style, text, strings.Repeat(" ", max(width-Width(text), 0)))
	}
	return o.Paint(l.Style, text)
}

// show changes what is to be written, and has it written. That the terminal is gone is
// learned from its keys.
func (s *Screen) show(change func()) {
	s.mu.Lock()
	change()
	s.mu.Unlock()
	s.w.later(s)
}

// next is what is not written yet.
func (s *Screen) next() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := s.modes + s.frame
	s.modes, s.frame = "", ""
	return text
}

// escapePatience is how long the rest of a key's bytes may be behind its first one,
// which by itself is the key Escape.
const escapePatience = 50 * time.Millisecond

// read reads keys until Close, or until the terminal is gone.
func (s *Screen) read() {
	defer close(s.ended)
	defer close(s.keys)
	var rest []byte
	for buf := make([]byte, 256); ; {
		n, err := s.readSome(buf, len(rest) > 0)
		if err != nil {
			return
		}
		var keys []Key
		keys, rest = keysOf(append(rest, buf[:n]...), n == 0)
		for _, k := range keys {
			if !s.tell(k) {
				return
			}
		}
	}
}

// tell reports whether somebody took the key before Close.
func (s *Screen) tell(k Key) bool {
	select {
	case s.keys <- k:
		return true
	case <-s.closing:
		return false
	}
}

// readSome reads what was typed. Where more of a key is awaited, which may not come, it
// gives nothing after a while.
func (s *Screen) readSome(buf []byte, awaited bool) (int, error) {
	patience := -1
	if awaited {
		patience = int(escapePatience.Milliseconds())
	}
	ready, err := s.poll(patience, s.awoken, s.in)
	switch {
	case err != nil:
		return 0, err
	case ready[0]:
		return 0, os.ErrClosed
	case !ready[1]:
		return 0, nil
	}
	n, err := unix.Read(int(s.in.Fd()), buf)
	if err == nil && n == 0 {
		err = os.ErrClosed
	}
	return max(n, 0), err
}

// poll reports which of files have something to read, or have come to their end.
func (s *Screen) poll(patienceMS int, files ...*os.File) (ready []bool, err error) {
	fds := make([]unix.PollFd, len(files))
	for i, f := range files {
		fds[i] = unix.PollFd{Fd: int32(f.Fd()), Events: unix.POLLIN}
	}
	for {
		_, err = unix.Poll(fds, patienceMS)
		if err != unix.EINTR {
			break
		}
	}
	for _, fd := range fds {
		ready = append(ready, fd.Revents != 0)
	}
	return ready, err
}

// sequences are the keys whose bytes begin with Escape, as terminals send them.
var sequences = map[string]Key{
	"[A": KeyUp, "[B": KeyDown, "[H": KeyHome, "[F": KeyEnd, "OA": KeyUp, "OB": KeyDown, "OH": KeyHome, "OF": KeyEnd,
	"[1~": KeyHome, "[4~": KeyEnd, "[7~": KeyHome, "[8~": KeyEnd, "[5~": KeyPageUp, "[6~": KeyPageDown,
}

// controls are the keys of a single byte that is no character.
var controls = map[byte]Key{
	'\r': KeyEnter, '\n': KeyEnter, 0x7f: KeyBackspace, 0x08: KeyBackspace, 0x03: KeyInterrupt, 0x1c: KeyQuit, 0x1a: KeySuspend, 0x0c: KeyRedraw, 0x15: KeyClear,
}

// keysOf takes bytes that were typed apart; of a key that is not complete yet the
// bytes are left, unless there will be no more. Unknown keys are left out.
func keysOf(typed []byte, all bool) (keys []Key, rest []byte) {
	for len(typed) > 0 {
		k, n := keyOf(typed)
		if n == 0 && !all {
			return keys, typed
		}
		if n == 0 { // cut short
			k, n = controls[typed[0]], 1
			if typed[0] == 0x1b {
				k = KeyEscape
			}
		}
		if k != "" {
			keys = append(keys, k)
		}
		typed = typed[n:]
	}
	return keys, nil
}

// keyOf gives the first key and the number of its bytes, 0 where some are missing.
func keyOf(typed []byte) (Key, int) {
	if typed[0] == 0x1b {
		return sequence(typed)
	}
	if k, ok := controls[typed[0]]; ok || typed[0] < ' ' {
		return k, 1
	}
	if !utf8.FullRune(typed) {
		return "", 0
	}
	r, n := utf8.DecodeRune(typed)
	if r == utf8.RuneError || !unicode.IsPrint(r) {
		return "", n
	}
	return Key(string(r)), n
}

// longestSequence is more than the bytes of any key.
const longestSequence = 32

// sequence is keyOf for what begins with Escape: ESC O and a letter, or ESC [,
// parameters, and a letter or a tilde.
func sequence(typed []byte) (Key, int) {
	switch {
	case len(typed) == 1:
		return "", 0
	case typed[1] != '[' && typed[1] != 'O':
		return KeyEscape, 1
	}
	for i := 2; i < len(typed); i++ {
		if c := typed[i]; c >= 0x40 && c <= 0x7e {
			return sequences[string(typed[1:i+1])], i + 1
		}
	}
	if len(typed) > longestSequence {
		return "", len(typed)
	}
	return "", 0
}
