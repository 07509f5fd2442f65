// Command benchmarks measures a release build of storaged over its socket and
// prints a table. scripts/bench builds everything and runs it.
package main

import (
	"context"
	"fmt"
	"os"
	"text/tabwriter"
	"time"
)

// measurement is one line of the table.
type measurement struct {
	what  string
	took  samples
	bound string // what the project promises, "" without a promise
}

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "benchmarks:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	if len(os.Args) != 2 {
		return fmt.Errorf("usage: benchmarks DIR-OF-BINARIES")
	}
	r, err := startRig(ctx, os.Args[1])
	if err != nil {
		return err
	}
	defer r.stop()
	var table []measurement
	for _, measure := range []func(context.Context, *rig) ([]measurement, error){sparseCreate, listsUnderLoad, crowd} {
		rows, err := measure(ctx, r)
		if err != nil {
			return err
		}
		table = append(table, rows...)
	}
	print(table)
	return nil
}

func print(table []measurement) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "what\tn\tmedian\tp99\tmax\tpromised")
	for _, m := range table {
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\n", m.what, len(m.took),
			milli(m.took.at(0.5)), milli(m.took.at(0.99)), milli(m.took.at(1)), m.bound)
	}
	w.Flush() // to stdout; a failure has nowhere to go
}

func milli(d time.Duration) string {
	return fmt.Sprintf("%.2f ms", float64(d)/float64(time.Millisecond))
}
