package operation

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"storaged/internal/quantity"
)

// Task is what a helper does: its name on the command line, what people read of
// it, and its flags, which are bound to the fields of one operation.
type Task struct {
	Name        string
	Usage       string
	Description string
	Example     string // flags of a call, one line
	Flags       []Flag
	Asks        bool // it destroys: by hand it asks, unless --yes is given
}

// Argv is the command line of the task, ready for execve(2): every path in it
// is absolute, so that none can be taken for a flag.
func (t Task) Argv() []string {
	argv := []string{t.Name}
	for _, f := range t.Flags {
		argv = append(argv, f.argv()...)
	}
	if t.Asks {
		argv = append(argv, "--yes")
	}
	return argv
}

// Read sets the fields to what Argv has written behind the name of the task. Of what people
// may write besides it knows nothing.
func (t Task) Read(argv []string) error {
	for len(argv) > 0 {
		name, text, joined := strings.Cut(argv[0], "=")
		argv = argv[1:]
		if t.Asks && name == "--yes" && !joined {
			continue
		}
		i := slices.IndexFunc(t.Flags, func(f Flag) bool { return "--"+f.Name == name })
		if i < 0 {
			return fmt.Errorf("%q is no flag of %q", name, t.Name)
		}
		if f := t.Flags[i]; !joined && f.Switch() {
			text = "true"
		} else if !joined {
			if len(argv) == 0 {
				return fmt.Errorf("%s needs a value", name)
			}
			text, argv = argv[0], argv[1:]
		}
		if err := t.Flags[i].Set(text); err != nil {
			return err
		}
	}
	return nil
}

// Flag is one flag of a task, bound to a field.
type Flag struct {
	Name    string
	Usage   string // what stands in backquotes is the value
	Default string // "": there is none to speak of
	value   value
}

// value is a field that a flag sets.
type value interface {
	// set reads what was given; of a repeated flag it adds one.
	set(text string) error
	// texts are what the flag is given with, none where it is left out.
	texts() []string
}

// Set sets the field. The error says what the text should have been.
func (f Flag) Set(text string) error {
	if err := f.value.set(text); err != nil {
		return fmt.Errorf("--%s: %w", f.Name, err)
	}
	return nil
}

// Switch reports whether the flag takes no value.
func (f Flag) Switch() bool {
	_, ok := f.value.(*switched)
	return ok
}

// Repeats reports whether the flag may be given several times.
func (f Flag) Repeats() bool {
	switch f.value.(type) {
	case *list, *layers, *secretFiles, *pairs:
		return true
	}
	return false
}

func (f Flag) argv() (argv []string) {
	for _, text := range f.value.texts() {
		switch {
		case f.Switch():
			argv = append(argv, "--"+f.Name)
		case f.Repeats() || len(text) > 0 && text[0] == '-': // else it could be taken for a flag
			argv = append(argv, "--"+f.Name+"="+text)
		default:
			argv = append(argv, "--"+f.Name, text)
		}
	}
	return argv
}

// word is any text; "" is left out.
type word string

func (w *word) set(text string) error {
	*w = word(text)
	return nil
}

func (w *word) texts() []string {
	if *w == "" {
		return nil
	}
	return []string{string(*w)}
}

// switched is a flag without a value.
type switched bool

func (s *switched) set(text string) (err error) {
	on, err := strconv.ParseBool(text)
	*s = switched(on)
	return err
}

func (s *switched) texts() []string {
	if !*s {
		return nil
	}
	return []string{"true"}
}

// choice is one of two words, of which the second is true.
type choice struct {
	on      *bool
	off, is string
}

func (c choice) set(text string) error {
	if text != c.off && text != c.is {
		return fmt.Errorf("%.40q is neither %s nor %s", text, c.off, c.is)
	}
	*c.on = text == c.is
	return nil
}

func (c choice) texts() []string {
	if !*c.on {
		return nil
	}
	return []string{c.is}
}

// size is a number of bytes; 0 is left out.
type size int64

func (s *size) set(text string) error {
	n, err := quantity.ParseSize(text)
	*s = size(n)
	return err
}

func (s *size) texts() []string {
	if *s == 0 {
		return nil
	}
	return []string{strconv.FormatInt(int64(*s), 10)}
}

// bound is a number of bytes, or nil: none is given, which is not 0.
type bound struct{ at **int64 }

func (b bound) set(text string) error {
	n, err := quantity.ParseSize(text)
	*b.at = &n
	return err
}

func (b bound) texts() []string {
	if *b.at == nil {
		return nil
	}
	return []string{strconv.FormatInt(**b.at, 10)}
}

// everything, as an allocation, is the whole capacity, whatever that is.
const everything = math.MaxInt64

// amount is how much is to have blocks, or nil: the task has a default.
type amount struct{ at **int64 }

func (a amount) set(text string) error {
	var n int64
	switch text {
	case "full":
		n = everything
	case "none":
	default:
		var err error
		if n, err = quantity.ParseSize(text); err != nil {
			return err
		}
	}
	*a.at = &n
	return nil
}

func (a amount) texts() []string {
	switch {
	case *a.at == nil:
		return nil
	case **a.at == everything:
		return []string{"full"}
	}
	return []string{strconv.FormatInt(**a.at, 10)}
}

// number is a decimal number; 0 is left out.
type number int64

func (n *number) set(text string) (err error) {
	i, err := strconv.ParseInt(text, 10, 64)
	*n = number(i)
	return err
}

func (n *number) texts() []string {
	if *n == 0 {
		return nil
	}
	return []string{strconv.FormatInt(int64(*n), 10)}
}

// list is a flag that may be repeated.
type list []string

func (l *list) set(text string) error {
	*l = append(*l, text)
	return nil
}

func (l *list) texts() []string { return *l }

func text(name string, at *string, usage string) Flag {
	return Flag{Name: name, Usage: usage, Default: *at, value: (*word)(at)}
}

func onOff(name string, at *bool, usage string) Flag {
	return Flag{Name: name, Usage: usage, value: (*switched)(at)}
}

func bytes(name string, at *int64, usage string) Flag {
	return Flag{Name: name, Usage: usage, value: (*size)(at)}
}
