package sparse

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

// unpack reads a stream into a content, which is at most limit long.
func unpack(r io.Reader, limit int64) ([]byte, error) {
	in := NewReader(r)
	var out []byte
	for {
		n, hole, err := in.Next()
		switch {
		case err == io.EOF:
			return out, nil
		case err != nil:
			return out, err
		case int64(len(out))+n > limit:
			return out, errors.New("too long")
		case hole:
			out = append(out, make([]byte, n)...)
			continue
		}
		data, err := io.ReadAll(in)
		if err != nil {
			return out, err
		}
		if int64(len(data)) != n {
			panic("the extent is not as long as it said")
		}
		out = append(out, data...)
	}
}

// pack draws a content and gives it with its stream.
func pack(t *rapid.T) (content, stream []byte) {
	var b bytes.Buffer
	w := NewWriter(&b)
	for range rapid.IntRange(0, 8).Draw(t, "extents") {
		n := rapid.IntRange(1, 300).Draw(t, "length")
		part := make([]byte, n)
		if rapid.Bool().Draw(t, "hole") {
			if err := w.Hole(int64(n)); err != nil {
				t.Fatal(err)
			}
		} else {
			part = rapid.SliceOfN(rapid.Byte(), n, n).Draw(t, "data")
			if _, err := w.Write(part); err != nil {
				t.Fatal(err)
			}
		}
		content = append(content, part...)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return content, b.Bytes()
}

func TestContentComesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		content, stream := pack(t)
		got, err := unpack(iotest.OneByteReader(bytes.NewReader(stream)), MaxLength)
		if err != nil || !bytes.Equal(got, content) {
			t.Fatalf("%d bytes (%v), want %d", len(got), err, len(content))
		}
	})
}

func TestEveryCutIsTorn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		_, stream := pack(t)
		cut := rapid.IntRange(0, len(stream)-1).Draw(t, "cut")
		if _, err := unpack(bytes.NewReader(stream[:cut]), MaxLength); !errors.Is(err, ErrTorn) {
			t.Fatalf("cut at %d of %d: %v", cut, len(stream), err)
		}
	})
}

func TestEveryChangedByteIsFound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		_, stream := pack(t)
		bad := bytes.Clone(stream)
		bad[rapid.IntRange(0, len(bad)-1).Draw(t, "at")] ^= byte(1 << rapid.IntRange(0, 7).Draw(t, "bit"))
		if _, err := unpack(bytes.NewReader(bad), 1<<20); err == nil {
			t.Fatal("a changed stream was taken for whole")
		}
	})
}

func TestHostileStreams(t *testing.T) {
	frame := func(kind byte, length ...byte) []byte {
		return append([]byte{kind}, append(make([]byte, 8-len(length)), length...)...)
	}
	for name, stream := range map[string][]byte{
		"other magic":   []byte("\x89PNG\r\n\x1a\n then something"),
		"newer version": []byte(magic[:7] + "\x02 then something"),
		"unknown kind":  append([]byte(magic), frame('X', 1)...),
		"no length":     append([]byte(magic), frame(kindData)...),
		"huge":          append([]byte(magic), kindHole, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff),
		"overflow": append(append([]byte(magic), kindHole, 0x3f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff),
			frame(kindHole, 2)...),
		"wrong length at the end": append(append([]byte(magic), frame(kindEnd, 9)...), 0, 0, 0, 0),
	} {
		in := NewReader(bytes.NewReader(stream))
		var err error
		for err == nil {
			_, _, err = in.Next()
		}
		if !errors.Is(err, ErrForm) {
			t.Errorf("%s: %v", name, err)
		}
		if _, _, again := in.Next(); again != err {
			t.Errorf("%s: then %v", name, again)
		}
	}
	var b bytes.Buffer
	if err := NewWriter(&b).Close(); err != nil {
		t.Fatal(err)
	}
	b.WriteByte(0)
	if _, err := unpack(&b, 10); !errors.Is(err, ErrForm) {
		t.Errorf("something behind the end: %v", err)
	}
}

// What is not read of an extent is passed over, and checked all the same.
func TestDataMayBePassedOver(t *testing.T) {
	var b bytes.Buffer
	w := NewWriter(&b)
	for range 3 {
		if _, err := w.Write(bytes.Repeat([]byte("x"), 10_000)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	in := NewReader(&b)
	for n := 0; ; n++ {
		_, _, err := in.Next()
		if err == io.EOF && n == 3 {
			return
		}
		if err != nil {
			t.Fatal(n, err)
		}
	}
}

func TestErrorsOfTheReaderBelowAreKept(t *testing.T) {
	broken := errors.New("broken")
	in := NewReader(io.MultiReader(bytes.NewReader([]byte(magic+"D\x00\x00\x00\x00\x00\x00\x00\x05ab")), iotest.ErrReader(broken)))
	if _, _, err := in.Next(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(in); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
}

func FuzzReader(f *testing.F) {
	var b bytes.Buffer
	w := NewWriter(&b)
	_, err := w.Write([]byte("data"))
	if err = errors.Join(err, w.Hole(5), w.Close()); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, stream []byte) {
		content, err := unpack(bytes.NewReader(stream), 1<<20)
		if err != nil {
			return
		}
		if len(stream) < len(magic)+headBytes+checkBytes {
			t.Fatalf("%d bytes gave a content of %d", len(stream), len(content))
		}
	})
}

// Who sends a plain file in this form is told that it need not be.
func TestAPlainContentIsSaidToGoWithoutTheForm(t *testing.T) {
	_, err := unpack(strings.NewReader(strings.Repeat("plain", 1000)), 1<<20)
	if !errors.Is(err, ErrForm) || !strings.Contains(err.Error(), "without 'sparse'") {
		t.Error(err)
	}
}
