package locks

import (
	"cmp"
	"fmt"
	"slices"

	"storaged/internal/record"
)

// OpenWindow lets visitors in whose modes are in mask, those that wait at
// once. A second call changes the mask for those to come; a closing window
// opens again. Only a job that holds its objects and is no visitor itself can
// open one.
func (m *Manager) OpenWindow(id string, mask []record.Mode) (Change, error) {
	c := m.claims[id]
	if c == nil || !c.held || c.Visits {
		return Change{}, fmt.Errorf("job %q cannot open a window: it holds nothing or is a visitor", id)
	}
	c.open, c.closing, c.mask = true, false, slices.Clone(mask)
	return Change{Granted: m.advance()}, nil
}

// CloseWindow lets no new visitor in and gives those still inside. With none
// the window is closed; otherwise the Release of the last of them reports the
// job as vacated. Closing what is not open is the same.
func (m *Manager) CloseWindow(id string) (inside []string) {
	c := m.claims[id]
	if c == nil {
		return nil
	}
	c.open, c.mask = false, nil
	c.closing = len(c.inside) > 0
	return c.visitors()
}

// OnCall says for which modes a holder opens a window when it is called for;
// without any it opens windows, if at all, when it likes.
func (m *Manager) OnCall(id string, mask []record.Mode) {
	if c := m.claims[id]; c != nil {
		c.onCall = slices.Clone(mask)
	}
}

// Wanted reports whether a visitor waits only for windows: that of this holder,
// and perhaps those of others, each of which is open or opens on call.
func (m *Manager) Wanted(id string) bool {
	c := m.claims[id]
	if c == nil || !c.held {
		return false
	}
	for _, o := range c.Objects {
		near := m.stakes[key{o.Pool, o.Volume}]
		if o.Volume == "" {
			near = m.members[o.Pool]
		}
		if near != nil && slices.ContainsFunc(near.waiting, func(s stake) bool { return m.calls(s.claim, c) }) {
			return true
		}
	}
	return false
}

// calls reports whether w would come in if all who are in its way, holder among
// them, had a window open.
func (m *Manager) calls(w, holder *claim) bool {
	met := false
	for e := range m.conflicts(w) {
		if !e.lets(w) && !e.opensOnCall(w) {
			return false
		}
		met = met || e.other.claim == holder
	}
	return met
}

// opensOnCall reports whether e is an obstacle that goes when it is called.
func (e conflict) opensOnCall(c *claim) bool {
	return c.visits(e.asked) && e.other.held && slices.Contains(e.other.onCall, e.asked.Mode)
}

// Visitors gives the jobs inside a job's window, open or closing.
func (m *Manager) Visitors(id string) []string {
	if c := m.claims[id]; c != nil {
		return c.visitors()
	}
	return nil
}

func (c *claim) visitors() []string {
	var ids []string
	for _, v := range c.inside {
		ids = append(ids, v.ID)
	}
	return ids
}

// admit notes that v is inside.
func (c *claim) admit(v *claim) {
	if !slices.Contains(c.inside, v) {
		c.inside = append(c.inside, v)
	}
}

// vacate takes v out of all windows and gives the jobs that waited for that,
// in order of asking.
func (m *Manager) vacate(v *claim) []string {
	var done []*claim
	for _, c := range m.claims {
		c.inside = slices.DeleteFunc(c.inside, func(in *claim) bool { return in == v })
		if c.closing && len(c.inside) == 0 {
			c.closing = false
			done = append(done, c)
		}
	}
	slices.SortFunc(done, func(a, b *claim) int { return cmp.Compare(a.order, b.order) })
	var ids []string
	for _, c := range done {
		ids = append(ids, c.ID)
	}
	return ids
}
