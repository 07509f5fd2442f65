package service

import (
	"testing"
	"testing/synctest"
	"time"

	"storaged/internal/record"
	"storaged/internal/store"
)

// A pool is read once for all who ask meanwhile and for a second after, and rests for
// longer if that took long.
func TestPoolsAreReadOnceForAllWhoLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var rs readings
		p := &store.Pool{Pool: record.Pool{UUID: "u"}}
		began, took := 0, 20*time.Millisecond
		read := func(*store.Pool) {
			began++
			<-time.After(took)
		}
		after := func(d time.Duration) *reading {
			<-time.After(d)
			return rs.join(p, read)
		}
		first := rs.join(p, read)
		if after(time.Millisecond) != first || after(recentFor) != first {
			t.Error("it is read again at once")
		}
		took = time.Second
		if second := after(took); second == first || after(5*time.Second) != second {
			t.Error("it is not read again, or does not rest")
		}
		third := after((recentShare + 1) * took)
		if rs.all.Wait(); third == first || began != 3 {
			t.Errorf("it was read %d times", began)
		}
	})
}
