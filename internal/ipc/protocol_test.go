package ipc

import (
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// parts are the structs that are no messages of their own.
var parts = map[string]reflect.Type{
	"PLAN PHASE": reflect.TypeFor[PlanPhase](), "ERROR": reflect.TypeFor[Error](),
	"POOL": reflect.TypeFor[Pool](), "SPENT": reflect.TypeFor[Spent](), "CHECK": reflect.TypeFor[Check](),
	"REFERENCE": reflect.TypeFor[Reference](),
	"HEADER":    reflect.TypeFor[Header](),
	"SOURCE":    reflect.TypeFor[Source](),
	"EXTENT":    reflect.TypeFor[Extent](),
	"THIN":      reflect.TypeFor[Thin](),
}

func protocolDocument(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// sections gives the text below every heading of the fourth level.
func sections(doc string) map[string]string {
	out := map[string]string{}
	for _, s := range regexp.MustCompile(`(?m)^#### `).Split(doc, -1)[1:] {
		title, body, _ := strings.Cut(s, "\n")
		body = regexp.MustCompile(`(?m)^#+ `).Split(body, 2)[0]
		out[title] = body
	}
	return out
}

func TestProtocolDocumentIsFresh(t *testing.T) {
	documented := sections(protocolDocument(t))
	want := map[string]reflect.Type{}
	for _, m := range samples() {
		title := fmt.Sprintf("%s (%d)", m.Type(), m.Type())
		if isKept(m.Type()) {
			title += ", kept"
		}
		want[title] = reflect.TypeOf(m)
	}
	for title, typ := range parts {
		want[title] = typ
	}
	for title, typ := range want {
		body, ok := documented[title]
		if !ok {
			t.Errorf("no section %q", title)
		}
		if got, want := documentedFields(body), fieldsOf(typ); !reflect.DeepEqual(got, want) {
			t.Errorf("%s documents\n%q, the code has\n%q", title, got, want)
		}
		delete(documented, title)
	}
	for title := range documented {
		t.Errorf("section %q is about nothing in the code", title)
	}
}

func isKept(t Type) bool {
	for _, k := range keptOrder {
		if k == t {
			return true
		}
	}
	return false
}

// rows gives the first two columns of the tables in a text whose first column
// is code.
func rows(text string) (out [][2]string) {
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\| ([^|]+) \\|").FindAllStringSubmatch(text, -1) {
		out = append(out, [2]string{m[1], m[2]})
	}
	return out
}

func documentedFields(section string) (fields []string) {
	for _, r := range rows(section) {
		fields = append(fields, r[0]+": "+r[1])
	}
	return fields
}

func fieldsOf(typ reflect.Type) (fields []string) {
	for i := range typ.NumField() {
		f := typ.Field(i)
		fields = append(fields, f.Tag.Get("msgpack")+": "+documentName(f.Type))
	}
	return fields
}

func documentName(typ reflect.Type) string {
	switch typ.Kind() {
	case reflect.Int, reflect.Int64:
		return "int"
	case reflect.Uint64:
		return "unsigned"
	case reflect.Float64:
		return "float"
	case reflect.String:
		return "text"
	case reflect.Bool:
		return "bool"
	case reflect.Slice:
		return "list of " + documentName(typ.Elem())
	case reflect.Pointer:
		return documentName(typ.Elem()) + " or nil"
	case reflect.Struct:
		return structName(typ)
	}
	return "a type that the protocol does not have"
}

func structName(typ reflect.Type) string {
	for name, part := range parts {
		if part == typ {
			return name
		}
	}
	if m, ok := reflect.Zero(typ).Interface().(Message); ok {
		return m.Type().String()
	}
	return "?"
}

func TestProtocolDocumentHasTheBounds(t *testing.T) {
	want := map[string]int{
		"MaxFrame": MaxFrame, "MaxRecord": MaxRecord, "maxFile": maxFile, "maxItems": maxItems, "maxDepth": maxDepth,
		"maxElements": maxElements, "MaxPhases": MaxPhases, "MaxWarnings": MaxWarnings, "maxLimits": maxLimits, "maxName": maxName,
		"maxSum": maxSum, "maxText": maxText, "maxMessage": maxMessage, "maxLogText": maxLogText, "maxPath": maxPath,
		"maxState": maxState, "maxReferences": maxReferences, "maxFree": maxFree, "maxThin": maxThin, "maxHeaders": maxHeaders, "maxExtents": maxExtents, "maxOptions": maxOptions,
	}
	doc := protocolDocument(t)
	got := map[string]string{}
	for _, r := range rows(doc) {
		got[r[0]] = r[1]
	}
	for name, n := range want {
		if got[name] != fmt.Sprint(n) {
			t.Errorf("%s is documented as %q, it is %d", name, got[name], n)
		}
	}
	if want := fmt.Sprintf("magic   4 bytes   % x\n", magic); !strings.Contains(doc, want) {
		t.Errorf("the magic is not %q", want)
	}
	if want := fmt.Sprintf("\nVersion %d. ", Proto); !strings.Contains(doc, want) {
		t.Errorf("the version is not %q", want)
	}
}

func TestProtocolDocumentHasTheSurroundings(t *testing.T) {
	doc := protocolDocument(t)
	d := JobDir{Runtime: "/r", State: "/s"}
	for _, path := range []string{d.Frames(), d.Control(), d.Lock(), d.Result(), d.Commit(), d.Checkpoint(), d.Log()} {
		dir := map[byte]string{'r': "runtime", 's': "state"}[path[1]]
		if want := fmt.Sprintf("\n| `%s` | %s |", path[3:], dir); !strings.Contains(doc, want) {
			t.Errorf("no row %q", want)
		}
	}
	for _, name := range []string{EnvJob, EnvRuntime, EnvState} {
		if !strings.Contains(doc, "\n| `"+name+"` |") {
			t.Errorf("no row for %s", name)
		}
	}
	if !strings.Contains(doc, fmt.Sprintf("\n| %d | the lock: ", LockFD)) {
		t.Errorf("the lock is not descriptor %d", LockFD)
	}
	if !strings.Contains(doc, fmt.Sprintf("\n| %d | the data, ", DataFD)) {
		t.Errorf("the data is not descriptor %d", DataFD)
	}
}

func TestJobDirFromEnvNeedsAllThree(t *testing.T) {
	t.Setenv(EnvJob, "7")
	t.Setenv(EnvRuntime, "/r/7")
	t.Setenv(EnvState, "/s/7")
	if d, ok := JobDirFromEnv(); !ok || d != (JobDir{Job: "7", Runtime: "/r/7", State: "/s/7"}) {
		t.Errorf("%+v, %v", d, ok)
	}
	for _, name := range []string{EnvJob, EnvRuntime, EnvState} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(name, "")
			if _, ok := JobDirFromEnv(); ok {
				t.Error("complete without it")
			}
		})
	}
}
