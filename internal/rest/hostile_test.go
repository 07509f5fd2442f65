package rest_test

import (
	"bufio"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"storaged/internal/rest"
)

// invalid wants a request to be refused as invalid, saying why, with nothing
// done.
func invalid(t *testing.T, h *host, rt http.RoundTripper, r *http.Request, says string) {
	t.Helper()
	h.svc.took()
	resp, body := answer(t, rt, r)
	name := fmt.Sprintf("%s %.100s: %d %.300s", r.Method, r.URL.RequestURI(), resp.StatusCode, body)
	if resp.StatusCode != http.StatusBadRequest || !strings.Contains(body, `"code":"invalid"`) {
		t.Errorf("%s, want 400 invalid", name)
	}
	if !strings.Contains(body, says) {
		t.Errorf("%s, want it to say %s", name, says)
	}
	if calls, _ := h.svc.took(); calls != nil {
		t.Errorf("%s, but %v was done", name, calls)
	}
}

// badNames are refused wherever a name stands, escaped as they are here.
var badNames = []string{
	"", ".", "..", "%2e%2e", "%2E", "a%2Fb", "a%2fb", "%2e%2e%2fetc", "-x", "%20x", "x%20", "a%0Ab", "a%00b", "%ff", "\xff", "a%7f",
	"a%E2%80%AEb", ".x.storaged", strings.Repeat("a", 256),
}

func TestBadNamesInPathsAreAllRefusedAlike(t *testing.T) {
	h := newHost(t, nil)
	rt := h.transport(t, h.main)
	for _, row := range rest.Rows() {
		for _, part := range []string{"{pool}", "{volume}", "{snapshot}", "{job}"} {
			if !strings.Contains(row.Pattern, part) {
				continue
			}
			for _, bad := range badNames {
				target := names.Replace(strings.Replace(row.Pattern, part, bad, 1))
				invalid(t, h, rt, request(t, row.Method, target, bodies[row.Method+" "+row.Pattern]), "bad name")
			}
		}
	}
}

// Names that only look odd are taken, decoded once.
func TestGoodNamesInPathsAreDecodedOnce(t *testing.T) {
	h := newHost(t, nil)
	rt := h.transport(t, h.main)
	for escaped, want := range map[string]string{
		"a%252Fb": "a%2Fb", "%C3%BC": "ü", "ü": "ü", "a+b": "a+b", "a%20b": "a b", "..a": "..a", "...": "...", "%25": "%", "a;b=c,d": "a;b=c,d",
		strings.Repeat("a", 255): strings.Repeat("a", 255), "volumes": "volumes",
	} {
		resp, body := answer(t, rt, request(t, "GET", "/v1/pools/"+escaped, ""))
		if _, got := h.svc.took(); resp.StatusCode != 200 || len(got.names) != 1 || got.names[0] != want {
			t.Errorf("%s: %d, name %q, %.200s", escaped, resp.StatusCode, got.names, body)
		}
	}
}

func TestPathsAreNeverCleanedOrRedirected(t *testing.T) {
	h := newHost(t, nil)
	rt := h.transport(t, h.main)
	for _, target := range []string{
		"/v1/pools/../x", "/v1/pools/../pools", "/v1//pools", "/v1/pools/", "/v1/./pools", "/v1/pools/images/../../jobs",
		"/../v1/pools", "/v1/pools/images//volumes", "/v1/pools/images/volumes/..",
	} {
		for _, method := range []string{"GET", "POST", "DELETE", "CONNECT"} {
			invalid(t, h, rt, request(t, method, target, ""), "bad name")
		}
	}
	conn := dialRaw(t, h.main) // what no client of Go's would send
	fmt.Fprint(conn, "GET //v1/pools HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	if got := readAll(t, conn); !strings.HasPrefix(got, "HTTP/1.1 400 ") || !strings.Contains(got, "bad name") {
		t.Errorf("got %s", got)
	}
}

func TestBadNamesInBodiesAreRefused(t *testing.T) {
	h := newHost(t, nil)
	rt := h.transport(t, h.main)
	for _, name := range []string{
		``, `.`, `..`, `a/b`, `-x`, ` x`, `x `, `a\nb`, `a\u0000b`, `a\u202eb`, `.x.storaged`, strings.Repeat("a", 256), strings.Repeat("ü", 128),
	} {
		for target, body := range map[string]string{
			"/v1/pools":                               `{"name":"%s"}`,
			"/v1/pools/images/volumes":                `{"name":"%s","capacity":1}`,
			"/v1/pools/images/volumes/base.raw/clone": `{"name":"%s"}`,
		} {
			invalid(t, h, rt, request(t, "POST", target, strings.Replace(body, "%s", name, 1)), "name")
		}
		if name != "" { // no pool is the source's
			invalid(t, h, rt, request(t, "POST", "/v1/pools/p/volumes/v/clone", `{"name":"x","pool":"`+name+`"}`), "pool")
			invalid(t, h, rt, request(t, "POST", "/v1/pools/p/volumes/v/move", `{"pool":"`+name+`"}`), "pool")
			invalid(t, h, rt, request(t, "POST", "/v1/pools/p/volumes/v/move", `{"name":"`+name+`"}`), "name")
		}
	}
}

const (
	create, define, pool = "POST /v1/pools/images/volumes", "POST /v1/pools", "PATCH /v1/pools/images"
	job, limits          = "PATCH /v1/jobs/1", "PATCH /v1/limits"
)

// badBodies and what the refusal says of each.
var badBodies = []struct{ call, body, says string }{
	{create, `{"name":"v","capacity":-1}`, "capacity"},
	{create, `{"name":"v","capacity":-0}`, "capacity"},
	{create, `{"name":"v","capacity":9223372036854775808}`, "capacity"},
	{create, `{"name":"v","capacity":1e400}`, "capacity"},
	{create, `{"name":"v","capacity":1.5}`, "capacity"},
	{create, `{"name":"v","capacity":"1G"}`, "capacity"},
	{create, `{"name":"v","capacity":null}`, "capacity"},
	{create, `{"name":"v","capacity":[1]}`, "capacity"},
	{create, `{"name":"v","capacity":1,"capacity":2}`, "capacity"},
	{create, `{"name":"v","Capacity":1}`, "Capacity"},
	{create, `{"name":"v","NAME":"w"}`, "NAME"},
	{create, `{"name":["v"]}`, "name"},
	{create, `{"name":null}`, "name"},
	{create, `{"name":{}}`, "name"},
	{create, `{"name":"v","allocation":"half"}`, "allocation"},
	{create, `{"name":"v","allocation":-5}`, "allocation"},
	{create, `{"name":"v","allocation":{"full":true}}`, "allocation"},
	{create, `{"name":"v","options":{"a":1}}`, "options"},
	{create, `{"name":"v","options":{"a":"b","a":"c"}}`, "options.a"},
	{create, `{"name":"v","options":null}`, "options"},
	{create, `{"name":"v","format":"ra\u0000w"}`, "format"},
	{create, `{"name":"v","limit":0}`, "limit"},
	{create, `{"name":"v","limit":-1}`, "limit"},
	{create, `{"name":"v","priority":"urgent"}`, "priority"},
	{create, `{"name":"v","on_failure":"shrug"}`, "on_failure"},
	{create, `{"name":"v","labels":{"":"x"}}`, "labels"},
	{create, `{"name":"v","labels":{"a=b":"x"}}`, "labels"},
	{create, `{"name":"v","labels":{"a":"b\nc"}}`, "labels"},
	{create, `{"name":"v","labels":{"a":null}}`, "labels.a"},
	{create, `{"name":"v","labels":{"a":"` + strings.Repeat("x", 1025) + `"}}`, "labels"},
	{create, `{"name":"v","JobOptions":{"limit":1}}`, "JobOptions"},
	{create, `{"name":"v","":1}`, "unknown field"},
	{create, `{"name":"v"} {}`, "after its end"},
	{create, `{"name":"v"}]`, "after its end"},
	{create, `{"name":"v"`, "not JSON"},
	{create, `{"name":"v",}`, "not JSON"},
	{create, `{name:"v"}`, "not JSON"},
	{create, ` `, "not JSON"},
	{create, `[]`, "an object"},
	{create, `"v"`, "an object"},
	{create, `null`, "null"},
	{create, `17`, "an object"},
	{create, "\xef\xbb\xbf{\"name\":\"v\"}", "not JSON"},
	{create, "{\"name\":\"a\xff\"}", "UTF-8"},
	{create, `{"name":"a\ud800"}`, "surrogate"},
	{create, `{"name":"a\udc00\ud800"}`, "surrogate"},
	{create, `{"name":"a\ud800\u0041"}`, "surrogate"},
	{create, strings.Repeat(`[`, 100000), "nested"},
	{create, `{"name":"v","options":` + strings.Repeat(`{"a":`, 5000) + `1` + strings.Repeat(`}`, 5001), "nested"},
	{create, `{"name":"` + strings.Repeat("v", rest.MaxBody) + `"}`, "larger than"},
	{define, `{"name":"p","target":{"path":"/x","mode":1}}`, "target.mode"},
	{define, `{"name":"p","target":"/x"}`, "target"},
	{define, `{"name":"p","source":{"devices":"/dev/sdb"}}`, "source.devices"},
	{define, `{"name":"p","source":{"devices":[1]}}`, "source.devices"},
	{define, `{"name":"p","source":{"devices":[null]}}`, "source.devices[0]"},
	{define, `{"name":"p","autostart":"yes"}`, "autostart"},
	{define, `{"name":"p","uuid":"images"}`, "uuid"},
	{define, `{"name":"p","uuid":"0199A0B4-3C5D-7E6F-8A9B-0C1D2E3F4A5B"}`, "uuid"},
	{define, `{"name":"p","state":"active"}`, "state"},
	{pool, `{"autostart":null}`, "autostart"},
	{pool, `{"autostart":1}`, "autostart"},
	{pool, `{"name":"other"}`, "name"},
	{pool, `{"generation":3}`, "generation"},
	{"PATCH /v1/pools/p/volumes/v", `{"description":null}`, "description"},
	{"PATCH /v1/pools/p/volumes/v", `{"capacity":1}`, "capacity"},
	{"PATCH /v1/pools/p/volumes/v", `{"description":"` + strings.Repeat("x", 4097) + `"}`, "description"},
	{job, `{"limit":"fast"}`, "limit"},
	{job, `{"limit":0}`, "limit"},
	{job, `{"limit":1.5}`, "limit"},
	{job, `{"limit":{"a":1,"a":2}}`, "limit"},
	{job, `{"priority":"urgent"}`, "priority"},
	{job, `{"priority":null}`, "priority"},
	{job, `{"pinned":null}`, "pinned"},
	{job, `{"labels":null}`, "labels"},
	{job, `{"labels":{"a":1}}`, "labels"},
	{job, `{"state":"succeeded"}`, "state"},
	{limits, `{"running":0}`, "running"},
	{limits, `{"running":-1}`, "running"},
	{limits, `{"running":null}`, "running"},
	{limits, `{"running":10001}`, "running"},
	{limits, `{"queued":1.5}`, "queued"},
	{limits, `{"rate":0}`, "rate"},
	{limits, `{"rate":"fast"}`, "rate"},
	{limits, `{"rate":9223372036854775808}`, "rate"},
	{limits, `{"pool_rates":{"a/b":1}}`, "pool_rates"},
	{limits, `{"pool_rates":{"p":0}}`, "pool_rates.p"},
	{limits, `{"pool_rates":{"p":"1"}}`, "pool_rates"},
	{limits, `{"pool_running":{"p":0}}`, "pool_running.p"},
	{limits, `{"pool_running":null}`, "pool_running"},
	{limits, `{"device_rates":{"sda":1}}`, "MAJOR:MINOR"},
	{limits, `{"device_running":{"8:0:1":1}}`, "MAJOR:MINOR"},
	{limits, `{"speed":1}`, "speed"},
	{"POST /v1/pools/p/volumes/v/resize", `{}`, "capacity"},
	{"POST /v1/pools/p/volumes/v/resize", ``, "capacity"},
	{"POST /v1/pools/p/volumes/v/clone", `{"name":"x","reflink":"maybe"}`, "reflink"},
	{"POST /v1/pools/p/volumes/v/clone", `{"name":"x","size":-1}`, "size"},
	{"POST /v1/pools/p/evacuate", `{}`, "to"},
	{"POST /v1/pools/p/evacuate", `{"to":"../q"}`, "to"},
	{"POST /v1/pools/p/evacuate", `{"to":"q","only":"[a"}`, "only"},
	{"POST /v1/pools/p/evacuate", `{"to":"q","on_error":"perhaps"}`, "on_error"},
	{"POST /v1/pools/p/undefine", `{"force":true}`, "force"},
	{"POST /v1/jobs/1/pause", `{"for":1}`, "for"},
	{"GET /v1/pools", `{}`, "no body"},
	{"DELETE /v1/jobs/1", `{}`, "no body"},
	{"DELETE /v1/pools/p/volumes/v", `{"wipe":"zero"}`, "no body"},
}

func TestBadBodiesNameTheField(t *testing.T) {
	h := newHost(t, nil)
	rt := h.transport(t, h.main)
	for _, c := range badBodies {
		method, target, _ := strings.Cut(c.call, " ")
		invalid(t, h, rt, request(t, method, target, c.body), c.says)
	}
}

func TestOnlyJSONIsRead(t *testing.T) {
	h := newHost(t, nil)
	rt := h.transport(t, h.main)
	for _, kind := range []string{
		"", "text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin1", "application/jsonx", "json", ";",
		"application/merge-patch+json",
	} {
		r := request(t, "POST", "/v1/pools", `{"name":"p"}`)
		r.Header.Set("Content-Type", kind)
		invalid(t, h, rt, r, "not JSON")
	}
	r := request(t, "POST", "/v1/pools", `{"name":"p"}`)
	r.Header.Set("Content-Encoding", "gzip")
	invalid(t, h, rt, r, "Content-Encoding")
	for _, kind := range []string{"application/json; charset=UTF-8", "application/merge-patch+json", "Application/JSON"} {
		r := request(t, "PATCH", "/v1/pools/p", `{}`)
		r.Header.Set("Content-Type", kind)
		if resp, body := answer(t, rt, r); resp.StatusCode != 200 {
			t.Errorf("%s: %d %s", kind, resp.StatusCode, body)
		}
	}
}

func TestBadQueriesNameTheKey(t *testing.T) {
	h := newHost(t, nil)
	rt := h.transport(t, h.main)
	for _, c := range []struct{ call, says string }{
		{"GET /v1/pools?x=1", "x"},
		{"GET /v1/pools?limit=0", "limit"},
		{"GET /v1/pools?limit=1001", "limit"},
		{"GET /v1/pools?limit=-5", "limit"},
		{"GET /v1/pools?limit=99999999999999999999", "limit"},
		{"GET /v1/pools?limit=1&limit=2", "limit"},
		{"GET /v1/pools?cursor=", "cursor"},
		{"GET /v1/pools?a;b", "query"},
		{"GET /v1/pools?%zz", "query"},
		{"GET /v1/status?pretty=1", "pretty"},
		{"GET /v1/volumes?state=odd", "state"},
		{"GET /v1/volumes?pool=%ff", "pool"},
		{"GET /v1/volumes?pool=a%00b", "pool"},
		{"GET /v1/pools/p/volumes?pool=q", "pool"},
		{"GET /v1/jobs?state=done", "state"},
		{"GET /v1/jobs?kind=volume.clone&kind=clone", `\"clone\", not one of volume.create, volume.clone`},
		{"GET /v1/jobs?kind=", "kind"},
		{"GET /v1/jobs?STATE=live", "STATE"},
		{"GET /v1/jobs?since=yesterday", "since"},
		{"GET /v1/jobs?until=2026-01-31", "until"},
		{"GET /v1/jobs?label=a", "label"},
		{"GET /v1/jobs?idempotency_key=a&idempotency_key=b", "idempotency_key"},
		{"GET /v1/jobs/1/wait?timeout=1m", "timeout"},
		{"GET /v1/jobs/1/wait?timeout=-1", "timeout"},
		{"GET /v1/jobs/1/wait?timeout=1e9", "timeout"},
		{"GET /v1/jobs/1/wait?timeout=NaN", "timeout"},
		{"GET /v1/jobs/1/wait?timeout=99999999999", "timeout"},
		{"POST /v1/pools/p/start?lock_wait=soon", "lock_wait"},
		{"POST /v1/pools/p/start?lock_wait=-1", "lock_wait"},
		{"POST /v1/pools/p/start?lock_wait=Inf", "lock_wait"},
		{"POST /v1/pools/p/start?dry_run=yes", "dry_run"},
		{"POST /v1/pools/p/start?dry_run=1", "dry_run"},
		{"POST /v1/pools/p/start?force=true", "force"},
		{"POST /v1/pools/p/undefine?dry_run=true", "dry_run"},
		{"DELETE /v1/pools/p/volumes/v?limit=0", "limit"},
		{"DELETE /v1/pools/p/volumes/v?limit=1G", "limit"},
		{"DELETE /v1/pools/p/volumes/v?label=a", "label"},
		{"DELETE /v1/pools/p/volumes/v?priority=urgent", "priority"},
		{"DELETE /v1/jobs/1?force=true", "force"},
	} {
		method, target, _ := strings.Cut(c.call, " ")
		invalid(t, h, rt, request(t, method, target, ""), c.says)
	}
	invalid(t, h, rt, request(t, "GET", "/v1/pools?cursor="+url.QueryEscape("no cursor!"), ""), "cursor")
}

func TestBadHeadersAreRefused(t *testing.T) {
	h := newHost(t, nil)
	rt := h.transport(t, h.main)
	for _, c := range []struct {
		call, header string
		values       []string
	}{
		{"POST /v1/pools/p/start", "Idempotency-Key", []string{"a b"}},
		{"POST /v1/pools/p/start", "Idempotency-Key", []string{"ü"}},
		{"POST /v1/pools/p/start", "Idempotency-Key", []string{strings.Repeat("k", 256)}},
		{"POST /v1/pools/p/start", "Idempotency-Key", []string{"a", "b"}},
		{"POST /v1/pools/p/start", "If-Match", []string{"3"}},
		{"POST /v1/pools/p/start", "If-Match", []string{`W/"3"`}},
		{"POST /v1/pools/p/start", "If-Match", []string{`"3", "4"`}},
		{"POST /v1/pools/p/start", "If-Match", []string{`"9999999999999999999"`}},
		{"POST /v1/pools/p/start", "If-Match", []string{`"0"`}},
		{"DELETE /v1/jobs/1", "If-Match", []string{`"3"`}},
		{"POST /v1/jobs/1/cancel", "If-Match", []string{`"3"`}},
		{"POST /v1/jobs/1/retry", "If-Match", []string{`"3"`}},
		{"GET /v1/events", "Last-Event-ID", []string{"first"}},
		{"GET /v1/events", "Last-Event-ID", []string{"-1"}},
		{"GET /v1/events", "Last-Event-ID", []string{"99999999999999999999"}},
	} {
		method, target, _ := strings.Cut(c.call, " ")
		r := request(t, method, target, "")
		r.Header[http.CanonicalHeaderKey(c.header)] = c.values
		invalid(t, h, rt, r, c.header)
	}
}

// What does not even look like HTTP ends with its connection.
func TestGarbageEndsItsConnectionOnly(t *testing.T) {
	h := newHost(t, nil)
	for _, garbage := range []string{
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 0123456789\r\n\r\n",
		"GET /v1/pools HTTP/9.9\r\n\r\n",
		"GET /v1/po\x00ols HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /v1/pools/a%zz HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST /v1/pools HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
		"POST /v1/pools HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
		"GET /v1/pools HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("a", 100<<10) + "\r\n\r\n",
	} {
		conn := dialRaw(t, h.main)
		_, _ = fmt.Fprint(conn, garbage) // it may hang up before the end
		buf := make([]byte, 64)
		n, _ := conn.Read(buf)
		if n > 0 && !strings.HasPrefix(string(buf[:n]), "HTTP/1.1 4") && !strings.HasPrefix(string(buf[:n]), "HTTP/1.1 5") {
			t.Errorf("%.40q was answered %q", garbage, buf[:n])
		}
		conn.Close()
	}
	if calls, _ := h.svc.took(); calls != nil {
		t.Errorf("%v was done", calls)
	}
	if _, err := h.client(t, h.main).Pools(t.Context()); err != nil {
		t.Error(err)
	}
}

// Who sends much that nobody wants reads why, when all of it is written.
func TestRefusalIsThereForAClientThatStillWrites(t *testing.T) {
	h := newHost(t, nil)
	conn := dialRaw(t, h.main)
	const size = 16 << 20 // more than any buffer on the way holds
	fmt.Fprintf(conn, "PUT /v1/pools/images/volumes/a/content HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n", size)
	if n, err := conn.Write(make([]byte, size)); err != nil {
		t.Errorf("after %d bytes: %v", n, err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusBadRequest {
		t.Errorf("the answer is %s", resp.Status)
	}
}
