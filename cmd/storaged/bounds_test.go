package main_test

import (
	"strings"
	"testing"

	"storaged/internal/record"
	"storaged/internal/service/contract"
)

// A label may be as long as the contract says, at the start of a job and later.
func TestLabelMayBeAsLongAsTheContractSays(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	value := strings.Repeat("x", record.MaxLabelValue)
	name := strings.Repeat("k", record.MaxLabelName)
	create := func(volume string, labels map[string]string) (started, error) {
		return h.create(volume, 4096, labeled(labels))
	}
	j := h.succeed(create("a", map[string]string{name: value}))
	if j.Labels[name] != value {
		t.Errorf("labels are %.60v", j.Labels)
	}
	j, err := h.client.PatchJob(h.ctx(), j.ID, contract.JobPatch{Labels: map[string]*string{"other": &value}})
	if err != nil || j.Labels["other"] != value || j.Labels[name] != value {
		t.Errorf("patched: %v", err)
	}
	for what, labels := range map[string]map[string]string{
		"a longer value": {"k": value + "x"}, "a longer name": {name + "k": "x"}, "a name with =": {"a=b": "x"}, "two lines": {"a": "b\nc"},
	} {
		if _, err := create("b", labels); record.CodeOf(err) != record.Invalid {
			t.Errorf("%s: %v", what, err)
		}
	}
}
