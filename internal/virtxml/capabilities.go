package virtxml

import (
	"slices"

	"storaged/internal/record"
)

// FormatCapabilities is what libvirt's virConnectGetCapabilities says of a connection
// that has storage and nothing else: the types of pools that there are.
func FormatCapabilities(types []record.Capabilities) string {
	w := &writer{}
	w.line("<capabilities>")
	w.line()
	w.indent++
	w.with("pool", func() {
		w.with("enum", func() {
			for _, t := range types {
				w.text("value", t.Type)
			}
		}, attr("name", "type"))
	})
	w.indent--
	w.line()
	w.line("</capabilities>")
	return w.String()
}

// FormatPoolCapabilities is what virConnectGetStoragePoolCapabilities says of each type
// of pools that libvirt names. Formats of volumes are those that can be made.
func FormatPoolCapabilities(types []record.Capabilities) string {
	w := &writer{}
	w.with("storagepoolCapabilities", func() {
		for _, t := range poolTypes {
			t.writeCapabilities(w, types)
		}
	})
	return w.String()
}

func (t poolType) writeCapabilities(w *writer, types []record.Capabilities) {
	supported, volumes := "no", t.volumes
	i := slices.IndexFunc(types, func(c record.Capabilities) bool { return c.Type == t.name })
	if i >= 0 {
		supported = "yes"
		if t.volume == record.FormatRaw {
			volumes = types[i].Formats
		}
	}
	w.with("pool", func() {
		if t.format != "" {
			choice{"sourceFormatType", t.format, t.formats}.write(w, "poolOptions")
		}
		if t.volume != "" {
			choice{"targetFormatType", t.volume, volumes}.write(w, "volOptions")
		}
	}, attr("type", t.name), attr("supported", supported))
}

// choice is a value of a fixed set, and the one that is meant where none is said.
type choice struct {
	name    string
	none    string
	formats []string
}

func (c choice) write(w *writer, options string) {
	w.with(options, func() {
		w.named("defaultFormat", "type", c.none)
		w.with("enum", func() {
			for _, f := range c.formats {
				w.text("value", f)
			}
		}, attr("name", c.name))
	})
}
