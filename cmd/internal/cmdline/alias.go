package cmdline

import (
	"fmt"
	"slices"
	"strings"

	"storaged/internal/term"
)

// Alias is what a word of another program does here. Whoever types it is told the
// command's own name.
type Alias struct {
	Means string   // the words of the command, and flags of it
	Idle  []string // flags of the other program that ask for what is so here anyway
	Pool  string   // the flag by which it names the pool of volumes that are given by name
	Joins bool     // the first two arguments are pool and name of a volume
	Most  int      // arguments that the other program takes, 0: as many as the command
	More  string   // how the command is called that takes more
}

// called is an alias as it was typed.
type called struct {
	Alias
	typed string
	pool  *string // the value of its flag
}

// takeAlias takes a word that is an alias at the end of path, if it is one.
func (p Program) takeAlias(inv *invocation, word string) (bool, error) {
	typed := word
	if len(inv.path) > 0 {
		_, words, _ := strings.Cut(p.line(inv.path), " ")
		typed = words + " " + word
	}
	alias, ok := p.Aliases[typed]
	if !ok {
		return false, nil
	}
	inv.alias, inv.path = &called{Alias: alias, typed: typed}, nil
	words := strings.Fields(alias.Means)
	for i := 0; i < len(words); i++ {
		if words[i][0] != '-' {
			if err := p.takeWord(inv, words[i]); err != nil {
				return true, err
			}
			continue
		}
		used, err := p.takeFlag(inv, words[i:])
		if err != nil {
			return true, err
		}
		i += used - 1
	}
	return true, nil
}

// takeFlag takes a flag of the other program at the front of words, and says how many
// words that were, 0 if it is none.
func (c *called) takeFlag(words []string) (used int, err error) {
	name, value, attached := strings.Cut(words[0], "=")
	switch {
	case c == nil:
		return 0, nil
	case slices.Contains(c.Idle, words[0]):
		return 1, nil
	case c.Pool == "" || name != c.Pool:
		return 0, nil
	case attached:
		c.pool = &value
		return 1, nil
	}
	if value, err = nextValue(words, false); err != nil {
		return 0, Usagef("%s %s", name, err)
	}
	c.pool = &value
	return 2, nil
}

// translate puts the arguments as the command has them.
func (p Program) translate(inv *invocation, slots []slot) error {
	c := inv.alias
	switch {
	case c == nil:
		return nil
	case c.Most > 0 && len(inv.args) > c.Most:
		return Usagef("%s takes %d arguments; %s %s takes more", c.typed, c.Most, p.App.Name, c.More)
	}
	if c.Joins && len(inv.args) > 1 {
		inv.args = append([]string{inv.args[0] + "/" + inv.args[1]}, inv.args[2:]...)
	}
	if c.pool == nil {
		return nil
	}
	if err := p.accept([]string{"POOL"}, *c.pool); err != nil {
		return Usagef("%s: %s", c.Pool, err)
	}
	if len(inv.args) == 0 {
		inv.args = []string{*c.pool}
		return nil
	}
	return inv.addPool(slots)
}

// addPool puts the pool of the flag before the names of volumes. One that says another
// pool by itself is refused: either of the two may be what was meant.
func (inv *invocation) addPool(slots []slot) error {
	c := inv.alias
	for i, arg := range inv.args {
		s, _ := slotOf(slots, i)
		pool, _, qualified := strings.Cut(arg, "/")
		switch {
		case !slices.Contains(s.alternatives, "VOL") && !slices.Contains(s.alternatives, "POOL/NAME"):
		case !qualified:
			inv.args[i] = *c.pool + "/" + arg
		case pool == "":
			return Usagef("%q is a path, and %s names a pool; leave one out", arg, c.Pool)
		case pool != *c.pool:
			return Usagef("%q is not in pool %q", arg, *c.pool)
		}
	}
	return nil
}

// sayName says to people what an alias is called here. Under one of our nouns the word of a
// shell needs no lesson: "job ls" is clear.
func (p Program) sayName(inv *invocation) {
	if inv.alias == nil || strings.Contains(inv.alias.typed, " ") || inv.value("quiet") == "true" {
		return
	}
	if out := Output(p.App.ErrWriter); out.Terminal {
		_, _ = fmt.Fprintf(out.W, "%s: %s is %s here\n", p.App.Name, term.Escape(inv.alias.typed), inv.alias.Means)
	}
}
