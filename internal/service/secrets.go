package service

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"

	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/secret"
	"storaged/internal/service/contract"
	"storaged/internal/store"
)

// Secrets gives what may be known of the secrets, in order.
func (s *Service) Secrets(context.Context) ([]record.Secret, error) {
	all := s.secrets.All()
	out := make([]record.Secret, 0, len(all))
	err := s.store.View(func(tx *store.Tx) error {
		users, err := usersOfSecrets(tx)
		for _, name := range slices.Sorted(maps.Keys(all)) {
			of := slices.Concat(users[name].opens, users[name].logins)
			out = append(out, record.Secret{Name: name, Set: all[name], Uses: len(of), UsedBy: of[:min(len(of), record.MaxHolders)]})
		}
		return err
	})
	return out, err
}

// secretUses are what needs a secret.
type secretUses struct {
	opens  []string // volumes and snapshots
	logins []string // pools, whose sources let this host in by it
}

// usersOfSecrets are those of each secret.
func usersOfSecrets(tx *store.Tx) (map[string]secretUses, error) {
	users := map[string]secretUses{}
	opens := func(secret, name string) {
		if secret == "" {
			return
		}
		u := users[secret]
		u.opens = append(u.opens, name)
		users[secret] = u
	}
	volumes, err := tx.Volumes("")
	for _, v := range volumes {
		opens(v.Secret, v.Pool+"/"+v.Name)
		for _, s := range v.Frozen {
			opens(s.Secret, v.Pool+"/"+v.Name+"@"+s.Name)
		}
	}
	if err != nil {
		return users, err
	}
	pools, err := tx.Pools()
	for _, p := range pools {
		for _, secret := range secretsOf(p) {
			u := users[secret]
			u.logins = append(u.logins, p.Name)
			users[secret] = u
		}
	}
	delete(users, "")
	return users, err
}

// secretsOf are those of the source of a pool, now and when it is not in use any more.
func secretsOf(p *store.Pool) []string {
	secrets := []string{p.Source.Secret}
	if p.Next != nil && p.Next.Source.Secret != p.Source.Secret {
		secrets = append(secrets, p.Next.Source.Secret)
	}
	return secrets
}

// SetSecret keeps a secret, in place of the one that had the name. What opens volumes
// is not replaced: nothing else may. Pools log in by the new one from their next start on.
// One that is lost is put back; whether it opens what
// it should a rekey tries.
func (s *Service) SetSecret(ctx context.Context, sub contract.Submit, name string, value []byte) (record.Secret, error) {
	defer clear(value)
	if err := cmp.Or(secret.CheckName(name), secret.CheckValue(name, value)); err != nil {
		return record.Secret{}, err
	}
	s.secretly.Lock()
	defer s.secretly.Unlock()
	same, err := s.secrets.Is(name, value)
	lost := !s.secrets.Known(name)
	if err == nil && !same && !lost {
		err = s.withdrawn(sub, name, isReplaced)
	}
	if err == nil && !same && !sub.DryRun {
		err = s.secrets.Set(name, value)
	}
	if err != nil {
		return record.Secret{}, err
	}
	if !sub.DryRun {
		s.log.Info("secret set", "secret", name, "by", sub.Caller.Owner.User)
	}
	all, err := s.Secrets(ctx)
	i := slices.IndexFunc(all, func(k record.Secret) bool { return k.Name == name })
	if err != nil || i < 0 { // it would be a new one
		return record.Secret{Name: name, UsedBy: []string{}}, err
	}
	return all[i], nil
}

// What is done to a secret, in words.
const (
	isReplaced = "replaced"
	isDeleted  = "deleted"
)

// DeleteSecret deletes a secret that opens no volume, and by which no pool logs in.
func (s *Service) DeleteSecret(_ context.Context, sub contract.Submit, name string) error {
	if err := secret.CheckName(name); err != nil {
		return err
	}
	s.secretly.Lock()
	defer s.secretly.Unlock()
	if err := s.KnownSecret(name); err != nil {
		return err
	}
	if err := s.withdrawn(sub, name, isDeleted); err != nil || sub.DryRun {
		return err
	}
	err := s.secrets.Delete(name)
	if err == nil {
		s.log.Info("secret deleted", "secret", name, "by", sub.Caller.Owner.User)
	}
	return err
}

// KnownSecret refuses a secret that is not there; "" is none.
func (s *Service) KnownSecret(name string) error {
	if name == "" || s.secrets.Known(name) {
		return nil
	}
	return record.Errorf(record.NotFound, "there is no secret %q", name).WithHint("%s makes one", record.Do("secret.set", name).With("file", "FILE"))
}

// withdrawn has nobody use a secret any more, or refuses that where somebody does. What
// begins to use one asks in a transaction too. A dry run only refuses.
func (s *Service) withdrawn(sub contract.Submit, name, will string) error {
	if sub.DryRun {
		return s.store.View(func(tx *store.Tx) error { return unused(tx, name, will) })
	}
	return s.store.Update(func(tx *store.Tx) error {
		err := unused(tx, name, will)
		if err == nil {
			s.secrets.Withdraw(name)
		}
		return err
	})
}

// unused refuses a secret that opens volumes, or that a job needs, or to be deleted a pool.
func unused(tx *store.Tx, name, will string) error {
	users, err := usersOfSecrets(tx)
	if err != nil {
		return err
	}
	of := users[name]
	switch {
	case len(of.opens) > 0:
		return record.Errorf(record.Busy, "secret %q opens %s, and is not %s", name, record.List(of.opens, 3), will).
			WithHint("%s", freed(of.opens))
	case len(of.logins) > 0 && will == isDeleted:
		return record.Errorf(record.Busy, "secret %q is that of the source of pool %s, and is not %s", name, record.List(of.logins, 3), will).
			WithHint("%s forgets the pool; another value is given by %s", record.Do("pool.undefine", of.logins[0]), record.Do("secret.set", name).With("file", "FILE"))
	}
	jobs, err := tx.LiveJobs()
	for _, j := range jobs {
		if err == nil && slices.Contains(j.Secrets, name) {
			return record.Errorf(record.Busy, "job %d (%s) needs secret %q, which is not %s", j.Number, j.Kind, name, will)
		}
	}
	return err
}

// maxFreed is how many uses of a secret a hint says how to end.
const maxFreed = 5

// freed says how a secret comes to open none of the volumes and snapshots that it does.
func freed(of []string) (hint record.Hint) {
	volumes := slices.DeleteFunc(slices.Clone(of), func(name string) bool { return strings.Contains(name, "@") })
	for _, name := range of[:min(len(of), maxFreed)] {
		if len(hint) > 0 {
			hint = append(hint, record.HintPart{Text: ", "})
		}
		if slices.Contains(volumes, name) {
			hint = append(hint, record.Hintf("%s", record.Do("volume.rekey", name).With("secret", "OTHER"))...)
		} else { // which keeps the keys that it has
			hint = append(hint, record.Hintf("%s", record.Do("snapshot.delete", name))...)
		}
	}
	if more := len(of) - maxFreed; more > 0 {
		hint = append(hint, record.Hintf(" and so on for %d more", more)...)
	}
	if len(volumes) > 0 {
		hint = append(hint, record.Hintf("; where OTHER opens a volume already, %s says so", record.Do("").With("opened_by", "OTHER"))...)
	}
	return hint
}

// sealed refuses a job whose secrets are not there.
func (s *Service) sealed(o operation.Operation) error {
	for _, name := range operation.SecretsOf(o) {
		if err := s.KnownSecret(name); err != nil {
			return err
		}
	}
	return nil
}
