package operation

import (
	"cmp"
	"encoding/json"
	"strconv"
	"strings"

	"storaged/internal/record"
)

// defaultType is the type of a pool of which nobody says another.
const defaultType = "dir"

// flags name the volume by prefix: its path, the type of its pool, and what the
// pool must be.
func (v *Volume) flags(prefix string) []Flag {
	id := prefix + "-pool-id"
	if prefix == "target" {
		id = "pool-id"
	}
	return v.named(prefix, prefix+"-type", id)
}

func (v *Volume) named(path, poolType, id string) []Flag {
	return []Flag{
		text(path, &v.Path, "`PATH` of the volume"),
		text(poolType, &v.Type, "`TYPE` of its pool"),
		identity(id, &v.PoolID),
		source(strings.TrimSuffix(id, "id")+"source", &v.PoolSource),
	}
}

// pool are the flags of an operation on a pool.
func (v *Volume) pool() []Flag {
	return []Flag{
		text("type", &v.Type, "`TYPE` of the pool"),
		text("target", &v.Path, "`PATH` of the pool"),
		text("name", &v.Pool, "what messages call the pool, instead of its path: `NAME`"),
		source("pool-source", &v.PoolSource),
	}
}

// flags name what a volume is made as.
func (t *Target) flags() []Flag {
	flags := (*Volume)(t).flags("target")
	flags[0].Usage = "`PATH` of the new volume"
	return flags
}

// identity is how the daemon says which storage a pool was started with.
func identity(name string, at *string) Flag {
	return text(name, at, "refuse unless the pool is the one of this `IDENTITY`")
}

// source is how the daemon says where the storage of a pool comes from whose target
// does not say that.
func source(name string, at *record.Source) Flag {
	return Flag{Name: name, Usage: "where the storage of the pool comes from, as `JSON`", value: poolSource{at}}
}

type poolSource struct{ at *record.Source }

func (s poolSource) set(text string) error { return json.Unmarshal([]byte(text), s.at) }

func (s poolSource) texts() []string {
	b, err := json.Marshal(s.at)
	if err != nil {
		panic("internal error: " + err.Error()) // texts
	}
	if string(b) == "{}" {
		return nil
	}
	return []string{string(b)}
}

// known is how the daemon says which volume it means: the name may have come to
// be another's.
func (v *Volume) known() Flag {
	return text("volume-id", &v.ID, "refuse unless the volume is the one of this `IDENTITY`")
}

// imageFormat is what the volume that is read is.
func imageFormat(at *string) Flag {
	return text("format", at, "format of the volume; of an image it is looked what it stands on: `"+strings.Join(record.Formats, "|")+"`")
}

func onFailure(keep *bool) Flag {
	return Flag{
		Name: "on-failure", Default: string(record.RollbackOnFailure),
		Usage: "remove an unfinished target, or keep it: `rollback|keep`",
		value: choice{keep, string(record.RollbackOnFailure), string(record.KeepOnFailure)},
	}
}

// resume is how the supervisor says that the job had begun already.
func resume(at *bool) Flag {
	return onOff("resume", at, "go on where the job was interrupted, if that is safe; as a job of storaged only")
}

func acceptLimits(at *bool) Flag {
	return onOff("accept-limits", at, "wipe even if old content will stay readable elsewhere")
}

// promised is what a copy is to have allocated.
func promised(at **int64) Flag {
	return Flag{
		Name: "allocation", Default: "none",
		Usage: "reserve for it beside its data: `full|none|SIZE`", value: amount{at},
	}
}

// Content is where a content comes from, and what must hold of it.
type Content struct {
	From        string `json:"-"`              // a path, - or fd:N
	Form        string `json:"form,omitempty"` // of a stream, or "file"; "": there is no content
	Length      *int64 `json:"length,omitempty"`
	Exact       bool   `json:"exact,omitempty"` // more than Length is refused, and not left aside
	Format      string `json:"format"`          // of the volume
	AsFormat    string `json:"as_format,omitempty"`
	DetectZeros bool   `json:"detect_zeros,omitempty"`
	Dense       bool   `json:"dense,omitempty"`       // a stream without holes
	Checksum    string `json:"checksum,omitempty"`    // algorithm, or what the content must have
	Unpack      string `json:"unpack,omitempty"`      // of Packings: the form that it is packed in; "": it is not
	FromFormat  string `json:"from_format,omitempty"` // which it is converted from; "": it is put as it is
	Homes
}

// StandsIn is of interest if it is an image.
func (c *Content) StandsIn(dirs []string) { c.set(cmp.Or(c.AsFormat, c.Format), dirs) }

// Receive says that the helper has the content as a descriptor, if there is one.
func (c *Content) Receive(fd int) {
	if c.Form != "" {
		c.From = descriptor(fd)
	}
}

// Unforeseen is what nobody can know of it before: how much room it takes.
func (c *Content) Unforeseen() string {
	if c.Length != nil || c.Form == "" {
		return ""
	}
	return "nobody knows yet how long the content is: if there is no room for it, that shows in the middle"
}

func newContent() Content { return Content{Format: record.FormatRaw} }

func (c *Content) flags() []Flag {
	formats := strings.Join(record.Formats, "|")
	return []Flag{
		text("source", &c.From, "`FILE` with the content; - is standard input, fd:N an open descriptor"),
		stream(&c.Form),
		c.among(),
		{Name: "length", Usage: "take `SIZE` of the content, default all that there is", value: bound{&c.Length}},
		onOff("exact", &c.Exact, "fail if more comes than --length"),
		text("format", &c.Format, "format of the volume: `"+formats+"`"),
		text("as-format", &c.AsFormat, "take the content for one in another format; raw is anything: `"+formats+"`"),
		onOff("detect-zeros", &c.DetectZeros, "make holes where the content is zeros"),
		onOff("dense", &c.Dense, "the stream has no holes: there must be room for all of its length"),
		text("unpack", &c.Unpack, "the content is packed, and what is in it counts: `"+strings.Join(Packings, "|")+"`"),
		contentSum(&c.Checksum),
	}
}

func contentSum(at *string) Flag {
	return text("checksum", at, "give the checksum by sha256 or crc32c, default the latter; with :HEX fail if it is another: `ALGORITHM[:HEX]`")
}

// stream says in which form a stream is; a file has none to say.
func stream(form *string) Flag {
	return Flag{Name: "stream", Usage: "it is a stream in that form: `raw|sparse`", value: (*streamForm)(form)}
}

type streamForm string

func (f *streamForm) set(text string) error {
	*f = streamForm(text)
	return nil
}

func (f *streamForm) texts() []string {
	if *f == "" || *f == FileForm {
		return nil
	}
	return []string{string(*f)}
}

// descriptor is how a task names an open file that it is given.
func descriptor(fd int) string { return "fd:" + strconv.Itoa(fd) }

// formatWords are the formats that there are, as a flag's usage has them.
func formatWords() string { return strings.Join(record.Formats, "|") }
