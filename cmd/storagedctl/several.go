package main

import (
	"context"
	"slices"

	"storaged/cmd/internal/cmdline"
	"storaged/internal/record"
	"storaged/internal/service"
)

// findEach looks up each of several objects by its name. One that fails keeps
// no other from being looked up: it is an outcome with an error. The error is
// for what makes the command pointless: no daemon, or an object named twice.
func findEach[T any](names []string, find func(name string) (T, error), same func(a, b T) bool) ([]T, []outcome, error) {
	var found []T
	outcomes := make([]outcome, len(names))
	for i, name := range names {
		one, err := find(name)
		if record.CodeOf(err) == record.Unreachable {
			return nil, nil, err
		}
		if outcomes[i] = (outcome{start: start{object: name}, err: err}); err != nil {
			continue
		}
		if slices.ContainsFunc(found, func(o T) bool { return same(o, one) }) {
			return nil, nil, cmdline.Usagef("%s is named twice", name)
		}
		found = append(found, one)
	}
	return found, outcomes, nil
}

// showEach shows each of the objects that the command names.
func showEach[T any](s *session, sh shape[T], find func(name string) (T, error), same func(a, b T) bool) error {
	found, outcomes, err := findEach(s.args(), find, same)
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
func unfound(o outcome) start {
	return start{object: o.object, ask: func(context.Context, service.Submit) (service.Started, error) { return service.Started{}, o.err }}
}
