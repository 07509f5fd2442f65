package task

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"storaged/internal/ipc"
)

// Who gives a disk's bytes for an image is told how they come into one.
func TestRefusedContentSaysHowItIsConverted(t *testing.T) {
	disk := make([]byte, 1<<20)
	header, err := contentSpec{format: "qcow2"}.checkHeader(bytes.NewReader(disk), int64(len(disk)))
	e, ok := errors.AsType[*ipc.Error](convertible(header, err))
	if !ok || !strings.Contains(e.Hint, "--from-format raw converts it") {
		t.Errorf("%+v", e)
	}
	header, err = contentSpec{format: "raw"}.checkHeader(bytes.NewReader(disk), int64(len(disk)))
	if err = convertible(header, err); err != nil {
		t.Error(err)
	}
}
