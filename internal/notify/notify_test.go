package notify_test

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"storaged/internal/confine"
	"storaged/internal/notify"
	"storaged/internal/notify/sender"
	"storaged/internal/record"
	"storaged/internal/testenv"
)

// The processes of these tests are this program.
func TestMain(m *testing.M) {
	if sender.Serves(os.Args) {
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// lines is a log that may be read while it is written.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// notifier is one with receivers and a log.
type notifier struct {
	*notify.Notifier
	t   *testing.T
	dir string
	log *lines
}

// begun has these receivers told, from what is kept in dir.
func begun(t *testing.T, dir string, all ...notify.Receiver) *notifier {
	t.Helper()
	n := &notifier{t: t, dir: dir, log: new(lines)}
	log := hclog.New(&hclog.LoggerOptions{Output: n.log, DisableTime: true})
	n.Notifier = notify.New(notify.Setup{Dir: dir, Host: "host1", Version: "1.2", Log: log, Pause: time.Millisecond})
	n.apply(all...)
	t.Cleanup(n.Close)
	return n
}

func (n *notifier) apply(all ...notify.Receiver) {
	n.t.Helper()
	if err := notify.Complete(all); err != nil {
		n.t.Fatal(err)
	}
	n.Apply(all)
}

// tell tells of a failed job.
func (n *notifier) tell(id string) { n.Tell(failure(id)) }

func failure(id string) record.Notice {
	return record.Notice{
		ID: id, Time: time.Now(), Type: record.NoticeJob, Urgency: record.Alarming, Message: "job ended",
		Job: 7, Kind: record.VolumeClone, Object: "p/v", Outcome: "failed", Owner: "alice", Error: "it broke",
	}
}

// await returns when that is so.
func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	end := time.Now().Add(testenv.Patience(30 * time.Second))
	for !is() {
		if time.Now().After(end) {
			t.Fatalf("there is never %s", what)
		}
		<-tick.C
	}
}

// processes are those that this one has to tell receivers.
func processes(t *testing.T) (pids []int) {
	t.Helper()
	tasks, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		children, _ := os.ReadFile(task) // the thread may have ended
		for _, pid := range strings.Fields(string(children)) {
			if line, _ := os.ReadFile("/proc/" + pid + "/cmdline"); string(line) == notify.Program+"\x00" {
				n := 0
				fmt.Sscan(pid, &n)
				pids = append(pids, n)
			}
		}
	}
	return pids
}

// server is a receiver at work: what it got, and what it does with the next.
type server struct {
	*httptest.Server
	got     chan notify.Event // those that it took
	headers chan http.Header  // of each request
	faults  chan http.HandlerFunc
}

// serve starts one; without faults it takes what it gets.
func serve(t *testing.T, start func(http.Handler) *httptest.Server, faults ...http.HandlerFunc) *server {
	t.Helper()
	s := &server{got: make(chan notify.Event, 2000), headers: make(chan http.Header, 2000), faults: make(chan http.HandlerFunc, 2000)}
	for _, f := range faults {
		s.faults <- f
	}
	s.Server = start(http.HandlerFunc(s.answer))
	s.Server.Config.ErrorLog = hclog.NewNullLogger().StandardLogger(nil)
	t.Cleanup(s.Close)
	return s
}

func (s *server) answer(w http.ResponseWriter, r *http.Request) {
	s.headers <- r.Header
	text, err := io.ReadAll(r.Body)
	select {
	case fault := <-s.faults:
		fault(w, r)
		return
	default:
	}
	var e notify.Event
	if err == nil {
		err = json.Unmarshal(text, &e)
	}
	if err != nil || r.Method != http.MethodPost {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	s.got <- e
}

// next is what it took then.
func (s *server) next(t *testing.T) notify.Event {
	t.Helper()
	select {
	case e := <-s.got:
		return e
	case <-time.After(testenv.Patience(30 * time.Second)):
		t.Fatal("no event comes")
		panic("unreachable")
	}
}

// none fails if it took anything more.
func (s *server) none(t *testing.T) {
	t.Helper()
	select {
	case e := <-s.got:
		t.Errorf("it got %q too", e.ID)
	default:
	}
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// stalls answers when the client has gone.
func stalls(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

func closes(w http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) }

// file makes one that is its owner's alone.
func file(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// authority is a file with the certificate of a server.
func authority(t *testing.T, s *server) string {
	return file(t, "ca", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})))
}

// A server that stalls, fails, closes, redirects and refuses the secret is told again until it
// takes what it gets, once, and the log says it twice: when that begins, and when it is over.
func TestAServerIsToldInTheEnd(t *testing.T) {
	elsewhere := serve(t, httptest.NewServer)
	redirect := http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect).ServeHTTP
	s := serve(t, httptest.NewTLSServer, stalls, status(500), closes, redirect, status(401), status(404))
	n := begun(t, t.TempDir(), notify.Receiver{
		Name: "web", URL: s.URL + "/hook", CAFile: authority(t, s), SecretHeader: "Authorization", SecretFile: file(t, "token", "Bearer hidden\n"), Timeout: testenv.Patience(time.Second),
	})
	n.tell("a")
	e := s.next(t)
	if e.ID != "a" || e.Host != "host1" || e.Job != 7 || e.Outcome != "failed" || e.Error != "it broke" || e.Dropped != 0 {
		t.Errorf("it got %+v", e)
	}
	n.tell("b")
	if e := s.next(t); e.ID != "b" {
		t.Errorf("it got %+v", e)
	}
	s.none(t)
	elsewhere.none(t)
	if len(elsewhere.headers) > 0 {
		t.Error("a redirect was followed")
	}
	for range len(s.headers) {
		if h := <-s.headers; h.Get("Authorization") != "Bearer hidden" || h.Get("Content-Type") != "application/json" || h.Get("User-Agent") != "storaged/1.2" {
			t.Errorf("headers %v", h)
		}
	}
	n.says("[WARN]  a receiver of notices cannot be told: receiver=web error=\"it took longer than its timeout of ", "[INFO]  a receiver of notices is told again: receiver=web")
	if c := n.Complaints(); len(c) > 0 {
		t.Errorf("it says %q still", c)
	}
	if strings.Contains(n.log.String(), "hidden") {
		t.Error("the secret is in the log")
	}
}

// says fails unless the log has just these lines.
func (n *notifier) says(want ...string) {
	n.t.Helper()
	var got []string
	await(n.t, fmt.Sprintf("a log of %d lines", len(want)), func() bool {
		got = slices.Collect(strings.Lines(n.log.String()))
		return len(got) >= len(want)
	})
	for i := range got {
		if i >= len(want) || !strings.HasPrefix(got[i], want[i]) {
			n.t.Errorf("the log is\n%swant\n%s", strings.Join(got, ""), strings.Join(want, "\n"))
			return
		}
	}
}

// complains returns when it is said of a receiver, and nothing else is.
func (n *notifier) complains(of string) {
	n.t.Helper()
	await(n.t, "a complaint of "+of, func() bool {
		c := n.Complaints()
		return len(c) == 1 && strings.Contains(c[0], of)
	})
}

func TestAnEventThatIsRefusedKeepsNoOthers(t *testing.T) {
	s := serve(t, httptest.NewServer, status(422))
	n := begun(t, t.TempDir(), notify.Receiver{Name: "web", URL: s.URL})
	n.tell("a")
	n.tell("b")
	if e := s.next(t); e.ID != "b" || e.Dropped != 1 {
		t.Errorf("it got %+v", e)
	}
	n.says("[WARN]  a receiver of notices cannot be told: receiver=web error=", "[INFO]  a receiver of notices is told again: receiver=web")
}

// Nobody but the server that is meant is told: not one with another certificate, and nothing
// with a secret that others may read.
func TestAServerMustBeTheOneThatIsMeant(t *testing.T) {
	s := serve(t, httptest.NewTLSServer)
	token := file(t, "token", "hidden")
	r := notify.Receiver{Name: "web", URL: s.URL, SecretHeader: "X-Token", SecretFile: token}
	n := begun(t, t.TempDir(), r)
	n.tell("a")
	n.complains("certificate")
	r.CAFile = authority(t, s)
	if err := os.Chmod(token, 0o640); err != nil {
		t.Fatal(err)
	}
	n.apply(r)
	n.complains("may be read by others than its owner (mode 0640)")
	if len(s.headers) > 0 {
		t.Error("it was told")
	}
	if err := os.Chmod(token, 0o600); err != nil {
		t.Fatal(err)
	}
	if e := s.next(t); e.ID != "a" {
		t.Errorf("it got %+v", e)
	}
	if h := <-s.headers; h.Get("X-Token") != "hidden" {
		t.Errorf("headers %v", h)
	}
	// Another secret takes its place, and counts from then on, for the same process.
	pids := processes(t)
	if err := os.WriteFile(token+".new", []byte("other"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(token+".new", token); err != nil {
		t.Fatal(err)
	}
	n.tell("b")
	s.next(t)
	if h := <-s.headers; h.Get("X-Token") != "other" {
		t.Errorf("headers %v", h)
	}
	if now := processes(t); len(pids) != 1 || !slices.Equal(now, pids) {
		t.Errorf("processes %v, then %v", pids, now)
	}
	if confine.Available().Word() == confine.Full {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pids[0]))
		for _, says := range []string{"Name:\tstorage-notify\n", "NoNewPrivs:\t1\n", "Seccomp:\t2\n", "CapPrm:\t0000000000000000\n", "CapEff:\t0000000000000000\n"} {
			if !strings.Contains(string(text), says) {
				t.Errorf("%v: the process does not say %q:\n%s", err, says, text)
			}
		}
	}
	for _, where := range []string{"cmdline", "environ"} {
		if text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pids[0], where)); err != nil || bytes.Contains(text, []byte("other")) || bytes.Contains(text, []byte(s.URL)) {
			t.Errorf("%s is %q (%v)", where, text, err)
		}
	}
	if strings.Contains(n.log.String(), "hidden") {
		t.Error("the secret is in the log")
	}
}

// An address that is a secret is in a file, of which the same is asked as of other secrets; it
// may be another the next time, also one of another port, and is shown nowhere.
func TestAnAddressInAFileIsASecret(t *testing.T) {
	one, two := serve(t, httptest.NewServer), serve(t, httptest.NewServer)
	address := file(t, "address", one.URL+"/hidden\n")
	write := func(text string, mode os.FileMode) {
		t.Helper()
		if err := errors.Join(os.WriteFile(address+".new", []byte(text), mode), os.Chmod(address+".new", mode), os.Rename(address+".new", address)); err != nil {
			t.Fatal(err)
		}
	}
	write(one.URL+"/hidden\n", 0o644)
	n := begun(t, t.TempDir(), notify.Receiver{Name: "web", URLFile: address})
	n.tell("a")
	n.complains("may be read by others than its owner (mode 0644): chmod 600")
	if len(one.headers) > 0 {
		t.Error("it was told")
	}
	for _, c := range []struct{ text, says string }{
		{"https://u:hidden@h/", "url has a user or password"}, {"http://example.org/hidden", "a secret goes over https, or to this host"},
		{"hidden", "url is https://HOST"}, {"", "is empty"}, {one.URL + "/hidden\n" + two.URL, "or is more than a line"},
	} {
		write(c.text, 0o600)
		n.complains(c.says)
	}
	write(one.URL+"/hidden\n", 0o600)
	if e := one.next(t); e.ID != "a" {
		t.Errorf("it got %+v", e)
	}
	pids := processes(t)
	if len(pids) != 1 {
		t.Fatalf("processes %v", pids)
	}
	for _, where := range []string{"cmdline", "environ"} {
		if text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pids[0], where)); err != nil || bytes.Contains(text, []byte("hidden")) {
			t.Errorf("%s is %q (%v)", where, text, err)
		}
	}
	write(one.URL+"/hidden-too", 0o600) // the same port: the same process
	n.tell("b")
	one.next(t)
	if now := processes(t); !slices.Equal(now, pids) {
		t.Errorf("processes %v, then %v", pids, now)
	}
	write(two.URL+"/hidden", 0o600)
	n.tell("c")
	if e := two.next(t); e.ID != "c" {
		t.Errorf("it got %+v", e)
	}
	one.none(t)
	two.Close()
	n.tell("d")
	n.complains("cannot call 127.0.0.1:")
	for _, said := range append(n.Complaints(), n.log.String()) {
		if strings.Contains(said, "hidden") {
			t.Errorf("the secret is in %q", said)
		}
	}
	kept, err := os.ReadDir(n.dir)
	for _, e := range kept {
		text, rerr := os.ReadFile(filepath.Join(n.dir, e.Name()))
		if err = errors.Join(err, rerr); bytes.Contains(text, []byte("hidden")) {
			t.Errorf("the secret is in %s", e.Name())
		}
	}
	if err != nil {
		t.Error(err)
	}
}

// What does not fit is dropped, the oldest first, and the receiver and the log are told so.
func TestAQueueThatIsFullDropsTheOldest(t *testing.T) {
	stalled, goOn := make(chan struct{}), make(chan struct{})
	s := serve(t, httptest.NewServer, func(http.ResponseWriter, *http.Request) {
		close(stalled)
		<-goOn
		panic(http.ErrAbortHandler)
	})
	n := begun(t, t.TempDir(), notify.Receiver{Name: "web", URL: s.URL, Timeout: time.Minute})
	n.tell("0")
	<-stalled
	const queued, more = 1000, 20
	for i := range queued + more - 1 {
		n.tell(fmt.Sprint(i + 1))
	}
	close(goOn)
	for i := range queued {
		if e := s.next(t); e.ID != fmt.Sprint(i+more) || (e.Dropped == more) != (i == 0) {
			t.Fatalf("event %d is %q, after %d that were dropped", i, e.ID, e.Dropped)
		}
	}
	n.says("[WARN]  notices for a receiver are dropped, the oldest first: receiver=web waiting=1000",
		"[WARN]  a receiver of notices cannot be told: receiver=web", "[INFO]  a receiver of notices is told again: receiver=web")
}

// A process that is killed costs no event; one that is killed while it has nothing to do is
// missed by nobody.
func TestAProcessThatIsKilledIsStartedAgain(t *testing.T) {
	stalled := make(chan struct{})
	s := serve(t, httptest.NewServer, func(_ http.ResponseWriter, r *http.Request) {
		close(stalled)
		<-r.Context().Done()
	})
	n := begun(t, t.TempDir(), notify.Receiver{Name: "web", URL: s.URL, Timeout: time.Minute})
	n.tell("a")
	<-stalled
	pids := processes(t)
	if len(pids) != 1 {
		t.Fatalf("processes %v", pids)
	}
	if err := syscall.Kill(pids[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if e := s.next(t); e.ID != "a" {
		t.Errorf("it got %+v", e)
	}
	n.says("[WARN]  a receiver of notices cannot be told: receiver=web error=\"storage-notify ended (signal: killed)\"", "[INFO]  a receiver of notices is told again: receiver=web")
	if err := syscall.Kill(processes(t)[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(t, "a line of its death", func() bool { return strings.Contains(n.log.String(), "has died") })
	n.tell("b")
	if e := s.next(t); e.ID != "b" {
		t.Errorf("it got %+v", e)
	}
	s.none(t)
}

// What waits when the daemon ends is told by the next one, and what has happened between
// them; nothing is told twice.
func TestTheNextDaemonGoesOn(t *testing.T) {
	dir := t.TempDir()
	s := serve(t, httptest.NewServer, status(500))
	away := notify.Receiver{Name: "web", URL: "http://127.0.0.1:1"}
	n := begun(t, dir, away)
	n.tell("a")
	n.complains("cannot call 127.0.0.1:1")
	n.Close()
	r := notify.Receiver{Name: "web", URL: s.URL}
	n = begun(t, dir, r)
	began := time.Now()
	for range 2 {
		n.Replay(func(since time.Time) ([]record.Notice, error) {
			if since.After(began) {
				t.Errorf("it asks for what came since %v", since)
			}
			return []record.Notice{failure("a"), failure("b"), {ID: "c", Time: began, Type: record.NoticeJob, Urgency: record.Ordinary}}, nil
		})
	}
	n.tell("d")
	for _, want := range []string{"a", "b", "d"} {
		if e := s.next(t); e.ID != want {
			t.Errorf("it got %q, want %q", e.ID, want)
		}
	}
	await(t, "nothing that waits", func() bool { // it may have the event, and we not know
		kept, _ := os.ReadFile(filepath.Join(dir, "web.json"))
		return bytes.HasPrefix(kept, []byte(`{"waiting":[],`))
	})
	n.Close()
	s.none(t)
	n = begun(t, dir, r)
	n.tell("b")
	n.tell("e")
	if e := s.next(t); e.ID != "e" {
		t.Errorf("it got %q", e.ID)
	}
}

// Receivers come, change and go while the daemon runs.
func TestReceiversChange(t *testing.T) {
	dir := t.TempDir()
	one, two := serve(t, httptest.NewServer), serve(t, httptest.NewServer)
	away := notify.Receiver{Name: "web", URL: "http://127.0.0.1:1"}
	n := begun(t, dir, away)
	n.tell("a")
	n.complains("127.0.0.1:1")
	n.apply(notify.Receiver{Name: "web", URL: one.URL}, notify.Receiver{Name: "other", URL: two.URL, Filter: notify.Filter{Owners: []string{"bob"}}})
	if e := one.next(t); e.ID != "a" {
		t.Errorf("it got %q", e.ID)
	}
	n.tell("b")
	one.next(t)
	two.none(t)
	pids := processes(t)
	n.apply(notify.Receiver{Name: "web", URL: one.URL}, notify.Receiver{Name: "other", URL: two.URL})
	n.tell("c")
	if e := one.next(t); e.ID != "c" {
		t.Errorf("it got %q", e.ID)
	}
	if e := two.next(t); e.ID != "c" {
		t.Errorf("it got %q", e.ID)
	}
	if now := processes(t); !slices.Contains(now, pids[0]) {
		t.Errorf("processes %v, then %v: that of a receiver that is as it was ends", pids, now)
	}
	n.apply()
	n.tell("d")
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 || len(processes(t)) > 0 {
		t.Errorf("left are %v (%v), processes %v", left, err, processes(t))
	}
}
