package rest

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
)

// The kernel tells who has connected, with all groups, however many.
func TestPeerHasItsGroups(t *testing.T) {
	many := make([]int, 200)
	for i := range many {
		many[i] = 5000 + i
	}
	own, err := os.Getgroups()
	if err != nil {
		t.Fatal(err)
	}
	for _, groups := range [][]int{own, many} {
		if os.Geteuid() == 0 {
			if err := syscall.Setgroups(groups); err != nil {
				t.Fatal(err)
			}
			defer syscall.Setgroups(own)
		} else {
			groups = own
		}
		got := connected(t)
		slices.Sort(got.groups)
		want := slices.Sorted(slices.Values(append(slices.Clone(groups), os.Getegid())))
		if !slices.Equal(got.groups, want) || got.uid != os.Geteuid() || got.pid != os.Getpid() {
			t.Errorf("peer is %+v, groups should be %v", got, want)
		}
	}
}

// connected gives the peer of a connection that this process makes to itself.
func connected(t *testing.T) *peer {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	p, err := peerOf(server.(*net.UnixConn))
	if err != nil {
		t.Fatal(err)
	}
	return p
}
