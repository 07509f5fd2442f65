package netfs

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"storaged/internal/backends"
	"storaged/internal/record"
)

func TestServersAreNamed(t *testing.T) {
	for text, want := range map[string]struct{ export, port string }{
		"server": {"server:/e", "2049"}, "nas-1.example.org:20490": {"nas-1.example.org:/e", "20490"}, "10.0.0.1": {"10.0.0.1:/e", "2049"},
		"fd00::1": {"[fd00::1]:/e", "2049"}, "[fd00::1]": {"[fd00::1]:/e", "2049"}, "[fd00::1]:111": {"[fd00::1]:/e", "111"},
	} {
		s, err := serverOf(text)
		if err != nil || s.export("/e") != want.export || s.port != want.port {
			t.Errorf("%q is %+v, %v", text, s, err)
		}
	}
	for _, text := range []string{"", "-o", "a b", "a,b", "a:0", "a:65536", "a:b", ":2049", "a/b", "[::1", "a\"b", "ä"} {
		if s, err := serverOf(text); record.CodeOf(err) != record.Invalid {
			t.Errorf("%q is %+v, %v", text, s, err)
		}
	}
}

func TestSourceOfAPool(t *testing.T) {
	good := record.Source{Hosts: []string{"a", "b:2049"}, Path: "/", Options: map[string]string{"nfsvers": "4.1", "ro": "", "_netdev": ""}}
	if err := (Backend{}).CheckSource(good); err != nil {
		t.Error(err)
	}
	for why, change := range map[string]func(*record.Source){
		"SMB": func(s *record.Source) { s.Format = "cifs" }, "Gluster": func(s *record.Source) { s.Format = "glusterfs" },
		"no host": func(s *record.Source) { s.Hosts = []string{"-x"} }, "no option": func(s *record.Source) { s.Options = map[string]string{"addr": "10.0.0.1"} },
		"source path": func(s *record.Source) { s.Path = "e" },
	} {
		bad := good
		change(&bad)
		if err := (Backend{}).CheckSource(bad); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v", why, err)
		}
	}
}

func TestVersionsThatAreTried(t *testing.T) {
	for said, want := range map[string][]string{"": {"4.2", "4.1", "4.0", "3"}, "vers=4": {"4.2", "4.1", "4.0"}, "nfsvers=3": {"3"}, "minorversion=1": {"4.1"}, "vers=4.1": {"4.1"}} {
		options := map[string]string{}
		if name, value, ok := strings.Cut(said, "="); ok {
			options[name] = value
		}
		if got := tried(options); !slices.Equal(got, want) {
			t.Errorf("%q: %q", said, got)
		}
	}
}

// A server answers, with whatever; what says nothing, or something else, is none.
func TestWhoAnswersIsThere(t *testing.T) {
	for says, want := range map[string]string{
		"\x80\x00\x00\x18stor\x00\x00\x00\x01and more": "", "HTTP/1.1 400 Bad Request": "no server of NFS", "": "EOF",
	} {
		address := listening(t, says)
		if err := answers(t.Context(), address); err != nil && want == "" || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v", says, err)
		}
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0") // the kernel lets clients in that nobody answers
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := answers(ctx, silent.Addr().String()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("of one that says nothing: %v", err)
	}
}

// listening says something to one client that has said what a call is.
func listening(t *testing.T, says string) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_, err = io.ReadFull(c, make([]byte, 44))
		_, err2 := io.WriteString(c, says)
		if err = errors.Join(err, err2); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-ended
	})
	return l.Addr().String()
}

// What is canceled before it has begun does nothing.
func TestCanceledBeforeItBegins(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	b := Backend{}
	p := backends.Pool{Type: "netfs", Target: filepath.Join(t.TempDir(), "pool"), Source: record.Source{Hosts: []string{"localhost"}, Path: "/e"}}
	for what, err := range map[string]error{
		"build": b.Build(ctx, p, false), "start": b.Start(ctx, p), "stop": b.Stop(ctx, p), "delete": b.Delete(ctx, p, true), "ready": b.Ready(ctx, p),
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := os.Stat(p.Target); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the target: %v", err)
	}
}
