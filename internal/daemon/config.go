package daemon

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/BurntSushi/toml"
	"github.com/hashicorp/go-hclog"

	"storaged/internal/quantity"
	"storaged/internal/record"
	"storaged/internal/supervisor"
)

// Config is how a daemon is set up. Each field is a flag, an environment
// variable and a key of the config file; see storaged --help.
type Config struct {
	Version string `toml:"-"`
	File    string `toml:"-"` // the config file

	Socket     string `toml:"socket"`      // read and write
	SocketRO   string `toml:"socket_ro"`   // read only
	StateDir   string `toml:"state_dir"`   // survives reboots
	RuntimeDir string `toml:"runtime_dir"` // does not
	Helper     string `toml:"helper"`      // the storage-helper binary
	Group      string `toml:"group"`       // of the main socket, when root
	LogLevel   string `toml:"log_level"`   // trace, debug, info, warn, error
	LogFormat  string `toml:"log_format"`  // text, json

	Limits  LimitsConfig  `toml:"limits"`
	History HistoryConfig `toml:"history"`
	Stop    StopConfig    `toml:"stop"`
	Resume  ResumeConfig  `toml:"resume"`
	Upload  UploadConfig  `toml:"upload"`
}

// UploadConfig says what is asked of clients that upload a stream.
type UploadConfig struct {
	Silence Duration `toml:"silence"` // how long one may send nothing; 0: for ever
}

// defaultSilence is longer than what feeds a pipe is silent while it lives, a dump
// that sorts first or a tape that somebody changes, and shorter than a volume should
// be held by a login that was forgotten.
const defaultSilence = Duration(time.Hour)

// ResumeConfig says what becomes of jobs whose helper was interrupted: it was
// killed, or the host was restarted.
type ResumeConfig struct {
	Attempts int `toml:"attempts"`  // of a job to go on by itself
	KeepDays int `toml:"keep_days"` // what a retry could go on with is kept so long

	Create record.Resume `toml:"create"`
	Clone  record.Resume `toml:"clone"`
	Wipe   record.Resume `toml:"wipe"`
	Verify record.Resume `toml:"verify"`
}

// of gives the setting for a kind of job. One that makes no checkpoints is
// never resumed.
func (c ResumeConfig) of(k record.Kind) record.Resume {
	switch k {
	case record.VolumeCreate:
		return c.Create
	case record.VolumeClone:
		return c.Clone
	case record.VolumeWipe:
		return c.Wipe
	case record.VolumeVerify:
		return c.Verify
	}
	return record.ResumeNever
}

// check refuses words that mean nothing.
func (c ResumeConfig) check() error {
	for name, how := range map[string]record.Resume{"create": c.Create, "clone": c.Clone, "wipe": c.Wipe, "verify": c.Verify} {
		switch how {
		case record.ResumeNever, record.ResumeKeep, record.ResumeAuto:
		default:
			return record.Errorf(record.Invalid, "resume.%s is never, keep or auto, not %q", name, how)
		}
	}
	return nil
}

// StopConfig says what the daemon does when it is told to leave.
type StopConfig struct {
	Drain Duration `toml:"drain"` // how long to wait for running jobs; 0: not at all
}

// Duration is a length of time in the config file, such as "10m" or "2d".
type Duration time.Duration

// UnmarshalText reads it.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := quantity.ParseDuration(string(text))
	*d = Duration(v)
	return err
}

// HistoryConfig says how long records of ended jobs are kept.
type HistoryConfig struct {
	Days            int `toml:"days"`
	Records         int `toml:"records"`
	FailedDays      int `toml:"failed_days"`
	FailedRecords   int `toml:"failed_records"`
	RoutineDays     int `toml:"routine_days"` // of refresh, start and stop of pools
	RoutineRecords  int `toml:"routine_records"`
	DestructiveDays int `toml:"destructive_days"`
}

// LimitsConfig are the scheduler's limits as the config file has them.
type LimitsConfig struct {
	Running       int `toml:"running"`
	RunningPool   int `toml:"running_pool"`
	RunningDevice int `toml:"running_device"`
	Queued        int `toml:"queued"`
}

// DefaultConfig is the system's daemon for root, and for others one of their
// own (session mode).
func DefaultConfig() Config {
	c := Config{
		File:       "/etc/storaged/storaged.toml",
		StateDir:   "/var/lib/storaged",
		RuntimeDir: "/run/storaged",
		Group:      "storaged",
		LogLevel:   "info",
		LogFormat:  "text",
		Limits:     LimitsConfig{Running: 64, RunningPool: 16, RunningDevice: 4, Queued: 10000},
		History: HistoryConfig{
			Days: 30, Records: 10000, FailedDays: 90, FailedRecords: 10000,
			RoutineDays: 30, RoutineRecords: 1000, DestructiveDays: 400,
		},
		Resume: ResumeConfig{
			Attempts: 3, KeepDays: 7,
			Create: record.ResumeAuto, Clone: record.ResumeKeep, Wipe: record.ResumeAuto, Verify: record.ResumeAuto,
		},
		Upload: UploadConfig{Silence: defaultSilence},
	}
	if os.Geteuid() != 0 {
		c.session()
	}
	return c
}

func (c *Config) session() {
	home := os.Getenv("HOME")
	c.StateDir = filepath.Join(xdg("XDG_STATE_HOME", filepath.Join(home, ".local/state")), "storaged")
	c.RuntimeDir = filepath.Join(xdg("XDG_RUNTIME_DIR", filepath.Join(c.StateDir, "run")), "storaged")
	c.File = filepath.Join(xdg("XDG_CONFIG_HOME", filepath.Join(home, ".config")), "storaged/storaged.toml")
	c.Group = ""
}

func xdg(name, fallback string) string {
	if dir := os.Getenv(name); filepath.IsAbs(dir) {
		return dir
	}
	return fallback
}

// Load reads the config file over c. A missing file is nothing, unless it was
// asked for; an unknown key is an error.
func (c *Config) Load(path string, asked bool) error {
	meta, err := toml.DecodeFile(path, c)
	if errors.Is(err, os.ErrNotExist) && !asked {
		return nil
	}
	if err != nil {
		return record.Errorf(record.Invalid, "cannot read config file %q: %v", path, err)
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		return record.Errorf(record.Invalid, "config file %q: unknown key %q", path, unknown[0].String())
	}
	c.File = path
	return nil
}

// Complete fills in what follows from other settings, and checks them.
func (c *Config) Complete() error {
	if c.Socket == "" {
		c.Socket = filepath.Join(c.RuntimeDir, "storaged.sock")
	}
	if c.SocketRO == "" {
		c.SocketRO = filepath.Join(filepath.Dir(c.Socket), "storaged-ro.sock")
	}
	if c.Helper == "" {
		c.Helper = findHelper()
	}
	for name, path := range map[string]*string{
		"state-dir": &c.StateDir, "runtime-dir": &c.RuntimeDir, "socket": &c.Socket, "helper": &c.Helper,
	} {
		abs, err := filepath.Abs(*path)
		if err != nil {
			return fmt.Errorf("cannot resolve --%s: %w", name, err)
		}
		*path = abs
	}
	if st, err := os.Stat(c.Helper); err != nil || st.IsDir() || st.Mode()&0o111 == 0 {
		return record.Errorf(record.Invalid, "no helper program at %q", c.Helper).
			WithHint("--helper PATH, the storage-helper that belongs to this storaged")
	}
	if logLevel(c.LogLevel) == hclog.NoLevel {
		return record.Errorf(record.Invalid, "log level is trace, debug, info, warn or error, not %q", c.LogLevel)
	}
	if c.LogFormat != "text" && c.LogFormat != "json" {
		return record.Errorf(record.Invalid, "log format is text or json, not %q", c.LogFormat)
	}
	return c.checkNumbers()
}

func logLevel(name string) hclog.Level { return hclog.LevelFromString(name) }

// fixedBut says what of the new settings holds from the next start on, because
// a running daemon cannot change it.
func (c Config) fixedBut(now Config) (later []string) {
	for _, f := range []struct{ name, was, is string }{
		{"socket", c.Socket, now.Socket}, {"socket_ro", c.SocketRO, now.SocketRO},
		{"state_dir", c.StateDir, now.StateDir}, {"runtime_dir", c.RuntimeDir, now.RuntimeDir},
		{"helper", c.Helper, now.Helper}, {"group", c.Group, now.Group}, {"log_format", c.LogFormat, now.LogFormat},
		{"resume", fmt.Sprintf("%+v", c.Resume), fmt.Sprintf("%+v", now.Resume)},
		{"upload.silence", time.Duration(c.Upload.Silence).String(), time.Duration(now.Upload.Silence).String()},
	} {
		if f.was != f.is {
			later = append(later, fmt.Sprintf("%s stays %q; %q holds from the next start of the daemon on", f.name, f.was, f.is))
		}
	}
	return later
}

func (c *Config) checkNumbers() error {
	h := c.History
	for name, n := range map[string]int{
		"limits.running": c.Limits.Running, "limits.running_pool": c.Limits.RunningPool,
		"limits.running_device": c.Limits.RunningDevice, "limits.queued": c.Limits.Queued,
		"history.days": h.Days, "history.records": h.Records,
		"history.failed_days": h.FailedDays, "history.failed_records": h.FailedRecords,
		"history.routine_days": h.RoutineDays, "history.routine_records": h.RoutineRecords,
		"history.destructive_days": h.DestructiveDays,
		"resume.attempts":          c.Resume.Attempts, "resume.keep_days": c.Resume.KeepDays,
	} {
		if n < 1 {
			return record.Errorf(record.Invalid, "%s must be at least 1, not %d", name, n)
		}
		if n > maxSetting {
			return record.Errorf(record.Invalid, "%s must be at most %d, not %d", name, maxSetting, n)
		}
	}
	return c.Resume.check()
}

// maxSetting bounds every number of the config file: no use is near it, and no
// product of it overflows.
const maxSetting = 100_000

// retention gives the settings in the supervisor's terms. What destroyed
// content has no count: it is kept until it is old.
func (h HistoryConfig) retention() supervisor.Retention {
	const day = 24 * time.Hour
	return supervisor.Retention{
		Ordinary:    supervisor.Keep{Age: time.Duration(h.Days) * day, Count: h.Records},
		Failed:      supervisor.Keep{Age: time.Duration(h.FailedDays) * day, Count: h.FailedRecords},
		Routine:     supervisor.Keep{Age: time.Duration(h.RoutineDays) * day, Count: h.RoutineRecords},
		Destructive: supervisor.Keep{Age: time.Duration(h.DestructiveDays) * day},
	}
}

// installedHelper is where packages put it.
const installedHelper = "/usr/libexec/storaged/storage-helper"

// findHelper prefers the helper beside this program: they were built together.
func findHelper() string {
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), "storage-helper")
		if _, err := os.Stat(beside); err == nil {
			return beside
		}
	}
	return installedHelper
}
