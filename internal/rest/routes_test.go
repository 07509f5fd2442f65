package rest_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/rest"
	"storaged/internal/rest/apitest"
	"storaged/internal/rest/client"
	"storaged/internal/rest/wire"
	"storaged/internal/service/contract"
	"storaged/internal/testenv"
)

// bodies are those that a call does not do without.
var bodies = map[string]string{
	"POST /v1/pools":                                                    `{"name":"images","target":{"path":"/srv/images"},"source":{}}`,
	"PUT /v1/pools/{pool}":                                              `{"name":"images"}`,
	"POST /v1/pools/{pool}/volumes":                                     `{"name":"v","capacity":1024,"allocation":"full"}`,
	"POST /v1/pools/{pool}/volumes/{volume}/clone":                      `{"name":"v"}`,
	"POST /v1/pools/{pool}/volumes/{volume}/resize":                     `{"capacity":1}`,
	"POST /v1/pools/{pool}/volumes/{volume}/snapshots":                  `{"name":"s1"}`,
	"POST /v1/pools/{pool}/volumes/{volume}/snapshots/{snapshot}/clone": `{"name":"v"}`,
	"PATCH /v1/pools/{pool}":                                            `{"autostart":true}`,
	"PATCH /v1/pools/{pool}/volumes/{volume}":                           `{"description":"d"}`,
	"POST /v1/sources":                                                  `{"type":"netfs","source":{"hosts":["h"]}}`,
	"PUT /v1/secrets/{secret}":                                          `{"value":"c2VjcmV0"}`,
	"POST /v1/pools/{pool}/volumes/{volume}/rebase":                     `{"backing":"b"}`,
	"PUT /v1/drain":                                                     `{"on":true}`,
	"PATCH /v1/limits":                                                  `{"running":8,"pool_rates":{"images":null}}`,
	"PATCH /v1/jobs/{job}":                                              `{"limit":null}`,
	"POST /v1/jobs/{job}/cancel":                                        `{"now":true}`,
	"POST /v1/pools/{pool}/volumes/{volume}/wipe":                       `{}`,
	"POST /v1/pools/{pool}/volumes/{volume}/check":                      `{"repair":"leaks"}`,
	"POST /v1/pools/{pool}/volumes/{volume}/trim":                       `{"give_up_allocation":true,"limit":5}`,
	"POST /v1/pools/{pool}/volumes/{volume}/rekey":                      `{"secret":"next"}`,
	"POST /v1/pools/{pool}/build":                                       `{"overwrite":true,"limit":null,"labels":{"a":"b"}}`,
	"POST /v1/pools/{pool}/evacuate":                                    `{"to":"other"}`,
	"POST /v1/pools/{pool}/stop":                                        `{"force":false}`,
	"POST /v1/pools/{pool}/refresh":                                     ``,
	"DELETE /v1/pools/{pool}/volumes/{volume}?wipe=":                    ``,
}

var names = strings.NewReplacer("{pool}", "images", "{volume}", "base.raw", "{snapshot}", "s1", "{job}", "412", "{secret}", "disks")

// valid makes a request that a row takes.
func valid(t *testing.T, row rest.Row) *http.Request {
	t.Helper()
	target := names.Replace(row.Pattern)
	if strings.HasSuffix(target, "/wait") {
		target += "?timeout=0"
	}
	if many(row) {
		target += "?state=queued"
	}
	if strings.HasSuffix(target, "/content") { // else it would wait for a stream
		target += "?dry_run=true"
		if row.Method == http.MethodPost {
			target += "&fd=1"
		}
	}
	return request(t, row.Method, target, bodies[row.Method+" "+row.Pattern])
}

// many reports whether a row changes all jobs that are selected.
func many(row rest.Row) bool {
	return row.Method != http.MethodGet && strings.HasPrefix(row.Pattern, "/v1/jobs") && !strings.Contains(row.Pattern, "{job}")
}

// To change all jobs there are has to be said.
func TestChangeOfManyJobsNeedsASelection(t *testing.T) {
	h := newHost(t, nil)
	rt := h.transport(t, h.main)
	for _, row := range rest.Rows() {
		if !many(row) {
			continue
		}
		for _, target := range []string{row.Pattern, row.Pattern + "?dry_run=true"} {
			if resp, body := answer(t, rt, request(t, row.Method, target, bodies[row.Method+" "+row.Pattern])); resp.StatusCode != 400 || !strings.Contains(body, "does not say which jobs") {
				t.Errorf("%s %s: %d %s", row.Method, target, resp.StatusCode, body)
			}
		}
		resp, body := answer(t, rt, valid(t, row))
		if calls, a := h.svc.took(); resp.StatusCode != 200 || !strings.Contains(body, `"done":1`) || len(calls) != 2 || a.names[0] != "412" {
			t.Errorf("%s %s: %d %s; %v", row.Method, row.Pattern, resp.StatusCode, body, calls)
		}
	}
}

// answer sends a request and gives status and body; of a stream only its
// beginning.
func answer(t *testing.T, rt http.RoundTripper, r *http.Request) (*http.Response, string) {
	t.Helper()
	resp, err := rt.RoundTrip(r)
	if err != nil {
		t.Fatalf("%s %s: %v", r.Method, r.URL.Opaque, err)
	}
	defer resp.Body.Close()
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		return resp, ""
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", r.Method, r.URL.Opaque, err)
	}
	return resp, string(b)
}

// somebody is who calls: the columns of the table, call by role.
type somebody struct {
	name   string
	role   record.Role
	owns   bool // the job that the call is about
	socket http.RoundTripper
}

// may reports what the table says.
func (b somebody) may(row rest.Row) bool {
	return b.role >= row.Role || b.role == record.UserRole && b.owns && row.Own
}

func TestRoleOfEveryCall(t *testing.T) {
	h := newHost(t, nil)
	h.everyCall(t, somebody{"read-only", record.ReaderRole, true, h.transport(t, h.ro)})
	h.everyCall(t, somebody{"root", record.RootRole, false, h.transport(t, h.main)})
	if os.Geteuid() != 0 { // nobody but the daemon's own user is here
		return
	}
	as := func(h *host) http.RoundTripper { return h.check.Transport(asUserTransport(t, h.main, nobody)(nil)) }
	h.everyCall(t, somebody{"anybody where there is no group", record.MemberRole, false, as(h)})
	h = newHost(t, func(s *rest.Server) { s.SetGroup(os.Getegid()) }) // which asUser keeps
	h.everyCall(t, somebody{"member", record.MemberRole, false, as(h)})
	h = newHost(t, func(s *rest.Server) { s.SetGroup(4242) })
	h.everyCall(t, somebody{"stranger", record.UserRole, false, as(h)})
	h.svc.owner = nobody
	h.everyCall(t, somebody{"owner", record.UserRole, true, as(h)})
}

func (h *host) everyCall(t *testing.T, by somebody) {
	t.Helper()
	for _, row := range rest.Rows() {
		h.svc.took()
		resp, body := answer(t, by.socket, valid(t, row))
		calls, _ := h.svc.took()
		if row.Own { // whose job it is had to be asked
			calls = slices.DeleteFunc(calls, func(c string) bool { return c == "Job" })
		}
		name := fmt.Sprintf("%s: %s %s: %d %s", by.name, row.Method, row.Pattern, resp.StatusCode, body)
		switch may := by.may(row); {
		case may && resp.StatusCode >= 300:
			t.Errorf("%s, want success", name)
		case may && len(calls) == 0 && row.Pattern != "/v1/openapi.yaml":
			t.Errorf("%s, but nothing was done", name)
		case !may && resp.StatusCode != http.StatusForbidden:
			t.Errorf("%s, want 403", name)
		case !may && by.role == record.ReaderRole && !strings.Contains(body, h.main):
			t.Errorf("%s, want it to name the main socket", name)
		case !may && len(calls) != 0:
			t.Errorf("%s, but %v was done", name, calls)
		}
	}
}

// Owners stop and slow down what is theirs; they do not put it before others'
// or keep it for ever, and of a job that is not there nothing is told.
func TestOwnerChangesNoPriority(t *testing.T) {
	testenv.Root(t) // to be another user
	h := newHost(t, func(s *rest.Server) { s.SetGroup(4242) })
	h.svc.owner = nobody
	rt := h.check.Transport(asUserTransport(t, h.main, nobody)(nil))
	for body, status := range map[string]int{
		`{"limit":5}`: 200, `{"labels":{"a":"b"}}`: 200, `{"priority":"interactive"}`: 403, `{"pinned":true}`: 403, `{"limit":5,"pinned":false}`: 403,
	} {
		if resp, got := answer(t, rt, request(t, "PATCH", "/v1/jobs/1", body)); resp.StatusCode != status {
			t.Errorf("%s: %d %s", body, resp.StatusCode, got)
		}
	}
	h.svc.set(func(f *fake) { f.err = record.Errorf(record.NotFound, "no such job") })
	if resp, got := answer(t, rt, request(t, "POST", "/v1/jobs/9/cancel", "")); resp.StatusCode != 404 {
		t.Errorf("%d %s", resp.StatusCode, got)
	}
}

// Only verbs on jobs are an owner's.
func TestTableGivesOwnersTheirJobs(t *testing.T) {
	var own []string
	for _, row := range rest.Rows() {
		if row.Own {
			own = append(own, row.Method+" "+row.Pattern)
		}
	}
	slices.Sort(own)
	want := []string{"PATCH /v1/jobs/{job}", "POST /v1/jobs/{job}/cancel", "POST /v1/jobs/{job}/pause", "POST /v1/jobs/{job}/resume"}
	if !slices.Equal(own, want) {
		t.Errorf("owners may %v", own)
	}
}

// Reading is what everybody may do, and only that, but for what is in a volume, and
// secrets.
func TestTableGivesReadersOnlyReading(t *testing.T) {
	for _, row := range rest.Rows() {
		if strings.HasSuffix(row.Pattern, "/content") || strings.HasPrefix(row.Pattern, "/v1/secrets") {
			if row.Role != record.MemberRole {
				t.Errorf("%s %s has role %d", row.Method, row.Pattern, row.Role)
			}
			continue
		}
		if (row.Role == record.ReaderRole) != (row.Method == http.MethodGet) {
			t.Errorf("%s %s has role %d", row.Method, row.Pattern, row.Role)
		}
	}
}

func TestPeerIsWhoTheKernelSays(t *testing.T) {
	h := newHost(t, nil)
	own := h.client(t, h.main)
	if _, err := own.PauseJob(t.Context(), "1"); err != nil {
		t.Fatal(err)
	}
	_, got := h.svc.took()
	o := got.caller.Owner
	comm, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	if got.caller.Role != record.RootRole || o.UID != os.Getuid() || o.PID != os.Getpid() || o.Via != "rest" || o.User == "" ||
		o.Command != strings.TrimSpace(string(comm)) {
		t.Errorf("caller is %+v", got.caller)
	}
	testenv.Root(t) // to be another user
	other := h.client(t, h.main)
	other.Wrap(asUserTransport(t, h.main, nobody))
	if _, err := other.PauseJob(t.Context(), "1"); err != nil {
		t.Fatal(err)
	}
	if _, got := h.svc.took(); got.caller.Role != record.MemberRole || got.caller.Owner.UID != nobody || got.caller.Owner.User != "nobody" {
		t.Errorf("caller is %+v", got.caller)
	}
}

// A kind of job that nobody can ask for is of no use.
func TestEveryKindOfJobHasItsCall(t *testing.T) {
	calls := map[string]bool{}
	for _, row := range rest.Rows() {
		calls[row.Method+" "+row.Pattern] = true
	}
	for _, k := range operation.Kinds() {
		method, path := wire.Call(k, "{pool}", "{volume}")
		name := method + " /v1/" + strings.Join(path, "/")
		if k == record.VolumeUpload || k == record.VolumeDownload {
			name = http.MethodPost + " /v1/pools/{pool}/volumes/{volume}/content" // with the content, or to take it
		}
		if !calls[name] {
			t.Errorf("%s has no %s", k, name)
		}
	}
}

// Rows and document say the same: operations, query keys, bodies.
func TestTableAndContractAreTheSame(t *testing.T) {
	doc, err := apitest.Load()
	if err != nil {
		t.Fatal(err)
	}
	described := map[string]rest.Row{}
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			described[method+" "+path] = rest.Row{Query: queryKeys(op), Body: op.RequestBody != nil}
		}
	}
	for _, row := range rest.Rows() {
		name := row.Method + " " + row.Pattern
		d, ok := described[name]
		delete(described, name)
		slices.Sort(row.Query)
		if !ok || d.Body != row.Body || !slices.Equal(d.Query, row.Query) {
			t.Errorf("%s: the table has %v, body %v; the document %v, body %v (there: %v)", name, row.Query, row.Body, d.Query, d.Body, ok)
		}
	}
	for name := range described {
		t.Errorf("%s is described, but not in the table", name)
	}
}

// The members of a request's body are those of the document.
func TestContractHasTheMembersOfRequests(t *testing.T) {
	doc, err := apitest.Load()
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range operation.Kinds() {
		r, _ := operation.NewRequest(kind)
		method, path := wire.Call(kind, "{pool}", "{volume}")
		item := doc.Paths.Find("/v1/" + strings.Join(path, "/"))
		if item == nil || item.GetOperation(method).RequestBody == nil {
			continue // a content, or the query of a DELETE
		}
		var described []string
		for name := range item.GetOperation(method).RequestBody.Value.Content["application/json"].Schema.Value.Properties {
			described = append(described, name)
		}
		has := members(reflect.TypeOf(r).Elem())
		slices.Sort(described)
		if slices.Sort(has); !slices.Equal(described, has) {
			t.Errorf("%s: described are %q, there are %q", kind, described, has)
		}
	}
}

// members are the names of a struct's fields in JSON.
func members(s reflect.Type) (names []string) {
	for f := range s.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous:
			names = append(names, members(f.Type)...)
		case name != "-":
			names = append(names, name)
		}
	}
	return names
}

func queryKeys(op *openapi3.Operation) []string {
	var keys []string
	for _, p := range op.Parameters {
		if p.Value.In == "query" {
			keys = append(keys, p.Value.Name)
		}
	}
	slices.Sort(keys)
	return keys
}

// A bound is stated in package record, and the contract says the same.
func TestContractHasTheBoundsOfTheCode(t *testing.T) {
	doc, err := apitest.Load()
	if err != nil {
		t.Fatal(err)
	}
	schemas := doc.Components.Schemas
	field := func(schema, name string) *openapi3.Schema { return schemas[schema].Value.Properties[name].Value }
	query := func(name string) *openapi3.Schema { return doc.Components.Parameters[name].Value.Schema.Value }
	labels, patched := schemas["Labels"].Value, field("JobPatch", "labels")
	for what, c := range map[string]struct {
		has  *uint64
		want uint64
	}{
		"labels":          {labels.MaxProps, record.MaxLabels},
		"a label":         {labels.AdditionalProperties.Schema.Value.MaxLength, record.MaxLabelValue},
		"a patched label": {patched.AdditionalProperties.Schema.Value.MaxLength, record.MaxLabelValue},
		"a description":   {field("VolumePatch", "description").MaxLength, record.MaxDescription},
		"a key":           {query("IdempotencyKey").MaxLength, record.MaxKey},
		"exceptions":      {field("LimitsPatch", "pool_rates").MaxProps, record.MaxExceptions},
	} {
		if c.has == nil || *c.has != c.want {
			t.Errorf("%s: the contract has %v, the code %d", what, c.has, c.want)
		}
	}
	for what, c := range map[string]struct {
		has  *float64
		want float64
	}{
		"running": {field("LimitsPatch", "running").Max, record.MaxRunning}, "running_pool": {field("LimitsPatch", "running_pool").Max, record.MaxRunning},
		"running_device": {field("LimitsPatch", "running_device").Max, record.MaxRunning}, "queued": {field("LimitsPatch", "queued").Max, record.MaxQueued},
		"limit": {query("Limit").Max, record.MaxPage},
	} {
		if c.has == nil || *c.has != c.want {
			t.Errorf("%s: the contract has %v, the code %v", what, c.has, c.want)
		}
	}
}

func TestContractNamesEveryCodeAndKind(t *testing.T) {
	doc, err := apitest.Load()
	if err != nil {
		t.Fatal(err)
	}
	words := map[string][]string{"Code": {}, "Kind": {}}
	for _, c := range record.Codes() {
		words["Code"] = append(words["Code"], string(c))
	}
	for _, k := range record.Kinds() {
		words["Kind"] = append(words["Kind"], string(k))
	}
	for schema, want := range words {
		var described []string
		for _, v := range doc.Components.Schemas[schema].Value.Enum {
			described = append(described, v.(string))
		}
		slices.Sort(described)
		if slices.Sort(want); !slices.Equal(described, want) {
			t.Errorf("%s: described are %q, there are %q", schema, described, want)
		}
	}
}

func TestServedContractIsTheOneInTheTree(t *testing.T) {
	h := newHost(t, nil)
	resp, body := answer(t, h.transport(t, h.ro), request(t, "GET", "/v1/openapi.yaml", ""))
	file, err := os.ReadFile("openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if resp.Header.Get("Content-Type") != "application/yaml" || body != string(file) {
		t.Errorf("got %d bytes of %s", len(body), resp.Header.Get("Content-Type"))
	}
}

func TestWhatIsNotThere(t *testing.T) {
	h := newHost(t, nil)
	rt := h.transport(t, h.main)
	for _, c := range []struct {
		method, target string
		status         int
		says           string
	}{
		{"GET", "/", 404, "openapi.yaml"},
		{"GET", "/v1", 404, "openapi.yaml"},
		{"GET", "/v2/pools", 404, "openapi.yaml"},
		{"GET", "/v1/pools/images/content", 404, "openapi.yaml"},
		{"POST", "/v1/pools/images/vacate", 404, "openapi.yaml"},
		{"GET", "/v1/drain", 405, "PUT"},
		{"DELETE", "/v1/pools/images", 405, "/undefine forgets"},
		{"DELETE", "/v1/pools/images", 405, "/delete destroys"},
		{"POST", "/v1/status", 405, "GET"},
		{"HEAD", "/v1/pools", 405, ""},
		{"OPTIONS", "/v1/pools", 405, "GET, POST"},
		{"BREW", "/v1/jobs/1", 405, "DELETE, GET, PATCH"},
	} {
		resp, body := answer(t, rt, request(t, c.method, c.target, ""))
		if resp.StatusCode != c.status || !strings.Contains(body, c.says) {
			t.Errorf("%s %s: %d %s", c.method, c.target, resp.StatusCode, body)
		}
		if (resp.Header.Get("Allow") != "") != (c.status == 405) {
			t.Errorf("%s %s: Allow is %q", c.method, c.target, resp.Header.Get("Allow"))
		}
	}
	if calls, _ := h.svc.took(); calls != nil {
		t.Errorf("%v was done", calls)
	}
}

// A denied call costs nothing: the answer comes before a byte of the body.
func TestDeniedBeforeTheBodyIsSent(t *testing.T) {
	h := newHost(t, nil)
	conn := dialRaw(t, h.ro)
	fmt.Fprint(conn, "POST /v1/pools HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 10000000\r\n\r\n")
	if got := readAll(t, conn); !strings.HasPrefix(got, "HTTP/1.1 403 ") || !strings.Contains(got, "Connection: close") {
		t.Errorf("got %s", got)
	}
}

// dialRaw connects for what no HTTP client would say. Reading ends after a
// while.
func dialRaw(t *testing.T, socket string) net.Conn {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(3 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// readAll reads until the server hangs up, which it must.
func readAll(t *testing.T, conn net.Conn) string {
	t.Helper()
	b, err := io.ReadAll(conn)
	if err != nil {
		t.Errorf("the server does not hang up: %v", err)
	}
	return string(b)
}

func TestPanicIsAProblemAndTheDaemonLives(t *testing.T) {
	h := newHost(t, nil)
	rt := h.transport(t, h.main)
	h.svc.set(func(f *fake) { f.panics = "kaboom" })
	resp, body := answer(t, rt, request(t, "GET", "/v1/pools", ""))
	if resp.StatusCode != 500 || !resp.Close || !strings.Contains(body, `"internal"`) || strings.Contains(body, "kaboom") {
		t.Errorf("got %d (close %v) %s", resp.StatusCode, resp.Close, body)
	}
	if n, stacks := len(h.log.with("[ERROR]", "panicked", "kaboom")), len(h.log.with("panic(")); n != 1 || stacks != 1 {
		t.Errorf("logged %d times, with %d stacks", n, stacks)
	}
	h.svc.set(func(f *fake) { f.panics = nil })
	if resp, _ := answer(t, rt, request(t, "GET", "/v1/pools", "")); resp.StatusCode != 200 {
		t.Errorf("afterwards: %d", resp.StatusCode)
	}
}

// failing is a log that breaks in the middle.
type failing struct{ left int }

func (f *failing) Read(b []byte) (int, error) {
	if f.left == 0 {
		return 0, fmt.Errorf("disk on fire")
	}
	n := min(len(b), f.left)
	f.left -= n
	return n, nil
}

func TestFailureInMidAnswerBreaksTheConnection(t *testing.T) {
	h := newHost(t, nil)
	h.svc.log = &failing{left: 200 << 10}
	c := client.Dial(h.main)
	defer c.Close()
	log, err := c.JobLog(t.Context(), "1")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	if _, err := io.ReadAll(log); err == nil {
		t.Error("a log that was cut looks whole")
	}
	h.stop() // the line is written when the answer is
	if n := len(h.log.with("[ERROR]", "disk on fire")); n != 1 {
		t.Errorf("logged %d times", n)
	}
}

func TestAccessLog(t *testing.T) {
	h := newHost(t, nil)
	c := h.client(t, h.main)
	if _, err := c.Pools(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Start(t.Context(), contract.Submit{}, "a\u202eb", "", &operation.CreateRequest{Name: "v", Capacity: 1}); record.CodeOf(err) != record.Invalid {
		t.Fatal(err)
	}
	if _, err := c.Start(t.Context(), contract.Submit{}, "images", "", &operation.CreateRequest{Name: "v", Capacity: 1}); err != nil {
		t.Fatal(err)
	}
	// A line is written when the answer is, so wait for the last.
	h.stop()
	pid := fmt.Sprintf("pid=%d", os.Getpid())
	if n := len(h.log.with("[DEBUG]", "request", "method=GET", "path=/v1/pools", "status=200", pid)); n != 1 {
		t.Errorf("reading is logged %d times", n)
	}
	if n := len(h.log.with("[DEBUG]", "request", "method=POST", "status=202", "job=412", pid)); n != 1 {
		t.Errorf("a change is logged %d times", n)
	}
	if n := len(h.log.with("a%E2%80%AEb", "status=400", "code=invalid")); n != 1 {
		t.Errorf("a hostile name is logged %d times, escaped", n)
	}
}

// Denials in great number, with bodies that would be large, leave nothing.
func TestDenialsLeaveNothing(t *testing.T) {
	h := newHost(t, nil)
	ask := "POST /v1/pools HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\n" + strings.Repeat("x", 64<<10)
	deny := func() {
		conn := dialRaw(t, h.ro)
		_, _ = io.WriteString(conn, ask) // it may hang up before the end
		buf := make([]byte, 12)
		if _, err := io.ReadFull(conn, buf); err != nil || string(buf) != "HTTP/1.1 403" {
			t.Errorf("got %q, %v", buf, err)
		}
		conn.Close()
	}
	deny()
	before := openFiles(t)
	for range 200 {
		deny()
	}
	h.stop()
	if after := openFiles(t); after > before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
	if calls, _ := h.svc.took(); calls != nil {
		t.Errorf("%v was done", calls)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// A status says whose fault it was, also of an error that others have put into
// words of their own: 500 is the daemon's.
func TestStatusSaysWhoseFaultItWas(t *testing.T) {
	h := newHost(t, nil)
	rt := h.transport(t, h.main)
	for status, code := range map[int]record.Code{
		408: record.Interrupted, 409: record.CanceledCode, 502: record.IO, 503: record.StateUnwritable, 507: record.NoSpace, 500: record.Inconsistent,
	} {
		h.svc.set(func(f *fake) { f.err = fmt.Errorf("cannot look: %w", record.Errorf(code, "no words")) })
		resp, body := answer(t, rt, request(t, "GET", "/v1/pools", ""))
		if resp.StatusCode != status || !strings.Contains(body, `"`+string(code)+`"`) || !strings.Contains(body, "cannot look: no words") {
			t.Errorf("%s is answered with %d %s", code, resp.StatusCode, body)
		}
	}
}
