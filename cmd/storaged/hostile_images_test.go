package main_test

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"storaged/internal/format/formattest"
	"storaged/internal/record"
	"storaged/internal/service/contract"
)

// The gate takes a seeded part of the images through all jobs.
var (
	allHostile  = flag.Bool("hostile.all", false, "take all hostile images through all jobs, which takes half an hour")
	hostileSeed = flag.Uint64("hostile.seed", 1, "seed of the choice of hostile images")
	hostileSome = flag.Int("hostile.some", 6, "hostile images that are taken through all jobs")
)

// song is what no job may get at.
const song = "a canary that sings for nobody; "

// exposed is a host beside which there are a file and a server that nobody may reach.
type exposed struct {
	*host
	bait formattest.Bait

	mu   sync.Mutex
	ends map[string]map[string]int // of jobs, by their verbs
	took map[string]time.Duration  // the longest wait for the end of a canceled job, by the verb
}

func newExposed(t *testing.T) *exposed {
	t.Helper()
	x := &exposed{host: newDeadlyHost(t), ends: map[string]map[string]int{}, took: map[string]time.Duration{}} // as quick as they are
	x.bait = formattest.Bait{File: filepath.Join(x.dir, "canary"), Socket: filepath.Join(x.dir, "socket")}
	x.must(os.WriteFile(x.bait.File, bytes.Repeat([]byte(song), 4096), 0o644))
	x.must(os.Mkdir(filepath.Join(x.dir, "clients"), 0o755))
	x.listen()
	x.watchCanary()
	x.random("base", mib)
	x.setSecret("s", "secret")
	x.patchLimits(contract.LimitsPatch{Running: ptr(64), RunningPool: ptr(64), RunningDevice: ptr(64)})
	return x
}

// listen fails the test if anybody connects to the server that images name.
func (x *exposed) listen() {
	server := must(net.Listen("unix", x.bait.Socket))(x.t)
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for {
			c, err := server.Accept()
			if err != nil {
				return // it is closed
			}
			c.Close()
			x.t.Error("somebody has connected to the server that images name")
		}
	})
	x.t.Cleanup(func() { server.Close(); accepting.Wait() })
}

// watchCanary fails the test if anybody has opened the canary by its end.
func (x *exposed) watchCanary() {
	fd := must(unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK))(x.t)
	must(unix.InotifyAddWatch(fd, x.bait.File, unix.IN_OPEN|unix.IN_ACCESS))(x.t)
	x.t.Cleanup(func() {
		defer unix.Close(fd)
		if n, err := unix.Read(fd, make([]byte, 4096)); err != unix.EAGAIN {
			x.t.Errorf("somebody has opened the canary: %d bytes of events, %v", n, err)
		}
	})
}

// chosen are the hostile images of this run: all, or some with at least one bomb.
func (x *exposed) chosen() []formattest.Hostile {
	all := formattest.Corpus(x.bait)
	if *allHostile {
		return all
	}
	rng := rand.New(rand.NewPCG(*hostileSeed, 0))
	rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	some := all[:*hostileSome]
	bomb := slices.IndexFunc(all, func(c formattest.Hostile) bool { return c.Name == "vmdk that is a bomb" })
	return append(some[:len(some):len(some)], all[bomb])
}

// abuse is something that is done with a hostile image.
type abuse struct {
	verb string
	do   func() (started, error)
}

// abuses are all that is done with the image in a volume and in a client's file, in
// order.
func (x *exposed) abuses(c formattest.Hostile, v, file string) []abuse {
	x.t.Helper()
	f := must(os.Open(file))(x.t)
	out := must(os.Create(file + ".down"))(x.t)
	noisy, _ := x.given(v+".up", mib)
	x.t.Cleanup(func() { f.Close(); out.Close() })
	put := func(name string, how ...option) func() (started, error) {
		return func() (started, error) { return x.hand(name, f, creating(append(how, named(name))...)) }
	}
	return []abuse{
		{"verify", func() (started, error) { return x.verify(v) }},
		{"clone to raw", func() (started, error) { return x.clone(v, v+".raw", format("raw")) }},
		{"clone to qcow2", func() (started, error) { return x.clone(v, v+".qcow2", format("qcow2")) }},
		{"clone", func() (started, error) { return x.clone(v, v+".same") }},
		{"download", func() (started, error) { return x.handDown(v, out, asRaw) }},
		{"create from", func() (started, error) {
			return x.hand(v+".from", f, field("fromformat", c.Format), creating(named(v+".from"), format("raw")))
		}},
		{"put", put(v+".put", format(c.Format))},
		{"verify what was put", func() (started, error) { return x.verify(v + ".put") }},
		{"flatten what was put", func() (started, error) { return x.flatten(v + ".put") }},
		{"link", func() (started, error) { return x.clone(v, v+".linked", linked) }},
		{"verify the link", func() (started, error) { return x.verify(v + ".linked") }},
		{"snapshot", func() (started, error) { return x.freeze(v, "s") }},
		{"check", func() (started, error) { return x.checked(v) }},
		{"rebase", func() (started, error) { return x.rebase(v, "base") }},
		{"flatten", func() (started, error) { return x.flatten(v) }},
		{"grow", func() (started, error) { return x.resize(v, 1<<40) }},
		{"trim", func() (started, error) { return x.trim(v) }},
		{"upload", func() (started, error) { return x.hand(v, noisy, asRaw) }},
		{"repair", func() (started, error) { return x.checked(v, field("repair", record.RepairAll)) }},
		{"wipe", func() (started, error) { return x.wipe(v, ofContent, acceptLimits) }},
		{"restore", func() (started, error) { return x.restore(v + "@s") }},
	}
}

// undergo does all that with one image, and looks for the song in what comes of it.
func (x *exposed) undergo(n int, c formattest.Hostile) {
	x.t.Helper()
	v := fmt.Sprintf("i%03d", n)
	file := filepath.Join(x.dir, "clients", v)
	x.must(c.Write(file))
	for _, a := range x.abuses(c, v, file) {
		st, err := a.do()
		if err != nil {
			x.ended(a.verb, "refused")
			x.silent(c, a.verb, err.Error())
			x.explains(c, a.verb, err)
			continue
		}
		j := x.outlasted(c, a.verb, st)
		x.ended(a.verb, string(j.State))
		x.silent(c, a.verb, shown(j))
		if j.Error != nil {
			x.explains(c, a.verb, j.Error)
		}
	}
	made, _ := filepath.Glob(filepath.Join(x.pool, "*"+v+"*"))
	for _, path := range append(made, file+".down") {
		if sings(x.t, path) {
			x.t.Errorf("%s: the canary is in %s", c.Name, path)
		}
		x.must(os.Remove(path))
	}
	x.must(os.Remove(file))
}

func (x *exposed) ended(verb, how string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.ends[verb] == nil {
		x.ends[verb] = map[string]int{}
	}
	x.ends[verb][how]++
}

// silent fails if the song is in what was said.
func (x *exposed) silent(c formattest.Hostile, verb, said string) {
	if strings.Contains(said, "sings for nobody") {
		x.t.Errorf("%s, %s: %s", c.Name, verb, said)
	}
}

// limitsOfBombs are the limits by which bombs end when they are read, patterns.
var limitsOfBombs = map[string]string{
	"vmdk that is a bomb": "bytes of address space",
	"luks that is a bomb": "of processor time|within [0-9]+m",
}

// explains fails unless a bomb that went off says by which limit, or that it was refused.
func (x *exposed) explains(c formattest.Hostile, verb string, err error) {
	if limit := limitsOfBombs[c.Name]; verb == "verify" && limit != "" && !regexp.MustCompile(limit).MatchString(err.Error()) {
		x.t.Errorf("%s, %s: %v, want a limit like %s", c.Name, verb, err, limit)
	}
}

// Waits for a job of a hostile image: as long as one takes that is sound, and until a bomb
// has used up its three minutes of a processor that many others want too.
const (
	soundPatience = 5 * time.Second
	bombPatience  = 30 * time.Minute
)

// outlasted waits for a job, which is canceled if it takes longer than any sound image
// does: there may be petabytes in it.
func (x *exposed) outlasted(c formattest.Hostile, verb string, st started) record.Job {
	x.t.Helper()
	bound := soundPatience
	if limitsOfBombs[c.Name] != "" && verb == "verify" {
		bound = bombPatience
	}
	if j, err := x.client.WaitJob(x.t.Context(), st.Job.ID, bound); err == nil && j.State.Terminal() {
		return j
	}
	asked := time.Now()
	_, _ = x.client.CancelJob(x.ctx(), st.Job.ID, contract.JobCancel{}) // it may have ended
	j, err := x.client.WaitJob(x.t.Context(), st.Job.ID, bombPatience)
	if err != nil || !j.State.Terminal() {
		x.t.Fatalf("%s, %s: it does not end: %s %v", c.Name, verb, j.State, err)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.took[verb] = max(x.took[verb], time.Since(asked))
	return j
}

// sings reports whether the song is in a file.
func sings(t *testing.T, path string) bool {
	t.Helper()
	f, err := os.Open(path)
	if os.IsNotExist(err) {
		return false
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	piece := make([]byte, 4*mib)
	for at := int64(0); ; at += int64(len(piece) - len(song)) {
		if at, err = unix.Seek(int(f.Fd()), at, unix.SEEK_DATA); err != nil {
			return false // there is no more
		}
		n, _ := f.ReadAt(piece, at)
		if bytes.Contains(piece[:n], []byte(song)) {
			return true
		}
	}
}

// Hostile images are put into a pool and taken through all jobs: nothing that they name
// is reached, and those that are bombs go off alone.
func TestHostileImagesHarmNoJob(t *testing.T) {
	t.Parallel()
	x := newExposed(t)
	images := x.chosen()
	for n, c := range images {
		x.must(c.Write(x.path(fmt.Sprintf("i%03d", n))))
	}
	x.must(x.refresh("pool"))
	for n := range images {
		if name := fmt.Sprintf("i%03d", n); x.entry(name).Format == "luks" {
			x.must(x.opens(name, "s"))
		}
	}
	var hands sync.WaitGroup
	turns := make(chan int)
	for range 3 {
		hands.Go(func() {
			for n := range turns {
				x.undergo(n, images[n])
			}
		})
	}
	for n := range images {
		turns <- n
	}
	close(turns)
	hands.Wait()
	x.must(x.refresh("pool"))
	x.silent(formattest.Hostile{Name: "log"}, "all", x.log())
	for verb := range x.ends {
		t.Logf("%-22s %v, canceled within %v", verb, x.ends[verb], x.took[verb].Round(time.Millisecond))
	}
}
