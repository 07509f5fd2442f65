package record

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Hint is what to do about an error: words, and calls as data, which each front
// end writes for its own users. nil is none. As JSON it is an array of strings
// and calls; a string alone, as the version before wrote it, is read as words.
type Hint []HintPart

// HintPart is a piece of a hint: Call, or Text where that is nil.
type HintPart struct {
	Text string
	Call *Call
}

// Call is something that can be asked of storaged.
type Call struct {
	Verb    string   `json:"verb,omitempty"`    // like pool.start; "": only options of the call that was refused
	Args    []string `json:"args,omitempty"`    // the objects, in order
	Options []Option `json:"options,omitempty"` // beside them
}

// Option is a member of a request by its name there; a front end may call it
// otherwise. Value is "" for one that is on or off.
type Option struct {
	Name  string `json:"name"`
	Value string `json:"value,omitempty"`
}

// Do makes a call of a verb with objects.
func Do(verb string, args ...any) Call {
	c := Call{Verb: verb}
	for _, a := range args {
		c.Args = append(c.Args, fmt.Sprint(a))
	}
	return c
}

// With adds an option to a call; no value is one that is on.
func (c Call) With(name string, value ...any) Call {
	c.Options = append(slices.Clone(c.Options), Option{Name: name, Value: fmt.Sprint(value...)})
	return c
}

// Hintf makes a hint. Operands that are calls or hints stay what they are; their
// verb in the format is %s.
func Hintf(format string, operands ...any) Hint {
	var calls []Hint
	for i, o := range operands {
		var h Hint
		switch o := o.(type) {
		case Call:
			h = Hint{{Call: &o}}
		case Hint:
			h = o
		case string:
			operands[i] = strings.ReplaceAll(o, mark, "")
			continue
		default:
			continue
		}
		operands[i] = mark
		calls = append(calls, h)
	}
	var hint Hint
	for i, text := range strings.Split(fmt.Sprintf(format, operands...), mark) {
		if i > 0 {
			hint = append(hint, calls[i-1]...)
		}
		if text != "" {
			hint = append(hint, HintPart{Text: text})
		}
	}
	return hint
}

// mark stands for a call while the words around it are put together: no text
// has it.
const mark = "\x00"

// Words gives the hint as a sentence; write writes the calls.
func (h Hint) Words(write func(Call) string) string {
	var b strings.Builder
	for _, p := range h {
		if p.Call != nil {
			b.WriteString(write(*p.Call))
		} else {
			b.WriteString(p.Text)
		}
	}
	return b.String()
}

// String writes the calls as words, for logs.
func (h Hint) String() string {
	return h.Words(func(c Call) string {
		words := append(strings.Split(c.Verb, "."), c.Args...)
		for _, o := range c.Options {
			words = append(words, strings.TrimSuffix(o.Name+"="+o.Value, "="))
		}
		return strings.TrimSpace(strings.Join(words, " "))
	})
}

// MarshalJSON writes words as a string, and a call as an object.
func (p HintPart) MarshalJSON() ([]byte, error) {
	if p.Call != nil {
		return json.Marshal(p.Call)
	}
	return json.Marshal(p.Text)
}

// UnmarshalJSON reads either.
func (p *HintPart) UnmarshalJSON(b []byte) error {
	*p = HintPart{}
	if len(b) > 0 && b[0] == '"' {
		return json.Unmarshal(b, &p.Text)
	}
	p.Call = &Call{}
	return json.Unmarshal(b, p.Call)
}

// UnmarshalJSON reads a hint, of this version or the one before.
func (h *Hint) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		*h = Hint{{}}
		return json.Unmarshal(b, &(*h)[0].Text)
	}
	return json.Unmarshal(b, (*[]HintPart)(h))
}

// CommandLine writes the call as one of storagedctl.
func (c Call) CommandLine() string {
	var words []string
	if c.Verb != "" {
		verb := strings.NewReplacer("volume.", "vol.", "snapshot.", "vol.snapshot.").Replace(c.Verb)
		words = append([]string{"storagedctl"}, strings.Split(verb, ".")...)
	}
	words = append(words, c.Args...)
	for _, o := range c.Options {
		words = append(words, strings.TrimSpace("--"+FlagOf(o.Name)+" "+o.Value))
	}
	return strings.Join(words, " ")
}

// FlagOf is what a member of a request is called on the command line.
func FlagOf(member string) string {
	name, ok := map[string]string{
		"target_path": "target", "source_devices": "source-dev", "source_hosts": "source-host", "source_options": "option", "labels": "label",
		"pool_running": "running", "device_running": "running", "pool_rates": "rate", "device_rates": "rate",
	}[member]
	if !ok {
		name = strings.ReplaceAll(member, "_", "-")
	}
	return name
}
