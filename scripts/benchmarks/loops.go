package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
)

const (
	loops      = 100 // at a time
	loopRounds = 2   // of each
)

// laps are what each round of a loop does, each command by a virsh of its own. NAME is
// that of a volume of the loop's own, FROM one that there is.
var laps = map[string][][]string{
	"look": {{"pool-list"}, {"pool-info", "POOL"}, {"vol-list", "POOL"}, {"vol-info", "FROM", "POOL"}, {"vol-dumpxml", "FROM", "POOL"}},
	"make": {{"vol-create-as", "POOL", "NAME", "1M"}, {"vol-info", "NAME", "POOL"}, {"vol-list", "POOL"}, {"vol-dumpxml", "NAME", "POOL"}, {"vol-delete", "NAME", "POOL"}},
}

// loop does in many shells at once what scripts do with virsh: args are the URI, a pool,
// a volume in it, and what is done.
func loop(ctx context.Context, args []string) error {
	if len(args) != 4 || laps[args[3]] == nil {
		return errors.New("usage: benchmarks DIR-OF-BINARIES loop URI POOL VOLUME look|make")
	}
	var all sync.WaitGroup
	failures := make([]error, loops)
	for i := range loops {
		all.Go(func() {
			for range loopRounds {
				failures[i] = errors.Join(failures[i], lap(ctx, args, fmt.Sprint("loop-", i)))
			}
		})
	}
	all.Wait()
	return errors.Join(failures...)
}

// lap is one round.
func lap(ctx context.Context, args []string, volume string) error {
	names := strings.NewReplacer("POOL", args[1], "FROM", args[2], "NAME", volume)
	for _, command := range laps[args[3]] {
		var words []string
		for _, w := range command {
			words = append(words, names.Replace(w))
		}
		if err := virsh(ctx, args[0], words...); err != nil {
			return err
		}
	}
	return nil
}
