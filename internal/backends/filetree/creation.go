package filetree

import (
	"storaged/internal/record"
	"storaged/internal/tool"
)

// Creations are how volumes are made of files.
func Creations() []record.Creation {
	all := record.CreationsIn("") // of no type of their own
	lacks := tool.Lacking(tool.StorageDaemon, tool.QEMUImg)
	for i := range all {
		if !record.Plain(all[i].Format) {
			all[i].Unavailable = lacks
		}
	}
	return all
}

// Formats are those in which volumes can be made now.
func Formats() (formats []string) {
	for _, c := range Creations() {
		if c.Unavailable == "" {
			formats = append(formats, c.Format)
		}
	}
	return formats
}

// Verbs are what can be done to volumes that are files.
func Verbs() []string {
	return []string{"create", "clone", "upload", "download", "resize", "wipe", "trim", "rekey", "verify", "check", "move", "flatten", "rebase", "delete"}
}
