// Package wire is libvirt's remote protocol as bytes: packets, the arguments and
// results of the calls that storage needs, and errors. It is the same for both ends.
// The sources are libvirt's src/rpc/virnetprotocol.x and src/remote/remote_protocol.x,
// and what its own daemon was seen to send.
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

const (
	// LengthBytes is the size of the length that a packet begins with, which counts
	// itself.
	LengthBytes = 4
	// HeaderBytes is the size of the header behind it.
	HeaderBytes = 24
	// MaxPacket bounds a packet without its length: VIR_NET_MESSAGE_MAX.
	MaxPacket = 32 << 20
	// MaxPayload bounds what follows the header.
	MaxPayload = MaxPacket - HeaderBytes
	// StreamBytes is the largest piece of a stream that every client takes:
	// VIR_NET_MESSAGE_LEGACY_PAYLOAD_MAX.
	StreamBytes = 262120
)

// Program is a set of procedures.
type Program uint32

const (
	Remote     Program = 0x20008086 // all of libvirt's public interface
	QEMU       Program = 0x20008087
	LXC        Program = 0x20008088
	Keepalive  Program = 0x6b656570
	JobControl Program = 0x206a6f62 // ours: see job.go
)

// Version is that of all programs.
const Version = 1

// Type is what a packet is.
type Type uint32

const (
	Call Type = iota
	Reply
	Message
	Stream
	CallWithFDs
	ReplyWithFDs
	StreamHole
)

// Status is how it stands with what a packet is about.
type Status uint32

const (
	OK       Status = iota // a call, its success, or the end of a stream
	Error                  // an error follows; from a client: a stream is broken off
	Continue               // more of a stream
)

// Procedures of Keepalive.
const (
	Ping Procedure = 1
	Pong Procedure = 2
)

// Header says what a packet is. Serial is chosen by who calls; the reply has the same.
type Header struct {
	Program   Program
	Version   uint32
	Procedure Procedure
	Type      Type
	Serial    uint32
	Status    Status
}

// ErrLength says that a packet has a length that none can have.
var ErrLength = errors.New("a packet has an impossible length")

// Append puts a packet's length and header behind b; payload bytes follow it.
func (h Header) Append(b []byte, payload int) []byte {
	for _, word := range [...]uint32{
		uint32(LengthBytes + HeaderBytes + payload), uint32(h.Program), h.Version, uint32(h.Procedure), uint32(h.Type), h.Serial, uint32(h.Status),
	} {
		b = binary.BigEndian.AppendUint32(b, word)
	}
	return b
}

// ReadHeader reads a packet as far as its payload, of which it gives the length.
// io.EOF is the end of the connection between two packets.
func ReadHeader(r io.Reader) (h Header, payload int, err error) {
	var b [LengthBytes + HeaderBytes]byte
	if _, err := io.ReadFull(r, b[:LengthBytes]); err != nil {
		return h, 0, err
	}
	n := binary.BigEndian.Uint32(b[:])
	if n < uint32(len(b)) || n > LengthBytes+MaxPacket {
		return h, 0, fmt.Errorf("%w: %d", ErrLength, n)
	}
	if _, err := io.ReadFull(r, b[LengthBytes:]); err != nil {
		return h, 0, io.ErrUnexpectedEOF
	}
	word := func(i int) uint32 { return binary.BigEndian.Uint32(b[LengthBytes+4*i:]) }
	h = Header{Program(word(0)), word(1), Procedure(word(2)), Type(word(3)), word(4), Status(word(5))}
	return h, int(n) - len(b), nil
}
