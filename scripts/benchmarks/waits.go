package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"storaged/internal/operation"
	"storaged/internal/record"
	"storaged/internal/service/contract"
	"storaged/internal/virtrpc/wire"
)

const (
	longCalls  = 500      // that wait for jobs
	lookers    = 10       // connections that list and look meanwhile
	waitBytes  = 16 << 20 // of each of their volumes
	waitRate   = "65536"  // so that none of them ends
	pingEvery  = 5 * time.Millisecond
	countEvery = 50 * time.Millisecond
	jobsListed = 1000 // at most
	random     = 8    // VIR_STORAGE_VOL_WIPE_ALG_RANDOM, which writes into holes too

	// waitTimeout bounds the start of all the jobs, each of which takes milliseconds.
	waitTimeout = 2 * time.Minute
)

// waits measures calls while hundreds of others wait for jobs, on one connection and on
// many.
func waits(ctx context.Context, r *rig, length time.Duration) error {
	if err := r.prepareWaits(ctx); err != nil {
		return err
	}
	var table []measurement
	for _, connections := range []int{1, longCalls} {
		forgetPeak(r.daemon.Process.Pid)
		var looks samples
		waiting, err := r.waiting(ctx, connections)
		if err == nil {
			looks, err = r.besideWaiting(waiting[0], time.Now().Add(length))
		}
		if err := errors.Join(err, r.endWaits(ctx, waiting)); err != nil {
			return err
		}
		where := fmt.Sprintf(", %d calls wait on %d connections", longCalls, connections)
		table = append(table, measurement{"list and info" + where, looks, "p99 under 100 ms"}, measurement{"ping" + where, waiting[0].took, "p99 under 100 ms"})
		fmt.Printf("daemon%s: %.0f MiB at most\n", where, peak(r.daemon.Process.Pid)/(1<<20))
	}
	print(table)
	return nil
}

// prepareWaits makes volumes, and slows down what is to be done to them.
func (r *rig) prepareWaits(ctx context.Context) error {
	for i := range longCalls {
		st, err := r.client.Start(ctx, contract.Submit{}, pool, "", &operation.CreateRequest{Name: long(i), Capacity: waitBytes, Allocation: &operation.Allocation{}})
		if err == nil {
			err = r.end(ctx, st)
		}
		if err != nil {
			return err
		}
	}
	_, err := r.client.PatchLimits(ctx, contract.LimitsPatch{Rate: []byte(waitRate)})
	return err
}

// waiting has calls wait on so many connections, and gives these.
func (r *rig) waiting(ctx context.Context, connections int) (all []*caller, err error) {
	for range connections {
		c, err := dialLibvirt(r.libvirtSocket())
		if err != nil {
			return all, err
		}
		all = append(all, c)
	}
	for i := range longCalls {
		if err := all[i%connections].begin(wire.StorageVolWipePattern, &wire.VolWipeArgs{Vol: wire.Vol{Pool: pool, Name: long(i)}, Algorithm: random}); err != nil {
			return all, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, waitTimeout)
	defer cancel()
	tick := time.NewTicker(countEvery)
	defer tick.Stop()
	for {
		live, err := r.live(ctx)
		if err != nil || len(live) == longCalls {
			return all, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return all, fmt.Errorf("%d of %d calls wait: %w", len(live), longCalls, ctx.Err())
		}
	}
}

func (r *rig) live(ctx context.Context) ([]record.Job, error) {
	l, err := r.client.Jobs(ctx, contract.JobFilter{States: []string{"live"}}, contract.Page{Limit: jobsListed})
	return l.Items, err
}

// besideWaiting lists and looks on other connections until the time, and pings on one
// whose calls wait.
func (r *rig) besideWaiting(waiting *caller, until time.Time) (all samples, err error) {
	var group sync.WaitGroup
	took, failures := make([]samples, lookers), make([]error, lookers+1)
	for i := range lookers {
		group.Go(func() { took[i], failures[i] = lookAgain(until, r.libvirtSocket(), pool, long(i)) })
	}
	group.Go(func() {
		tick := time.NewTicker(pingEvery)
		defer tick.Stop()
		for failures[lookers] == nil && time.Now().Before(until) {
			failures[lookers] = waiting.ping()
			<-tick.C
		}
	})
	group.Wait()
	for _, one := range took {
		all = append(all, one...)
	}
	return all, errors.Join(failures...)
}

// endWaits has the clients leave, and cancels the jobs that go on without them.
func (r *rig) endWaits(ctx context.Context, waiting []*caller) error {
	for _, c := range waiting {
		c.conn.Close()
	}
	live, err := r.live(ctx)
	if err != nil {
		return err
	}
	return r.cancel(ctx, live)
}
