package daemon

import (
	"net"
	"os"
	"time"
)

// notifyPatience bounds a message to the service manager. One that does not
// read is not waited for: nothing of the daemon's hangs by its words.
const notifyPatience = 5 * time.Second

// notify tells the service manager something (sd_notify(3)); without one it
// does nothing. The package of go-systemd would wait for ever.
func (l *life) notify(state string) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	if err := tellManager(path, state); err != nil {
		l.Log.Warn("cannot notify the service manager", "state", state, "error", err)
	}
}

func tellManager(path, state string) error {
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer conn.Close() // a datagram is sent whole or not at all
	if err := conn.SetWriteDeadline(time.Now().Add(notifyPatience)); err != nil {
		return err
	}
	_, err = conn.Write([]byte(state))
	return err
}
