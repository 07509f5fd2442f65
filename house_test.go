// Package storaged_test holds the rules of the house that no compiler holds:
// who may import whom, who may start processes or end this one, how long a
// function may be, where a test may skip or sleep.
package storaged_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "storaged/"

// layer says what of ours the packages matching pkg (path.Match, below the
// module's root) may import, tests apart. The first layer that matches counts.
type layer struct {
	pkg string
	may []string
}

// layers are the import rules of the design, section 3.
var layers = []layer{
	{"internal/record", nil},
	{"internal/quantity", nil},
	{"internal/term", nil},
	{"internal/term/*", nil},
	{"internal/testenv", nil},
	{"internal/testenv/*", []string{"internal/testenv"}},
	{"internal/crash", nil},
	{"internal/confine", nil},
	{"internal/confine/confinetest", nil},
	{"internal/helper/hostiletest", []string{"internal/helper", "internal/backends", "internal/backends/all", "internal/confine/confinetest", "internal/diskio", "internal/ipc"}},
	{"internal/ipc", []string{"internal/crash", "internal/record"}},
	{"internal/procfs", nil},
	{"internal/partition", nil},
	{"internal/blockdev", []string{"internal/procfs"}},
	{"internal/blockdev/blockdevtest", []string{"internal/blockdev"}},
	{"internal/diskio", []string{"internal/blockdev"}},
	{"internal/diskio/diskiotest", []string{"internal/testenv"}},
	{"internal/diskio/contenttest", []string{"internal/diskio", "internal/diskio/diskiotest", "internal/sparse", "internal/wipe"}},
	{"internal/nbd", []string{"internal/diskio"}},
	{"internal/wipe", []string{"internal/blockdev", "internal/diskio"}},
	{"internal/image", []string{"internal/procfs"}},
	{"internal/format", nil},
	{"internal/format/formattest", nil},
	{"internal/sparse", nil},
	{"internal/tool", []string{"internal/confine"}},
	{"internal/format/qemu", []string{"internal/confine", "internal/diskio", "internal/format", "internal/nbd", "internal/record", "internal/tool"}},
	{"internal/operation", []string{"internal/record", "internal/quantity"}},
	{"internal/events", []string{"internal/record"}},
	{"internal/store", []string{"internal/record"}},
	{"internal/secret", []string{"internal/record"}},

	{"internal/backends", []string{"internal/diskio", "internal/record"}},
	{"internal/backends/all", []string{"internal/backends", "internal/backends/*", "internal/record"}},
	{"internal/backends/backendtest", []string{"internal/backends", "internal/diskio", "internal/record", "internal/testenv"}},
	{"internal/backends/filetree", []string{"internal/tool", "internal/backends", "internal/backends/header", "internal/blockdev", "internal/crash", "internal/diskio", "internal/image", "internal/procfs", "internal/record"}},
	{"internal/backends/header", []string{"internal/backends", "internal/blockdev", "internal/format", "internal/record"}},
	{"internal/backends/device", []string{"internal/backends", "internal/backends/deputy", "internal/backends/header", "internal/blockdev", "internal/diskio", "internal/image", "internal/partition", "internal/record", "internal/tool"}},
	{"internal/backends/mount", []string{"internal/backends", "internal/backends/filetree", "internal/blockdev", "internal/record"}},
	{"internal/backends/*", []string{"internal/backends", "internal/backends/filetree", "internal/backends/header", "internal/backends/mount", "internal/backends/deputy", "internal/backends/device", "internal/blockdev", "internal/crash", "internal/diskio", "internal/image", "internal/partition", "internal/record", "internal/secret", "internal/tool", "internal/wipe"}},

	{"internal/supervisor", []string{"internal/crash", "internal/ipc", "internal/quantity", "internal/record", "internal/store", "internal/events", "internal/supervisor/*"}},
	{"internal/supervisor/*", []string{"internal/ipc", "internal/record", "internal/store", "internal/events", "internal/supervisor/*"}},

	{"internal/helper", []string{"internal/backends", "internal/backends/deputy", "internal/backends/device", "internal/backends/header", "internal/confine", "internal/format", "internal/format/qemu", "internal/tool", "internal/crash", "internal/diskio", "internal/image", "internal/ipc", "internal/procfs", "internal/quantity", "internal/record", "internal/secret", "internal/sparse",
		"internal/term", "internal/wipe"}},
	{"internal/helper/task", []string{"internal/helper", "internal/format/qemu", "internal/backends", "internal/backends/all", "internal/backends/header", "internal/confine", "internal/crash", "internal/diskio", "internal/format", "internal/image", "internal/ipc", "internal/nbd",
		"internal/operation", "internal/quantity", "internal/record", "internal/sparse", "internal/wipe"}},

	{"internal/metrics", []string{"internal/record", "internal/supervisor"}},

	{"internal/catalog", []string{"internal/backends", "internal/backends/all", "internal/events", "internal/ipc", "internal/operation", "internal/quantity", "internal/record",
		"internal/store", "internal/supervisor"}},
	{"internal/service", []string{"internal/backends/all", "internal/catalog", "internal/confine", "internal/events", "internal/ipc", "internal/metrics", "internal/operation", "internal/quantity", "internal/record", "internal/secret", "internal/store", "internal/supervisor", "internal/service/contract"}},
	{"internal/service/contract", []string{"internal/operation", "internal/record"}},
	{"internal/virtxml", []string{"internal/operation", "internal/record", "internal/service/contract"}},
	{"internal/polkit", nil},
	{"internal/peer", []string{"internal/polkit", "internal/record", "internal/supervisor/process"}},
	{"internal/transfer", []string{"internal/operation", "internal/record", "internal/service/contract", "internal/sparse"}},
	{"internal/rest", []string{"internal/rest/wire", "internal/operation", "internal/peer", "internal/transfer", "internal/service/contract", "internal/record", "internal/events", "internal/sparse"}},
	{"internal/rest/wire", []string{"internal/record"}},
	{"internal/rest/client", []string{"internal/operation", "internal/rest/wire", "internal/service/contract", "internal/record", "internal/sparse"}},
	{"internal/rest/apitest", []string{"internal/rest"}},
	{"internal/virtrpc", []string{"internal/virtrpc/wire", "internal/virtrpc/xdr", "internal/operation", "internal/peer", "internal/polkit", "internal/transfer", "internal/service/contract", "internal/record", "internal/sparse", "internal/virtxml"}},
	{"internal/virtrpc/xdr", nil},
	{"internal/virtrpc/wire", []string{"internal/virtrpc/xdr"}},
	{"internal/virtrpc/virtrpctest", []string{"internal/virtrpc", "internal/virtrpc/wire", "internal/virtrpc/xdr", "internal/peer", "internal/polkit", "internal/record", "internal/service", "internal/store", "internal/testenv"}},

	{"internal/notify", []string{"internal/record"}},
	{"internal/notify/sender", []string{"internal/confine", "internal/notify"}},
	{"internal/daemon", []string{"internal/notify", "internal/quantity", "internal/record", "internal/peer", "internal/polkit", "internal/rest", "internal/service", "internal/store", "internal/virtrpc"}},

	{"cmd/internal/*", []string{"cmd/internal/*", "internal/quantity", "internal/record", "internal/term"}},
	{"cmd/storaged", []string{"cmd/internal/*", "internal/daemon", "internal/notify/sender", "internal/quantity", "internal/record"}},
	{"cmd/storage-helper", []string{"cmd/internal/*", "internal/helper", "internal/helper/task", "internal/ipc", "internal/operation", "internal/record"}},
	{"cmd/storagedctl", []string{"cmd/internal/*", "internal/virtxml", "internal/operation", "internal/procfs", "internal/rest/client", "internal/service/contract", "internal/quantity", "internal/record", "internal/sparse", "internal/term"}},

	{"scripts/*", []string{"internal/operation", "internal/rest/client", "internal/service/contract", "internal/diskio", "internal/record", "internal/quantity", "internal/virtrpc/wire", "internal/virtrpc/xdr"}},
}

// guarded says which packages alone may import what can do harm elsewhere.
var guarded = map[string][]string{
	"github.com/urfave/cli/v2":          {"cmd/*", "cmd/internal/*"},
	"github.com/vmihailenco/msgpack/v5": {"internal/ipc"},
	// Whatever a helper imports it initialises at each start.
	"net/http": {"internal/rest", "internal/rest/*", "internal/notify/sender"},
	"os/exec":  {"cmd/storagedctl", "internal/confine", "internal/confine/confinetest", "internal/helper/hostiletest", "internal/supervisor", "internal/supervisor/*", "internal/backends/*", "internal/diskio/diskiotest", "internal/image", "internal/notify", "internal/notify/sender", "internal/testenv", "internal/testenv/*", "internal/tool", "internal/virtrpc/virtrpctest", "scripts/*"},
	// Only tests may need these.
	"testing":                            testSupport,
	"pgregory.net/rapid":                 testSupport,
	"go.uber.org/goleak":                 testSupport,
	"github.com/hanwen/go-fuse/v2/fs":    testSupport,
	"storaged/internal/testenv":          testSupport,
	"storaged/internal/testenv/powercut": testSupport,
}

// testSupport are packages that only tests import.
var testSupport = []string{"internal/testenv", "internal/testenv/*", "internal/*/*test"}

// starters may call what starts a process or replaces this one, beside
// importing os/exec; exiters may end this one.
var (
	starters = guarded["os/exec"]
	exiters  = []string{"cmd/*", "scripts/*", "internal/backends/backendtest", "internal/supervisor/helpertest"}
)

const (
	maxFunctionLines = 60
	maxParameters    = 4 // a context not counted
)

// goPackage is what go list says of a package.
type goPackage struct {
	ImportPath string
	Name       string
	Dir        string
	Imports    []string
}

func (p goPackage) rel() string { return strings.TrimPrefix(p.ImportPath, module) }

func packages(t *testing.T) []goPackage {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Name,Dir,Imports", "./...").Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Logf("%s", exit.Stderr)
		}
		t.Fatalf("go list: %v", err)
	}
	var all []goPackage
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		switch err := dec.Decode(&p); {
		case err == io.EOF:
			return all
		case err != nil:
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// matches reports whether one of the patterns matches.
func matches(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, err := path.Match(p, name)
		if err != nil {
			panic("internal error: bad pattern " + p)
		}
		return ok
	})
}

// importFaults lists what a package imports against the rules.
func importFaults(p goPackage) (faults []string) {
	i := slices.IndexFunc(layers, func(l layer) bool { return matches([]string{l.pkg}, p.rel()) })
	for _, imported := range p.Imports {
		if may, ok := guarded[imported]; ok && !matches(may, p.rel()) {
			faults = append(faults, "may not import "+imported)
		}
		rel, ours := strings.CutPrefix(imported, module)
		switch {
		case !ours:
		case i < 0:
			faults = append(faults, "has no layer in house_test.go")
		case !matches(layers[i].may, rel):
			faults = append(faults, "may not import "+imported)
		}
	}
	return slices.Compact(faults)
}

func TestHouseImports(t *testing.T) {
	for _, p := range packages(t) {
		for _, fault := range importFaults(p) {
			t.Errorf("%s %s", p.ImportPath, fault)
		}
	}
}

// A rule that cannot fail is no rule.
func TestHouseImportRulesSeeAFault(t *testing.T) {
	for _, c := range []struct{ pkg, imports, fault string }{
		{"internal/record", "storaged/internal/quantity", "may not import storaged/internal/quantity"},
		{"internal/backends/dir", "storaged/internal/ipc", "may not import storaged/internal/ipc"},
		{"internal/backends/dir", "storaged/internal/image", ""},
		{"internal/daemon", "storaged/internal/backends/dir", "may not import storaged/internal/backends/dir"},
		{"internal/catalog", "storaged/internal/backends/all", ""},
		{"internal/peer", "storaged/internal/service", "may not import storaged/internal/service"},
		{"internal/rest", "storaged/internal/daemon", "may not import storaged/internal/daemon"},
		{"internal/rest/client", "storaged/internal/rest", "may not import storaged/internal/rest"},
		{"internal/rest/client", "storaged/internal/service", "may not import storaged/internal/service"},
		{"internal/rest", "storaged/internal/service", "may not import storaged/internal/service"},
		{"cmd/storagedctl", "storaged/internal/rest", "may not import storaged/internal/rest"},
		{"internal/rest", "os/exec", "may not import os/exec"},
		{"internal/virtrpc", "storaged/internal/service", "may not import storaged/internal/service"},
		{"internal/virtrpc", "storaged/internal/rest", "may not import storaged/internal/rest"},
		{"internal/supervisor/process", "os/exec", ""},
		{"internal/store", "github.com/vmihailenco/msgpack/v5", "may not import github.com/vmihailenco/msgpack/v5"},
		{"internal/daemon", "github.com/urfave/cli/v2", "may not import github.com/urfave/cli/v2"},
		{"internal/diskio", "storaged/internal/testenv", "may not import storaged/internal/testenv"},
		{"internal/newcomer", "storaged/internal/record", "has no layer in house_test.go"},
	} {
		got := strings.Join(importFaults(goPackage{ImportPath: module + c.pkg, Imports: []string{"fmt", c.imports}}), "; ")
		if !strings.Contains(got, c.fault) || c.fault == "" && got != "" {
			t.Errorf("%s importing %s: %q, want %q", c.pkg, c.imports, got, c.fault)
		}
	}
}

func TestHousePackageNames(t *testing.T) {
	vague := []string{"util", "utils", "common", "types", "helpers", "misc", "shared", "lib"}
	for _, p := range packages(t) {
		if slices.Contains(vague, p.Name) {
			t.Errorf("%s: the name says nothing", p.ImportPath)
		}
	}
}

// source is one parsed Go file.
type source struct {
	*ast.File
	set  *token.FileSet
	path string // below the root
}

func (s source) test() bool  { return strings.HasSuffix(s.path, "_test.go") }
func (s source) pkg() string { return path.Dir(s.path) }

func sources(t *testing.T) (all []source) {
	t.Helper()
	err := filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		hidden := d != nil && d.IsDir() && file != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata")
		switch {
		case err != nil:
			return err
		case hidden:
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(file, ".go"):
			return nil
		}
		set := token.NewFileSet()
		f, err := parser.ParseFile(set, file, nil, parser.ParseComments|parser.SkipObjectResolution)
		all = append(all, source{f, set, filepath.ToSlash(file)})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestHouseCode(t *testing.T) {
	files := sources(t)
	if len(files) < 50 {
		t.Fatalf("only %d Go files found", len(files))
	}
	for _, f := range files {
		for _, fault := range codeFaults(f) {
			t.Error(fault)
		}
	}
}

// inspection collects the faults of one file.
type inspection struct {
	source
	faults []string
}

func codeFaults(f source) []string {
	in := &inspection{source: f}
	for _, c := range f.Comments {
		if unfinished.MatchString(c.Text()) {
			in.fault(c.Pos(), "unfinished: %s", strings.TrimSpace(c.Text()))
		}
	}
	var path []ast.Node
	ast.Inspect(f.File, func(n ast.Node) bool {
		if n == nil {
			path = path[:len(path)-1]
			return true
		}
		in.node(n, path)
		path = append(path, n)
		return true
	})
	return in.faults
}

var unfinished = regexp.MustCompile(`\b(TODO|FIXME|XXX)\b`)

func (in *inspection) fault(at token.Pos, format string, args ...any) {
	in.faults = append(in.faults, in.set.Position(at).String()+": "+fmt.Sprintf(format, args...))
}

func (in *inspection) node(n ast.Node, path []ast.Node) {
	switch n := n.(type) {
	case *ast.FuncDecl:
		in.function(n)
	case *ast.CallExpr:
		in.call(n, path)
	}
}

func (in *inspection) function(f *ast.FuncDecl) {
	if in.test() || f.Body == nil {
		return
	}
	lines := in.set.Position(f.End()).Line - in.set.Position(f.Pos()).Line + 1
	if lines > maxFunctionLines {
		in.fault(f.Pos(), "%s has %d lines, at most %d", f.Name.Name, lines, maxFunctionLines)
	}
	if c := parameters(f.Type.Params.List); c > maxParameters {
		in.fault(f.Pos(), "%s has %d parameters, at most %d", f.Name.Name, c, maxParameters)
	}
}

func parameters(list []*ast.Field) (n int) {
	for _, p := range list {
		if expression(p.Type) != "context.Context" {
			n += max(1, len(p.Names))
		}
	}
	return n
}

func (in *inspection) call(c *ast.CallExpr, path []ast.Node) {
	sel, ok := c.Fun.(*ast.SelectorExpr)
	if !ok {
		return
	}
	x, ok := sel.X.(*ast.Ident)
	if !ok {
		return
	}
	name := x.Name + "." + sel.Sel.Name
	switch {
	case name == "time.Sleep" && !inFakeTime(path):
		in.fault(c.Pos(), "sleeps; wait for the event instead")
	case slices.Contains(exits, name) && !in.test() && !matches(exiters, in.pkg()):
		in.fault(c.Pos(), "%s: only programs exit", name)
	case slices.Contains(starts, name) && !in.test() && !matches(starters, in.pkg()):
		in.fault(c.Pos(), "%s: starts a process", name)
	case slices.Contains(skips, sel.Sel.Name) && declaredAsTest(x.Name, path) && in.pkg() != "internal/testenv":
		in.fault(c.Pos(), "%s: only testenv skips, so that skips are counted", name)
	}
}

var (
	exits  = []string{"os.Exit", "log.Fatal", "log.Fatalf", "log.Fatalln", "syscall.Exit", "unix.Exit"}
	starts = []string{"os.StartProcess", "syscall.ForkExec", "syscall.StartProcess", "syscall.Exec", "unix.Exec"}
	skips  = []string{"Skip", "Skipf", "SkipNow"}
)

// inFakeTime reports whether the path leads through the function given to
// synctest.Test, where a sleep takes no time.
func inFakeTime(path []ast.Node) bool {
	return slices.ContainsFunc(path, func(n ast.Node) bool {
		c, ok := n.(*ast.CallExpr)
		return ok && expression(c.Fun) == "synctest.Test"
	})
}

// declaredAsTest reports whether the innermost parameter of that name is of
// package testing: rapid's T has a Skip that skips a step, not a test.
func declaredAsTest(name string, path []ast.Node) bool {
	for _, n := range slices.Backward(path) {
		var params *ast.FieldList
		switch f := n.(type) {
		case *ast.FuncDecl:
			params = f.Type.Params
		case *ast.FuncLit:
			params = f.Type.Params
		default:
			continue
		}
		for _, p := range params.List {
			if slices.ContainsFunc(p.Names, func(id *ast.Ident) bool { return id.Name == name }) {
				return strings.HasPrefix(expression(p.Type), "testing.")
			}
		}
	}
	return false
}

// expression gives "pkg.Name" of a selector or of a pointer to one.
func expression(e ast.Expr) string {
	if star, ok := e.(*ast.StarExpr); ok {
		e = star.X
	}
	if sel, ok := e.(*ast.SelectorExpr); ok {
		if x, ok := sel.X.(*ast.Ident); ok {
			return x.Name + "." + sel.Sel.Name
		}
	}
	return ""
}

func TestHouseCodeRulesSeeAFault(t *testing.T) {
	long := "func F() {\n" + strings.Repeat("\tg()\n", 60) + "}"
	for _, c := range []struct{ file, code, fault string }{
		{"internal/a/a.go", long, "F has 62 lines"},
		{"internal/a/a_test.go", long, ""},
		{"internal/a/a.go", "func F(ctx context.Context, a, b, c, d int, e string) {}", "5 parameters"},
		{"internal/a/a.go", "func F(ctx context.Context, a, b, c, d int) {}", ""},
		{"internal/a/a.go", "func F() { os.Exit(1) }", "only programs exit"},
		{"internal/a/a.go", "var f = func() { log.Fatalf(``) }", "only programs exit"},
		{"cmd/a/a.go", "func F() { os.Exit(1) }", ""},
		{"internal/a/a.go", "func F() { os.StartProcess() }", "starts a process"},
		{"internal/supervisor/process/a.go", "func F() { os.StartProcess() }", ""},
		{"internal/a/a_test.go", "func F() { time.Sleep(1) }", "sleeps"},
		{"internal/a/a_test.go", "func F(t *testing.T) { synctest.Test(t, func(t *testing.T) { time.Sleep(1) }) }", ""},
		{"internal/a/a_test.go", "func F(t *testing.T) { t.Run(``, func(t *testing.T) { t.Skip() }) }", "only testenv skips"},
		{"internal/a/a_test.go", "func F(tb testing.TB) { tb.Skipf(``) }", "only testenv skips"},
		{"internal/a/a_test.go", "func F(t *testing.T) { g(func(t *rapid.T) { t.Skip() }) }", ""},
		{"internal/testenv/a.go", "func F(t testing.TB) { t.Skipf(``) }", ""},
		{"internal/a/a.go", "// " + "TODO: later\nvar x = 1", "unfinished"},
	} {
		set := token.NewFileSet()
		f, err := parser.ParseFile(set, c.file, "package a\n"+c.code, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Join(codeFaults(source{f, set, c.file}), "; ")
		if !strings.Contains(got, c.fault) || c.fault == "" && got != "" {
			t.Errorf("%s %.40q: %q, want %q", c.file, c.code, got, c.fault)
		}
	}
}

// The fast tier leaves out tests by their names: one that was renamed would
// silently be in it again.
func TestHouseSlowTestsAreThere(t *testing.T) {
	script, err := os.ReadFile("scripts/test")
	if err != nil {
		t.Fatal(err)
	}
	list := regexp.MustCompile(`(?m)^readonly slow='\^\(([A-Za-z|]+)\)\$'$`).FindSubmatch(script)
	if list == nil {
		t.Fatal("scripts/test has no list of slow tests")
	}
	there := map[string]bool{}
	for _, f := range sources(t) {
		for _, d := range f.Decls {
			if d, ok := d.(*ast.FuncDecl); ok && d.Recv == nil {
				there[d.Name.Name] = true
			}
		}
	}
	for name := range strings.SplitSeq(string(list[1]), "|") {
		if !there[name] {
			t.Errorf("scripts/test leaves out %s, which is no test", name)
		}
	}
}
