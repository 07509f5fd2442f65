package ipc

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"storaged/internal/record"
)

const (
	maxLimits = 32  // of a wipe, in Summary.Limits
	maxPools  = 2   // that one task changes
	maxSum    = 256 // a checksum with its algorithm

	maxReferences = record.MaxReferences // of an image
	maxFree       = 2 * record.MaxFree   // numbers, two of each free extent
	maxThin       = record.MaxThinPools  // pools of thin volumes in a group
	maxHeaders    = 16                   // formats of one volume
	maxExtents    = record.MaxExtents    // of one volume
	maxOptions    = 16                   // of its creation

	maxState = 64 << 10 // what a task keeps in a checkpoint
)

func (s Summary) check() error {
	if !slices.Contains([]string{"", "none", "done", "kept_partial", "failed"}, s.Rollback) {
		return fmt.Errorf("rollback %q", s.Rollback)
	}
	if len(s.Phases) > MaxPhases || len(s.Limits) > maxLimits || len(s.Warnings) > MaxWarnings {
		return fmt.Errorf("%d phases, %d limits, %d warnings: at most %d, %d, %d",
			len(s.Phases), len(s.Limits), len(s.Warnings), MaxPhases, maxLimits, MaxWarnings)
	}
	if len(s.Pools) > maxPools {
		return fmt.Errorf("%d pools, at most %d", len(s.Pools), maxPools)
	}
	if s.ItemCount > maxItems {
		return fmt.Errorf("%d items, at most %d", s.ItemCount, maxItems)
	}
	return cmp.Or(s.Outcome.check(), s.checkWords(), s.checkFigures(), s.checkObjects())
}

func (s Summary) checkWords() error {
	for _, t := range slices.Concat(s.Limits, s.Warnings) {
		if err := checkText("a limit or warning", t, maxText); err != nil {
			return err
		}
	}
	return cmp.Or(checkName("method", s.Method), checkName("algorithm", s.Algorithm),
		checkUTF8("device", s.Device, maxPath), checkText("checksum", s.Checksum, maxSum))
}

func (s Summary) checkFigures() error {
	for _, p := range s.Phases {
		if err := cmp.Or(checkName("phase", p.Name), notNegative("ns", p.NS)); err != nil {
			return err
		}
	}
	return cmp.Or(notNegative("passes", int64(s.Passes)), notNegative("bytes", s.Bytes), notNegative("reach", s.Reach),
		notNegative("read", s.Read), notNegative("written", s.Written), notNegative("holes", s.Holes),
		notNegative("max_rss", s.MaxRSS), notNegative("item_count", int64(s.ItemCount)))
}

func (s Summary) checkObjects() error {
	if s.Error != nil {
		if err := s.Error.check(); err != nil {
			return fmt.Errorf("error: %w", err)
		}
	}
	if s.Volume != nil {
		if err := s.Volume.check(); err != nil {
			return fmt.Errorf("volume: %w", err)
		}
	}
	if s.Snapshot != nil {
		if err := s.Snapshot.check(); err != nil {
			return fmt.Errorf("snapshot: %w", err)
		}
	}
	if s.Check != nil {
		if err := s.Check.check(); err != nil {
			return fmt.Errorf("check: %w", err)
		}
	}
	if s.Pool != nil {
		if err := s.Pool.check(); err != nil {
			return fmt.Errorf("pool: %w", err)
		}
	}
	for _, p := range s.Pools {
		if err := p.check(); err != nil {
			return fmt.Errorf("pools: %w", err)
		}
	}
	return nil
}

func (e *Error) check() error {
	if e.Code == "" || e.Offset < -1 {
		return fmt.Errorf("code %q or offset %d", e.Code, e.Offset)
	}
	return cmp.Or(checkName("code", e.Code), checkText("message", e.Message, maxMessage),
		checkText("hint", e.Hint, maxText), checkUTF8("path", e.Path, maxPath), checkText("holder", e.Holder, maxText))
}

func (it Item) check() error {
	if it.Error != nil {
		if err := it.Error.check(); err != nil {
			return fmt.Errorf("error: %w", err)
		}
	}
	if len(it.Options) > maxOptions {
		return fmt.Errorf("%d options, at most %d", len(it.Options), maxOptions)
	}
	for _, o := range it.Options {
		if err := checkName("option", o); err != nil {
			return err
		}
	}
	if err := it.Source.check(); err != nil {
		return fmt.Errorf("source: %w", err)
	}
	if len(it.As) > maxHeaders {
		return fmt.Errorf("%d formats, at most %d", len(it.As), maxHeaders)
	}
	for _, h := range it.As {
		if err := h.check(); err != nil {
			return fmt.Errorf("as: %w", err)
		}
	}
	return cmp.Or(checkReferences(it.References), checkExtents(it.Extents),
		checkUTF8("name", it.Name, maxPath), checkUTF8("path", it.Path, maxPath),
		checkUTF8("key", it.Key, maxPath), checkUTF8("backing", it.Backing, maxPath),
		checkName("identity", it.Identity), checkName("type", it.VolType), checkName("format", it.Format), checkName("state", it.State),
		checkText("checksum", it.Checksum, maxSum), checkText("checksum_as", it.ChecksumAs, maxSum), checkText("ignored", it.Ignored, maxText),
		checkText("problem", it.Problem, maxText), checkName("mode", it.Mode), checkID("owner", it.Owner), checkID("group", it.Group), checkText("label", it.Label, maxText),
		notNegative("internal", it.Internal), notNegative("capacity", it.Capacity), notNegative("size", it.Size), notNegative("allocation", it.Allocation))
}

func (s *Source) check() error {
	if s == nil {
		return nil
	}
	return s.Record().Check()
}

func (h Header) check() error {
	return cmp.Or(checkName("format", h.Format), checkReferences(h.References), checkUTF8("backing", h.Backing, maxPath),
		checkText("problem", h.Problem, maxText), notNegative("capacity", h.Capacity))
}

func checkReferences(all []Reference) error {
	if len(all) > maxReferences {
		return fmt.Errorf("%d references, at most %d", len(all), maxReferences)
	}
	for _, r := range all {
		if err := cmp.Or(checkUTF8("reference", r.Name, maxPath), checkUTF8("reference's path", r.Path, maxPath), checkName("reference's identity", r.Identity), checkName("reference's format", r.Format)); err != nil {
			return err
		}
	}
	return nil
}

// checkID refuses what no user or group can have.
func checkID(name string, id int64) error {
	if id < 0 || id > math.MaxUint32 {
		return fmt.Errorf("%s %d", name, id)
	}
	return nil
}

func checkExtents(all []Extent) error {
	if len(all) > maxExtents {
		return fmt.Errorf("%d extents, at most %d", len(all), maxExtents)
	}
	for _, x := range all {
		if err := cmp.Or(checkUTF8("device", x.Device, maxPath), notNegative("start", x.Start), notNegative("end", x.End)); err != nil {
			return fmt.Errorf("extents: %w", err)
		}
	}
	return nil
}

func (c Check) check() error {
	return cmp.Or(notNegative("errors", c.Errors), notNegative("corruptions", c.Corruptions), notNegative("leaks", c.Leaks),
		notNegative("repaired_corruptions", c.RepairedCorruptions), notNegative("repaired_leaks", c.RepairedLeaks),
		notNegative("clusters", c.Clusters), notNegative("allocated", c.Allocated))
}

func (p Pool) check() error {
	if len(p.Free) > maxFree || len(p.Free)%2 != 0 {
		return fmt.Errorf("%d ends of free extents, at most %d", len(p.Free), maxFree)
	}
	if len(p.Thin) > maxThin {
		return fmt.Errorf("%d pools of thin volumes, at most %d", len(p.Thin), maxThin)
	}
	for _, t := range p.Thin {
		if err := t.check(); err != nil {
			return fmt.Errorf("thin: %w", err)
		}
	}
	return cmp.Or(checkUTF8("target", p.Target, maxPath), checkUTF8("path", p.Path, maxPath), checkName("disk", p.Disk), checkName("identity", p.Identity),
		checkName("mode", p.Mode), checkID("owner", p.Owner), checkID("group", p.Group), checkText("label", p.Label, maxText),
		notNegative("capacity", p.Capacity), notNegative("allocation", p.Allocation), notNegative("available", p.Available))
}

func (t Thin) check() error {
	return cmp.Or(checkText("name", t.Name, maxText), notNegative("capacity", t.Capacity), notNegative("allocation", t.Allocation),
		notNegative("meta_capacity", t.MetaCapacity), notNegative("meta_allocation", t.MetaAllocation))
}

func (m Mark) check() error {
	return cmp.Or(checkName("task", m.Task), checkIndex(m.Phase), notNegative("done", m.Done), notNegative("total", m.Total),
		notNegative("read", m.Read), notNegative("written", m.Written),
		checkText("draft", m.Draft, maxText), checkText("state", m.State, maxState))
}

func (e End) check() error {
	return cmp.Or(notNegative("records", int64(e.Records)), checkDigest(e.Digest))
}

// tidied gives a summary whose texts fit, so that a long complaint of a tool
// never costs a task its result.
func (s Summary) tidied() Summary {
	s.Error = s.Error.tidied()
	s.Limits = tidyAll(s.Limits, maxLimits)
	s.Warnings = tidyAll(s.Warnings, MaxWarnings)
	if s.Volume != nil {
		v := s.Volume.tidied()
		s.Volume = &v
	}
	if s.Snapshot != nil {
		v := s.Snapshot.tidied()
		s.Snapshot = &v
	}
	return s
}

func (e *Error) tidied() *Error {
	if e == nil {
		return nil
	}
	t := *e
	t.Message = tidy(e.Message, maxMessage)
	t.Hint = tidy(e.Hint, maxText)
	t.Path = tidy(e.Path, maxPath)
	t.Holder = tidy(e.Holder, maxText)
	return &t
}

func (it Item) tidied() Item {
	it.Error = it.Error.tidied()
	it.Ignored, it.Problem = tidy(it.Ignored, maxText), tidy(it.Problem, maxText)
	it.As = slices.Clone(it.As)
	for i := range it.As {
		it.As[i].Problem = tidy(it.As[i].Problem, maxText)
	}
	return it
}

// tidyAll keeps the first of too many texts and says how many there were.
func tidyAll(texts []string, limit int) []string {
	out := make([]string, 0, min(len(texts), limit))
	for i, t := range texts {
		if i == limit-1 && len(texts) > limit {
			return append(out, fmt.Sprintf("and %d more, not kept", len(texts)-i))
		}
		out = append(out, tidy(t, maxText))
	}
	return out
}

func tidy(s string, limit int) string {
	const ellipsis = "…"
	if t, cut := cutText(s, limit); !cut {
		return t
	}
	t, _ := cutText(s, limit-len(ellipsis))
	return t + ellipsis
}
