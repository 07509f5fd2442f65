package main_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"storaged/internal/record"
)

// webReceiver is a server that is told what happens. It answers when it is let.
type webReceiver struct {
	*httptest.Server
	notices chan record.Notice
	held    chan struct{} // one for each request that waits
	letGo   chan struct{} // closed: none waits
}

func newWebReceiver(t *testing.T, holding bool) *webReceiver {
	t.Helper()
	w := &webReceiver{notices: make(chan record.Notice, 100), held: make(chan struct{}, 100), letGo: make(chan struct{})}
	if !holding {
		close(w.letGo)
	}
	w.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var n record.Notice
		if err := json.NewDecoder(r.Body).Decode(&n); err != nil {
			panic(http.ErrAbortHandler)
		}
		w.held <- struct{}{}
		select {
		case <-w.letGo:
			w.notices <- n
		case <-r.Context().Done():
			panic(http.ErrAbortHandler)
		}
	}))
	t.Cleanup(w.Close)
	return w
}

// settings have it told of volumes.
func (w *webReceiver) settings() string {
	return fmt.Sprintf("[[notify]]\nname = \"web\"\nurl = %q\nkinds = [\"volume.*\"]\nevents = [\"job.ended\"]\ntimeout = \"1m\"\n", w.URL)
}

func (w *webReceiver) next(t *testing.T) record.Notice {
	t.Helper()
	select {
	case n := <-w.notices:
		return n
	case <-time.After(patience):
		t.Fatal("nothing is told")
		panic("unreachable")
	}
}

// failing is a job that has failed.
func (h *host) failing(name string) record.Job {
	h.t.Helper()
	h.sparse(name, mib)
	h.must(os.Remove(filepath.Join(h.pool, name)))
	j := h.end(h.clone(name, name+"-copy"))
	if j.State != record.Failed {
		h.t.Fatalf("job %d is %s", j.Number, j.State)
	}
	return j
}

func TestAFailedJobIsTold(t *testing.T) {
	t.Parallel()
	web := newWebReceiver(t, false)
	h := configured(t, web.settings())
	j := h.failing("v")
	n := web.next(t)
	if n.ID != "job.ended/"+j.ID || n.Job != j.Number || n.Kind != j.Kind || n.Object != "pool/v-copy" || n.Outcome != "failed" || n.Code != record.NotFound || n.Urgency != record.Alarming || n.Error == "" {
		t.Errorf("it is told %s of %s", shown(n), shown(j))
	}
	other := h.failing("w")
	if n := web.next(t); n.Job != other.Number {
		t.Errorf("it is told %s", shown(n))
	}
	if w := h.status().Warnings; len(w) > 0 {
		t.Errorf("warnings %q", w)
	}
}

// A receiver that stalls holds up neither jobs nor the daemon, and when the daemon is killed
// then, and at the very end of a job, what was to be told is told by the next one, and nothing
// else is.
func TestWhatAKilledDaemonDidNotTellIsTold(t *testing.T) {
	t.Parallel()
	web := newWebReceiver(t, true)
	h := configured(t, web.settings())
	first := h.failing("first")
	<-web.held
	h.sparse("good", mib)
	h.succeed(h.clone("good", "better"))
	kept := filepath.Join(h.dir, "state", "notify", "web.json")
	before := must(os.ReadFile(kept))(t)
	second := h.failing("second")
	h.kill()
	h.must(os.WriteFile(kept, before, 0o600)) // it was killed before it had written that
	h.start()
	third := h.failing("third")
	h.kill()
	close(web.letGo)
	h.start()
	want := []string{"job.ended/" + first.ID, "job.ended/" + second.ID, "job.ended/" + third.ID}
	got := map[string]bool{}
	for len(got) < len(want) {
		n := web.next(t)
		if !slices.Contains(want, n.ID) {
			t.Fatalf("it is told %s", shown(n))
		}
		got[n.ID] = true
	}
	h.succeed(h.clone("good", "best"))
	fourth := h.failing("fourth")
	for { // one that was on its way may come twice
		n := web.next(t)
		if n.ID == "job.ended/"+fourth.ID {
			break
		}
		if !slices.Contains(want, n.ID) {
			t.Fatalf("it is told %s", shown(n))
		}
	}
}

// A receiver that cannot be told needs a person, who mends the settings.
func TestAReceiverThatIsAwayNeedsAPerson(t *testing.T) {
	t.Parallel()
	web := newWebReceiver(t, false)
	h := configured(t, strings.ReplaceAll(web.settings(), web.URL, "http://127.0.0.1:1"))
	j := h.failing("v")
	h.await("a warning", func() bool { return len(h.status().Warnings) > 0 })
	h.runs(record.ExitFailed, `receiver "web" of notices cannot be told since `, "status", "--check")
	h.configure("[[notify]]\nname = \"web\"\n")
	h.reload("settings not read again")
	h.configure(web.settings())
	h.reload("settings read again")
	if n := web.next(t); n.Job != j.Number {
		t.Errorf("it is told %s", shown(n))
	}
	h.await("no warning", func() bool { return len(h.status().Warnings) == 0 })
	if lines := strings.Count(h.log(), "a receiver of notices cannot be told"); lines != 1 {
		t.Errorf("the log has %d lines of it", lines)
	}
}
