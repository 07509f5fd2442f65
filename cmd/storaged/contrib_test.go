package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/testenv"
)

// contrib is what comes with the packages for other programs.
const contrib = "../../contrib"

// promtool runs Prometheus' own tool, which must be content.
func promtool(t *testing.T, stdin []byte, args ...string) {
	t.Helper()
	cmd := exec.Command(testenv.Tool(t, "promtool"), args...)
	cmd.Stdin = bytes.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool %q: %v\n%s", args, err, out)
	}
}

// expressions are those of the dashboard, with what Grafana puts in for its variables.
func expressions(t *testing.T) (all []string) {
	t.Helper()
	var dashboard struct {
		Panels []struct {
			Type, Title string
			Targets     []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(must(os.ReadFile(contrib+"/grafana/storaged.json"))(t), &dashboard); err != nil {
		t.Fatal(err)
	}
	for _, p := range dashboard.Panels {
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %q shows nothing", p.Title)
		}
		for _, target := range p.Targets {
			all = append(all, grafanas.Replace(target.Expr))
		}
	}
	if len(all) == 0 {
		t.Fatal("there is nothing in the dashboard")
	}
	return all
}

// grafanas are the variables of the dashboard, and values that they may have.
var grafanas = strings.NewReplacer("$__rate_interval", "5m", "$__range", "6h", "$instance", ".*", "$kind", ".*", "$pool", ".*")

func TestAlertsAreTestedByPrometheus(t *testing.T) {
	t.Parallel()
	promtool(t, nil, "check", "rules", contrib+"/prometheus/storaged.rules.yml")
	promtool(t, nil, "test", "rules", contrib+"/prometheus/storaged.rules.test.yml")
	promtool(t, nil, "check", "config", contrib+"/prometheus/prometheus.yml")
}

// Every alert has a test: it is named in the file of tests.
func TestEveryAlertIsTested(t *testing.T) {
	t.Parallel()
	tests := string(must(os.ReadFile(contrib + "/prometheus/storaged.rules.test.yml"))(t))
	rules := string(must(os.ReadFile(contrib + "/prometheus/storaged.rules.yml"))(t))
	for _, m := range regexp.MustCompile(`- alert: (\w+)`).FindAllStringSubmatch(rules, -1) {
		if !regexp.MustCompile(`\b` + m[1] + `\b`).MatchString(tests) {
			t.Errorf("%s is not tested", m[1])
		}
	}
}

func TestPrometheusReadsTheDashboard(t *testing.T) {
	t.Parallel()
	rules := "groups:\n- name: dashboard\n  rules:\n"
	for i, e := range expressions(t) {
		rules += fmt.Sprintf("  - {record: 'dashboard:%d', expr: %s}\n", i, must(json.Marshal(e))(t))
	}
	file := filepath.Join(t.TempDir(), "rules.yml")
	if err := os.WriteFile(file, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, nil, "check", "rules", file)
}

// ours are names of metrics of ours in a text.
var ours = regexp.MustCompile(`\bstoraged_[a-z_]+`)

// measured are the metrics of a daemon that has had jobs of several ends, by their names
// without the endings of histograms.
func (h *host) measured() (text []byte, names []string) {
	h.t.Helper()
	h.random("base", 8*mib)
	h.succeed(h.began(h.clone("base", "quick", noReflink)), nil)
	h.define("stopped", filepath.Join(h.dir, "stopped"))
	slow := h.slowClone("slow")
	h.running(slow)
	text = must(h.client.Metrics(h.ctx()))(h.t)
	h.cancel(slow)
	h.end(slow, nil)
	for line := range strings.Lines(string(text)) {
		if words := strings.Fields(line); words[1] == "TYPE" {
			names = append(names, words[2])
		}
	}
	return text, names
}

// What alerts and the dashboard are about is what a daemon tells.
func TestAlertsAndDashboardAreAboutWhatThereIs(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	text, names := h.measured()
	promtool(t, text, "check", "metrics")
	rules := must(os.ReadFile(contrib + "/prometheus/storaged.rules.yml"))(t)
	manual := string(must(os.ReadFile("../../docs/operations.md"))(t))
	for _, name := range ours.FindAllString(string(rules)+strings.Join(expressions(t), "\n"), -1) {
		for _, part := range []string{"_bucket", "_sum", "_count"} {
			name = strings.TrimSuffix(name, part)
		}
		// Only a volume group with thin pools has their figures.
		thin := strings.HasPrefix(name, "storaged_pool_thin_") && strings.Contains(manual, "`"+name+"{")
		if !thin && !slices.Contains(names, name) {
			t.Errorf("there is no metric %s", name)
		}
	}
	for _, name := range names {
		if strings.HasPrefix(name, "storaged_") && !strings.Contains(manual, "`"+name) {
			t.Errorf("nothing is said of %s in the manual", name)
		}
	}
}

// Labels do not grow with volumes and jobs.
func TestMetricsDoNotGrowWithVolumes(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	series := func() int { return strings.Count(string(must(h.client.Metrics(h.ctx()))(t)), "\nstoraged_") }
	h.sparse("first", mib)
	before := series()
	for i := range 5 {
		h.sparse(fmt.Sprintf("v%d", i), mib)
	}
	if after := series(); after != before {
		t.Errorf("there were %d series, and now there are %d", before, after)
	}
	b := must(h.client.Metrics(h.ctx()))(t)
	if !strings.Contains(string(b), `storaged_volumes{pool="pool",state="ready"} 6`) || !strings.Contains(string(b), `storaged_pool_provisioned_bytes{pool="pool"} 6.291456e+06`) {
		t.Errorf("the volumes are not counted:\n%s", b)
	}
}

// The proxy that contrib has for TCP gives Prometheus what the socket does, and lets nobody
// change anything.
func TestMetricsPassThroughTheProxy(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	unit := string(must(os.ReadFile(contrib + "/prometheus/storaged-metrics.service"))(t))
	command := regexp.MustCompile(`(?m)^ExecStart=(.*)$`).FindStringSubmatch(unit)
	const socket = "/run/storaged/storaged-ro.sock"
	argv := strings.Fields(strings.Replace(command[1], socket, filepath.Join(h.dir, "storaged-ro.sock"), 1))
	_, err := os.Stat(argv[0])
	testenv.Need(t, argv[0], err == nil)
	listener := must(net.Listen("tcp", "127.0.0.1:0"))(t).(*net.TCPListener)
	defer listener.Close()
	// As the service manager does it (sd_listen_fds(3)).
	proxy := exec.Command("sh", append([]string{"-c", `LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"`, "sh"}, argv...)...)
	proxy.ExtraFiles = []*os.File{must(listener.File())(t)}
	h.must(proxy.Start())
	defer func() {
		_ = proxy.Process.Kill()
		_ = proxy.Wait() // says that it was killed
	}()
	url := "http://" + listener.Addr().String()
	got := must(http.Get(url + "/metrics"))(t)
	defer got.Body.Close()
	var body bytes.Buffer
	must(body.ReadFrom(got.Body))(t)
	if got.StatusCode != http.StatusOK || !strings.Contains(body.String(), "\nstoraged_state_writable 1\n") {
		t.Errorf("%s\n%s", got.Status, body.String())
	}
	refused := must(http.Post(url+"/v1/pools/pool/stop", "application/json", strings.NewReader("{}")))(t)
	refused.Body.Close()
	if refused.StatusCode != http.StatusForbidden {
		t.Errorf("a pool is stopped through it: %s", refused.Status)
	}
}

// The script for the node exporter's directory puts our figures there, and leaves what there
// was when the daemon is away.
func TestMetricsAreWrittenForTheNodeExporter(t *testing.T) {
	t.Parallel()
	testenv.Tool(t, "curl")
	h := newHost(t)
	dir := t.TempDir()
	write := func() error {
		return exec.Command(contrib+"/prometheus/storaged-textfile", dir, filepath.Join(h.dir, "storaged-ro.sock")).Run()
	}
	h.must(write())
	text := must(os.ReadFile(filepath.Join(dir, "storaged.prom")))(t)
	promtool(t, text, "check", "metrics")
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "storaged_") && !strings.HasPrefix(line, "# HELP storaged_") && !strings.HasPrefix(line, "# TYPE storaged_") {
			t.Errorf("there is %q", line)
		}
	}
	h.stop()
	err := write()
	if again := must(os.ReadFile(filepath.Join(dir, "storaged.prom")))(t); err == nil || !bytes.Equal(again, text) {
		t.Errorf("without the daemon: %v, and there is\n%s", err, again)
	}
	if entries := must(os.ReadDir(dir))(t); len(entries) != 1 {
		t.Errorf("there are %v", entries)
	}
	h.start()
}

// Volumes that jobs have left incomplete, and helpers that have died, are counted.
func TestMetricsCountWhatWentWrong(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.random("v", 16*mib)
	h.patchLimits(contract.LimitsPatch{Rate: []byte("1048576")})
	st := h.began(h.wipe("v"))
	h.running(st)
	h.cancel(st)
	if j := h.end(st, nil); j.State != record.Canceled {
		t.Fatalf("the job is %s", outcome(j))
	}
	b := string(must(h.client.Metrics(h.ctx()))(t))
	for _, line := range []string{`storaged_volumes{pool="pool",state="incomplete"} 1`, `storaged_volumes{pool="pool",state="ready"} 0`, `storaged_jobs_ended_total{kind="volume.wipe",outcome="canceled"} 1`} {
		if !strings.Contains(b, line) {
			t.Errorf("there is no %q in\n%s", line, b)
		}
	}
}
