package supervisor

import (
	"errors"
	"strings"
	"syscall"
	"testing"

	"storaged/internal/ipc"
	"storaged/internal/record"
	"storaged/internal/store"
	"storaged/internal/supervisor/process"
)

func TestOutcome(t *testing.T) {
	report := func(o ipc.Outcome, rollback string) *ipc.Report {
		r := &ipc.Report{Summary: ipc.Summary{Outcome: o, Rollback: rollback}}
		if o == ipc.Failed {
			r.Error = &ipc.Error{Code: "no_space", Message: "full", Offset: -1}
		}
		return r
	}
	zero, one := process.Exit{Known: true}, process.Exit{Known: true, Code: 1}
	killed, unknown := process.Exit{Known: true, Code: -1, Signal: syscall.SIGKILL}, process.Exit{Code: -1}
	fault := record.Errorf(record.Internal, "broke the protocol")
	cases := []struct {
		name    string
		e       ending
		state   record.State
		code    record.Code
		settle  bool
		warning string
	}{
		{"success", ending{report: report(ipc.Succeeded, ""), exit: zero, began: true}, record.Succeeded, "", false, ""},
		{"success, then killed", ending{report: report(ipc.Succeeded, ""), exit: killed, began: true}, record.Succeeded, "", false, "killed by SIGKILL"},
		{"success, exit unknown", ending{report: report(ipc.Succeeded, ""), exit: unknown, began: true}, record.Succeeded, "", false, "not known"},
		{"success, exit 1", ending{report: report(ipc.Succeeded, ""), exit: one, began: true, undoes: true}, record.Failed, record.Inconsistent, false, ""},
		{"success before the cancel", ending{report: report(ipc.Succeeded, ""), exit: zero, began: true, asked: true}, record.Succeeded, "", false, "before the cancel"},
		{"success in spite of a fault", ending{report: report(ipc.Succeeded, ""), exit: zero, began: true, fault: fault}, record.Succeeded, "", false, "broke the protocol"},
		{"success before it began", ending{report: report(ipc.Succeeded, ""), exit: zero}, record.Failed, record.Inconsistent, false, ""},
		{"canceled from outside before it began", ending{report: report(ipc.Canceled, ""), exit: one}, record.Canceled, record.CanceledCode, false, ""},
		{"failure", ending{report: report(ipc.Failed, "done"), exit: one, began: true, undoes: true}, record.Failed, record.NoSpace, false, ""},
		{"failure, exit 0", ending{report: report(ipc.Failed, "done"), exit: zero, began: true}, record.Failed, record.NoSpace, false, "exit status 0"},
		{"failure during a cancel", ending{report: report(ipc.Failed, "failed"), exit: one, began: true, asked: true}, record.Failed, record.NoSpace, false, ""},
		{"canceled", ending{report: report(ipc.Canceled, "done"), exit: one, began: true, asked: true}, record.Canceled, record.CanceledCode, false, ""},
		{"canceled from outside", ending{report: report(ipc.Canceled, "done"), exit: one, began: true}, record.Canceled, record.CanceledCode, false, ""},
		{"stopped for a fault", ending{report: report(ipc.Canceled, "done"), exit: one, began: true, fault: fault}, record.Failed, record.Internal, false, ""},
		{"exit 0, no result", ending{exit: zero, began: true, undoes: true}, record.Failed, record.Inconsistent, true, ""},
		{"exit 1, no result", ending{exit: one, began: true, undoes: true}, record.Failed, record.Internal, true, ""},
		{"killed", ending{exit: killed, began: true, undoes: true}, record.Failed, record.Killed, true, ""},
		{"killed, nothing to undo", ending{exit: killed, began: true}, record.Failed, record.Killed, false, ""},
		{"killed after a cancel", ending{exit: killed, began: true, asked: true, undoes: true}, record.Canceled, record.CanceledCode, true, ""},
		{"gone while nobody watched", ending{exit: unknown, began: true, undoes: true}, record.Failed, record.Interrupted, true, ""},
		{"torn result", ending{exit: zero, began: true, undoes: true, torn: errors.New("cut")}, record.Failed, record.Inconsistent, true, "cut"},
		{"never began", ending{exit: one, undoes: true}, record.Failed, record.Internal, false, ""},
		{"canceled before it began", ending{exit: killed, asked: true, undoes: true}, record.Canceled, record.CanceledCode, false, ""},
		{"a fault before it began", ending{exit: killed, fault: fault, undoes: true}, record.Failed, record.Internal, false, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			v := decide(c.e)
			code := record.Code("")
			if v.err != nil {
				code = v.err.Code
			}
			if v.state != c.state || code != c.code || v.settle != c.settle {
				t.Errorf("%s, %v, settle %v; want %s, %s, %v", v.state, v.err, v.settle, c.state, c.code, c.settle)
			}
			if got := strings.Join(v.warnings, "\n"); !strings.Contains(got, c.warning) || (c.warning == "") != (got == "") {
				t.Errorf("warnings %q, want %q", got, c.warning)
			}
		})
	}
}

func TestSettledOutcome(t *testing.T) {
	died := verdict{state: record.Failed, err: record.Errorf(record.Killed, "killed"), settle: true}
	asked := verdict{state: record.Canceled, err: canceledError(), settle: true}
	with := func(o ipc.Outcome, rollback string) ending {
		r := &ipc.Report{Summary: ipc.Summary{Outcome: o, Rollback: rollback}}
		if o == ipc.Failed {
			r.Error = &ipc.Error{Message: "cannot", Offset: -1}
		}
		return ending{report: r, began: true, exit: process.Exit{Known: true}}
	}
	for _, c := range []struct {
		name     string
		first    verdict
		e        ending
		state    record.State
		rollback record.Rollback
	}{
		{"undone", died, with(ipc.Canceled, "done"), record.Failed, record.RollbackDone},
		{"undone after a cancel", asked, with(ipc.Canceled, "done"), record.Canceled, record.RollbackDone},
		{"kept", died, with(ipc.Canceled, "kept_partial"), record.Failed, record.RollbackKept},
		{"found complete", died, with(ipc.Succeeded, ""), record.Succeeded, record.RollbackNone},
		{"found complete after a cancel", asked, with(ipc.Succeeded, ""), record.Succeeded, record.RollbackNone},
		{"not undone", died, with(ipc.Failed, "failed"), record.Failed, record.RollbackFailed},
		{"not undone after a cancel", asked, with(ipc.Failed, "failed"), record.Failed, record.RollbackFailed},
		{"the second died too", asked, ending{began: true}, record.Failed, record.RollbackFailed},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := settled(c.first, c.e)
			if v.state != c.state || v.rollback != c.rollback || v.settle || (v.err == nil) != (c.state == record.Succeeded) {
				t.Errorf("%+v, want %s, %s", v, c.state, c.rollback)
			}
		})
	}
}

// What a helper settles was decided before: a cancel that comes while nobody
// knows yet where that stands makes no canceled job of a failed one.
func TestWhatWasDecidedBeforeARestartStays(t *testing.T) {
	failure := record.Errorf(record.Killed, "the helper was killed by SIGKILL")
	for _, c := range []struct {
		err  *record.Error
		want record.State
	}{{failure, record.Failed}, {canceledError(), record.Canceled}} {
		r := &store.Job{CancelAsk: true, Undo: true, Job: record.Job{Error: c.err}}
		if v := firstVerdict(r); v.state != c.want || v.err != c.err {
			t.Errorf("%v: %s (%v), want %s", c.err, v.state, v.err, c.want)
		}
	}
}
