package virtrpc_test

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"storaged/internal/virtrpc/virtrpctest"
	"storaged/internal/virtrpc/wire"
	"storaged/internal/virtrpc/xdr"
)

// Whatever a client sends, it ends alone: the server goes on for others.
func FuzzConnection(f *testing.F) {
	packet := func(h wire.Header, v xdr.Value) []byte {
		h.Program, h.Version = wire.Remote, wire.Version
		b, err := xdr.Encode(v)
		if err != nil {
			f.Fatal(err)
		}
		return append(h.Append(nil, len(b)), b...)
	}
	open := packet(wire.Header{Procedure: wire.ConnectOpen}, &wire.OpenArgs{})
	upload := append(open, packet(wire.Header{Procedure: wire.StorageVolUpload, Serial: 1}, &wire.VolStreamArgs{Vol: wire.Vol{Pool: "images", Name: "base.raw"}, Flags: wire.StreamSparse})...)
	hole := packet(wire.Header{Procedure: wire.StorageVolUpload, Type: wire.StreamHole, Serial: 1, Status: wire.Continue}, &wire.Hole{Length: 7})
	f.Add([]byte{})
	f.Add(open)
	f.Add(append(upload, hole...))
	f.Add(append(append(upload, hole...), packet(wire.Header{Procedure: wire.StorageVolUpload, Type: wire.Stream, Serial: 1}, &wire.None{})...))
	f.Add(append(open, packet(wire.Header{Procedure: wire.StoragePoolLookupByName, Serial: 2}, new(wire.Text("images")))...))
	f.Add(append(open, packet(wire.Header{Procedure: wire.StoragePoolLookupByName, Type: wire.CallWithFDs, Serial: 2}, new(wire.Text("images")))...))
	f.Fuzz(func(t *testing.T, b []byte) {
		h := newHost(t, nil)
		close(h.svc.end) // jobs succeed at once
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
		if _, err := io.Copy(io.Discard, conn); err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the connection does not end: %v", err)
		}
		works(t, virtrpctest.Open(t, h.main))
	})
}
