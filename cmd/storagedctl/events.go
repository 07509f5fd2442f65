package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"storaged/cmd/internal/cmdline"
	"storaged/internal/quantity"
	"storaged/internal/record"
	"storaged/internal/term"
)

// followEvents prints what happens until a signal; after a restart of the daemon it
// goes on behind the last event seen.
func followEvents(ctx context.Context, s *session) error {
	after, err := eventNumber(s.cli.String("after"))
	if err != nil {
		return err
	}
	if s.form != nil {
		if s.form.table {
			return cmdline.Usagef("--format: events come one by one and make no table; leave the word out")
		}
		if err := s.form.checkFields(record.Event{}); err != nil {
			return err
		}
	}
	var reader sync.WaitGroup
	defer reader.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	f, err := openFeed(ctx, s, after)
	if err != nil {
		return err
	}
	signals, stop := s.tool.signals()
	defer stop()
	f.resume = true
	reader.Go(func() { f.run(ctx) })
	return s.printEvents(f, signals)
}

func eventNumber(given string) (int64, error) {
	if given == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(given, 10, 64)
	if err != nil || n < 0 {
		return 0, cmdline.Usagef("--after: %q is not the number of an event", given)
	}
	return n, nil
}

func (s *session) printEvents(f *feed, signals <-chan os.Signal) error {
	for {
		var err error
		select {
		case <-signals:
			return cmdline.ErrInterrupted // which was asked for
		case n, open := <-f.out:
			if !open {
				return nil
			}
			err = s.printNews(n)
		}
		if err != nil {
			return err
		}
	}
}

func (s *session) printNews(n news) error {
	switch {
	case n.gone != nil:
		return n.gone
	case n.lost != nil:
		s.note(fmt.Sprintf("storagedctl: %s; trying again for up to %s", n.lost, quantity.FormatDuration(s.patience)))
	case n.back:
		s.note("storagedctl: connected to the daemon again")
	case n.event == nil:
	case s.form != nil:
		return printForm(s, []record.Event{*n.event})
	case s.format == "json" || s.format == "jsonl":
		return printJSON(s.out, n.event)
	default:
		if _, err := fmt.Fprintln(s.out, term.Escape(eventLine(*n.event))); err != nil {
			return fmt.Errorf("cannot write the output: %w", err)
		}
	}
	return nil
}

// eventLine tells an event to people.
func eventLine(e record.Event) string {
	words := []string{clock(e.Time), e.Type}
	switch {
	case e.Job != nil:
		words = append(words, jobTitle(e.Job), string(e.Job.State), percentDone(*e.Job), jobNote(*e.Job))
	case e.Pool != nil:
		words = append(words, e.Pool.Name, string(e.Pool.State), e.Pool.Reason)
	case e.Volume != nil:
		words = append(words, volumeName(*e.Volume))
		switch {
		case e.Type == "volume.deleted", e.Type == "volume.vanished": // it has no state any more
		case e.Type == "volume.changing" && e.Volume.Job != nil: // that it is incomplete meanwhile is no news
			words = append(words, fmt.Sprintf("by job %d", *e.Volume.Job))
		default:
			words = append(words, volumeState(*e.Volume))
		}
	}
	return strings.Join(nonEmpty(words), "  ")
}

func nonEmpty(words []string) []string {
	var out []string
	for _, w := range words {
		if w != "" {
			out = append(out, w)
		}
	}
	return out
}
