package transfer

import (
	"errors"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"storaged/internal/record"
)

// ReceiveFile receives one open file of a client (SCM_RIGHTS, unix(7)). Nothing is
// done with it here: it is for a helper.
func ReceiveFile(conn *net.UnixConn) (*os.File, error) {
	var b [1]byte
	oob := make([]byte, unix.CmsgSpace(4*4)) // room to see that there are too many
	n, oobn, flags, _, err := conn.ReadMsgUnix(b[:], oob)
	if err != nil {
		return nil, record.Errorf(record.Invalid, "no descriptor came: %v", err)
	}
	var fds []int
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	for i := range messages {
		more, perr := unix.ParseUnixRights(&messages[i])
		fds = append(fds, more...)
		err = errors.Join(err, perr)
	}
	if err == nil && n == 1 && len(fds) == 1 && flags&unix.MSG_CTRUNC == 0 {
		return os.NewFile(uintptr(fds[0]), "descriptor of a client"), nil
	}
	for _, fd := range fds {
		_ = unix.Close(fd) // nothing was done with it
	}
	return nil, record.Errorf(record.Invalid, "a client hands over one byte with one descriptor, not %d with %d", n, len(fds))
}
