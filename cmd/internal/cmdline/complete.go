package cmdline

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
)

// completeCommand is the hidden command that the shells' completion calls
// with the words typed so far; the last one is being typed. It prints one
// candidate per line, with a tab and what it does where that is known.
const completeCommand = "__complete"

// completePatience is how long a shell may be kept waiting for names.
const completePatience = 2 * time.Second

// complete prints the candidates. It never fails: who presses tab wants no
// error.
func (p Program) complete(words []string) {
	ctx, cancel := context.WithTimeout(context.Background(), completePatience)
	defer cancel()
	for _, c := range p.candidates(ctx, words) {
		if c.does == "" {
			_, _ = fmt.Fprintln(p.App.Writer, c.typed)
		} else {
			_, _ = fmt.Fprintf(p.App.Writer, "%s\t%s\n", c.typed, c.does)
		}
	}
}

// candidates says what the last of words may become.
func (p Program) candidates(ctx context.Context, words []string) []entry {
	words, detached := rejoin(words)
	if len(words) == 0 {
		words = []string{""}
	}
	last := words[len(words)-1]
	inv, awaiting, literalOnly := p.sofar(words[:len(words)-1])
	_, command, _ := strings.Cut(p.line(inv.path), " ")
	t := Typed{Command: command, Flags: map[string]string{}, Args: inv.args, Prefix: last}
	for _, g := range inv.flags {
		t.Flags[g.name()] = g.value
	}
	name, value, attached := strings.Cut(last, "=")
	switch {
	case awaiting != nil:
		t.Flag = awaiting.Names()[0]
		return p.values(ctx, alternatives(awaiting), t)
	case !literalOnly && attached && strings.HasPrefix(last, "-"):
		t.Prefix = value
		f, _ := p.findFlag(inv.path, name)
		if detached {
			return p.attachedValues(ctx, f, t, "")
		}
		return p.attachedValues(ctx, f, t, name+"=")
	case !literalOnly && strings.HasPrefix(last, "-"):
		return matching(p.flagCandidates(inv), last)
	}
	return p.wordCandidates(ctx, inv, t)
}

// rejoin undoes what bash does to --flag=value, which it hands over as three
// words. detached reports that it did so to the last one.
func rejoin(words []string) (out []string, detached bool) {
	for i := 0; i < len(words); i++ {
		if words[i] != "=" || len(out) == 0 || !strings.HasPrefix(out[len(out)-1], "--") {
			out = append(out, words[i])
			continue
		}
		out[len(out)-1] += "="
		if i+1 < len(words) {
			i++
			out[len(out)-1] += words[i]
		}
		detached = i == len(words)-1
	}
	return out, detached
}

// sofar understands the words before the one being typed as far as possible.
// awaiting is the flag whose value is due.
func (p Program) sofar(words []string) (inv *invocation, awaiting cli.Flag, literalOnly bool) {
	inv = &invocation{}
	for i := 0; i < len(words); i++ {
		switch w := words[i]; {
		case w == "--":
			inv.args = append(inv.args, words[i+1:]...)
			return inv, nil, true
		case len(w) > 1 && w[0] == '-':
			used, err := p.takeFlag(inv, words[i:])
			if f, _ := p.findFlag(inv.path, w); err != nil && f != nil && i == len(words)-1 {
				return inv, f, false
			}
			i += max(used, 1) - 1
		default:
			_ = p.takeWord(inv, w) // an unknown word is passed over
		}
	}
	return inv, nil, false
}

// attachedValues offers values of f, each behind what the shell takes for the
// same word.
func (p Program) attachedValues(ctx context.Context, f cli.Flag, t Typed, before string) []entry {
	if f == nil || !takesValue(f) {
		return nil
	}
	t.Flag = f.Names()[0]
	out := p.values(ctx, alternatives(f), t)
	for i := range out {
		out[i].typed = before + out[i].typed
	}
	return out
}

// values offers what alternatives allow.
func (p Program) values(ctx context.Context, alternatives []string, t Typed) []entry {
	var out []entry
	for _, a := range alternatives {
		if literal(a) {
			out = append(out, entry{typed: a})
		} else if w := p.word(a); w.Complete != nil {
			for _, v := range w.Complete(ctx, t) {
				typed, does, _ := strings.Cut(v, "\t")
				out = append(out, entry{typed, does})
			}
		}
	}
	return matching(out, t.Prefix)
}

// matching keeps the candidates that begin with prefix and fit on one line.
func matching(all []entry, prefix string) []entry {
	return slices.DeleteFunc(all, func(e entry) bool {
		return !strings.HasPrefix(e.typed, prefix) || strings.Contains(e.typed+e.does, "\n")
	})
}

func (p Program) flagCandidates(inv *invocation) []entry {
	out := []entry{{"--help", "explain the command"}}
	for level := len(inv.path); level >= 0; level-- {
		for _, f := range p.flagsAt(inv.path, level) {
			if hidden(f) {
				continue
			}
			for _, n := range f.Names() {
				out = append(out, entry{dashed(n), explanation(f)})
			}
		}
	}
	return out
}

// wordCandidates offers commands, or values for the argument that is due.
func (p Program) wordCandidates(ctx context.Context, inv *invocation, t Typed) []entry {
	subs := p.under(inv.path)
	if len(subs) > 0 {
		var out []entry
		for _, c := range subs {
			if !c.Hidden {
				out = append(out, entry{c.Name, c.Usage})
			}
		}
		return matching(out, t.Prefix)
	}
	if len(inv.path) == 0 {
		return nil
	}
	s, ok := slotOf(slots(p.argsUsage(inv.path)), len(inv.args))
	if !ok {
		return nil
	}
	return p.values(ctx, s.alternatives, t)
}
