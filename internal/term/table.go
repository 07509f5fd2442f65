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
	// Weight is for the share of a narrow terminal that the column gets; 0: it is
	// never cut, as a number or a state.
	Weight int
	// Spare is for a terminal that is too narrow even so: the columns with the
	// highest are left out first, those with 0 never, and none asked for by name.
	Spare int
	// Middle says that what is too wide is cut in its middle: both ends of a path
	// or of a name tell something.
	Middle bool
	Cell   func(T) string
	// Short gives the cell in fewer columns, for a terminal that has no room for the
	// table in full; nil: there is no shorter one.
	Short func(T) string
	Order func(a, b T) int // for Sort; nil: by what Cell gives
}

// Layout is how a table is wanted.
type Layout struct {
	Columns   []string // names in order; none is all but the extra ones
	NoHeaders bool
	Width     int // of the terminal; 0: everything is shown in full
}

// Table writes rows aligned, cells two spaces apart. Cells are escaped; an
// empty one shows as "-", so that every line has the same number of words.
func Table[T any](w io.Writer, columns []Column[T], rows []T, l Layout) error {
	chosen, err := Choose(columns, l.Columns)
	if err != nil {
		return err
	}
	chosen, cells, widths := fit(chosen, rows, l)
	b := bufio.NewWriter(w)
	for _, line := range cells {
		writeLine(b, chosen, line, widths)
	}
	if err := b.Flush(); err != nil {
		return fmt.Errorf("cannot write the table: %w", err)
	}
	return nil
}

// fit gives the columns that find room, their cells and their widths: cells are
// shortened first, then cut, and then columns are left out.
func fit[T any](chosen []Column[T], rows []T, l Layout) ([]Column[T], [][]string, []int) {
	cells, widths := lay(chosen, rows, l)
	if l.Width <= 0 || span(widths) <= l.Width {
		return chosen, cells, widths
	}
	for i, c := range chosen {
		if c.Short != nil {
			chosen[i].Cell = c.Short
		}
	}
	for cells, widths = lay(chosen, rows, l); ; cells, widths = lay(chosen, rows, l) {
		shrink(chosen, widths, l.Width)
		i := spare(chosen)
		if span(widths) <= l.Width || i < 0 || len(l.Columns) > 0 {
			break
		}
		chosen = slices.Delete(chosen, i, i+1)
	}
	for _, line := range cells {
		for i := range line {
			line[i] = chosen[i].cut(line[i], widths[i])
		}
	}
	return chosen, cells, widths
}

func (c Column[T]) cut(cell string, width int) string {
	if c.Middle {
		return cutMiddle(cell, width)
	}
	return cut(cell, width)
}

// lay gives the cells in full, and the widths of the columns.
func lay[T any](chosen []Column[T], rows []T, l Layout) (cells [][]string, widths []int) {
	cells = make([][]string, 0, len(rows)+1)
	if !l.NoHeaders {
		cells = append(cells, header(chosen))
	}
	for _, r := range rows {
		cells = append(cells, row(chosen, r))
	}
	return cells, columnWidths(cells, len(chosen))
}

// gap is between two columns.
const gap = "  "

// span is the width of a line.
func span(widths []int) int {
	total := len(gap) * (len(widths) - 1)
	for _, w := range widths {
		total += w
	}
	return total
}

// leastCut is the width below which a column tells nothing any more, and leastMiddle
// that of one of which both ends are needed.
const leastCut, leastMiddle = 12, 20

func (c Column[T]) least() int {
	if c.Middle {
		return max(leastMiddle, len(c.Name))
	}
	return max(leastCut, len(c.Name))
}

// shrink makes columns that have a weight narrower, until a line fits or all are
// as narrow as can be: always the one that is widest for its weight.
func shrink[T any](columns []Column[T], widths []int, fit int) {
	for over := span(widths) - fit; over > 0; over-- {
		widest := -1
		for i, c := range columns {
			if c.Weight == 0 || widths[i] <= c.least() {
				continue
			}
			if widest < 0 || widths[i]*columns[widest].Weight > widths[widest]*c.Weight {
				widest = i
			}
		}
		if widest < 0 {
			return
		}
		widths[widest]--
	}
}

// spare gives the column to be left out first, or -1.
func spare[T any](columns []Column[T]) int {
	most := -1
	for i, c := range columns {
		if c.Spare > 0 && (most < 0 || c.Spare > columns[most].Spare) {
			most = i
		}
	}
	return most
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

// Sort sorts rows by the column that by names, backwards behind a dash. Those that
// have nothing there come last either way, and those that are alike stay as they are.
func Sort[T any](columns []Column[T], rows []T, by string) error {
	name, backwards := strings.CutPrefix(by, "-")
	chosen, err := Choose(columns, []string{name})
	if err != nil {
		return err
	}
	c := chosen[0]
	slices.SortStableFunc(rows, func(a, b T) int {
		switch {
		case c.empty(a) && c.empty(b):
			return 0
		case c.empty(b):
			return -1
		case c.empty(a):
			return 1
		case backwards:
			a, b = b, a
		}
		return c.order(a, b)
	})
	return nil
}

func (c Column[T]) empty(r T) bool { return slices.Contains([]string{"", "-"}, c.Cell(r)) }

func (c Column[T]) order(a, b T) int {
	if c.Order != nil {
		return c.Order(a, b)
	}
	return strings.Compare(c.Cell(a), c.Cell(b))
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
			b.WriteString(gap)
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
