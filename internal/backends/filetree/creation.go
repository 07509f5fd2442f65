package filetree

import (
	"errors"

	"storaged/internal/record"
	"storaged/internal/tool"
)

// Creations are how volumes are made of files.
func Creations() []record.Creation {
	all := record.Creations()
	lacks := missing(tool.StorageDaemon, tool.QEMUImg)
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

// missing says what program is not installed, and how to get it; "" if all are.
func missing(programs ...tool.Program) string {
	for _, p := range programs {
		_, err := p.Find()
		if lacks, ok := errors.AsType[*tool.MissingError](err); ok {
			return lacks.Error() + "; " + lacks.Hint()
		}
	}
	return ""
}
