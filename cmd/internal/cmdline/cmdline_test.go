package cmdline

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
	"pgregory.net/rapid"

	"storaged/internal/record"
)

// sample is a program with one of everything. Its actions print what they
// were given.
func sample() (Program, *bytes.Buffer, *bytes.Buffer) {
	var out, errs bytes.Buffer
	app := &cli.App{
		Name: "prog", Usage: "tries the command line", Writer: &out, ErrWriter: &errs,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "print `table|json|jsonl`"},
			&cli.BoolFlag{Name: "quiet", Usage: "say errors only"},
		},
		Commands: []*cli.Command{
			{Name: "pool", Usage: "pools", Subcommands: []*cli.Command{
				{Name: "list", Usage: "list them", Action: echo, Flags: []cli.Flag{&cli.BoolFlag{Name: "all", Aliases: []string{"a"}, Usage: "also the rest"}}},
				{Name: "create", Usage: "make one", ArgsUsage: "NAME [SIZE]", Action: echo, Description: "Makes it.", Flags: []cli.Flag{
					&cli.StringFlag{Name: "dir", Usage: "in `PATH`"},
					&cli.StringFlag{Name: "limit", Usage: "bound it: `RATE|none`"},
					&cli.StringFlag{Name: "allocation", Usage: "allocate `full|none|SIZE`"},
					&cli.StringSliceFlag{Name: "label", Category: "For every job", Usage: "with `KEY=VALUE`"},
					&cli.StringFlag{Name: "wipe", Usage: "wipe first: `[=zero|random]`"},
					&cli.BoolFlag{Name: "secret", Hidden: true},
				}},
				{Name: "move", ArgsUsage: "on|off NAME…", Usage: "move some", Action: echo},
				{Name: "fail", ArgsUsage: "[CODE]", Usage: "fail", Action: fail},
			}},
			{Name: "version", Usage: "say the version", Action: echo},
			{Name: "secret", Hidden: true, Action: echo},
		},
	}
	words := map[string]Word{"NAME": {
		Check: func(s string) error {
			if s == "" {
				return errors.New("the name is empty")
			}
			return nil
		},
		Complete: func(_ context.Context, t Typed) []string {
			return []string{"images", "isos", "vm:1", "evil\nname", t.Flags["dir"] + "!"}
		},
	}}
	return Program{App: app, Words: words}, &out, &errs
}

func echo(c *cli.Context) error {
	for _, name := range []string{"output", "quiet", "all", "dir", "limit", "allocation", "wipe"} {
		if c.IsSet(name) {
			fmt.Fprintf(c.App.Writer, "%s=%v ", name, c.Value(name))
		}
	}
	for _, l := range c.StringSlice("label") {
		fmt.Fprintf(c.App.Writer, "label=%s ", l)
	}
	fmt.Fprintf(c.App.Writer, "%s%q", c.Command.Name, c.Args().Slice())
	return nil
}

func fail(c *cli.Context) error {
	switch code := c.Args().First(); code {
	case "":
		return errors.New("no code\nat all")
	case "canceled":
		return fmt.Errorf("waiting: %w", context.Canceled)
	case "exit":
		return cli.Exit("by cli", 77)
	default:
		e := record.Errorf(record.Code(code), "images/base.raw is %s", code).WithHint("try later")
		return fmt.Errorf("cannot wipe: %w", e)
	}
}

func run(line ...string) (out, errs string, code int) {
	p, o, e := sample()
	code = p.Main(append([]string{"prog"}, line...))
	return o.String(), e.String(), code
}

func TestFlagsStandOnEitherSide(t *testing.T) {
	want := `output=json dir=/x limit=1M label=a=1,2 label=b=2 create["one" "5G"]`
	for _, line := range []string{
		"-o json pool create one 5G --dir /x --limit 1M --label a=1,2 --label b=2",
		"pool create --dir=/x --limit=1M --label=a=1,2 --label=b=2 --output=json one 5G",
		"pool create one --dir /x 5G --limit 1M -o json --label a=1,2 --label b=2",
		"pool -o json create --label a=1,2 one --label b=2 --limit 1M -- 5G --dir /x",
	} {
		if strings.Contains(line, "-- 5G") {
			line = strings.Replace(line, "-- 5G --dir /x", "--dir /x -- 5G", 1)
		}
		if out, errs, code := run(strings.Fields(line)...); out != want || code != 0 {
			t.Errorf("%s\ngot  %s %s (%d)\nwant %s", line, out, errs, code, want)
		}
	}
}

func TestFlagsAndArguments(t *testing.T) {
	for line, want := range map[string]string{
		"pool list":                                `list[]`,
		"pool list -a":                             `all=true list[]`,
		"pool list --all=false":                    `all=false list[]`,
		"pool create x -o json -o table":           `output=table create["x"]`,
		"pool create -- --dir":                     `create["--dir"]`,
		"pool create x --dir -":                    `dir=- create["x"]`,
		"pool create -":                            `create["-"]`,
		"pool create x --dir=--y":                  `dir=--y create["x"]`,
		"pool create x --dir=a=b":                  `dir=a=b create["x"]`,
		"pool create x --wipe":                     `wipe= create["x"]`,
		"pool create x --wipe=random":              `wipe=random create["x"]`,
		"pool create --wipe x":                     `wipe= create["x"]`,
		"pool create x --allocation full":          `allocation=full create["x"]`,
		"pool create x --allocation 3KiB":          `allocation=3KiB create["x"]`,
		"pool create x --limit none":               `limit=none create["x"]`,
		"pool create help":                         `create["help"]`,
		"pool create create":                       `create["create"]`,
		"pool create version --quiet":              `quiet=true create["version"]`,
		"pool move on a b c":                       `move["on" "a" "b" "c"]`,
		"pool create x --generate-bash-completion": "",
	} {
		out, errs, code := run(strings.Fields(line)...)
		if out != want || (code == 0) != (want != "") {
			t.Errorf("%s: got %s %s (%d), want %s", line, out, errs, code, want)
		}
	}
}

func TestBadUsageIsExit2WithAHint(t *testing.T) {
	for line, want := range map[string]string{
		"":                              "prog: error: \"prog\" needs one of: pool version\nprog: hint: prog --help\n",
		"pol list":                      "prog: error: \"pol\" is not a command of \"prog\"\nprog: hint: did you mean pool? (prog --help)\n",
		"pool lsit":                     "prog: error: \"lsit\" is not a command of \"prog pool\"\nprog: hint: did you mean list? (prog pool --help)\n",
		"pool zzzz":                     "prog: error: \"zzzz\" is not a command of \"prog pool\"\nprog: hint: prog pool --help\n",
		"pool":                          "prog: error: \"prog pool\" needs one of: list create move fail\nprog: hint: prog pool --help\n",
		"pool list --al":                "prog: error: unknown flag \"--al\" of \"prog pool list\"\nprog: hint: did you mean --all? (prog pool list --help)\n",
		"pool list -all":                "prog: error: unknown flag \"-all\" of \"prog pool list\"\nprog: hint: did you mean --all? (prog pool list --help)\n",
		"pool list -x":                  "prog: error: unknown flag \"-x\" of \"prog pool list\"\nprog: hint: prog pool list --help\n",
		"pool list -5":                  "prog: error: unexpected argument \"-5\"\nprog: hint: usage: prog pool list\n",
		"pool list extra":               "prog: error: unexpected argument \"extra\"\nprog: hint: usage: prog pool list\n",
		"pool create":                   "prog: error: \"prog pool create\" needs NAME\nprog: hint: usage: prog pool create NAME [SIZE]\n",
		"pool move on":                  "prog: error: \"prog pool move\" needs NAME\nprog: hint: usage: prog pool move on|off NAME…\n",
		"pool move up a":                "prog: error: \"up\" is not on or off\n",
		"pool create x 1.5G":            "prog: error: bad size \"1.5G\": it is no whole number; take a smaller unit, like 1536M for 1.5G\n",
		"pool create x -5M":             "prog: error: bad size \"-5M\": it cannot be negative\n",
		"pool create x --dir":           "prog: error: --dir needs a value\nprog: hint: --dir PATH: in PATH\n",
		"pool create x --dir --limit 5": "prog: error: --dir needs a value; one that begins with a dash is written --dir=--limit\nprog: hint: --dir PATH: in PATH\n",
		"pool create x --limit -5":      "prog: error: --limit: bad rate \"-5\": it cannot be negative; none is allowed too\n",
		"pool create x --wipe=twice":    "prog: error: --wipe: \"twice\" is not zero or random\n",
		"pool list --all=maybe":         "prog: error: --all takes no value\n",
		"pool list -o xml":              "prog: error: --output: \"xml\" is not table, json or jsonl\n",
		"pool create x y=z --label":     "prog: error: --label needs a value\nprog: hint: --label KEY=VALUE: with KEY=VALUE\n",
		"--version":                     "prog: error: unknown flag \"--version\" of \"prog\"\nprog: hint: prog --help\n",
	} {
		out, errs, code := run(strings.Fields(line)...)
		if errs != want || code != 2 || out != "" {
			t.Errorf("%q: exit %d, stdout %q\ngot  %swant %s", line, code, out, errs, want)
		}
	}
}

func TestEmptyArgumentIsChecked(t *testing.T) {
	if _, errs, code := run("pool", "create", ""); code != 2 || !strings.Contains(errs, "the name is empty") {
		t.Errorf("%d %s", code, errs)
	}
}

func TestErrorsAreSaidOnce(t *testing.T) {
	for line, want := range map[string]struct {
		errs string
		code int
	}{
		"pool fail busy":     {"prog: error: cannot wipe: images/base.raw is busy\nprog: hint: try later\n", 4},
		"pool fail no_space": {"prog: error: cannot wipe: images/base.raw is no_space\nprog: hint: try later\n", 7},
		"pool fail":          {"prog: error: no code\\nat all\n", 1},
		"pool fail canceled": {"prog: error: waiting: context canceled\n", 130},
		"pool fail exit":     {"prog: error: by cli\n", 1},
	} {
		out, errs, code := run(strings.Fields(line)...)
		if errs != want.errs || code != want.code || out != "" {
			t.Errorf("%s: %q %q (%d)", line, out, errs, code)
		}
	}
}

func TestErrorIsAnObjectWithJSONOutput(t *testing.T) {
	for _, line := range []string{"pool fail busy -o json", "-o jsonl pool fail busy", "pool list --nonsense -o json", "pool fail -o json"} {
		_, errs, code := run(strings.Fields(line)...)
		if strings.Contains(line, "--nonsense") {
			if code != 2 || !strings.HasPrefix(errs, "prog: error") {
				t.Errorf("%s: %s", line, errs)
			}
			continue
		}
		var p record.Problem
		if err := json.Unmarshal([]byte(errs), &p); err != nil || strings.Count(errs, "\n") != 1 {
			t.Fatalf("%s: %v in %q", line, err, errs)
		}
		if strings.Contains(line, "busy") && (p.Code != record.Busy || p.Detail != "cannot wipe: images/base.raw is busy" || Hint(p.Hint) != "try later") {
			t.Errorf("%s: code %s, %q, hint %q", line, p.Code, p.Detail, Hint(p.Hint))
		}
	}
}

func TestHelpComesFromTheTree(t *testing.T) {
	for _, line := range []string{"--help", "help", "-h", "pool list extra --help", "help pool create", "pool create --help --nonsense=1"} {
		out, errs, code := run(strings.Fields(line)...)
		if strings.Contains(line, "nonsense") {
			if code != 2 {
				t.Errorf("%s: exit %d", line, code)
			}
			continue
		}
		if code != 0 || errs != "" || !strings.HasPrefix(out, "prog") {
			t.Errorf("%s: exit %d, %q %q", line, code, out, errs)
		}
	}
	out, _, _ := run("help", "pool", "create")
	want := `prog pool create: make one

Usage: prog pool create NAME [SIZE] [flags]

Makes it.

Flags:
  --dir PATH                  in PATH
  --limit RATE|none           bound it
  --allocation full|none|SIZE
                              allocate full|none|SIZE
  --wipe[=zero|random]        wipe first

For every job:
  --label KEY=VALUE           with KEY=VALUE

For every command:
  -o, --output table|json|jsonl
                              print table|json|jsonl
  --quiet                     say errors only

prog --help says more, and lists the exit codes.
`
	if out != want {
		t.Errorf("got:\n%s\nwant:\n%s", out, want)
	}
	if out, _, _ := run("--help"); !strings.Contains(out, "\n    4  busy, conflict, too late\n") || strings.Contains(out, "secret") {
		t.Errorf("%s", out)
	}
}

func TestVersionFlag(t *testing.T) {
	p, out, _ := sample()
	p.App.Version = "1.2.3"
	if code := p.Main([]string{"prog", "--version"}); code != 0 || out.String() != "prog 1.2.3\n" {
		t.Errorf("%d %q", code, out.String())
	}
}

func TestProgramWithoutCommands(t *testing.T) {
	one := func(args ...string) (string, int) {
		var out bytes.Buffer
		app := &cli.App{
			Name: "one", Usage: "does one thing", ArgsUsage: "[SIZE]", Action: echo, Writer: &out, ErrWriter: &out,
			Flags: []cli.Flag{&cli.StringFlag{Name: "dir", Usage: "in `PATH`"}},
		}
		code := Program{App: app}.Main(append([]string{"one"}, args...))
		return out.String(), code
	}
	for line, want := range map[string]string{
		"":            `one[]`,
		"5G --dir /x": `dir=/x one["5G"]`,
		"x":           "one: error: bad size",
		"1 2":         "one: error: unexpected argument \"2\"",
		"--help":      "one: does one thing\n\nUsage: one [SIZE] [flags]\n\nFlags:\n  --dir PATH",
		"__complete":  "",
	} {
		if got, code := one(strings.Fields(line)...); !strings.HasPrefix(got, want) || (code != 0) != strings.Contains(want, "error") {
			t.Errorf("%q: exit %d, %s", line, code, got)
		}
	}
}

func TestManualComesFromTheTree(t *testing.T) {
	p, out, errs := sample()
	p.App.Description = ".not a request\n\\nor this"
	p.App.Flags = append(p.App.Flags, &cli.StringFlag{Name: "dir", EnvVars: []string{"PROG_DIR"}, Usage: "keep it in `DIR`"})
	p.Files, p.SeeAlso = []File{{"/etc/prog.conf", "settings"}}, []string{"other(8)", "/usr/share/doc/prog"}
	if code := p.Main([]string{"prog", "__man"}); code != 0 || errs.Len() > 0 {
		t.Fatalf("exit %d, %s", code, errs.String())
	}
	for _, want := range []string{
		".TH PROG 8", "prog \\- tries the command line", "\\&.not a request\n\\enor this", ".SS prog pool create NAME [SIZE] [flags]\nMake one.\n",
		".TP\n.B \\-\\-limit RATE|none\nbound it\n", ".TP\n.B 130\ncanceled\n",
		".SH ENVIRONMENT\n.TP\n.B PROG_DIR\nas \\-\\-dir DIR\n", ".SH FILES\n.TP\n.B /etc/prog.conf\nsettings\n", ".SH SEE ALSO\nother(8),\n/usr/share/doc/prog\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing", want)
		}
	}
	if strings.Contains(out.String(), "secret") {
		t.Error("a hidden command is told")
	}
}

func TestEveryExitCodeIsExplained(t *testing.T) {
	table := ExitCodes()
	for _, c := range record.Codes() {
		if !slices.ContainsFunc(table, func(m ExitMeaning) bool { return m.Code == c.Meaning().Exit }) {
			t.Errorf("exit code %d of %s is not in the table", c.Meaning().Exit, c)
		}
	}
}

func TestComplete(t *testing.T) {
	for line, want := range map[string]string{
		"":                             "pool version",
		"p":                            "pool",
		"pool ":                        "list create move fail",
		"pool list --":                 "--help --all --output --quiet",
		"pool list -":                  "--help --all -a --output -o --quiet",
		"pool list --al":               "--all",
		"pool create ":                 "images isos vm:1 !",
		"pool create i":                "images isos",
		"pool create --dir /x ":        "images isos vm:1 /x!",
		"pool create images ":          "",
		"pool create images 5G ":       "",
		"pool move o":                  "on off",
		"pool move on images is":       "isos",
		"pool create --allocation ":    "full none",
		"pool create --allocation=f":   "--allocation=full",
		"pool create --allocation = f": "full",
		"pool create --allocation =":   "full none",
		"-o ":                          "table json jsonl",
		"pool list -o j":               "json jsonl",
		"pool create --wipe=":          "--wipe=zero --wipe=random",
		"pool create --wipe ":          "images isos vm:1 !",
		"pool list -- --":              "",
		"pool nonsense ":               "list create move fail",
		"pool list --nonsense ":        "",
	} {
		var got []string
		p, out, _ := sample()
		words := strings.Split(line, " ")
		if code := p.Main(append([]string{"prog", "__complete"}, words...)); code != 0 {
			t.Errorf("%q: exit %d", line, code)
		}
		for l := range strings.Lines(out.String()) {
			typed, _, _ := strings.Cut(strings.TrimSuffix(l, "\n"), "\t")
			got = append(got, typed)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q: got %q, want %q", line, got, want)
		}
	}
}

// TestNothingPanics tries lines of the program's words and near misses, as
// commands and at every stage of being typed.
func TestNothingPanics(t *testing.T) {
	words := []string{
		"", "pool", "list", "create", "move", "version", "help", "--help", "-h", "--", "-", "=", "--=", "--dir", "--dir=", "-o", "-o=json", "--wipe", "--wipe=zero",
		"--a", "--label", "a=b", "x", "on", "5G", "-5", "--quiet", "--quiet=1", "\x00", "\xff", "__complete", "--generate-bash-completion", "secret", "fail",
	}
	rapid.Check(t, func(t *rapid.T) {
		line := rapid.SliceOfN(rapid.SampledFrom(words), 0, 7).Draw(t, "line")
		p, out, errs := sample()
		code := p.Main(append([]string{"prog"}, line...))
		if (code == 0) != (errs.Len() == 0) {
			t.Fatalf("exit %d with %q, %q", code, out.String(), errs.String())
		}
		p, _, errs = sample()
		if code := p.Main(append([]string{"prog", "__complete"}, line...)); code != 0 || errs.Len() > 0 {
			t.Fatalf("completion: exit %d with %q", code, errs.String())
		}
	})
}

func TestCompletionScriptIsGoodBash(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		var b bytes.Buffer
		if err := Completion(&b, shell, "storagedctl"); err != nil || strings.Contains(b.String(), "PROGRAM") {
			t.Errorf("%s: %v\n%s", shell, err, b.String())
		}
	}
	if err := Completion(&bytes.Buffer{}, "csh", "x"); ExitCode(err) != 2 {
		t.Error(err)
	}
	script := `
prog() { printf '%s\n' "pool	pools" "po:x y"; }
source /dev/stdin <<< "$STUB"
COMP_WORDS=(prog p); COMP_CWORD=1; compopt() { :; }
_prog; printf '<%s>' "${COMPREPLY[@]}"`
	var stub bytes.Buffer
	if err := Completion(&stub, "bash", "prog"); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("bash", "-c", script)
	cmd.Env = append(os.Environ(), "STUB="+stub.String())
	out, err := cmd.CombinedOutput()
	if err != nil || string(out) != `<pool><po:x\ y>` {
		t.Errorf("%v: %s", err, out)
	}
}

func TestOptionalSlotAtTheBeginning(t *testing.T) {
	all := slots("[JOB] RATE|none")
	for n, want := range map[int]string{0: "RATE|none", 1: "RATE|none", 2: "JOB"} {
		if got := fitting(all, n)[0].String(); got != want {
			t.Errorf("of %d arguments the first is %s, want %s", n, got, want)
		}
	}
	if got := fitting(slots("[JOB…]"), 0); len(got) != 1 {
		t.Errorf("nothing but optional slots became %v", got)
	}
}
