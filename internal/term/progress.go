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

// Display shows the progress of one piece of work, or of several side by side:
// on a terminal a line for each that is redrawn, elsewhere plain lines about the
// first: one at the start, one per 10 % but not more often than every 5 minutes,
// one at the end. By way of a Writer nobody waits for the terminal, which gets the newest
// bars when it takes some. It may be used by several goroutines.
type Display struct {
	out Output

	mu     sync.Mutex
	lines  []string  // which stay, and are not written yet
	bars   []string  // which stand below them; none before Start, or after End
	fresh  bool      // there is something that is not written yet
	drawn  int       // lines of bars at the bottom of the terminal
	last   time.Time // of the bars or line
	shown  []Figures
	rest   func(fit int) string
	decile int // last one printed
}

var _ source = (*Display)(nil)

// NewDisplay makes a display on out.
func NewDisplay(out Output) *Display { return &Display{out: out} }

// Start shows the first figures of what is new.
func (d *Display) Start(all ...Figures) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.show(all)
}

// Update shows new figures when it is time to. There must be some.
func (d *Display) Update(all ...Figures) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.due(all) {
		d.show(all)
	} else {
		d.shown = all
	}
}

// Rest sets what stands below the bars, of which the terminal has room for the
// first fit; "" is nothing.
func (d *Display) Rest(words func(fit int) string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rest = words
}

func (d *Display) due(all []Figures) bool {
	since := d.out.Now().Sub(d.last)
	if d.out.Terminal {
		return since >= redrawInterval || all[0].Waits != d.shown[0].Waits || all[0].Phase != d.shown[0].Phase
	}
	return decile(all[0]) > d.decile && since >= lineInterval
}

func decile(f Figures) int {
	if f.Percent == nil {
		return 0
	}
	return int(*f.Percent / 10)
}

// show draws the bars or prints a line.
func (d *Display) show(all []Figures) {
	d.shown, d.last, d.decile = all, d.out.Now(), decile(all[0])
	if d.out.Terminal {
		d.bars = d.layOut()
	} else {
		d.lines = append(d.lines, all[0].line())
	}
	d.tell()
}

// top goes to where the bars begin.
func (d *Display) top() string {
	if d.drawn > 1 {
		return fmt.Sprintf("\r\x1b[%dA", d.drawn-1)
	}
	return "\r"
}

// layOut gives the bars and what stands below them.
func (d *Display) layOut() []string {
	fit := d.shown
	if height := max(d.out.height()-1, 1); len(fit) > height { // a line is for notes
		fit = fit[:max(height-1, 1)]
	}
	var bars []string
	for _, f := range fit {
		bars = append(bars, d.bar(f)+"\x1b[K")
	}
	if d.rest != nil {
		if text := d.rest(len(fit)); text != "" {
			bars = append(bars, cut(Escape(text), d.out.Width()-1)+"\x1b[K")
		}
	}
	return bars
}

// tell has what is not written yet written.
func (d *Display) tell() {
	d.fresh = true
	if w, ok := d.out.W.(*Writer); ok {
		w.later(d)
		return
	}
	_, _ = io.WriteString(d.out.W, d.compose()) // work goes on although nobody can see it
}

// next is what is not written yet.
func (d *Display) next() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.compose()
}

// compose gives what is not written yet: lines above the bars, or these in place of those
// that are drawn.
func (d *Display) compose() string {
	text, below := "", ""
	switch {
	case !d.fresh:
		return ""
	case len(d.lines) == 0 && len(d.bars) > 0:
		text = d.top()
	case d.drawn > 0:
		text = d.clear()
	}
	for _, l := range d.lines {
		text += l + "\n"
	}
	if len(d.bars) < d.drawn {
		below = "\x1b[J"
	}
	d.lines, d.drawn, d.fresh = nil, len(d.bars), false
	return text + strings.Join(d.bars, "\n") + below
}

// Flush waits for the terminal, as a Writer does.
func (d *Display) Flush() {
	if w, ok := d.out.W.(*Writer); ok {
		w.Flush()
	}
}

// clear takes the bars away.
func (d *Display) clear() string {
	text := d.top() + "\x1b[K"
	if d.drawn > 1 {
		text = d.top() + "\x1b[J"
	}
	d.drawn = 0
	return text
}

// Report prints a line about the work as it is now, whatever the interval.
func (d *Display) Report() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.above(d.shown[0].line())
}

// Note prints a line that stays, above the bar.
func (d *Display) Note(text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.above(Escape(text))
}

// above prints a line, with the bars drawn anew below it.
func (d *Display) above(line string) {
	d.lines = append(d.lines, line)
	if len(d.bars) > 0 {
		d.bars = d.layOut()
	}
	d.tell()
}

// End takes the bars away and prints the last line, if there is one to say.
func (d *Display) End(text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.bars = nil
	if text != "" {
		d.lines = append(d.lines, Escape(text))
	}
	d.tell()
}

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
	for _, drop := range []int{7, 5, 4, 6} { // phase, rate, amount, time left
		if used(parts) <= width {
			break
		}
		parts[drop] = ""
	}
	squeeze(parts, width)
	if room := width - used(parts) - frame; f.Percent != nil && room >= barWidthMin {
		parts[meter] = d.meter(*f.Percent, min(room, barWidthMax))
	}
	parts[1] = d.out.Paint(Yellow, parts[1])
	return join(parts)
}

// leastWaits is enough to say that there is no movement, and how.
const leastWaits = 16

// squeeze makes name, Waits and percent fit: no number is cut, and Waits says
// more than what it leaves no room for.
func squeeze(parts []string, width int) {
	if over := used(parts) - width; over > 0 {
		parts[1] = cut(parts[1], max(Width(parts[1])-over, leastWaits))
	}
	if used(parts) > width {
		parts[0] = ""
	}
	if used(parts) > width && parts[1] != "" {
		parts[2] = ""
	}
	if used(parts) > width {
		parts[1], parts[2] = cut(parts[1], width), cut(parts[2], width)
	}
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
