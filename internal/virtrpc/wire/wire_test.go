package wire_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"reflect"
	"testing"

	"storaged/internal/virtrpc/wire"
	"storaged/internal/virtrpc/xdr"
)

var trc = wire.Pool{Name: "trc", UUID: wire.UUID{0xde, 0xad, 0xbe, 0xef}}

// What libvirt's own programs were seen to send.
func TestValuesAreThoseOnTheWire(t *testing.T) {
	for want, v := range map[string]xdr.Value{
		"0000000100000000": &wire.AuthTypes{wire.AuthNone},
		"000000010000001173746f726167653a2f2f2f73797374656d00000000000000": &wire.OpenArgs{URI: new("storage:///system")},
		"0000000a": new(wire.Int(10)),
		"000000000000000374726300deadbeef0000000000000000000000000000000300000000": &wire.LifecycleEvent{Pool: trc, Event: 3},
		"000000000010000000000000": &wire.Hole{Length: 1 << 20},
		"0000000000895440":         new(wire.Hyper(9000000)),
		"0000000000000000":         &wire.Pools{},
		"0000000374726300deadbeef00000000000000000000000000000001": &wire.PoolFlags{Pool: trc, Flags: 1},
	} {
		b, err := xdr.Encode(v)
		if got := hex.EncodeToString(b); err != nil || got != want {
			t.Errorf("%T is %s, %v\nnot %s", v, got, err, want)
		}
		comesBack(t, v)
	}
}

// comesBack checks that what was written is read again.
func comesBack(t *testing.T, v xdr.Value) {
	t.Helper()
	b, err := xdr.Encode(v)
	if err != nil {
		t.Fatal(err)
	}
	again := reflect.New(reflect.TypeOf(v).Elem()).Interface().(xdr.Value)
	if err := xdr.Decode(b, again); err != nil || !reflect.DeepEqual(v, again) {
		t.Errorf("%+v became %+v, %v", v, again, err)
	}
}

// values are one of each type.
var values = []xdr.Value{
	&wire.None{}, new(wire.Int(-1)), new(wire.Flags(7)), new(wire.Hyper(1 << 50)), new(wire.Text("t")), &wire.Names{"a", "b"}, &trc.UUID, &trc, &wire.Vol{Pool: "p", Name: "n", Key: "k"},
	&wire.Hole{Length: 5}, &wire.AuthTypes{0, 2}, &wire.OpenArgs{URI: new("u"), Flags: 1}, &wire.PoolFlags{Pool: trc, Flags: 2}, &wire.PoolInt{Pool: trc, N: 3}, &wire.PoolText{Pool: trc, Text: "v"},
	&wire.TextFlags{Text: "<pool/>", Flags: 1}, &wire.SourcesArgs{Type: "netfs", Spec: new("s")}, &wire.ListArgs{Need: 1, Flags: 2}, &wire.PoolListArgs{Pool: trc, Need: 1}, &wire.Pools{Pools: []wire.Pool{trc}, Count: 1},
	&wire.Vols{Vols: []wire.Vol{{Pool: "p"}}, Count: 1}, &wire.PoolInfo{State: wire.PoolRunning, Capacity: 3, Allocation: 2, Available: 1}, &wire.RegisterArgs{Event: 1, Pool: &trc}, &wire.LifecycleEvent{Callback: 1, Pool: trc, Event: 2, Detail: 3},
	&wire.RefreshEvent{Callback: 1, Pool: trc}, &wire.VolFlags{Flags: 1}, &wire.VolCreateArgs{Pool: trc, XML: "x", Flags: 1}, &wire.VolCreateFromArgs{Pool: trc, XML: "x", From: wire.Vol{Name: "f"}, Flags: 1},
	&wire.VolStreamArgs{Offset: 1, Length: 2, Flags: wire.StreamSparse}, &wire.VolWipeArgs{Algorithm: 4, Flags: 5}, &wire.VolResizeArgs{Capacity: 5, Flags: 2}, &wire.VolInfo{Type: wire.VolBlock, Capacity: 2, Allocation: 1},
	&wire.JobRef{By: wire.JobByNumber, Number: 5}, &wire.JobRef{By: wire.JobByID, ID: trc.UUID}, &wire.JobFlags{Job: wire.JobRef{By: wire.JobOfVolume, Pool: "p", Volume: "v"}, Flags: 1}, &wire.JobStats{Type: wire.JobFailed, Params: []wire.Param{{Field: "n", Type: wire.ParamUlong, Number: 1}}},
	&wire.JobListArgs{Flags: wire.JobListLive, Pool: new("p"), Owner: new("o"), Most: 3, After: new("a")}, &wire.Jobs{Jobs: []wire.Job{{JobInfo: wire.JobInfo{Type: wire.JobBounded, DataTotal: 4}, Number: 5, Kind: "k", State: "s"}}, Next: new("n")},
	&wire.JobNumberArgs{Job: wire.JobRef{By: wire.JobOfPool, Pool: "p"}, N: 1 << 40, Flags: 1}, &wire.JobRegisterArgs{Events: wire.JobEventsAsked, Of: &wire.JobRef{By: wire.JobByNumber, Number: 5}}, &wire.JobEvent{Callback: 1, Events: wire.JobEndedEvent, Serial: 7, Error: new("e")},
	&wire.Failure{Code: wire.OperationFailed, Domain: wire.FromStorage, Message: "m", Detail: "d", Reason: "not_found", Int1: -1, Int2: -1},
	wire.Failf(wire.FromStorage, wire.NoStoragePool, "no storage pool with matching name '%s'", "x"), wire.SystemFailure(wire.FromStreams, 28, "cannot write"),
	&wire.IdentityArgs{Params: []wire.Param{{Field: "i", Type: wire.ParamInt, Number: 1}, {Field: "l", Type: wire.ParamUlong, Number: 1 << 40}, {Field: "s", Type: wire.ParamString, Text: "x"}}, Flags: 1},
}

func TestEveryValueComesBack(t *testing.T) {
	for _, v := range values {
		comesBack(t, v)
	}
}

func TestMessagesOfFailuresAreLibvirts(t *testing.T) {
	for want, f := range map[string]*wire.Failure{
		"Storage pool not found: no storage pool with matching name 'x'": wire.Failf(wire.FromStorage, wire.NoStoragePool, "no storage pool with matching name '%s'", "x"),
		"storage volume '100%s' exists already":                          wire.Failf(wire.FromStorage, wire.StorageVolExist, "%s", "100%s"),
		"unknown procedure: 7":                                           wire.Failf(wire.FromRPC, wire.RPCError, "unknown procedure: %d", 7),
	} {
		if f.Error() != want {
			t.Errorf("%q, not %q", f, want)
		}
	}
}

func TestHeadersComeBack(t *testing.T) {
	h := wire.Header{Program: wire.Remote, Version: wire.Version, Procedure: wire.StorageVolUpload, Type: wire.Stream, Serial: 7, Status: wire.Continue}
	b := append(h.Append(nil, 3), "abc"...)
	if want := "0000001f" + "20008086" + "00000001" + "000000d0" + "00000003" + "00000007" + "00000002" + "616263"; hex.EncodeToString(b) != want {
		t.Errorf("%x\nnot %s", b, want)
	}
	got, n, err := wire.ReadHeader(bytes.NewReader(b))
	if got != h || n != 3 || err != nil {
		t.Errorf("%+v, %d, %v", got, n, err)
	}
	for cut := range len(b) - 3 {
		_, _, err := wire.ReadHeader(bytes.NewReader(b[:cut]))
		if want := io.ErrUnexpectedEOF; cut == 0 && !errors.Is(err, io.EOF) || cut > 0 && !errors.Is(err, want) {
			t.Errorf("of %d bytes: %v", cut, err)
		}
	}
	for _, length := range []string{"00000000", "00000003", "0000001b", "02000005", "ffffffff"} {
		b, err := hex.DecodeString(length)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := wire.ReadHeader(bytes.NewReader(append(b, make([]byte, 100)...))); !errors.Is(err, wire.ErrLength) {
			t.Errorf("length %s: %v", length, err)
		}
	}
}

// Whatever comes, it is read without panic, and what could be read can be written.
func FuzzValues(f *testing.F) {
	for i, v := range values {
		b, err := xdr.Encode(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(i), b)
	}
	f.Fuzz(func(t *testing.T, which uint8, b []byte) {
		v := reflect.New(reflect.TypeOf(values[int(which)%len(values)]).Elem()).Interface().(xdr.Value)
		if xdr.Decode(b, v) != nil {
			return
		}
		if _, err := xdr.Encode(v); err != nil {
			t.Errorf("%T from %x: %v", v, b, err)
		}
	})
}

// Whatever comes, packets are found in it only where all of their headers came, and a
// header is written as it was read.
func FuzzPackets(f *testing.F) {
	h := wire.Header{Program: wire.Remote, Version: wire.Version, Procedure: wire.StorageVolUpload, Type: wire.Stream, Serial: 7, Status: wire.Continue}
	f.Add(append(h.Append(nil, 3), "abc"...))
	f.Add(h.Append(h.Append(nil, 0), wire.MaxPayload))
	f.Add([]byte{0, 0, 0, 27})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		for r := bytes.NewReader(b); ; {
			at := len(b) - r.Len()
			h, n, err := wire.ReadHeader(r)
			if err != nil {
				if rest := len(b) - at; errors.Is(err, io.EOF) != (rest == 0) || rest >= wire.LengthBytes+wire.HeaderBytes && !errors.Is(err, wire.ErrLength) {
					t.Errorf("%v with %d bytes left", err, rest)
				}
				return
			}
			if got := b[at : len(b)-r.Len()]; n < 0 || n > wire.MaxPayload || !bytes.Equal(h.Append(nil, n), got) {
				t.Errorf("%x is %+v with %d bytes", got, h, n)
			}
			if _, err := r.Seek(int64(n), io.SeekCurrent); err != nil || r.Len() == 0 {
				return
			}
		}
	})
}
