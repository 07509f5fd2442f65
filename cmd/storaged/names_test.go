package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"storaged/internal/record"
)

// badNames are refused by every way in, with nothing done.
var badNames = map[string]string{
	"parent":      "..",
	"self":        ".",
	"slash":       "a/b",
	"empty":       "",
	"long":        strings.Repeat("x", 256),
	"newline":     "a\nb",
	"nul":         "a\x00b",
	"dash":        "-x",
	"not UTF-8":   "a\xff",
	"reserved":    ".x.storaged",
	"bidi":        "a\u202eb",
	"space":       " a",
	"escape":      "a\x1b[31m",
	"slash first": "/etc/passwd",
}

// rest sends a raw request, as no client of ours would.
func (h *host) rest(method, path string, body any) (int, record.Error) {
	h.t.Helper()
	text, ok := body.([]byte)
	if !ok {
		var err error
		if text, err = json.Marshal(body); err != nil {
			h.t.Fatal(err)
		}
	}
	c := http.Client{
		Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", h.sock)
		}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	req := must(http.NewRequestWithContext(h.ctx(), method, "http://storaged"+path, bytes.NewReader(text)))(h.t)
	req.Header.Set("Content-Type", "application/json")
	resp := must(c.Do(req))(h.t)
	defer resp.Body.Close()
	var problem record.Error
	if err := json.NewDecoder(resp.Body).Decode(&struct {
		*record.Error
		Detail *string `json:"detail"`
	}{&problem, &problem.Message}); err != nil {
		h.t.Fatalf("%s %s: answer of status %d is no JSON: %v", method, path, resp.StatusCode, err)
	}
	return resp.StatusCode, problem
}

// snapshot lists everything below the test's directory but logs and state.
func (h *host) snapshot() string {
	var b strings.Builder
	_ = filepath.WalkDir(h.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.Name() == "state" {
			return filepath.SkipDir
		}
		b.WriteString(path + "\n")
		return nil
	})
	return b.String()
}

func TestBadNamesAreRefusedAlikeOverREST(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.sparse("good", mib)
	before := h.snapshot()
	for why, name := range badNames {
		path := url.PathEscape(name)
		calls := []struct {
			method, path string
			body         any
		}{
			{"POST", "/v1/pools", raw(`{"name":%s,"target":{"path":"/nowhere"}}`, name)},
			{"POST", "/v1/pools/pool/volumes", raw(`{"name":%s,"capacity":1048576}`, name)},
			{"POST", "/v1/pools/pool/volumes/good/clone", raw(`{"name":%s}`, name)},
			{"POST", "/v1/pools/pool/volumes/" + path + "/wipe", raw(`{}`, "")},
			{"POST", "/v1/pools/pool/volumes/" + path + "/verify", raw(`{}`, "")},
			{"POST", "/v1/pools/pool/volumes/" + path + "/resize", raw(`{"capacity":1}`, "")},
			{"DELETE", "/v1/pools/pool/volumes/" + path, raw(`{}`, "")},
		}
		for _, c := range calls {
			if c.path != "" && name == "" && !strings.Contains(string(c.body.([]byte)), "name") {
				continue // an empty path element is another path
			}
			status, problem := h.rest(c.method, c.path, c.body)
			if status != http.StatusBadRequest || problem.Code != record.Invalid {
				t.Errorf("%s: %s %s: %d %s %q", why, c.method, c.path, status, problem.Code, problem.Message)
			}
		}
	}
	if after := h.snapshot(); after != before {
		t.Errorf("something was made:\n%s", after)
	}
}

// raw puts a name into a JSON text, bytes that are no UTF-8 too.
func raw(format, name string) []byte {
	if !strings.Contains(format, "%s") {
		return []byte(format)
	}
	quoted := `"` + strings.NewReplacer("\n", `\n`, "\x00", `\u0000`, "\x1b", `\u001b`, `"`, `\"`).Replace(name) + `"`
	return []byte(strings.Replace(format, "%s", quoted, 1))
}

func TestBadInputIsRefusedOverREST(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.sparse("good", mib)
	before := h.snapshot()
	for _, c := range [][2]string{
		{"/v1/pools/pool/volumes", `{"name":"v","capacity":1048576,"colour":"red"}`},
		{"/v1/pools/pool/volumes", `{"name":"v","capacity":"many"}`},
		{"/v1/pools/pool/volumes", `{"name":"v","capacity":-1}`},
		{"/v1/pools/pool/volumes", `{"name":"v","capacity":0}`},
		{"/v1/pools/pool/volumes", `{"name":"v","capacity":9223372036854775808}`},
		{"/v1/pools/pool/volumes", `{"name":"v","capacity":1e30}`},
		{"/v1/pools/pool/volumes", `{"name":"v","capacity":1.5}`},
		{"/v1/pools/pool/volumes", `{"name":"v","capacity":10,"allocation":11}`},
		{"/v1/pools/pool/volumes", `{"name":"v","capacity":10,"allocation":-1}`},
		{"/v1/pools/pool/volumes", `{"name":"v","capacity":10,"limit":0}`},
		{"/v1/pools/pool/volumes", `{"name":"v","capacity":10,"limit":-5}`},
		{"/v1/pools/pool/volumes", `{"name":"v","name":"w","capacity":10}`},
		{"/v1/pools/pool/volumes", `{"name":"v","capacity":10} {}`},
		{"/v1/pools/pool/volumes", `{"name":["v"],"capacity":10}`},
		{"/v1/pools/pool/volumes", `[]`},
		{"/v1/pools/pool/volumes", ``},
		{"/v1/pools/pool/volumes?colour=red", `{"name":"v","capacity":10}`},
		{"/v1/pools/pool/volumes?lock_wait=-1", `{"name":"v","capacity":10}`},
		{"/v1/pools/pool/volumes/good/resize", `{"capacity":-1}`},
		{"/v1/pools/pool/volumes/good/clone", `{"name":"w","size":-1}`},
		{"/v1/pools/pool/volumes/good/clone", `{"name":"w","reflink":"maybe"}`},
		{"/v1/pools", `{"name":"q","target":{"path":"relative"}}`},
		{"/v1/pools", `{"name":"q","target":{"path":"/a/../b"}}`},
		{"/v1/pools", `{"name":"q"}`},
	} {
		status, problem := h.rest("POST", c[0], []byte(c[1]))
		if status != http.StatusBadRequest || problem.Code != record.Invalid || problem.Message == "" {
			t.Errorf("POST %s %s: %d %s %q", c[0], c[1], status, problem.Code, problem.Message)
		}
	}
	if after := h.snapshot(); after != before {
		t.Errorf("something was made:\n%s", after)
	}
}

func TestBadNamesAreRefusedByHandAndByCLI(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	before := h.snapshot()
	for why, name := range badNames {
		if strings.Contains(name, "\x00") {
			continue // cannot be an argument of a program
		}
		commands := [][]string{{"storagedctl", "--socket", h.sock, "vol", "create", "--", "pool/" + name, "1M"}}
		if name != "" && !strings.Contains(name, "/") && name != "." && name != ".." {
			commands = append(commands, []string{"storage-helper", "allocate", "--target", h.pool + "/" + name, "--capacity", "1M"})
		}
		for _, argv := range commands {
			out, err := exec.Command(filepath.Join(bin, argv[0]), argv[1:]...).CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != record.ExitUsage {
				t.Errorf("%s: %q: %v, want exit %d\n%s", why, argv, err, record.ExitUsage, out)
			}
		}
	}
	if after := h.snapshot(); after != before {
		t.Errorf("something was made:\n%s", after)
	}
}
