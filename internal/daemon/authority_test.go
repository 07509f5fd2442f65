package daemon

import (
	"path/filepath"
	"testing"

	"github.com/hashicorp/go-hclog"

	"storaged/internal/testenv"
)

// Polkit decides where it is, or is to be.
func TestWhoDecidesAboutLibvirtsClients(t *testing.T) {
	testenv.Root(t)
	dir := t.TempDir()
	here, _ := testenv.Polkit(t, "")
	bare, _ := testenv.Bus(t, filepath.Join(dir, "bare"))
	for _, c := range []struct {
		bus, auth string
		want      bool
	}{
		{here, authAuto, true}, {here, authPolkit, true}, {here, authNone, false},
		{bare, authAuto, false}, {bare, authPolkit, true},
		{"unix:path=" + filepath.Join(dir, "nothing"), authAuto, false}, {"nonsense", authAuto, false}, {"nonsense", authPolkit, true},
	} {
		t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", c.bus)
		l := &life{Setup: Setup{Log: hclog.NewNullLogger(), Config: Config{Libvirt: LibvirtConfig{Auth: c.auth}}}}
		a := l.findAuthority(t.Context())
		if (a != nil) != c.want {
			t.Errorf("with %+v it is %v", c, a)
		}
		if a != nil {
			a.Close()
		}
	}
}
