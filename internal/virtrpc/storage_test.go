package virtrpc_test

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"storaged/internal/virtrpc/virtrpctest"
)

// virsh does everything that there is to be done with a pool and its volumes.
func TestVirshDoesStorage(t *testing.T) {
	t.Parallel()
	h := virtrpctest.NewHost(t)
	do := func(command string) string {
		t.Helper()
		out, ok := virtrpctest.Virsh(t, h.URI(), strings.Fields(command)...)
		if !ok {
			t.Fatalf("virsh %s: %s", command, out)
		}
		return out
	}
	fails := func(command, want string) {
		t.Helper()
		if out, ok := virtrpctest.Virsh(t, h.URI(), strings.Fields(command)...); ok || !strings.Contains(out, want) {
			t.Errorf("virsh %s: %v %s\nnot %s", command, ok, out, want)
		}
	}
	says := func(command string, want ...string) {
		t.Helper()
		out := do(command)
		for _, w := range want {
			if !strings.Contains(out, w) {
				t.Errorf("virsh %s: %s\nnot %s", command, out, w)
			}
		}
	}
	dir := filepath.Join(h.Dir, "p")
	do("pool-define-as p dir --target " + dir)
	says("pool-info p", "inactive", "Persistent:     yes", "Autostart:      no")
	fails("pool-start p", dir)
	do("pool-build p")
	do("pool-start p")
	fails("pool-start p", "storage pool 'p' is already active")
	fails("pool-undefine p", "storage pool 'p' is still active")
	do("pool-autostart p")
	says("pool-list --details", "p", "running", "yes")
	says("pool-dumpxml p", "<pool type='dir'>", "<path>"+dir+"</path>")
	says("pool-capabilities", "<pool type='dir' supported='yes'>")
	says("capabilities", "<value>dir</value>")

	do("vol-create-as p a 4M --allocation 0")
	fails("vol-create-as p a 4M", "storage volume 'a' exists already")
	do("vol-create-as p img 8M --format qcow2")
	do("vol-create-as p over 8M --format qcow2 --backing-vol img --backing-vol-format qcow2")
	says("vol-dumpxml over --pool p", "<path>"+filepath.Join(dir, "img")+"</path>", "<format type='qcow2'/>")
	says("vol-list p", "a ", "img", "over")
	says("vol-info a --pool p", "4.00 MiB")
	fails("vol-info nothing --pool p", "no storage vol with matching")

	content := make([]byte, 3<<20)
	if _, err := rand.Read(content); err != nil {
		t.Fatal(err)
	}
	in, out := filepath.Join(h.Dir, "in"), filepath.Join(h.Dir, "out")
	if err := os.WriteFile(in, content, 0o600); err != nil {
		t.Fatal(err)
	}
	same := func(want []byte) {
		t.Helper()
		if got, err := os.ReadFile(out); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes came back, not %d, or others; %v", len(got), len(want), err)
		}
	}
	full := append(bytes.Clone(content), make([]byte, 1<<20)...)
	do("vol-upload a " + in + " --pool p")
	do("vol-download a " + out + " --pool p")
	same(full)
	do("vol-download a " + out + " --pool p --offset 1048576 --length 1048576")
	same(content[1<<20 : 2<<20])
	do("vol-download a " + out + " --pool p --sparse")
	same(full)
	do("vol-download a " + out + " --pool p --offset 4194304")
	same(nil)
	fails("vol-upload a "+in+" --pool p --length 1048576", "No space left on device")
	do("vol-upload a " + in + " --pool p") // it is whole again
	do("vol-create-as p b 4M")
	do("vol-upload b " + out + " --pool p --sparse")
	do("vol-upload b " + out + " --pool p")
	do("vol-upload b " + in + " --pool p --sparse --offset 1048576")
	do("vol-download b " + out + " --pool p --offset 1048576")
	same(content)

	do("vol-clone a c --pool p")
	do("vol-download c " + out + " --pool p")
	same(full)
	fails("vol-clone a c --pool p", "storage volume name 'c' already in use.")
	do("vol-resize c 8M --pool p")
	fails("vol-resize c 4M --pool p", "hrink")
	do("vol-resize c 1M --delta --pool p")
	do("vol-resize c 1M --delta --shrink --pool p")
	do("vol-resize c 4M --shrink --pool p")
	says("vol-info c --pool p", "4.00 MiB")
	do("vol-wipe c --pool p")
	do("vol-download c " + out + " --pool p")
	same(make([]byte, 4<<20))
	do("vol-wipe c --pool p --algorithm nnsa")
	do("vol-delete c --pool p")
	fails("vol-delete c --pool p", "no storage vol with matching")

	// A guest writes to its disk.
	do("vol-create-as p guest 4M --allocation 0")
	says("vol-info guest --pool p", "Allocation:     0.00 B")
	if err := os.WriteFile(filepath.Join(dir, "guest"), make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	says("vol-info guest --pool p", "Allocation:     1.00 MiB")
	do("vol-delete guest --pool p")

	do("pool-refresh p")
	do("pool-destroy p")
	fails("pool-destroy p", "storage pool 'p' is not active")
	fails("pool-refresh p", "storage pool 'p' is not active")
	fails("vol-list p", "storage pool 'p' is not active")
	do("pool-start p")
	for _, name := range []string{"over", "img", "a", "b"} {
		do("vol-delete " + name + " --pool p")
	}
	do("pool-destroy p")

	do("pool-create-as t dir --target " + dir)
	says("pool-info t", "running", "Persistent:     no")
	fails("pool-autostart t", "pool has no config file")
	do("pool-destroy t")
	fails("pool-info t", "no storage pool with matching name 't'")
	fails("pool-create-as t dir --target "+filepath.Join(h.Dir, "nowhere"), "nowhere")
	fails("pool-info t", "no storage pool with matching name 't'")
	do("pool-create-as t dir --build --target " + filepath.Join(h.Dir, "new"))
	stays := filepath.Join(h.Dir, "t.xml")
	if err := os.WriteFile(stays, []byte(do("pool-dumpxml t")), 0o600); err != nil {
		t.Fatal(err)
	}
	do("pool-define " + stays)
	do("pool-destroy t")
	says("pool-info t", "inactive", "Persistent:     yes")

	do("pool-delete p")
	do("pool-undefine p")
	fails("pool-info p", "no storage pool with matching name 'p'")
}

// A hundred sessions of virsh at a time have no failure.
func TestManySessionsOfVirsh(t *testing.T) {
	t.Parallel()
	p := newPlace(t, "")
	p.virsh("", "vol-create-as p disk 1M")
	var sessions sync.WaitGroup
	for i := range 100 {
		script := "pool-list; pool-info p; vol-list p; vol-info disk p; vol-dumpxml disk p"
		if i%5 == 0 { // each of these has two jobs
			name := fmt.Sprint("own", i)
			script += "; vol-create-as p " + name + " 1M; vol-info " + name + " p; vol-delete " + name + " p"
		}
		sessions.Go(func() {
			if out, ok := virtrpctest.Virsh(t, p.URI(), script); !ok || strings.Contains(out, "error:") {
				t.Errorf("%s: %s", script, out)
			}
		})
	}
	sessions.Wait()
}
