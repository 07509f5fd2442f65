package term

import (
	"slices"
	"strings"
	"testing"

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
	s, err := OpenScreen(pty.Slave, pty.Slave)
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
