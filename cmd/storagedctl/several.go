package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"storaged/internal/record"
	"storaged/internal/service/contract"
)

// findEach looks up each of several objects by its name. One that fails keeps
// no other from being looked up: it is an outcome with an error. What is named
// twice is one object. The error is that there is no daemon.
func findEach[T any](names []string, find func(name string) (T, error), same func(a, b T) bool) ([]T, []outcome, error) {
	var found []T
	var outcomes []outcome
	for _, name := range once(names) {
		one, err := find(name)
		switch {
		case record.CodeOf(err) == record.Unreachable:
			return nil, nil, err
		case err == nil && slices.ContainsFunc(found, func(o T) bool { return same(o, one) }):
			continue
		case err == nil:
			found = append(found, one)
		}
		outcomes = append(outcomes, outcome{start: start{object: name}, err: err})
	}
	return found, outcomes, nil
}

// once leaves out what is there already.
func once(names []string) (out []string) {
	for _, n := range names {
		if !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}

// onceBy leaves out what is there already by name.
func onceBy[T any](all []T, name func(T) string) (out []T) {
	seen := map[string]bool{}
	for _, one := range all {
		if n := name(one); !seen[n] {
			seen[n] = true
			out = append(out, one)
		}
	}
	return out
}

// onceEach is once where an object may be given by its name and by its uuid too:
// of several, the latter are looked up. One that is not found stays as it is given.
func onceEach(names []string, nameOf func(uuid string) (string, error)) []string {
	if names = once(names); len(names) < 2 {
		return names
	}
	for i, n := range names {
		if uuid.Validate(n) != nil {
			continue
		}
		if name, err := nameOf(n); err == nil {
			names[i] = name
		}
	}
	return once(names)
}

// pools are those that the command names.
func (s *session) pools(ctx context.Context) []string {
	return onceEach(s.args(), func(uuid string) (string, error) {
		p, err := s.client.Pool(ctx, uuid)
		return p.Name, err
	})
}

// jobs are the numbers of those that are named.
func (s *session) jobs(ctx context.Context, ids []string) []string {
	return onceEach(ids, func(uuid string) (string, error) {
		j, err := s.client.Job(ctx, uuid)
		return fmt.Sprint(j.Number), err
	})
}

// showEach shows each of several objects.
func showEach[T any](s *session, names []string, sh shape[T], find func(name string) (T, error)) error {
	same := func(a, b T) bool { return sh.name(a) == sh.name(b) }
	found, outcomes, err := findEach(names, find, same)
	if err != nil {
		return err
	}
	if err := printSeveral(s, sh, found, len(outcomes)); err != nil {
		return err
	}
	return s.verdict(outcomes)
}

// named gives jobs by number or uuid, an outcome each.
func (s *session) named(ctx context.Context, ids []string) ([]outcome, error) {
	jobs, outcomes, err := findEach(ids, func(id string) (record.Job, error) { return s.client.Job(ctx, id) }, sameJob)
	for i := range outcomes {
		if outcomes[i].err == nil {
			outcomes[i].job, jobs = &jobs[0], jobs[1:]
		}
	}
	return outcomes, err
}

func sameJob(a, b record.Job) bool { return a.ID == b.ID }

// awaitEach waits for the ends of the jobs among the outcomes.
func (s *session) awaitEach(ctx context.Context, outcomes []outcome, until until) error {
	var jobs []record.Job
	for _, o := range outcomes {
		if o.err == nil {
			jobs = append(jobs, *o.job)
		}
	}
	ended, err := s.watch(ctx, jobs, until)
	if err != nil {
		return err
	}
	for i := range outcomes {
		if outcomes[i].err == nil {
			outcomes[i], ended = ended[0], ended[1:]
		}
	}
	return nil
}

// unfound is the start of a job on an object that could not be looked up.
func (s *session) unfound(o outcome) start {
	return start{object: o.object, ask: func(context.Context, contract.Submit) (contract.Started, error) {
		if s.cli.Bool("missing-ok") && record.CodeOf(o.err) == record.NotFound {
			return contract.Started{Unchanged: &contract.Unchanged{}}, nil
		}
		return contract.Started{}, o.err
	}}
}
