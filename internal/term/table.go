package term

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Column is one column of a table of T.
type Column[T any] struct {
	Name  string // lower case; the header shows it in upper case
	Right bool   // for figures
	Extra bool   // only shown when asked for by name
	Cell  func(T) string
}

// Layout is how a table is wanted.
type Layout struct {
	Columns   []string // names in order; none is all but the extra ones
	NoHeaders bool
}

// Table writes rows aligned, cells two spaces apart. Cells are escaped; an
// empty one shows as "-", so that every line has the same number of words.
func Table[T any](w io.Writer, columns []Column[T], rows []T, l Layout) error {
	chosen, err := Choose(columns, l.Columns)
	if err != nil {
		return err
	}
	cells := make([][]string, 0, len(rows)+1)
	if !l.NoHeaders {
		cells = append(cells, header(chosen))
	}
	for _, r := range rows {
		cells = append(cells, row(chosen, r))
	}
	b := bufio.NewWriter(w)
	widths := columnWidths(cells, len(chosen))
	for _, line := range cells {
		writeLine(b, chosen, line, widths)
	}
	if err := b.Flush(); err != nil {
		return fmt.Errorf("cannot write the table: %w", err)
	}
	return nil
}

// Choose gives the columns by name. The error for an unknown name lists those
// there are.
func Choose[T any](columns []Column[T], names []string) ([]Column[T], error) {
	if len(names) == 0 {
		return slices.DeleteFunc(slices.Clone(columns), func(c Column[T]) bool { return c.Extra }), nil
	}
	chosen := make([]Column[T], len(names))
	for i, name := range names {
		at := slices.IndexFunc(columns, func(c Column[T]) bool { return c.Name == strings.ToLower(name) })
		if at < 0 {
			return nil, fmt.Errorf("no column %q; there are %s", name, strings.Join(Names(columns), ", "))
		}
		chosen[i] = columns[at]
	}
	return chosen, nil
}

// Names lists the names of columns.
func Names[T any](columns []Column[T]) []string {
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = c.Name
	}
	return names
}

func header[T any](columns []Column[T]) []string {
	line := Names(columns)
	for i := range line {
		line[i] = strings.ToUpper(line[i])
	}
	return line
}

func row[T any](columns []Column[T], r T) []string {
	line := make([]string, len(columns))
	for i, c := range columns {
		if line[i] = Escape(c.Cell(r)); line[i] == "" {
			line[i] = "-"
		}
	}
	return line
}

func columnWidths(cells [][]string, n int) []int {
	widths := make([]int, n)
	for _, line := range cells {
		for i, cell := range line {
			widths[i] = max(widths[i], Width(cell))
		}
	}
	return widths
}

// writeLine pads cells to their columns; nothing follows the last one.
func writeLine[T any](b *bufio.Writer, columns []Column[T], line []string, widths []int) {
	for i, cell := range line {
		if i > 0 {
			b.WriteString("  ")
		}
		pad := strings.Repeat(" ", widths[i]-Width(cell))
		switch {
		case columns[i].Right:
			b.WriteString(pad + cell)
		case i == len(line)-1:
			b.WriteString(cell)
		default:
			b.WriteString(cell + pad)
		}
	}
	b.WriteByte('\n')
}
