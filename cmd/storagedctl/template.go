package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"text/template/parse"
	"time"

	"github.com/urfave/cli/v2"

	"storaged/cmd/internal/cmdline"
	"storaged/internal/quantity"
	"storaged/internal/term"
)

// Bounds of --format: of its text, and of what one thing makes of it, in bytes.
const maxTemplate, maxFormatted = 16 << 10, 1 << 20

// templateFlag is of verbs that tell of things.
func templateFlag() cli.Flag {
	return &cli.StringFlag{Name: "format", Usage: "print each by a template of Go, like '{{.Name}} {{.State}}'; 'table {{.Name}}\\t{{.State}}' aligns them under headers: `TEMPLATE`"}
}

// form is a template of --format, of which each line is one thing.
type form struct {
	template *template.Template
	offset   int // of its text in what was given, in bytes
	table    bool
	headers  []string // of a table
}

// parseForm reads a template. Errors say at which column it is wrong.
func parseForm(given string) (*form, error) {
	if len(given) > maxTemplate {
		return nil, cmdline.Usagef("--format: %d bytes are more than %d", len(given), maxTemplate)
	}
	if !strings.Contains(given, "{{") {
		err := cmdline.Usagef("--format: %q has no {{...}}, and would be the same for each", given)
		if slices.Contains([]string{"table", "json", "jsonl", "name", "xml"}, given) {
			return nil, err.WithHint("-o %s prints %s", given, given)
		}
		return nil, err.WithHint("write a template, like '{{.Name}} {{.State}}'")
	}
	text, table := strings.CutPrefix(given, "table ")
	offset := len(given) - len(text)
	t, err := template.New("").Funcs(formFunctions).Option("missingkey=error").Parse(text)
	if err != nil {
		return nil, cmdline.Usagef("--format: column %d: %s", offset+badAction(text)+1, reason(err))
	}
	f := &form{template: t, offset: offset, table: table}
	for _, one := range t.Templates() {
		if one.Tree != nil {
			harmless(one.Root, table, one == t)
		}
	}
	if table && t.Tree != nil {
		f.headers = headersOf(t.Root)
	}
	return f, nil
}

// formFunctions are what a template may call beside Go's own.
var formFunctions = template.FuncMap{
	"join": join,
	"json": func(v any) (string, error) {
		b, err := json.Marshal(v)
		return string(b), err
	},
	"size": sizeOf,
	"ago": func(v any) string {
		t, ok := v.(time.Time)
		if !ok {
			return ""
		}
		return ago(&t)
	},
	"upper":  strings.ToUpper,
	"lower":  strings.ToLower,
	"printf": boundedPrintf,
	"shown":  shown,
}

// join joins the elements of a list; the list may come before the separator or behind it, for
// a pipe has it behind.
func join(one, other any) (string, error) {
	separator, ok := one.(string)
	list, isList := other.([]any)
	if !ok || !isList {
		separator, ok = other.(string)
		list, isList = one.([]any)
	}
	if !ok || !isList {
		return "", errors.New(`join takes a separator and a list: join "," .List`)
	}
	words := make([]string, len(list))
	for i, v := range list {
		words[i] = fmt.Sprint(v)
	}
	return strings.Join(words, separator), nil
}

// shown is a value as text that gives a terminal no orders; a list of nothing is nothing.
func shown(v any) string {
	switch list := reflect.ValueOf(v); list.Kind() {
	case reflect.Map, reflect.Slice:
		if list.Len() == 0 {
			return ""
		}
	}
	return term.Escape(readable(v))
}

// readable is a value as people read it: a record is its fields that are something, by their
// names.
func readable(v any) string {
	switch v := v.(type) {
	case map[string]any:
		return ofNames(v, readable)
	case map[string]string:
		return ofNames(v, func(s string) string { return s })
	case []any:
		words := make([]string, len(v))
		for i, one := range v {
			if words[i] = readable(one); isRecord(one) {
				words[i] = "{" + words[i] + "}"
			}
		}
		return "[" + strings.Join(words, " ") + "]"
	}
	return fmt.Sprint(v)
}

func isRecord(v any) bool { _, ok := v.(map[string]any); return ok }

// ofNames are NAME=VALUE of what is something, in the order of their names.
func ofNames[T any](m map[string]T, text func(T) string) string {
	var words []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		switch value := text(m[name]); {
		case value == "" || value == "[]":
		case isRecord(m[name]):
			words = append(words, name+"={"+value+"}")
		default:
			words = append(words, name+"="+value)
		}
	}
	return strings.Join(words, " ")
}

// sizeOf gives a number of bytes as people read it, and nothing for none.
func sizeOf(n any) (string, error) {
	switch v := reflect.ValueOf(n); {
	case v.IsValid() && v.CanInt():
		return quantity.FormatBytes(v.Int()), nil
	case n == "":
		return "", nil
	}
	return "", fmt.Errorf("%q is no number of bytes", fmt.Sprint(n))
}

// widths are figures in a format that make text longer than anybody reads.
var widths = regexp.MustCompile(`%[^a-zA-Z%]*(\d{4,}|\*)`)

func boundedPrintf(format string, values ...any) (string, error) {
	if widths.MatchString(format) {
		return "", errors.New("a width has three digits at most")
	}
	return fmt.Sprintf(format, values...), nil
}

// badAction is where the first action of a text begins that cannot be read, or its end.
func badAction(text string) int {
	for at := 0; ; {
		begin := strings.Index(text[at:], "{{")
		if begin < 0 {
			return len(text)
		}
		begin += at
		length := strings.Index(text[begin:], "}}")
		if length < 0 {
			return begin
		}
		at = begin + length + len("}}")
		_, err := template.New("").Funcs(formFunctions).Parse(text[:at])
		if err != nil && !strings.Contains(err.Error(), "unexpected EOF") {
			return begin
		}
	}
}

// reason is what an error of a template says, without where.
func reason(err error) string {
	text := err.Error()
	if i := strings.LastIndex(text, ">: "); i >= 0 {
		return strings.Replace(text[i+len(">: "):], "map has no entry for key", "there is no field", 1)
	}
	return place.ReplaceAllString(text, "")
}

// place is how errors of templates begin: template: NAME:LINE:COLUMN: .
var place = regexp.MustCompile(`^template: [^:]*:(\d+:)?(\d+:)? ?`)

// harmless has every value shown as text that gives a terminal no orders, and reads \t
// and \n in what stands between. In a table blanks between two values part columns, at
// the root of the template only: all lines have the same columns, however often a part of
// it is repeated or left out.
func harmless(n parse.Node, table, root bool) {
	switch n := n.(type) {
	case *parse.ListNode:
		if n == nil {
			return
		}
		for _, one := range n.Nodes {
			harmless(one, table, root)
		}
	case *parse.TextNode:
		n.Text = []byte(strings.NewReplacer(`\t`, "\t", `\n`, "\n").Replace(string(n.Text)))
		switch {
		case table && !root:
			n.Text = bytes.ReplaceAll(n.Text, []byte("\t"), []byte(" "))
		case table && len(bytes.TrimSpace(n.Text)) == 0:
			n.Text = []byte("\t")
		}
	case *parse.ActionNode:
		if len(n.Pipe.Decl) == 0 {
			shown := &parse.CommandNode{NodeType: parse.NodeCommand, Pos: n.Pos, Args: []parse.Node{parse.NewIdentifier("shown").SetTree(nil).SetPos(n.Pos)}}
			n.Pipe.Cmds = append(n.Pipe.Cmds, shown)
		}
	case *parse.IfNode:
		harmless(n.List, table, false)
		harmless(n.ElseList, table, false)
	case *parse.RangeNode:
		harmless(n.List, table, false)
		harmless(n.ElseList, table, false)
	case *parse.WithNode:
		harmless(n.List, table, false)
		harmless(n.ElseList, table, false)
	}
}

// headersOf names the columns of a table by the fields in them.
func headersOf(root *parse.ListNode) []string {
	headers := []string{""}
	for _, n := range root.Nodes {
		if text, ok := n.(*parse.TextNode); ok {
			for i := range strings.Count(string(text.Text), "\t") + 1 {
				if i > 0 {
					headers = append(headers, "")
				}
			}
			continue
		}
		last := &headers[len(headers)-1]
		if name := fieldIn.FindString(n.String()); *last == "" {
			*last = strings.ToLower(name[strings.LastIndexByte(name, '.')+1:])
		}
	}
	return headers
}

// fieldIn finds a field in the text of an action.
var fieldIn = regexp.MustCompile(`(\.[A-Z][A-Za-z0-9]*)+`)

// apply gives what a template makes of a thing.
func (f *form) apply(item any) (string, error) {
	var b bytes.Buffer
	err := f.template.Execute(&bounded{&b}, viewOf(reflect.ValueOf(item), nil))
	if err != nil {
		at, expression := "", ""
		if m := failedAt.FindStringSubmatch(err.Error()); m != nil {
			column, _ := strconv.Atoi(m[1])
			at, expression = fmt.Sprintf("column %d, %s: ", f.offset+column+1, m[2]), m[2]
		}
		return "", cmdline.Usagef("--format: %s%s", at, reason(err)).WithHint("%s", f.offers(reflect.TypeOf(item), expression))
	}
	return b.String(), nil
}

// offers names the fields that there are where an expression asks for another.
func (f *form) offers(of reflect.Type, expression string) string {
	if f.template.Tree != nil {
		path, _ := within(f.template.Root, nil, expression)
		if names := fieldNames(typeAt(of, path)); len(path) > 0 && len(names) > 0 {
			return fmt.Sprintf(".%s has %s", strings.Join(path, "."), strings.Join(names, ", "))
		}
	}
	return "there are " + strings.Join(fieldNames(of), ", ")
}

// within finds an expression in a template, and gives the path of what it takes a field of,
// from the top; dot is that of what a dot stands for at n.
func within(n parse.Node, dot []string, expression string) (path []string, ok bool) {
	for _, part := range partsOf(n, dot) {
		if path, ok = within(part.node, part.dot, expression); ok {
			return path, ok
		}
	}
	if n.String() != expression {
		return nil, false
	}
	switch n := n.(type) {
	case *parse.FieldNode:
		return slices.Concat(dot, n.Ident[:len(n.Ident)-1]), true
	case *parse.VariableNode:
		if last := len(n.Ident) - 1; n.Ident[0] == "$" && last > 0 {
			return n.Ident[1:last], true
		}
	}
	return nil, false
}

// part is a piece of a template, and what a dot stands for in it.
type part struct {
	node parse.Node
	dot  []string
}

func partsOf(n parse.Node, dot []string) (all []part) {
	add := func(dot []string, nodes ...parse.Node) {
		for _, one := range nodes {
			if !reflect.ValueOf(one).IsNil() {
				all = append(all, part{one, dot})
			}
		}
	}
	switch n := n.(type) {
	case *parse.ListNode:
		add(dot, n.Nodes...)
	case *parse.ActionNode:
		add(dot, n.Pipe)
	case *parse.PipeNode:
		for _, c := range n.Cmds {
			add(dot, c.Args...)
		}
	case *parse.IfNode:
		add(dot, n.Pipe, n.List, n.ElseList)
	case *parse.RangeNode:
		add(dot, n.Pipe, n.ElseList)
		add(dotOf(n.Pipe, dot), n.List)
	case *parse.WithNode:
		add(dot, n.Pipe, n.ElseList)
		add(dotOf(n.Pipe, dot), n.List)
	}
	return all
}

// dotOf is what a dot stands for within a range or with of a pipe, as far as that is a field.
func dotOf(pipe *parse.PipeNode, dot []string) []string {
	if len(pipe.Cmds) == 1 && len(pipe.Cmds[0].Args) == 1 {
		if field, ok := pipe.Cmds[0].Args[0].(*parse.FieldNode); ok {
			return slices.Concat(dot, field.Ident)
		}
	}
	return nil
}

// typeAt is the type of the record at a path, nil if there is none: of an element, where
// there is a list.
func typeAt(of reflect.Type, path []string) reflect.Type {
	for i := 0; ; i++ {
		for of.Kind() == reflect.Pointer || of.Kind() == reflect.Slice {
			of = of.Elem()
		}
		if of.Kind() != reflect.Struct {
			return nil
		}
		if i == len(path) {
			return of
		}
		f, ok := of.FieldByName(path[i])
		if !ok {
			return nil
		}
		of = f.Type
	}
}

// checkFields tells of fields in a template that nothing of the kind has. What else fails
// with nothing may do well with something.
func (f *form) checkFields(nothing any) error {
	err := f.template.Execute(&bounded{new(bytes.Buffer)}, viewOf(reflect.ValueOf(nothing), nil))
	if err == nil || !strings.Contains(err.Error(), unknownField) {
		return nil
	}
	_, err = f.apply(nothing)
	return err
}

// unknownField is what Go's templates say of a field that there is not.
const unknownField = ">: map has no entry for key"

// failedAt finds where a template has failed.
var failedAt = regexp.MustCompile(`^template: [^:]*:\d+:(\d+):.* at <([^>]*)>`)

// bounded is a writer that takes maxFormatted bytes.
type bounded struct{ b *bytes.Buffer }

func (w *bounded) Write(p []byte) (int, error) {
	if w.b.Len()+len(p) > maxFormatted {
		return 0, fmt.Errorf("more than %d bytes for one line", maxFormatted)
	}
	return w.b.Write(p)
}

// viewOf gives a record as templates see it: by the names of its fields, and what is not
// there is empty, so that .Phase.Name needs no question whether there is a phase.
func viewOf(v reflect.Value, within []reflect.Type) any {
	if v.Type() == reflect.TypeFor[time.Time]() || !v.CanInterface() {
		return timeOf(v)
	}
	switch v.Kind() {
	case reflect.Pointer:
		return viewOfPointer(v, within)
	case reflect.Struct:
		view := map[string]any{}
		addFields(view, v, append(within[:len(within):len(within)], v.Type()))
		return view
	case reflect.Slice:
		list := make([]any, v.Len())
		for i := range list {
			list[i] = viewOf(v.Index(i), within)
		}
		return list
	}
	return v.Interface()
}

// timeOf leaves times as they are, for .Created.Format; none is empty.
func timeOf(v reflect.Value) any {
	if t, ok := v.Interface().(time.Time); ok && !t.IsZero() {
		return t
	}
	return never("")
}

// never is a time that there is not: nothing, whatever is asked of it.
type never string

func (n never) Format(string) never { return n }
func (n never) Local() never        { return n }
func (n never) UTC() never          { return n }
func (n never) Unix() never         { return n }
func (n never) UnixMilli() never    { return n }
func (n never) Year() never         { return n }
func (n never) Month() never        { return n }
func (n never) Day() never          { return n }
func (n never) Weekday() never      { return n }
func (n never) Hour() never         { return n }
func (n never) Minute() never       { return n }
func (n never) Second() never       { return n }

func viewOfPointer(v reflect.Value, within []reflect.Type) any {
	of := v.Type().Elem()
	switch {
	case !v.IsNil():
		return viewOf(v.Elem(), within)
	case of == reflect.TypeFor[time.Time]():
		return never("")
	case of.Kind() == reflect.Struct && !slices.Contains(within, of):
		view := map[string]any{}
		addFields(view, reflect.Zero(of), append(within[:len(within):len(within)], of))
		for name, value := range view {
			view[name] = nothing(value)
		}
		return view
	}
	return ""
}

// nothing is what a field is of something that is not there: a list is one without
// elements, so that it can be gone through.
func nothing(zero any) any {
	if _, isTime := zero.(never); isTime {
		return zero
	}
	switch reflect.ValueOf(zero).Kind() {
	case reflect.Map, reflect.Slice:
		return zero
	}
	return ""
}

func addFields(view map[string]any, v reflect.Value, within []reflect.Type) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		switch {
		case f.Anonymous && f.Type.Kind() == reflect.Struct:
			addFields(view, v.Field(i), within)
		case f.IsExported() && f.Type.Kind() != reflect.Interface && f.Type.Kind() != reflect.Func:
			view[f.Name] = viewOf(v.Field(i), within)
		}
	}
}

// fieldNames are those of a record; of nil there are none.
func fieldNames(t reflect.Type) []string {
	if t == nil {
		return nil
	}
	view, _ := viewOf(reflect.Zero(t), nil).(map[string]any)
	var names []string
	for name := range view {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// templated are the verbs that have the flag.
var templated = []string{"pool list", "pool show", "vol list", "vol show", "vol snapshot list", "job list", "list", "job show", "status", "events", "secret list", "capabilities", "version"}

// formOf reads --format, nil without it.
func formOf(c *cli.Context) (*form, error) {
	if !slices.Contains(templated, verbOf(c)) || !c.IsSet("format") {
		return nil, nil
	}
	for _, other := range []string{"output", "columns"} {
		if c.IsSet(other) {
			return nil, cmdline.Usagef("--format does nothing beside --%s", other)
		}
	}
	return parseForm(c.String("format"))
}

// printForm shows things by --format.
func printForm[T any](s *session, items []T) error {
	if len(items) == 0 {
		return s.form.checkFields(*new(T))
	}
	lines := make([]string, len(items))
	for i := range items {
		var err error
		if lines[i], err = s.form.apply(items[i]); err != nil {
			return err
		}
	}
	if s.form.table {
		return term.Table(s.out, s.form.columns(lines), lines, s.layout())
	}
	for _, l := range lines {
		if _, err := io.WriteString(s.out, l+"\n"); err != nil {
			return fmt.Errorf("cannot write the output: %w", err)
		}
	}
	return nil
}

// columns are those of a table of such lines. A number is never cut: it would be another.
func (f *form) columns(lines []string) []term.Column[string] {
	columns := make([]term.Column[string], len(f.headers))
	for i, name := range f.headers {
		columns[i] = term.Column[string]{Name: name, Weight: 1, Cell: func(line string) string {
			return strings.Split(line, "\t")[i]
		}}
		if !slices.ContainsFunc(lines, func(line string) bool { return !figure.MatchString(columns[i].Cell(line)) }) {
			columns[i].Weight = 0
		}
	}
	return columns
}

// figure is a number, maybe with a unit, or nothing.
var figure = regexp.MustCompile(`^(-?[0-9]+(\.[0-9]+)?( ?[A-Za-z/%]{1,5})?)?$`)
