package main

import (
	"cmp"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// write prints the report, and keeps it where that was asked for.
func (b *bench) write() error {
	var out strings.Builder
	b.preface(&out)
	for _, r := range b.results {
		r.write(&out)
	}
	fmt.Print(out.String())
	if b.report == "" {
		return nil
	}
	return os.WriteFile(b.report, []byte(out.String()), 0o644)
}

const preface = `# Benchmarks against other tools

%s, by ` + "`scripts/bench peers`" + `: release builds, %d cores, %s of memory, Linux %s, %s file system.

Of every case each contender made %d trials, in turn, each round in another order; the
tables give medians. **ours/theirs** is the median of the ratios of times, pair by pair,
with its 95 %% interval by the sign test (no assumption on how times are distributed):
below 1 we are faster, and where the interval holds 1 nobody knows. **promised** is what
the project promises at most, and whether the interval allows it.

- **durable** is the time from the start of the process until the target and its
  directory are on the disk. Tools that do not see to that get one fsync each afterwards.
- **CPU** is of all processes that worked, daemons included. **memory** is the most that
  the largest of them had; %.0f MiB is the least that can be told apart. **cache** is what both files have left in the page cache.
- Where the cache is cold, the source, or the volume that is wiped or uploaded into, was
  put out of it before (POSIX_FADV_DONTNEED); where it is warm it was then read once.
`

func (b *bench) preface(out *strings.Builder) {
	var host unix.Utsname
	_ = unix.Uname(&host) // cannot fail
	var info syscall.Sysinfo_t
	_ = syscall.Sysinfo(&info) // cannot fail
	memory := fmt.Sprintf("%.0f GiB", float64(info.Totalram)*float64(info.Unit)/gib)
	fmt.Fprintf(out, preface, time.Now().UTC().Format(time.DateOnly), runtime.NumCPU(), memory,
		unix.ByteSliceToString(host.Release[:]), fileSystem(b.dir), b.pairs, peak(os.Getpid())/(1<<20))
}

// fileSystem names what a directory lies on, by statfs(2).
func fileSystem(dir string) string {
	var fs unix.Statfs_t
	_ = unix.Statfs(dir, &fs) // 0 on a failure
	return cmp.Or(map[int64]string{
		unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs",
		unix.TMPFS_MAGIC: "tmpfs", unix.OVERLAYFS_SUPER_MAGIC: "overlay",
	}[int64(fs.Type)], "another")
}

func (r result) write(out *strings.Builder) {
	fmt.Fprintf(out, "\n## %s\n\n| | durable | ours/theirs | promised | CPU | memory | cache |\n|---|---|---|---|---|---|---|\n", r.title)
	ours := column(r.rows[0], durable)
	var missed []string
	for i, x := range r.rows {
		if x.missed != "" {
			missed = append(missed, fmt.Sprintf("Not measured: %s: %s.", x.name, strings.TrimSuffix(x.missed, ".")))
			continue
		}
		ratio, promise := "", kept(x.most, "%.3f s", ours)
		if i > 0 {
			rs := ratios(ours, column(x, durable))
			ratio, promise = told(rs), kept(x.most, "%.2f", rs)
		}
		fmt.Fprintf(out, "| %s | %.3f s | %s | %s | %.2f s | %.0f MiB | %.0f MiB |\n", x.name,
			median(column(x, durable)), ratio, promise,
			median(column(x, func(f figures) float64 { return f.cpu })),
			median(column(x, func(f figures) float64 { return f.rss }))/(1<<20),
			median(column(x, func(f figures) float64 { return f.cache }))/(1<<20))
	}
	for _, m := range missed {
		fmt.Fprintf(out, "\n%s\n", m)
	}
}

func durable(f figures) float64 { return f.durable }

// kept says what was promised at most, 0 for nothing, and whether it holds: the
// interval, or without one the median, allows it.
func kept(most float64, form string, xs []float64) string {
	if most == 0 {
		return ""
	}
	lo, _, ok := interval(xs)
	if !ok {
		lo = median(xs)
	}
	word := "kept"
	if lo > most {
		word = "**not kept**"
	}
	return fmt.Sprintf(form+", %s", most, word)
}

func column(r row, of func(figures) float64) []float64 {
	var out []float64
	for _, f := range r.trials {
		out = append(out, of(f))
	}
	return out
}
