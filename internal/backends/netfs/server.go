package netfs

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"storaged/internal/record"
)

// nfsPort is that of a server of which nobody says another (RFC 8881, 2.9.3).
const nfsPort = "2049"

// server is one that a source names.
type server struct{ name, port string }

// hostName reports whether a text can be the name of a host (RFC 1123, 2.1, and what is
// used beside).
func hostName(text string) bool {
	const letters, more = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_", ".-"
	return text != "" && len(text) <= 255 && strings.Trim(text, letters+more) == "" && strings.Trim(text[:1], letters) == ""
}

// serverOf reads HOST or HOST:PORT; an address of IPv6 is in brackets where there is a port.
func serverOf(text string) (s server, err error) {
	bad := record.Errorf(record.Invalid, "%q is no host, or HOST:PORT", text)
	s = server{name: text, port: nfsPort}
	if strings.HasPrefix(text, "[") && strings.HasSuffix(text, "]") {
		s.name = text[1 : len(text)-1]
	}
	if net.ParseIP(s.name) != nil {
		return s, nil
	}
	if strings.Contains(text, ":") {
		if s.name, s.port, err = net.SplitHostPort(text); err != nil {
			return s, bad
		}
	}
	if n, err := strconv.ParseUint(s.port, 10, 16); err != nil || n == 0 {
		return s, bad
	}
	if net.ParseIP(s.name) == nil && !hostName(s.name) {
		return s, bad
	}
	return s, nil
}

// export is how the kernel names what is mounted.
func (s server) export(path string) string {
	if strings.Contains(s.name, ":") {
		return "[" + s.name + "]:" + path
	}
	return s.name + ":" + path
}

// findTime is how long it may take to find a server by its name: the addresses are asked
// for all at once.
const findTime = 10 * time.Second

// find gives an address of the server at which it answers.
func (s server) find(ctx context.Context) (address string, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, findTime, fmt.Errorf("%q is not found within %v", s.name, findTime))
	defer cancel()
	addresses, err := net.DefaultResolver.LookupHost(ctx, s.name)
	if err != nil {
		return "", fmt.Errorf("the server %q is not found: %w", s.name, err)
	}
	for _, address = range addresses {
		if err = answers(ctx, net.JoinHostPort(address, s.port)); err == nil {
			return address, nil
		}
	}
	return "", fmt.Errorf("the server %q does not answer: %w", s.name, err)
}

// answerTime is how long a server has for an answer: far more than one takes that is
// there and has much to do.
const answerTime = 5 * time.Second

// answers asks a server of NFS for nothing (RFC 5531 and 8881, 16.1: NULL). Whatever it
// answers, it is there.
func answers(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Now()) }) // it ends what waits
	defer stop()
	const (
		id       = 0x73746f72 // of the call: there is only one
		program  = 100003
		version  = 4
		last     = 1 << 31 // of the parts of a record
		words    = 10      // of the call
		answered = 1       // what an answer says that it is
	)
	call := binary.BigEndian.AppendUint32(nil, last|4*words)
	for _, word := range [words]uint32{id, 0, 2, program, version} { // and no procedure, and nobody who asks
		call = binary.BigEndian.AppendUint32(call, word)
	}
	if _, err := c.Write(call); err != nil {
		return err
	}
	var answer [12]byte
	if _, err := io.ReadFull(c, answer[:]); err != nil {
		return errors.Join(ctx.Err(), err)
	}
	if binary.BigEndian.Uint32(answer[4:]) != id || binary.BigEndian.Uint32(answer[8:]) != answered {
		return errors.New("what answers there is no server of NFS")
	}
	return nil
}
