package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"storaged/internal/record"
)

// volumeSep parts the fields of a volume's keys; no name or path holds it.
const volumeSep = "\x00"

// PutVolume stores v, new or changed. Pool, name, path and key must be valid
// UTF-8 without NUL.
func (t *Tx) PutVolume(v *Volume) error {
	if v.Pool == "" || v.Name == "" {
		return fmt.Errorf("internal error: volume %q of pool %q has no name or no pool", v.Name, v.Pool)
	}
	for _, s := range []string{v.Pool, v.Name, v.Path, v.Key} {
		if !utf8.ValidString(s) || strings.Contains(s, volumeSep) {
			return fmt.Errorf("internal error: volume %q of pool %q: %q is not text", v.Name, v.Pool, s)
		}
	}
	old, err := t.Volume(v.Pool, v.Name)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	if err := t.moveIndex(bucketVolumePaths, old, v, func(v *Volume) string { return v.Path }); err != nil {
		return err
	}
	if err := t.moveIndex(bucketVolumeKeys, old, v, func(v *Volume) string { return v.Key }); err != nil {
		return err
	}
	return t.save(bucketVolumes, volumeKey(v.Pool, v.Name), v)
}

// moveIndex makes the index entry of now in place of that of old; either may
// be nil or have none.
func (t *Tx) moveIndex(bucket string, old, now *Volume, field func(*Volume) string) error {
	was, is := indexKey(old, field), indexKey(now, field)
	if bytes.Equal(was, is) {
		return nil
	}
	if was != nil {
		if err := t.remove(bucket, was); err != nil {
			return err
		}
	}
	if is != nil {
		return t.put(bucket, is, nil)
	}
	return nil
}

func indexKey(v *Volume, field func(*Volume) string) []byte {
	if v == nil || field(v) == "" {
		return nil
	}
	return append([]byte(field(v)+volumeSep), volumeKey(v.Pool, v.Name)...)
}

func volumeKey(pool, name string) []byte { return []byte(pool + volumeSep + name) }

// Volume gives a volume of a pool.
func (t *Tx) Volume(pool, name string) (*Volume, error) { return t.volume(volumeKey(pool, name)) }

func (t *Tx) volume(key []byte) (*Volume, error) {
	body, err := t.get(bucketVolumes, key)
	if err != nil {
		return nil, err
	}
	if body == nil {
		return nil, ErrNotFound
	}
	return t.decodeVolume(key, body)
}

func (t *Tx) decodeVolume(key, body []byte) (*Volume, error) {
	v, err := t.decoded.ofVolumes().read(bucketVolumes, key, body)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(volumeKey(v.Pool, v.Name), key) {
		return nil, damage(bucketVolumes, key, "it is of another volume")
	}
	return v, nil
}

// Volumes gives the volumes of a pool, by name; of all pools where pool is "".
func (t *Tx) Volumes(pool string) ([]*Volume, error) {
	return collect(t, bucketVolumes, poolPrefix(pool), func(e entry) (*Volume, error) { return t.decodeVolume(e.key, e.body) })
}

// noBacking is how the JSON of a volume without a backing looks, as
// encoding/json writes it: within a string its quotes would be escaped.
var noBacking = []byte(`"backing":""`)

// someReferences is how the JSON of a volume that names other files looks,
// likewise.
var someReferences = []byte(`"references":[{`)

// VolumesOnOthers gives the volumes of all pools that stand on other files, or have
// snapshots that do. Those
// that do not, which may be many, are not decoded.
func (t *Tx) VolumesOnOthers() ([]*Volume, error) {
	return collect(t, bucketVolumes, nil, func(e entry) (*Volume, error) {
		if bytes.Contains(e.body, noBacking) && !bytes.Contains(e.body, someReferences) {
			return nil, nil
		}
		v, err := t.decodeVolume(e.key, e.body)
		if err != nil || v.Backing == "" && len(v.References) == 0 && !slices.ContainsFunc(v.Frozen, func(s Snapshot) bool { return len(s.References) > 0 }) {
			return nil, err
		}
		return v, nil
	})
}

// VolumesOfIdentity gives the volumes of all pools whose identity is that text,
// which is not "". Others, which may be many, are not decoded.
func (t *Tx) VolumesOfIdentity(identity string) ([]*Volume, error) {
	written, err := json.Marshal(identity)
	if err != nil {
		return nil, err
	}
	written = append([]byte(`"identity":`), written...)
	return collect(t, bucketVolumes, nil, func(e entry) (*Volume, error) {
		if !bytes.Contains(e.body, written) {
			return nil, nil
		}
		v, err := t.decodeVolume(e.key, e.body)
		if err != nil || v.Identity != identity {
			return nil, err
		}
		return v, nil
	})
}

// notReady is how the JSON of a volume that is not ready looks, likewise, and that of
// some others.
var notReady = [][]byte{[]byte(`"state":"building"`), []byte(`"state":"incomplete"`)}

// VolumeStates counts the volumes of pools by their states. Those that are ready, which may
// be many, are not decoded. Volumes of other pools are left out, and so are records that are
// damaged: how many is said beside.
func (t *Tx) VolumeStates(pools []*Pool) (all map[string]map[record.VolumeState]int, damaged int, err error) {
	all = map[string]map[record.VolumeState]int{}
	for _, p := range pools {
		all[p.Name] = map[record.VolumeState]int{}
	}
	damaged, err = t.sound(bucketVolumes, func(key, body []byte) error {
		pool, _, _ := bytes.Cut(key, []byte(volumeSep))
		state := record.VolumeReady
		if slices.ContainsFunc(notReady, func(words []byte) bool { return bytes.Contains(body, words) }) {
			v, err := t.decodeVolume(key, body)
			if err != nil {
				return err
			}
			state = v.State
		}
		if of := all[string(pool)]; of != nil {
			of[state]++
		}
		return nil
	})
	return all, damaged, err
}

func poolPrefix(pool string) []byte {
	if pool == "" {
		return nil
	}
	return []byte(pool + volumeSep)
}

// ForgetWriters makes it unknown, of every volume, which job began last to change
// its content in place, so that none goes on with what it began.
func (t *Tx) ForgetWriters() error {
	volumes, err := t.Volumes("")
	for _, v := range volumes {
		if err == nil && v.Writer != 0 {
			v.Writer = 0
			err = t.PutVolume(v)
		}
	}
	return err
}

// VolumesByPath gives the volumes at path, by pool and name. Pools that are
// not active may overlap, so there can be several.
func (t *Tx) VolumesByPath(path string) ([]*Volume, error) {
	return t.volumesByIndex(bucketVolumePaths, path)
}

// VolumesByKey gives the volumes with that key, by pool and name.
func (t *Tx) VolumesByKey(key string) ([]*Volume, error) {
	return t.volumesByIndex(bucketVolumeKeys, key)
}

func (t *Tx) volumesByIndex(bucket, field string) ([]*Volume, error) {
	return collect(t, bucket, []byte(field+volumeSep), func(e entry) (*Volume, error) { return t.volumeByIndex(bucket, e.key) })
}

// volumeByIndex follows an entry of volume_paths or volume_keys.
func (t *Tx) volumeByIndex(bucket string, key []byte) (*Volume, error) {
	field, rest, _ := bytes.Cut(key, []byte(volumeSep))
	v, err := t.volume(rest)
	if errors.Is(err, ErrNotFound) {
		return nil, damage(bucket, key, "it leads to no volume")
	}
	if err != nil {
		return nil, err
	}
	if bucket == bucketVolumePaths && v.Path != string(field) || bucket == bucketVolumeKeys && v.Key != string(field) {
		return nil, damage(bucket, key, "it leads to another volume")
	}
	return v, nil
}

// DeleteVolume forgets a volume.
func (t *Tx) DeleteVolume(pool, name string) error {
	v, err := t.Volume(pool, name)
	if err != nil {
		return err
	}
	return errors.Join(
		t.moveIndex(bucketVolumePaths, v, nil, func(v *Volume) string { return v.Path }),
		t.moveIndex(bucketVolumeKeys, v, nil, func(v *Volume) string { return v.Key }),
		t.remove(bucketVolumes, volumeKey(pool, name)))
}

// DeleteVolumes forgets all volumes of a pool; there may be none.
func (t *Tx) DeleteVolumes(pool string) error {
	if pool == "" {
		return errors.New("internal error: volumes of no pool to be deleted")
	}
	volumes, err := t.Volumes(pool)
	if err != nil {
		return err
	}
	for _, v := range volumes {
		if err := t.DeleteVolume(v.Pool, v.Name); err != nil {
			return err
		}
	}
	return nil
}
