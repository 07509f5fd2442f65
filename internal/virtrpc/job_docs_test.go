package virtrpc_test

import (
	"encoding/binary"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"storaged/internal/record"
	"storaged/internal/virtrpc"
	"storaged/internal/virtrpc/wire"
	"storaged/internal/virtrpc/xdr"
)

const manual = "../../docs/libvirt.md"

// jobMessages are an example of what each procedure of jobs has on the wire, by the name
// that the manual has for it.
var jobMessages = map[string]xdr.Value{
	"job_list_args":             &wire.JobListArgs{Flags: 1, Kind: new("k"), Pool: new("pool"), Owner: new("owner"), Most: 3, After: new("after")},
	"job_list_ret":              &wire.Jobs{Jobs: []wire.Job{exampleJob, {}}, Next: new("next")},
	"job_get_info_args":         &wire.JobFlags{Job: wire.JobRef{By: wire.JobByNumber, Number: 5}, Flags: 1},
	"job_get_info_ret":          &exampleJob,
	"job_get_stats_args":        &wire.JobFlags{Job: wire.JobRef{By: wire.JobByID}, Flags: 1},
	"job_get_stats_ret":         &wire.JobStats{Type: wire.JobFailed, Params: []wire.Param{{Field: "n", Type: wire.ParamUlong}, {Field: "b", Type: wire.ParamBool}, {Field: "s", Type: wire.ParamString, Text: "text"}, {Field: "d", Type: wire.ParamDouble}, {Field: "i", Type: wire.ParamInt}}},
	"job_wait_args":             &wire.JobNumberArgs{Job: wire.JobRef{By: wire.JobOfVolume, Pool: "p", Volume: "volume"}, N: 5},
	"job_wait_ret":              &exampleJob,
	"job_abort_args":            &wire.JobFlags{Job: wire.JobRef{By: wire.JobOfPool, Pool: "p"}},
	"job_abort_ret":             &exampleJob,
	"job_pause_args":            &wire.JobFlags{Job: wire.JobRef{By: wire.JobByNumber}},
	"job_pause_ret":             &exampleJob,
	"job_resume_args":           &wire.JobFlags{Job: wire.JobRef{By: wire.JobByNumber}},
	"job_resume_ret":            &exampleJob,
	"job_set_limit_args":        &wire.JobNumberArgs{Job: wire.JobRef{By: wire.JobByNumber}, N: 5},
	"job_set_limit_ret":         &exampleJob,
	"job_event_register_args":   &wire.JobRegisterArgs{Events: 3, Of: &wire.JobRef{By: wire.JobByNumber}},
	"job_event_register_ret":    new(wire.Int(1)),
	"job_event_deregister_args": new(wire.Int(1)),
	"job_event_msg":             &wire.JobEvent{Callback: 1, Events: 2, Serial: 3, Job: exampleJob, Error: new("error")},
}

var exampleJob = wire.Job{JobInfo: wire.JobInfo{Type: wire.JobBounded, DataTotal: 7}, Number: 5, Kind: "volume.wipe", State: "running", Pool: "images", Volume: "vm1", Phase: "overwrite", Owner: "alice"}

// What the manual says of the program of jobs is so: the numbers, and every byte.
func TestManualOfJobsIsTrue(t *testing.T) {
	b, err := os.ReadFile(manual)
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(b), "\n```\n")
	text, _, _ = strings.Cut(text, "\n```\n")
	x := parseX(t, text)
	for name, want := range map[string]uint64{
		"JOB_PROGRAM": uint64(wire.JobControl), "JOB_PROTOCOL_VERSION": wire.Version, "JOB_LIST_MAX": wire.MaxJobs, "JOB_STATS_MAX": wire.MaxJobParams, "JOB_STRING_MAX": xdr.MaxString,
		"JOB_LIST_LIVE": uint64(wire.JobListLive), "JOB_LIST_ENDED": uint64(wire.JobListEnded), "JOB_STATS_COMPLETED": uint64(wire.JobStatsCompleted), "JOB_ABORT_NOW": uint64(wire.JobAbortNow),
		"JOB_EVENT_STATE": uint64(wire.JobStateEvent), "JOB_EVENT_PHASE": uint64(wire.JobPhaseEvent), "JOB_EVENT_PROGRESS": uint64(wire.JobProgressEvent), "JOB_EVENT_ENDED": uint64(wire.JobEndedEvent),
		"JOB_EVENT_CALL": uint64(wire.JobCallEvent), "JOB_EVENT_LOST": uint64(wire.JobLostEvent), "JOB_TYPE_UNBOUNDED": uint64(wire.JobUnbounded), "JOB_TYPE_CANCELLED": uint64(wire.JobCancelled),
	} {
		if x.numbers[name] != want {
			t.Errorf("%s is %d, not %d", name, x.numbers[name], want)
		}
	}
	for name, v := range jobMessages {
		b, err := xdr.Encode(v)
		if err != nil {
			t.Fatal(err)
		}
		if rest := x.walk(t, name, b); len(rest) > 0 {
			t.Errorf("%s: %d bytes are not in the manual", name, len(rest))
		}
	}
	rows := tableRows(t, string(b), "procedures")
	for number, writes := range virtrpc.Procedures(wire.JobControl) {
		i := slices.IndexFunc(rows, func(r []string) bool { return r[0] == strconv.Itoa(int(number)) })
		if i < 0 {
			t.Errorf("procedure %d is not in the manual", number)
			continue
		}
		name := strings.Trim(rows[i][1], "`")
		if who := rows[i][2]; (who == "owner") != writes || x.numbers["JOB_PROC_"+name] != uint64(number) || x.types["job_"+strings.ToLower(name)+"_args"] == nil {
			t.Errorf("the manual says of procedure %d: %q", number, rows[i])
		}
	}
	if want := len(virtrpc.Procedures(wire.JobControl)) + 1; len(rows) != want { // and the message
		t.Errorf("the manual has %d procedures, not %d", len(rows), want)
	}
}

// Every parameter that is said of a job is in the manual, with its type, and no other.
func TestManualOfParametersIsTrue(t *testing.T) {
	b, err := os.ReadFile(manual)
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]string{}
	for _, row := range tableRows(t, string(b), "parameters") {
		names, types := strings.Split(row[0], ", "), strings.Split(strings.TrimSuffix(row[1], ", repeated"), ", ")
		for i, name := range names {
			told[strings.Trim(name, "`")] = types[min(i, len(types)-1)]
		}
	}
	types := map[wire.ParamType]string{wire.ParamInt: "int", wire.ParamUlong: "ullong", wire.ParamDouble: "double", wire.ParamBool: "boolean", wire.ParamString: "string"}
	now := time.Now()
	j := record.Job{
		ID: "x", Number: 5, Kind: record.VolumeWipe, State: record.Failed, Objects: []record.Object{{Pool: "p"}}, Owner: record.Owner{User: "u", Command: "c", Via: "v"}, Created: now, Started: &now, Ended: &now,
		Phase: &record.Phase{Name: "n"}, Progress: record.Progress{Unit: "bytes", Percent: new(34.2)}, Estimate: record.Estimate{RemainingS: new(1.5), StalledSince: &now}, Limit: new(int64(7)), Priority: record.NormalPriority,
		WaitingOn: []record.Blocker{{For: "slot"}}, PauseReasons: []string{"user"}, Warnings: []string{"w"}, Error: record.Errorf(record.IO, "e"), Rollback: record.RollbackDone, Result: &record.Result{Method: "copy"},
	}
	said := map[string]string{}
	for _, p := range virtrpc.JobParams(&j) {
		said[p.Field] = types[p.Type]
	}
	for name, kind := range said {
		if told[name] != kind {
			t.Errorf("%s is of type %s, which the manual calls %q", name, kind, told[name])
		}
	}
	for name := range told {
		if said[name] == "" {
			t.Errorf("the manual says what there is not: %s", name)
		}
	}
	j.Objects = make([]record.Object, 5000)
	if n := len(virtrpc.JobParams(&j)); n > wire.MaxJobParams {
		t.Errorf("of a large job there are %d parameters", n)
	}
}

// tableRows are the rows of a marked table, their cells.
func tableRows(t *testing.T, text, mark string) (rows [][]string) {
	t.Helper()
	_, table, ok := strings.Cut(text, "<!-- "+mark+" -->\n")
	table, _, closed := strings.Cut(table, "<!-- /"+mark+" -->")
	if !ok || !closed {
		t.Fatalf("no table %s", mark)
	}
	for i, line := range strings.Split(strings.TrimSpace(table), "\n") {
		if i < 2 {
			continue // its head
		}
		var cells []string
		for cell := range strings.SplitSeq(strings.Trim(line, "|"), "|") {
			cells = append(cells, strings.TrimSpace(cell))
		}
		rows = append(rows, cells)
	}
	return rows
}

// xFile is a protocol in the notation of RFC 4506, as far as the manual needs it.
type xFile struct {
	numbers map[string]uint64
	types   map[string][]field
	cases   map[string]bool // unions
}

// field is one of a struct, the only one of a typedef, or a case of a union.
type field struct {
	label string // of a case
	kind  string
	form  string // "", "*", or [N] and <N>
}

var (
	comment     = regexp.MustCompile(`/\*[^*]*\*/`)
	definition  = regexp.MustCompile(`(?s)(const|enum|struct|union|typedef)\s+([^;{]*)(?:\{([^}]*)\})?;`)
	declaration = regexp.MustCompile(`^(?:case (\w+):\s*)?((?:unsigned )?\w+)\s+(\*?)(\w+)((?:[<\[]\w*[>\]])?)$`)
	constant    = regexp.MustCompile(`(\w+)\s*=\s*(\w+)`)
)

func parseX(t *testing.T, text string) xFile {
	t.Helper()
	x := xFile{map[string]uint64{}, map[string][]field{}, map[string]bool{}}
	text = comment.ReplaceAllString(text, "")
	declare := func(name, declared string) {
		m := declaration.FindStringSubmatch(strings.Join(strings.Fields(declared), " "))
		if m == nil {
			t.Fatalf("%q declares nothing", declared)
		}
		x.types[name] = append(x.types[name], field{m[1], m[2], m[3] + m[5]})
	}
	for _, m := range definition.FindAllStringSubmatch(text, -1) {
		name := strings.Fields(m[2])[0]
		switch m[1] {
		case "const", "enum":
			for _, c := range constant.FindAllStringSubmatch(m[2]+m[3], -1) {
				x.numbers[c[1]] = number(t, c[2])
			}
			if m[1] == "enum" {
				x.types[name] = []field{{kind: "int"}}
			}
		case "typedef":
			words := strings.Fields(m[2])
			declared := declaration.FindStringSubmatch(strings.Join(words, " "))
			declare(declared[4], m[2])
		default:
			x.cases[name] = m[1] == "union"
			for declared := range strings.SplitSeq(m[3], ";") {
				if strings.TrimSpace(declared) != "" {
					declare(name, declared)
				}
			}
		}
	}
	return x
}

func number(t *testing.T, text string) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(text, 0, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// sizes are those of the types that are not made of others.
var sizes = map[string]int{"int": 4, "unsigned int": 4, "hyper": 8, "unsigned hyper": 8, "double": 8}

// walk takes a value of a type from bytes, and gives what follows it.
func (x xFile) walk(t *testing.T, kind string, b []byte) []byte {
	t.Helper()
	if n, ok := sizes[kind]; ok {
		return take(t, kind, b, n)
	}
	fields, ok := x.types[kind]
	if !ok {
		t.Fatalf("no type %s", kind)
	}
	if x.cases[kind] {
		by := uint64(word(t, kind, b))
		i := slices.IndexFunc(fields, func(f field) bool { return x.number(t, f.label) == by })
		if i < 0 {
			t.Fatalf("no case %d of %s", by, kind)
		}
		b, fields = b[4:], fields[i:i+1]
	}
	for _, f := range fields {
		b = x.walkField(t, f, b)
	}
	return b
}

func (x xFile) walkField(t *testing.T, f field, b []byte) []byte {
	t.Helper()
	if f.kind == "opaque" {
		return take(t, f.kind, b, int(x.number(t, strings.Trim(f.form, "[]"))))
	}
	if f.form == "" {
		return x.walk(t, f.kind, b)
	}
	n, most := uint64(word(t, f.kind, b)), uint64(1)
	if f.form != "*" {
		most = x.number(t, strings.Trim(f.form, "<>"))
	}
	if b = b[4:]; n > most {
		t.Fatalf("%d values of %s are more than %d", n, f.kind, most)
	}
	if f.kind == "string" {
		return take(t, f.kind, b, int(n+3)&^3)
	}
	for range n {
		b = x.walk(t, f.kind, b)
	}
	return b
}

// number is a literal, or a constant.
func (x xFile) number(t *testing.T, text string) uint64 {
	t.Helper()
	if n, ok := x.numbers[text]; ok {
		return n
	}
	return number(t, text)
}

func word(t *testing.T, kind string, b []byte) uint32 {
	t.Helper()
	take(t, kind, b, 4)
	return binary.BigEndian.Uint32(b)
}

func take(t *testing.T, kind string, b []byte, n int) []byte {
	t.Helper()
	if n > len(b) {
		t.Fatalf("%s of %d bytes is not there: %x", kind, n, b)
	}
	return b[n:]
}
