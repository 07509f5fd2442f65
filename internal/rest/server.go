package rest

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"storaged/internal/peer"
	"storaged/internal/record"
)

const (
	// headerTimeout bounds the time for a request's header. Clients are on
	// this host and write it at once; who does not only holds a descriptor.
	headerTimeout = 10 * time.Second

	// bodyTimeout bounds the time for a body of at most maxBody bytes.
	bodyTimeout = 10 * time.Second

	// lingerTime and lingerBytes bound what is read on of a body that nobody
	// wants. Some clients look for an answer only when all is sent: the time is
	// for one that is starved or stopped for a while, the bytes are about a second
	// of reading. Who leaves ends it at once.
	lingerTime  = 30 * time.Second
	lingerBytes = 1 << 30

	// writeTimeout bounds each write of an answer, also each one of a stream:
	// a client that does not read for so long is stopped or stuck.
	writeTimeout = 10 * time.Second

	// idleTimeout closes connections without a request: longer than a client
	// that polls, shorter than would let forgotten ones pile up.
	idleTimeout = 2 * time.Minute

	// maxHeader bounds a request's header, bytes: a path of two names of 255
	// bytes, escaped, and many filters fit.
	maxHeader = 32 << 10
)

// ServerConfig is what a Server needs beside its Service.
type ServerConfig struct {
	Log    hclog.Logger
	Socket string // the main socket, to name where the read-only one refuses
	Group  *int   // gid of the main socket's members; nil: whoever may open it

	// Silence is how long a client may send nothing of a content that it uploads
	// while its job is at work; 0: for ever.
	Silence time.Duration

	Connections *peer.Connections // counts them, with those of other front ends; nil: alone
}

// Server answers REST requests by calls of a Service. Its methods may be
// called concurrently.
type Server struct {
	svc    Service
	log    hclog.Logger
	socket string
	group  *int

	silence      time.Duration // see ServerConfig
	writeTimeout time.Duration // the constant, except in tests
	keepalive    time.Duration // likewise

	stopping context.Context // over when Shutdown begins: waits and streams end
	stop     context.CancelFunc

	connections *peer.Connections

	mu      sync.Mutex
	servers []*http.Server
}

// NewServer makes a server for svc.
func NewServer(svc Service, cfg ServerConfig) *Server {
	s := &Server{svc: svc, log: cfg.Log, socket: cfg.Socket, group: cfg.Group, silence: cfg.Silence, writeTimeout: writeTimeout, keepalive: keepalive,
		connections: cmp.Or(cfg.Connections, new(peer.Connections))}
	s.stopping, s.stop = context.WithCancel(context.Background())
	return s
}

// Serve answers requests that come through the unix socket l, which it closes in the end,
// until Shutdown: then it gives nil. On a read-only socket everybody is a
// Reader.
func (s *Server) Serve(l net.Listener, readOnly bool) error {
	h := &http.Server{
		Handler:           s.Handler(readOnly),
		ConnContext:       connContext,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          s.log.StandardLogger(&hclog.StandardLoggerOptions{ForceLevel: hclog.Warn}),
	}
	s.mu.Lock()
	if s.stopping.Err() != nil {
		s.mu.Unlock()
		return l.Close()
	}
	s.servers = append(s.servers, h)
	s.mu.Unlock()
	if err := h.Serve(&peer.Listener{Listener: l, Count: s.connections, Refuse: refuse}); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Shutdown accepts nothing more, ends waits and streams, and lets requests in
// hand finish. When ctx ends first it breaks their connections and gives ctx's
// error.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.stop()
	servers := slices.Clone(s.servers)
	s.mu.Unlock()
	var errs []error
	for _, h := range servers {
		if err := h.Shutdown(ctx); err != nil {
			errs = append(errs, err, h.Close())
		}
	}
	return errors.Join(errs...)
}

// Handler answers requests whose connections have a peer, as those of Serve
// do; to others it refuses everything.
func (s *Server) Handler(readOnly bool) http.Handler {
	mux := http.NewServeMux()
	for pattern, rows := range byPattern(routes()) {
		mux.Handle(pattern, rows)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.(*call).fail(record.Errorf(record.NotFound, "there is nothing at %s", record.Short(r.URL.Path)).
			WithHint("GET /v1/openapi.yaml describes what there is"))
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := &call{Server: s, ResponseWriter: w, r: r, began: time.Now()}
		defer c.finish()
		conn, ok := r.Context().Value(connectionKey{}).(*peer.Conn)
		if !ok {
			c.fail(record.Errorf(record.Denied, "the peer of this connection is not known"))
			return
		}
		c.caller = conn.Peer.Caller(peer.Socket{Via: "rest", ReadOnly: readOnly, Group: s.group})
		if err := checkPath(r); err != nil {
			c.fail(err)
			return
		}
		mux.ServeHTTP(c, r)
	})
}
