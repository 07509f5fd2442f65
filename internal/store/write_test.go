package store

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"storaged/internal/record"
)

// Tests start this binary again as another process; the variable says as what.
const actEnv = "STORE_TEST_ACT"

func TestMain(m *testing.M) {
	switch os.Getenv(actEnv) {
	case "":
		os.Exit(m.Run())
	case "write":
		writeForEver(os.Args[1])
	case "hold":
		holdForEver(os.Args[1])
	case "full":
		os.Exit(fillUp(os.Args[1]))
	default:
		panic("unknown act")
	}
}

// actor is this binary acting as another process on a state file.
func actor(t *testing.T, act, path string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.Command(os.Args[0], path)
	cmd.Env = append(os.Environ(), actEnv+"="+act)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() {
		cmd.Process.Kill() // it may be gone
		cmd.Wait()
	})
	return cmd, bufio.NewScanner(out)
}

const crashWriters = 8

// writeForEver opens the store and lets several writers put jobs and volumes
// without end, each telling what has been acknowledged.
func writeForEver(path string) {
	s, err := Open(path)
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	var out sync.Mutex
	for w := range crashWriters {
		go func() {
			for {
				var n int64
				err := s.Update(func(tx *Tx) (err error) {
					if n, err = tx.NextNumber(); err != nil {
						return err
					}
					v := testVolume(fmt.Sprint("pool", w), "last")
					v.Capacity = n
					return errors.Join(tx.PutJob(testJob(n, record.Running)), tx.PutVolume(v))
				})
				out.Lock()
				if err != nil {
					fmt.Println("error", err)
				}
				fmt.Println(w, n)
				out.Unlock()
			}
		}()
	}
	select {}
}

func TestKillLosesNothingAcknowledged(t *testing.T) {
	t.Parallel() // waits for the disk
	path := filepath.Join(t.TempDir(), "state.db")
	last := map[int]int64{} // acknowledged, by writer
	most := int64(0)
	for round := range 6 {
		cmd, out := actor(t, "write", path)
		lines := 0
		for out.Scan() {
			var w int
			var n int64
			if _, err := fmt.Sscan(out.Text(), &w, &n); err != nil {
				t.Fatalf("the writer says %q", out.Text())
			}
			last[w], most = n, max(most, n)
			if lines++; lines == 50+37*round {
				must(t, cmd.Process.Kill())
			}
		}
		cmd.Wait() // killed
		checkAcknowledged(t, path, last, most)
	}
}

// checkAcknowledged opens the store after the kill.
func checkAcknowledged(t *testing.T, path string, last map[int]int64, most int64) {
	t.Helper()
	s, err := Open(path)
	must(t, err)
	defer s.Close()
	if found, err := s.Verify(); err != nil || len(found) > 0 {
		t.Fatalf("after the kill: %v %v", err, found)
	}
	must(t, s.View(func(tx *Tx) error {
		for w, n := range last {
			v, err := tx.Volume(fmt.Sprint("pool", w), "last")
			if err != nil || v.Capacity < n {
				t.Errorf("writer %d was told that %d is durable, found is %+v (%v)", w, n, v, err)
			}
		}
		live, err := tx.LiveJobs()
		if err == nil && int64(len(live)) < most {
			t.Errorf("%d jobs are there, %d were acknowledged", len(live), most)
		}
		return err
	}))
}

func holdForEver(path string) {
	if _, err := Open(path); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("open")
	select {}
}

func TestAnotherProcessIsNamedAndItsDeathFreesTheState(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	cmd, out := actor(t, "hold", path)
	if !out.Scan() || out.Text() != "open" {
		t.Fatalf("the holder says %q", out.Text())
	}
	_, err := Open(path)
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("another storaged (pid %d) has locked %q", cmd.Process.Pid, filepath.Join(filepath.Dir(path), "lock"))) {
		t.Errorf("open beside it: %v", err)
	}
	must(t, cmd.Process.Kill())
	cmd.Wait() // killed
	reopen(t, path)
}

// fillUp writes until the "disk" (a limit on the size of files) is full, and
// then goes on after there is room again.
func fillUp(path string) int {
	signal.Ignore(syscall.SIGXFSZ)
	s, err := Open(path)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	limitFiles(64 << 10)
	n, err := int64(0), error(nil)
	for err == nil && n < 1000 {
		n++
		err = s.Update(func(tx *Tx) error { return tx.PutJob(testJob(n, record.Running)) })
	}
	if !errors.Is(err, ErrUnwritable) {
		fmt.Println("not full:", err)
		return 1
	}
	live := 0
	errView := s.View(func(tx *Tx) error {
		jobs, err := tx.LiveJobs()
		live = len(jobs)
		return err
	})
	again := s.Update(func(tx *Tx) error { return tx.PutJob(testJob(n, record.Running)) })
	limitFiles(1 << 30)
	later := s.Update(func(tx *Tx) error { return tx.PutJob(testJob(n, record.Running)) })
	found, errVerify := s.Verify()
	fmt.Println(n-int64(live), errors.Is(again, ErrUnwritable), later, found, errors.Join(errView, errVerify, s.Close()))
	return 0
}

// limitFiles lowers or raises the soft limit on the size of a file.
func limitFiles(size uint64) {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &l); err != nil {
		panic(err)
	}
	l.Cur = size
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &l); err != nil {
		panic(err)
	}
}

func TestFullDiskIsSurvived(t *testing.T) {
	_, out := actor(t, "full", filepath.Join(t.TempDir(), "state.db"))
	if !out.Scan() || out.Text() != "1 true <nil> [] <nil>" {
		t.Errorf("the writer says %q: jobs lost, refused again, with room, damage, error", out.Text())
	}
}

func TestFailedUpdateLeavesNoTraceAndNoHarm(t *testing.T) {
	s, _ := open(t)
	must(t, s.Update(func(tx *Tx) error {
		return errors.Join(tx.PutPool(testPool("images")), tx.PutVolume(testVolume("images", "a")))
	}))
	errMine := errors.New("mine")
	results := together(s, func(i int) func(*Tx) error {
		return func(tx *Tx) error {
			if i%3 == 0 {
				return tx.PutVolume(testVolume("images", fmt.Sprint("good", i)))
			}
			p := testPool("images")
			p.UUID = fmt.Sprint("stolen", i)
			err := errors.Join(tx.PutPool(p), tx.PutVolume(testVolume("images", fmt.Sprint("bad", i))),
				tx.DeleteVolume("images", "a"), tx.PutJob(testJob(int64(i), record.Running)))
			if err != nil {
				return err
			}
			if i%3 == 1 {
				panic("at the disco")
			}
			return errMine
		}
	}, 60)
	for i, err := range results {
		switch {
		case i%3 == 0 && err != nil:
			t.Errorf("update %d failed: %v", i, err)
		case i%3 == 1 && (err == nil || !strings.Contains(err.Error(), "at the disco")):
			t.Errorf("update %d panicked and says %v", i, err)
		case i%3 == 2 && !errors.Is(err, errMine):
			t.Errorf("update %d says %v", i, err)
		}
	}
	must(t, s.View(func(tx *Tx) error {
		volumes, err := tx.Volumes("images")
		if len(volumes) != 21 {
			t.Errorf("%d volumes, want the first and 20 good ones", len(volumes))
		}
		p, err1 := tx.PoolByUUID("uuid-of-images")
		live, err2 := tx.LiveJobs()
		if len(live) != 0 || p == nil {
			t.Errorf("%d jobs and pool %+v are left", len(live), p)
		}
		return errors.Join(err, err1, err2)
	}))
}

// together runs n updates that wait at the same time: the writer is held up
// until all of them have come.
func together(s *Store, fn func(i int) func(*Tx) error, n int) []error {
	gate, held := make(chan struct{}), make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		first := true
		s.Update(func(*Tx) error {
			if first { // it may be run again
				close(held)
				<-gate
				first = false
			}
			return nil
		})
	})
	<-held
	results := make([]error, n)
	var started sync.WaitGroup
	for i := range n {
		started.Add(1)
		all.Go(func() {
			started.Done()
			results[i] = s.Update(fn(i))
		})
	}
	started.Wait()
	for range 10 * n {
		runtime.Gosched() // let them come to the writer's door
	}
	close(gate)
	all.Wait()
	return results
}

func TestUpdatesThatWaitShareACommit(t *testing.T) {
	s, _ := open(t)
	const n = 64
	before := s.commits.Load()
	for i, err := range together(s, func(i int) func(*Tx) error {
		return func(tx *Tx) error { return tx.PutJob(testJob(int64(i+1), record.Running)) }
	}, n) {
		if err != nil {
			t.Errorf("update %d: %v", i, err)
		}
	}
	if commits := s.commits.Load() - before; commits > n/4 {
		t.Errorf("%d updates took %d commits", n, commits)
	} else {
		t.Logf("%d updates took %d commits", n, commits)
	}
}

func TestLonelyUpdateDoesNotWait(t *testing.T) {
	s, _ := open(t)
	before := s.commits.Load()
	started := time.Now()
	for i := range int64(20) {
		must(t, s.Update(func(tx *Tx) error { return tx.PutJob(testJob(i+1, record.Running)) }))
	}
	if commits := s.commits.Load() - before; commits != 20 {
		t.Errorf("20 updates, one after the other, took %d commits", commits)
	}
	t.Logf("%v each", time.Since(started)/20)
}

func TestUpdateThatWritesNothingCommitsNothing(t *testing.T) {
	s, _ := open(t)
	before := s.commits.Load()
	must(t, s.Update(func(tx *Tx) error { return nil }))
	if s.commits.Load() != before {
		t.Error("nothing was committed")
	}
}

func TestCloseAnswersEveryone(t *testing.T) {
	s, path := open(t)
	var all sync.WaitGroup
	acknowledged := make([]bool, 200)
	for i := range acknowledged {
		all.Go(func() {
			err := s.Update(func(tx *Tx) error { return tx.PutJob(testJob(int64(i+1), record.Running)) })
			if err != nil && !errors.Is(err, ErrClosed) {
				t.Error(err)
			}
			acknowledged[i] = err == nil
		})
		if i == 100 {
			all.Go(func() { s.Close() })
		}
	}
	all.Wait()
	must(t, s.Close())
	must(t, reopen(t, path).View(func(tx *Tx) error {
		for i, yes := range acknowledged {
			if _, err := tx.JobByNumber(int64(i + 1)); (err == nil) != yes {
				t.Errorf("job %d: acknowledged %v, found %v", i+1, yes, err)
			}
		}
		return nil
	}))
}

func BenchmarkUpdate(b *testing.B) {
	s, _ := open(b)
	n := int64(0)
	for b.Loop() {
		n++
		must(b, s.Update(func(tx *Tx) error { return tx.PutJob(testJob(n, record.Running)) }))
	}
}

// BenchmarkSync is what the disk alone takes for the two flushes of a commit.
func BenchmarkSync(b *testing.B) {
	f, err := os.Create(filepath.Join(b.TempDir(), "f"))
	must(b, err)
	defer f.Close()
	page := make([]byte, 4096)
	must(b, f.Truncate(1<<20))
	for b.Loop() {
		for i := range int64(2) {
			if _, err := f.WriteAt(page, i*8192); err != nil {
				b.Fatal(err)
			}
			must(b, unix.Fdatasync(int(f.Fd())))
		}
	}
}

func BenchmarkUpdate64AtOnce(b *testing.B) {
	s, _ := open(b)
	var next, mu = int64(0), sync.Mutex{}
	before := s.commits.Load()
	b.SetParallelism(64 / runtime.GOMAXPROCS(0))
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			mu.Lock()
			next++
			n := next
			mu.Unlock()
			if err := s.Update(func(tx *Tx) error { return tx.PutJob(testJob(n, record.Running)) }); err != nil {
				b.Error(err)
			}
		}
	})
	b.ReportMetric(float64(b.N)/float64(s.commits.Load()-before), "updates/commit")
}
