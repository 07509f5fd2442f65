package catalog

import (
	"cmp"
	"errors"
	"slices"
	"strings"

	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/store"
)

// What an image stands on is found by what the catalog has of its header: each file
// that is named there must be a volume of a pool in use. Nothing else is ever
// opened for an image, whatever it names.

// chainOf is what a volume stands on; nil stands on nothing.
func chainOf(tx *store.Tx, v *store.Volume) (operation.Chain, error) {
	if v == nil {
		return operation.Chain{}, nil
	}
	layers, err := layersUnder(&Family{tx: tx}, v)
	return operation.Chain{Of: operation.ChainOfVolume, Secret: v.Secret, Layers: layers}, err
}

// chainUnder is what an image stands on whose backing is the volume.
func chainUnder(tx *store.Tx, pool, name string) (operation.Chain, error) {
	p, err := ActivePool(tx, pool)
	if err != nil {
		return operation.Chain{}, err
	}
	v, err := Volume(tx, p.Name, name)
	if err != nil {
		return operation.Chain{}, err
	}
	if err := Complete(tx, v); err != nil {
		return operation.Chain{}, err
	}
	layers, err := layersUnder(&Family{tx: tx}, v)
	layers = append([]operation.Layer{layerOf(p, v, false)}, layers...)
	if err == nil && depthOf(layers) > operation.MaxDepth {
		err = tooDeep(v)
	}
	return operation.Chain{Of: operation.ChainOfNew, Layers: layers}, err
}

// descent is a walk from an image down to what it stands on.
type descent struct {
	*Family
	top    *store.Volume
	passed []string // names of the layers, the image's own first
	layers []operation.Layer
	barred error // why the volumes of a pool passed cannot be worked on now, the first of those
}

func beginAt(f *Family, v *store.Volume) *descent {
	return &descent{Family: f, top: v, passed: []string{v.Pool + "/" + record.Shown(v.Name)}}
}

// layersUnder are the layers under a volume, from the top down: of each first what
// holds its content, then what it stands on. All can be opened now.
func layersUnder(f *Family, v *store.Volume) ([]operation.Layer, error) {
	d, err := descend(f, v)
	if err = cmp.Or(d.barred, err); err != nil { // a pool is started before more is looked at
		return nil, err
	}
	return d.layers, nil
}

// descend goes through all the layers under a volume, also those of pools that are not in
// use.
func descend(f *Family, v *store.Volume) (d *descent, err error) {
	for d = beginAt(f, v); v != nil && err == nil; {
		v, err = d.below(v)
	}
	return d, err
}

// passedFrom are the names of a volume and of those that it stands on, as far as
// that can be followed.
func passedFrom(f *Family, v *store.Volume) ([]string, error) {
	d := beginAt(f, v)
	var refusal *record.Error
	for next := v; next != nil; {
		var err error
		if next, err = d.below(next); errors.As(err, &refusal) {
			break
		} else if err != nil {
			return nil, err
		}
	}
	return d.passed, nil
}

// below takes up what an image of the chain names, and gives what it stands on, nil
// if that is nothing.
func (d *descent) below(v *store.Volume) (next *store.Volume, err error) {
	if record.Plain(v.Format) {
		return nil, nil // a virtual machine may have written any header into it
	}
	if v.Problem != "" {
		return nil, cmp.Or(Complete(d.tx, v), unsound(v)) // half an image has problems that it will not have as a whole
	}
	var backing, data []store.Reference
	for _, r := range referencesOf(v) {
		if r.Data {
			data = append(data, r)
		} else {
			backing = append(backing, r)
		}
	}
	if len(data) > 1 && v.Format != "vmdk" {
		return nil, record.Errorf(record.Unsupported, "content of volume %s lies in %d other files; an image in format %s may have one at most", record.Quoted(v.Pool, v.Name), len(data), v.Format)
	}
	for _, r := range data {
		if _, err := d.take(v, r); err != nil {
			return nil, err
		}
	}
	switch len(backing) {
	case 0:
		return nil, nil
	case 1:
		return d.take(v, backing[0])
	}
	return nil, elsewhereOf(v, backing[0])
}

// unsound refuses to open a volume that has a problem. What is only cut off can be made
// longer again.
func unsound(v *store.Volume) error {
	e := record.Errorf(record.Unsupported, "volume %s cannot be opened as an image: %s", record.Quoted(v.Pool, record.Shown(v.Name)), v.Problem)
	if _, _, snapshot := record.ParseSnapshot(v.Name); !v.Cut || snapshot {
		return e
	}
	e = e.WithHint("what is missing is lost: take the volume from where it came from again, or from a backup")
	if name := v.Pool + "/" + v.Name; slices.Contains(record.FormatsChecked, v.Format) {
		return e.WithHint("take it from where it came from again, or from a backup; %s says how much of it is missing, and %s makes the file as long as it was: what is lost reads as zeros then, so make a copy of the file before",
			record.Do("volume.verify", name).With("check"), record.Do("volume.verify", name).With("check").With("repair", record.RepairAll))
	}
	return e
}

// take adds the volume that a layer names to the chain.
func (d *descent) take(v *store.Volume, r store.Reference) (*store.Volume, error) {
	p, w, err := d.resolved(v, r)
	if err != nil {
		return nil, err
	}
	if err := usable(p); err != nil {
		d.barred = cmp.Or(d.barred, onBehalf(err, v, w))
	}
	name := w.Pool + "/" + record.Shown(w.Name)
	if slices.Contains(d.passed, name) {
		return nil, record.Errorf(record.WrongState, "volume %s stands on itself: %s", record.Quoted(d.top.Pool, d.top.Name), strings.Join(append(d.passed, name), " on ")).
			WithHint("such an image has no content; %s", record.Do("volume.delete", d.top.Pool+"/"+d.top.Name))
	}
	d.passed = append(d.passed, name)
	if as := cmp.Or(r.Format, record.FormatRaw); r.Data && as != w.Format && !(record.Plain(as) && record.Plain(w.Format)) {
		return nil, record.Errorf(record.Unsupported, "content of volume %s lies in %s, which is an image in format %s and not %s",
			record.Quoted(v.Pool, v.Name), record.Quoted(w.Pool, w.Name), w.Format, as)
	}
	if r.Format != "" && r.Format != w.Format && !(record.Plain(r.Format) && record.Plain(w.Format)) {
		return nil, record.Errorf(record.Unsupported, "volume %s stands on %s as an image in format %s, and that is %s",
			record.Quoted(v.Pool, record.Shown(v.Name)), record.Quoted(w.Pool, record.Shown(w.Name)), r.Format, w.Format)
	}
	if err := Complete(d.tx, w); err != nil {
		return nil, err
	}
	d.layers = append(d.layers, layerOf(p, w, r.Data))
	switch {
	case depthOf(d.layers) > operation.MaxDepth:
		return nil, tooDeep(d.top)
	case len(d.layers) > operation.MaxLayers:
		return nil, record.Errorf(record.Unsupported, "volume %s needs more than %d other files", record.Quoted(d.top.Pool, d.top.Name), operation.MaxLayers)
	}
	return w, nil
}

// depthOf is how many images are among layers, one on the other.
func depthOf(layers []operation.Layer) (n int) {
	for _, l := range layers {
		if !l.Data {
			n++
		}
	}
	return n
}

func tooDeep(v *store.Volume) error {
	return record.Errorf(record.Unsupported, "volume %s stands on more than %d images, one on the other", record.Quoted(v.Pool, v.Name), operation.MaxDepth).
		WithHint("%s makes one of those independent, and the chain shorter", record.Do("volume.flatten", "VOL"))
}

func layerOf(p *store.Pool, v *store.Volume, data bool) operation.Layer {
	at := OnVolume(p, v.Name)
	at.PoolID, at.PoolSource, at.ID = p.Identity, p.Source, v.Identity
	return operation.Layer{Volume: at, Format: v.Format, Secret: v.Secret, Data: data, Allocation: v.Allocation}
}

// resolved is the volume of a pool that an image's reference is to.
func (f *Family) resolved(v *store.Volume, r store.Reference) (*store.Pool, *store.Volume, error) {
	if r.Path == "" || strings.HasPrefix(r.Name, "json:") { // what is not named plainly may mean more than its path
		return nil, nil, elsewhereOf(v, r)
	}
	w, err := f.referred(r)
	if err != nil {
		return nil, nil, err
	}
	if w == nil {
		return nil, nil, elsewhereOf(v, r)
	}
	p, err := f.pool(w.Pool)
	return p, w, err
}

// onBehalf says of a refusal of what an image stands on which image that is.
func onBehalf(err error, v, w *store.Volume) error {
	var e *record.Error
	if !errors.As(err, &e) {
		return err
	}
	out := *e
	out.Message = "volume " + record.Quoted(v.Pool, v.Name) + " stands on " + record.Quoted(w.Pool, w.Name) + ": " + e.Message
	return &out
}

// elsewhereOf refuses an image that names what is no volume of a pool.
func elsewhereOf(v *store.Volume, r store.Reference) error {
	what := "stands on"
	if r.Data {
		what = "has its content in"
	}
	why := "nothing else is opened for an image"
	if r.Path != "" && r.Identity == "" {
		why = "there was no such file when it was looked for"
	}
	e := record.Errorf(record.Unsupported, "volume %s %s %q, which is no volume of a pool: %s",
		record.Quoted(v.Pool, record.Shown(v.Name)), what, r.Name, why)
	if r.Data || !operation.Detachable(v.Format) {
		return e.WithHint("define a pool whose directory holds that file, or refresh the pool that it is in")
	}
	return e.WithHint("define a pool whose directory holds that file, or refresh the pool that it is in; if it has another name now, or is lost, a volume of the same content takes its place: %s",
		record.Do("volume.rebase", v.Pool+"/"+v.Name).With("backing", "POOL/VOLUME").With("unsafe"))
}

// referredIn is the volume of the pool that a reference is to by its path.
func referredIn(tx *store.Tx, p *store.Pool, r store.Reference) (*store.Volume, error) {
	target, name := targetAndName(p.Type, r.Path)
	if name == "" || target != p.Target.Path && (p.Real == "" || target != p.Real) {
		return nil, nil
	}
	v, err := entry(tx, p.Name, name)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	return v, err
}

// rechain looks up again what the images of an operation stand on: that may have
// changed since the job was asked for. What it has come to stand on since is not
// held.
func rechain(tx *store.Tx, o operation.Operation) error {
	c, ok := o.(operation.Chained)
	if !ok {
		return nil
	}
	for _, chain := range c.Chains() {
		now, err := chainNow(tx, o, *chain)
		if err != nil {
			return err
		}
		for _, l := range now.Layers {
			same := func(was operation.Layer) bool { return was.Pool == l.Pool && was.Name == l.Name }
			if !slices.ContainsFunc(chain.Layers, same) {
				return record.Errorf(record.Changed, "an image of the job stands on %s now, and did not when the job was asked for", record.Quoted(l.Pool, l.Name)).
					WithHint("start the work anew")
			}
		}
		chain.Layers = now.Layers
		if chain.Of != operation.ChainOfNew {
			chain.Secret = now.Secret
		}
	}
	return nil
}

func chainNow(tx *store.Tx, o operation.Operation, was operation.Chain) (operation.Chain, error) {
	of := o.On().Name
	if s, ok := o.(interface{ SnapshotOf() *operation.OnSnapshot }); ok && was.Of == operation.ChainOfSnapshot {
		of = record.SnapshotFile(of, s.SnapshotOf().Snapshot)
	}
	switch {
	case was.Of == operation.ChainOfTables:
		v, err := Volume(tx, o.On().Pool, of)
		if err != nil {
			return was, err
		}
		return operation.Chain{Of: was.Of, Secret: v.Secret}, nil
	case was.Of == operation.ChainOfVolume, was.Of == operation.ChainOfSnapshot:
		v, err := Volume(tx, o.On().Pool, of)
		if err != nil {
			return was, err
		}
		now, err := chainOf(tx, v)
		now.Of = was.Of
		return now, err
	case was.Of == operation.ChainOfNew && len(was.Layers) > 0:
		return chainUnder(tx, was.Layers[0].Pool, was.Layers[0].Name)
	}
	return was, nil
}

// withLayers adds the pools of what an operation's images stand on.
func withLayers(tx *store.Tx, o operation.Operation, pools []*store.Pool) ([]*store.Pool, error) {
	c, ok := o.(operation.Chained)
	if !ok {
		return pools, nil
	}
	for _, chain := range c.Chains() {
		for _, l := range chain.Layers {
			p, err := tx.Pool(l.Pool)
			if errors.Is(err, store.ErrNotFound) {
				continue // which is refused when the layers are looked up
			}
			if err != nil {
				return nil, err
			}
			pools = append(pools, p)
		}
	}
	return pools, nil
}
