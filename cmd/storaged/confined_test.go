package main_test

import (
	"slices"
	"testing"

	"storaged/internal/confine"
	"storaged/internal/operation"
	"storaged/internal/service/contract"
)

// How far a helper was confined is with its job, and jobs may demand it.
func TestConfinementIsWithTheJob(t *testing.T) {
	t.Parallel()
	h := configured(t, "[helpers]\nconfinement = \""+confine.Available().Word()+"\"\n")
	if st := h.status(); st.Confinement.Minimum != confine.Available().Word() || st.Confinement.Host.Level != confine.Available().Word() {
		t.Errorf("status says %s", shown(st.Confinement))
	}
	h.random("base", 1<<20)
	wiped := h.succeed(h.client.Start(h.ctx(), contract.Submit{}, "pool", "base", &operation.WipeRequest{}))
	c := wiped.Helper.Confinement
	if c == nil || c.Level != confine.Available().Word() || c.Landlock != confine.Available().Landlock || c.Anywhere {
		t.Errorf("a wipe is confined %s", shown(c))
	}
	if c != nil && slices.Contains(c.Capabilities, "dac_override") {
		t.Errorf("a wipe keeps %q", c.Capabilities)
	}
	for _, walks := range []operation.Request{&operation.PoolVerifyRequest{}, &operation.PoolRefreshRequest{}} {
		walked := h.succeed(h.client.Start(h.ctx(), contract.Submit{}, "pool", "", walks))
		if c := walked.Helper.Confinement; c == nil || c.Anywhere || c.Landlock != confine.Available().Landlock || c.Level != confine.Available().Word() {
			t.Errorf("%s is confined %s", walked.Kind, shown(c))
		}
	}
}
