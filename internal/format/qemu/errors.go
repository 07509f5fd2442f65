package qemu

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"storaged/internal/record"
	"storaged/internal/tool"
)

// itself stands in a hint for the image's path.
const itself = "\x01"

// Hints about images.
const (
	refreshes = "refresh its pool, which looks what it is now"
	repairs   = "storagedctl vol verify " + itself + " --check --repair all repairs what it can, and may lose content: make a copy of the file before"
	unlocks   = "storagedctl vol rekey " + itself + " --opened-by NAME tries a secret, and has the volume be opened by it"
	checking  = "storagedctl vol verify " + itself + " --check says whether its tables are sound"
)

// refusal is something that QEMU says, and what is said of that here.
type refusal struct {
	qemu string
	code record.Code
	text string // "": QEMU's alone
	hint string
}

// refusals are those that are known. The first counts.
var refusals = []refusal{
	// Of keys.
	{"Invalid password, cannot unlock any keyslot", record.Denied, "the secret does not open it: it is another one's, or was changed", unlocks},
	{"key-secret' is required", record.Invalid, "it is encrypted, and no secret was given that opens it", unlocks},
	{"No keyslots match given (old) password", record.NotFound, "the secret that is to be removed opens nothing", ""},
	{"erase all the data in the image irreversibly", record.WrongState, "it is the last secret that opens it, and stays", ""},
	{"all keyslots are in use", record.WrongState, "all its key slots are taken: another secret has to be removed first", ""},
	// Of tables.
	{"rebuild refcount structures", record.WrongState, "its tables are corrupt: more has to be repaired than leaks", repairs},
	{"Failed to grow the L1 table", record.TooLarge, "its tables have no room for so large a content", "larger clusters have room for more: storagedctl vol create POOL/NAME CAPACITY --format qcow2 --option cluster_size=2M makes an image that has them"},
	{"Image is not in ", record.WrongState, "its file does not begin as one in that format does", refreshes},
	{"Image not in ", record.WrongState, "its file does not begin as one in that format does", refreshes},
	{"not support resize", record.Unsupported, "the capacity of an image in that format is not changed", "storagedctl vol clone " + itself + " POOL/NAME --format qcow2 makes one whose capacity is"},
	{"offset invalid", record.WrongState, "its tables are corrupt", repairs},
	{"corrupt", record.WrongState, "its tables are corrupt", repairs},
	// Of the system.
	{"No space left on device", record.NoSpace, "", ""},
	{"File too large", record.TooLarge, "", ""},
	{"too large", record.TooLarge, "", ""},
	{"Input/output error", record.IO, "", checking},
	{"Permission denied", record.Denied, "", ""},
}

// explained makes of what QEMU says of an image an error that says what it means here, and
// what to do. What it says beyond that comes with it.
func explained(image string, err error) error {
	said := saidBy(err)
	if said == "" {
		return err
	}
	i := slices.IndexFunc(refusals, func(r refusal) bool { return strings.Contains(said, r.qemu) })
	if i < 0 {
		return record.Errorf(record.FailedCode, "QEMU says: %s", record.Escape(said))
	}
	r := refusals[i]
	r.hint = strings.ReplaceAll(r.hint, itself, image)
	switch {
	case r.text == "":
		return record.Errorf(r.code, "QEMU says: %s", record.Escape(said)).WithHint("%s", r.hint)
	case r.hint == "": // it says all
		return record.Errorf(r.code, "%s", r.text)
	default:
		return record.Errorf(r.code, "%s (QEMU says: %s)", r.text, record.Escape(said)).WithHint("%s", r.hint)
	}
}

// saidBy is what a program of QEMU has refused something with, "" for another error.
func saidBy(err error) string {
	if refused, ok := errors.AsType[*tool.CommandError](err); ok && refused.Limit == "" {
		return cmp.Or(refused.Desc, "no")
	}
	if end, ok := errors.AsType[*tool.EndError](err); ok && end.Limit == "" && end.Exit > 0 {
		return end.Said
	}
	return ""
}

// failed is the error of something that was being done to an image of that format, which is
// in the file.
func failed(doing, format string, f *os.File, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("cannot %s the image of format %s: %w", doing, format, explained(f.Name(), err))
}
