// Storagedctl is the command line of storaged: a client of its REST socket and
// nothing else. Its grammar is the tree of commands; --help prints it.
package main

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"storaged/internal/term"
)

func main() {
	if os.Args[0] == overSSH && len(os.Args) > 1 {
		fmt.Fprintf(os.Stderr, "storagedctl: cannot run ssh: %v\n", becomeSSH(os.Args[1], os.Args[2:]))
		os.Exit(exitNoSSH)
	}
	os.Exit(standard().program().Main(os.Args))
}

// exitNoSSH is that of a shell for a command that is not there.
const exitNoSSH = 127

// exitQuit is the exit code of a command that SIGQUIT ended, as a shell gives it.
const exitQuit = 128 + int(syscall.SIGQUIT)

// reconnectPatience is how long a waiting client tries to reach a daemon that
// went away: longer than an upgrade or a restart with recovery takes.
const reconnectPatience = 5 * time.Minute

// standard is the tool as the shell starts it.
func standard() *tool {
	t := &tool{in: os.Stdin, out: writerTo(os.Stdout), errs: writerTo(os.Stderr), after: time.After, patience: reconnectPatience}
	t.signals = watchSignals(t.hurry)
	return t
}

// writerTo gives a stream so that hurry frees who writes to it, where it is a terminal:
// that may be stopped.
func writerTo(f *os.File) io.Writer {
	if term.IsTerminal(f) {
		return term.NewWriter(f)
	}
	return f
}

// direct gives a stream for another program: the terminal, where it is one.
func direct(stream io.Writer) io.Writer {
	if f := term.FileOf(stream); f != nil {
		return f
	}
	return stream
}

// hurry frees who writes to a terminal that takes nothing, as the command shall end.
func (t *tool) hurry() {
	for _, s := range []io.Writer{t.out, t.errs} {
		if w, ok := s.(*term.Writer); ok {
			w.Hurry()
		}
	}
}

// watchSignals gives what a waiting command catches signals with. While none
// waits, SIGQUIT ends the program at once: Go by itself would print the stacks
// of all goroutines. With each signal that is caught hurry is called first, as whoever
// takes them may be held up.
func watchSignals(hurry func()) func() (<-chan os.Signal, func()) {
	rest := endAtQuit()
	return func() (<-chan os.Signal, func()) {
		signals, stop := catch(hurry)
		rest()
		return signals, func() {
			rest = endAtQuit() // first, lest a signal finds nobody
			stop()
		}
	}
}

// endAtQuit ends the program at SIGQUIT, until stop.
func endAtQuit() (stop func()) {
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, syscall.SIGQUIT)
	go func() {
		if _, came := <-ch; came {
			os.Exit(exitQuit)
		}
	}()
	return func() {
		signal.Stop(ch)
		close(ch)
	}
}

// catch gives the signals that a waiting command answers, until stop. A
// SIGHUP that was ignored at the start (nohup) stays so.
func catch(hurry func()) (signals <-chan os.Signal, stop func()) {
	wanted := []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT}
	if !signal.Ignored(syscall.SIGHUP) {
		wanted = append(wanted, syscall.SIGHUP)
	}
	const most = 4 // at once: more than a person can send before they are read
	caught, passed := make(chan os.Signal, most), make(chan os.Signal, most)
	signal.Notify(caught, wanted...)
	var passing sync.WaitGroup
	passing.Go(func() {
		for sig := range caught {
			hurry()
			select {
			case passed <- sig:
			default:
			}
		}
	})
	return passed, func() {
		signal.Stop(caught)
		close(caught)
		passing.Wait()
	}
}
