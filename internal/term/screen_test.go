package term

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"storaged/internal/term/ptytest"
)

// Keys come as bytes, of which one reading may end anywhere.
func TestKeysOfBytes(t *testing.T) {
	const typed = "a\x1b[A\x1bOB\x1b[5~é漢\x7f\r\x03\x1b[1;5C\x1b[200~z\x1bq\x00\xff"
	want := []Key{"a", KeyUp, KeyDown, KeyPageUp, "é", "漢", KeyBackspace, KeyEnter, KeyInterrupt, "z", KeyEscape, "q"}
	if got, rest := keysOf([]byte(typed), false); !slices.Equal(got, want) || len(rest) > 1 {
		t.Errorf("%q, and %q is left", got, rest)
	}
	for i := range typed {
		got, rest := keysOf([]byte(typed[:i]), false)
		more, _ := keysOf(append(rest, typed[i:]...), true)
		if got = append(got, more...); !slices.Equal(got, want) {
			t.Errorf("in two parts, %q first: %q", typed[:i], got)
		}
	}
	if got, rest := keysOf([]byte("\x1b"), true); !slices.Equal(got, []Key{KeyEscape}) || len(rest) > 0 {
		t.Errorf("%q, and %q is left", got, rest)
	}
}

func TestNoBytesAreKeysForEver(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		typed := rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")
		_, rest := keysOf(typed, false)
		if len(rest) > longestSequence+1 {
			t.Fatalf("%d bytes are kept", len(rest))
		}
		if _, rest := keysOf(typed, true); len(rest) > 0 {
			t.Fatalf("%q is left at the end", rest)
		}
	})
}

// A screen writes nothing that a terminal obeys but its own, and no line wraps.
func TestScreenDrawsTextAsText(t *testing.T) {
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "")
	pty := ptytest.Open(t, 20)
	pty.ResizeTo(20, 3)
	s, err := OpenScreen(pty.Slave, NewWriter(pty.Slave))
	if err != nil {
		t.Fatal(err)
	}
	s.Draw([]Line{{"\x1b]0;evil\x07", Bold}, {"a line that is far too long", Reverse}, {"last", Red}, {"no room", 0}})
	pty.Expect("\x1b[H\x1b[1m\\x1b]0;evil\\a\x1b[0m\x1b[K\r\n\x1b[7ma line that is far …\x1b[0m\x1b[K\r\n\x1b[31mlast\x1b[0m\x1b[K\x1b[J")
	pty.Type("x")
	if k := <-s.Keys(); k != "x" {
		t.Errorf("key %q", k)
	}
	s.Close()
	if all := pty.Shown(); strings.Contains(all, "no room") {
		t.Errorf("%q", all)
	}
	pty.Expect(giveScreen)
	if k, open := <-s.Keys(); open {
		t.Errorf("key %q after the end", k)
	}
}

// Who draws on a terminal that takes nothing is not held up; when it goes on it shows the
// newest frame, and no older one that it had not taken.
func TestScreenOfAStoppedTerminal(t *testing.T) {
	t.Setenv("TERM", "xterm")
	pty := ptytest.Open(t, 40)
	s, err := OpenScreen(pty.Slave, NewWriter(pty.Slave))
	if err != nil {
		t.Fatal(err)
	}
	s.Draw([]Line{{"first", 0}})
	pty.Expect("first")
	pty.Stop()
	for i := range 100 {
		s.Draw([]Line{{fmt.Sprintf("frame %d.", i), 0}})
	}
	pty.Go()
	pty.Expect("frame 99.")
	if n := strings.Count(pty.Shown(), "frame "); n > 2 { // one may have been under way
		t.Errorf("%d frames are shown", n)
	}
	pty.Stop()
	s.Draw(nil)
	s.Close()
	pty.Go()
	pty.Expect(giveScreen)
}

// So it is with bars, and no line that stays is left out.
func TestDisplayOfAStoppedTerminal(t *testing.T) {
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "1")
	pty := ptytest.Open(t, 80)
	w := NewWriter(pty.Slave)
	out := w.Output()
	now := time.Unix(1000, 0)
	out.Now = func() time.Time { return now }
	d := NewDisplay(out)
	d.Start(at(0))
	pty.Expect("0.0 %")
	pty.Stop()
	for i := range 99 {
		now = now.Add(redrawInterval)
		d.Update(at(float64(i)))
		if i%33 == 0 {
			d.Note(fmt.Sprintf("note %d.", i))
		}
	}
	pty.Go()
	for _, text := range []string{"note 0.", "note 33.", "note 66.", "98.0 %"} {
		pty.Expect(text)
	}
	if n := strings.Count(pty.Shown(), "98.0 %") + strings.Count(pty.Shown(), "50.0 %"); n > 1 {
		t.Errorf("%q", pty.Shown())
	}
	d.End("over")
	d.Flush()
	pty.Expect("over")
}

// Who was told to leave does not wait for a terminal that takes nothing, neither who is
// at it already.
func TestHurryFreesWhoWrites(t *testing.T) {
	pty := ptytest.Open(t, 80)
	pty.Hang()
	w := NewWriter(pty.Slave)
	written := make(chan error)
	go func() {
		_, err := w.Write([]byte("a word"))
		written <- err
	}()
	w.Hurry()
	if err := <-written; err != nil {
		t.Error(err)
	}
	w.Flush()
}
