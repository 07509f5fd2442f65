package apitest

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// notes is a test that only notes what is reported to it.
type notes struct {
	testing.TB
	said []string
}

func (n *notes) Helper() {}
func (n *notes) Errorf(format string, args ...any) {
	n.said = append(n.said, fmt.Sprintf(format, args...))
}

// canned answers every request with the same.
type canned struct {
	status       int
	header, body string
}

func (c canned) RoundTrip(r *http.Request) (*http.Response, error) {
	resp := &http.Response{StatusCode: c.status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(c.body)), Request: r}
	for _, h := range strings.Split(c.header, "\n") {
		if name, value, ok := strings.Cut(h, ": "); ok {
			resp.Header.Set(name, value)
		}
	}
	return resp, nil
}

const (
	asJSON    = "Content-Type: application/json"
	asProblem = "Content-Type: application/problem+json"
	busy      = `{"type":"urn:storaged:problem:busy","title":"busy","status":409,"detail":"d","code":"busy"}`
	full      = `{"type":"urn:storaged:problem:queue_full","title":"t","status":429,"detail":"d","code":"queue_full"}`
	version   = `{"version":"1","api":"v1","go":"go1"}`
)

func TestDeviationsAreFound(t *testing.T) {
	for _, c := range []struct {
		name, method, target, body string
		answer                     canned
		want                       string // "" is no deviation
	}{
		{"fine", "GET", "/v1/version", "", canned{200, asJSON, version}, ""},
		{"fine refusal", "GET", "/v1/version", "", canned{409, asProblem, busy}, ""},
		{"fine nothing", "DELETE", "/v1/jobs/1", "", canned{204, "", ""}, ""},
		{"unknown field", "GET", "/v1/version", "", canned{200, asJSON, `{"version":"1","api":"v1","go":"go1","more":1}`}, "more"},
		{"missing field", "GET", "/v1/version", "", canned{200, asJSON, `{"version":"1","api":"v1"}`}, "go"},
		{"wrong type", "GET", "/v1/version", "", canned{200, asJSON, `{"version":1,"api":"v1","go":"go1"}`}, "version"},
		{"word not listed", "GET", "/v1/version", "", canned{200, asJSON, `{"version":"1","api":"v2","go":"go1"}`}, "enum"},
		{"null list", "GET", "/v1/pools", "", canned{200, asJSON, `{"items":null,"next":null}`}, "items"},
		{"other status", "GET", "/v1/version", "", canned{202, asJSON, version}, "202"},
		{"other content", "GET", "/v1/version", "", canned{200, "Content-Type: text/html", "hello"}, "text/html"},
		{"body where there is none", "DELETE", "/v1/jobs/1", "", canned{204, "", "x"}, "not described"},
		{"missing header", "PATCH", "/v1/pools/p", `{}`, canned{200, asJSON, `{}`}, "ETag"},
		{"refusal that is no problem", "GET", "/v1/version", "", canned{404, "Content-Type: text/plain", "no"}, "text/plain"},
		{"refusal with another status", "GET", "/v1/version", "", canned{404, asProblem, busy}, "status 409"},
		{"refusal of an unknown code", "GET", "/v1/version", "", canned{409, asProblem, strings.Replace(busy, `"busy"}`, `"odd"}`, 1)}, "enum"},
		{"no Retry-After", "GET", "/v1/version", "", canned{429, asProblem, full}, "Retry-After"},
		{"Retry-After", "GET", "/v1/version", "", canned{429, asProblem + "\nRetry-After: 5", full}, ""},
		{"unknown field taken", "POST", "/v1/jobs/1/cancel", `{"x":1}`, canned{200, asJSON, `{}`}, "does not allow"},
		{"bad query taken", "GET", "/v1/pools?limit=0", "", canned{200, asJSON, `{"items":[],"next":null}`}, "does not allow"},
		{"bad body refused", "POST", "/v1/jobs/1/cancel", `{"x":1}`, canned{409, asProblem, busy}, ""},
		{"no such path", "GET", "/v1/nowhere", "", canned{200, asJSON, `{}`}, "no such operation"},
		{"no such method", "DELETE", "/v1/pools/p", "", canned{202, asJSON, `{}`}, "no such operation"},
		{"bad event", "GET", "/v1/events", "", canned{200, "Content-Type: text/event-stream", "data: {\"seq\":1}\n\n"}, "time"},
		{"redirect", "GET", "/v1/version", "", canned{301, "Location: /", ""}, "301"},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := &notes{TB: t}
			r, err := http.NewRequest(c.method, "http://storaged"+c.target, strings.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", "application/json")
			if c.body == "" {
				r.Body, r.ContentLength = http.NoBody, 0
			}
			resp, err := New(n).Transport(c.answer).RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			if b, err := io.ReadAll(resp.Body); err != nil || string(b) != c.answer.body {
				t.Errorf("the answer became %q, %v", b, err)
			}
			said := strings.Join(n.said, "\n")
			if (said == "") != (c.want == "") || !strings.Contains(said, c.want) {
				t.Errorf("reported %q, want %q", said, c.want)
			}
		})
	}
}

func TestProxyPassesOnAndChecks(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "daemon.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	h := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"version":%q,"api":"v1","go":"go1","more":1}`, r.URL.RawPath)
	})}
	served := make(chan error)
	go func() { served <- h.Serve(l) }()
	defer func() { h.Close(); <-served }()

	n := &notes{TB: t}
	proxy := New(n).Proxy(t, socket)
	conn, err := net.Dial("unix", proxy)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "GET /v1/version HTTP/1.0\r\n\r\n")
	b, err := io.ReadAll(conn)
	if err != nil || !strings.Contains(string(b), `"more":1`) {
		t.Errorf("got %s, %v", b, err)
	}
	if len(n.said) != 1 || !strings.Contains(n.said[0], "more") {
		t.Errorf("reported %q", n.said)
	}
}
