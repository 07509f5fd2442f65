package cmdline

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
)

// invocation is a command line taken apart.
type invocation struct {
	path    []*cli.Command // from the noun to the verb
	flags   []given
	args    []string
	help    bool
	version bool
	alias   *called // nil: the command was called by its own name
}

// given is a flag as it was given. level is the depth of the command it
// belongs to, 0 for the program's own.
type given struct {
	flag  cli.Flag
	level int
	value string
}

func (g given) name() string { return g.flag.Names()[0] }

// argv puts the invocation in the one order that cli/v2 understands: the
// flags of each level behind its word, then a double dash and the arguments.
func (inv *invocation) argv(program string) []string {
	out := append([]string{program}, inv.flagsOf(0)...)
	for i, c := range inv.path {
		out = append(append(out, c.Name), inv.flagsOf(i+1)...)
	}
	return append(append(out, "--"), inv.args...)
}

func (inv *invocation) flagsOf(level int) []string {
	var out []string
	for _, g := range inv.flags {
		if g.level == level {
			out = append(out, "--"+g.name()+"="+g.value)
		}
	}
	return out
}

// value gives the last value of a flag, "" if it is not given.
func (inv *invocation) value(name string) string {
	for _, g := range slices.Backward(inv.flags) {
		if g.name() == name {
			return g.value
		}
	}
	return ""
}

// parse takes the words after the program's name apart. What it has understood
// is returned with an error too.
func (p Program) parse(words []string) (*invocation, error) {
	inv := &invocation{}
	for i := 0; i < len(words); i++ {
		switch w := words[i]; {
		case w == "--":
			inv.args = append(inv.args, words[i+1:]...)
			return inv, inv.needVerb(p)
		case w == "--help" || w == "-h":
			inv.help = true
		case w == "--version" && p.App.Version != "":
			inv.version = true
		case len(w) > 1 && w[0] == '-' && !negative(w):
			used, err := p.takeFlag(inv, words[i:])
			if err != nil {
				return inv, err
			}
			i += used - 1
		default:
			if err := p.takeWord(inv, w); err != nil {
				return inv, err
			}
		}
	}
	return inv, inv.needVerb(p)
}

// needVerb refuses an invocation that ends at a noun which does nothing by
// itself.
func (inv *invocation) needVerb(p Program) error {
	if n := len(inv.path); n > 0 && inv.path[n-1].Action != nil {
		return nil
	}
	if subs := p.under(inv.path); len(subs) > 0 && !inv.help && !inv.version {
		return Usagef("%q needs one of: %s", p.line(inv.path), strings.Join(visible(subs), " ")).
			WithHint("%s --help", p.line(inv.path))
	}
	return nil
}

// under gives the commands that may follow path.
func (p Program) under(path []*cli.Command) []*cli.Command {
	if len(path) == 0 {
		return p.App.Commands
	}
	return path[len(path)-1].Subcommands
}

// argsUsage is the grammar of the arguments at the end of a path, which is the
// program itself where it has no commands.
func (p Program) argsUsage(path []*cli.Command) string {
	if len(path) == 0 {
		return p.App.ArgsUsage
	}
	return path[len(path)-1].ArgsUsage
}

// line is the program's name and the words of path.
func (p Program) line(path []*cli.Command) string {
	line := p.App.Name
	for _, c := range path {
		line += " " + c.Name
	}
	return line
}

// takeWord takes a word that is no flag: a command as long as one is due,
// then an argument.
func (p Program) takeWord(inv *invocation, w string) error {
	subs := p.under(inv.path)
	if len(subs) == 0 {
		inv.args = append(inv.args, w)
		return nil
	}
	if w == "help" {
		inv.help = true
		return nil
	}
	i := slices.IndexFunc(subs, func(c *cli.Command) bool { return c.HasName(w) })
	if i < 0 {
		if taken, err := p.takeAlias(inv, w); taken {
			return err
		}
		e := Usagef("%q is not a command of %q", w, p.line(inv.path))
		return e.WithHint("%s", p.instead(inv.path, w, visible(subs)))
	}
	inv.path = append(inv.path, subs[i])
	return nil
}

// visible lists the names of commands that are offered.
func visible(commands []*cli.Command) []string {
	var names []string
	for _, c := range commands {
		if !c.Hidden {
			names = append(names, c.Name)
		}
	}
	return names
}

// instead gives a hint for a word that is no command under path.
func (p Program) instead(path []*cli.Command, word string, known []string) string {
	help := p.line(path) + " --help"
	if len(path) > 0 {
		word = path[len(path)-1].Name + " " + word
	}
	if ours := p.Synonyms[word]; ours != "" {
		return meansInstead(ours, help)
	}
	word = word[strings.LastIndexByte(word, ' ')+1:]
	return didYouMean(word, known, help)
}

// takeFlag takes the flag at the front of words and its value, and says how
// many words that were.
func (p Program) takeFlag(inv *invocation, words []string) (used int, err error) {
	if used, err := inv.alias.takeFlag(words); used > 0 || err != nil {
		return used, err
	}
	typed, value, attached := strings.Cut(words[0], "=")
	flag, level := p.findFlag(inv.path, typed)
	if flag == nil {
		e := Usagef("unknown flag %q of %q", typed, p.line(inv.path))
		return 0, e.WithHint("%s", didYouMean(typed, p.flagNames(inv.path), p.line(inv.path)+" --help"))
	}
	used = 1
	switch {
	case !takesValue(flag):
		value, err = boolValue(value, attached)
	case !attached && !optionalValue(flag):
		value, err = nextValue(words, mayBeDashed(flag))
		used = 2
	}
	if err != nil {
		e := Usagef("%s %s", typed, err)
		if takesValue(flag) {
			e = e.WithHint("%s: %s", flagTyped(flag), explanation(flag))
		}
		return 0, e
	}
	g := given{flag: flag, level: level, value: value}
	if !isSlice(flag) { // the last one counts
		inv.flags = slices.DeleteFunc(inv.flags, func(o given) bool { return o.flag == flag })
	}
	inv.flags = append(inv.flags, g)
	return used, nil
}

func boolValue(value string, attached bool) (string, error) {
	if !attached {
		return "true", nil
	}
	if _, err := strconv.ParseBool(value); err != nil {
		return "", errors.New("takes no value")
	}
	return value, nil
}

// nextValue takes the word after a flag. One that looks like a flag is more
// likely a value forgotten, unless the flag has values behind one dash.
func nextValue(words []string, dashed bool) (string, error) {
	if len(words) < 2 {
		return "", errors.New("needs a value")
	}
	if v := words[1]; len(v) > 1 && v[0] == '-' && !negative(v) && (!dashed || v[1] == '-') {
		return "", fmt.Errorf("needs a value; one that begins with a dash is written %s=%s", words[0], v)
	}
	return words[1], nil
}

// mayBeDashed reports whether a flag takes values that begin with a dash.
func mayBeDashed(f cli.Flag) bool {
	return slices.ContainsFunc(alternatives(f), func(a string) bool { return len(a) > 1 && a[0] == '-' })
}

// negative holds for what is a number below zero, and no flag: none has a name
// that begins with a digit.
func negative(word string) bool {
	return len(word) > 1 && word[0] == '-' && '0' <= word[1] && word[1] <= '9'
}

// findFlag looks a flag up by name as typed, the innermost command first.
func (p Program) findFlag(path []*cli.Command, typed string) (cli.Flag, int) {
	for level := len(path); level >= 0; level-- {
		for _, f := range p.flagsAt(path, level) {
			if slices.ContainsFunc(f.Names(), func(n string) bool { return dashed(n) == typed }) {
				return f, level
			}
		}
	}
	return nil, 0
}

func (p Program) flagsAt(path []*cli.Command, level int) []cli.Flag {
	if level == 0 {
		return p.App.Flags
	}
	return path[level-1].Flags
}

// flagNames lists the flags that are offered at path, with their dashes.
func (p Program) flagNames(path []*cli.Command) []string {
	names := []string{"--help"}
	for level := range len(path) + 1 {
		for _, f := range p.flagsAt(path, level) {
			if hidden(f) {
				continue
			}
			for _, n := range f.Names() {
				names = append(names, dashed(n))
			}
		}
	}
	return names
}

func dashed(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

func hidden(f cli.Flag) bool {
	v, ok := f.(cli.VisibleFlag)
	return ok && !v.IsVisible()
}

func takesValue(f cli.Flag) bool {
	d, ok := f.(cli.DocGenerationFlag)
	return ok && d.TakesValue()
}

func isSlice(f cli.Flag) bool {
	s, ok := f.(cli.DocGenerationSliceFlag)
	return ok && s.IsSliceFlag()
}

// optionalValue holds for flags that may be given with or without a value.
func optionalValue(f cli.Flag) bool { return strings.HasPrefix(placeholder(f), "[=") }
