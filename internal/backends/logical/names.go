package logical

import (
	"fmt"
	"strings"

	"storaged/internal/backends"
	"storaged/internal/record"
)

// LVM has no @ in names, which is in that of a snapshot's file. There +- stands for it, and
// ++ for a + of a name.
var (
	toLVM   = strings.NewReplacer("+", "++", "@", "+-")
	fromLVM = strings.NewReplacer("++", "+", "+-", "@")
)

// inLVM is the name that LVM has of a volume, a draft or a snapshot.
func inLVM(name string) string {
	if !frozen(name) {
		return name
	}
	return toLVM.Replace(name)
}

// named is the name of what LVM has by that one.
func named(lv string) string {
	if name := fromLVM.Replace(lv); frozen(name) && toLVM.Replace(name) == lv {
		return name
	}
	return lv
}

// frozen reports whether a name is that of a snapshot's file.
func frozen(name string) bool {
	_, _, ok := record.ParseSnapshot(name)
	return ok
}

// checkName is the rule for names of volumes and of snapshots.
func checkName(name string) error {
	if !frozen(name) {
		return Backend{}.CheckName(name)
	}
	if lv := inLVM(name); !fit().MatchString(lv) || len(lv) > maxName || inner().MatchString(lv) {
		return record.Errorf(record.Invalid, "bad name of a snapshot %q: with that of its volume it makes %q, and LVM has names of letters, digits and _ . + -, of %d bytes at most, and keeps some for its own use", record.Shown(name), lv, maxName)
	}
	return nil
}

// operand is a volume for LVM.
func operand(p backends.Pool, name string) string {
	return fmt.Sprintf("%s/%s", groupOf(p), inLVM(name))
}
