package rest

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/rest/wire"
	"storaged/internal/service/contract"
)

// repeatable are the query keys of which several values are alternatives (of
// label in a DELETE: several labels).
var repeatable = []string{"state", "kind", "pool", "volume", "owner", "label", "path", "key", "format", "option"}

// checkQuery refuses keys that the row does not take.
func (c *call) checkQuery() error {
	q, err := url.ParseQuery(c.r.URL.RawQuery)
	if err != nil {
		return record.Errorf(record.Invalid, "bad query: %v", err)
	}
	for key, values := range q {
		if !slices.Contains(c.row.query, key) {
			return record.Errorf(record.Invalid, "unknown query key %s", record.Short(key)).WithHint("%s", c.keys())
		}
		if len(values) > 1 && !slices.Contains(repeatable, key) {
			return record.Errorf(record.Invalid, "query key %q is given twice", key)
		}
		if slices.ContainsFunc(values, func(v string) bool { return v == "" || !validText(v) }) {
			return record.Errorf(record.Invalid, "query key %q has an empty value or one that is no text", key)
		}
	}
	return nil
}

func (c *call) keys() string {
	if len(c.row.query) == 0 {
		return c.row.method + " " + c.row.pattern + " takes no query"
	}
	return "it takes " + strings.Join(c.row.query, ", ")
}

// flag reads a query key that is true or false.
func (c *call) flag(key string) (bool, error) {
	switch v := c.r.URL.Query().Get(key); v {
	case "true":
		return true, nil
	case "", "false":
		return false, nil
	default:
		return false, record.Errorf(record.Invalid, "query key %q is true or false, not %s", key, record.Short(v))
	}
}

var secondsForm = regexp.MustCompile(`^[0-9]{1,9}(\.[0-9]{1,9})?$`)

// parseSeconds reads a duration in seconds; key names it in the error.
func parseSeconds(key, v string) (time.Duration, error) {
	if !secondsForm.MatchString(v) {
		return 0, record.Errorf(record.Invalid, "query key %q is a number of seconds, not %s", key, record.Short(v))
	}
	s, err := strconv.ParseFloat(v, 64)
	if err != nil {
		panic("internal error: rest: " + err.Error())
	}
	return time.Duration(s * float64(time.Second)), nil
}

// submit reads how a job is to be started. meaning is all that the request says
// beside that.
func (c *call) submit(meaning ...any) (contract.Submit, error) {
	s := contract.Submit{Caller: c.caller}
	var err error
	if s.Key, err = c.idempotencyKey(); err != nil {
		return s, err
	}
	if s.IfMatch, err = c.ifMatch(); err != nil {
		return s, err
	}
	if s.DryRun, err = c.flag("dry_run"); err != nil {
		return s, err
	}
	if s.LockWait, err = c.lockWait(); err != nil {
		return s, err
	}
	s.Digest = c.digest(append(meaning, s.LockWait)...)
	return s, nil
}

// digest tells requests apart that have the same idempotency key: by what they
// mean, however that is written.
func (c *call) digest(meaning ...any) string {
	b, err := json.Marshal(append(meaning, c.r.Method, c.r.URL.Path))
	if err != nil {
		panic("internal error: rest: a request cannot be JSON: " + err.Error())
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// query is what the query says, but for lock_wait: a flag that is false is as
// one that is not given, and the order of values means nothing.
func (c *call) query() string {
	q := c.r.URL.Query()
	for key, values := range q {
		slices.Sort(values)
		if key == "lock_wait" || len(values) == 1 && (values[0] == "false" || key == "fd" && values[0] == "0") {
			delete(q, key)
		}
	}
	return q.Encode()
}

func (c *call) idempotencyKey() (string, error) {
	v, err := c.header("Idempotency-Key")
	if err != nil || v == "" {
		return "", err
	}
	if err := record.CheckKey(v); err != nil {
		return "", record.Errorf(record.Invalid, "Idempotency-Key: %v", err)
	}
	return v, nil
}

var etagForm = regexp.MustCompile(`^"([1-9][0-9]{0,18})"$`)

// ifMatch reads the generation that a change is meant for.
func (c *call) ifMatch() (int64, error) {
	v, err := c.header("If-Match")
	if err != nil || v == "" || v == "*" {
		return 0, err
	}
	m := etagForm.FindStringSubmatch(v)
	if m == nil {
		return 0, record.Errorf(record.Invalid, "If-Match is not one ETag of ours: %s", record.Short(v)).
			WithHint(`as the object's ETag gives it, for example If-Match: "3"`)
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	if err != nil {
		return 0, record.Errorf(record.Invalid, "If-Match is out of range: %s", record.Short(v))
	}
	return n, nil
}

// noIfMatch refuses a condition on what has no generation: ignored, it would
// promise what nobody checks.
func (c *call) noIfMatch(what string) error {
	if len(c.r.Header.Values("If-Match")) == 0 {
		return nil
	}
	return record.Errorf(record.Invalid, "If-Match cannot be checked: %s no generation", what)
}

// header reads a header that may be given once.
func (c *call) header(name string) (string, error) {
	values := c.r.Header.Values(name)
	switch len(values) {
	case 0:
		return "", nil
	case 1:
		return strings.TrimSpace(values[0]), nil
	}
	return "", record.Errorf(record.Invalid, "header %s is given twice", name)
}

func (c *call) lockWait() (*time.Duration, error) {
	v := c.r.URL.Query().Get("lock_wait")
	switch v {
	case "":
		return nil, nil
	case "forever":
		d := time.Duration(-1)
		return &d, nil
	}
	d, err := parseSeconds("lock_wait", v)
	if err != nil {
		return nil, err.(*record.Error).WithHint("0 refuses at once, forever waits without end")
	}
	return &d, nil
}

// preferredWait reads how long the client would like to wait for the job. As
// RFC 7240 has it, a preference that is not understood is left aside.
func (c *call) preferredWait() time.Duration {
	for _, header := range c.r.Header.Values("Prefer") {
		for _, p := range strings.Split(header, ",") {
			name, value, _ := strings.Cut(p, "=")
			if !strings.EqualFold(strings.TrimSpace(name), "wait") {
				continue
			}
			if d, err := parseSeconds("wait", strings.Trim(strings.TrimSpace(value), `"`)); err == nil {
				return min(d, wire.MaxWait)
			}
		}
	}
	return 0
}

// jobOptions reads the options of a job from a query.
func (c *call) jobOptions() (operation.JobOptions, error) {
	q := c.r.URL.Query()
	o := operation.JobOptions{Priority: record.Priority(q.Get("priority")), OnFailure: record.OnFailure(q.Get("on_failure"))}
	if v := q.Get("limit"); v != "" {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return o, record.Errorf(record.Invalid, `query key "limit" is a number of bytes per second, not %s`, record.Short(v))
		}
		o.Limit = &n
	}
	var err error
	if o.Labels, err = c.pairsQuery("label"); err != nil {
		return o, err
	}
	return o, o.Check()
}
