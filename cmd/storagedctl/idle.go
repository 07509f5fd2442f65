package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"storaged/cmd/internal/cmdline"
)

// idle is a flag that does nothing in some commands. Whoever gives it there
// expects something of it, so it is refused.
type idle struct {
	flag string
	verb string                    // "" for each that has the flag
	why  func(*cli.Context) string // "" where it does something
}

// idles are those flags. --yes, --quiet, --bytes and --no-headers are not among
// them: what they say is true where there is nothing to ask, say or shorten.
var idles = []idle{
	{"sparse", "vol create", without("from")},
	{"checksum", "vol create", without("from")},
	{"detect-zeros", "vol create", without("from")},
	{"as-format", "vol create", without("from")},
	{"unpack", "vol create", without("from")},
	{"from-format", "vol create", without("from")},
	{"accept-limits", "vol delete", without("wipe")},
	{"timeout", "", beside("detach")},
	{"cancel-after", "", beside("detach")},
	{"timeout", "drain", beside("off")},
	{"columns", "", noTable},
	{"sort", "", noList},
	{"output", "", noForm},
}

// working refuses a command with a flag that does nothing in it.
func working(c *cli.Context) error {
	for _, i := range idles {
		if !c.IsSet(i.flag) || i.verb != "" && i.verb != verbOf(c) {
			continue
		}
		if why := i.why(c); why != "" {
			return cmdline.Usagef("%s does nothing %s", i.typed(c), why).WithHint("storagedctl %s --help", verbOf(c))
		}
	}
	return nil
}

// typed is the flag as it does nothing: of forms of results some do something.
func (i idle) typed(c *cli.Context) string {
	if i.flag == "output" {
		return "-o " + c.String(i.flag)
	}
	return "--" + i.flag
}

func verbOf(c *cli.Context) string {
	_, words, _ := strings.Cut(c.Command.HelpName, " ")
	return words
}

func without(other string) func(*cli.Context) string {
	return func(c *cli.Context) string {
		if c.IsSet(other) {
			return ""
		}
		return "without --" + other
	}
}

func beside(other string) func(*cli.Context) string {
	return func(c *cli.Context) string {
		if b, given := c.Value(other).(bool); given && !b || !c.IsSet(other) {
			return ""
		}
		return "beside --" + other
	}
}

// tabled are the verbs whose result is a table; a job's plan is one too.
var tabled = []string{
	"pool list", "pool show", "vol list", "vol show", "job list", "list", "job show", "status",
	"vol snapshot list", "pool sources", "secret list", "limits", "limits show", "limits set", "drain", "capabilities", "version",
}

// listed are the verbs whose result is a list in an order of our own.
var listed = []string{"pool list", "vol list", "job list", "list", "vol snapshot list", "secret list", "capabilities", "top"}

func noList(c *cli.Context) string {
	if slices.Contains(listed, verbOf(c)) {
		return ""
	}
	return fmt.Sprintf("with %q, which prints no list", verbOf(c))
}

// documented are the verbs whose result libvirt has a document for.
var documented = []string{"pool list", "pool show", "pool edit", "pool sources", "vol list", "vol show"}

func noTable(c *cli.Context) string {
	switch o := c.String("output"); {
	case o != "" && o != "table":
		return "beside -o " + o
	case !slices.Contains(tabled, verbOf(c)) && !c.Bool("dry-run"):
		return fmt.Sprintf("with %q, which prints no table", verbOf(c))
	}
	return ""
}

// noForm holds for verbs that print something in one form only.
func noForm(c *cli.Context) string {
	switch verb, form := verbOf(c), c.String("output"); {
	case form == "table":
	case form == "xml" && !slices.Contains(documented, verb):
		return fmt.Sprintf("with %q: libvirt has documents of pools and volumes only", verb)
	case verb == "job log", verb == "completion", verb == "top", verb == "events" && form == "name":
		return fmt.Sprintf("with %q, which has no form %s", verb, form)
	}
	return ""
}
