package rest

import (
	"mime"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/rest/wire"
	"storaged/internal/sparse"
)

// Keys of the calls about contents.
var (
	contentQuery    = []string{"as", "checksum", "limit", "priority", "on_failure", "label"}
	uploadQuery     = []string{"offset", "length", "as_format", "detect_zeros", "unpack", "continues", "beginning", "create", "capacity", "allocation", "format", "from_format", "from_secret", "secret", "option", "exist_ok", "owner", "group", "mode", "selinux_label"}
	descriptorQuery = []string{"fd", "direction"}
)

// uploadQueries reads what the query says of an upload.
func (c *call) uploadQueries() (r operation.UploadRequest, err error) {
	q := c.r.URL.Query()
	r.Checksum, r.AsFormat, r.Continues, r.Beginning = q.Get("checksum"), q.Get("as_format"), q.Get("continues"), q.Get("beginning")
	r.As, r.Unpack, r.FromFormat, r.FromSecret = q.Get("as"), q.Get("unpack"), q.Get("from_format"), q.Get("from_secret")
	if r.DetectZeros, err = c.flag("detect_zeros"); err != nil {
		return r, err
	}
	if r.JobOptions, err = c.jobOptions(); err != nil {
		return r, err
	}
	create, err := c.flag("create")
	if err != nil {
		return r, err
	}
	if create {
		r.Create, err = c.createQueries()
		return r, err
	}
	for _, key := range []string{"capacity", "allocation", "format", "from_format", "from_secret", "secret", "option", "exist_ok", "owner", "group", "mode", "selinux_label"} {
		if q.Has(key) {
			return r, record.Errorf(record.Invalid, "query key %q is for a new volume (create=true)", key)
		}
	}
	return r, nil
}

// createQueries reads what the query says of a volume to be made.
func (c *call) createQueries() (*operation.CreateRequest, error) {
	q := c.r.URL.Query()
	r := &operation.CreateRequest{Name: c.volume(), Format: q.Get("format"), Secret: q.Get("secret")}
	var err error
	if r.ExistOK, err = c.flag("exist_ok"); err != nil {
		return nil, err
	}
	if r.Options, err = c.pairsQuery("option"); err != nil {
		return nil, err
	}
	if r.Rights, err = c.rightsQuery(); err != nil {
		return nil, err
	}
	capacity, err := c.bytesQuery("capacity")
	if err != nil {
		return nil, err
	}
	if capacity != nil {
		r.Capacity = *capacity
	}
	switch v := q.Get("allocation"); v {
	case "":
	case "full":
		r.Allocation = &operation.Allocation{Full: true}
	case "none":
		r.Allocation = &operation.Allocation{}
	default:
		n, err := c.bytesQuery("allocation")
		if err != nil {
			return nil, err
		}
		r.Allocation = &operation.Allocation{Bytes: *n}
	}
	return r, nil
}

// pairsQuery reads a query key that is key=value and may be repeated, nil without.
func (c *call) pairsQuery(name string) (map[string]string, error) {
	var all map[string]string
	for _, text := range c.r.URL.Query()[name] {
		key, value, ok := strings.Cut(text, "=")
		if !ok || key == "" {
			return nil, record.Errorf(record.Invalid, "query key %q is key=value, not %s", name, record.Short(text))
		}
		if all == nil {
			all = map[string]string{}
		}
		all[key] = value
	}
	return all, nil
}

// bytesQuery reads a query key that is a number of bytes, nil without.
func (c *call) bytesQuery(key string) (*int64, error) {
	v := c.r.URL.Query().Get(key)
	if v == "" {
		return nil, nil
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < 0 {
		return nil, record.Errorf(record.Invalid, "query key %q is a number of bytes, not %s", key, record.Short(v))
	}
	return &n, nil
}

var contentRange = regexp.MustCompile(`^(?i:bytes) ([0-9]+)-([0-9]+)/(\*|[0-9]+)$`)

// position is a number of bytes as a header has it. One that is longer than any
// content can be is cut: it lies behind the end all the same.
func position(digits string) int64 {
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n > sparse.MaxLength {
		return sparse.MaxLength
	}
	return n
}

// part reads offset and length from the query.
func (c *call) part() (offset int64, length *int64, err error) {
	off, err := c.bytesQuery("offset")
	if err != nil {
		return 0, nil, err
	}
	if off == nil {
		off = new(int64)
	}
	length, err = c.bytesQuery("length")
	return *off, length, err
}

// bodyPlace reads where in the volume a body goes, and how long it is.
func (c *call) bodyPlace(form string, r *operation.UploadRequest) error {
	v, err := c.header("Content-Range")
	if err != nil {
		return err
	}
	if v == "" {
		r.Offset, r.Length, err = c.part()
		if err == nil && r.Length == nil && r.Unpack == "" && form == operation.RawForm && c.r.ContentLength >= 0 {
			r.Length = &c.r.ContentLength
		}
		return err
	}
	if q := c.r.URL.Query(); q.Has("offset") || q.Has("length") {
		return record.Errorf(record.Invalid, "Content-Range and the query both say where the body goes")
	}
	m := contentRange.FindStringSubmatch(v)
	if m == nil {
		return record.Errorf(record.Invalid, "Content-Range is not bytes FIRST-LAST/TOTAL: %s", record.Short(v))
	}
	first, last := position(m[1]), position(m[2])
	n := last - first + 1
	switch { // RFC 9110, section 14.4
	case last < first:
		return record.Errorf(record.Invalid, "Content-Range %s ends before it begins", record.Short(v))
	case m[3] != "*" && last >= position(m[3]):
		return record.Errorf(record.Invalid, "Content-Range %s ends beyond its total", record.Short(v))
	case form == operation.RawForm && c.r.ContentLength >= 0 && c.r.ContentLength != n:
		return record.Errorf(record.Invalid, "Content-Range %s is not the length of the body, %d bytes", record.Short(v), c.r.ContentLength)
	}
	r.Offset, r.Length, r.Exact = first, &n, true
	return nil
}

// bodyForm tells the form of an upload's body.
func (c *call) bodyForm() (string, error) {
	if e := c.r.Header.Get("Content-Encoding"); e != "" {
		return "", record.Errorf(record.Invalid, "Content-Encoding %s is not read", record.Short(e))
	}
	given, err := c.header("Content-Type")
	if err != nil || given == "" { // as curl -T and most programs send a file
		return operation.RawForm, err
	}
	kind, _, err := mime.ParseMediaType(given)
	switch {
	case err == nil && kind == wire.RawType:
		return operation.RawForm, nil
	case err == nil && kind == sparse.MediaType:
		return operation.SparseForm, nil
	}
	hint := "send the bytes as they are, as " + wire.RawType + " or without a type, or in the form " + sparse.MediaType
	switch kind {
	case "multipart/form-data":
		hint = "send the file alone: curl -T FILE, not -F, which wraps it"
	case "application/x-www-form-urlencoded":
		hint = "send it by curl -T FILE, or with the header Content-Type: " + wire.RawType + "; a form's data may have lost its line ends on the way (curl -d)"
	}
	return "", record.Errorf(record.Invalid, "a content is not taken as %s", record.Short(given)).WithHint("%s", hint)
}

// answerForm tells the form that the client would like a content in.
func (c *call) answerForm() string {
	for _, accept := range c.r.Header.Values("Accept") {
		for kind := range strings.SplitSeq(accept, ",") {
			if m, _, err := mime.ParseMediaType(kind); err == nil && m == sparse.MediaType {
				return operation.SparseForm
			}
		}
	}
	return operation.RawForm
}

// span is a part of a content that is asked for. It is partial where the
// request has named a range.
type span struct {
	off, len int64 // bytes
	partial  bool
}

// allOfImage is the span of the file of an image, of which nobody here knows the length.
var allOfImage = span{len: -1}

var byteRange = regexp.MustCompile(`^(?i:bytes)=[ \t,]*([0-9]*)-([0-9]*)[ \t,]*$`)

// rangeOf reads Range (RFC 9110, section 14.2) for a content of size bytes.
// What it cannot read, several ranges and one under another ETag are left
// aside: the whole is an answer to them too.
func (c *call) rangeOf(size int64, tag string) (span, error) {
	all := span{len: size}
	m := byteRange.FindStringSubmatch(c.r.Header.Get("Range"))
	if m == nil || m[1] == "" && m[2] == "" {
		return all, nil
	}
	if cond := c.r.Header.Get("If-Range"); cond != "" && cond != tag {
		return all, nil
	}
	first, last := int64(0), size-1
	switch {
	case m[1] == "":
		first = max(0, size-position(m[2]))
	case m[2] == "":
		first = position(m[1])
	case position(m[2]) < position(m[1]):
		return all, nil
	default:
		first, last = position(m[1]), min(last, position(m[2]))
	}
	if first > last {
		c.Header().Set("Content-Range", "bytes */"+strconv.FormatInt(size, 10))
		return all, record.Errorf(record.RangeUnsat, "the content has %d bytes, none of them in the range asked for", size)
	}
	return span{first, last - first + 1, true}, nil
}

// setSpan writes the header of an answer that is a content; size is that of
// the whole.
func (c *call) setSpan(s span, size int64, form string) (status int) {
	h := c.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Type", wire.RawType)
	switch {
	case form == operation.SparseForm:
		h.Set("Content-Type", sparse.MediaType)
	case s != allOfImage:
		h.Set("Content-Length", strconv.FormatInt(s.len, 10))
	}
	if !s.partial {
		return http.StatusOK
	}
	h.Set("Content-Range", "bytes "+strconv.FormatInt(s.off, 10)+"-"+strconv.FormatInt(s.off+s.len-1, 10)+"/"+strconv.FormatInt(size, 10))
	return http.StatusPartialContent
}

// downloadQueries reads what the query says of a download.
func (c *call) downloadQueries() (r operation.DownloadRequest, err error) {
	r.Checksum, r.As = c.r.URL.Query().Get("checksum"), c.r.URL.Query().Get("as")
	r.JobOptions, err = c.jobOptions()
	return r, err
}

// rightsQuery reads whose a new volume is to be.
func (c *call) rightsQuery() (r operation.Rights, err error) {
	r.Mode, r.Label = c.r.URL.Query().Get("mode"), c.r.URL.Query().Get("selinux_label")
	for key, at := range map[string]**uint32{"owner": &r.Owner, "group": &r.Group} {
		text := c.r.URL.Query().Get(key)
		if text == "" {
			continue
		}
		id, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return r, record.Errorf(record.Invalid, "query key %q is no number of a user or group: %.40q", key, text)
		}
		*at = new(uint32(id))
	}
	return r, nil
}
