package virtrpc_test

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"storaged/internal/testenv"
	"storaged/internal/virtrpc/virtrpctest"
	"storaged/internal/virtrpc/wire"
	"storaged/internal/virtrpc/xdr"
)

// packet is one that a client sends; a program of 0 is wire.Remote, a version of 0 is the
// right one.
type packet struct {
	wire.Header
	args xdr.Value
	raw  []byte // instead
}

func call(p wire.Procedure, args xdr.Value) packet {
	return packet{Header: wire.Header{Procedure: p}, args: args}
}

// exchange sends packets on a connection of its own, one after the other, each when those
// before were answered if they are calls, and gives what comes back, as text. After each
// a ping finds that nothing else comes, but for the last call of a client, which ends
// with its answer: libvirt's daemon closes as soon as it has nothing to send, and so at
// times after the answer to the ping, before that to the call.
func exchange(t *testing.T, socket string, packets []packet) (got []string) {
	t.Helper()
	return exchangeOn(t, virtrpctest.Dial(t, socket), packets)
}

func exchangeOn(t *testing.T, c *virtrpctest.Client, packets []packet) (got []string) {
	t.Helper()
	defer c.Conn.Close()
	for i, p := range packets {
		h := p.Header
		if h.Program == 0 {
			h.Program = wire.Remote
		}
		if h.Version == 0 {
			h.Version = wire.Version
		}
		h.Serial = uint32(i)
		payload := p.raw
		if p.args != nil {
			var err error
			if payload, err = xdr.Encode(p.args); err != nil {
				t.Fatal(err)
			}
		}
		sent, last := append(h.Append(nil, len(payload)), payload...), h.Procedure == wire.ConnectClose
		if !last {
			sent = ping.Append(sent, 0)
		}
		c.SendRaw(sent)
		answers, open := untilPong(t, c, !last, h.Type == wire.Call)
		if got = append(got, answers...); !open || last {
			return append(got, "closed")
		}
	}
	return got
}

// untilPong gives what comes until the answers to a ping and to a call have, where they
// were sent; the first may overtake the second. open is false when the connection has ended.
func untilPong(t *testing.T, c *virtrpctest.Client, pinged, called bool) (got []string, open bool) {
	t.Helper()
	for pinged || called {
		p, err := c.Next()
		switch {
		case errors.Is(err, io.EOF) || err != nil && strings.Contains(err.Error(), "reset"):
			return got, false
		case err != nil:
			t.Fatal(err)
		case p.Program == wire.Keepalive:
			pinged = false
			continue
		}
		called = false
		got = append(got, shown(p))
	}
	return got, true
}

func shown(p virtrpctest.Packet) string {
	text := fmt.Sprintf("program %x version %d procedure %d type %d serial %d status %d: ", p.Program, p.Version, p.Procedure, p.Type, p.Serial, p.Status)
	var f *wire.Failure
	if err := p.Decode(nil); errors.As(err, &f) {
		return text + fmt.Sprintf("code %d domain %d %q (%q, %d, %d)", f.Code, f.Domain, f.Message, f.Detail, f.Int1, f.Int2)
	}
	return text + fmt.Sprintf("%x", p.Payload)
}

var (
	auth     = call(wire.AuthList, nil)
	openIt   = call(wire.ConnectOpen, &wire.OpenArgs{URI: new("storage:///system")})
	nowhere  = wire.Pool{Name: "nowhere", UUID: wire.UUID{1, 2, 3}}
	nothing  = wire.Vol{Pool: "nowhere", Name: "nothing", Key: "/nowhere/nothing"}
	withOpen = func(packets ...packet) []packet { return append([]packet{auth, openIt}, packets...) }
)

// exchanges are what both daemons answer in the same way.
var exchanges = map[string][]packet{
	"auth":                     {auth, auth},
	"before auth":              {openIt, call(wire.ConnectSupportsFeature, new(wire.Int(10)))},
	"close before auth":        {call(wire.ConnectClose, nil)},
	"stream before auth":       {{Header: wire.Header{Procedure: 208, Type: wire.Stream, Status: wire.Continue}, raw: make([]byte, 100)}},
	"before open":              {auth, call(wire.ConnectGetType, nil), call(wire.ConnectListAllStoragePools, &wire.ListArgs{}), call(wire.ConnectSupportsFeature, new(wire.Int(14)))},
	"open":                     withOpen(call(wire.ConnectGetType, nil), call(wire.ConnectGetURI, nil), call(wire.ConnectGetLibVersion, nil)),
	"open without URI":         {auth, call(wire.ConnectOpen, &wire.OpenArgs{}), call(wire.ConnectGetURI, nil)},
	"open with an empty URI":   {auth, call(wire.ConnectOpen, &wire.OpenArgs{URI: new("")}), call(wire.ConnectGetURI, nil)},
	"open with another path":   {auth, call(wire.ConnectOpen, &wire.OpenArgs{URI: new("storage:///x")})},
	"open with another scheme": {auth, call(wire.ConnectOpen, &wire.OpenArgs{URI: new("qemu:///system")})},
	"secure":                   withOpen(call(wire.ConnectIsSecure, nil)),
	"features": withOpen(call(wire.ConnectSupportsFeature, new(wire.Int(10))), call(wire.ConnectSupportsFeature, new(wire.Int(14))), call(wire.ConnectSupportsFeature, new(wire.Int(15))),
		call(wire.ConnectSupportsFeature, new(wire.Int(1))), call(wire.ConnectSupportsFeature, new(wire.Int(4711)))),
	"close callback": withOpen(call(wire.ConnectRegisterCloseCallback, nil), call(wire.ConnectRegisterCloseCallback, nil), call(wire.ConnectUnregisterCloseCallback, nil)),
	"close":          withOpen(call(wire.ConnectClose, nil)),
	"unknown":        withOpen(call(0, nil), call(99999, nil), call(444, nil)),
	"other program":  {{Header: wire.Header{Program: wire.QEMU, Procedure: 1}}, auth, {Header: wire.Header{Program: 0xfffffff0, Procedure: 1}}},
	"other version":  {{Header: wire.Header{Version: 2, Procedure: 66}}},
	"status":         {auth, {Header: wire.Header{Procedure: 66, Status: wire.Error}}},
	"not calls":      {auth, {Header: wire.Header{Procedure: 66, Type: wire.Reply}}, {Header: wire.Header{Procedure: 66, Type: 42}}, auth},
	"lost streams":   withOpen(packet{Header: wire.Header{Procedure: 208, Type: wire.Stream, Status: wire.Continue}, raw: make([]byte, 100)}, call(wire.ConnectGetType, nil)),
	"short":          withOpen(packet{Header: wire.Header{Procedure: 84}, raw: []byte{0, 0, 0, 9, 'x'}}, packet{Header: wire.Header{Procedure: 87}}),
	"long":           withOpen(packet{Header: wire.Header{Procedure: 60}, raw: make([]byte, 4000)}),
	"not supported":  withOpen(call(4, nil), call(59, nil), call(203, new(wire.Flags))),
	"no pools": withOpen(call(wire.ConnectNumOfStoragePools, nil), call(wire.ConnectListStoragePools, new(wire.Int(10))), call(wire.ConnectNumOfDefinedStoragePools, nil),
		call(wire.ConnectListDefinedStoragePools, new(wire.Int(10))), call(wire.ConnectListAllStoragePools, &wire.ListArgs{Need: 1}), call(wire.ConnectListAllStoragePools, &wire.ListArgs{})),
	"list flags": withOpen(call(wire.ConnectListAllStoragePools, &wire.ListArgs{Need: 1, Flags: 1 << 19}), call(wire.ConnectListAllStoragePools, &wire.ListArgs{Need: 1, Flags: 1 << 20}),
		call(wire.ConnectListStoragePools, new(wire.Int(wire.MaxNames+1)))),
	"no such pool": withOpen(call(wire.StoragePoolLookupByName, new(wire.Text("nowhere"))), call(wire.StoragePoolLookupByUUID, &wire.UUID{1}), call(wire.StoragePoolGetInfo, &nowhere),
		call(wire.StoragePoolGetAutostart, &nowhere), call(wire.StoragePoolIsActive, &nowhere), call(wire.StoragePoolNumOfVolumes, &nowhere), call(wire.StoragePoolLookupByTargetPath, new(wire.Text("/nowhere"))),
		call(wire.StoragePoolListAllVolumes, &wire.PoolListArgs{Pool: nowhere, Need: 1}), call(wire.StoragePoolLookupByVolume, &nothing)),
	"sources":    withOpen(call(wire.ConnectFindStoragePoolSources, &wire.SourcesArgs{Type: "dir"}), call(wire.ConnectFindStoragePoolSources, &wire.SourcesArgs{Type: "nothing"})),
	"broken XML": withOpen(call(wire.StoragePoolDefineXML, &wire.TextFlags{Text: "<pool"})),
	"bad documents": withOpen(call(wire.StoragePoolDefineXML, &wire.TextFlags{Text: "<volume/>"}), call(wire.StoragePoolDefineXML, &wire.TextFlags{Text: "<pool type='dir'/>"}),
		call(wire.StoragePoolCreateXML, &wire.TextFlags{Text: "<pool type='x'/>"}), call(wire.StoragePoolDefineXML, &wire.TextFlags{Text: "<pool type='dir'/>", Flags: 8})),
	"changes of nothing": withOpen(call(wire.StoragePoolBuild, &wire.PoolFlags{Pool: nowhere}), call(wire.StoragePoolCreate, &wire.PoolFlags{Pool: nowhere}), call(wire.StoragePoolDestroy, &nowhere),
		call(wire.StoragePoolDelete, &wire.PoolFlags{Pool: nowhere}), call(wire.StoragePoolUndefine, &nowhere), call(wire.StoragePoolRefresh, &wire.PoolFlags{Pool: nowhere}), call(wire.StoragePoolRefresh, &wire.PoolFlags{Pool: nowhere, Flags: 1}),
		call(wire.StoragePoolSetAutostart, &wire.PoolInt{Pool: nowhere, N: 1}), call(wire.StorageVolDelete, &wire.VolFlags{Vol: nothing}), call(wire.StorageVolWipe, &wire.VolFlags{Vol: nothing}),
		call(wire.StorageVolWipePattern, &wire.VolWipeArgs{Vol: nothing, Algorithm: 12}), call(wire.StorageVolResize, &wire.VolResizeArgs{Vol: nothing}), call(wire.StorageVolUpload, &wire.VolStreamArgs{Vol: nothing}),
		call(wire.StorageVolDownload, &wire.VolStreamArgs{Vol: nothing}), call(wire.StorageVolDownload, &wire.VolStreamArgs{Vol: nothing, Flags: 2}), call(wire.StorageVolCreateXML, &wire.VolCreateArgs{Pool: nowhere, XML: "<volume/>"}),
		call(wire.StorageVolCreateXMLFrom, &wire.VolCreateFromArgs{Pool: nowhere, XML: "<volume/>", From: nothing})),
	"events": withOpen(call(wire.ConnectStoragePoolEventRegister, &wire.RegisterArgs{}), call(wire.ConnectStoragePoolEventRegister, &wire.RegisterArgs{}), call(wire.ConnectStoragePoolEventRegister, &wire.RegisterArgs{Event: 2}),
		call(wire.ConnectStoragePoolEventRegister, &wire.RegisterArgs{Event: 1, Pool: &nowhere}), call(wire.ConnectStoragePoolEventDeregister, new(wire.Int(4711))), call(wire.ConnectStoragePoolEventDeregister, new(wire.Int(0)))),
	"no such volume": withOpen(call(wire.StorageVolLookupByName, &wire.PoolText{Pool: nowhere, Text: "nothing"}), call(wire.StorageVolLookupByKey, new(wire.Text("k"))),
		call(wire.StorageVolLookupByPath, new(wire.Text("/nowhere/nothing"))), call(wire.StorageVolGetInfo, &nothing), call(wire.StorageVolGetPath, &nothing),
		call(wire.StorageVolGetInfoFlags, &wire.VolFlags{Vol: nothing, Flags: 2})),
}

// differences are what is answered otherwise, and why.
var differences = map[string]string{
	"open without URI":       "there is one driver, which a client means that names none",
	"open with an empty URI": "likewise",
	"broken XML":             "the parser says in its own words what is wrong, and no more",
	"other program":          "libvirt's daemon for storage alone has no program for QEMU either",
}

// What libvirt's own daemon answers we answer too, to the byte.
func TestAnswersAreThoseOfLibvirtd(t *testing.T) {
	theirs, _ := testenv.Libvirtd(t)
	h := newHost(t, nil)
	h.svc.pools, h.svc.volumes = nil, nil
	for name, packets := range exchanges {
		want, got := exchange(t, theirs, packets), exchange(t, h.main, packets)
		if differences[name] == "" == slices.Equal(want, got) {
			continue
		}
		t.Errorf("%s: libvirtd answers\n  %s\nand we answer\n  %s", name, strings.Join(want, "\n  "), strings.Join(got, "\n  "))
	}
}
