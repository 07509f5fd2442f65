package daemon

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"storaged/internal/quantity"
	"storaged/internal/record"
	"storaged/internal/service"
)

// Table is a table of settings as the manual has it, with its keys.
type Table struct {
	Name     string // "": of the keys outside of any
	Repeats  bool   // there may be several
	Is       string
	Settings []Setting
}

// Setting is a key of the config file as the manual has it.
type Setting struct {
	Key     string // without its table
	Is      string // what it means
	Words   []string
	Least   int    // of a number
	Most    int    // of a number
	Without string // what holds where it is not given, if no default says so
	Example string // of a value, as the file has it

	Type    string // what kind of value it has
	Default string // of the system's daemon, as the file has it; "": there is none
	Reloads bool   // a running daemon takes it
}

// Manual describes all settings.
func Manual() []Table {
	c := systemConfig()
	c.Helper = installedHelper
	c.completeSockets()
	if err := c.Libvirt.complete(c.Socket); err != nil {
		panic(fmt.Sprintf("internal error: settings by default are wrong: %v", err))
	}
	all := tables()
	for i := range all {
		for j := range all[i].Settings {
			all[i].Settings[j].complete(&c, all[i])
		}
	}
	return all
}

// complete fills in what the settings themselves say of one.
func (s *Setting) complete(c *Config, t Table) {
	in := reflect.ValueOf(c).Elem()
	if t.Name != "" {
		in, _ = fieldOf(in, t.Name)
	}
	if t.Repeats {
		in = reflect.New(in.Type().Elem()).Elem()
	}
	field, ok := fieldOf(in, s.Key)
	if !ok {
		panic(fmt.Sprintf("internal error: there is no setting %q", below(t.Name, s.Key)))
	}
	s.Type, s.Reloads = typeOf(field.Type()), !isFixed(below(t.Name, s.Key))
	if !t.Repeats {
		s.Default = inFile(field)
	}
}

// typeOf says what kind of value a key has.
func typeOf(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[quantity.Duration]():
		return "a time with its unit, in quotes"
	case t.Kind() == reflect.Slice:
		return "a list of texts in quotes"
	case t.Kind() == reflect.Map:
		return "a table of texts in quotes"
	}
	return kinds[t.Kind()]
}

// inFile is a value as the file has it.
func inFile(v reflect.Value) string {
	if d, ok := v.Interface().(quantity.Duration); ok {
		return fmt.Sprintf("%q", d)
	}
	if v.Kind() == reflect.String {
		return fmt.Sprintf("%q", v.String())
	}
	return fmt.Sprint(v.Interface())
}

// number makes a setting that is one.
func number(key, is string, most int, example string) Setting {
	return Setting{Key: key, Is: is, Least: 1, Most: most, Example: example}
}

// tables are the settings in the order of the manual.
func tables() []Table {
	return slices.Concat(
		[]Table{{Is: "These stand before the first table.", Settings: ownSettings()}},
		jobTables(), pastTables(), poolTables(),
		[]Table{libvirtTable(), notifyTable()},
	)
}

func ownSettings() []Setting {
	const bySystemd = " Where systemd has the sockets, as packages have it, its units say so, and this means nothing."
	return []Setting{
		{Key: "socket", Is: "Where the daemon listens for reading and writing." + bySystemd, Example: `"/run/storaged/storaged.sock"`},
		{Key: "socket_ro", Is: "Where it listens for reading; beside socket if it is not given." + bySystemd, Example: `"/run/storaged/storaged-ro.sock"`},
		{Key: "state_dir", Is: "The directory of the database, its copies, logs and results of jobs. It survives reboots.", Example: `"/srv/storaged"`},
		{Key: "runtime_dir", Is: "The directory of sockets and of what running jobs need. It does not survive a reboot.", Example: `"/run/storaged"`},
		{Key: "helper", Is: "The storage-helper that runs jobs: the one that belongs to this storaged. One beside the program is taken first if this is not given.", Example: `"/usr/libexec/storaged/storage-helper"`},
		{Key: "group", Is: "The group that may use the main socket, which is as much as root may. A group that is named has to be there; \"\" leaves the socket to root.", Example: `"storage-admins"`},
		{Key: "log_level", Is: "The least that is logged.", Words: []string{"trace", "debug", "info", "warn", "error"}, Example: `"debug"`},
		{Key: "log_format", Is: "How lines of the log look that do not go to the journal.", Words: []string{"text", "json"}, Example: `"json"`},
	}
}

// jobTables are those of jobs that are to come, and run.
func jobTables() []Table {
	kept := []string{string(record.ResumeAuto), string(record.ResumeKeep), string(record.ResumeNever)}
	after := func(key, job string) Setting {
		return Setting{Key: key, Is: "What becomes of " + job + ": it goes on by itself (auto), a retry goes on with what it did (keep), or a retry begins anew (never).", Words: kept, Example: `"keep"`}
	}
	return []Table{
		{Name: "limits", Is: "How much is done at once. What storagedctl limits set has set goes before these.", Settings: []Setting{
			number("running", "Helpers at once; short jobs have as many places of their own.", record.MaxRunning, "32"),
			number("running_pool", "Helpers at once on one pool. Of a job between two pools each counts it.", record.MaxRunning, "8"),
			number("running_device", "Helpers at once on one physical device.", record.MaxRunning, "8"),
			number("queued", "Jobs that may wait. One more is refused (queue_full).", record.MaxQueued, "1000"),
		}},
		{Name: "resume", Is: "What becomes of a job whose helper was killed, or that a reboot interrupted.", Settings: []Setting{
			number("attempts", "How often a job goes on by itself, at most. Then it is kept for a retry.", service.MaxSetting, "5"),
			number("keep_days", "How many days what a retry could go on with is kept.", service.MaxSetting, "14"),
			after("create", "vol create"), after("clone", "vol clone"),
			after("wipe", "vol wipe"), after("trim", "vol trim"), after("verify", "vol verify"),
		}},
		{Name: "helpers", Is: "What is asked of the helpers.", Settings: []Setting{{
			Key: "confinement", Is: "How much of a helper's confinement the kernel must have. On a host that has less no job is taken.",
			Words: []string{record.NotConfined, record.ConfinedPartly, record.ConfinedFully}, Example: `"full"`,
		}}},
		{Name: "upload", Is: "What is asked of clients that upload a stream.", Settings: []Setting{{
			Key: "silence", Is: `How long one may be connected and send nothing; "0s": for ever.`, Example: `"10m"`,
		}}},
		{Name: "stop", Is: "What the daemon does when it is told to leave.", Settings: []Setting{{
			Key: "drain", Is: `How long it waits for running jobs; "0s": not at all, they go on without it.`, Example: `"10m"`,
		}}},
	}
}

// pastTables are those of jobs that have ended.
func pastTables() []Table {
	days := func(key, of string) Setting {
		return number(key, "How many days records of jobs are kept"+of+".", service.MaxSetting, "60")
	}
	records := func(key, of string) Setting {
		return number(key, "How many records of jobs are kept"+of+".", service.MaxSetting, "20000")
	}
	return []Table{{
		Name: "history", Is: "How long records of ended jobs are kept. The first bound reached counts; what is pinned stays.", Settings: []Setting{
			days("days", ""), records("records", ""), days("failed_days", " that failed"), records("failed_records", " that failed"),
			days("routine_days", " of refresh, start and stop of pools"), records("routine_records", " of refresh, start and stop of pools"),
			days("destructive_days", " that destroyed content: wipe, delete, shrink, upload. They are not counted"),
		},
	}}
}

func poolTables() []Table {
	return []Table{
		{Name: "pools", Is: "How pools are looked after.", Settings: []Setting{{
			Key: "read_every", Is: `How old their figures become at most: helpers read them so often. At least "1s", or "0s": only when a job changes them or somebody asks.`, Example: `"1h"`,
		}}},
		{Name: "logical", Is: "Logical volumes of LVM.", Settings: []Setting{{
			Key: "fill", Is: "How full a thin pool, its data or its metadata, gets by a job, in percent. A job that is seen to need more is refused, and one that gets there waits.", Least: 1, Most: 99, Example: "80",
		}}},
	}
}

func libvirtTable() Table {
	const bySystemd = " It means nothing where systemd has the sockets."
	return Table{Name: "libvirt", Is: "How clients of libvirt are answered.", Settings: []Setting{
		{Key: "listen", Is: "Whether the daemon listens for them. In session mode it does not, unless it is told to." + bySystemd, Example: "false"},
		{Key: "socket", Is: "Where it listens for reading and writing; beside the main socket if it is not given." + bySystemd, Example: `"/run/storaged/libvirt.sock"`},
		{Key: "socket_ro", Is: "Where it listens for reading; beside the main socket if it is not given." + bySystemd, Example: `"/run/storaged/libvirt-ro.sock"`},
		{Key: "auth", Is: "Who decides about others than root and the group: polkit where the system's bus has it when the daemon starts (auto), polkit always (polkit), or nobody (none): they read at most.", Words: []string{authAuto, authPolkit, authNone}, Example: `"polkit"`},
		{Key: "on_disconnect", Is: "What becomes of a job whose client leaves.", Words: []string{goesOn, isCanceled}, Example: `"cancel"`},
		{Key: "takeover", Is: "Whether the daemon is what libvirt's clients find for storage, in the place of libvirt's own. It does not start while that runs.", Example: "true"},
		{Key: "run_dir", Is: "Libvirt's run directory, where clients look for it.", Example: `"/run/libvirt"`},
	}}
}

func notifyTable() Table {
	const any = "everything"
	return Table{Name: receiversKey, Repeats: true, Is: "Who is told what happens: a program or a web server, each a table of its own. What is to be told passes all keys from priority on, by one value of each.", Settings: []Setting{
		{Key: "name", Is: "What the receiver is called in status and log. It is needed, and no other is called so.", Example: `"pager"`},
		{Key: "program", Is: "Program and arguments that are run for each notice. A receiver has this, url or url_file.", Example: `["/usr/local/bin/page", "storage"]`},
		{Key: "user", Is: "Whom the program runs as.", Without: "nobody, and in session mode the daemon's user", Example: `"storage-mail"`},
		{Key: "url", Is: "Address of a web server that gets each notice by POST.", Example: `"https://chat.example/hooks/storage"`},
		{Key: "url_file", Is: "A file with the address alone, for one that is a secret. Its owner alone may read it.", Example: `"/etc/storaged/notify/chat-address"`},
		{Key: "ca_file", Is: "Certificates that vouch for the server.", Without: "those of the system", Example: `"/etc/ssl/certs/example-ca.pem"`},
		{Key: "secret_header", Is: "Name of a header of each request whose value is in secret_file.", Example: `"Authorization"`},
		{Key: "secret_file", Is: "A file with the value of secret_header. Its owner alone may read it.", Example: `"/etc/storaged/notify/chat"`},
		{Key: "timeout", Is: "How long one run of the program, or one request, may take; at most an hour.", Without: `"30s" for a program, "10s" for a server`, Example: `"1m"`},
		{Key: "priority", Is: "The least priority that is told. That a pool or the state is well again passes always.", Words: []string{string(record.Ordinary), string(record.Notable), string(record.Alarming), string(record.Broken)}, Without: string(record.Alarming), Example: `"info"`},
		{Key: "events", Is: "Types of notices: " + strings.Join(record.NoticeTypes(), ", ") + ".", Without: any, Example: `["job.ended", "pool.state"]`},
		{Key: "kinds", Is: "Kinds of jobs, as patterns.", Without: any, Example: `["volume.clone", "snapshot.*"]`},
		{Key: "outcomes", Is: "States that a job, a pool or a volume came to.", Without: any, Example: `["failed", "canceled"]`},
		{Key: "owners", Is: "Users whose jobs they are.", Without: any, Example: `["alice"]`},
		{Key: "labels", Is: "Labels that the job has, all of them.", Without: any, Example: `{ team = "db" }`},
	}}
}
