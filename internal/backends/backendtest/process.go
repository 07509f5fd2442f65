package backendtest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"testing"

	"storaged/internal/backends"
	"storaged/internal/record"
)

// orderEnv makes the test binary a second process that carries out an order.
const orderEnv = "STORAGED_BACKENDTEST_ORDER"

// What a second process does until it is told to end or killed.
const (
	actHold      = "hold"      // has a volume open
	actWrite     = "write"     // has written a draft
	actRecording = "recording" // is in Commit, and nothing is recorded
	actRecorded  = "recorded"  // is in Commit, and the identity is recorded
	actCommitted = "committed" // is behind Commit, and has not told anybody
)

// draftContent is what a second process writes into a draft.
var draftContent = []byte("made by a helper that was killed")

// order is what a second process has to do. Record is the file for the
// identity of a commit.
type order struct {
	Act    string
	Pool   backends.Pool
	Name   string
	Job    string
	Access backends.Access
	Record string
}

// Main runs the tests of a driver's package, or is one of their processes.
func Main(m *testing.M, b backends.Backend) {
	text := os.Getenv(orderEnv)
	if text == "" {
		os.Exit(m.Run())
	}
	var o order
	err := json.Unmarshal([]byte(text), &o)
	if err == nil {
		err = carryOut(b, o)
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}

// carryOut says "there" when the process is where the order wants it, and ends
// with its input.
func carryOut(b backends.Backend, o order) error {
	ctx := context.Background()
	if o.Act == actHold {
		v, err := b.Open(ctx, o.Pool, o.Name, o.Access)
		if err != nil {
			return err
		}
		defer v.Close()
		return there()
	}
	d, err := b.(backends.Creator).Create(ctx, o.Pool, backends.NewVolume{Name: o.Name, Job: o.Job, Size: int64(len(draftContent)), Format: record.FormatRaw})
	if err != nil {
		return err
	}
	defer runtime.KeepAlive(d) // what is collected is closed, and its lock gone
	if _, err := d.Content().WriteAt(draftContent, 0); err != nil {
		return err
	}
	if o.Act == actWrite {
		return there()
	}
	err = d.Commit(ctx, func(identity []byte) error { return note(o, identity) })
	if err != nil {
		return err
	}
	return there()
}

// note is the commit record of a second process.
func note(o order, identity []byte) error {
	if o.Act == actRecording {
		return there()
	}
	if err := os.WriteFile(o.Record, identity, 0o600); err != nil {
		return err
	}
	if o.Act == actRecorded {
		return there()
	}
	return nil
}

func there() error {
	fmt.Println("there")
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// process is a second process that is where its order wanted it.
type process struct {
	r   *rig
	cmd *exec.Cmd
	in  io.Closer
}

// process starts a second process on the rig's pool. It is killed at the end
// of the test if it was not ended before.
func (r *rig) process(o order) *process {
	r.Helper()
	o.Pool, o.Name = r.p, r.n(o.Name)
	text, err := json.Marshal(o)
	r.must(err)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), orderEnv+"="+string(text), "GORACE=atexit_sleep_ms=0")
	in, err := cmd.StdinPipe()
	r.must(err)
	out, err := cmd.StdoutPipe()
	r.must(err)
	r.must(cmd.Start())
	p := &process{r, cmd, in}
	r.Cleanup(p.kill)
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "there\n" {
		r.Fatalf("the second process said %q (%v)", line, err)
	}
	return p
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// end lets the process run to its end.
func (p *process) end() {
	p.r.Helper()
	p.in.Close() // it reads until then
	p.r.must(p.cmd.Wait())
}

// kill ends the process as nothing else does. One that has ended is left
// alone: its pid may be another's.
func (p *process) kill() {
	if p.cmd.ProcessState != nil {
		return
	}
	p.cmd.Process.Kill() // it is our child and not waited for
	p.cmd.Wait()         // "signal: killed"
}
