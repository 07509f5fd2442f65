package virtrpc

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"storaged/internal/peer"
	"storaged/internal/polkit"
	"storaged/internal/record"
	"storaged/internal/virtrpc/wire"
	"storaged/internal/virtrpc/xdr"
)

const (
	// acceptPause is how long nothing is accepted when the daemon has no descriptors
	// or memory left for it: others give some back meanwhile.
	acceptPause = 100 * time.Millisecond

	// writeTimeout bounds each write, except of a stream: a client that does not read
	// for so long is stopped or stuck.
	writeTimeout = 10 * time.Second

	// partingTime is what a client has to close its connection when the server stops.
	// Those that look do it within milliseconds.
	partingTime = time.Second

	// keepaliveInterval is how long a client may be silent before it is asked whether
	// it lives, and keepaliveCount how often without an answer: libvirtd's defaults.
	keepaliveInterval = 5 * time.Second
	keepaliveCount    = 5
)

// Config is what a Server needs beside its Service.
type Config struct {
	Log   hclog.Logger
	URI   string // of the connections: storage:///system or storage:///session
	Group *int   // gid of the main socket's members; nil: whoever may open it

	Authority *polkit.Authority // decides about others than root and members; nil: nobody does

	// Cancel says that the job of a call whose client goes away is canceled. Otherwise
	// it goes on.
	Cancel bool

	// Silence is how long a client may send nothing of a content that it uploads while
	// its job is at work; 0: for ever.
	Silence time.Duration

	Connections *peer.Connections // counts them, with those of other front ends
}

// Server answers libvirt's clients by calls of a Service. Its methods may be called
// concurrently.
type Server struct {
	Config
	svc       Service
	programs  map[wire.Program]map[wire.Procedure]procedure
	callbacks atomic.Int32 // how many were given out to all clients

	writeTimeout      time.Duration // the constants, except in tests
	keepaliveInterval time.Duration

	stopping context.Context // over when Shutdown begins: waits end
	stop     context.CancelFunc

	group sync.WaitGroup // of connections

	mu        sync.Mutex
	listeners []net.Listener
	open      map[*connection]bool
}

// NewServer makes a server for svc.
func NewServer(svc Service, c Config) *Server {
	s := &Server{
		Config: c, svc: svc, programs: programs(), writeTimeout: writeTimeout, keepaliveInterval: keepaliveInterval,
		open: map[*connection]bool{},
	}
	s.stopping, s.stop = context.WithCancel(context.Background())
	return s
}

// Serve answers connections that come through the unix socket l, which it closes in
// the end, until Shutdown: then it gives nil. On a read-only socket everybody is a
// Reader.
func (s *Server) Serve(l net.Listener, readOnly bool) error {
	defer l.Close()
	s.mu.Lock()
	s.listeners = append(s.listeners, l)
	s.mu.Unlock()
	known := &peer.Listener{Listener: l, Count: s.Connections, Refuse: refuse}
	for s.stopping.Err() == nil {
		conn, err := known.Accept()
		switch {
		case err == nil:
			s.serve(conn.(*peer.Conn), readOnly)
		case scarce(err):
			s.pause(err)
		case s.stopping.Err() == nil:
			return err
		}
	}
	return nil
}

// scarce reports whether a connection could not be accepted for want of something.
func scarce(err error) bool {
	for _, no := range []error{unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM, unix.ECONNABORTED} {
		if errors.Is(err, no) {
			return true
		}
	}
	return false
}

func (s *Server) pause(why error) {
	s.Log.Warn("cannot accept a connection now", "error", why)
	over := time.NewTimer(acceptPause)
	defer over.Stop()
	select {
	case <-over.C:
	case <-s.stopping.Done():
	}
}

// serve begins to answer a connection.
func (s *Server) serve(conn *peer.Conn, readOnly bool) {
	c := newConnection(s, conn, readOnly)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping.Err() != nil {
		_ = conn.Close()
		return
	}
	s.open[c] = true
	s.group.Go(func() {
		c.serve()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.open, c)
	})
}

// Shutdown accepts nothing more, ends waits and lets calls in hand answer. When ctx
// ends first it breaks their connections and gives ctx's error.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.stop()
	for _, l := range s.listeners {
		_ = l.Close() // Serve ends by it
	}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() { // ends below at the latest, with the last connection
		s.group.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	for c := range s.open {
		c.leave()
	}
	s.mu.Unlock()
	<-done
	return ctx.Err()
}

// refuse says to a new connection why it is not answered, as if to the first call
// that a client in C makes.
func refuse(conn net.Conn, why *record.Error) {
	h := wire.Header{Program: wire.Remote, Version: wire.Version, Procedure: wire.AuthList, Type: wire.Reply, Status: wire.Error}
	b, err := xdr.Encode(wire.Failf(wire.FromRPC, wire.ResourceBusy, "%s", why.Message))
	if err != nil {
		return // and it only sees that it was closed
	}
	_, _ = conn.Write(append(h.Append(nil, len(b)), b...))
}
