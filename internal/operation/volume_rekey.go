package operation

import (
	"slices"

	"storaged/internal/record"
)

// Rekey changes by what secrets an encrypted volume can be opened.
type Rekey struct {
	Terms
	Volume
	Sealed
	Summed
	Format string `json:"format"`
	Secret string `json:"secret,omitempty"` // that opens it
	New    string `json:"new,omitempty"`    // opens it instead
	Add    string `json:"add,omitempty"`    // opens it too
	Remove string `json:"remove,omitempty"` // opens it no longer
	// OpenedBy opens it already: that is tried, and then known.
	OpenedBy string `json:"opened_by,omitempty"`
	// IterTime is how many ms of the processor a try of a new secret takes; 0: 2000.
	IterTime int64 `json:"iter_time,omitempty"`
}

var _ interface {
	Operation
	Comparing
} = (*Rekey)(nil)

// NewRekey gives one with the defaults of its task.
func NewRekey() *Rekey { return &Rekey{Volume: Volume{Type: defaultType}, Format: Encrypted[0]} }

// Kind is volume.rekey.
func (*Rekey) Kind() record.Kind { return record.VolumeRekey }

// Class: it takes some seconds, however large the volume is.
func (*Rekey) Class() record.Class { return record.Normal }

// Locks the volume against everybody, or, for a try, against who changes it.
func (o *Rekey) Locks() []record.Object {
	if o.OpenedBy != "" {
		return []record.Object{o.lock(record.ModeRead)}
	}
	return []record.Object{o.lock(record.ModeWrite)}
}

// Keys are the secrets that its helper needs.
func (o *Rekey) Keys() []string { return []string{o.Secret, o.New, o.Add, o.Remove, o.OpenedBy} }

// Settle looks whether the new secret opens it.
func (o *Rekey) Settle() *Settle { return &Settle{Volume: o.Volume, Keyed: true} }

// Effect: the content stays the same.
func (*Rekey) Effect() Effect { return Arranges }

// Relies on the content.
func (*Rekey) Relies() bool { return true }

// Compares gives the checksum that it may give back.
func (o *Rekey) Compares() *Summed { return &o.Summed }

// Sums says what checksum stays: the file of the image changes.
func (o *Rekey) Sums() string { return record.AsRaw }

// Encrypted are the formats whose content a secret can open.
var Encrypted = []string{"luks", "qcow2"}

// Allowed refuses a volume that is not opened by the secret any more.
func (o *Rekey) Allowed(k Known) error {
	of := k.quoted()
	switch {
	case !slices.Contains(Encrypted, k.Volume.Format):
		return record.Errorf(record.Unsupported, "volume %s is in format %s, which has no keys; %s have them", of, k.Volume.Format, record.List(Encrypted, 10)).
			WithHint("%s makes a copy that is encrypted", k.cloneIn(Encrypted[0]).With("secret", "NAME"))
	case o.OpenedBy != "":
		return nil
	case k.Volume.Secret == "":
		return record.Errorf(record.WrongState, "nobody knows which secret opens volume %s", of).
			WithHint("%s tries one, and says it", record.Do("volume.rekey", k.name()).With("opened_by", "SECRET"))
	}
	return k.opened(o.Secret)
}

// opened refuses a volume that is not opened any more by the secret of which it was when
// the job was asked for.
func (k Known) opened(secret string) error {
	if k.Volume.Secret == secret {
		return nil
	}
	return record.Errorf(record.Changed, "volume %s is opened by secret %q by now, and was by %q when the job was asked for", k.quoted(), k.Volume.Secret, secret).
		WithHint("ask again")
}

// Task is rekey.
func (o *Rekey) Task() Task {
	return Task{
		Name:  "rekey",
		Usage: "change by what secrets an encrypted volume can be opened",
		Description: "One of --new, --add, --remove and --opened-by says what is to be done. A new secret is tried before\n" +
			"an old one is taken away, and what alone opens the volume stays. The content is neither read nor written.",
		Example: "--target vm1.luks --secret-file old.key --new next --secret-file next=new.key",
		Flags: append(slices.Concat(o.Volume.flags("target"), o.Sealed.flags(&o.Secret)), o.Volume.known(),
			text("format", &o.Format, "format of the volume: `luks|qcow2`"),
			text("new", &o.New, "`NAME` of a secret that opens it instead of --secret"),
			text("add", &o.Add, "`NAME` of a secret that opens it too"),
			text("remove", &o.Remove, "`NAME` of a secret that opens it no longer"),
			text("opened-by", &o.OpenedBy, "`NAME` of a secret of which only is tried whether it opens it"),
			perTry(&o.IterTime, "the new secret"),
			text("checksum", &o.Recorded, "what the content is known to have; the result names it again if nobody else has changed the volume: `ALGORITHM:HEX`"),
			Flag{Name: "recorded-change", Usage: "--checksum counts only if the volume was last changed then, `NANOSECONDS` since 1970", value: (*number)(&o.SummedNS)},
		),
	}
}

// RekeyRequest asks for other secrets that open a volume, or says which one does: one of
// the four.
type RekeyRequest struct {
	Secret string `json:"secret,omitempty"` // opens it instead of the one that does
	Add    string `json:"add,omitempty"`    // opens it too
	Remove string `json:"remove,omitempty"` // opens it no longer
	// OpenedBy opens it already, by whomever it was encrypted; that is tried first.
	OpenedBy string `json:"opened_by,omitempty"`
	// IterTime is how many ms of the processor a try of a new secret takes; 0: 2000. With
	// OpenedBy only what is made to stand on the volume takes that.
	IterTime int64 `json:"iter_time,omitempty"`
	JobOptions
}

// Check refuses what says none of them, or several.
func (r *RekeyRequest) Check() error {
	given := 0
	for field, name := range map[string]string{"secret": r.Secret, "add": r.Add, "remove": r.Remove, "opened_by": r.OpenedBy} {
		if name == "" {
			continue
		}
		given++
		if err := record.CheckNameOf(field, name); err != nil {
			return err
		}
	}
	if r.IterTime < 0 || r.IterTime > record.MaxIterTime {
		return record.Errorf(record.Invalid, "iter_time is up to %d ms, not %d", record.MaxIterTime, r.IterTime)
	}
	if given != 1 {
		return record.Errorf(record.Invalid, "one of secret, add, remove and opened_by says what is to be done").
			WithHint("%s, %s, %s, or %s", record.Do("").With("secret", "NAME"), record.Do("").With("add", "NAME"), record.Do("").With("remove", "NAME"), record.Do("").With("opened_by", "NAME"))
	}
	return r.JobOptions.Check()
}

// Plan refuses what would take away the secret by which the volume is opened.
func (r *RekeyRequest) Plan(k Known) (Operation, error) {
	if r.OpenedBy != "" {
		return &Rekey{Volume: k.On, Format: k.Volume.Format, OpenedBy: r.OpenedBy, IterTime: r.IterTime}, nil
	}
	o := &Rekey{Volume: k.On, Format: k.Volume.Format, Secret: k.Volume.Secret, New: r.Secret, Add: r.Add, Remove: r.Remove, IterTime: r.IterTime}
	switch {
	case o.Secret == "": // which is refused
	case r.Remove == o.Secret:
		return nil, record.Errorf(record.Invalid, "secret %q is what opens volume %s", r.Remove, k.quoted()).
			WithHint("%s makes another one that", record.Do("volume.rekey", k.name()).With("secret", "NAME"))
	case r.Secret == o.Secret, r.Add == o.Secret:
		return nil, record.Errorf(record.Invalid, "secret %q opens volume %s already", o.Secret, k.quoted()).
			WithHint("%s tries whether it does", record.Do("volume.rekey", k.name()).With("opened_by", o.Secret))
	}
	return o, nil
}
