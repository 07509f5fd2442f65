package tool

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

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

// EraseSignatures takes all of them from a device that is open for writing. What else is
// on it stays.
func EraseSignatures(ctx context.Context, device *os.File) error {
	_, err := wipefs(ctx, device, "--all", confine.Policy{Write: []*os.File{device}})
	return err
}

func wipefs(ctx context.Context, device *os.File, option string, policy confine.Policy) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, signTime, fmt.Errorf("it has not ended within %v", signTime))
	defer cancel()
	return Command{
		Program: Wipefs, Options: []string{option}, Operands: []string{fmt.Sprintf("/proc/self/fd/%d", FD(0))},
		Files: []*os.File{device}, Policy: policy, Output: maxSignatures,
	}.Run(ctx)
}
