package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"storaged/cmd/internal/cmdline"
	"storaged/internal/record"
)

// calls gives the calls that the code builds as data, and the texts of its hints.
func calls(t *testing.T) (built []record.Call, texts []string) {
	t.Helper()
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch c, ok := callOf(n); {
			case ok:
				built = append(built, c)
				return false
			case isCall(n, "WithHint") || isCall(n, "Hintf"):
				texts = append(texts, firstText(n.(*ast.CallExpr)))
			}
			return true
		})
		return nil
	})
	if err != nil || len(built) < 30 || len(texts) < 30 {
		t.Fatalf("%d calls, %d texts: %v", len(built), len(texts), err)
	}
	return built, texts
}

func isCall(n ast.Node, name string) bool {
	c, ok := n.(*ast.CallExpr)
	if !ok {
		return false
	}
	s, ok := c.Fun.(*ast.SelectorExpr)
	return ok && s.Sel.Name == name
}

func firstText(c *ast.CallExpr) string {
	if len(c.Args) == 0 {
		return ""
	}
	l, ok := c.Args[0].(*ast.BasicLit)
	if !ok {
		return ""
	}
	s, _ := strconv.Unquote(l.Value) // what is no string is no text
	return s
}

// callOf reads record.Do("verb").With("name") and so on.
func callOf(n ast.Node) (record.Call, bool) {
	switch {
	case isCall(n, "With"):
		c := n.(*ast.CallExpr)
		of, ok := callOf(c.Fun.(*ast.SelectorExpr).X)
		if name := firstText(c); ok && name != "" {
			of = of.With(name, "x")
		}
		return of, ok
	case isCall(n, "Do"):
		c := n.(*ast.CallExpr)
		pkg, ok := c.Fun.(*ast.SelectorExpr).X.(*ast.Ident)
		return record.Do(firstText(c)), ok && pkg.Name == "record"
	}
	return record.Call{}, false
}

// Hints name what there is.
func TestHintsNameCommandsThatExist(t *testing.T) {
	flags := map[string][]string{} // by the words of the command
	var walk func(words string, commands []*cli.Command)
	walk = func(words string, commands []*cli.Command) {
		for _, c := range commands {
			path := words + " " + c.Name
			flags[path] = []string{"--help"}
			for _, f := range c.Flags {
				flags[path] = append(flags[path], "--"+f.Names()[0])
				flags[""] = append(flags[""], "--"+f.Names()[0]) // those of a call that was refused
			}
			walk(path, c.Subcommands)
		}
	}
	walk("", (&tool{}).program().App.Commands)
	built, texts := calls(t)
	for _, c := range built {
		line := cmdline.Hint(record.Hintf("%s", c))
		words, rest, _ := strings.Cut(line, "--")
		known, ok := flags[strings.TrimRight(strings.TrimPrefix(words, "storagedctl"), " ")]
		if flag, _, _ := strings.Cut("--"+rest, " "); !ok || rest != "" && !slices.Contains(known, flag) {
			t.Errorf("%q is no command, or has not that flag", line)
		}
	}
	named := regexp.MustCompile(`storagedctl((?: [a-z]+)+)`)
	for _, text := range texts {
		for _, m := range named.FindAllStringSubmatch(text, -1) {
			noun, _, _ := strings.Cut(m[1][1:], " ")
			words := strings.Fields(m[1])
			two := " " + strings.Join(words[:min(2, len(words))], " ")
			if flags[" "+noun] == nil || flags[two] == nil && len(words) > 1 && slices.Contains([]string{"pool", "vol", "job"}, noun) {
				t.Errorf("%q names no command", text)
			}
		}
	}
}
