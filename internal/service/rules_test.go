package service_test

import (
	"context"
	"slices"
	"testing"

	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/service/contract"
)

// The rules of the host's administrator, where there are any.
func TestRulesAreAsked(t *testing.T) {
	f := newPool(t)
	t.Run("about every change", func(t *testing.T) { askedAboutChanges(t, f) })
	t.Run("about the jobs of others", func(t *testing.T) { askedAboutJobs(t, f) })
}

// What may change something is asked of the rules of the host's administrator, and refused
// before anything is looked at.
func askedAboutChanges(t *testing.T, f *frontEnd) {
	var asked []record.Action
	c := record.Caller{Role: record.MemberRole, Owner: record.Owner{UID: 4711}, Ask: func(_ context.Context, a record.Action) error {
		asked = append(asked, a)
		return record.Errorf(record.Denied, "no")
	}}
	ctx, s := t.Context(), contract.Submit{Caller: c}
	define := contract.PoolDefine{}
	define.Name = "p"
	for name, call := range map[record.Action][]func() error{
		record.DefinePools: {
			func() error { _, _, err := f.svc.DefinePool(ctx, s, define, false, true); return err },
			func() error { _, err := f.svc.ReplacePool(ctx, s, "p", define); return err },
			func() error { _, err := f.svc.FindSources(ctx, c, contract.SourcesFind{Type: "dir"}); return err },
			func() error { _, err := f.svc.PatchPool(ctx, s, "p", contract.PoolPatch{}); return err },
			func() error { _, err := f.svc.UndefinePool(ctx, s, "p", contract.PoolUndefine{}); return err },
		},
		record.ChangeVolumes: {func() error { _, err := f.svc.PatchVolume(ctx, s, "p", "v", contract.VolumePatch{}); return err }},
		record.RunPools:      {func() error { _, err := f.svc.Start(ctx, s, "p", "", new(operation.PoolRefreshRequest)); return err }},
		record.DeletePools:   {func() error { _, err := f.svc.Start(ctx, s, "p", "", new(operation.PoolDeleteRequest)); return err }},
		record.DeleteVolumes: {func() error { _, err := f.svc.Start(ctx, s, "p", "v", new(operation.DeleteRequest)); return err }},
	} {
		for _, one := range call {
			asked = nil
			if err := one(); record.CodeOf(err) != record.Denied || !slices.Equal(asked, []record.Action{name}) {
				t.Errorf("%s: asked are %q, %v", name, asked, err)
			}
		}
	}
}

// A job is its owner's, and others need leave for it.
func askedAboutJobs(t *testing.T, f *frontEnd) {
	j := f.do("Start", "p", "", new(operation.PoolRefreshRequest))
	var asked []record.Action
	c := record.Caller{Role: record.MemberRole, Owner: record.Owner{UID: 4711}, Ask: func(_ context.Context, a record.Action) error {
		asked = append(asked, a)
		return record.Errorf(record.Denied, "no")
	}}
	ctx := t.Context()
	for range 2 {
		asked = nil
		_, canceled := f.svc.CancelJob(ctx, c, j.ID, contract.JobCancel{})
		_, paused := f.svc.PauseJob(ctx, c, j.ID)
		_, resumed := f.svc.ResumeJob(ctx, c, j.ID)
		_, patched := f.svc.PatchJob(ctx, c, j.ID, contract.JobPatch{})
		want := record.Denied
		if c.Owner.UID == j.Owner.UID {
			want = ""
		}
		for _, err := range []error{canceled, paused, resumed, patched} {
			if code := record.CodeOf(err); (code == record.Denied) != (want != "") {
				t.Errorf("uid %d gets %v", c.Owner.UID, err)
			}
		}
		if n := len(asked); n != 4 && want != "" || n != 0 && want == "" {
			t.Errorf("uid %d: asked are %q", c.Owner.UID, asked)
		}
		c.Owner.UID = j.Owner.UID
	}
}
