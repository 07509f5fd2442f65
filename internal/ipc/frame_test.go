package ipc

import (
	"bytes"
	"encoding/binary"
	"testing"

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
