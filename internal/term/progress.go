package term

import (
	"fmt"
	"io"
	"math"
	"strings"
	"sync"
	"time"
)

// redrawInterval keeps the bar calm: nobody reads faster than five times a
// second.
const redrawInterval = 200 * time.Millisecond

// lineInterval is the least time between two lines in a log: who reads it
// later does not want it full of progress.
const lineInterval = 5 * time.Minute

// barWidth is as wide as a bar is useful.
const (
	barWidthMax = 30
	barWidthMin = 8
)

// Figures are what a display shows. Texts come ready; an empty one is left
// out.
type Figures struct {
	Name    string   // what this is in short, "job 412"; for where Title finds no room
	Title   string   // what is being done to what
	Percent *float64 // of the whole; nil where it is not known
	Amount  string   // "700 MiB of 2.00 GiB"
	Rate    string   // "488 MiB/s"
	Left    string   // "3 s left"
	Phase   string   // "copy"
	Waits   string   // "waits for 410", "paused": then there is no movement
}

// Display shows the progress of one piece of work: on a terminal one line
// that is redrawn, elsewhere plain lines: one at the start, one per 10 % but
// not more often than every 5 minutes, one at the end. It may be used by
// several goroutines.
type Display struct {
	out Output

	mu     sync.Mutex
	drawn  bool      // a bar stands on the terminal's last line
	last   time.Time // of the bar or line
	shown  Figures
	decile int // last one printed
}

// NewDisplay makes a display on out.
func NewDisplay(out Output) *Display { return &Display{out: out} }

// Start shows the first figures.
func (d *Display) Start(f Figures) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.show(f)
}

// Update shows new figures when it is time to.
func (d *Display) Update(f Figures) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.due(f) {
		d.show(f)
	} else {
		d.shown = f
	}
}

func (d *Display) due(f Figures) bool {
	since := d.out.Now().Sub(d.last)
	if d.out.Terminal {
		return since >= redrawInterval || f.Waits != d.shown.Waits || f.Phase != d.shown.Phase
	}
	return decile(f) > d.decile && since >= lineInterval
}

func decile(f Figures) int {
	if f.Percent == nil {
		return 0
	}
	return int(*f.Percent / 10)
}

// show draws the bar or prints a line.
func (d *Display) show(f Figures) {
	d.shown, d.last, d.decile = f, d.out.Now(), decile(f)
	if d.out.Terminal {
		d.write("\r" + d.bar(f) + "\x1b[K")
		d.drawn = true
		return
	}
	d.write(f.line() + "\n")
}

// Report prints a line about the work as it is now, whatever the interval.
func (d *Display) Report() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.above(d.shown.line())
}

// Note prints a line that stays, above the bar.
func (d *Display) Note(text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.above(Escape(text))
}

// above prints a line, with the bar redrawn below it.
func (d *Display) above(line string) {
	if !d.drawn {
		d.write(line + "\n")
		return
	}
	d.write("\r\x1b[K" + line + "\n" + d.bar(d.shown) + "\x1b[K")
}

// End takes the bar away and prints the last line, if there is one to say.
func (d *Display) End(text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.drawn {
		d.write("\r\x1b[K")
		d.drawn = false
	}
	if text != "" {
		d.write(Escape(text) + "\n")
	}
}

// write ignores errors: work goes on although nobody can see it.
func (d *Display) write(s string) { _, _ = io.WriteString(d.out.W, s) }

// line gives the figures as a plain line.
func (f Figures) line() string {
	var parts []string
	for _, p := range []string{f.Waits, percent(f.Percent), f.Phase, f.Amount, f.Rate, f.Left} {
		if p != "" {
			parts = append(parts, Escape(p))
		}
	}
	if len(parts) == 0 {
		return Escape(f.Title)
	}
	return Escape(f.Title) + ": " + strings.Join(parts, ", ")
}

func percent(p *float64) string {
	if p == nil {
		return ""
	}
	return fmt.Sprintf("%.1f %%", floor(*p))
}

// floor cuts to one decimal, so that 99.96 is never shown as 100.
func floor(p float64) float64 { return math.Floor(p*10+1e-9) / 10 }

// bar lays the figures out for the terminal's width. What finds no room is
// left out, the least important first.
func (d *Display) bar(f Figures) string {
	width := d.out.Width() - 1 // the last column may wrap
	parts := f.parts()
	const meter, frame = 3, 4 // its place, and its brackets and spaces
	if used(parts)+barWidthMin+frame > width {
		parts[0] = Escape(f.Name)
	}
	for _, drop := range []int{7, 5, 0, 4, 6} { // phase, rate, name, amount, time left
		if used(parts) <= width {
			break
		}
		parts[drop] = ""
	}
	if room := width - used(parts) - frame; f.Percent != nil && room >= barWidthMin {
		parts[meter] = d.meter(*f.Percent, min(room, barWidthMax))
	}
	if over := used(parts) - width; over > 0 { // only Waits and the percent are left
		parts[1] = cut(parts[1], max(Width(parts[1])-over, 0))
		parts[2] = cut(parts[2], max(width, 0))
	}
	parts[1] = d.out.Paint(Yellow, parts[1])
	return join(parts)
}

// parts are the figures in the order of the bar, with a place for the meter.
func (f Figures) parts() []string {
	parts := []string{f.Title, f.Waits, percent(f.Percent), "", f.Amount, f.Rate, f.Left, f.Phase}
	for i := range parts {
		parts[i] = Escape(parts[i])
	}
	return parts
}

func used(parts []string) int { return Width(join(parts)) }

func join(parts []string) string {
	var b strings.Builder
	for _, p := range parts {
		if p != "" && b.Len() > 0 {
			b.WriteString("  ")
		}
		b.WriteString(p)
	}
	return b.String()
}

// meter draws percent into width columns and two brackets.
func (d *Display) meter(percent float64, width int) string {
	full := int(max(0, min(percent, 100)) / 100 * float64(width))
	return "[" + d.out.Paint(Green, strings.Repeat("=", full)) + strings.Repeat(" ", width-full) + "]"
}
