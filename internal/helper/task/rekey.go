package task

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"storaged/internal/backends"
	"storaged/internal/format"
	"storaged/internal/helper"
	"storaged/internal/ipc"
	"storaged/internal/operation"
	"storaged/internal/record"
)

// Rekey makes the task of an operation.
func Rekey(o *operation.Rekey) (helper.Task, error) {
	at, err := volume(o, "target", o.Volume)
	if err != nil {
		return helper.Task{}, err
	}
	if !slices.Contains(operation.Encrypted, o.Format) {
		return helper.Task{}, record.Errorf(record.Unsupported, "format %q has no keys; %s have them", o.Format, record.List(operation.Encrypted, 10))
	}
	w := rekey{at: &helper.Volume{Location: at, Access: backends.WriteExclusive}, Rekey: *o}
	if w.known, err = recordedOf(o.Summed); err != nil {
		return helper.Task{}, err
	}
	given := 0
	for _, name := range []string{o.New, o.Add, o.Remove, o.OpenedBy} {
		if name != "" {
			given++
		}
	}
	if given != 1 {
		return helper.Task{}, record.Errorf(record.Invalid, "one of --new, --add, --remove and --opened-by says what is to be done")
	}
	if o.OpenedBy != "" {
		return w.trial(), nil
	}
	return helper.Task{
		Doing:   fmt.Sprintf("change the keys of %q", at.Path),
		Done:    fmt.Sprintf("changed the keys of %q", at.Path),
		Undone:  fmt.Sprintf("what opened %q before opens it still", at.Path),
		Writes:  at.Path,
		Secrets: o.Files,
		Images:  helper.KeyChildren,
		Opens:   []helper.Opening{w.at},
		Work:    w.work,
	}, nil
}

// trial is the task that tries a secret, and changes nothing.
func (w rekey) trial() helper.Task {
	w.at.Access = backends.ReadShared
	return helper.Task{
		Doing:   fmt.Sprintf("try a secret of %q", w.at.Path),
		Done:    fmt.Sprintf("%q is opened by secret %q", w.at.Path, w.OpenedBy),
		Undone:  fmt.Sprintf("%q is as it was", w.at.Path),
		Reads:   w.at.Path,
		Secrets: w.Files,
		Images:  1,
		Opens:   []helper.Opening{w.at},
		Work:    w.try,
	}
}

// try opens an image that is encrypted.
func (w rekey) try(ctx context.Context, r *helper.Run) error {
	r.Plan(helper.Single("try"))
	r.Next(0)
	info, err := w.at.Volume.Info()
	if err != nil {
		return err
	}
	h, err := format.InspectAs(w.at.Volume.Content(), info.Size, w.Format)
	if err == nil && h.Encryption == "" {
		err = record.Errorf(record.Unsupported, "%q is not encrypted: no secret opens it", w.at.Path)
	}
	if err != nil {
		return err
	}
	err = r.TryKey(ctx, w.at.Volume, w.opened(w.OpenedBy))
	if refusal, ok := errors.AsType[*record.Error](err); ok && refusal.Code == record.Denied { // else its hint is what was just done
		return refusal.WithHint("another secret opens it: storagedctl secret list names those that there are, storagedctl secret set makes one of a file")
	}
	return err
}

type rekey struct {
	operation.Rekey
	at    *helper.Volume
	known recorded
}

func (w rekey) work(ctx context.Context, r *helper.Run) error {
	info, err := w.at.Volume.Info()
	if err != nil {
		return err
	}
	w.known.giveBack(r, info)
	if err := w.different(r); err != nil {
		return err
	}
	phases := w.phases()
	r.Plan(phases...)
	r.Next(0)
	name := cmp.Or(w.New, w.Add)
	if name == "" {
		err = w.commit(ctx, r)
	} else {
		err = w.add(ctx, r, name)
	}
	switch {
	case err != nil || w.Add != "":
		return err
	case w.Remove != "":
		return r.RemoveKey(ctx, w.at.Volume, w.opened(w.Secret), w.Remove)
	}
	r.Next(len(phases) - 1)
	if err := r.RemoveKey(ctx, w.at.Volume, w.opened(w.New), w.Secret); err != nil {
		r.Warn("the secret %q may open %q still: %v", w.Secret, w.at.Path, err)
	}
	return nil
}

// phases are what a change consists of, each of which takes seconds on purpose: to add the
// new secret, to try it, and to remove the old.
func (w rekey) phases() []ipc.PlanPhase {
	add, try, remove := helper.Single("add"), helper.Single("try"), helper.Single("remove")
	switch {
	case w.Remove != "":
		return []ipc.PlanPhase{remove}
	case w.Add != "":
		return []ipc.PlanPhase{add, try}
	}
	return []ipc.PlanPhase{add, try, remove}
}

// opened is the volume as it is opened by a secret.
func (w rekey) opened(secret string) helper.Disk {
	return helper.Disk{Format: w.Format, Secret: secret}
}

// different refuses secrets that are the same: to take one away would take the other.
func (w rekey) different(r *helper.Run) error {
	name := cmp.Or(w.New, w.Add, w.Remove)
	same, err := r.SameSecret(w.Secret, name)
	if err != nil || !same {
		return err
	}
	e := record.Errorf(record.Invalid, "the secret %q is the same as the one that opens %q", name, w.at.Path)
	if w.Remove != "" {
		return e.WithHint("--secret NAME has another one open it instead")
	}
	return e.WithHint("--opened-by %s has the volume be opened by that name", name)
}

// add has a secret open the volume, and tries it. Where that fails, or the job is
// canceled, it opens it no longer. As soon as it is durable that it does, whoever
// settles the job knows that.
func (w rekey) add(ctx context.Context, r *helper.Run, name string) error {
	v := w.at.Volume
	if r.TryKey(ctx, v, w.opened(name)) == nil { // it was added before
		return w.commit(ctx, r)
	}
	err := r.AddKey(ctx, v, w.opened(w.Secret), name, w.IterTime)
	if err != nil && ctx.Err() == nil { // nothing was added, or it is taken back
		return err
	}
	if err == nil {
		r.Next(1)
		err = r.TryKey(ctx, v, w.opened(name))
	}
	if err == nil {
		err = w.commit(ctx, r)
	}
	if err != nil {
		r.WithdrawKey(ctx, v, w.opened(w.Secret), name)
	}
	return err
}

// commit passes the point of no return.
func (w rekey) commit(ctx context.Context, r *helper.Run) error {
	err := context.Cause(ctx)
	if err == nil {
		err = r.Seal()
	}
	if err == nil && w.New != "" {
		err = r.Records.Save([]byte(w.New))
	}
	return err
}
