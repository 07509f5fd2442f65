package record

import (
	"reflect"
	"slices"
)

// Source is where the pool's storage comes from. A dir pool has none.
type Source struct {
	Hosts     []string          `json:"hosts,omitempty"` // NAME or NAME:PORT, any of which will do
	Devices   []string          `json:"devices,omitempty"`
	Name      string            `json:"name,omitempty"`
	Path      string            `json:"path,omitempty"`
	Format    string            `json:"format,omitempty"`
	Initiator string            `json:"initiator,omitempty"` // by which this host logs in
	Username  string            `json:"username,omitempty"`  // as whom it does, by the secret of that name
	Secret    string            `json:"secret,omitempty"`
	Options   map[string]string `json:"options,omitempty"` // of the type: of the mount, say
}

// Storage is the source without what says only how it is used: with the same
// storage a pool is the same.
func (s Source) Storage() Source {
	s.Format, s.Initiator, s.Username, s.Secret, s.Options = "", "", "", "", nil
	return s
}

// SameStorage reports whether both name the same storage in the same words.
func (s Source) SameStorage(o Source) bool {
	return reflect.DeepEqual(s.Storage(), o.Storage())
}

// Meets reports whether both name storage in common: a device, where there are hosts
// one of those too, or else what is at a path of a host.
func (s Source) Meets(o Source) bool {
	hosts := common(s.Hosts, o.Hosts)
	if len(s.Devices) > 0 || len(o.Devices) > 0 {
		return common(s.Devices, o.Devices) && (hosts || len(s.Hosts) == 0 && len(o.Hosts) == 0)
	}
	return hosts && s.Path == o.Path && s.Name == o.Name
}

func common(a, b []string) bool {
	return slices.ContainsFunc(a, func(text string) bool { return slices.Contains(b, text) })
}

// Bounds of a source, each far above any use.
const (
	MaxSources       = 64   // hosts, or devices
	MaxSourceOptions = 64   // options
	MaxSourceText    = 4096 // bytes of one text
)

// Check refuses a source that no type of pools takes.
func (s Source) Check() error {
	switch {
	case len(s.Hosts) > MaxSources || len(s.Devices) > MaxSources:
		return Errorf(Invalid, "a source has at most %d hosts and %d devices", MaxSources, MaxSources)
	case len(s.Options) > MaxSourceOptions:
		return Errorf(Invalid, "a source has at most %d options", MaxSourceOptions)
	}
	texts := slices.Concat(s.Hosts, s.Devices, []string{s.Name, s.Path, s.Format, s.Initiator, s.Username})
	for name, value := range s.Options {
		if name == "" {
			return Errorf(Invalid, "an option of a source has no name")
		}
		texts = append(texts, name, value)
	}
	for _, text := range texts {
		if len(text) > MaxSourceText || Escape(text) != text {
			return Errorf(Invalid, "%.80q of a source is longer than %d bytes, or not text on a line", text, MaxSourceText)
		}
	}
	return s.checkLogin()
}

// checkLogin refuses half of a login.
func (s Source) checkLogin() error {
	switch {
	case s.Username == "" && s.Secret == "":
		return nil
	case s.Secret == "":
		return Errorf(Invalid, "a source with a username needs a secret").WithHint("give it with %s", Do("").With("source_secret", "SECRET"))
	case s.Username == "":
		return Errorf(Invalid, "a source with a secret needs a username").WithHint("give it with %s", Do("").With("source_username", "NAME"))
	}
	return CheckNameOf("secret", s.Secret)
}
