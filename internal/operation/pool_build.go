package operation

import (
	"slices"

	"storaged/internal/record"
)

// PoolBuild makes the storage that a pool stands on.
type PoolBuild struct {
	OnPool
	Rights
	Beside
	Overwrite bool `json:"overwrite,omitempty"`
}

// NewPoolBuild gives one with the defaults of its task.
func NewPoolBuild() *PoolBuild { return &PoolBuild{OnPool: newOnPool()} }

// Kind is pool.build.
func (*PoolBuild) Kind() record.Kind { return record.PoolBuild }

// Class: to make a file system takes its time.
func (*PoolBuild) Class() record.Class { return record.Async }

// Destroys what is there, if that is to be overwritten.
func (o *PoolBuild) Destroys() bool { return o.Overwrite }

// Effect: it is made.
func (*PoolBuild) Effect() Effect { return Builds }

// Allowed refuses a pool that is in use, and one that says no format in which its storage
// can be made.
func (*PoolBuild) Allowed(k Known) error {
	if err := Inactive(k.Pool); err != nil {
		return err
	}
	if e := Unbuildable(k.Pool, k.Can); e != nil {
		return e.WithHint("%s", Anew(k.Pool, k.Can))
	}
	return nil
}

// Unbuildable is the refusal of a pool whose storage can be made in some formats, and not in
// that of its source; nil: it can be built.
func Unbuildable(p record.Pool, can record.Capabilities) *record.Error {
	formats := buildable(can)
	if len(formats) == 0 || slices.Contains(formats, p.Source.Format) {
		return nil
	}
	return record.Errorf(record.Invalid, "pool %q has the source format %q, in which no storage is made: it can be one of %s", p.Name, p.Source.Format, record.List(formats, len(formats))).
		WithHint("%s", record.Do("").With("source_format", preferred(formats)))
}

func buildable(can record.Capabilities) (formats []string) {
	for _, b := range can.Builds {
		formats = append(formats, b.Format)
	}
	return formats
}

// preferred is the format that is named to who has named none.
func preferred(formats []string) string {
	if slices.Contains(formats, "ext4") {
		return "ext4"
	}
	return formats[0]
}

// Anew is how a pool that cannot be built gets a format in which it can.
func Anew(p record.Pool, can record.Capabilities) record.Hint {
	create := record.Do("pool.create", p.Name).With("type", p.Type)
	for _, device := range p.Source.Devices {
		create = create.With("source_devices", device)
	}
	create = create.With("source_format", preferred(buildable(can))).With("target_path", p.Target.Path).With("build")
	return record.Hintf("%s, then %s makes it anew, and what its source holds is not overwritten", record.Do("pool.undefine", p.Name), create)
}

// Task is pool-build.
func (o *PoolBuild) Task() Task {
	return Task{
		Name: "pool-build", Usage: "make the storage of a pool", Example: "--type dir --target /var/lib/images",
		Flags: append(slices.Concat(o.Volume.pool(), o.Rights.flags(), o.Beside.flags()),
			onOff("overwrite", &o.Overwrite, "even if there is something already; a directory stays as it is")),
		Asks: true,
	}
}

// PoolBuildRequest asks to make a pool's storage.
type PoolBuildRequest struct {
	Overwrite bool `json:"overwrite,omitempty"`
	JobOptions
}

// Plan makes it as it is asked for.
func (r *PoolBuildRequest) Plan(k Known) (Operation, error) {
	return &PoolBuild{OnPool: OnPool{Volume: k.On}, Rights: Rights{k.Pool.Target.Rights}, Overwrite: r.Overwrite}, nil
}
