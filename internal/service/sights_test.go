package service

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// viewing is a pool that is looked at in the time that it takes.
type viewing struct {
	sights
	took  time.Duration
	err   error
	looks []string // at which volumes
}

func (v *viewing) ask(name string) *sight {
	return v.want("u", name, func(batch []*sight) error {
		v.looks = append(v.looks, strings.Join(namesOf(batch), " "))
		<-time.After(v.took)
		return v.err
	})
}

// Who asks while a pool is looked at gets the next look, with all others who do.
func TestVolumesAreLookedAtTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := viewing{took: time.Millisecond}
		first := v.ask("a")
		synctest.Wait()
		again, other := v.ask("a"), v.ask("b")
		if again == first {
			t.Error("a look that has begun is given to who asks later")
		}
		if v.ask("a") != again || v.ask("b") != other {
			t.Error("two looks are wanted for one")
		}
		long := strings.Repeat("x", 250)
		for i := range 13 {
			v.ask(long + string(rune('a'+i)))
		}
		<-other.done
		v.all.Wait()
		if len(v.looks) != 3 || v.looks[0] != "a" || !strings.HasPrefix(v.looks[1], "a b "+long) {
			t.Errorf("looked at %q", v.looks)
		}
		v.sights.mu.Lock()
		defer v.sights.mu.Unlock()
		if q := v.of["u"]; !q.began.IsZero() || len(q.waiting) > 0 {
			t.Errorf("at the end %+v", q)
		}
	})
}

// A pool that does not answer is left alone by those who can do without, and for longer
// where it took long to find that out; and then it is forgotten.
func TestPoolThatDoesNotAnswerIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := viewing{took: freshTimeout, err: errors.New("it hangs")}
		v.ask("a")
		var mute []time.Duration
		begun := time.Now()
		for time.Since(begun) < time.Hour {
			if v.mute("u") {
				mute = append(mute, time.Since(begun))
			}
			<-time.After(time.Second)
		}
		if n := len(mute); n == 0 || mute[0] <= soon || mute[0] > 2*soon || mute[n-1] < restShare*freshTimeout || mute[n-1] > (restShare+2)*freshTimeout {
			t.Errorf("it is left alone at %v", mute)
		}
		v.err = nil
		v.want("other", "a", func([]*sight) error { return nil })
		v.all.Wait()
		if v.mute("u") || v.of["u"] != nil {
			t.Error("it is not forgotten")
		}
	})
}
