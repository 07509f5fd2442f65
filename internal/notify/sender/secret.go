package sender

import (
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// maxSecret bounds the value of a header and an address, bytes.
const maxSecret = 8 << 10

// readSecret reads the value of a header, or an address, from a file that its owner alone may read, who is
// root or this process's user.
func readSecret(path string) (string, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0) // a FIFO would have it wait
	if err != nil {
		return "", fmt.Errorf("cannot read the secret: %w", err)
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return "", fmt.Errorf("cannot read the secret: %w", err)
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return "", fmt.Errorf("the secret %q is no regular file", path)
	case st.Mode&0o077 != 0:
		return "", fmt.Errorf("the secret %q may be read by others than its owner (mode %04o): chmod 600", path, st.Mode&0o7777)
	case st.Uid != 0 && int(st.Uid) != os.Geteuid():
		return "", fmt.Errorf("the secret %q belongs to user %d: chown root", path, st.Uid)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return "", fmt.Errorf("cannot read the secret: %w", err)
	}
	value := strings.TrimRight(string(text), "\r\n")
	switch {
	case value == "":
		return "", fmt.Errorf("the secret %q is empty", path)
	case len(text) > maxSecret:
		return "", fmt.Errorf("the secret %q is longer than %d bytes", path, maxSecret)
	case strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }):
		return "", fmt.Errorf("the secret %q has control characters, or is more than a line", path)
	}
	return value, nil
}
