package catalog

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/store"
)

// overlay lists an image of the pool "p" that names files.
func (d *desk) overlay(name string, names ...store.Reference) {
	d.t.Helper()
	v := store.Volume{References: names, Identity: "1:" + fmt.Sprint(len(name)) + ":" + name, Volume: record.Volume{
		Pool: "p", Name: name, Path: "/p/" + name, Key: "/p/" + name, Format: "qcow2", State: record.VolumeReady, Generation: 1,
	}}
	if len(names) > 0 {
		v.Backing = names[0].Name
	}
	d.update(func(tx *store.Tx) error { return tx.PutVolume(&v) })
}

func (d *desk) plain(name string) {
	d.t.Helper()
	d.overlay(name)
	v := d.volume(name)
	v.Format = record.FormatRaw
	d.update(func(tx *store.Tx) error { return tx.PutVolume(v) })
}

// onto is a reference to a file of the pool "p".
func onto(name string) store.Reference {
	return store.Reference{Name: "/p/" + name, Path: "/p/" + name}
}

// chain gives what a volume stands on as text, or why that is not known.
func (d *desk) chain(name string) (string, error) {
	d.t.Helper()
	var c operation.Chain
	err := d.store.View(func(tx *store.Tx) (err error) {
		c, err = chainOf(tx, d.volume(name))
		return err
	})
	var texts []string
	for _, l := range c.Layers {
		text := l.Pool + "/" + l.Name + " " + l.Format
		if l.Data {
			text += " data"
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, ", "), err
}

// What an image stands on is found in the catalog, from the top down.
func TestChainOfAnImageIsItsVolumes(t *testing.T) {
	d := newDesk(t)
	d.update(func(tx *store.Tx) error {
		p, err := tx.Pool("p")
		p.Real = "/real/p"
		return orPut(err, tx, p)
	})
	d.plain("base")
	d.plain("data")
	d.overlay("middle", onto("base"))
	d.overlay("top", onto("middle"))
	d.overlay("split", store.Reference{Name: "data", Relative: true, Data: true, Path: "/p/data"}, onto("middle"))
	d.overlay("text", store.Reference{Name: "data", Data: true, Format: "raw", Path: "/p/data"}, store.Reference{Name: "part", Data: true, Format: "vmdk", Path: "/p/part"}, onto("middle"))
	d.overlay("part")
	for _, name := range []string{"text", "part"} {
		v := d.volume(name)
		if v.Format = "vmdk"; name == "part" {
			v.Problem = "it is a part of an image"
		}
		d.update(func(tx *store.Tx) error { return tx.PutVolume(v) })
	}
	d.overlay("real", store.Reference{Name: "/real/p/base", Path: "/real/p/base"})
	d.overlay("bound", store.Reference{Name: "/other/base", Path: "/other/base", Identity: d.volume("base").Identity})
	for name, want := range map[string]string{
		"base": "", "middle": "p/base raw", "top": "p/middle qcow2, p/base raw", "split": "p/data raw data, p/middle qcow2, p/base raw",
		"text": "p/data raw data, p/part vmdk data, p/middle qcow2, p/base raw",
		"real": "p/base raw", "bound": "p/base raw",
	} {
		if got, err := d.chain(name); got != want || err != nil {
			t.Errorf("%s stands on %q, %v; not %q", name, got, err, want)
		}
	}
}

func orPut(err error, tx *store.Tx, p *store.Pool) error {
	if err != nil {
		return err
	}
	return tx.PutPool(p)
}

// What cannot be opened as an image is one clear refusal.
func TestChainThatCannotBeOpenedIsRefused(t *testing.T) {
	d := newDesk(t)
	d.plain("base")
	d.overlay("self", onto("self"))
	d.overlay("a", onto("b"))
	d.overlay("b", onto("c"))
	d.overlay("c", onto("a"))
	d.overlay("beyond", store.Reference{Name: "/etc/shadow", Path: "/etc/shadow"})
	d.overlay("gone", onto("nothing"))
	d.overlay("net", store.Reference{Name: "nbd://host/x"})
	d.overlay("json", store.Reference{Name: `json:{"driver":"raw","file":{"filename":"/p/base"}}`, Path: "/p/base"})
	d.overlay("two", onto("base"), onto("a"))
	d.overlay("extents", store.Reference{Name: "x", Data: true, Path: "/p/base"}, store.Reference{Name: "y", Data: true, Path: "/p/base"})
	d.overlay("inner", store.Reference{Name: "x", Data: true, Path: "/p/deep0"})
	d.overlay("child", onto("half"))
	d.overlay("half")
	d.update(func(tx *store.Tx) error {
		half, err := tx.Volume("p", "half")
		if err != nil {
			return err
		}
		half.State, half.Problem = record.VolumeIncomplete, "it is cut off"
		return tx.PutVolume(half)
	})
	d.overlay("deep0")
	for i := range operation.MaxDepth + 1 {
		d.overlay(fmt.Sprintf("deep%d", i+1), onto(fmt.Sprintf("deep%d", i)))
	}
	for name, c := range map[string]struct {
		code record.Code
		text string
	}{
		"self": {record.WrongState, "p/self on p/self"}, "a": {record.WrongState, "p/a on p/b on p/c on p/a"},
		"beyond": {record.Unsupported, "/etc/shadow"}, "gone": {record.Unsupported, "/p/nothing"}, "net": {record.Unsupported, "nbd://host/x"},
		"json": {record.Unsupported, "json:"}, "two": {record.Unsupported, "/p/base"}, "extents": {record.Unsupported, "2 other files"},
		"inner": {record.Unsupported, "not raw"}, "child": {record.WrongState, "p/half"}, "half": {record.WrongState, "incomplete"}, fmt.Sprintf("deep%d", operation.MaxDepth+1): {record.Unsupported, "more than 64"},
	} {
		if got, err := d.chain(name); record.CodeOf(err) != c.code || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s stands on %q, %v; not %s with %q", name, got, err, c.code, c.text)
		}
	}
	if got, err := d.chain(fmt.Sprintf("deep%d", operation.MaxDepth)); err != nil || strings.Count(got, ",") != operation.MaxDepth-1 {
		t.Errorf("%q, %v", got, err)
	}
	d.update(func(tx *store.Tx) error {
		p, err := tx.Pool("p")
		p.State = record.PoolUnreachable
		return orPut(err, tx, p)
	})
	d.overlay("away", onto("base"))
	if _, err := d.chain("away"); record.CodeOf(err) != record.WrongState || !strings.Contains(err.Error(), "unreachable") {
		t.Error(err)
	}
}

// An image that a header or the inspector says no good of is not opened.
func TestChainOfAnImageWithAProblemIsRefused(t *testing.T) {
	d := newDesk(t)
	d.plain("base")
	as := onto("base")
	as.Format = "qcow2"
	d.overlay("other", as)
	d.overlay("bad")
	bad := d.volume("bad")
	bad.Problem = "its tables cannot be"
	d.update(func(tx *store.Tx) error { return tx.PutVolume(bad) })
	d.overlay("child", onto("bad"))
	for name, text := range map[string]string{"other": "in format qcow2, and that is raw", "bad": "its tables", "child": "its tables"} {
		if got, err := d.chain(name); record.CodeOf(err) != record.Unsupported || !strings.Contains(err.Error(), text) {
			t.Errorf("%s stands on %q, %v", name, got, err)
		}
	}
}

// A volume whose backing is no volume any more says so, with what it names.
func TestLostBackingIsAProblem(t *testing.T) {
	d := newDesk(t)
	d.plain("base")
	d.overlay("there", onto("base"))
	d.overlay("gone", onto("nothing"))
	d.overlay("beyond", store.Reference{Name: "/etc/shadow", Path: "/etc/shadow", Identity: "1:2:3"})
	for name, text := range map[string]string{"there": "", "gone": `"/p/nothing", which is no volume of a pool: there was no such file`, "beyond": "nothing else is opened"} {
		v := d.volume(name)
		d.stand(v)
		if !strings.Contains(v.Problem, text) || (v.Problem == "") != (text == "") {
			t.Errorf("%s: %q", name, v.Problem)
		}
	}
}

// That a pool is stopped or away is no problem of its volumes, which stand on what they
// stood on. Of those in other pools it is.
func TestVolumesOfAPoolNotInUseStandOnWhatTheyStoodOn(t *testing.T) {
	d := newDesk(t)
	d.plain("base")
	d.overlay("same", onto("base"))
	d.overlay("top", onto("same"))
	d.update(func(tx *store.Tx) error {
		p, err := tx.Pool("p")
		if err != nil {
			return err
		}
		q := *p
		q.Name, q.UUID, q.Target.Path = "q", "w", "/q"
		v := *d.volume("same")
		v.Pool, v.Name, v.Path, v.Key, v.Identity = "q", "far", "/q/far", "/q/far", "1:9:far"
		return errors.Join(tx.PutPool(&q), tx.PutVolume(&v))
	})
	for _, state := range []record.PoolState{record.PoolActive, record.PoolInactive, record.PoolUnreachable} {
		d.update(func(tx *store.Tx) error {
			p, err := tx.Pool("p")
			p.State, p.Reason = state, "its server is away"
			return orPut(err, tx, p)
		})
		for _, c := range []struct {
			pool, name, parent string
			depth              int
			problem            bool
		}{{"p", "base", "", 0, false}, {"p", "same", "base", 1, false}, {"p", "top", "same", 2, false}, {"q", "far", "base", 1, state != record.PoolActive}} {
			var v *store.Volume
			d.update(func(tx *store.Tx) (err error) {
				v, err = tx.Volume(c.pool, c.name)
				return err
			})
			d.stand(v)
			if (v.Parent == nil) != (c.parent == "") || v.Parent != nil && v.Parent.Volume != c.parent || v.Depth == nil || *v.Depth != c.depth {
				t.Errorf("%s: %s/%s stands on %+v, depth %v", state, c.pool, c.name, v.Parent, v.Depth)
			}
			if (v.Problem != "") != c.problem || !strings.Contains(v.Problem, map[bool]string{true: `stands on "p/base": pool "p" is `}[c.problem]) {
				t.Errorf("%s: problem of %s/%s is %q", state, c.pool, c.name, v.Problem)
			}
		}
	}
}

// stand has a volume say what it stands on, and what stands on it.
func (d *desk) stand(v *store.Volume) {
	d.t.Helper()
	err := d.store.View(func(tx *store.Tx) error {
		f, err := d.Family(tx)
		if err != nil {
			return err
		}
		return f.Stand(v)
	})
	if err != nil {
		d.t.Fatal(err)
	}
}

// What is said of many volumes is what is found of each, also when it has changed since.
func TestFamilyIsWhatEachVolumeSays(t *testing.T) {
	d := newDesk(t)
	d.update(func(tx *store.Tx) error {
		p, err := tx.Pool("p")
		p.Real = "/real/p"
		return orPut(err, tx, p)
	})
	d.plain("base")
	d.plain("data")
	d.overlay("middle", onto("base"))
	d.overlay("top", onto("middle"))
	d.overlay("split", store.Reference{Name: "data", Data: true, Path: "/p/data"}, onto("middle"))
	d.overlay("real", store.Reference{Name: "/real/p/base", Path: "/real/p/base"})
	d.overlay("bound", store.Reference{Name: "/other/base", Path: "/other/base", Identity: d.volume("base").Identity})
	d.overlay("a", onto("b"))
	d.overlay("b", onto("a"))
	d.overlay("over", onto("a"))
	for _, change := range []func(){func() {}, func() { d.overlay("more", onto("base")) }, func() { d.overlay("top", onto("data")) }} {
		change()
		for _, name := range []string{"base", "data", "middle", "top", "split", "real", "bound", "a", "b", "over"} {
			v := d.volume(name)
			d.stand(v)
			var want []string
			d.update(func(tx *store.Tx) (err error) {
				want, err = childrenOf(tx, d.volume(name))
				return err
			})
			slices.Sort(want)
			if !slices.Equal(v.Children, want) {
				t.Errorf("children of %s: %q, not %q", name, v.Children, want)
			}
		}
	}
}
