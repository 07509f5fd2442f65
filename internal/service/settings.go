package service

import (
	"cmp"
	"errors"
	"strings"
	"time"

	"storaged/internal/confine"
	"storaged/internal/quantity"
	"storaged/internal/record"
	"storaged/internal/supervisor"
)

// Settings are what the service goes by: a part of the daemon's configuration.
type Settings struct {
	Version string `toml:"-"`
	File    string `toml:"-"` // the config file

	LibvirtURI string `toml:"-"` // by which libvirt's clients reach the daemon; "": they do not

	Socket     string `toml:"socket"`      // read and write
	StateDir   string `toml:"state_dir"`   // survives reboots
	RuntimeDir string `toml:"runtime_dir"` // does not
	Helper     string `toml:"helper"`      // the storage-helper binary

	Limits  LimitsConfig  `toml:"limits"`
	History HistoryConfig `toml:"history"`
	Resume  ResumeConfig  `toml:"resume"`
	Helpers HelpersConfig `toml:"helpers"`
	Logical LogicalConfig `toml:"logical"`
	Pools   PoolsConfig   `toml:"pools"`
}

// DefaultSettings are those of a daemon without a config file, but for its paths.
func DefaultSettings() Settings {
	return Settings{
		Limits: LimitsConfig{Running: 64, RunningPool: 16, RunningDevice: 4, Queued: 10000},
		History: HistoryConfig{
			Days: 30, Records: 10000, FailedDays: 90, FailedRecords: 10000,
			RoutineDays: 30, RoutineRecords: 1000, DestructiveDays: 400,
		},
		Resume: ResumeConfig{
			Attempts: 3, KeepDays: 7,
			Create: record.ResumeAuto, Clone: record.ResumeKeep, Wipe: record.ResumeAuto, Trim: record.ResumeAuto, Verify: record.ResumeAuto,
		},
		Helpers: HelpersConfig{Confinement: record.NotConfined},
		Logical: LogicalConfig{Fill: 95},
		Pools:   PoolsConfig{ReadEvery: quantity.Duration(5 * time.Minute)},
	}
}

// Check refuses numbers and words that nothing can be done with. The error is all of them,
// joined, each a *record.SettingError.
func (c Settings) Check() error {
	var wrong []error
	h := c.History
	most := map[string]int{
		"limits.running": record.MaxRunning, "limits.running_pool": record.MaxRunning, "limits.running_device": record.MaxRunning, "limits.queued": record.MaxQueued,
	}
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
			wrong = append(wrong, record.BadSetting(name, "%s must be at least 1, not %d", name, n))
		}
		if bound := cmp.Or(most[name], MaxSetting); n > bound {
			wrong = append(wrong, record.BadSetting(name, "%s must be at most %d, not %d", name, bound, n))
		}
	}
	return errors.Join(append(wrong, c.Resume.check(), c.Helpers.check(), c.Logical.check(), c.Pools.check())...)
}

// MaxSetting bounds the numbers of the config file that have no bound of their
// own: no use is near it, and no product of it overflows.
const MaxSetting = 100_000

// ResumeConfig says what becomes of jobs whose helper was interrupted: it was
// killed, or the host was restarted.
type ResumeConfig struct {
	Attempts int `toml:"attempts"`  // of a job to go on by itself
	KeepDays int `toml:"keep_days"` // what a retry could go on with is kept so long

	Create record.Resume `toml:"create"`
	Clone  record.Resume `toml:"clone"`
	Wipe   record.Resume `toml:"wipe"`
	Trim   record.Resume `toml:"trim"`
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
	case record.VolumeTrim:
		return c.Trim
	case record.VolumeVerify:
		return c.Verify
	case record.VolumeFlatten, record.VolumeRebase, record.SnapshotDelete: // which go on by what is in the volume
		return record.ResumeAuto
	}
	return record.ResumeNever
}

// check refuses words that mean nothing.
func (c ResumeConfig) check() (err error) {
	for name, how := range map[string]record.Resume{"create": c.Create, "clone": c.Clone, "wipe": c.Wipe, "trim": c.Trim, "verify": c.Verify} {
		switch how {
		case record.ResumeNever, record.ResumeKeep, record.ResumeAuto:
		default:
			err = errors.Join(err, record.BadSetting("resume."+name, "resume.%s is never, keep or auto, not %q", name, how))
		}
	}
	return err
}

// LogicalConfig says how logical volumes are dealt with.
type LogicalConfig struct {
	Fill int `toml:"fill"` // how full a thin pool gets by a job, in percent
}

// check refuses a thin pool that jobs could use up, which would fail the writes of all that
// have volumes in it.
func (c LogicalConfig) check() error {
	if c.Fill < 1 || c.Fill > 99 {
		return record.BadSetting("logical.fill", "logical.fill must be 1 to 99 percent, not %d", c.Fill)
	}
	return nil
}

// PoolsConfig says how pools are looked after.
type PoolsConfig struct {
	ReadEvery quantity.Duration `toml:"read_every"` // how old their figures become at most; 0: as old as it comes
}

// check refuses to do nothing else.
func (c PoolsConfig) check() error {
	if every := time.Duration(c.ReadEvery); every != 0 && every < time.Second {
		return record.BadSetting("pools.read_every", "pools.read_every must be at least 1s, or 0s for never, not %v", every)
	}
	return nil
}

// HelpersConfig says what is asked of the helpers.
type HelpersConfig struct {
	Confinement string `toml:"confinement"` // that a kernel must have, at least, for jobs to be taken
}

// check refuses words that mean nothing.
func (c HelpersConfig) check() error {
	switch c.Confinement {
	case record.NotConfined, record.ConfinedPartly, record.ConfinedFully:
		return nil
	}
	return record.BadSetting("helpers.confinement", "helpers.confinement is none, partial or full, not %q", c.Confinement)
}

// refusal says why no job is taken on this host; nil: they are.
func (c HelpersConfig) refusal(host confine.Level) error {
	if host.AtLeast(c.Confinement) {
		return nil
	}
	return record.Errorf(record.Unsupported, "helpers can be confined %q on this host (%s), and the settings ask for %q", host.Word(), strings.Join(host.Lacks, "; "), c.Confinement).
		WithHint("run a kernel that has it, or set helpers.confinement in the settings")
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

// LimitsConfig are the scheduler's limits as the config file has them.
type LimitsConfig struct {
	Running       int `toml:"running"`
	RunningPool   int `toml:"running_pool"`
	RunningDevice int `toml:"running_device"`
	Queued        int `toml:"queued"`
}
