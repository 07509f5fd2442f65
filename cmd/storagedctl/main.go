// Storagedctl is the command line of storaged: a client of its REST socket and
// nothing else. Its grammar is the tree of commands; --help prints it.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
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
	return &tool{in: os.Stdin, out: os.Stdout, errs: os.Stderr, signals: watchSignals(), after: time.After, patience: reconnectPatience}
}

// watchSignals gives what a waiting command catches signals with. While none
// waits, SIGQUIT ends the program at once: Go by itself would print the stacks
// of all goroutines.
func watchSignals() func() (<-chan os.Signal, func()) {
	rest := endAtQuit()
	return func() (<-chan os.Signal, func()) {
		signals, stop := catch()
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
func catch() (signals <-chan os.Signal, stop func()) {
	wanted := []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT}
	if !signal.Ignored(syscall.SIGHUP) {
		wanted = append(wanted, syscall.SIGHUP)
	}
	ch := make(chan os.Signal, 4) // more at once than a person can send before they are read
	signal.Notify(ch, wanted...)
	return ch, func() { signal.Stop(ch) }
}
