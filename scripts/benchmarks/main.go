// Command benchmarks measures a release build of storaged over its socket, and
// the moving of bytes against the tools that people use otherwise. scripts/bench
// builds everything and runs it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"text/tabwriter"
	"time"
)

// measurement is one line of the table of calls.
type measurement struct {
	what  string
	took  samples
	bound string // what the project promises, "" without a promise
}

func main() {
	err := run(context.Background(), os.Args[1:])
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "benchmarks:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New("usage: benchmarks DIR-OF-BINARIES [calls | control | estimates | against [-n PAIRS] DIR-OF-OTHERS | peers [FLAGS] | callers [FLAGS] | loop URI POOL VOLUME look|make | copy [-direct] SOURCE TARGET]")
	}
	bin, args := args[0], args[1:]
	switch {
	case len(args) == 0:
		return onDaemon(ctx, bin, calls, control, estimates)
	case args[0] == "calls":
		return onDaemon(ctx, bin, calls)
	case args[0] == "control":
		return onDaemon(ctx, bin, control)
	case args[0] == "estimates":
		return onDaemon(ctx, bin, estimates)
	case args[0] == "against":
		return against(ctx, bin, args[1:])
	case args[0] == "peers":
		return peers(ctx, bin, args[1:])
	case args[0] == "callers":
		return callers(ctx, bin, args[1:])
	case args[0] == "loop":
		return loop(ctx, args[1:])
	case args[0] == "copy":
		return bareCopy(ctx, args[1:])
	}
	return fmt.Errorf("there is no benchmark %q: calls, control, estimates, against, peers or callers; without a name the first three", args[0])
}

// onDaemon runs measurements on a private daemon, one after the other.
func onDaemon(ctx context.Context, bin string, measures ...func(context.Context, *rig) error) error {
	r, err := startRig(ctx, bin)
	if err != nil {
		return err
	}
	defer r.stop()
	for _, measure := range measures {
		if err := measure(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

// calls measures the daemon's own calls.
func calls(ctx context.Context, r *rig) error {
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
