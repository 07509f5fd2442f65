package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"storaged/internal/record"
	"storaged/internal/rest/client"
	"storaged/internal/service/contract"
)

// startTimeout bounds the daemon's start on an empty state: it is ready in
// milliseconds, or broken.
const startTimeout = 10 * time.Second

// samples are durations of one kind of call.
type samples []time.Duration

// at gives the quantile q, the greatest for 1.
func (s samples) at(q float64) time.Duration {
	sorted := slices.Clone(s)
	slices.Sort(sorted)
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// rig is a private daemon with one pool.
type rig struct {
	dir    string
	run    string // the daemon's runtime directory
	sock   string
	daemon *exec.Cmd
	client *client.Client

	hasBase bool // the volume "base" is made
}

const pool = "bench"

func startRig(ctx context.Context, bin string) (*rig, error) {
	dir, err := os.MkdirTemp("", "storaged-bench-")
	if err != nil {
		return nil, err
	}
	run, err := os.MkdirTemp(inMemory(), "storaged-bench-")
	if err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "daemon.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close() // the daemon has its own
	sock, config := filepath.Join(dir, "storaged.sock"), filepath.Join(dir, "storaged.toml")
	if err := os.WriteFile(config, []byte("[limits]\nrunning_pool = 64\nrunning_device = 64\n"), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.Command(filepath.Join(bin, "storaged"), "--config", config, "--socket", sock,
		"--state-dir", filepath.Join(dir, "state"), "--runtime-dir", run)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // as a service manager starts it
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	r := &rig{dir: dir, run: run, sock: sock, daemon: cmd, client: client.Dial(sock)}
	if err := r.ready(ctx); err != nil {
		r.stop()
		return nil, err
	}
	return r, nil
}

// inMemory is a directory in memory, as that is in which an installed daemon has its
// runtime directory, and libvirtd here has all of its own; "": there is none.
func inMemory() string {
	var st unix.Statfs_t
	const shm = "/dev/shm"
	if unix.Statfs(shm, &st) == nil && st.Type == unix.TMPFS_MAGIC {
		return shm
	}
	return ""
}

// ready waits for the daemon and makes the pool.
func (r *rig) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err := r.client.Version(ctx)
		if err == nil {
			break
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("the daemon does not answer: %w", err)
		}
	}
	return r.definePool(ctx, pool, filepath.Join(r.dir, "pool"))
}

// libvirtSocket is where clients of libvirt find the daemon, which is root's.
func (r *rig) libvirtSocket() string { return filepath.Join(r.dir, "libvirt.sock") }

func (r *rig) definePool(ctx context.Context, name, dir string) error {
	_, st, err := r.client.DefinePool(ctx, contract.Submit{}, contract.PoolDefine{
		Name: name, Type: "dir", Target: record.Target{Path: dir},
	}, true, true)
	if err != nil {
		return err
	}
	return r.end(ctx, st)
}

// end waits for a job and fails unless it succeeded.
func (r *rig) end(ctx context.Context, st contract.Started) error {
	j, err := r.client.WaitJob(ctx, st.Job.ID, time.Hour)
	if err == nil && j.State != record.Succeeded {
		err = fmt.Errorf("job %d: %v", j.Number, j.Error)
	}
	return err
}

func (r *rig) stop() {
	_ = r.daemon.Process.Signal(syscall.SIGTERM)
	_ = r.daemon.Wait()
	_ = os.RemoveAll(r.dir)
	_ = os.RemoveAll(r.run)
}

// timed measures one call.
func timed(call func() error) (time.Duration, error) {
	start := time.Now()
	err := call()
	return time.Since(start), err
}
