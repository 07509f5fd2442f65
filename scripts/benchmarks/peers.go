package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"time"
)

// bench is one run of the comparison with others' tools.
type bench struct {
	bin     string
	dir     string // all files are in it
	pairs   int
	only    *regexp.Regexp
	size    int64 // bytes of a file full of data
	report  string
	serial  int // of the target made last
	order   *rand.Rand
	libvirt *libvirt
	rig     *rig
	results []result
}

// result is what a case gave.
type result struct {
	title string
	rows  []row
}

// row is one contender of a case; the first row is ours.
type row struct {
	name   string
	missed string // why it was not measured
	most   float64
	trials []figures
}

func peers(ctx context.Context, bin string, args []string) (err error) {
	b, err := newBench(bin, args)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	if err := b.startDaemons(ctx); err != nil {
		return err
	}
	for _, c := range b.cases() {
		if !b.only.MatchString(c.name) {
			continue
		}
		start := time.Now()
		if err := b.run(ctx, c); err != nil {
			return fmt.Errorf("case %s: %w", c.name, err)
		}
		fmt.Fprintf(os.Stderr, "%s: %.0f s\n", c.name, time.Since(start).Seconds())
	}
	return b.write()
}

func newBench(bin string, args []string) (*bench, error) {
	set := flag.NewFlagSet("peers", flag.ContinueOnError)
	pairs := set.Int("n", 15, "pairs of each comparison; fewer than 6 give no interval")
	only := set.String("case", ".", "measure the cases whose name matches this `pattern` only")
	size := set.Int64("mib", 2048, "MiB of a file full of data; streams take half of it, wipes a quarter")
	dir := set.String("dir", os.TempDir(), "where the files are made; 20 GiB of room are needed")
	report := set.String("o", "", "write the report to this `file` too")
	if err := set.Parse(args); err != nil {
		return nil, err
	}
	pattern, err := regexp.Compile(*only)
	if err != nil || set.NArg() > 0 || *pairs < 1 || *size < 2 {
		return nil, errors.Join(err, errors.New("peers takes flags only: -h lists them"))
	}
	bin, err = filepath.Abs(bin)
	if err != nil {
		return nil, err
	}
	work, err := os.MkdirTemp(*dir, "storaged-peers-")
	if err != nil {
		return nil, err
	}
	b := &bench{bin: bin, dir: work, pairs: *pairs, only: pattern, size: *size << 20, report: *report,
		order: rand.New(rand.NewPCG(1, 2))} // the same in every run
	return b, os.Mkdir(b.files(), 0o700)
}

// peersPool is the pool that both daemons have.
const peersPool = "peers"

// files is the directory of sources and targets, a pool of both daemons.
func (b *bench) files() string { return filepath.Join(b.dir, "files") }

func (b *bench) tool(name string) string { return filepath.Join(b.bin, name) }

func (b *bench) startDaemons(ctx context.Context) (err error) {
	if err := os.Setenv("TMPDIR", b.dir); err != nil { // the rig makes its files there
		return err
	}
	if b.rig, err = startRig(ctx, b.bin); err != nil {
		return err
	}
	if err := b.rig.definePool(ctx, peersPool, b.files()); err != nil {
		return err
	}
	b.libvirt = startLibvirt(ctx, b.dir, b.files())
	return nil
}

func (b *bench) close() error {
	b.libvirt.stop()
	if b.rig != nil {
		b.rig.stop()
	}
	return os.RemoveAll(b.dir)
}

// run measures a case: in each round every contender once, each round in
// an order of its own, so that what changes on the machine, and what the one
// before has left behind, meets all of them.
func (b *bench) run(ctx context.Context, c benchCase) error {
	w, done, err := c.prepare(ctx, b)
	if err != nil {
		return err
	}
	defer done()
	for _, warmth := range c.warmth {
		rows := make([]row, len(c.contenders))
		for i, x := range c.contenders {
			rows[i] = row{name: x.name, missed: x.missing(), most: x.most}
		}
		for range b.pairs {
			for _, i := range b.order.Perm(len(c.contenders)) {
				b.measure(ctx, &rows[i], c.contenders[i], w, warmth)
			}
		}
		if len(rows[0].trials) == 0 {
			return errors.New(rows[0].missed)
		}
		b.results = append(b.results, result{c.title + warmth.words(), rows})
	}
	return nil
}

// measure makes one trial. A contender that fails is out of the race, with the
// reason.
func (b *bench) measure(ctx context.Context, r *row, x contender, w work, warmth warmth) {
	if r.missed != "" {
		return
	}
	if !w.keep { // a name that no daemon knows
		b.serial++
		w.target = filepath.Join(filepath.Dir(w.target), fmt.Sprintf("target-%d.raw", b.serial))
	}
	x.warmth = warmth
	f, err := x.trial(ctx, &w)
	if err = errors.Join(err, w.clean()); err != nil {
		r.missed = err.Error()
		return
	}
	r.trials = append(r.trials, f)
}

// missing says which program a contender lacks.
func (c contender) missing() string {
	if c.absent != "" {
		return c.absent
	}
	if _, err := exec.LookPath(c.argv[0]); err != nil {
		return fmt.Sprintf("%s is not installed (scripts/bench names its package)", filepath.Base(c.argv[0]))
	}
	return ""
}

// warmth says whether what there is already (the source, or the volume that is
// wiped) is in the page cache when a trial begins.
type warmth string

const (
	cold warmth = "cold"
	warm warmth = "warm"
)

func (h warmth) words() string { return ", cache " + string(h) }

// apply reads a warm file anew, because how it came into the cache matters too.
func (h warmth) apply(path string) error {
	if err := cool(path); err != nil || h == cold {
		return err
	}
	return readAll(path)
}
