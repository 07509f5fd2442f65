package service

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"storaged/internal/catalog"
	"storaged/internal/events"
	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/store"
)

// knowing gives a service that knows one pool, with its store and its events, in a boot of
// the host.
func knowing(t *testing.T, boot string, p *store.Pool) (*Service, *store.Store, *events.Hub) {
	t.Helper()
	st, err := store.Open(filepath.Join(t.TempDir(), "db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	hub := events.New(16)
	t.Cleanup(hub.Close)
	if err := st.Update(func(tx *store.Tx) error { return tx.PutPool(p) }); err != nil {
		t.Fatal(err)
	}
	return &Service{config: Settings{StateDir: "/state", RuntimeDir: "/run"}, store: st, catalog: catalog.New(hub, boot, 7)}, st, hub
}

func TestReplacedPoolKeepsWhatJobsLeftInIt(t *testing.T) {
	s, st, _ := knowing(t, "this", &store.Pool{Unfinished: []string{"job"}, Pool: record.Pool{
		Name: "p", UUID: "u", Type: "dir", State: record.PoolInactive, Target: record.Target{Path: "/p"},
	}})
	if _, err := s.ReplacePool(t.Context(), contract.Submit{}, "p", contract.PoolDefine{Target: record.Target{Path: "/p"}}); err != nil {
		t.Fatal(err)
	}
	err := st.View(func(tx *store.Tx) error {
		p, err := tx.Pool("p")
		if err == nil && len(p.Unfinished) != 1 {
			t.Errorf("it has %q left", p.Unfinished)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// What a secret opens is said whole, as far as it is not too much, with what is to be done
// about each.
func TestHintNamesAllUsesOfASecret(t *testing.T) {
	says := func(of ...string) string { return freed(of).Words(record.Call.CommandLine) }
	for got, want := range map[string]string{
		says("p/a", "p/b@s"): "storagedctl vol rekey p/a --secret OTHER, storagedctl vol snapshot delete p/b@s; where OTHER opens a volume already, --opened-by OTHER says so",
		says("p/b@s"):        "storagedctl vol snapshot delete p/b@s",
	} {
		if got != want {
			t.Errorf("it says %q, not %q", got, want)
		}
	}
	if got := says("p/1", "p/2", "p/3", "p/4", "p/5", "p/6", "p/7"); !strings.Contains(got, "p/5") || strings.Contains(got, "p/6") || !strings.Contains(got, " for 2 more") {
		t.Errorf("of seven it says %q", got)
	}
}

// A pool in use that is defined anew keeps where it is, until the host is started again.
func TestPoolInUseIsDefinedForLater(t *testing.T) {
	s, st, hub := knowing(t, "before", &store.Pool{Boot: "before", Pool: record.Pool{
		Name: "p", UUID: "u", Type: "dir", State: record.PoolActive, Target: record.Target{Path: "/p"}, Capacity: 7,
	}})
	p, err := s.ReplacePool(t.Context(), contract.Submit{}, "p", contract.PoolDefine{Target: record.Target{Path: "/q"}})
	if err != nil || p.Target.Path != "/p" || p.Next == nil || p.Next.Target.Path != "/q" {
		t.Fatalf("%+v, %v", p, err)
	}
	var start []operation.Operation
	err = st.Update(func(tx *store.Tx) error {
		start, err = catalog.New(hub, "after", 7).Reset(tx)
		return err
	})
	if err != nil || len(start) != 1 || start[0].On().Path != "/q" {
		t.Fatalf("%v, %v", start, err)
	}
	if p, err = s.Pool(t.Context(), "p"); err != nil || p.Target.Path != "/q" || p.Next != nil || p.Capacity != 0 {
		t.Errorf("%+v, %v", p, err)
	}
}

// What no source has is refused whoever asks for the pool: a document of libvirt can have
// names of options in it that are none.
func TestTextsOfASourceAreChecked(t *testing.T) {
	props := record.Capabilities{Type: "fs", Needs: []string{"target_path", "source_devices"}, Takes: []string{"source_options"}}
	for _, option := range []string{"", "a\nb"} {
		r := contract.PoolDefine{Type: "fs", Target: record.Target{Path: "/p"}, Source: record.Source{Devices: []string{"/dev/x"}, Options: map[string]string{option: "v"}}}
		if err := checkSource(r, props); record.CodeOf(err) != record.Invalid {
			t.Errorf("option %q: %v", option, err)
		}
	}
}

// Where nobody looks for sources it is said how a pool is made.
func TestSourcesThatNobodyLooksForSayHowAPoolIsMade(t *testing.T) {
	root := record.Caller{Role: record.RootRole}
	for kind, want := range map[string]string{
		"dir":  "storagedctl pool create POOL --type dir --target …",
		"fs":   "lsblk --fs lists the devices of this host and what they carry; then storagedctl pool create POOL --type fs",
		"disk": "--source-dev …",
	} {
		_, err := (&Service{}).FindSources(t.Context(), root, contract.SourcesFind{Type: kind})
		var e *record.Error
		if !errors.As(err, &e) || e.Code != record.Unsupported || !strings.Contains(e.Hint.Words(record.Call.CommandLine), want) {
			t.Errorf("%s: %v, hint %v", kind, err, e.Hint)
		}
	}
}
