package main

import (
	"fmt"
	"strings"

	"storaged/cmd/internal/cmdline"
	"storaged/internal/daemon"
)

// settingsPage is the manual of the settings.
func settingsPage() cmdline.Page {
	const file = "/etc/storaged/storaged.toml"
	p := cmdline.Page{
		Name: "storaged.toml", Section: 5, Usage: "settings of storaged(8)",
		Synopsis: file + ", " + file + ".d/*.toml",
		Chapters: []cmdline.Chapter{{Title: "DESCRIPTION", Text: "" +
			"The settings of the daemon are in TOML: KEY = VALUE, under the [TABLE] of the key. A key that is\n" +
			"not given has its default, and one that there is not is an error. Paths are absolute. Times have\n" +
			"units (ms, s, m, h, d, w): \"90s\", \"10m\", \"1h30m\", \"2d\".\n\n" +
			"After the file those in " + file + ".d/ are read whose names end with .toml, in the\n" +
			"order of their names. Of a key that comes again the last counts; receivers of notices ([[notify]])\n" +
			"add up. A flag of storaged(8), or its environment variable, goes before the files. A user's own\n" +
			"daemon reads $XDG_CONFIG_HOME/storaged/storaged.toml and those in storaged.toml.d/ beside that.\n\n" +
			"  storaged --check-config    says what is wrong, with file and line\n" +
			"  systemctl reload storaged    has the running daemon read them again\n\n" +
			"What a reload does not take holds from the next start on; storagedctl status names it.",
		}, {Title: "SETTINGS", Text: "Defaults are those of the system's daemon."}},
		SeeAlso: []string{"storaged(8)", "storagedctl(8)", manual},
	}
	for _, t := range daemon.Manual() {
		p.Chapters = append(p.Chapters, tableChapter(t))
	}
	return p
}

func tableChapter(t daemon.Table) cmdline.Chapter {
	c := cmdline.Chapter{Title: "[" + t.Name + "]", Part: true, Text: t.Is}
	switch {
	case t.Repeats:
		c.Title = "[" + c.Title + "]"
	case t.Name == "":
		c.Title = "Outside of tables"
	}
	for _, s := range t.Settings {
		c.Entries = append(c.Entries, cmdline.Entry{Typed: s.Key, Does: []string{s.Is, facts(s), fmt.Sprintf("Example: %s = %s", s.Key, s.Example)}})
	}
	return c
}

// facts says what a setting may be, what it is by default and when a change of it holds.
func facts(s daemon.Setting) string {
	is := s.Type
	if len(s.Words) > 0 {
		is += ": " + strings.Join(s.Words, ", ")
	}
	if s.Most > 0 {
		is += fmt.Sprintf(" from %d to %d", s.Least, s.Most)
	}
	all := "It is " + is + "."
	switch {
	case s.Default != "":
		all += " Default: " + s.Default + "."
	case s.Without != "":
		all += " Default: " + s.Without + "."
	}
	if s.Reloads {
		return all + " A reload takes it."
	}
	return all + " It holds from the next start on."
}
