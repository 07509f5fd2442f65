package virtrpc

import (
	"math"
	"strings"
	"time"

	"storaged/internal/record"
	"storaged/internal/virtrpc/wire"
)

// maxRepeated bounds parameters of one name, of which jobs over many volumes have as many.
const maxRepeated = 32

// params are what is said of a job. What is not known is not said.
type params []wire.Param

func (p *params) number(name string, n uint64) {
	*p = append(*p, wire.Param{Field: name, Type: wire.ParamUlong, Number: n})
}

func (p *params) int(name string, n int) {
	*p = append(*p, wire.Param{Field: name, Type: wire.ParamInt, Number: uint64(uint32(n))})
}

func (p *params) truth(name string, is bool) {
	v := wire.Param{Field: name, Type: wire.ParamBool}
	if is {
		v.Number = 1
	}
	*p = append(*p, v)
}

// text says nothing for "".
func (p *params) text(name, s string) {
	if s != "" {
		*p = append(*p, wire.Param{Field: name, Type: wire.ParamString, Text: strings.ReplaceAll(s, "\x00", "")})
	}
}

// when says a time in milliseconds since 1970.
func (p *params) when(name string, t *time.Time) {
	if t != nil && !t.IsZero() {
		p.number(name, uint64(t.UnixMilli()))
	}
}

// repeated says the first values of a list.
func repeated[T any](p *params, name string, all []T, text func(T) string) {
	for _, v := range all[:min(len(all), maxRepeated)] {
		p.text(name, text(v))
	}
}

// jobParams are the parameters of JobGetStats, by the names of libvirt's for a domain's job
// where those say the same.
func jobParams(j *record.Job) []wire.Param {
	var p params
	if j.Number != 0 {
		p.identity(j)
		p.progress(j)
		p.waiting(j)
		p.end(j)
	}
	return p
}

// identity is what does not change while the job lives.
func (p *params) identity(j *record.Job) {
	p.number("number", uint64(j.Number))
	p.text("id", j.ID)
	p.text("kind", string(j.Kind))
	repeated(p, "object", j.Objects, record.Object.String)
	p.text("state", string(j.State))
	p.int("owner_uid", j.Owner.UID)
	p.text("owner", j.Owner.User)
	p.int("owner_pid", j.Owner.PID)
	p.text("owner_command", j.Owner.Command)
	p.text("owner_via", j.Owner.Via)
	p.when("created", &j.Created)
	p.when("started", j.Started)
	p.when("ended", j.Ended)
}

func (p *params) progress(j *record.Job) {
	if j.Phase != nil {
		p.text("phase", j.Phase.Name)
		p.int("phase_index", j.Phase.Index)
		p.int("phase_count", j.Phase.Count)
	}
	if percent := j.Progress.Percent; percent != nil {
		*p = append(*p, wire.Param{Field: "progress", Type: wire.ParamDouble, Number: math.Float64bits(*percent)})
	}
	i := jobInfo(j)
	p.number("time_elapsed", i.TimeElapsed)
	if j.Estimate.RemainingS != nil {
		p.number("time_remaining", i.TimeRemaining)
	}
	p.when("stalled", j.Estimate.StalledSince)
	if j.Progress.Unit == "bytes" {
		p.number("data_total", i.DataTotal)
		p.number("data_processed", i.DataProcessed)
		p.number("data_remaining", i.DataRemaining)
		p.number("disk_bps", uint64(max(j.Progress.RateBytes, 0)))
	}
	if j.Limit != nil {
		p.number("limit", uint64(*j.Limit))
	}
	p.text("priority", string(j.Priority))
}

func (p *params) waiting(j *record.Job) {
	repeated(p, "waiting_on", j.WaitingOn, record.Blocker.String)
	repeated(p, "paused_by", j.PauseReasons, func(s string) string { return s })
	p.truth("cancelable", j.Cancelable)
	repeated(p, "warning", j.Warnings, func(s string) string { return s })
}

// end is what has come of the job.
func (p *params) end(j *record.Job) {
	if !j.State.Terminal() {
		return
	}
	p.truth("success", j.State == record.Succeeded)
	if j.Error != nil {
		p.text("errmsg", j.Error.Message)
		p.text("errcode", string(j.Error.Code))
	}
	p.text("rollback", string(j.Rollback))
	if j.Result != nil {
		p.text("method", j.Result.Method)
	}
}
