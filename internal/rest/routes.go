package rest

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
	role    record.Role // least that a caller needs
	query   []string    // keys it takes
	body    bool        // whether it may have one
	handle  func(*call) error
	own     bool // a User may call it for a job of its own
}

// routes is the table of all calls.
func routes() []route {
	return slices.Concat(hostRoutes(), poolRoutes(), volumeRoutes(), jobRoutes(), verbs())
}

func hostRoutes() []route {
	return []route{
		{http.MethodGet, "/v1/version", record.ReaderRole, nil, false, getVersion, false},
		{http.MethodGet, "/v1/status", record.ReaderRole, nil, false, getStatus, false},
		{http.MethodGet, "/v1/capabilities", record.ReaderRole, nil, false, getCapabilities, false},
		{http.MethodGet, "/v1/openapi.yaml", record.ReaderRole, nil, false, getOpenAPI, false},
		{http.MethodGet, "/metrics", record.ReaderRole, nil, false, getMetrics, false},
		{http.MethodGet, "/v1/limits", record.ReaderRole, nil, false, getLimits, false},
		{http.MethodPatch, "/v1/limits", record.MemberRole, nil, true, patchLimits, false},
		{http.MethodPut, "/v1/drain", record.MemberRole, nil, true, putDrain, false},
		{http.MethodGet, "/v1/secrets", record.MemberRole, nil, false, listSecrets, false},
		{http.MethodPut, "/v1/secrets/{secret}", record.MemberRole, []string{"dry_run"}, true, putSecret, false},
		{http.MethodDelete, "/v1/secrets/{secret}", record.MemberRole, []string{"dry_run"}, false, deleteSecret, false},
		{http.MethodGet, "/v1/events", record.ReaderRole, nil, false, getEvents, false},
	}
}

func poolRoutes() []route {
	const one = "/v1/pools/{pool}"
	return []route{
		{http.MethodGet, "/v1/pools", record.ReaderRole, append([]string{"fresh"}, paging...), false, listPools, false},
		{http.MethodPost, "/v1/pools", record.MemberRole, append([]string{"build", "start"}, starting...), true, definePool, false},
		{http.MethodPost, "/v1/sources", record.MemberRole, nil, true, findSources, false},
		{http.MethodGet, one, record.ReaderRole, []string{"fresh"}, false, getPool, false},
		{http.MethodPut, one, record.MemberRole, nil, true, replacePool, false},
		{http.MethodPatch, one, record.MemberRole, nil, true, patchPool, false},
		{http.MethodPost, one + "/undefine", record.MemberRole, nil, true, undefinePool, false},
	}
}

func volumeRoutes() []route {
	const all, one = "/v1/pools/{pool}/volumes", "/v1/pools/{pool}/volumes/{volume}"
	filters := append([]string{"path", "key", "format", "state", "fresh"}, paging...)
	jobQuery := []string{"limit", "priority", "on_failure", "label"}
	deletion := slices.Concat([]string{"wipe", "accept_limits", "missing_ok", "with_snapshots"}, jobQuery, starting)
	return []route{
		{http.MethodGet, "/v1/volumes", record.ReaderRole, append([]string{"pool"}, filters...), false, listVolumes, false},
		{http.MethodGet, all, record.ReaderRole, filters, false, listPoolVolumes, false},
		{http.MethodGet, one, record.ReaderRole, []string{"fresh"}, false, getVolume, false},
		{http.MethodPatch, one, record.MemberRole, nil, true, patchVolume, false},
		{http.MethodDelete, one, record.MemberRole, deletion, false, deleteVolume, false},
		{http.MethodGet, one + "/snapshots", record.ReaderRole, append([]string{"fresh"}, paging...), false, listSnapshots, false},
		{http.MethodGet, one + "/snapshots/{snapshot}", record.ReaderRole, []string{"fresh"}, false, getSnapshot, false},
		{http.MethodDelete, one + "/snapshots/{snapshot}", record.MemberRole, slices.Concat(jobQuery, starting), false, deleteSnapshot, false},
		// What is in a volume is not for who may only look at the catalog.
		{http.MethodGet, one + "/content", record.MemberRole, slices.Concat(contentQuery, starting), false, getContent, false},
		{http.MethodPut, one + "/content", record.MemberRole, slices.Concat(contentQuery, uploadQuery, starting), true, putContent, false},
		{http.MethodPost, one + "/content", record.MemberRole, slices.Concat(contentQuery, uploadQuery, descriptorQuery, starting), false, postContent, false},
	}
}

// jobFilters are the keys that select jobs.
var jobFilters = []string{"state", "kind", "pool", "volume", "owner", "since", "until", "label", "idempotency_key"}

func jobRoutes() []route {
	const one = "/v1/jobs/{job}"
	return slices.Concat([]route{
		{http.MethodGet, "/v1/jobs", record.ReaderRole, slices.Concat(jobFilters, paging), false, listJobs, false},
		{http.MethodGet, one, record.ReaderRole, nil, false, getJob, false},
		{http.MethodGet, one + "/wait", record.ReaderRole, []string{"timeout"}, false, waitJob, false},
		{http.MethodGet, one + "/log", record.ReaderRole, nil, false, getJobLog, false},
		{http.MethodPost, one + "/retry", record.MemberRole, starting, true, retryJob, false},
	},
		onJobs(http.MethodPatch, "", true, patchJob), onJobs(http.MethodDelete, "", false, forgetJob),
		onJobs(http.MethodPost, "/cancel", true, cancelJob), onJobs(http.MethodPost, "/pause", true, pauseJob),
		onJobs(http.MethodPost, "/resume", true, resumeJob))
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
			panic("internal error: rest: two rows for " + row.method + " " + row.pattern)
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
	e := record.Errorf(record.NotAllowed, "%s is not for %s", record.Short(c.r.Method), record.Short(c.r.URL.Path))
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
	if c.caller.Role != record.UserRole || !c.row.own {
		return c.denied()
	}
	j, err := c.svc.Job(c.ctx(), c.jobName())
	if err != nil {
		return err
	}
	return c.caller.MayChange(&j)
}

func (c *call) denied() error {
	if c.caller.Role == record.UserRole {
		return record.Errorf(record.Denied, "%s is not in the group of the main socket", c.caller.Owner.User).
			WithHint("who is not may read, and cancel, pause and limit jobs of their own")
	}
	e := record.Errorf(record.Denied, "the read-only socket serves reading only")
	if c.socket == "" {
		return e
	}
	return e.WithHint("the main socket is %q", c.socket)
}
