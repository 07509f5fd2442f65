package cmdline

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/urfave/cli/v2"

	"storaged/internal/quantity"
)

// Word is an upper-case word of the grammar.
type Word struct {
	// Check refuses a value that cannot be right, with an error that names
	// it; nil accepts any.
	Check func(value string) error
	// Complete offers values; nil offers none. A tab separates a value from
	// what it means. It may ask the daemon and must be quick and quiet.
	Complete func(ctx context.Context, t Typed) []string
}

// Typed is a command line in the making, as far as it is typed.
type Typed struct {
	Command string            // its words, like "job cancel"
	Flags   map[string]string // by name without dashes
	Args    []string
	Flag    string // whose value is being typed, without dashes, as it is called first; "": of none
	Prefix  string // of the word being typed
}

// quantities are the words that every program has.
var quantities = map[string]Word{
	"SIZE":  {Check: func(s string) error { _, err := quantity.ParseSize(s); return err }},
	"+SIZE": {Check: func(s string) error { _, _, err := quantity.ParseRelative(s); return err }},
	"RATE":  {Check: func(s string) error { _, err := quantity.ParseRate(s); return err }},
	"TIME":  {Check: func(s string) error { _, err := quantity.ParseDuration(s); return err }},
}

func (p Program) word(name string) Word {
	if w, ok := p.Words[name]; ok {
		return w
	}
	return quantities[name]
}

// slot is the place of an argument in a command's ArgsUsage.
type slot struct {
	alternatives []string
	optional     bool
	repeats      bool
}

func (s slot) String() string { return strings.Join(s.alternatives, "|") }

// slots reads an ArgsUsage.
func slots(usage string) []slot {
	var out []slot
	for _, token := range strings.Fields(usage) {
		bare := strings.Trim(token, "[]…")
		out = append(out, slot{
			alternatives: strings.Split(bare, "|"),
			optional:     strings.HasPrefix(token, "["),
			repeats:      strings.Contains(token, "…"),
		})
	}
	return out
}

// fitting leaves out optional slots at the beginning that n arguments do not
// fill: of "[JOB] RATE" a single one is the rate.
func fitting(all []slot, n int) []slot {
	for len(all) > n && all[0].optional && !all[len(all)-1].optional {
		all = all[1:]
	}
	return all
}

// slotOf gives the slot of the argument at i, counted from 0.
func slotOf(all []slot, i int) (slot, bool) {
	if i < len(all) {
		return all[i], true
	}
	if n := len(all); n > 0 && all[n-1].repeats {
		return all[n-1], true
	}
	return slot{}, false
}

// placeholder is the part of a flag's usage between backquotes.
func placeholder(f cli.Flag) string {
	d, ok := f.(cli.DocGenerationFlag)
	if !ok {
		return ""
	}
	_, rest, _ := strings.Cut(d.GetUsage(), "`")
	inside, _, closed := strings.Cut(rest, "`")
	if !closed {
		return ""
	}
	return inside
}

// alternatives are the values that a flag takes.
func alternatives(f cli.Flag) []string {
	text := strings.TrimSuffix(strings.TrimPrefix(placeholder(f), "[="), "]")
	return strings.Split(text, "|")
}

func literal(alternative string) bool {
	return alternative != "" && !strings.ContainsFunc(alternative, unicode.IsUpper)
}

// check holds the arguments and flags of an invocation against the grammar.
func (p Program) check(inv *invocation) error {
	for _, g := range inv.flags {
		if !takesValue(g.flag) || g.value == "" && optionalValue(g.flag) {
			continue
		}
		if err := p.accept(alternatives(g.flag), g.value); err != nil {
			return Usagef("%s: %s", dashed(g.name()), err)
		}
	}
	if err := p.checkArgs(inv); err != nil {
		return err
	}
	return p.checkNeeded(inv)
}

// checkNeeded refuses a command that lacks a flag which it needs.
func (p Program) checkNeeded(inv *invocation) error {
	if len(inv.path) == 0 {
		return nil
	}
	c := inv.path[len(inv.path)-1]
	for _, f := range c.Flags {
		if isNeeded(f) && !slices.ContainsFunc(inv.flags, func(g given) bool { return g.flag == f }) {
			return Usagef("%q needs %s", p.line(inv.path), flagTyped(f)).WithHint("usage: %s", usageLine(p.line(inv.path), c))
		}
	}
	return nil
}

func (p Program) checkArgs(inv *invocation) error {
	args := p.argsUsage(inv.path)
	if err := p.translate(inv, slots(args)); err != nil {
		return err
	}
	all := fitting(slots(args), len(inv.args))
	usage := p.line(inv.path) + " " + args
	if len(inv.path) > 0 {
		usage = strings.Join(append([]string{usage}, needed(inv.path[len(inv.path)-1].Flags)...), " ")
	}
	for i, arg := range inv.args {
		s, ok := slotOf(all, i)
		if !ok {
			return Usagef("unexpected argument %q", arg).WithHint("usage: %s", strings.TrimSpace(usage))
		}
		if err := p.accept(s.alternatives, arg); err != nil {
			return Usagef("%s", err)
		}
	}
	for _, s := range all[min(len(inv.args), len(all)):] {
		if !s.optional {
			return Usagef("%q needs %s", p.line(inv.path), s).WithHint("usage: %s", usage)
		}
	}
	return nil
}

// accept holds a value against alternatives. The error is that of the last
// word, as the most general one stands last, or lists the literals.
func (p Program) accept(alternatives []string, value string) error {
	if slices.ContainsFunc(alternatives, func(a string) bool { return literal(a) && a == value }) {
		return nil
	}
	var last error
	for _, a := range alternatives {
		if literal(a) {
			continue
		}
		w := p.word(a)
		if w.Check == nil {
			return nil
		}
		if last = w.Check(value); last == nil {
			return nil
		}
	}
	if last == nil {
		return fmt.Errorf("%q is not %s", value, oneOf(alternatives))
	}
	if others := slices.DeleteFunc(slices.Clone(alternatives), func(a string) bool { return !literal(a) }); len(others) > 0 {
		return fmt.Errorf("%w; %s is allowed too", last, oneOf(others))
	}
	return last
}

// Size gives the bytes of a flag with the word SIZE or RATE; nil if it is not
// given or a literal like none.
func Size(c *cli.Context, name string) *int64 {
	n, err := quantity.ParseSize(strings.TrimSuffix(c.String(name), "/s"))
	if err != nil {
		return nil
	}
	return &n
}

// Duration gives the value of a flag with the word TIME; nil if it is not
// given or a literal.
func Duration(c *cli.Context, name string) *time.Duration {
	d, err := quantity.ParseDuration(c.String(name))
	if err != nil {
		return nil
	}
	return &d
}
