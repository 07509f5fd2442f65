package notify

import (
	"os/exec"
	"testing"
)

// What a program prints is bounded however it is copied: os/exec prefers io.ReaderFrom.
func TestOfWhatAProgramSaysTheFirstIsKept(t *testing.T) {
	said := &Said{Most: 4}
	cmd := exec.Command("/bin/echo", "longer")
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Run(); err != nil || said.String() != "long" {
		t.Errorf("kept: %q (%v)", said, err)
	}
}
