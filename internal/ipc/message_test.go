package ipc

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/vmihailenco/msgpack/v5"
)

const testDigest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// samples has every message once, every field set to something of its own.
func samples() []Message {
	failure := &Error{Code: "io_error", Message: "cannot read /p/a: input/output error", Hint: "look at the disk", Path: "/p/a", Offset: 4096, Holder: "qemu pid 812"}
	item := Item{
		Name: "a.raw", Path: "/p/a.raw", Key: "/p/a.raw", VolType: "file", Format: "raw", Capacity: 1 << 40, Size: 1 << 40, Allocation: 1 << 30,
		Backing: "/p/base.raw", Identity: "2049:18446744073709551615:-7", ChangeNS: 1763700000000000001, ModifyNS: 1763700000000000000,
		AccessNS: 1763700000000000002, BornNS: 1763700000000000003, Mode: "0640", Owner: 107, Group: 108, Label: "system_u:object_r:virt_image_t:s0", Options: []string{"compat=1.1"}, Internal: 2,
		State: "failed", Checksum: "sha256:" + testDigest, ChecksumAs: "raw", Error: failure, Ignored: `name "\x1b" is no volume name`, Problem: "its tables cannot be",
		References: []Reference{{Name: "base.raw", Format: "raw", Data: true, Relative: true, Path: "/p/base.raw", Identity: "2049:12:-7"}},
		Twofold:    true, Cut: true, As: []Header{{
			Format: "vpc", Capacity: 1 << 20, Backing: "b", Problem: "its footer cannot be", References: []Reference{{Name: "b", Format: "vpc", Data: true, Relative: true, Path: "/p/b", Identity: "2049:13:-7"}},
		}},
		Extents: []Extent{{Device: "/dev/sdb", Start: 1, End: 2}},
		Source:  &Source{Hosts: []string{"server"}, Devices: []string{"/dev/sdb"}, Name: "vg0", Path: "/srv/e", Format: "nfs", Initiator: "iqn.2026-01.test:i"},
	}
	return []Message{
		Hello{Proto: 3, ProtoMin: 2, PID: 4712, Job: "0199-7", Version: "v1.2.3"},
		Plan{Phases: []PlanPhase{
			{Name: "copy", Unit: "bytes", Total: math.MaxInt64, Weight: 97.5, Data: true, Bounded: true, OnCall: true, Mask: "QR"},
			{Name: "sync", Unit: "items", Weight: 1e18},
		}},
		Phase{Index: 63, NoReturn: true},
		Progress{Phase: 1, Done: 2, Durable: 3, Total: 4, Work: 5, WorkAll: 6, Holes: 7, Read: 8, Written: math.MaxInt64, Allocated: 9},
		Beat{},
		Checkpoint{Phase: 1, Done: 1 << 50},
		State{Activity: ActivityRollingBack, Limit: 1 << 20, FromAfar: true, SenderPID: 99, Waits: "room"},
		Window{ID: 7, Open: true, Next: 8},
		Log{Level: "debug", Text: "opened “/p/a.raw” 日本", Cut: true},
		Warn{Text: "reflink refused, copying", Cut: true},
		Result{Outcome: Canceled, Digest: testDigest, Stays: true},
		Confined{Level: "partial", Landlock: 2, Seccomp: true, Capabilities: []string{"chown"}, Anywhere: true, Lacks: []string{"truncation"}},
		Go{Proto: 1, Limit: 5, Paused: true, Confinement: "full", Stay: true, Fill: 95, Names: []string{"vm1.raw"}},
		Cancel{}, Pause{}, Resume{},
		Limit{Rate: 1 << 40},
		WindowAck{ID: 7},
		Resync{},
		WindowCall{}, Fence{}, Again{Names: []string{"vm1.raw", "日本"}},
		Summary{
			Outcome: Failed, Untouched: true, Resumable: true, Rollback: "done", Error: failure, Volume: &item, Snapshot: &item,
			Pool:   &Pool{Target: "/q", Path: "/p", Identity: "2049:2:2b99", Capacity: 9, Allocation: 8, Available: 7, Free: []int64{1, 2}, Thin: []Thin{{Name: "tp", Capacity: 5, Allocation: 4, MetaCapacity: 3, MetaAllocation: 2}}, Disk: "259:0", Mode: "0711", Owner: 1, Group: 2, Label: "system_u:object_r:virt_image_t:s0"},
			Pools:  []Pool{{Target: "/q", Path: "/p", Identity: "2049:2:2b99", Capacity: 9, Allocation: 8, Available: 7, Free: []int64{1, 2}, Thin: []Thin{{Name: "tp", Capacity: 5, Allocation: 4, MetaCapacity: 3, MetaAllocation: 2}}, Disk: "259:0", Mode: "0711", Owner: 1, Group: 2, Label: "system_u:object_r:virt_image_t:s0"}},
			Method: "reflink", Algorithm: "zero", Passes: 1, Bytes: 2, Reach: 7, Checked: true, Verified: true,
			Limits: []string{"an SSD keeps copies"}, Device: "/dev/loop0", Checksum: "sha256:" + testDigest, Check: &Check{Errors: 1, Corruptions: 2, Leaks: 3, RepairedCorruptions: 4, RepairedLeaks: 5, Clusters: 6, Allocated: 7},
			Read: 3, Written: 4, Holes: 5, Phases: []Spent{{Name: "copy", NS: 6}}, MaxRSS: 8, Warnings: []string{"slow"}, ItemCount: 7,
		},
		item,
		End{Records: 3, Digest: testDigest},
		Mark{Task: "wipe", Phase: 1, Done: 2, Total: 3, Read: 4, Written: 5, Draft: "0199-7", State: `{"offset":2}`},
	}
}

func mustEncode(t testing.TB, m Message, limit int) []byte {
	t.Helper()
	b, err := Encode(Frame{Seq: 11, MonoNS: 12, Body: m}, limit)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestEveryMessageSurvivesTheRoundTrip(t *testing.T) {
	seen := map[Type]bool{}
	for _, m := range samples() {
		seen[m.Type()] = true
		f, err := NewReader(bytes.NewReader(mustEncode(t, m, MaxRecord)), MaxRecord).Next()
		if want := (Frame{11, 12, m}); err != nil || !reflect.DeepEqual(f, want) {
			t.Errorf("%s came back as\n%+v (%v), want\n%+v", m.Type(), f, err, want)
		}
		requireEveryFieldSet(t, reflect.ValueOf(m), m.Type().String())
	}
	for typ := range kinds {
		if !seen[typ] {
			t.Errorf("no sample of %s", typ)
		}
	}
}

// requireEveryFieldSet keeps the samples able to show a lost field. Within a
// list it is enough that its first element is full.
func requireEveryFieldSet(t *testing.T, v reflect.Value, at string) {
	switch v.Kind() {
	case reflect.Pointer:
		requireEveryFieldSet(t, v.Elem(), at)
	case reflect.Struct:
		for i := range v.NumField() {
			requireEveryFieldSet(t, v.Field(i), at+"."+v.Type().Field(i).Name)
		}
	case reflect.Slice:
		requireEveryFieldSet(t, v.Index(0), at+"[0]")
	default:
		if v.IsZero() {
			t.Errorf("sample leaves %s at its zero value", at)
		}
	}
}

func TestEveryFrameOfTheFIFOsFitsOne(t *testing.T) {
	for _, m := range samples() {
		if m.Type() < 129 && Validate(m) != nil {
			t.Errorf("%s: %v", m.Type(), Validate(m))
		}
	}
}

func TestOutOfBoundsIsNeitherSentNorReceived(t *testing.T) {
	many := make([]PlanPhase, MaxPhases+1)
	for i := range many {
		many[i] = PlanPhase{Name: "p", Unit: "items"}
	}
	long := strings.Repeat("x", maxPath+1)
	phase := func(p PlanPhase) Message { return Plan{Phases: []PlanPhase{p}} }
	bad := []Message{
		Hello{PID: 1}, Hello{Proto: 1, ProtoMin: 2, PID: 1}, Hello{Proto: 1, ProtoMin: 1},
		Hello{Proto: 1, ProtoMin: 1, PID: 1, Job: "a\nb"}, Hello{Proto: 1, ProtoMin: 1, PID: 1, Version: "\u202ev1"},
		Plan{Phases: many},
		phase(PlanPhase{Name: "p"}), phase(PlanPhase{Name: "p", Unit: "items", Total: -1}),
		phase(PlanPhase{Name: "p", Unit: "bytes", Weight: math.NaN()}), phase(PlanPhase{Name: "p", Unit: "bytes", Weight: math.Inf(1)}),
		phase(PlanPhase{Name: "p", Unit: "bytes", Weight: -0.5}), phase(PlanPhase{Name: "p", Unit: "bytes", Weight: math.MaxFloat64}),
		phase(PlanPhase{Name: long[:65], Unit: "bytes"}), phase(PlanPhase{Name: "\xff", Unit: "bytes"}),
		phase(PlanPhase{Name: "p", Unit: "bytes", Mask: "Qx"}),
		Phase{Index: -1}, Phase{Index: MaxPhases},
		Progress{Phase: -1}, Progress{Done: -1}, Progress{Durable: -1}, Progress{Total: -1}, Progress{Work: -1},
		Progress{WorkAll: -1}, Progress{Holes: -1}, Progress{Read: -1}, Progress{Written: math.MinInt64}, Progress{Allocated: -1},
		Checkpoint{Phase: 64}, Checkpoint{Done: -1},
		State{}, State{Activity: "asleep"}, State{Activity: ActivityPaused, Limit: -1}, State{Activity: ActivityPaused, SenderPID: -1},
		Window{ID: -1}, Window{Next: -1}, WindowAck{ID: -1}, Limit{Rate: -1}, Go{Limit: -1}, Go{Proto: -1},
		Go{Names: []string{long[:maxNames-nameCost+1]}}, Again{Names: []string{"\xff"}}, Again{Names: make([]string, maxNames/nameCost+1)},
		Log{Level: "loud"}, Log{Level: "info", Text: "a\nb"}, Log{Level: "info", Text: "\xff"}, Log{Level: "info", Text: long[:maxLogText+1]},
		Warn{Text: "\x00"}, Warn{Text: long[:maxText+1]},
		Result{Outcome: "done", Digest: testDigest}, Result{Outcome: Failed}, Result{Outcome: Failed, Digest: strings.ToUpper(testDigest)},
		Summary{}, Summary{Outcome: Failed, Rollback: "perhaps"}, Summary{Outcome: Failed, Bytes: -1}, Summary{Outcome: Failed, Passes: -1},
		Summary{Outcome: Failed, ItemCount: -1}, Summary{Outcome: Failed, MaxRSS: -1}, Summary{Outcome: Failed, Phases: []Spent{{NS: -1}}}, Summary{Outcome: Failed, Phases: make([]Spent, 65)},
		Summary{Outcome: Failed, Warnings: make([]string, MaxWarnings+1)}, Summary{Outcome: Failed, Limits: []string{"\n"}},
		Summary{Outcome: Failed, Error: &Error{}}, Summary{Outcome: Failed, Error: &Error{Code: "io_error", Offset: -2}},
		Summary{Outcome: Failed, Volume: &Item{Capacity: -1}}, Summary{Outcome: Failed, Pool: &Pool{Available: -1}},
		Summary{Outcome: Failed, Pools: []Pool{{Available: -1}}}, Summary{Outcome: Failed, Pools: make([]Pool, maxPools+1)},
		Summary{Outcome: Failed, Pools: []Pool{{Free: []int64{1}}}}, Summary{Outcome: Failed, Pools: []Pool{{Free: make([]int64, maxFree+2)}}},
		Summary{Outcome: Failed, Pools: []Pool{{Thin: make([]Thin, maxThin+1)}}}, Summary{Outcome: Failed, Pools: []Pool{{Thin: []Thin{{Allocation: -1}}}}},
		Item{Extents: make([]Extent, maxExtents+1)}, Item{Extents: []Extent{{Start: -1}}},
		Item{Path: long}, Item{Name: "\xff"}, Item{Allocation: -1}, Item{Error: &Error{}}, Item{Format: "a\x1bb"},
		End{Records: -1, Digest: testDigest}, End{},
		Mark{Done: -1}, Mark{Written: -1}, Mark{Phase: MaxPhases}, Mark{Draft: "\n"}, Mark{State: strings.Repeat("x", maxState+1)},
	}
	for i, m := range bad {
		if _, err := Encode(Frame{Body: m}, MaxRecord); err == nil {
			t.Errorf("%d: %s %+v was encoded", i, m.Type(), m)
		}
		var perr *ProtocolError
		_, err := NewReader(bytes.NewReader(unchecked(t, m)), MaxRecord).Next()
		if !errors.As(err, &perr) {
			t.Errorf("%d: %s %+v was received: %v", i, m.Type(), m, err)
		}
	}
}

func TestUnsignedNumbersBeyondInt64AreRefused(t *testing.T) {
	huge := []byte{0xcf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	for _, field := range []string{"done", "durable", "total", "written", "phase"} {
		body := append([]byte{0x81, 0xa0 | byte(len(field))}, field...)
		_, err := readOne(frameOf(TypeProgress, append(body, huge...)))
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s of 2^64-1: %v", field, err)
		}
	}
}

func TestAPlanThatDoesNotFitIsAClearError(t *testing.T) {
	var p Plan
	for i := range MaxPhases {
		p.Phases = append(p.Phases, PlanPhase{Name: fmt.Sprintf("a phase with a long name %d", i), Unit: "bytes", Total: math.MaxInt64, Weight: 1})
	}
	err := Validate(p)
	if err == nil || !strings.Contains(err.Error(), "PLAN") || !strings.Contains(err.Error(), "at most 4096 fit") {
		t.Errorf("error is %v", err)
	}
}

func TestVersionsAgree(t *testing.T) {
	for _, c := range []struct {
		daemon       Versions
		min, proto   int
		want         int
		refusalNames string
	}{
		{Known(), 1, 1, 1, ""}, {Known(), 1, 9, 1, ""}, {Known(), 2, 9, 0, "speaks protocols 2 to 9, this daemon protocol 1"},
		{Versions{2, 3}, 1, 2, 2, ""}, {Versions{2, 3}, 3, 4, 3, ""}, {Versions{2, 3}, 1, 4, 3, ""},
		{Versions{2, 3}, 1, 1, 0, "speaks protocol 1, this daemon protocols 2 to 3"}, {Versions{2, 3}, 4, 4, 0, "speaks protocol 4,"},
	} {
		v, err := Hello{Proto: c.proto, ProtoMin: c.min, Version: "x"}.Agree(c.daemon)
		if v != c.want || (err == nil) != (c.want > 0) || err != nil && !strings.Contains(err.Error(), c.refusalNames) {
			t.Errorf("daemon of %v, helper of protocol %d to %d: %d, %v", c.daemon, c.min, c.proto, v, err)
		}
	}
}

func TestCutTextIsAlwaysAcceptable(t *testing.T) {
	for _, in := range []string{"", "plain", "a\nb\x00c\x7f", "\xff\xfe\xfd", strings.Repeat("日", 5000), strings.Repeat("\xff", 5000), strings.Repeat("x", maxText)} {
		for _, limit := range []int{maxText, maxText - 1, maxText - 2} {
			out, cut := cutText(in, limit)
			if err := checkText("text", out, limit); err != nil || cut != (len(out) < len(strings.ToValidUTF8(in, "\ufffd"))) && len(in) > limit {
				t.Errorf("%.10q at %d gave %d bytes, cut %v: %v", in, limit, len(out), cut, err)
			}
		}
	}
}

func readOne(b []byte) (Frame, error) { return NewReader(bytes.NewReader(b), MaxFrame).Next() }

func readAll(r *Reader) (frames []Frame, err error) {
	for {
		f, err := r.Next()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return frames, err
		}
		frames = append(frames, f)
	}
}

// A helper that was started by an earlier version may report to this one.
func TestPoolOfAnEarlierVersionIsRead(t *testing.T) {
	parts := map[string]any{"target": "/q", "path": "/p", "device": uint64(2049), "inode": uint64(2), "stamp": "2b99", "capacity": 9}
	b, err := msgpack.Marshal(parts)
	if err != nil {
		t.Fatal(err)
	}
	var p Pool
	if err := msgpack.Unmarshal(b, &p); err != nil || !reflect.DeepEqual(p, Pool{Target: "/q", Path: "/p", Identity: "2049:2:2b99", Capacity: 9}) {
		t.Errorf("read as %+v: %v", p, err)
	}
}

func TestVolumeOfAnEarlierVersionIsRead(t *testing.T) {
	reference := map[string]any{"name": "base", "device": uint64(2049), "inode": uint64(3)}
	parts := map[string]any{"name": "v", "device": uint64(2049), "inode": uint64(math.MaxUint64), "birth_ns": -7, "references": []any{reference}}
	b, err := msgpack.Marshal(parts)
	if err != nil {
		t.Fatal(err)
	}
	var it Item
	want := Item{Name: "v", Identity: "2049:18446744073709551615:-7", References: []Reference{{Name: "base", Identity: "2049:3"}}}
	if err := msgpack.Unmarshal(b, &it); err != nil || !reflect.DeepEqual(it, want) {
		t.Errorf("read as %+v: %v", it, err)
	}
}
