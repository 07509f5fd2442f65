package service

import (
	"context"
	"errors"
	"strconv"
	"sync"

	"storaged/internal/record"
	"storaged/internal/service/contract"
)

const (
	// bulkPage is how many jobs are looked for at once: enough that to look costs
	// little, and few enough that it holds nobody up.
	bulkPage = 1000
	// bulkWidth is how many of them are changed at once: one write of the store
	// takes the changes of all who wait for it.
	bulkWidth = 64
)

// EachJob does something to every job that is selected, each by its own rules,
// and gives how many took it. A job that refuses does not keep the others from
// it. It is over early, with ctx's error, when ctx is.
func (s *Service) EachJob(ctx context.Context, sel contract.Selection, do func(ctx context.Context, job string) error) (contract.Bulk, error) {
	if err := checkStates(sel.States); err != nil {
		return contract.Bulk{}, err
	}
	b := contract.Bulk{Refusals: []contract.Refusal{}}
	for cursor := new(""); cursor != nil; {
		numbers, next, err := s.jobs.Numbers(queryOf(sel.JobFilter, bulkPage, *cursor))
		if err != nil {
			return b, err
		}
		b.Selected, cursor = b.Selected+len(numbers), next
		if sel.DryRun {
			continue
		}
		if err := change(ctx, &b, numbers, do); err != nil {
			return b, err
		}
	}
	return b, nil
}

// change does it to some jobs, several at a time.
func change(ctx context.Context, b *contract.Bulk, numbers []int64, do func(ctx context.Context, job string) error) error {
	for len(numbers) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		some := numbers[:min(len(numbers), bulkWidth)]
		numbers = numbers[len(some):]
		errs := make([]error, len(some))
		var all sync.WaitGroup
		for i, n := range some {
			all.Go(func() { errs[i] = do(ctx, strconv.FormatInt(n, 10)) })
		}
		all.Wait()
		for i, err := range errs {
			count(b, some[i], err)
		}
	}
	return nil
}

// count notes what became of a job.
func count(b *contract.Bulk, number int64, err error) {
	if err == nil {
		b.Done++
		return
	}
	b.Refused++
	if len(b.Refusals) == record.MaxHolders {
		return
	}
	var e *record.Error
	if !errors.As(err, &e) {
		e = record.Errorf(record.Internal, "%v", err)
	}
	b.Refusals = append(b.Refusals, contract.Refusal{Job: number, Error: e})
}
