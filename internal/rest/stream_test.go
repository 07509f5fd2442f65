package rest_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"storaged/internal/record"
	"storaged/internal/rest"
	"storaged/internal/rest/client"
)

func publish(h *host, from, to int) {
	for i := from; i < to; i++ {
		p := h.svc.pool()
		p.Name = fmt.Sprint(i)
		h.svc.hub.Publish(record.Event{Type: "pool.state", Pool: &p})
	}
}

// read reads events up to a number of them, which must be those from to to.
func read(t *testing.T, s *client.EventStream, from, to int) (last int64) {
	t.Helper()
	for i := from; i < to; i++ {
		e, err := s.Next()
		if err != nil || e.Pool == nil || e.Pool.Name != fmt.Sprint(i) {
			t.Fatalf("event %d: %+v, %v", i, e, err)
		}
		last = e.Seq
	}
	return last
}

func TestEventsResumeWithoutGapOrDuplicate(t *testing.T) {
	h := newHost(t, nil)
	c := h.client(t, h.ro)
	var after int64
	for part := range 4 {
		s, err := c.Events(t.Context(), after)
		if err != nil {
			t.Fatal(err)
		}
		if part == 0 {
			publish(h, 0, 5) // the stream has begun, so none is missed
		}
		after = read(t, s, part*5, part*5+5)
		s.Close()
		publish(h, part*5+5, part*5+10)
	}
}

func TestEventsOfEveryKindPassTheContract(t *testing.T) {
	h := newHost(t, nil)
	s, err := h.client(t, h.ro).Events(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, full := range []bool{false, true} {
		h.svc.full = full
		j, v, p := h.svc.job(record.Running), h.svc.vol(), h.svc.pool()
		for _, e := range []record.Event{{Type: "job.progress", Job: &j}, {Type: "volume.created", Volume: &v}, {Type: "pool.state", Pool: &p}} {
			h.svc.hub.Publish(e)
			got, err := s.Next()
			if err != nil || got.Type != e.Type || (got.Job == nil) != (e.Job == nil) || (got.Volume == nil) != (e.Volume == nil) {
				t.Fatalf("%s arrived as %+v, %v", e.Type, got, err)
			}
		}
	}
}

func TestEventsTooOldBeginWithReset(t *testing.T) {
	h := newHost(t, nil)
	s, err := h.client(t, h.ro).Events(t.Context(), 17)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if e, err := s.Next(); err != nil || e.Type != "reset" {
		t.Fatalf("got %+v, %v", e, err)
	}
	publish(h, 0, 1)
	read(t, s, 0, 1)
}

func TestEventsAreWrittenAsTheStandardSays(t *testing.T) {
	h := newHost(t, nil)
	conn := dialRaw(t, h.ro)
	fmt.Fprint(conn, "GET /v1/events HTTP/1.0\r\nHost: x\r\n\r\n") // 1.0: no chunks between
	lines := bufio.NewScanner(conn)
	for lines.Scan() && lines.Text() != "" {
	}
	publish(h, 0, 1)
	var got []string
	for len(got) < 6 && lines.Scan() {
		got = append(got, lines.Text())
	}
	text := strings.Join(got, "\n")
	if !strings.HasPrefix(text, "retry: 1000\n\nid: ") || !strings.Contains(text, "\nevent: pool.state\ndata: {\"seq\":") || got[5] != "" {
		t.Errorf("got %s", text)
	}
}

func TestSilentStreamIsKeptAlive(t *testing.T) {
	h := newHost(t, func(s *rest.Server) { s.SetTimes(time.Second, time.Millisecond) })
	conn := dialRaw(t, h.ro)
	fmt.Fprint(conn, "GET /v1/events HTTP/1.0\r\nHost: x\r\n\r\n")
	lines := bufio.NewScanner(conn)
	for comments := 0; comments < 3; {
		if !lines.Scan() {
			t.Fatal("the stream ended")
		}
		if lines.Text() == ":" {
			comments++
		}
	}
	// A client of ours does not take a comment for an event.
	s, err := h.client(t, h.ro).Events(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	publish(h, 0, 3)
	read(t, s, 0, 3)
}

// big is an event that fills a socket's buffer quickly.
func big(h *host, n int) record.Event {
	p := h.svc.pool()
	p.Name, p.Reason = fmt.Sprint(n), strings.Repeat("x", 100<<10)
	return record.Event{Type: "pool.state", Pool: &p}
}

func TestClientThatDoesNotReadIsDroppedAndSlowsNobody(t *testing.T) {
	h := newHost(t, func(s *rest.Server) { s.SetTimes(2*time.Second, time.Hour) })
	stuck := dialRaw(t, h.ro)
	fmt.Fprint(stuck, "GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
	if _, err := stuck.Read(make([]byte, 1)); err != nil { // the stream has begun
		t.Fatal(err)
	}
	s, err := h.client(t, h.ro).Events(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	const many = 40
	for i := range many {
		h.svc.hub.Publish(big(h, i))
		read(t, s, i, i+1)
	}
	<-h.svc.ended // the stuck one's, as the other is still here
	h.svc.hub.Publish(big(h, many))
	read(t, s, many, many+1)
	if b, err := io.ReadAll(stuck); err != nil || len(b) > many*100<<10 {
		t.Errorf("the stuck client got %d bytes and %v", len(b), err)
	}
}

func TestStreamEndsWhenItsClientLeaves(t *testing.T) {
	h := newHost(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	s, err := h.client(t, h.ro).Events(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	<-h.svc.ended
	if _, err := s.Next(); !errors.Is(err, context.Canceled) {
		t.Errorf("Next: %v", err)
	}
	s.Close()
}

// Shutdown ends streams and waits, and says to each how things stand.
func TestShutdownEndsStreamsAndWaits(t *testing.T) {
	h := newHost(t, nil)
	s, err := h.client(t, h.ro).Events(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	rt := h.transport(t, h.main)
	var done sync.WaitGroup
	done.Go(func() {
		resp, body := answer(t, rt, request(t, "GET", "/v1/jobs/412/wait", ""))
		if resp.StatusCode != http.StatusOK || !strings.Contains(body, `"state":"running"`) {
			t.Errorf("wait: %d %s", resp.StatusCode, body)
		}
	})
	done.Go(func() {
		r := request(t, "POST", "/v1/pools/p/start", "")
		r.Header.Set("Prefer", "wait=600")
		resp, body := answer(t, rt, r)
		if resp.StatusCode != http.StatusAccepted || !strings.Contains(body, `"state":"queued"`) {
			t.Errorf("start: %d %s", resp.StatusCode, body)
		}
	})
	<-h.svc.waits
	<-h.svc.waits
	if err := h.srv.Shutdown(t.Context()); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	done.Wait()
	if _, err := s.Next(); record.CodeOf(err) != record.Unreachable || !strings.Contains(err.Error(), h.ro) {
		t.Errorf("Next: %v", err)
	}
	if err := h.srv.Shutdown(t.Context()); err != nil {
		t.Errorf("Shutdown again: %v", err)
	}
	late := client.Dial(h.main)
	defer late.Close()
	if _, err := late.Pools(t.Context()); record.CodeOf(err) != record.Unreachable {
		t.Errorf("afterwards: %v", err)
	}
}

// holding is a service whose PauseJob waits for the test.
type holding struct {
	*fake
	entered, release chan struct{}
	err              chan error // of PauseJob's context, after the release
}

func (f *holding) PauseJob(ctx context.Context, c record.Caller, job string) (record.Job, error) {
	f.entered <- struct{}{}
	<-f.release
	select { // a server that told would do so within this
	case <-ctx.Done():
	case <-time.After(100 * time.Millisecond):
	}
	f.err <- ctx.Err()
	return f.fake.PauseJob(ctx, c, job)
}

func newHolding(t *testing.T) (*host, *holding) {
	f := newFake()
	svc := &holding{f, make(chan struct{}), make(chan struct{}), make(chan error, 1)}
	return hostOf(t, svc, f, nil), svc
}

func TestChangeIsNotDisturbedByAClientThatLeaves(t *testing.T) {
	h, svc := newHolding(t)
	c := client.Dial(h.main)
	defer c.Close()
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan error)
	go func() {
		_, err := c.PauseJob(ctx, "1")
		left <- err
	}()
	<-svc.entered
	cancel()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("client got %v", err)
	}
	close(svc.release)
	if err := <-svc.err; err != nil {
		t.Errorf("the change was told: %v", err)
	}
}

func TestShutdownLetsRequestsFinish(t *testing.T) {
	h, svc := newHolding(t)
	c := h.client(t, h.main)
	got := make(chan error)
	go func() {
		_, err := c.PauseJob(t.Context(), "1")
		got <- err
	}()
	<-svc.entered
	shut := make(chan error)
	go func() { shut <- h.srv.Shutdown(t.Context()) }()
	close(svc.release)
	if err := <-got; err != nil {
		t.Errorf("the request in hand: %v", err)
	}
	if err := <-shut; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
}

func TestShutdownBreaksWhatDoesNotFinishInTime(t *testing.T) {
	h, svc := newHolding(t)
	c := h.client(t, h.main)
	got := make(chan error)
	go func() {
		_, err := c.PauseJob(t.Context(), "1")
		got <- err
	}()
	<-svc.entered
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := h.srv.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown: %v", err)
	}
	if err := <-got; record.CodeOf(err) != record.Unreachable {
		t.Errorf("the request in hand: %v", err)
	}
	close(svc.release)
}
