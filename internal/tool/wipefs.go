package tool

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"storaged/internal/confine"
)

// Signature is what wipefs(8) knows a part of a device by: a file system, a partition
// table, a physical volume of LVM, a member of an array, an encrypted device, …
type Signature struct {
	Type   string `json:"type"` // as libblkid calls it: ext4, gpt, LVM2_member, crypto_LUKS, …
	UUID   string `json:"uuid"`
	Label  string `json:"label"`
	Offset string `json:"offset"` // hexadecimal, of bytes
}

const (
	// signTime is how long wipefs may take, which reads some MiB: far more than any disk
	// that answers needs.
	signTime = 2 * time.Minute
	// maxSignatures bounds what it may say, bytes: some hundred bytes each.
	maxSignatures = 1 << 20
)

// Signatures are those of an open device. They are what its content claims, which may be
// anybody's, and so is confined who looks for them.
func Signatures(ctx context.Context, device *os.File) ([]Signature, error) {
	out, err := wipefs(ctx, device, "--json", confine.Policy{Read: []*os.File{device}})
	if err != nil {
		return nil, err
	}
	return parseSignatures(out)
}

func parseSignatures(out []byte) ([]Signature, error) {
	if len(bytes.TrimSpace(out)) == 0 {
		return nil, nil // so earlier versions say that there is none
	}
	var said struct {
		Signatures []Signature `json:"signatures"`
	}
	if err := json.Unmarshal(out, &said); err != nil {
		return nil, fmt.Errorf("what %s says cannot be read: %w", Wipefs.Name, err)
	}
	return said.Signatures, nil
}

// EraseSignatures takes all of them from a device, which the caller has claimed: it is
// opened once more, to be written. What else is on it stays. A partition table goes from
// what is no disk too.
func EraseSignatures(ctx context.Context, device *os.File) error {
	_, err := wipefs(ctx, device, "--all", confine.Policy{Write: []*os.File{device}}, "--force")
	return err
}

func wipefs(ctx context.Context, device *os.File, option string, policy confine.Policy, more ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, signTime, fmt.Errorf("it has not ended within %v", signTime))
	defer cancel()
	about, err := described(device)
	if err != nil {
		return nil, err
	}
	defer about.Close() // it was only named
	policy.Read = append(policy.Read, about)
	return Command{
		Program: Wipefs, Options: append([]string{option}, more...), Operands: []string{fmt.Sprintf("/proc/self/fd/%d", FD(0))},
		Files: []*os.File{device}, Policy: policy, Output: maxSignatures,
	}.Run(ctx)
}

// described opens the directory of sysfs with what the kernel says of the disk that a
// device is, or is a partition of: some signatures count on whole disks alone (those of
// arrays that a board makes), and some are those of partition tables.
func described(device *os.File) (*os.File, error) {
	info, err := device.Stat()
	if err != nil {
		return nil, err
	}
	number := info.Sys().(*syscall.Stat_t).Rdev
	dir, err := filepath.EvalSymlinks(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(number), unix.Minor(number)))
	if err != nil {
		return nil, fmt.Errorf("the kernel does not describe device %q: %w", device.Name(), err)
	}
	if _, err := os.Stat(filepath.Join(dir, "partition")); err == nil {
		dir = filepath.Dir(dir)
	}
	return os.Open(dir)
}
