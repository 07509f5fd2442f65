package peer

import (
	"os"
	"testing"
)

// someone is a uid that is neither root nor the test's own.
var someone = os.Geteuid() + 4711

func TestConnectionsAreBoundedByUser(t *testing.T) {
	var c Connections
	for range MaxConnections {
		if !c.add(someone) || !c.add(0) || !c.add(os.Geteuid()) {
			t.Fatal("refused below the bound")
		}
	}
	if c.add(someone) {
		t.Error("one more than the bound")
	}
	if !c.add(0) || !c.add(os.Geteuid()) || !c.add(someone+1) {
		t.Error("root or another user was refused")
	}
	c.remove(someone)
	if !c.add(someone) || c.add(someone) {
		t.Error("a connection that was closed does not make room for one")
	}
}

// A client that has gone is noticed by who does not read from it.
func TestPeerThatClosedIsNoticed(t *testing.T) {
	client, conn := pair(t)
	if conn.PeerClosed() {
		t.Error("closed while it is open")
	}
	client.Close()
	if !conn.PeerClosed() {
		t.Error("open when it is closed")
	}
}
