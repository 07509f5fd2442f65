package service

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"storaged/internal/record"
	"storaged/internal/secret"
	"storaged/internal/service/contract"
	"storaged/internal/store"
)

// What the source of a pool logs in by may get another value, and stays as long as the
// pool refers to it, also if that is to be so later only.
func TestSecretOfASourceStays(t *testing.T) {
	login := func(secret string) record.Source { return record.Source{Username: "u", Secret: secret} }
	s, st, _ := knowing(t, "this", &store.Pool{Pool: record.Pool{
		Name: "p", UUID: "u", State: record.PoolActive, Source: login("now"), Next: &record.Definition{Source: login("later")},
	}})
	var err error
	if s.secrets, err = secret.Open(filepath.Join(t.TempDir(), "secrets")); err != nil {
		t.Fatal(err)
	}
	s.log = hclog.NewNullLogger()
	for _, name := range []string{"now", "later"} {
		for _, value := range []string{"one", "other"} {
			if _, err := s.SetSecret(t.Context(), contract.Submit{}, name, []byte(value)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		err := s.DeleteSecret(t.Context(), contract.Submit{}, name)
		if record.CodeOf(err) != record.Busy || !strings.Contains(err.Error(), `pool "p"`) {
			t.Errorf("%s: %v", name, err)
		}
	}
	all, err := s.Secrets(t.Context())
	if err != nil || len(all) != 2 || all[0].Uses != 1 || all[0].UsedBy[0] != "p" {
		t.Errorf("%+v, %v", all, err)
	}
	p := &store.Pool{Pool: record.Pool{Name: "q", UUID: "q", Type: "dir", Target: record.Target{Path: "/q"}, Source: login("none")}}
	if err := s.definable(p); record.CodeOf(err) != record.NotFound {
		t.Errorf("a secret that is not there: %v", err)
	}
	if err := st.Update(func(tx *store.Tx) error { return s.define(tx, p) }); record.CodeOf(err) != record.NotFound {
		t.Errorf("a secret that is not there: %v", err)
	}
}
