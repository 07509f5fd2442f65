package notify

import (
	"os"
	"strings"
	"testing"

	"storaged/internal/record"
)

func TestReceiversThatCannotBeToldAreRefused(t *testing.T) {
	web := func(change func(*Receiver)) []Receiver {
		r := Receiver{Name: "a", URL: "https://example.org/x"}
		change(&r)
		return []Receiver{r}
	}
	for says, all := range map[string][]Receiver{
		"either program or url":                          {{Name: "a"}},
		"or url_file instead of that":                    web(func(r *Receiver) { r.URLFile = "/address" }),
		"url_file is an absolute path":                   web(func(r *Receiver) { r.URL, r.URLFile = "", "address" }),
		"begins with an absolute path":                   {{Name: "a", Program: []string{"mail"}}},
		"there is no user \"no such\"":                   {{Name: "a", Program: []string{"/bin/true"}, User: "no such"}},
		"are called \"a\"":                               {{Name: "a", URL: "https://h"}, {Name: "a", URL: "https://i"}},
		"receiver 1 of notices has no name: notify.name": {{URL: "https://h"}},
		"name":                              {{Name: "../a", URL: "https://h"}},
		"url is https://HOST":               web(func(r *Receiver) { r.URL = "ftp://token@h" }),
		"everybody could read":              web(func(r *Receiver) { r.URL = "https://u:token@h" }),
		"a port that is none":               web(func(r *Receiver) { r.URL = "https://h:99999" }),
		"belong together":                   web(func(r *Receiver) { r.SecretFile = "/token" }),
		"the name of a header":              web(func(r *Receiver) { r.SecretFile, r.SecretHeader = "/token", "X Y" }),
		"over https":                        web(func(r *Receiver) { r.URL, r.SecretFile, r.SecretHeader = "http://h", "/token", "X" }),
		"ca_file is an absolute path":       web(func(r *Receiver) { r.CAFile = "ca" }),
		"user is for a program":             web(func(r *Receiver) { r.User = "root" }),
		"no kind of job like \"x.*\"":       web(func(r *Receiver) { r.Filter.Kinds = []string{"x.*"} }),
		"field \"outcomes\" is \"running\"": web(func(r *Receiver) { r.Filter.Outcomes = []string{"running"} }),
		"field \"events\" is \"job\"":       web(func(r *Receiver) { r.Filter.Events = []string{"job"} }),
		"field \"priority\" is \"warn\"":    web(func(r *Receiver) { r.Filter.Priority = "warn" }),
		"timeout is at most":                web(func(r *Receiver) { r.Timeout = 2 * maxTimeout }),
		"at most 16":                        make([]Receiver, MaxReceivers+1),
	} {
		err := Complete(all)
		if err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "token") {
			t.Errorf("%v, want one that says %s", err, says)
		}
	}
}

func TestReceiversAreCompleted(t *testing.T) {
	all := []Receiver{
		{Name: "a", Program: []string{"/bin/true"}},
		{Name: "b", URL: "http://[::1]:8080/x", SecretHeader: "Authorization", SecretFile: "/token", Filter: Filter{Kinds: []string{"volume.*"}}},
	}
	if err := Complete(all); err != nil {
		t.Fatal(err)
	}
	if who := all[0].User; (who == defaultUser) != (os.Geteuid() == 0) {
		t.Errorf("the program runs as %q", who)
	}
	if all[0].Timeout != programTimeout || all[1].Timeout != webTimeout || all[1].Filter.Priority != record.Alarming {
		t.Errorf("%+v", all)
	}
	for url, want := range map[string]uint16{"https://h/": 443, "http://h": 80, all[1].URL: 8080} {
		if got, err := PortOf(url); got != want || err != nil {
			t.Errorf("port of %s is %d (%v)", url, got, err)
		}
	}
}

func TestFilters(t *testing.T) {
	failed := record.Notice{
		Type: record.NoticeJob, Urgency: record.Alarming, Kind: record.VolumeClone, Outcome: "failed", Owner: "alice", Labels: map[string]string{"team": "db", "x": "1"},
	}
	done := record.Notice{Type: record.NoticeJob, Urgency: record.Ordinary, Kind: record.VolumeClone, Outcome: "succeeded", Owner: "alice"}
	away := record.Notice{Type: record.NoticePool, Urgency: record.Alarming, Object: "p", Outcome: "unreachable"}
	back := record.Notice{Type: record.NoticePool, Urgency: record.Notable, Object: "p", Outcome: "active"}
	for _, c := range []struct {
		name   string
		filter Filter
		passes string // the first letters of those that do
	}{
		{"none", Filter{}, "fab"},
		{"all", Filter{Priority: record.Ordinary}, "fdab"},
		{"broken", Filter{Priority: record.Broken}, "b"},
		{"kinds", Filter{Kinds: []string{"pool.*", "volume.clone"}}, "f"},
		{"another kind", Filter{Kinds: []string{"pool.*"}}, ""},
		{"events", Filter{Events: []string{record.NoticePool}}, "ab"},
		{"outcomes", Filter{Outcomes: []string{"unreachable", "succeeded"}}, "a"},
		{"owners", Filter{Priority: record.Ordinary, Owners: []string{"bob", "alice"}}, "fd"},
		{"owner and outcome", Filter{Owners: []string{"alice"}, Outcomes: []string{"canceled"}}, ""},
		{"labels", Filter{Labels: map[string]string{"team": "db"}}, "f"},
		{"another label", Filter{Labels: map[string]string{"team": "db", "x": "2"}}, ""},
	} {
		if err := c.filter.complete(); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		got := ""
		for letter, n := range map[string]record.Notice{"f": failed, "d": done, "a": away, "b": back} {
			if c.filter.Passes(&n) {
				got += letter
			}
		}
		if len(got) != len(c.passes) || strings.Trim(got, c.passes) != "" {
			t.Errorf("%s: %q pass, want %q", c.name, got, c.passes)
		}
	}
}
