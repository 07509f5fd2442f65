package main_test

import (
	"slices"
	"testing"

	"storaged/internal/record"
	"storaged/internal/service/contract"
)

// last is the number of the job made last.
func (h *host) last() int64 {
	h.t.Helper()
	l := must(h.client.Jobs(h.ctx(), contract.JobFilter{}, contract.Page{Limit: 1}))(h.t)
	return l.Items[0].Number
}

// planned fails unless a request was answered with a plan and made no job.
func (h *host) planned(what string, ask func() (started, error)) {
	h.t.Helper()
	before := h.last()
	st := must(ask())(h.t)
	if st.Job != nil || st.Plan == nil || st.Plan.Kind == "" || len(st.Plan.Argv) == 0 || len(st.Plan.Objects) == 0 {
		h.t.Errorf("%s: the answer is job %s, plan %s", what, shown(st.Job), shown(st.Plan))
	}
	if now := h.last(); now != before {
		h.t.Errorf("%s: job %d was made", what, now)
	}
}

// A dry run makes no job, whatever it is a run of, the retry of any kind too.
func TestDryRunStartsNothing(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	for _, d := range deeds() {
		d.prepare(h, d.name)
		h.planned(d.name, func() (started, error) { return d.start(h, d.name, dryRun) })
		st := h.began(d.start(h, d.name))
		h.cancelUnlessEnded(st)
		handed := slices.Contains([]string{"upload", "create-from", "download"}, d.name) // and cannot be retried
		if j := h.end(st, nil); j.State == record.Canceled && !handed {
			h.planned("retry of "+d.name, func() (started, error) {
				return h.retry(j, dryRun)
			})
		}
	}
}
