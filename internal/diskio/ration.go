package diskio

import (
	"context"
	"time"
)

// Ration is how much may be written before it is asked for more.
type Ration struct {
	Bytes int64         // not less than two grains
	Grain int64         // bytes, of which what is written takes a whole number where it goes; at least 1
	For   time.Duration // it lapses after that; 0: it does not
}

// Rations gives them. It may wait for room. Its error is that of the transfer which asks.
type Rations func(ctx context.Context) (Ration, error)

// RationBy has give asked before any more is written, and again when what it gave is used
// up, or has lapsed. It is never asked twice at a time. What is only read is not rationed, nor
// what cannot take room: zeros that are made without being written, say.
func (p *Pacer) RationBy(give Rations) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.give, p.ration, p.lapses = give, Ration{}, time.Time{}
}

// untilGiven is the wait of somebody who has to ask for a ration.
const untilGiven = untilChanged - 1

// rationed is how much of so many bytes may be written now, 0 if it is to be asked for more.
// The caller holds mu.
func (p *Pacer) rationed(want int64) int64 {
	r := p.ration
	if p.give == nil || want == 0 {
		return want
	}
	if r.Grain == 0 || r.For > 0 && !p.fresh && time.Now().After(p.lapses) {
		return 0
	}
	return min(want, max(r.Bytes/r.Grain-1, 0)*r.Grain) // it may begin and end within a grain
}

// spend takes so many bytes from the ration. The caller holds mu.
func (p *Pacer) spend(n int64) {
	if g := p.ration.Grain; p.give != nil && n > 0 {
		p.fresh = false
		p.ration.Bytes -= ((n-1)/g + 2) * g
	}
}

// ask asks for a ration, unless somebody else just has.
func (p *Pacer) ask(ctx context.Context) error {
	select {
	case p.asking <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-p.asking }()
	p.mu.Lock()
	give, has := p.give, p.rationed(1) > 0
	p.mu.Unlock()
	if has {
		return nil
	}
	r, err := give(ctx)
	if err != nil {
		return err
	}
	r.Grain = max(r.Grain, 1)
	r.Bytes = max(r.Bytes, 2*r.Grain)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ration, p.lapses, p.fresh = r, time.Now().Add(r.For), true
	return nil
}
