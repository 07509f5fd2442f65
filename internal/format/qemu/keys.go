package qemu

import (
	"context"
	"errors"
	"strings"
	"time"

	"storaged/internal/tool"
)

// Key is a secret that is to open an image.
type Key struct {
	Secret []byte
	Time   int64 // ms of this machine's processor that a try of it takes; 0: QEMU's default, 2000
}

// AddKey has a secret open an encrypted image too, in a key slot that is free. The
// caller syncs the file.
func AddKey(ctx context.Context, top Layer, key Key, c Child) error {
	change := object{"state": "active", "new-secret": tool.SecretName(1)}
	if key.Time != 0 {
		change["iter-time"] = key.Time
	}
	return top.amend(ctx, c, key.Secret, change)
}

// RemoveKey has a secret open an image no longer; top.Secret is another that does, and
// goes on to. QEMU refuses to take the last one away. The caller syncs the file.
func RemoveKey(ctx context.Context, top Layer, secret []byte, c Child) error {
	return top.amend(ctx, c, secret, object{"state": "inactive", "old-secret": tool.SecretName(1)})
}

// TryKey opens an encrypted image, and closes it again.
func TryKey(ctx context.Context, top Layer, c Child) error {
	g := &graph{}
	g.layer(top, false)
	d, err := g.open(ctx, c)
	if err != nil {
		return failed("open by its secret", top.Format, top.File, err)
	}
	defer d.Abandon()
	return end(ctx, d, g)
}

// amend changes the key slots of an image; what it stands on is not opened.
func (l Layer) amend(ctx context.Context, c Child, secret []byte, change object) error {
	l.Backing = nil
	g := &graph{}
	node := g.layer(l, true)
	g.secret(secret)
	options := object{"driver": l.Format}
	switch l.Format {
	case "luks":
		for k, v := range change {
			options[k] = v
		}
	default:
		change["format"] = "luks"
		options["encrypt"] = change
	}
	ctx, cancel := within(ctx, amendTime)
	defer cancel()
	d, err := g.open(ctx, c)
	if err == nil {
		defer d.Abandon()
		err = d.LiftCPU() // keys are slow on purpose
	}
	if err == nil {
		err = timed(func() error {
			return d.Job(ctx, "amend", "x-blockdev-amend", object{"job-id": "amend", "node-name": node, "options": options})
		})
	}
	if err == nil {
		err = end(ctx, d, g)
	}
	return failed("change the keys of", l.Format, l.File, err)
}

// timingTime is how long QEMU may measure the processor in vain: a clock that ticks by
// 4 ms may be met between two ticks many times.
const timingTime = time.Minute

// timed repeats what makes a key while QEMU finds that it took no time at all: for how
// long a key is to take it measures by a clock that may not tick meanwhile.
func timed(do func() error) (err error) {
	for end := time.Now().Add(timingTime); time.Now().Before(end); {
		err = do()
		refused, ok := errors.AsType[*tool.CommandError](err)
		if !ok || !strings.Contains(refused.Desc, "Unable to get accurate CPU usage") {
			return err
		}
	}
	return err
}
