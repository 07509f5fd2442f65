package api

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	"storaged/internal/record"
)

// route is one call of the interface. The table of them is the only place
// that gives a call to anybody.
type route struct {
	method  string
	pattern string
	role    Role     // least that a caller needs
	query   []string // keys it takes
	body    bool     // whether it may have one
	handle  func(*call) error
	own     bool // a User may call it for a job of its own
}

// starting are the keys of every request that starts a job.
var starting = []string{"dry_run", "lock_wait"}

// routes is the table of all calls.
func routes() []route {
	return slices.Concat(hostRoutes(), poolRoutes(), volumeRoutes(), jobRoutes())
}

func hostRoutes() []route {
	return []route{
		{http.MethodGet, "/v1/version", Reader, nil, false, getVersion, false},
		{http.MethodGet, "/v1/status", Reader, nil, false, getStatus, false},
		{http.MethodGet, "/v1/capabilities", Reader, nil, false, getCapabilities, false},
		{http.MethodGet, "/v1/openapi.yaml", Reader, nil, false, getOpenAPI, false},
		{http.MethodGet, "/metrics", Reader, nil, false, getMetrics, false},
		{http.MethodGet, "/v1/limits", Reader, nil, false, getLimits, false},
		{http.MethodPatch, "/v1/limits", Member, nil, true, patchLimits, false},
		{http.MethodPut, "/v1/drain", Member, nil, true, putDrain, false},
		{http.MethodGet, "/v1/events", Reader, nil, false, getEvents, false},
	}
}

func poolRoutes() []route {
	const one = "/v1/pools/{pool}"
	return []route{
		{http.MethodGet, "/v1/pools", Reader, append([]string{"fresh"}, paging...), false, listPools, false},
		{http.MethodPost, "/v1/pools", Member, append([]string{"build", "start"}, starting...), true, definePool, false},
		{http.MethodGet, one, Reader, []string{"fresh"}, false, getPool, false},
		{http.MethodPut, one, Member, nil, true, replacePool, false},
		{http.MethodPatch, one, Member, nil, true, patchPool, false},
		{http.MethodPost, one + "/undefine", Member, nil, true, undefinePool, false},
		{http.MethodPost, one + "/build", Member, starting, true, starts(buildPool), false},
		{http.MethodPost, one + "/start", Member, starting, true, starts(startPool), false},
		{http.MethodPost, one + "/stop", Member, starting, true, starts(stopPool), false},
		{http.MethodPost, one + "/refresh", Member, starting, true, starts(refreshPool), false},
		{http.MethodPost, one + "/verify", Member, starting, true, starts(verifyPool), false},
		{http.MethodPost, one + "/evacuate", Member, starting, true, starts(evacuatePool), false},
		{http.MethodPost, one + "/delete", Member, starting, true, starts(deletePool), false},
	}
}

func volumeRoutes() []route {
	const all, one = "/v1/pools/{pool}/volumes", "/v1/pools/{pool}/volumes/{volume}"
	filters := append([]string{"path", "key", "format", "state", "fresh"}, paging...)
	deletion := append([]string{"wipe", "limit", "priority", "on_failure", "label"}, starting...)
	return []route{
		{http.MethodGet, "/v1/volumes", Reader, append([]string{"pool"}, filters...), false, listVolumes, false},
		{http.MethodGet, all, Reader, filters, false, listPoolVolumes, false},
		{http.MethodPost, all, Member, starting, true, starts(createVolume), false},
		{http.MethodGet, one, Reader, []string{"fresh"}, false, getVolume, false},
		{http.MethodPatch, one, Member, nil, true, patchVolume, false},
		{http.MethodDelete, one, Member, deletion, false, deleteVolume, false},
		{http.MethodPost, one + "/clone", Member, starting, true, starts(cloneVolume), false},
		{http.MethodPost, one + "/resize", Member, starting, true, starts(resizeVolume), false},
		{http.MethodPost, one + "/wipe", Member, starting, true, starts(wipeVolume), false},
		{http.MethodPost, one + "/verify", Member, starting, true, starts(verifyVolume), false},
		{http.MethodPost, one + "/move", Member, starting, true, starts(moveVolume), false},
		// What is in a volume is not for who may only look at the catalogue.
		{http.MethodGet, one + "/content", Member, slices.Concat(contentQuery, starting), false, getContent, false},
		{http.MethodPut, one + "/content", Member, slices.Concat(contentQuery, uploadQuery, starting), true, putContent, false},
		{http.MethodPost, one + "/content", Member, slices.Concat(contentQuery, uploadQuery, handQuery, starting), false, postContent, false},
	}
}

func jobRoutes() []route {
	const one = "/v1/jobs/{job}"
	filters := []string{"state", "kind", "pool", "volume", "owner", "since", "until", "label", "idempotency_key"}
	return []route{
		{http.MethodGet, "/v1/jobs", Reader, append(filters, paging...), false, listJobs, false},
		{http.MethodGet, one, Reader, nil, false, getJob, false},
		{http.MethodPatch, one, Member, nil, true, patchJob, true},
		{http.MethodDelete, one, Member, nil, false, forgetJob, false},
		{http.MethodGet, one + "/wait", Reader, []string{"timeout"}, false, waitJob, false},
		{http.MethodGet, one + "/log", Reader, nil, false, getJobLog, false},
		{http.MethodPost, one + "/cancel", Member, nil, true, cancelJob, true},
		{http.MethodPost, one + "/pause", Member, nil, true, pauseJob, true},
		{http.MethodPost, one + "/resume", Member, nil, true, resumeJob, true},
		{http.MethodPost, one + "/retry", Member, starting, true, retryJob, false},
	}
}

// instead says what to do where a method people would expect is refused.
var instead = map[string]string{
	"DELETE /v1/pools/{pool}": "POST /v1/pools/{pool}/undefine forgets a pool and touches no storage; " +
		"POST /v1/pools/{pool}/delete destroys its storage",
}

// resource is the rows of one pattern, by method.
type resource struct {
	pattern string
	rows    map[string]*route
}

// byPattern sorts the table. A call that is there twice is our mistake.
func byPattern(table []route) map[string]resource {
	out := map[string]resource{}
	for i, row := range table {
		if _, ok := out[row.pattern]; !ok {
			out[row.pattern] = resource{row.pattern, map[string]*route{}}
		}
		if out[row.pattern].rows[row.method] != nil {
			panic("internal error: api: two rows for " + row.method + " " + row.pattern)
		}
		out[row.pattern].rows[row.method] = &table[i]
	}
	return out
}

// ServeHTTP finds the row, lets the caller in or not, and only then looks at
// what it sent.
func (h resource) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := w.(*call)
	row := h.rows[r.Method]
	if row == nil {
		c.fail(h.notAllowed(c))
		return
	}
	c.row = row
	if err := c.admit(); err != nil {
		c.fail(err)
		return
	}
	c.fail(row.handle(c))
}

func (h resource) notAllowed(c *call) error {
	methods := strings.Join(slices.Sorted(maps.Keys(h.rows)), ", ")
	c.Header().Set("Allow", methods)
	e := record.Errorf(record.NotAllowed, "%s is not for %s", short(c.r.Method), short(c.r.URL.Path))
	if hint := instead[c.r.Method+" "+h.pattern]; hint != "" {
		return e.WithHint("%s", hint)
	}
	return e.WithHint("%s", "it takes "+methods)
}

// admit decides by the caller's role, then by the shape of the request. It
// reads no body.
func (c *call) admit() error {
	if c.caller.Role < c.row.role {
		if err := c.admitOwner(); err != nil {
			return err
		}
	}
	if c.r.ContentLength != 0 && !c.row.body {
		return record.Errorf(record.Invalid, "%s %s takes no body", c.r.Method, c.row.pattern)
	}
	return c.checkQuery()
}

// admitOwner lets a User at jobs of its own, by the uid that asked for them.
func (c *call) admitOwner() error {
	if c.caller.Role != User || !c.row.own {
		return c.denied()
	}
	j, err := c.svc.Job(c.ctx(), c.jobName())
	if err != nil {
		return err
	}
	if j.Owner.UID != c.caller.Owner.UID {
		return record.Errorf(record.Denied, "job %d is that of %s", j.Number, j.Owner.User).
			WithHint("root and the members of the main socket's group may do that")
	}
	return nil
}

func (c *call) denied() error {
	if c.caller.Role == User {
		return record.Errorf(record.Denied, "%s is not in the group of the main socket", c.caller.Owner.User).
			WithHint("who is not may read, and cancel, pause and limit jobs of their own")
	}
	e := record.Errorf(record.Denied, "the read-only socket serves reading only")
	if c.socket == "" {
		return e
	}
	return e.WithHint("the main socket is %q", c.socket)
}
