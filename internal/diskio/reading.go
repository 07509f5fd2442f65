package diskio

import (
	"context"
	"sync"
)

// reading reads data of a content in its order, with as many requests at a time
// as the content wants. Of a file that is one: the kernel reads ahead.
type reading struct {
	p     *Pacer
	c     Content
	cache *residency
	bufs  [][]byte // one for each request
	free  bool     // of the limit, which who writes the data spends
}

// newReading begins to read a content, of which what lies behind end is of no
// interest. Its maker ends it by cache.close.
func newReading(p *Pacer, c Content, end int64) *reading {
	r := &reading{p: p, c: c, cache: newResidency(c, end)}
	n := 1
	if _, ok := c.(Parallel); ok {
		n = requests(c)
	}
	for range n {
		r.bufs = append(r.bufs, alignedBuffer(chunkBytes))
	}
	return r
}

// each calls take with the data of an extent, part by part.
func (r *reading) each(ctx context.Context, x Extent, take func(buf []byte) error) error {
	if len(r.bufs) > 1 && x.Len > chunkBytes {
		return r.ahead(ctx, x, take)
	}
	for x.Len > 0 {
		c := x.cut()
		r.cache.reach(c.off)
		for c.len > 0 {
			n, err := r.read(ctx, r.bufs[0], c)
			if err == nil {
				err = take(r.bufs[0][:n])
			}
			if err != nil {
				return err
			}
			c.off, c.len = c.off+n, c.len-n
		}
	}
	return nil
}

// read reads the beginning of c, all of it unless there is a limit.
func (r *reading) read(ctx context.Context, buf []byte, c chunk) (n int64, err error) {
	if r.free {
		n = c.len
		_, err = r.p.admit(ctx, 0, false)
	} else {
		n, err = r.p.admit(ctx, c.len, false)
	}
	if err != nil {
		return 0, err
	}
	err = readFull(r.c, buf[:n], c.off)
	r.p.Finished(Moved{Read: n})
	return n, err
}

// request is a chunk that is being read.
type request struct {
	buf  []byte
	done chan error // has one place
}

// ahead is each with several requests at a time.
func (r *reading) ahead(ctx context.Context, x Extent, take func(buf []byte) error) error {
	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	made := 0
	var open []request // the earliest first
	for x.Len > 0 || len(open) > 0 {
		for x.Len > 0 && len(open) < len(r.bufs) {
			c := x.cut()
			next := request{r.bufs[made%len(r.bufs)][:c.len], make(chan error, 1)}
			made, open = made+1, append(open, next)
			group.Go(func() { next.done <- r.fill(ctx, next.buf, c) })
		}
		err := <-open[0].done
		if err == nil {
			err = take(open[0].buf)
		}
		if err != nil {
			return err
		}
		open = open[1:]
	}
	return nil
}

// fill reads all of c.
func (r *reading) fill(ctx context.Context, buf []byte, c chunk) error {
	for c.len > 0 {
		n, err := r.read(ctx, buf, c)
		if err != nil {
			return err
		}
		buf, c.off, c.len = buf[n:], c.off+n, c.len-n
	}
	return nil
}
