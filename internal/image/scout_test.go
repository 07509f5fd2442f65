package image

import (
	"fmt"
	"os"
	"slices"
	"storaged/internal/testenv"
	"strings"
	"testing"
)

const scoutHere = "scout of a test"

func TestMain(m *testing.M) {
	if slices.Equal(os.Args[1:], []string{scoutHere}) {
		if err := Watch(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// A scout names the same holders as who looks for himself, and none where there is none.
func TestScoutSeesWhatItsAskerWouldSee(t *testing.T) {
	s, err := SendScout(scoutHere)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Recall()
	path := newImage(t)
	mine, err := exclusive.try(t, path)
	if err != nil {
		t.Fatalf("nobody else has it open: %v", err)
	}
	if _, err := shared.try(t, path); err == nil {
		t.Error("two openings of this process let each other in")
	} else {
		refused(t, err, me())
	}
	mine.Close()
	other := testenv.HoldOpen(t, path, "<>")
	_, err = exclusive.try(t, path)
	refused(t, err, other.Holder)
	other.End()
	if f, err := exclusive.try(t, path); err != nil {
		t.Error(err)
	} else {
		f.Close()
	}
}

// Without an answer nobody is let in.
func TestScoutThatHasEndedKeepsEverybodyAway(t *testing.T) {
	s, err := SendScout(scoutHere)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Recall()
	path := newImage(t)
	testenv.HoldOpen(t, path, "<>")
	if err := s.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for ended := false; !ended; { // as soon as its end of the socket is closed
		_, err := s.ask(openFile(t, path, os.O_RDWR), question{})
		ended = err != nil
	}
	if _, err := exclusive.try(t, path); err == nil || !strings.Contains(err.Error(), "the scout does not say") {
		t.Errorf("%v", err)
	}
}
