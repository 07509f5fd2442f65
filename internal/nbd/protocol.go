package nbd

import (
	"errors"
	"fmt"
	"syscall"
)

// ErrProtocol says that a server said what cannot be.
var ErrProtocol = errors.New("the NBD server broke the protocol")

// broken is an ErrProtocol that says how.
func broken(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrProtocol, fmt.Sprintf(format, args...))
}

// Magic numbers, by the protocol's names.
const (
	magicServer     = 0x4e42444d41474943 // "NBDMAGIC"
	magicOption     = 0x49484156454f5054 // "IHAVEOPT"
	magicReply      = 0x3e889045565a9    // of an option
	magicRequest    = 0x25609513
	magicSimple     = 0x67446698
	magicStructured = 0x668e33ef
)

// Flags of the handshake, of the server and of the client.
const (
	fixedNewstyle = 1 << 0
	noZeroes      = 1 << 1
)

// Options and their replies.
const (
	optGo             = 7
	optStructured     = 8
	optSetMetaContext = 10

	repAck         = 1
	repInfo        = 3
	repMetaContext = 4
	repError       = 1 << 31
	repUnknown     = repError + 6

	infoExport = 0
)

// Transmission flags.
const (
	hasFlags        = 1 << 0
	readOnly        = 1 << 1
	sendFlush       = 1 << 2
	sendTrim        = 1 << 5
	sendWriteZeroes = 1 << 6
	sendDF          = 1 << 7
	canMultiConn    = 1 << 8
	sendFastZero    = 1 << 11
)

// Requests and their flags.
const (
	cmdRead        = 0
	cmdWrite       = 1
	cmdDisconnect  = 2
	cmdFlush       = 3
	cmdTrim        = 4
	cmdWriteZeroes = 6
	cmdBlockStatus = 7

	flagNoHole   = 1 << 1
	flagDF       = 1 << 2
	flagFastZero = 1 << 4
)

// Chunks of structured replies.
const (
	chunkDone = 1 << 0 // flag

	chunkNone        = 0
	chunkData        = 1
	chunkHole        = 2
	chunkBlockStatus = 5
	chunkIsError     = 1 << 15
	chunkErrorOffset = chunkIsError + 2
)

// Bits of the status in base:allocation.
const (
	stateHole = 1 << 0
	stateZero = 1 << 1
)

const (
	contextAllocation = "base:allocation"
	contextDepth      = "qemu:allocation-depth"
)

const (
	requestBytes = 28 // of a request, without its data
	simpleBytes  = 16 // of a simple reply
	chunkBytes   = 20 // of the head of a chunk

	// mostString is the longest string that the protocol allows.
	mostString = 4096
)

// errnos are the error values of the protocol, which are those of Linux.
var errnos = map[uint32]syscall.Errno{
	1: syscall.EPERM, 5: syscall.EIO, 12: syscall.ENOMEM, 22: syscall.EINVAL, 28: syscall.ENOSPC,
	75: syscall.EOVERFLOW, 95: syscall.EOPNOTSUPP, 108: syscall.ESHUTDOWN,
}

// errnoOf gives the error of a reply, EINVAL for what the protocol does not know.
func errnoOf(code uint32) error {
	if e, ok := errnos[code]; ok {
		return e
	}
	return syscall.EINVAL
}
