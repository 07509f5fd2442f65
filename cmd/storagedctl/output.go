package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"storaged/cmd/internal/cmdline"
	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/term"
)

// printJSON writes v on one line.
func printJSON(w io.Writer, v any) error { return encode(json.NewEncoder(w), v) }

// printDocument writes v as one document for -o json.
func printDocument(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return encode(e, v)
}

func encode(e *json.Encoder, v any) error {
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("cannot write the output: %w", err)
	}
	return nil
}

// list is how several things are one document, as in REST.
func list[T any](items []T) contract.List[T] {
	if items == nil {
		items = []T{}
	}
	return contract.List[T]{Items: items}
}

// printLines writes one line per thing.
func printLines[T any](w io.Writer, items []T, line func(T) string) error {
	for _, i := range items {
		if _, err := fmt.Fprintln(w, term.Escape(line(i))); err != nil {
			return fmt.Errorf("cannot write the output: %w", err)
		}
	}
	return nil
}

// printDocuments writes a document of libvirt's per thing.
func printDocuments[T any](w io.Writer, items []T, document func(T) string) error {
	for _, i := range items {
		if _, err := io.WriteString(w, document(i)); err != nil {
			return fmt.Errorf("cannot write the output: %w", err)
		}
	}
	return nil
}

// shape is how things of one type are shown.
type shape[T any] struct {
	columns []term.Column[T]
	name    func(T) string // for -o name
	xml     func(T) string // for -o xml; nil: libvirt has no document of such things
	detail  func(*session, T) []field
}

// printList shows things in the chosen format and order.
func printList[T any](s *session, sh shape[T], items []T) error {
	if by := s.cli.String("sort"); by != "" {
		items = slices.Clone(items)
		if err := term.Sort(sh.columns, items, by); err != nil {
			return cmdline.Usagef("--sort: %s", err)
		}
	}
	if s.form != nil {
		return printForm(s, items)
	}
	switch s.format {
	case "json":
		return printDocument(s.out, list(items))
	case "jsonl":
		for _, i := range items {
			if err := printJSON(s.out, i); err != nil {
				return err
			}
		}
		return nil
	case "name":
		return printLines(s.out, items, sh.name)
	case "xml":
		return printDocuments(s.out, items, sh.xml)
	}
	layout := s.layout()
	if names := s.cli.String("columns"); names != "" {
		layout.Columns = strings.Split(names, ",")
	}
	if _, err := term.Choose(sh.columns, layout.Columns); err != nil {
		return cmdline.Usagef("--columns: %s", err)
	}
	return term.Table(s.out, sh.columns, items, layout)
}

// layout is that of a table with all of its columns.
func (s *session) layout() term.Layout {
	l := term.Layout{NoHeaders: s.cli.Bool("no-headers")}
	if out := cmdline.Output(s.out); out.Terminal && !s.cli.Bool("wide") {
		l.Width = out.Width()
	}
	return l
}

// printOne shows a single thing with all there is to say, or, with --columns,
// a table of one.
func printOne[T any](s *session, sh shape[T], item T) error {
	switch {
	case s.form != nil:
		return printForm(s, []T{item})
	case s.format == "json":
		return printDocument(s.out, item)
	case s.format != "table" || s.cli.String("columns") != "":
		return printList(s, sh, []T{item})
	}
	return printFields(s.out, sh.detail(s, item))
}

// printSeveral shows in full what there is of several things that were asked
// for.
func printSeveral[T any](s *session, sh shape[T], items []T, asked int) error {
	if asked == 1 {
		if len(items) == 0 {
			return nil
		}
		return printOne(s, sh, items[0])
	}
	if s.form != nil || s.format != "table" || s.cli.String("columns") != "" {
		return printList(s, sh, items)
	}
	for i, item := range items {
		if i > 0 {
			_, _ = fmt.Fprintln(s.out)
		}
		if err := printFields(s.out, sh.detail(s, item)); err != nil {
			return err
		}
	}
	return nil
}

// field is a line of a detailed view.
type field struct{ name, value string }

// printFields writes the fields that have a value, aligned.
func printFields(w io.Writer, fields []field) error {
	widest := 0
	for _, f := range fields {
		if f.value != "" {
			widest = max(widest, len(f.name))
		}
	}
	for _, f := range fields {
		if f.value == "" {
			continue
		}
		if _, err := fmt.Fprintf(w, "%-*s  %s\n", widest+1, f.name+":", term.Escape(f.value)); err != nil {
			return fmt.Errorf("cannot write the output: %w", err)
		}
	}
	return nil
}

// printDetached writes the jobs that go on.
func (s *session) printDetached(outcomes []outcome) error {
	switch s.format {
	case "json", "jsonl":
		return s.printDocuments(outcomes)
	}
	for _, o := range outcomes {
		if o.job != nil {
			if _, err := fmt.Fprintln(s.out, o.job.Number); err != nil {
				return fmt.Errorf("cannot write the output: %w", err)
			}
		}
	}
	return nil
}

// printOutcomes writes what ended jobs made.
func (s *session) printOutcomes(outcomes []outcome) error {
	switch s.format {
	case "json":
		return s.printDocuments(outcomes)
	case "jsonl":
		return s.printSame(outcomes)
	case "name":
		done := make([]string, 0, len(outcomes))
		for _, o := range outcomes {
			switch {
			case o.err != nil:
			case o.job != nil && o.ask != nil:
				done = append(done, o.job.Subject())
			default:
				done = append(done, o.object)
			}
		}
		return printLines(s.out, done, func(name string) string { return name })
	}
	for _, o := range outcomes {
		if o.same != nil {
			s.note(o.object + ": nothing to do")
		}
		if err := s.printSums(o.job); err != nil {
			return err
		}
	}
	return nil
}

// printSums writes the checksums that a job found out, one volume a line as
// sha256sum does. One that is not as it should be is written too: it is what
// the volume has.
func (s *session) printSums(j *record.Job) error {
	if j == nil || j.Result == nil {
		return nil
	}
	var lines []string
	if r := j.Result; r.Checksum != "" {
		lines = append(lines, r.Checksum+"  "+r.Pool+"/"+r.Volume)
	}
	for _, i := range j.Result.Items {
		if i.Checksum != "" {
			lines = append(lines, i.Checksum+"  "+j.Result.Pool+"/"+i.Volume)
		}
	}
	return printLines(s.out, lines, func(line string) string { return line })
}

// printSame writes what needed no job: the events have had the rest.
func (s *session) printSame(outcomes []outcome) error {
	for _, o := range outcomes {
		if o.same != nil {
			if err := printJSON(s.out, unchanged(o.same)); err != nil {
				return err
			}
		}
	}
	return nil
}

// printDocuments writes one document: the job, or with several objects a list.
func (s *session) printDocuments(outcomes []outcome) error {
	var docs []any
	for _, o := range outcomes {
		switch {
		case o.same != nil:
			docs = append(docs, unchanged(o.same))
		case o.job != nil:
			docs = append(docs, s.jobDocument(o.job))
		}
	}
	switch {
	case len(outcomes) > 1:
		return printDocument(s.out, list(docs))
	case len(docs) == 1:
		return printDocument(s.out, docs[0])
	}
	return nil
}

// jobDocument is a job as JSON has it. Where there may have been nothing to do,
// it says that there was.
func (s *session) jobDocument(j *record.Job) any {
	if !s.cli.Bool("exist-ok") && !s.cli.Bool("missing-ok") {
		return j
	}
	return struct {
		*record.Job
		Changed bool `json:"changed"`
	}{j, j.Result == nil || !j.Result.Unchanged}
}

// unchanged is what there is already as JSON has it, if there is anything.
func unchanged(u *contract.Unchanged) any {
	switch {
	case u.Volume != nil:
		return struct {
			*record.Volume
			Changed bool `json:"changed"`
		}{u.Volume, false}
	case u.Pool != nil:
		return struct {
			*record.Pool
			Changed bool `json:"changed"`
		}{u.Pool, false}
	}
	return u
}

// showPlans prints the answers to a dry run.
func showPlans(s *session, plans []contract.Plan, asked int) error {
	return printSeveral(s, shape[contract.Plan]{
		columns: planColumns,
		name:    func(p contract.Plan) string { return objects(p.Objects) },
		detail:  planFields,
	}, plans, asked)
}

var planColumns = []term.Column[contract.Plan]{
	{Name: "kind", Cell: func(p contract.Plan) string { return string(p.Kind) }},
	{Name: "objects", Weight: 4, Cell: func(p contract.Plan) string { return objects(p.Objects) }},
	{Name: "bytes", Right: true, Cell: func(p contract.Plan) string { return fmt.Sprint(p.Bytes) }},
}

func planFields(s *session, p contract.Plan) []field {
	fields := []field{
		{"Would do", string(p.Kind) + " (" + string(p.Class) + " job)"},
		{"Locks", objects(p.Objects)},
		{"Bytes", most(p.Bytes, s.cli.Bool("bytes"))},
		{"Takes", remaining(p.EstimateS)},
		{"Command", shellLine(append([]string{"storage-helper"}, p.Argv...))},
	}
	for _, b := range p.WaitingOn {
		fields = append(fields, field{"In the way", blocker(b)})
	}
	for _, w := range p.Warnings {
		fields = append(fields, field{"Warning", w})
	}
	return fields
}

// most bounds the bytes that a job moves.
func most(bytes int64, exact bool) string {
	if bytes == 0 {
		return "none are moved"
	}
	return "at most " + size(bytes, exact)
}

// plain are words that mean themselves to a shell.
var plain = regexp.MustCompile(`^[A-Za-z0-9_@%+=:,./-]+$`)

// shellLine gives a command as it can be typed.
func shellLine(argv []string) string {
	words := make([]string, len(argv))
	for i, w := range argv {
		if words[i] = w; !plain.MatchString(w) {
			words[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
	}
	return strings.Join(words, " ")
}

// objects lists objects with the modes they are held in.
func objects(all []record.Object) string {
	parts := make([]string, len(all))
	for i, o := range all {
		parts[i] = fmt.Sprintf("%s (%s)", o, modeWord(o.Mode))
	}
	return strings.Join(parts, ", ")
}

func modeWord(m record.Mode) string {
	words := map[record.Mode]string{
		record.ModeQuery: "query", record.ModeRead: "read", record.ModeMeta: "metadata",
		record.ModeGrow: "grow", record.ModeWrite: "write", record.ModeDelete: "delete",
	}
	if w, ok := words[m]; ok {
		return w
	}
	return string(m)
}

// blocker tells one reason why a job waits.
func blocker(b record.Blocker) string {
	text := b.String()
	if b.Object != nil && b.For != "slot" {
		text += fmt.Sprintf(" on %s (%s)", *b.Object, modeWord(b.Mode))
	}
	if h := b.Holder; h != nil && h.Kind != "" {
		text += ": " + string(h.Kind)
		if h.Owner != nil && h.Owner.User != "" {
			text += " of " + h.Owner.User
		}
	}
	if !b.Since.IsZero() {
		text += ", since " + clock(b.Since)
	}
	text += waitsUntil(b)
	if b.More > 0 {
		text += fmt.Sprintf("; and for %d more", b.More)
	}
	return text
}

// stamp gives a time for people, in local time; "" for none.
func stamp(t *time.Time) string {
	if t == nil || t.IsZero() {
		return ""
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

// ago gives a time by how long ago it is, in one unit; "" for none.
func ago(t *time.Time) string {
	if t == nil || t.IsZero() {
		return ""
	}
	d := time.Since(*t)
	switch seconds := int64(d.Abs() / time.Second); {
	case d < 0:
		return stamp(t) // a clock was set back
	case seconds < 60:
		return fmt.Sprintf("%d s ago", seconds)
	case seconds < 3600:
		return fmt.Sprintf("%d min ago", seconds/60)
	case seconds < 48*3600:
		return fmt.Sprintf("%d h ago", seconds/3600)
	default:
		return fmt.Sprintf("%d d ago", seconds/(24*3600))
	}
}

// timed makes of a column one of times.
func timed[T any](c term.Column[T], at func(T) *time.Time) term.Column[T] {
	c.Cell = func(r T) string { return stamp(at(r)) }
	c.Short = func(r T) string { return ago(at(r)) }
	c.Order = func(a, b T) int { return at(a).Compare(*at(b)) } // Sort asks of those alone that have one
	return c
}

// byValue orders rows by a figure, which its text does not.
func byValue[T any, V cmp.Ordered](of func(T) V) func(a, b T) int {
	return func(a, b T) int { return cmp.Compare(of(a), of(b)) }
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
