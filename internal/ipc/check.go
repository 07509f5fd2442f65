package ipc

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds of what a message may hold, both sent and received.
const (
	// MaxPhases bounds a plan. A plan must fit a frame too: with names of 16
	// bytes about 40 phases do.
	MaxPhases = 64
	// MaxWarnings bounds the warnings kept with a job; a disk that is failing
	// has more to say than anybody reads.
	MaxWarnings = 32

	maxName    = 64   // a phase, a code, a version
	maxText    = 1024 // a warning, a hint
	maxMessage = 4096 // an error's message
	maxLogText = 3072 // leaves room for the rest of a frame
	maxPath    = 4096 // PATH_MAX, limits.h

	maxNames = 3072 // of names in one order, with nameCost each; leaves room for the rest of a frame
	nameCost = 3    // what a name takes in a frame beside its bytes

	maxCapabilities = 64 // of a set
	maxLacks        = 3  // with a text each they fit a frame
	// maxWeight keeps the sum of all weights finite; weights may be bytes.
	maxWeight = 1e30
)

func (h Hello) check() error {
	if h.Proto < 1 || h.ProtoMin < 1 || h.ProtoMin > h.Proto || h.PID < 1 {
		return fmt.Errorf("proto %d, proto_min %d or pid %d out of range", h.Proto, h.ProtoMin, h.PID)
	}
	return cmp.Or(checkName("job", h.Job), checkName("version", h.Version))
}

func (p Plan) check() error {
	if len(p.Phases) > MaxPhases {
		return fmt.Errorf("%d phases, at most %d", len(p.Phases), MaxPhases)
	}
	for _, ph := range p.Phases {
		if err := ph.check(); err != nil {
			return fmt.Errorf("phase %q: %w", ph.Name, err)
		}
	}
	return nil
}

func (p PlanPhase) check() error {
	if p.Unit != "bytes" && p.Unit != "items" {
		return fmt.Errorf("unit %q", p.Unit)
	}
	if math.IsNaN(p.Weight) || p.Weight < 0 || p.Weight > maxWeight {
		return fmt.Errorf("weight %g out of range", p.Weight)
	}
	if strings.Trim(p.Mask, "QRMGWD") != "" {
		return fmt.Errorf("mask %q", p.Mask)
	}
	return cmp.Or(checkName("name", p.Name), notNegative("total", p.Total))
}

func (p Phase) check() error { return checkIndex(p.Index) }

func (p Progress) check() error {
	return cmp.Or(checkIndex(p.Phase),
		notNegative("done", p.Done), notNegative("durable", p.Durable), notNegative("total", p.Total),
		notNegative("work", p.Work), notNegative("work_all", p.WorkAll), notNegative("holes", p.Holes),
		notNegative("read", p.Read), notNegative("written", p.Written), notNegative("allocated", p.Allocated))
}

func (Beat) check() error { return nil }

func (c Checkpoint) check() error {
	return cmp.Or(checkIndex(c.Phase), notNegative("done", c.Done))
}

func (s State) check() error {
	switch s.Activity {
	case ActivityRunning, ActivityPaused, ActivityCanceling, ActivityRollingBack, ActivityFinalizing:
	default:
		return fmt.Errorf("activity %q", s.Activity)
	}
	return cmp.Or(notNegative("limit", s.Limit), notNegative("sender_pid", int64(s.SenderPID)), checkText("waits", s.Waits, maxText))
}

func (w Window) check() error {
	return cmp.Or(notNegative("id", w.ID), notNegative("next", w.Next))
}

func (l Log) check() error {
	if !slices.Contains([]string{"trace", "debug", "info", "warn", "error"}, l.Level) {
		return fmt.Errorf("level %q", l.Level)
	}
	return checkText("text", l.Text, maxLogText)
}

func (w Warn) check() error { return checkText("text", w.Text, maxText) }

func (r Result) check() error {
	return cmp.Or(r.Outcome.check(), checkDigest(r.Digest))
}

func (c Confined) check() error {
	if !slices.Contains([]string{"none", "partial", "full"}, c.Level) {
		return fmt.Errorf("level %q", c.Level)
	}
	if len(c.Capabilities) > maxCapabilities || len(c.Lacks) > maxLacks {
		return fmt.Errorf("%d capabilities and %d lacks", len(c.Capabilities), len(c.Lacks))
	}
	for _, name := range c.Capabilities {
		if err := checkName("capabilities", name); err != nil {
			return err
		}
	}
	for _, text := range c.Lacks {
		if err := checkText("lacks", text, maxText); err != nil {
			return err
		}
	}
	return notNegative("landlock", int64(c.Landlock))
}

func (g Go) check() error {
	if g.Fill < 0 || g.Fill > 100 {
		return fmt.Errorf("fill %d", g.Fill)
	}
	return cmp.Or(notNegative("proto", int64(g.Proto)), notNegative("limit", g.Limit), checkNames(g.Names))
}

func (Cancel) check() error { return nil }
func (Pause) check() error  { return nil }
func (Resume) check() error { return nil }
func (Resync) check() error { return nil }

func (WindowCall) check() error { return nil }
func (Fence) check() error      { return nil }

func (a Again) check() error     { return checkNames(a.Names) }
func (l Limit) check() error     { return notNegative("rate", l.Rate) }
func (w WindowAck) check() error { return notNegative("id", w.ID) }

// FitNames is how many of the first of names fit into one order.
func FitNames(names []string) int {
	size := 0
	for i, name := range names {
		if size += len(name) + nameCost; size > maxNames {
			return i
		}
	}
	return len(names)
}

func checkNames(names []string) error {
	if n := FitNames(names); n < len(names) {
		return fmt.Errorf("%d names, of which %d fit", len(names), n)
	}
	for _, name := range names {
		if err := checkUTF8("names", name, maxPath); err != nil {
			return err
		}
	}
	return nil
}

func (o Outcome) check() error {
	if o != Succeeded && o != Failed && o != Canceled {
		return fmt.Errorf("outcome %q", o)
	}
	return nil
}

func checkIndex(i int) error {
	if i < 0 || i >= MaxPhases {
		return fmt.Errorf("phase index %d out of range", i)
	}
	return nil
}

// notNegative also catches what a peer sent as a large unsigned number:
// msgpack wraps it into a negative one.
func notNegative(field string, n int64) error {
	if n < 0 {
		return fmt.Errorf("%s is %d, below 0", field, n)
	}
	return nil
}

// checkName holds for words that are shown as they are.
func checkName(field, s string) error {
	if len(s) > maxName {
		return fmt.Errorf("%s has %d bytes, at most %d", field, len(s), maxName)
	}
	for _, r := range s {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return fmt.Errorf("%s %q is not printable", field, s)
		}
	}
	return nil
}

// checkText holds for one line of text in UTF-8.
func checkText(field, s string, limit int) error {
	if strings.ContainsFunc(s, unicode.IsControl) {
		return fmt.Errorf("%s has control characters", field)
	}
	return checkUTF8(field, s, limit)
}

func checkUTF8(field, s string, limit int) error {
	if len(s) > limit {
		return fmt.Errorf("%s has %d bytes, at most %d", field, len(s), limit)
	}
	if !utf8.ValidString(s) {
		return fmt.Errorf("%s is not UTF-8", field)
	}
	return nil
}

// checkDigest holds for a SHA-256 in lower-case hex.
func checkDigest(s string) error {
	if len(s) != 64 || strings.Trim(s, "0123456789abcdef") != "" {
		return fmt.Errorf("digest %q", s)
	}
	return nil
}

// cutText makes any bytes into text that checkText accepts, and says whether
// it had to leave out the end.
func cutText(s string, limit int) (text string, cut bool) {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\ufffd"))
	if len(s) <= limit {
		return s, false
	}
	n := limit
	for !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n], true
}
