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
}

// starting are the keys of every request that starts a job.
var starting = []string{"dry_run", "lock_wait"}

// routes is the table of all calls.
func routes() []route {
	return slices.Concat(hostRoutes(), poolRoutes(), volumeRoutes(), jobRoutes())
}

func hostRoutes() []route {
	return []route{
		{http.MethodGet, "/v1/version", Reader, nil, false, getVersion},
		{http.MethodGet, "/v1/status", Reader, nil, false, getStatus},
		{http.MethodGet, "/v1/capabilities", Reader, nil, false, getCapabilities},
		{http.MethodGet, "/v1/openapi.yaml", Reader, nil, false, getOpenAPI},
		{http.MethodGet, "/metrics", Reader, nil, false, getMetrics},
		{http.MethodGet, "/v1/limits", Reader, nil, false, getLimits},
		{http.MethodPatch, "/v1/limits", Member, nil, true, patchLimits},
		{http.MethodGet, "/v1/events", Reader, nil, false, getEvents},
	}
}

func poolRoutes() []route {
	const one = "/v1/pools/{pool}"
	return []route{
		{http.MethodGet, "/v1/pools", Reader, append([]string{"fresh"}, paging...), false, listPools},
		{http.MethodPost, "/v1/pools", Member, append([]string{"build", "start"}, starting...), true, definePool},
		{http.MethodGet, one, Reader, []string{"fresh"}, false, getPool},
		{http.MethodPut, one, Member, nil, true, replacePool},
		{http.MethodPatch, one, Member, nil, true, patchPool},
		{http.MethodPost, one + "/undefine", Member, nil, true, undefinePool},
		{http.MethodPost, one + "/build", Member, starting, true, starts(buildPool)},
		{http.MethodPost, one + "/start", Member, starting, true, starts(startPool)},
		{http.MethodPost, one + "/stop", Member, starting, true, starts(stopPool)},
		{http.MethodPost, one + "/refresh", Member, starting, true, starts(refreshPool)},
		{http.MethodPost, one + "/delete", Member, starting, true, starts(deletePool)},
	}
}

func volumeRoutes() []route {
	const all, one = "/v1/pools/{pool}/volumes", "/v1/pools/{pool}/volumes/{volume}"
	filters := append([]string{"path", "key", "format", "state", "fresh"}, paging...)
	deletion := append([]string{"wipe", "limit", "priority", "on_failure", "label"}, starting...)
	return []route{
		{http.MethodGet, "/v1/volumes", Reader, append([]string{"pool"}, filters...), false, listVolumes},
		{http.MethodGet, all, Reader, filters, false, listPoolVolumes},
		{http.MethodPost, all, Member, starting, true, starts(createVolume)},
		{http.MethodGet, one, Reader, []string{"fresh"}, false, getVolume},
		{http.MethodPatch, one, Member, nil, true, patchVolume},
		{http.MethodDelete, one, Member, deletion, false, deleteVolume},
		{http.MethodPost, one + "/clone", Member, starting, true, starts(cloneVolume)},
		{http.MethodPost, one + "/resize", Member, starting, true, starts(resizeVolume)},
		{http.MethodPost, one + "/wipe", Member, starting, true, starts(wipeVolume)},
		{http.MethodPost, one + "/verify", Member, starting, true, starts(verifyVolume)},
	}
}

func jobRoutes() []route {
	const one = "/v1/jobs/{job}"
	filters := []string{"state", "kind", "pool", "volume", "owner", "since", "until", "label", "idempotency_key"}
	return []route{
		{http.MethodGet, "/v1/jobs", Reader, append(filters, paging...), false, listJobs},
		{http.MethodGet, one, Reader, nil, false, getJob},
		{http.MethodPatch, one, Member, nil, true, patchJob},
		{http.MethodDelete, one, Member, nil, false, forgetJob},
		{http.MethodGet, one + "/wait", Reader, []string{"timeout"}, false, waitJob},
		{http.MethodGet, one + "/log", Reader, nil, false, getJobLog},
		{http.MethodPost, one + "/cancel", Member, nil, true, cancelJob},
		{http.MethodPost, one + "/pause", Member, nil, true, pauseJob},
		{http.MethodPost, one + "/resume", Member, nil, true, resumeJob},
		{http.MethodPost, one + "/retry", Member, starting, true, retryJob},
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
		return c.denied()
	}
	if c.r.ContentLength != 0 && !c.row.body {
		return record.Errorf(record.Invalid, "%s %s takes no body", c.r.Method, c.row.pattern)
	}
	return c.checkQuery()
}

func (c *call) denied() error {
	e := record.Errorf(record.Denied, "the read-only socket serves reading only")
	if c.socket == "" {
		return e
	}
	return e.WithHint("use the socket %q, which is for root and the members of its group", c.socket)
}
