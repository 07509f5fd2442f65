package packaging_test

import (
	"os"
	"path/filepath"
	"testing"
)

// links are the units that are enabled.
func (r throwaway) links() string {
	r.t.Helper()
	return r.sh(`cd /etc/systemd/system && find . -name 'storaged*' -type l | sort`)
}

// give puts a file into the root.
func (r throwaway) give(path, name string) {
	r.t.Helper()
	content, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(filepath.Join(r.dir, name), content, 0o644)
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// Where an image is made nothing runs, and /proc may not be mounted: the units
// are enabled all the same, and what the administrator made of that is kept.
func intoAnImage(t *testing.T, first, upgrade string) {
	t.Parallel()
	r := newThrowaway(t)
	r.give(first, "first.deb")
	r.give(upgrade, "upgrade.deb")
	r.sh("dpkg --install /first.deb")
	const sockets = "./sockets.target.wants/storaged-libvirt-ro.socket\n./sockets.target.wants/storaged-libvirt.socket\n" +
		"./sockets.target.wants/storaged-ro.socket\n./sockets.target.wants/storaged.socket"
	const enabled = "./multi-user.target.wants/storaged.service\n" + sockets
	if got := r.links(); got != enabled {
		t.Errorf("enabled are\n%s", got)
	}
	r.sh(`getent group storaged && test -x /usr/sbin/storaged && dpkg --status storaged | grep '^Depends: passwd$'`)

	r.sh("dpkg --install /upgrade.deb")
	if got := r.links(); got != enabled {
		t.Errorf("after an upgrade enabled are\n%s", got)
	}
	r.sh("rm /etc/systemd/system/multi-user.target.wants/storaged.service && dpkg --install /upgrade.deb")
	const disabled = sockets
	if got := r.links(); got != disabled {
		t.Errorf("one was disabled, and enabled are\n%s", got)
	}
	r.sh("dpkg --remove storaged && dpkg --install /upgrade.deb")
	if got := r.links(); got != disabled {
		t.Errorf("installed again, enabled are\n%s", got)
	}
	r.sh("dpkg --purge storaged")
	if got := r.links(); got != "" {
		t.Errorf("after a purge there are\n%s", got)
	}
	r.sh("dpkg --install /first.deb")
	if got := r.links(); got != enabled {
		t.Errorf("anew, enabled are\n%s", got)
	}
}

// Of a version whose command line had the old name, nothing of that name stays,
// and units that it had enabled, or that were disabled, are so still. Units that it
// had not are enabled.
func fromTheOldName(t *testing.T, deb string) {
	t.Parallel()
	r := newThrowaway(t)
	r.give(deb, "new.deb")
	r.sh(`mkdir -p old/DEBIAN old/usr/bin old/usr/share/man/man8 old/usr/share/bash-completion/completions old/usr/share/zsh/vendor-completions old/usr/share/fish/vendor_completions.d
		printf 'Package: storaged\nVersion: 0.9.0\nArchitecture: %s\nMaintainer: x <x@localhost>\nDescription: old\n' "$(dpkg --print-architecture)" >old/DEBIAN/control
		touch old/usr/bin/storagectl old/usr/share/man/man8/storagectl.8.gz old/usr/share/bash-completion/completions/storagectl
		touch old/usr/share/zsh/vendor-completions/_storagectl old/usr/share/fish/vendor_completions.d/storagectl.fish
		dpkg-deb --build old old.deb >/dev/null
		dpkg --install /old.deb
		mkdir -p /etc/systemd/system/sockets.target.wants
		ln -s /lib/systemd/system/storaged.socket /etc/systemd/system/sockets.target.wants/storaged.socket
		dpkg --install /new.deb`)
	if left := r.sh(`find /usr /etc -name '*storagectl*'; command -v storagectl || true`); left != "" {
		t.Errorf("of the old name there is\n%s", left)
	}
	r.sh("test -x /usr/bin/storagedctl && test -e /usr/share/bash-completion/completions/storagedctl")
	const libvirts = "./sockets.target.wants/storaged-libvirt-ro.socket\n./sockets.target.wants/storaged-libvirt.socket\n"
	if got := r.links(); got != libvirts+"./sockets.target.wants/storaged.socket" {
		t.Errorf("enabled are\n%s", got)
	}
}
