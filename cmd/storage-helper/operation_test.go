package main

import (
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
	"pgregory.net/rapid"

	"storaged/internal/helper"
	"storaged/internal/helper/task"
	"storaged/internal/ipc"
	"storaged/internal/operation"
	"storaged/internal/record"
)

// tasks makes a blank operation for each task that a helper has.
func tasks() map[string]func() task.Tasked {
	all := map[string]func() task.Tasked{
		"settle":       func() task.Tasked { return operation.NewSettle() },
		"overwrite":    func() task.Tasked { return operation.NewOver() },
		"convert":      func() task.Tasked { return operation.NewConvert() },
		"pool-look":    func() task.Tasked { return operation.NewPoolLook() },
		"pool-space":   func() task.Tasked { return operation.NewSpace() },
		"pool-ready":   func() task.Tasked { return operation.NewReady() },
		"pool-sources": func() task.Tasked { return operation.NewFindSources() },
	}
	for _, k := range operation.Kinds() {
		o, _ := operation.New(k)
		all[o.Task().Name] = func() task.Tasked {
			o, _ := operation.New(k)
			return o
		}
	}
	return all
}

// Every task of an operation is a command, and every command is one's.
func TestEveryOperationHasItsCommand(t *testing.T) {
	all := tasks()
	var names []string
	for _, k := range kinds() {
		c := k.command()
		names = append(names, c.Name)
		if c.Name != k.name {
			t.Errorf("the command of %q is called %q", k.name, c.Name)
		}
		if all[c.Name] == nil {
			t.Errorf("command %q is no operation's", c.Name)
		}
	}
	for name := range all {
		if !slices.Contains(names, name) {
			t.Errorf("the task %q has no command", name)
		}
	}
}

// What the fields of an operation say is what a helper reads from the command
// line that is written of them: any flags, with any values they may have.
func TestArgvReadsBackAsTheOperationItWasWrittenOf(t *testing.T) {
	for name, blank := range tasks() {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				given := blank()
				for _, f := range given.Task().Flags {
					if rapid.Bool().Draw(t, f.Name+" is given") {
						setSome(t, f)
					}
				}
				argv := given.Task().Argv()
				if read := parsed(t, blank, argv); !reflect.DeepEqual(read, given) {
					t.Fatalf("%q is read as %+v, not %+v", argv, read, given)
				}
				if read := blank(); read.Task().Read(argv[1:]) != nil || !reflect.DeepEqual(read, given) {
					t.Fatalf("as a job %q is read as %+v, not %+v", argv, read, given)
				}
			})
		})
	}
}

// What a job's helper cannot read is for the commands to refuse: nothing is begun.
func TestOnlyWhatIsWrittenForAJobIsReadAsOne(t *testing.T) {
	for _, argv := range [][]string{
		nil, {"nothing"}, {"delete", "--target"}, {"delete", "--targets", "/a/b"}, {"delete", "/a/b"}, {"delete", "--limit", "1M"},
		{"allocate", "--target", "/a/b", "--capacity", "much"}, {"pool-look", "--target", "/a/b", "--yes"}, {"delete", "--yes"},
	} {
		if code, ok := work(ipc.JobDir{}, argv); ok {
			t.Errorf("%q ends with exit code %d", argv, code)
		}
	}
}

// setSome gives a flag a value that its placeholder allows, or a few.
func setSome(t *rapid.T, f operation.Flag) {
	n := 1
	if f.Repeats() {
		n = rapid.IntRange(1, 3).Draw(t, "values")
	}
	for range n {
		if err := f.Set(valueOf(f).Draw(t, f.Name)); err != nil {
			t.Fatal(err)
		}
	}
}

func valueOf(f operation.Flag) *rapid.Generator[string] {
	_, rest, _ := strings.Cut(f.Usage, "`")
	word, _, _ := strings.Cut(rest, "`")
	var choices []*rapid.Generator[string]
	for alternative := range strings.SplitSeq(word, "|") {
		choices = append(choices, valueOfWord(alternative))
	}
	return rapid.OneOf(choices...)
}

func valueOfWord(word string) *rapid.Generator[string] {
	switch word {
	case "": // a switch
		return rapid.Just("true")
	case "SIZE", "NANOSECONDS", "MILLISECONDS":
		return rapid.Map(rapid.Int64Range(1, 1<<60), func(n int64) string { return strconv.FormatInt(n, 10) })
	case "UID", "GID":
		return rapid.Map(rapid.Int64Range(0, 1<<32-2), func(n int64) string { return strconv.FormatInt(n, 10) })
	case "PATH", "FILE":
		return rapid.Map(rapid.StringMatching(`[ -~]{1,20}`), func(s string) string { return "/" + s })
	case "JSON":
		return rapid.SampledFrom([]string{`{"devices":["/dev/a b","/dev/c"],"name":"--x"}`, `{"options":{"x":"y\"z"}}`})
	case "LAYER":
		return rapid.SampledFrom([]string{`{"path":"/p/base","format":"raw","data":true}`, `{"path":"/q/a b","format":"qcow2","type":"dir","pool_id":"1:2","id":"1:3:x","source":{"name":"--x"}}`})
	case "KEY=VALUE":
		return rapid.StringMatching(`[a-z_]{1,9}=[ -~]{0,9}`)
	case "NAME", "GLOB", "TYPE", "IDENTITY", "UUID", "ALGORITHM[:HEX]":
		return rapid.StringMatching(`[ -~]{1,20}`)
	}
	return rapid.Just(word)
}

// parsed is the operation that a helper makes of a command line.
func parsed(t *rapid.T, blank func() task.Tasked, argv []string) (o task.Tasked) {
	command := taskCommand(blank, func(is task.Tasked) (helper.Task, error) {
		o = is
		return helper.Task{}, record.Errorf(record.CanceledCode, "it is only read")
	})
	p := commands()
	p.App.Commands = []*cli.Command{command}
	var said strings.Builder
	p.App.ErrWriter = &said
	if code := p.Main(append([]string{helper.Program}, argv...)); o == nil {
		t.Fatalf("%q: exit %d: %s", argv, code, said.String())
	}
	return o
}

// Each task says what it takes, which signals it obeys and how it ends.
func TestEveryTaskHasItsHelp(t *testing.T) {
	for _, c := range commands().App.Commands {
		var out strings.Builder
		p := commands()
		p.App.Writer = &out
		if code := p.Main([]string{helper.Program, c.Name, "--help"}); code != 0 {
			t.Errorf("%s --help: exit %d", c.Name, code)
		}
		object := "--target PATH"
		if c.Name == "pool-sources" { // what it finds is no pool's yet
			object = "--near JSON"
		}
		for _, part := range []string{"Usage: storage-helper " + c.Name, "SIGUSR2", "  130  canceled", "Example:\n  storage-helper " + c.Name, object} {
			if !strings.Contains(out.String(), part) {
				t.Errorf("help of %s lacks %q", c.Name, part)
			}
		}
	}
}
