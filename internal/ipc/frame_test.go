package ipc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/vmihailenco/msgpack/v5"
)

// frameOf wraps a raw body, true or hostile, into a frame.
func frameOf(t Type, body []byte) []byte {
	return rawFrame(append([]byte{0x94, 0xcc, byte(t), 1, 2}, body...))
}

func rawFrame(payload []byte) []byte {
	head := binary.BigEndian.AppendUint32(magic[:4:4], uint32(len(payload)))
	return append(head, payload...)
}

// unchecked encodes a message that Encode would refuse.
func unchecked(t testing.TB, m Message) []byte {
	t.Helper()
	var body bytes.Buffer
	if err := msgpack.NewEncoder(&body).Encode(m); err != nil {
		t.Fatal(err)
	}
	return frameOf(m.Type(), body.Bytes())
}

// stream is every frame of the FIFOs, one after the other.
func stream(t testing.TB) (data []byte, ends []int, messages []Message) {
	for _, m := range samples() {
		if m.Type() < 129 {
			data = append(data, mustEncode(t, m, MaxFrame)...)
			ends = append(ends, len(data))
			messages = append(messages, m)
		}
	}
	return data, ends, messages
}

// bombs are values that declare what is not there. The first three kill a
// process that hands them to msgpack (vmihailenco/msgpack#376, #401).
func bombs() map[string][]byte {
	return map[string][]byte{
		"array32":        {0xdd, 0xff, 0xff, 0xff, 0xff},
		"map32":          {0xdf, 0xff, 0xff, 0xff, 0xff},
		"bin32":          {0xc6, 0xff, 0xff, 0xff, 0xff},
		"str32":          {0xdb, 0xff, 0xff, 0xff, 0xff},
		"ext32":          {0xc9, 0xff, 0xff, 0xff, 0xff},
		"array16":        {0xdc, 0xff, 0xff},
		"map16":          {0xde, 0x80, 0x00},
		"ext of 16":      {0xd8, 1},
		"reserved byte":  {0xc1},
		"array in array": append(bytes.Repeat([]byte{0xdd, 0, 0, 0, 2}, 8), 0xdd, 0xff, 0xff, 0xff, 0xff),
		"deep nesting":   append(bytes.Repeat([]byte{0x91}, 4000), 0xc0),
		"many elements":  append([]byte{0xdc, 0x10, 0x01}, make([]byte, 4097)...),
	}
}

// bodyAround gives bodies that carry a bomb in every place a decoder looks at.
func bodyAround(bomb []byte) map[string][]byte {
	field := func(name string) []byte {
		return slices.Concat([]byte{0x81, 0xa0 | byte(len(name))}, []byte(name), bomb)
	}
	return map[string][]byte{
		"alone": bomb, "list": field("phases"), "text": field("text"), "number": field("done"), "struct": field("volume"),
		"list of texts": field("warnings"), "unknown field": field("surprise"), "key": append([]byte{0x81}, bomb...),
		"nested field": slices.Concat([]byte("\x81\xa6volume\x81\xa5error"), bomb),
	}
}

func TestBombsAreRefusedCheaply(t *testing.T) {
	for name, bomb := range bombs() {
		requireRefused(t, name+" as payload", rawFrame(bomb))
		requireRefused(t, name+" as head", rawFrame(append([]byte{0x94}, bomb...)))
		for place, body := range bodyAround(bomb) {
			for typ := range kinds {
				requireRefused(t, name+" as "+place+" of "+typ.String(), frameOf(typ, body))
			}
			requireRefused(t, name+" as "+place+" of an unknown type", frameOf(200, body))
		}
	}
	requireRefused(t, "length of 4 GiB", append(magic[:4:4], 0xff, 0xff, 0xff, 0xff))
	requireRefused(t, "length just too long", append(magic[:4:4], 0, 0, 0x0f, 0xf9))
	requireRefused(t, "no payload", rawFrame(nil))
}

// requireRefused also bounds what the refusal may allocate.
func requireRefused(t *testing.T, what string, b []byte) {
	t.Helper()
	const allowed = 64 << 10
	r := NewReader(bytes.NewReader(b), MaxRecord)
	if binary.BigEndian.Uint32(b[4:]) > MaxRecord {
		r = NewReader(bytes.NewReader(b), MaxFrame)
	}
	var err error
	used := allocated(func() { _, err = r.Next() })
	var perr *ProtocolError
	if !errors.As(err, &perr) && !errors.Is(err, ErrTorn) {
		t.Errorf("%s: %v", what, err)
	}
	if used > allowed {
		t.Errorf("%s: allocates %d bytes", what, used)
	}
}

// allocated measures the bytes do allocates.
func allocated(do func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// The costliest payload that the bounds let through asks for as many structs
// as there are bytes.
func TestMemoryStaysBoundedForWhatTheBoundsLetThrough(t *testing.T) {
	body := append([]byte("\x81\xa6phases\xdc\x0f\xd8"), bytes.Repeat([]byte{0xc0}, 0xfd8)...)
	var err error
	used := allocated(func() { _, err = readOne(frameOf(TypePlan, body)) })
	if err == nil || !strings.Contains(err.Error(), "4056 phases") {
		t.Errorf("error is %v", err)
	}
	if used > 1<<20 {
		t.Errorf("allocates %d bytes", used)
	}
}

func TestTheWalkerIsBoundedInDepthAndAllocatesNothing(t *testing.T) {
	for _, code := range []byte{0x91, 0x81} {
		deep := bytes.Repeat([]byte{code}, 4<<20) // kills the stack of msgpack
		if err := checkBounds(deep); err == nil || !strings.Contains(err.Error(), "deeper") {
			t.Errorf("%#x: %v", code, err)
		}
	}
	good := append(bytes.Repeat([]byte{0x91}, maxDepth), 0xc0)
	if err := checkBounds(good); err != nil {
		t.Errorf("depth %d: %v", maxDepth, err)
	}
	payload := mustEncode(t, samples()[1], MaxFrame)[headerLen:]
	if n := testing.AllocsPerRun(100, func() { _ = checkBounds(payload) }); n > 1 {
		t.Errorf("%v allocations for a good frame", n)
	}
}

func TestTheWalkerAgreesWithTheDecoderOnEveryCode(t *testing.T) {
	for c := range 256 {
		in := append([]byte{byte(c)}, make([]byte, 300)...)
		rest := bytes.NewReader(in)
		if err := msgpack.NewDecoder(rest).Skip(); err != nil {
			if c != 0xc1 && (c < 0xc7 || c > 0xc9) && (c < 0xd4 || c > 0xd8) { // it cannot skip ext
				t.Errorf("%#x: the decoder says %v", c, err)
			}
			continue
		}
		n := len(in) - rest.Len()
		if err := checkBounds(in[:n]); err != nil {
			t.Errorf("%#x: the decoder takes %d bytes, the walker says %v", c, n, err)
		}
		if err := checkBounds(in[:n-1]); err == nil {
			t.Errorf("%#x: the walker is content with less than the decoder takes", c)
		}
	}
}

func TestTruncationAtEveryByte(t *testing.T) {
	data, ends, messages := stream(t)
	for cut := range len(data) {
		whole := 0
		for whole < len(ends) && ends[whole] <= cut {
			whole++
		}
		r := NewReader(iotest.OneByteReader(bytes.NewReader(data[:cut])), MaxFrame)
		for i := range whole {
			if f, err := r.Next(); err != nil || !reflect.DeepEqual(f.Body, messages[i]) {
				t.Fatalf("cut at %d: frame %d is %+v, %v", cut, i, f, err)
			}
		}
		want := ErrTorn
		if cut == 0 || whole > 0 && ends[whole-1] == cut {
			want = io.EOF
		}
		if _, err := r.Next(); !errors.Is(err, want) {
			t.Fatalf("cut at %d: %v, want %v", cut, err, want)
		}
	}
}

func TestAnAdopterFindsTheFirstWholeFrameFromEveryByte(t *testing.T) {
	data, ends, messages := stream(t)
	for from := range len(data) {
		first, _ := slices.BinarySearch(ends, from)
		if from > 0 {
			first++
		}
		got, err := readAll(NewAdoptingReader(bytes.NewReader(data[from:]), MaxFrame))
		if err != nil && !errors.Is(err, ErrTorn) {
			t.Fatalf("from %d: %v", from, err)
		}
		if want := len(messages) - min(first, len(messages)); len(got) != want {
			t.Fatalf("from %d: %d frames, want %d", from, len(got), want)
		}
		if len(got) > 0 && !reflect.DeepEqual(got[0].Body, messages[first]) {
			t.Fatalf("from %d: first is %+v", from, got[0].Body)
		}
	}
}

func TestNoTextHoldsTheMagic(t *testing.T) {
	for before := range 256 { // a lead byte could make the first a continuation
		text := append([]byte{byte(before)}, magic[:]...)
		if checkUTF8("text", string(text), maxText) == nil {
			t.Errorf("%q passes for a text", text)
		}
	}
}

func TestAnAdopterIsNotFooledByAFrameInAText(t *testing.T) {
	forged := string(mustEncode(t, Result{Outcome: Succeeded, Digest: testDigest}, MaxFrame))
	text, _ := cutText("a volume named "+forged, maxLogText)
	data := mustEncode(t, Log{Level: "info", Text: text}, MaxFrame)
	data = append(data, mustEncode(t, Beat{}, MaxFrame)...)
	for from := 1; from < len(data); from++ {
		got, _ := readAll(NewAdoptingReader(bytes.NewReader(data[from:]), MaxFrame))
		if len(got) > 1 || len(got) == 1 && got[0].Body != (Beat{}) {
			t.Fatalf("from %d: %+v", from, got)
		}
	}
}

func TestAnAdopterPassesOverWhatOnlyLooksLikeAHeader(t *testing.T) {
	beat := mustEncode(t, Beat{}, MaxFrame)
	for name, lie := range map[string][]byte{
		"longer than what follows": append(magic[:4:4], 0, 0, 0x0f, 0),
		"too long":                 append(magic[:4:4], 0xff, 0, 0, 0),
		"no value inside":          rawFrame([]byte{0xc1, 0xc1}),
		"a bomb inside":            rawFrame(bombs()["array32"]),
		"out of bounds":            unchecked(t, Limit{Rate: -1}),
	} {
		got, err := readAll(NewAdoptingReader(bytes.NewReader(append(lie, beat...)), MaxFrame))
		if len(got) != 1 || err != nil {
			t.Errorf("%s: %d frames, %v", name, len(got), err)
		}
		if _, err := readOne(append(lie, beat...)); err == nil {
			t.Errorf("%s: accepted by a reader that is in step", name)
		}
	}
}

func TestGarbage(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		noise := make([]byte, rnd.IntN(3*MaxFrame))
		for i := range noise {
			noise[i] = byte(rnd.Uint32())
		}
		if got, err := readAll(NewReader(bytes.NewReader(noise), MaxFrame)); len(got) > 0 || len(noise) > 0 && err == nil {
			t.Fatalf("%d frames in noise, %v", len(got), err)
		}
		got, err := readAll(NewAdoptingReader(bytes.NewReader(append(noise, mustEncode(t, Beat{}, MaxFrame)...)), MaxFrame))
		if len(got) != 1 || err != nil {
			t.Fatalf("behind %d bytes of noise: %d frames, %v", len(noise), len(got), err)
		}
	}
}

func TestUnknownTypesArePassedOver(t *testing.T) {
	data := slices.Concat(frameOf(40, []byte{0xc0}), mustEncode(t, Beat{}, MaxFrame), frameOf(250, []byte("\x81\xa1a\x92\x01\x02")), mustEncode(t, Cancel{}, MaxFrame))
	for _, r := range []*Reader{NewReader(bytes.NewReader(data), MaxFrame), NewAdoptingReader(bytes.NewReader(data), MaxFrame)} {
		got, err := readAll(r)
		if err != nil || len(got) != 2 || got[0].Body != (Beat{}) || got[1].Body != (Cancel{}) || r.Unknown != 2 {
			t.Errorf("%+v, %v, %d unknown", got, err, r.Unknown)
		}
	}
}

func TestVersionSkew(t *testing.T) {
	for name, c := range map[string]struct {
		in   []byte
		want Message
	}{
		"a newer peer's fields": {frameOf(TypeLimit, []byte("\x83\xa3new\x81\xa1a\x92\xc0\xc3\xa4rate\x07\xa4more\xc4\x02ab")), Limit{Rate: 7}},
		"an older peer's body":  {frameOf(TypeProgress, []byte("\x81\xa4done\x07")), Progress{Done: 7}},
		"no field at all":       {frameOf(TypePhase, []byte{0x80}), Phase{}},
		"nil for a body":        {frameOf(TypeCancel, []byte{0xc0}), Cancel{}},
		"a longer frame":        {rawFrame(append([]byte{0x95, 67, 1, 2, 0x80}, "\xa5extra"...)), Pause{}},
		"wide numbers":          {rawFrame([]byte{0x94, 0xcf, 0, 0, 0, 0, 0, 0, 0, 68, 0xd3, 0, 0, 0, 0, 0, 0, 0, 1, 2, 0x80}), Resume{}},
	} {
		if f, err := readOne(c.in); err != nil || f.Body != c.want {
			t.Errorf("%s: %+v, %v", name, f, err)
		}
	}
}

func TestBadHeadsAreRefused(t *testing.T) {
	for name, payload := range map[string]string{
		"three elements":  "\x93\x05\x01\x02",
		"a map":           "\x84\x05\x01\x02\x80\x05\x01\x02\x80",
		"negative seq":    "\x94\x05\xff\x02\x80",
		"negative time":   "\x94\x05\x01\xd0\x80\x80",
		"type beyond 255": "\x94\xcd\x01\x00\x01\x02\x80",
		"negative type":   "\x94\xff\x01\x02\x80",
		"text for a type": "\x94\xa1x\x01\x02\x80",
		"seq beyond 2^63": "\x94\x05\xcf\xff\xff\xff\xff\xff\xff\xff\xff\x02\x80",
		"two values":      "\x94\x05\x01\x02\x80\xc0",
	} {
		var perr *ProtocolError
		if _, err := readOne(rawFrame([]byte(payload))); !errors.As(err, &perr) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// hiccup is a source that has half a frame, then an error, then the rest.
type hiccup struct {
	parts [][]byte
	err   error
}

func (h *hiccup) Read(p []byte) (int, error) {
	if len(h.parts) == 0 {
		return 0, io.EOF
	}
	if len(h.parts[0]) == 0 {
		h.parts = h.parts[1:]
		return 0, h.err
	}
	n := copy(p, h.parts[0])
	h.parts[0] = h.parts[0][n:]
	return n, nil
}

func TestADeadlineLosesNothing(t *testing.T) {
	data := mustEncode(t, Warn{Text: "slow"}, MaxFrame)
	for cut := range len(data) {
		for _, open := range []func(io.Reader, int) *Reader{NewReader, NewAdoptingReader} {
			r := open(&hiccup{[][]byte{data[:cut:cut], bytes.Clone(data[cut:])}, os.ErrDeadlineExceeded}, MaxFrame)
			if _, err := r.Next(); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("cut at %d: %v", cut, err)
			}
			if f, err := r.Next(); err != nil || f.Body != (Warn{Text: "slow"}) {
				t.Fatalf("after a deadline at %d: %+v, %v", cut, f, err)
			}
		}
	}
}

func TestASourcesErrorIsHandedOn(t *testing.T) {
	broken := errors.New("cable cut")
	data := mustEncode(t, Beat{}, MaxFrame)
	r := NewReader(io.MultiReader(bytes.NewReader(data), iotest.ErrReader(broken)), MaxFrame)
	if _, err := r.Next(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Next(); !errors.Is(err, broken) {
		t.Errorf("error is %v", err)
	}
}

func TestReadersTakeNoMoreMemoryOverALongStream(t *testing.T) {
	frame := mustEncode(t, samples()[1], MaxFrame)
	r := NewReader(bytes.NewReader(bytes.Repeat(frame, 1000)), MaxFrame)
	if _, err := readAll(r); err != nil || cap(r.buf) != MaxFrame {
		t.Errorf("buffer of %d bytes, %v", cap(r.buf), err)
	}
}

// FuzzReader holds that whatever is read is in bounds, that a second reading
// agrees, and that nothing panics.
func FuzzReader(f *testing.F) {
	data, _, _ := stream(f)
	f.Add(data)
	f.Add(data[7:])
	for _, bomb := range bombs() {
		f.Add(rawFrame(bomb))
		for _, body := range bodyAround(bomb) {
			f.Add(frameOf(TypePlan, body))
			f.Add(frameOf(TypeOutcome, body))
		}
	}
	f.Add(frameOf(200, []byte{0xc0}))
	f.Add(frameOf(TypeLimit, []byte("\x82\xa3new\x80\xa4rate\x07")))
	f.Fuzz(func(t *testing.T, in []byte) {
		for _, r := range []*Reader{NewReader(bytes.NewReader(in), MaxFrame), NewAdoptingReader(bytes.NewReader(in), MaxFrame)} {
			frames, _ := readAll(r)
			for _, got := range frames {
				requireStable(t, got)
			}
		}
	})
}

func requireStable(t *testing.T, f Frame) {
	t.Helper()
	b, err := Encode(f, 1<<20) // absent fields are written out: it may grow
	if err != nil {
		t.Fatalf("received %+v, cannot send it: %v", f, err)
	}
	again, err := NewReader(bytes.NewReader(b), 1<<20).Next()
	if err != nil || !reflect.DeepEqual(f, again) {
		t.Fatalf("received %+v, sent again it is %+v, %v", f, again, err)
	}
}
