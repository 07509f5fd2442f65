// Package apitest holds the traffic of a test run to openapi.yaml: whatever a
// test asks and a server answers, a deviation fails the test. It is for tests
// only.
package apitest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"

	"storaged/internal/rest"
)

const (
	problemType = "application/problem+json"
	eventsType  = "text/event-stream"
)

// Load gives openapi.yaml, read once; nobody changes it. Every object in it is
// taken to have no other members than those it names, so that a field that the
// document lacks is a deviation too.
func Load() (*openapi3.T, error) { return load() }

var load = sync.OnceValues(func() (*openapi3.T, error) {
	// A format that the validator knows only when told.
	openapi3.DefineStringFormatValidator("uuid", openapi3.NewRegexpFormatValidator(openapi3.FormatOfStringForUUIDOfRFC9562))
	doc, err := openapi3.NewLoader().LoadFromData(rest.OpenAPI)
	if err != nil {
		return nil, err
	}
	if err := doc.Validate(context.Background()); err != nil {
		return nil, err
	}
	for _, s := range doc.Components.Schemas {
		closeObjects(s.Value)
	}
	return doc, nil
})

// closeObjects forbids unnamed members in a schema and those inside of it.
func closeObjects(s *openapi3.Schema) {
	for _, p := range s.Properties {
		closeObjects(p.Value)
	}
	if s.Items != nil {
		closeObjects(s.Items.Value)
	}
	if len(s.Properties) > 0 && s.AdditionalProperties.Schema == nil {
		no := false
		s.AdditionalProperties = openapi3.AdditionalProperties{Has: &no}
	}
}

// Checker holds traffic to the contract and reports deviations to a test. Its
// methods may be called concurrently.
type Checker struct {
	t   testing.TB
	doc *openapi3.T
	mux *http.ServeMux

	mu     sync.Mutex
	closed bool
	seen   map[string]bool // "METHOD path" of every operation that was answered with success
}

// New makes a checker that reports to t until t ends.
func New(t testing.TB) *Checker {
	t.Helper()
	doc, err := Load()
	if err != nil {
		t.Fatalf("openapi.yaml: %v", err)
	}
	c := &Checker{t: t, doc: doc, mux: http.NewServeMux(), seen: map[string]bool{}}
	for path := range doc.Paths.Map() {
		c.mux.Handle(path, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.(*finding).path, w.(*finding).request = path, r
		}))
	}
	t.Cleanup(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.closed = true
	})
	return c
}

// Seen lists the operations, "METHOD path", that were answered with success.
func (c *Checker) Seen() map[string]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string]bool{}
	for op := range c.seen {
		out[op] = true
	}
	return out
}

// Transport checks what goes through rt. It fits Client.Wrap.
func (c *Checker) Transport(rt http.RoundTripper) http.RoundTripper { return &transport{c, rt} }

type transport struct {
	*Checker
	next http.RoundTripper
}

// RoundTrip sends a request and checks it and its answer.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	sent, err := drain(&r.Body)
	if err != nil {
		return nil, err
	}
	resp, err := t.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	return resp, t.exchange(r, sent, resp)
}

// CloseIdleConnections passes on what http.Client asks for.
func (t *transport) CloseIdleConnections() {
	if c, ok := t.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// drain reads a body and puts it back.
func drain(body *io.ReadCloser) ([]byte, error) {
	if *body == nil || *body == http.NoBody {
		return nil, nil
	}
	b, err := io.ReadAll(*body)
	if err != nil {
		return nil, err
	}
	if err := (*body).Close(); err != nil {
		return nil, err
	}
	*body = io.NopCloser(bytes.NewReader(b))
	return b, nil
}

// exchange checks one request and its answer.
func (c *Checker) exchange(r *http.Request, sent []byte, resp *http.Response) error {
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	var got []byte
	if kind == eventsType {
		resp.Body = &eventBody{ReadCloser: resp.Body, c: c}
	} else {
		var err error
		if got, err = drain(&resp.Body); err != nil {
			return err
		}
	}
	if err := c.check(r, sent, resp, got); err != nil {
		c.report("%s %s: %d: %v\nsent: %.500s\ngot: %.2000s", r.Method, r.URL, resp.StatusCode, err, sent, got)
	}
	return nil
}

func (c *Checker) report(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.t.Errorf("deviation from openapi.yaml: "+format, args...)
	}
}

// check compares an exchange with the contract: the answer is one of those
// that are described, and a request that is not described is refused.
func (c *Checker) check(r *http.Request, sent []byte, resp *http.Response, got []byte) error {
	in := c.input(r, sent)
	if in == nil {
		return c.refused(resp, got, fmt.Errorf("no such operation"))
	}
	if err := openapi3filter.ValidateRequest(r.Context(), in); err != nil {
		return c.refused(resp, got, err)
	}
	if resp.StatusCode >= 400 {
		return c.problem(resp, got)
	}
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	out := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: in, Status: resp.StatusCode, Header: resp.Header, Body: io.NopCloser(bytes.NewReader(got)),
		Options: &openapi3filter.Options{IncludeResponseStatus: true, ExcludeResponseBody: kind == eventsType},
	}
	if err := openapi3filter.ValidateResponse(r.Context(), out); err != nil {
		return err
	}
	answer := in.Route.Operation.Responses.Status(resp.StatusCode)
	if answer == nil {
		return fmt.Errorf("status %d is not described", resp.StatusCode)
	}
	if content := answer.Value.Content; len(content) == 0 && len(got) > 0 || len(content) > 0 && content.Get(kind) == nil {
		return fmt.Errorf("an answer of type %q is not described", kind)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen[r.Method+" "+in.Route.Path] = true
	return nil
}

// refused holds a request that the contract does not allow to a refusal.
func (c *Checker) refused(resp *http.Response, got []byte, why error) error {
	if resp.StatusCode < 400 {
		return fmt.Errorf("answered, though the contract does not allow it: %w", why)
	}
	return c.problem(resp, got)
}

// problem checks a refusal.
func (c *Checker) problem(resp *http.Response, got []byte) error {
	if kind := resp.Header.Get("Content-Type"); kind != problemType {
		return fmt.Errorf("a refusal of type %q", kind)
	}
	if resp.Request != nil && resp.Request.Method == http.MethodHead {
		return nil // its answer has no body
	}
	if err := c.visit("Problem", got); err != nil {
		return err
	}
	var p struct{ Status int }
	if err := json.Unmarshal(got, &p); err != nil || p.Status != resp.StatusCode {
		return fmt.Errorf("the problem says status %d (%v)", p.Status, err)
	}
	retry := resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusServiceUnavailable
	if retry != (resp.Header.Get("Retry-After") != "") {
		return fmt.Errorf("Retry-After is %q", resp.Header.Get("Retry-After"))
	}
	return nil
}

// visit checks JSON against a schema of the document.
func (c *Checker) visit(schema string, b []byte) error {
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	return c.doc.Components.Schemas[schema].Value.VisitJSON(v, openapi3.MultiErrors())
}

// finding is the ResponseWriter with which the mux of the document's paths is
// asked.
type finding struct {
	http.ResponseWriter
	path    string
	request *http.Request
}

func (f *finding) Header() http.Header         { return http.Header{} }
func (f *finding) Write(b []byte) (int, error) { return len(b), nil }
func (f *finding) WriteHeader(int)             {}

// input finds the operation of a request; nil when there is none.
func (c *Checker) input(r *http.Request, sent []byte) *openapi3filter.RequestValidationInput {
	u, err := url.ParseRequestURI(r.URL.RequestURI()) // as the server reads it
	if err != nil {
		return nil
	}
	asked := r.Clone(r.Context())
	asked.URL, asked.Body = u, io.NopCloser(bytes.NewReader(sent))
	f := &finding{}
	c.mux.ServeHTTP(f, asked)
	if f.request == nil {
		return nil
	}
	item := c.doc.Paths.Value(f.path)
	op := item.GetOperation(r.Method)
	if op == nil {
		return nil
	}
	params := map[string]string{}
	for _, name := range []string{"pool", "volume", "snapshot", "job", "secret"} {
		if v := f.request.PathValue(name); v != "" {
			params[name] = v
		}
	}
	return &openapi3filter.RequestValidationInput{
		Request: asked, PathParams: params,
		Route:   &routers.Route{Spec: c.doc, Path: f.path, PathItem: item, Method: r.Method, Operation: op},
		Options: &openapi3filter.Options{SkipSettingDefaults: true, RejectWhenRequestBodyNotSpecified: true},
	}
}

// eventBody checks the events of a stream as they are read.
type eventBody struct {
	io.ReadCloser
	c    *Checker
	part string // of a line that has not arrived whole
}

func (b *eventBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.part += string(p[:n])
	for {
		line, rest, whole := strings.Cut(b.part, "\n")
		if !whole {
			return n, err
		}
		b.part = rest
		if data, ok := strings.CutPrefix(line, "data: "); ok {
			if err := b.c.visit("Event", []byte(data)); err != nil {
				b.c.report("event: %v\ngot: %.2000s", err, data)
			}
		}
	}
}
