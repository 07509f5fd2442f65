package rest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"storaged/internal/record"
	"storaged/internal/rest/client"
	"storaged/internal/service/contract"
)

func TestPreferredWait(t *testing.T) {
	h := newHost(t, nil)
	rt := h.transport(t, h.main)
	start := func(prefer ...string) (int, string, http.Header) {
		r := request(t, "POST", "/v1/pools/images/volumes", `{"name":"v","capacity":1}`)
		r.Header["Prefer"] = prefer
		resp, body := answer(t, rt, r)
		var j record.Job
		if err := json.Unmarshal([]byte(body), &j); err != nil || resp.Header.Get("Location") != "/v1/jobs/"+j.ID {
			t.Errorf("Location %q of %s (%v)", resp.Header.Get("Location"), body, err)
		}
		return resp.StatusCode, string(j.State), resp.Header
	}
	for _, ignored := range []string{"", "respond-async", "wait=soon", "wait=-1", "wait", "wait=0", "handling=lenient"} {
		if status, state, _ := start(ignored); status != 202 || state != "queued" {
			t.Errorf("Prefer: %s gave %d %s", ignored, status, state)
		}
	}
	if status, state, header := start("wait=0.01"); status != 202 || state != "running" || header.Get("Preference-Applied") != "wait" {
		t.Errorf("a job that goes on gave %d %s %v", status, state, header)
	}
	close(h.svc.running)
	for _, prefer := range [][]string{{"wait=30"}, {"respond-async, wait=30"}, {"respond-async", `WAIT="30"`}, {"wait = 99999999"}} {
		if status, state, _ := start(prefer...); status != 200 || state != "succeeded" {
			t.Errorf("Prefer: %v gave %d %s", prefer, status, state)
		}
	}
	calls, last := h.svc.took()
	if calls[len(calls)-1] != "WaitJob" || last.names[0] != jobID || last.request != 10*time.Minute {
		t.Errorf("waited as %+v", last)
	}
}

// A job that was started is answered with, also when it cannot be waited for.
func TestPreferredWaitThatFails(t *testing.T) {
	f := newFake()
	h := hostOf(t, &forgetful{f}, f, nil)
	r := request(t, "POST", "/v1/pools/images/start", "")
	r.Header.Set("Prefer", "wait=30")
	if resp, body := answer(t, h.transport(t, h.main), r); resp.StatusCode != 202 || !strings.Contains(body, `"queued"`) {
		t.Errorf("got %d %s", resp.StatusCode, body)
	}
}

type forgetful struct{ *fake }

func (*forgetful) WaitJob(context.Context, string, time.Duration) (record.Job, error) {
	return record.Job{}, record.Errorf(record.NotFound, "no such job")
}

func TestWaitIsBounded(t *testing.T) {
	h := newHost(t, nil)
	close(h.svc.running)
	rt := h.transport(t, h.ro)
	for query, want := range map[string]time.Duration{
		"": 10 * time.Minute, "?timeout=0": 0, "?timeout=1.5": 1500 * time.Millisecond, "?timeout=999999999": 10 * time.Minute,
	} {
		if resp, body := answer(t, rt, request(t, "GET", "/v1/jobs/412/wait"+query, "")); resp.StatusCode != 200 {
			t.Errorf("%s: %d %s", query, resp.StatusCode, body)
		}
		if _, got := h.svc.took(); got.request != want {
			t.Errorf("%s waits %v, want %v", query, got.request, want)
		}
	}
}

func TestClientWaitsAgainUntilTheJobHasEnded(t *testing.T) {
	h := newHost(t, nil)
	c := h.client(t, h.main)
	got := make(chan record.Job)
	go func() {
		j, err := c.WaitJob(t.Context(), "412", time.Hour)
		if err != nil {
			t.Error(err)
		}
		got <- j
	}()
	<-h.svc.waits
	close(h.svc.running)
	if j := <-got; j.State != record.Succeeded {
		t.Errorf("state is %s", j.State)
	}
	h.svc.set(func(f *fake) { f.running = make(chan struct{}) })
	if j, err := c.WaitJob(t.Context(), "412", 5*time.Millisecond); err != nil || j.State != record.Running {
		t.Errorf("after the time: %s, %v", j.State, err)
	}
}

func TestGenerationIsTheETag(t *testing.T) {
	h := newHost(t, nil)
	rt := h.transport(t, h.main)
	for target, want := range map[string]string{"/v1/pools/images": `"7"`, "/v1/pools/images/volumes/base.raw": `"3"`} {
		resp, _ := answer(t, rt, request(t, "GET", target, ""))
		if got := resp.Header.Get("ETag"); got != want {
			t.Errorf("%s: ETag %s, want %s", target, got, want)
		}
		for header, generation := range map[string]int64{want: 0, "*": 0, `"9223372036854775807"`: 1<<63 - 1} {
			if header == want {
				generation = int64(want[1] - '0')
			}
			r := request(t, "PATCH", target, `{}`)
			r.Header.Set("If-Match", header)
			answer(t, rt, r)
			if _, got := h.svc.took(); got.submit.IfMatch != generation {
				t.Errorf("%s: If-Match %s arrived as %d", target, header, got.submit.IfMatch)
			}
		}
	}
}

func TestDefinePoolAnswers(t *testing.T) {
	h := newHost(t, nil)
	rt := h.transport(t, h.main)
	for query, want := range map[string]struct {
		status         int
		location, says string
	}{
		"":                                     {201, "/v1/pools/images", `"name":"images"`},
		"?build=false":                         {201, "/v1/pools/images", `"name":"images"`},
		"?dry_run=true":                        {200, "", `"name":"images"`},
		"?build=true":                          {202, "/v1/jobs/" + jobID, `"number":412`},
		"?build=true&start=true&lock_wait=2.5": {202, "/v1/jobs/" + jobID, `"number":412`},
		"?start=true&dry_run=true":             {200, "", `"argv":[]`},
	} {
		resp, body := answer(t, rt, request(t, "POST", "/v1/pools"+query, `{"name":"images"}`))
		if resp.StatusCode != want.status || resp.Header.Get("Location") != want.location || !strings.Contains(body, want.says) {
			t.Errorf("%s: %d %s %s", query, resp.StatusCode, resp.Header.Get("Location"), body)
		}
	}
}

// The client gives what the answer has: the pool, the job or the plan.
func TestClientDefinePool(t *testing.T) {
	h := newHost(t, nil)
	c := h.client(t, h.main)
	r := contract.PoolDefine{Name: "images"}
	p, st, err := c.DefinePool(t.Context(), contract.Submit{}, r, false, false)
	if err != nil || p.Name != "images" || st != (contract.Started{}) {
		t.Errorf("define: %+v %+v %v", p, st, err)
	}
	_, st, err = c.DefinePool(t.Context(), contract.Submit{}, r, false, true)
	if err != nil || st.Job == nil || st.Job.Number != 412 || st.Plan != nil {
		t.Errorf("start: %+v %v", st, err)
	}
	_, st, err = c.DefinePool(t.Context(), contract.Submit{DryRun: true}, r, true, true)
	if err != nil || st.Job != nil || st.Plan == nil {
		t.Errorf("dry run: %+v %v", st, err)
	}
	h.svc.set(func(f *fake) { f.err = record.Errorf(record.Exists, "pool \"images\" exists") })
	if p, st, err := c.DefinePool(t.Context(), contract.Submit{}, r, true, true); record.CodeOf(err) != record.Exists || p.Name != "" || st.Plan != nil {
		t.Errorf("refused: %+v %+v %v", p, st, err)
	}
}

// Requests under one key are the same only if all they say is the same.
func TestDigestTellsRequestsApart(t *testing.T) {
	h := newHost(t, nil)
	rt := h.transport(t, h.main)
	digest := func(method, target, body string) string {
		if resp, got := answer(t, rt, request(t, method, target, body)); resp.StatusCode >= 300 {
			t.Fatalf("%s %s: %s", method, target, got)
		}
		_, a := h.svc.took()
		return a.submit.Digest
	}
	seen := map[string]string{}
	for _, r := range [][3]string{
		{"POST", "/v1/pools/a/volumes", `{"name":"v","capacity":1}`},
		{"POST", "/v1/pools/b/volumes", `{"name":"v","capacity":1}`},
		{"POST", "/v1/pools/a/volumes", `{"name":"w","capacity":1}`},
		{"POST", "/v1/pools/a/volumes?dry_run=true", `{"name":"v","capacity":1}`},
		{"POST", "/v1/pools/a/start", ``},
		{"POST", "/v1/pools/a/refresh", ``},
		{"DELETE", "/v1/pools/a/volumes/v", ``},
		{"DELETE", "/v1/pools/a/volumes/v?wipe=zero", ``},
		{"DELETE", "/v1/pools/a/volumes/v?wipe=zero&limit=5", ``},
	} {
		d := digest(r[0], r[1], r[2])
		if other, ok := seen[d]; ok {
			t.Errorf("%v has the digest of %s", r, other)
		}
		seen[d] = fmt.Sprint(r)
	}
	if digest("DELETE", "/v1/pools/a/volumes/v?wipe=zero&limit=5", "") != digest("DELETE", "/v1/pools/a/volumes/v?limit=5&wipe=%7Aero", "") {
		t.Error("the same request, written otherwise, has another digest")
	}
	for _, same := range [][][3]string{
		{
			{"POST", "/v1/pools/a/volumes", `{"name":"v","capacity":5242880,"labels":{"a":"1","b":"2"}}`},
			{"POST", "/v1/pools/a/volumes?dry_run=false", `{ "labels": {"b":"2", "a":"1"}, "capacity": 5242880, "name": "\u0076" }`},
			{"POST", "/v1/pools/a/volumes", `{"name":"v","capacity":5242880,"labels":{"a":"1","b":"2"},"format":"raw","allocation":"full","priority":"normal","on_failure":"rollback","limit":null}`},
		},
		{
			{"POST", "/v1/pools?start=true", `{"name":"p","target":{"path":"/x"}}`},
			{"POST", "/v1/pools?start=true&build=false", `{"target":{"path":"/x"},"name":"p","type":"dir","autostart":true,"source":{}}`},
		},
		{{"POST", "/v1/pools/a/volumes/v/wipe?lock_wait=30", ``}, {"POST", "/v1/pools/a/volumes/v/wipe?lock_wait=30.0", `{"algorithm":"zero"}`}},
		{{"POST", "/v1/pools/a/volumes/v/clone", `{"name":"w"}`}, {"POST", "/v1/pools/a/volumes/v/clone", `{"reflink":"auto","name":"w","sparse":false}`}},
		{{"POST", "/v1/pools/a/evacuate", `{"to":"b"}`}, {"POST", "/v1/pools/a/evacuate", `{"on_error":"continue","to":"b"}`}},
		{{"DELETE", "/v1/pools/a/volumes/v?label=a%3D1&label=b%3D2", ``}, {"DELETE", "/v1/pools/a/volumes/v?label=b%3D2&label=a%3D1&priority=normal", ``}},
		{{"POST", "/v1/pools/a/start", ``}, {"POST", "/v1/pools/a/start", `{}`}},
	} {
		for _, r := range same[1:] {
			if digest(r[0], r[1], r[2]) != digest(same[0][0], same[0][1], same[0][2]) {
				t.Errorf("%v has another digest than %v", r, same[0])
			}
		}
	}
}

func TestMergePatchArrives(t *testing.T) {
	h := newHost(t, nil)
	rt := h.transport(t, h.main)
	for body, want := range map[string]contract.JobPatch{
		`{}`:                                    {},
		`{"limit":null}`:                        {Limit: json.RawMessage(`null`)},
		`{"limit":1048576,"pinned":false}`:      {Limit: json.RawMessage(`1048576`), Pinned: ptr(false)},
		`{"labels":{"a":null,"b":"c"}}`:         {Labels: map[string]*string{"a": nil, "b": ptr("c")}},
		`{"priority":"background","labels":{}}`: {Priority: ptr(record.Background), Labels: map[string]*string{}},
	} {
		if resp, got := answer(t, rt, request(t, "PATCH", "/v1/jobs/1", body)); resp.StatusCode != 200 {
			t.Fatalf("%s: %s", body, got)
		}
		if _, got := h.svc.took(); !reflect.DeepEqual(got.request, want) {
			t.Errorf("%s arrived as %+v", body, got.request)
		}
	}
}

// crowd is a service with many pools and volumes, in no order.
type crowd struct {
	*fake
	names []string
}

func (c *crowd) Pools(context.Context) ([]record.Pool, error) {
	var out []record.Pool
	for _, n := range c.names {
		p := c.pool()
		p.Name = n
		out = append(out, p)
	}
	return out, c.enter("Pools", asked{})
}

func (c *crowd) Volumes(context.Context, contract.VolumeFilter) ([]record.Volume, error) {
	var out []record.Volume
	for _, n := range c.names {
		v := c.vol()
		v.Name = n
		out = append(out, v)
	}
	return out, c.enter("Volumes", asked{})
}

func newCrowd(t *testing.T, n int) (*host, *crowd) {
	f := newFake()
	c := &crowd{fake: f}
	for _, i := range rand.Perm(n) {
		c.names = append(c.names, fmt.Sprintf("%05d", i))
	}
	return hostOf(t, c, f, nil), c
}

func TestClientReadsAllPages(t *testing.T) {
	h, svc := newCrowd(t, 2500)
	c := h.client(t, h.ro)
	volumes, err := c.Volumes(t.Context(), contract.VolumeFilter{})
	if err != nil {
		t.Fatal(err)
	}
	if calls, _ := svc.took(); len(calls) != 3 {
		t.Errorf("%d requests for 2500 volumes", len(calls))
	}
	var got []string
	for _, v := range volumes {
		got = append(got, v.Name)
	}
	if want := slices.Sorted(slices.Values(svc.names)); !slices.Equal(got, want) {
		t.Errorf("%d names, sorted: %v", len(got), slices.IsSorted(got))
	}
	if one, err := c.PoolVolumes(t.Context(), "images"); err != nil || len(one) != 2500 {
		t.Errorf("of one pool: %d, %v", len(one), err)
	}
}

// An item that goes or comes between two pages shifts no other.
func TestPagesHoldWhileItemsComeAndGo(t *testing.T) {
	h, svc := newCrowd(t, 10)
	rt := h.transport(t, h.ro)
	var got []string
	next := ""
	for page := range 10 {
		target := "/v1/pools?limit=3"
		if next != "" {
			target += "&cursor=" + next
		}
		_, body := answer(t, rt, request(t, "GET", target, ""))
		var l contract.List[record.Pool]
		if err := json.Unmarshal([]byte(body), &l); err != nil {
			t.Fatal(err)
		}
		for _, p := range l.Items {
			got = append(got, p.Name)
		}
		if l.Next == nil {
			break
		}
		next = *l.Next
		if page == 0 { // one that was listed goes, one before the cursor comes
			svc.names = slices.DeleteFunc(svc.names, func(n string) bool { return n == "00002" })
			svc.names = append(svc.names, "00000x")
		}
	}
	if want := "[00000 00001 00002 00003 00004 00005 00006 00007 00008 00009]"; fmt.Sprint(got) != want {
		t.Errorf("got %v", got)
	}
}

func TestEmptyListIsAList(t *testing.T) {
	h, _ := newCrowd(t, 0)
	if _, body := answer(t, h.transport(t, h.ro), request(t, "GET", "/v1/pools", "")); body != `{"items":[],"next":null}`+"\n" {
		t.Errorf("got %s", body)
	}
}

func TestJobsArePagedByTheService(t *testing.T) {
	h := newHost(t, nil)
	rt := h.transport(t, h.ro)
	for query, want := range map[string]contract.Page{"": {Limit: 100}, "?limit=1000&cursor=any": {Limit: 1000, Cursor: "any"}} {
		if resp, body := answer(t, rt, request(t, "GET", "/v1/jobs"+query, "")); resp.StatusCode != 200 || !strings.Contains(body, `"next":"more"`) {
			t.Errorf("%s: %d %s", query, resp.StatusCode, body)
		}
		_, got := h.svc.took()
		if p := reflect.ValueOf(got.request).FieldByName("Page").Interface(); p != want {
			t.Errorf("%s arrived as %+v", query, p)
		}
	}
}

func TestLimitsPatchArrives(t *testing.T) {
	h := newHost(t, nil)
	rt := h.transport(t, h.main)
	for body, want := range map[string]contract.LimitsPatch{
		`{}`:                        {},
		`{"rate":null}`:             {Rate: json.RawMessage(`null`)},
		`{"rate":5,"running":8}`:    {Rate: json.RawMessage(`5`), Running: ptr(8)},
		`{"pool_rates":{"p":null}}`: {PoolRates: map[string]*int64{"p": nil}},
		`{"pool_running":{"p":2},"device_running":{"8:0":1}}`: {
			PoolRunning: map[string]*int{"p": ptr(2)}, DeviceRunning: map[string]*int{"8:0": ptr(1)},
		},
	} {
		if resp, got := answer(t, rt, request(t, "PATCH", "/v1/limits", body)); resp.StatusCode != 200 {
			t.Fatalf("%s: %s", body, got)
		}
		if _, got := h.svc.took(); !reflect.DeepEqual(got.request, want) {
			t.Errorf("%s arrived as %+v", body, got.request)
		}
	}
}

// Pools are read anew before they are told of, once for all pages of a list,
// and only when that is asked for.
func TestFreshReadsFirst(t *testing.T) {
	h := newHost(t, nil)
	c := h.client(t, h.ro)
	for name, call := range map[string]func(*client.Client) error{
		"[Freshen Pools] []":         func(c *client.Client) error { _, err := c.Pools(t.Context()); return err },
		"[Freshen Pool] [p]":         func(c *client.Client) error { _, err := c.Pool(t.Context(), "p"); return err },
		"[Freshen Pool Volumes] [p]": func(c *client.Client) error { _, err := c.PoolVolumes(t.Context(), "p"); return err },
		"[Freshen Volume] [p]":       func(c *client.Client) error { _, err := c.Volume(t.Context(), "p", "v"); return err },
		"[Freshen Volumes] [p q]": func(c *client.Client) error {
			_, err := c.Volumes(t.Context(), contract.VolumeFilter{Pools: []string{"p", "q"}})
			return err
		},
	} {
		h.svc.took()
		if err := call(c.Fresh()); err != nil {
			t.Fatal(err)
		}
		calls, _ := h.svc.took()
		if got := fmt.Sprint(calls, " ", h.svc.freshened); got != name {
			t.Errorf("calls are %s, want %s", got, name)
		}
		if err := call(c); err != nil {
			t.Fatal(err)
		}
		if calls, _ := h.svc.took(); slices.Contains(calls, "Freshen") {
			t.Errorf("%v without being asked", calls)
		}
	}
	rt := h.transport(t, h.ro)
	if resp, body := answer(t, rt, request(t, "GET", "/v1/pools?fresh=true&cursor=aW1hZ2Vz", "")); resp.StatusCode != 200 && resp.StatusCode != 400 {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	if calls, _ := h.svc.took(); slices.Contains(calls, "Freshen") {
		t.Errorf("a second page did %v", calls)
	}
}
