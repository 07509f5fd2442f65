package rest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"storaged/internal/record"
	"storaged/internal/rest/wire"
	"storaged/internal/service/contract"
)

const (
	// maxBody bounds a request's body, bytes: far above any request of ours.
	maxBody = 1 << 20
	// maxDepth bounds the nesting of a body; ours have three levels.
	maxDepth = 8
)

// checker is a request that knows what else must hold of it.
type checker interface{ Check() error }

// request reads what a change asks for into r, which gets its defaults, and how it
// was made.
func (c *call) request(r checker) (contract.Submit, error) {
	if err := c.decode(r); err != nil {
		return contract.Submit{}, err
	}
	if f, ok := r.(interface{ Fill() }); ok {
		f.Fill()
	}
	return c.submit(r, c.query())
}

// decode reads a request's body into v, strictly: one JSON document of the
// type, exactly as it is named, each field once, no number below zero. An
// empty body is the empty document where v has nothing that must be there.
func (c *call) decode(v checker) error {
	b, err := c.readBody()
	defer clear(b) // it may be a secret
	if err != nil {
		return err
	}
	if len(b) > 0 {
		if err := unmarshal(b, v); err != nil {
			return err
		}
	}
	return v.Check()
}

// readBody gives the body, which is JSON by its header, or nothing.
func (c *call) readBody() ([]byte, error) {
	if c.r.ContentLength == 0 {
		return nil, nil
	}
	if err := c.checkType(); err != nil {
		return nil, err
	}
	control := http.NewResponseController(c.ResponseWriter)
	_ = control.SetReadDeadline(time.Now().Add(bodyTimeout)) // see deadline
	b, err := io.ReadAll(http.MaxBytesReader(c.ResponseWriter, c.r.Body, maxBody))
	_ = control.SetReadDeadline(time.Time{})
	var big *http.MaxBytesError
	switch {
	case errors.As(err, &big):
		return nil, record.Errorf(record.Invalid, "the body is larger than %d bytes", maxBody)
	case err != nil:
		return nil, record.Errorf(record.Invalid, "the body did not arrive whole: %v", err)
	}
	c.read = true
	return b, nil
}

func (c *call) checkType() error {
	want := []string{wire.JSONType}
	if c.r.Method == http.MethodPatch {
		want = append(want, patchType)
	}
	given := c.r.Header.Get("Content-Type")
	kind, params, err := mime.ParseMediaType(given)
	charset := params["charset"]
	if err == nil && (kind == want[0] || kind == want[len(want)-1]) && (charset == "" || strings.EqualFold(charset, "utf-8")) {
		if e := c.r.Header.Get("Content-Encoding"); e != "" {
			return record.Errorf(record.Invalid, "Content-Encoding %s is not read", record.Short(e))
		}
		return nil
	}
	return record.Errorf(record.Invalid, "the body is %s, not JSON", record.Short(given)).
		WithHint("Content-Type: %s", strings.Join(want, " or "))
}

// unmarshal reads one JSON document into v and says which field is wrong.
func unmarshal(b []byte, v any) error {
	if !utf8.Valid(b) {
		return record.Errorf(record.Invalid, "the body is not UTF-8")
	}
	if loneSurrogate(b) {
		return record.Errorf(record.Invalid, "the body has half a surrogate pair, which is no character")
	}
	w := &walker{dec: json.NewDecoder(bytes.NewReader(b))}
	w.dec.UseNumber()
	if err := w.document(reflect.TypeOf(v).Elem()); err != nil {
		return err
	}
	err := json.Unmarshal(b, v)
	var wrong *json.UnmarshalTypeError
	switch {
	case errors.As(err, &wrong) && wrong.Field == "":
		return record.Errorf(record.Invalid, "the body is %s, not an object", wrong.Value)
	case errors.As(err, &wrong):
		return record.Errorf(record.Invalid, "field %s is %s, not %s", record.Short(keysOf(wrong.Field)), wrong.Value, typeWord(wrong.Type))
	case err != nil:
		return record.Errorf(record.Invalid, "bad body: %v", err)
	}
	return nil
}

// keysOf is the path of a field by the keys of the document: package json names the
// structs too that are embedded in others, which are no keys.
func keysOf(field string) string {
	parts := strings.Split(field, ".")
	return strings.Join(slices.DeleteFunc(parts, func(p string) bool { return p != "" && unicode.IsUpper(rune(p[0])) }), ".")
}

func typeWord(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Int64, reflect.Int:
		return "an integer up to 9223372036854775807"
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return "a string in base64"
		}
		return "an array"
	default:
		return "an object"
	}
}

// walker checks the shape of a document before encoding/json reads it, which
// ignores case, doubles and null.
type walker struct {
	dec   *json.Decoder
	depth int
}

func (w *walker) document(t reflect.Type) error {
	if err := w.value(t, ""); err != nil {
		return err
	}
	if _, err := w.dec.Token(); err != io.EOF {
		return record.Errorf(record.Invalid, "the body goes on after its end")
	}
	return nil
}

// value checks one value at path that is meant for type t, nil for any.
func (w *walker) value(t reflect.Type, path string) error {
	token, err := w.dec.Token()
	if err != nil {
		return record.Errorf(record.Invalid, "the body is not JSON: %v", err)
	}
	switch token := token.(type) {
	case json.Delim:
		return w.nested(token, t, path)
	case json.Number:
		if strings.HasPrefix(token.String(), "-") {
			return record.Errorf(record.Invalid, "field %s is negative: %s", record.Short(path), record.Short(token.String()))
		}
	case string:
		if !validText(token) {
			return record.Errorf(record.Invalid, "field %s has characters that cannot be printed", record.Short(path))
		}
	case nil:
		if !nullable(t, path) {
			return record.Errorf(record.Invalid, "field %s is null", record.Short(path))
		}
	}
	return nil
}

func (w *walker) nested(open json.Delim, t reflect.Type, path string) error {
	if w.depth++; w.depth > maxDepth {
		return record.Errorf(record.Invalid, "the body is nested deeper than %d levels", maxDepth)
	}
	defer func() { w.depth-- }()
	var err error
	if open == '{' {
		err = w.object(t, path)
	} else {
		err = w.array(t, path)
	}
	if err != nil {
		return err
	}
	if _, err := w.dec.Token(); err != nil {
		return record.Errorf(record.Invalid, "the body is not JSON: %v", err)
	}
	return nil
}

func (w *walker) object(t reflect.Type, path string) error {
	seen := map[string]bool{}
	for w.dec.More() {
		token, err := w.dec.Token()
		if err != nil {
			return record.Errorf(record.Invalid, "the body is not JSON: %v", err)
		}
		key := token.(string) // the decoder gives nothing else here
		at := strings.TrimPrefix(path+"."+key, ".")
		field, known := member(t, key)
		switch {
		case !known:
			return record.Errorf(record.Invalid, "unknown field %s", record.Short(at))
		case seen[key]:
			return record.Errorf(record.Invalid, "field %s is given twice", record.Short(at))
		case !validText(key):
			return record.Errorf(record.Invalid, "field %s has characters that cannot be printed", record.Short(at))
		}
		seen[key] = true
		if err := w.value(field, at); err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) array(t reflect.Type, path string) error {
	var elem reflect.Type
	if t != nil && t.Kind() == reflect.Slice {
		elem = indirect(t.Elem())
	}
	for i := 0; w.dec.More(); i++ {
		if err := w.value(elem, path+"["+strconv.Itoa(i)+"]"); err != nil {
			return err
		}
	}
	return nil
}

// member gives the type of an object's member. Of an object where t is none,
// any member is known: encoding/json refuses the object.
func member(t reflect.Type, key string) (reflect.Type, bool) {
	switch {
	case t == nil:
		return nil, true
	case t.Kind() == reflect.Map:
		return t.Elem(), true
	case t.Kind() != reflect.Struct || reflect.PointerTo(t).Implements(reflect.TypeFor[json.Unmarshaler]()):
		return nil, true
	}
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !f.Anonymous && name == key {
			return indirect(f.Type), true
		}
	}
	return nil, false
}

func indirect(t reflect.Type) reflect.Type {
	if t.Kind() == reflect.Pointer {
		return t.Elem()
	}
	return t
}

// nullable: null is no rate limit, and in a patch it removes a member of a map,
// as a label. Nothing else can be null.
func nullable(t reflect.Type, path string) bool {
	return path == "limit" || path == "rate" || t != nil && t.Kind() == reflect.Pointer
}

// validText reports whether s can be shown: all texts of requests end up in
// names, argv, records and on terminals.
func validText(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool {
		return unicode.IsControl(r) && r != '\n' && r != '\t'
	})
}

// loneSurrogate finds \ud800 to \udfff that is no pair: encoding/json would
// make another character of it, and so another name.
func loneSurrogate(b []byte) bool {
	for i := 0; i+1 < len(b); i++ {
		if b[i] != '\\' {
			continue
		}
		i++
		if b[i] != 'u' {
			continue
		}
		switch high := surrogate(b[i+1:]); {
		case high == 0:
		case high >= 0xdc00 || len(b) < i+7 || b[i+5] != '\\' || b[i+6] != 'u' || surrogate(b[i+7:]) < 0xdc00:
			return true
		default:
			i += 6
		}
	}
	return false
}

// surrogate gives the surrogate that four hexadecimal digits are, else 0.
func surrogate(b []byte) uint64 {
	if len(b) < 4 {
		return 0
	}
	n, err := strconv.ParseUint(string(b[:4]), 16, 16)
	if err != nil || n < 0xd800 || n > 0xdfff {
		return 0
	}
	return n
}
