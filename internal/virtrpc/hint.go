package virtrpc

import (
	"regexp"
	"strings"

	"storaged/internal/record"
)

// virshFlags are the options of requests that virsh has too, by what they are called
// there. What its users cannot ask for is not here.
var virshFlags = map[string]string{
	"allocate":         "allocate",         // vol-resize
	"allocation":       "allocation",       // vol-create-as
	"capacity":         "capacity",         // vol-create-as
	"format":           "format",           // vol-create-as
	"overwrite":        "overwrite",        // pool-build
	"shrink":           "shrink",           // vol-resize
	"source_devices":   "source-dev",       // pool-define-as, as the next
	"source_format":    "source-format",    //
	"source_hosts":     "source-host",      //
	"source_initiator": "source-initiator", //
	"source_name":      "source-name",      //
	"source_path":      "source-path",      //
	"source_secret":    "secret-usage",     //
	"source_username":  "auth-username",    //
	"target_path":      "target",           //
	"with_snapshots":   "delete-snapshots", // vol-delete
}

// inVirsh writes an option as virsh's; ok is false where it has none.
func inVirsh(o record.Option) (flag string, ok bool) {
	flag, ok = virshFlags[o.Name]
	if o.Name == "allocation" && o.Value == "none" {
		o.Value = "0"
	}
	return strings.TrimSpace("--" + flag + " " + o.Value), ok
}

// advice is a hint in words for clients of libvirt: commands of storagedctl are whole,
// and options of the call that was refused are virsh's. Alternatives that name another
// option are left out; "" is no advice.
func advice(h record.Hint) string {
	all := []alternative{{}}
	for _, p := range h {
		last := &all[len(all)-1]
		switch {
		case p.Call == nil:
			all = append(all[:len(all)-1], split(*last, p.Text)...)
		case p.Call.Verb != "":
			last.words += p.Call.CommandLine()
		default:
			last.option(p.Call)
		}
	}
	words := ""
	for _, a := range all {
		if a.foreign || a.words == "" {
			continue
		}
		if words != "" {
			words += a.before
		}
		words += a.words
	}
	return words
}

// alternative is one of the things that a hint says may be done.
type alternative struct {
	before  string // between the one before and it
	words   string
	foreign bool // it names an option that virsh has not
}

// option adds options of the call that was refused.
func (a *alternative) option(c *record.Call) {
	flags := append([]string(nil), c.Args...)
	for _, o := range c.Options {
		flag, ok := inVirsh(o)
		flags, a.foreign = append(flags, flag), a.foreign || !ok
	}
	a.words += strings.Join(flags, " ")
}

var (
	between = regexp.MustCompile(`; or |; |, or `)
	// firstFlag is an option in words that come from a helper: one that stands for itself,
	// not behind a command.
	firstFlag = regexp.MustCompile(`^--([a-z-]+)`)
)

// split goes on with an alternative by words in which it may end and others begin.
func split(a alternative, text string) []alternative {
	seps := between.FindAllString(text, -1)
	var all []alternative
	for i, words := range between.Split(text, -1) {
		if i > 0 {
			a = alternative{before: seps[i-1]}
		}
		if m := firstFlag.FindStringSubmatch(words); m != nil && a.words == "" {
			_, ok := virshFlags[strings.ReplaceAll(m[1], "-", "_")]
			a.foreign = a.foreign || !ok
		}
		a.words += words
		all = append(all, a)
	}
	return all
}
