package virtrpc_test

import (
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"storaged/internal/virtrpc"
	"storaged/internal/virtrpc/virtrpctest"
	"storaged/internal/virtrpc/wire"
	"storaged/internal/virtrpc/xdr"
)

// packetOf is a packet of a client.
func packetOf(t testing.TB, h wire.Header, v xdr.Value) []byte {
	t.Helper()
	h.Program, h.Version = wire.Remote, wire.Version
	b, err := xdr.Encode(v)
	if err != nil {
		t.Fatal(err)
	}
	return append(h.Append(nil, len(b)), b...)
}

// fuzzed is a server whose jobs succeed at once, and the packet that opens a connection.
func fuzzed(f *testing.F) (h *host, open []byte) {
	f.Helper()
	h = newHost(f, nil)
	close(h.svc.end)
	h.svc.waits = nil // nobody counts them
	return h, packetOf(f, wire.Header{Procedure: wire.ConnectOpen}, &wire.OpenArgs{})
}

// survives sends what a client may say and no more, and checks that its connection ends
// and that the server goes on for others.
func (h *host) survives(t *testing.T, b []byte) {
	t.Helper()
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: h.main, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(virtrpctest.Patience)); err != nil {
		t.Fatal(err)
	}
	_, _ = conn.Write(b) // it may be closed before
	_ = conn.CloseWrite()
	if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection does not end: %v", err)
	}
	c := virtrpctest.Open(t, h.main)
	defer c.Conn.Close()
	works(t, c)
}

// Whatever a client sends, it ends alone.
func FuzzConnection(f *testing.F) {
	h, open := fuzzed(f)
	upload := slices.Concat(open, packetOf(f, wire.Header{Procedure: wire.StorageVolUpload, Serial: 1}, &wire.VolStreamArgs{Vol: wire.Vol{Pool: "images", Name: "base.raw"}, Flags: wire.StreamSparse}))
	hole := packetOf(f, wire.Header{Procedure: wire.StorageVolUpload, Type: wire.StreamHole, Serial: 1, Status: wire.Continue}, &wire.Hole{Length: 7})
	end := packetOf(f, wire.Header{Procedure: wire.StorageVolUpload, Type: wire.Stream, Serial: 1}, &wire.None{})
	f.Add([]byte{})
	f.Add(open)
	f.Add(slices.Concat(upload, hole))
	f.Add(slices.Concat(upload, hole, end))
	f.Add(slices.Concat(open, packetOf(f, wire.Header{Procedure: wire.StoragePoolLookupByName, Serial: 2}, new(wire.Text("images")))))
	f.Add(slices.Concat(open, packetOf(f, wire.Header{Procedure: wire.StoragePoolLookupByName, Type: wire.CallWithFDs, Serial: 2}, new(wire.Text("images")))))
	f.Fuzz(func(t *testing.T, b []byte) { h.survives(t, b) })
}

// Whatever the arguments of a call are, it is answered or ends its connection alone.
func FuzzCall(f *testing.F) {
	h, open := fuzzed(f)
	for _, program := range []wire.Program{wire.Remote, wire.JobControl} {
		for number := range virtrpc.Procedures(program) {
			f.Add(uint32(program), uint32(number), make([]byte, 64))
		}
	}
	for _, by := range []wire.JobBy{wire.JobByNumber, wire.JobByID, wire.JobOfVolume, wire.JobOfPool} {
		args := packetOf(f, wire.Header{}, &wire.JobNumberArgs{Job: wire.JobRef{By: by, Number: 412, Pool: "images", Volume: "base.raw"}})[wire.LengthBytes+wire.HeaderBytes:]
		f.Add(uint32(wire.JobControl), uint32(wire.JobWait), args)
	}
	for _, packets := range exchanges {
		for _, p := range packets {
			payload := p.raw
			if p.args != nil {
				payload = packetOf(f, p.Header, p.args)[wire.LengthBytes+wire.HeaderBytes:]
			}
			f.Add(uint32(wire.Remote), uint32(p.Procedure), payload)
		}
	}
	f.Fuzz(func(t *testing.T, program, number uint32, args []byte) {
		call := wire.Header{Program: wire.Program(program), Version: wire.Version, Procedure: wire.Procedure(number), Serial: 1}
		h.survives(t, slices.Concat(open, call.Append(nil, len(args)), args))
	})
}
