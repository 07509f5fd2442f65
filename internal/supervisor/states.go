package supervisor

import (
	"fmt"
	"slices"

	"storaged/internal/record"
)

// unheard is a cancel of which the helper's word found no room in the FIFO.
const unheard = "a signal from outside, which only the result tells"

// moves is the state machine: what may follow on each state, and when it does.
// A move that is not here is a bug of ours.
var moves = map[record.State]map[record.State]string{
	record.Queued: {
		record.Starting:  "locks and a slot are granted",
		record.Succeeded: "another job that began after this one was asked for has done the same work",
		record.Failed:    "the wait for locks was too long, the catalog refused at the grant, another job that did the same work failed, or the daemon that had a client's file or stream for it is gone",
		record.Canceled:  "canceled while it waited",

		record.RollingBack: "it was interrupted earlier, and is not to go on: another helper undoes what there is",
	},
	record.Starting: {
		record.Running:    "the helper said HELLO and got GO",
		record.Canceling:  "canceled before the helper began",
		record.Failed:     "the helper could not be started; nothing was touched",
		record.Canceled:   "a signal from outside stopped the helper before it got GO",
		record.Recovering: "the daemon was away, or a helper that was to go on died",
	},
	record.Running: {
		record.Paused:      "the helper says that it does no I/O",
		record.Finalizing:  "the helper passed its point of no return",
		record.Canceling:   "canceled, or a signal from outside",
		record.RollingBack: "the helper undoes its work, or another does after its death",
		record.Succeeded:   "the result says so and the exit status agrees",
		record.Failed:      "the result says so, or there is none and nothing to undo",
		record.Canceled:    unheard,
		record.Recovering:  "the daemon was away, or the helper died and the job can go on",
	},
	record.Paused: {
		record.Running:     "no reason to pause is left",
		record.Finalizing:  "the pause came after the point of no return",
		record.Canceling:   "canceled; a canceled job does not stay paused",
		record.RollingBack: "another helper undoes the work after the first one's death",
		record.Succeeded:   "the pause came too late",
		record.Failed:      "the helper ended with nothing to undo",
		record.Canceled:    unheard,
		record.Recovering:  "the daemon was away, or the helper died and the job can go on",
	},
	record.Finalizing: {
		record.RollingBack: "another helper settles it after the first one's death",
		record.Succeeded:   "the result says so and the exit status agrees",
		record.Failed:      "the result says so",
		record.Canceling:   "a cancel with now, or a signal from outside that the helper still obeyed",
		record.Canceled:    unheard,
		record.Recovering:  "the daemon was away, or the helper died and the job can go on",
	},
	record.Canceling: {
		record.RollingBack: "the helper undoes its work, or another does after its death",
		record.Canceled:    "all I/O has stopped and there is nothing left to undo",
		record.Succeeded:   "it finished before the cancel took effect",
		record.Failed:      "it failed before the cancel took effect, or could not be undone",
		record.Recovering:  "the daemon was away",
	},
	record.RollingBack: {
		record.Canceled:   "undone after a cancel",
		record.Failed:     "undone after a failure, or not undone",
		record.Succeeded:  "it was found to have been complete",
		record.Recovering: "the daemon was away",
	},
	record.Recovering: {
		record.Queued:      "the helper had not begun and starts anew, or the job goes on from its checkpoint",
		record.Running:     "the helper lives and answered",
		record.Paused:      "the helper lives and is paused",
		record.Finalizing:  "the helper lives and is past its point of no return",
		record.Canceling:   "the helper lives and is being canceled",
		record.RollingBack: "the helper lives and undoes its work, or another does after its death",
		record.Succeeded:   "the result was found",
		record.Failed:      "the result was found, or nothing can be undone",
		record.Canceled:    "the result was found, or the helper had not begun",
	},
}

// mayMove reports whether a job may go from one state to another.
func mayMove(from, to record.State) bool {
	_, ok := moves[from][to]
	return ok
}

// mustMove panics when the move is not in the table.
func mustMove(from, to record.State) {
	if !mayMove(from, to) {
		panic(fmt.Sprintf("internal error: a job cannot go from %s to %s", from, to))
	}
}

// action is what somebody asks of a job.
type action string

const (
	actCancel   action = "cancel"
	actKill     action = "cancel now"
	actPause    action = "pause"
	actResume   action = "resume"
	actLimit    action = "limit"
	actPriority action = "priority"
	actNote     action = "label or pin"
	actForget   action = "forget"
)

// answer is what an action meets in a state: an effect, or a refusal.
type answer struct {
	effect  string       // what it does; "" where it is refused
	refusal string       // completes "job 12 …"
	hint    string       // %s stands for call
	call    *record.Call // that helps, but for the job's number; nil: none
}

const ended = "has ended"

// cancelNow goes on where the point of no return was passed and nothing comes.
var cancelNow = record.Do("job.cancel").With("now")

// answers has one row per action and one entry per state. A missing entry of a
// terminal state is the refusal "has ended".
var answers = map[action]map[record.State]answer{
	actCancel: {
		record.Queued:      {effect: "ends at once"},
		record.Starting:    {effect: "the helper is stopped before it begins"},
		record.Running:     {effect: "the ladder below"},
		record.Paused:      {effect: "the ladder below; the pause is over"},
		record.Finalizing:  {refusal: "is being completed; a cancel comes too late", hint: "if it does not come to its end: %s", call: &cancelNow},
		record.Canceling:   {effect: "nothing more"},
		record.RollingBack: {refusal: "is undoing its work already", hint: "wait for it; what it undoes cannot be left half undone"},
		record.Recovering:  {effect: "recorded, done as soon as the truth is known"},
	},
	actKill: {
		record.Queued:      {effect: "ends at once"},
		record.Starting:    {effect: "the helper is killed before it begins"},
		record.Running:     {effect: "killed at once; another helper undoes its work"},
		record.Paused:      {effect: "killed at once; another helper undoes its work"},
		record.Finalizing:  {effect: "killed at once; another helper finds out whether it was complete"},
		record.Canceling:   {effect: "killed at once; another helper undoes its work"},
		record.RollingBack: {refusal: "is undoing its work already", hint: "wait for it; what it undoes cannot be left half undone"},
		record.Recovering:  {effect: "recorded, done as soon as the truth is known"},
	},
	actPause: {
		record.Queued:      {effect: "holds it in the queue"},
		record.Starting:    {effect: "recorded, the helper begins paused"},
		record.Running:     {effect: "the helper stops its I/O"},
		record.Paused:      {effect: "one more reason"},
		record.Finalizing:  {refusal: "is being completed and cannot be paused"},
		record.Canceling:   {refusal: "is being canceled and cannot be paused"},
		record.RollingBack: {refusal: "is undoing its work and cannot be paused"},
		record.Recovering:  {effect: "recorded, told to the helper as soon as it answers"},
	},
	actResume: {
		record.Queued:      {effect: "takes the reason away"},
		record.Starting:    {effect: "takes the reason away"},
		record.Running:     {effect: "nothing"},
		record.Paused:      {effect: "takes the reason away; runs on when none is left"},
		record.Finalizing:  {effect: "nothing"},
		record.Canceling:   {refusal: "is being canceled and cannot be resumed"},
		record.RollingBack: {refusal: "is undoing its work and cannot be resumed"},
		record.Recovering:  {effect: "recorded, told to the helper as soon as it answers"},
	},
	actLimit: {
		record.Queued:      {effect: "recorded"},
		record.Starting:    {effect: "recorded, told with GO"},
		record.Running:     {effect: "told to the helper"},
		record.Paused:      {effect: "told to the helper"},
		record.Finalizing:  {refusal: "is being completed; a limit comes too late"},
		record.Canceling:   {refusal: "is being canceled; a limit has no effect"},
		record.RollingBack: {refusal: "is undoing its work; a limit has no effect"},
		record.Recovering:  {effect: "recorded, told to the helper as soon as it answers"},
	},
	actPriority: {
		record.Queued:      {effect: "moves it in the queue"},
		record.Starting:    {effect: "recorded"},
		record.Running:     {effect: "recorded"},
		record.Paused:      {effect: "recorded"},
		record.Finalizing:  {refusal: "is being completed; its priority does not matter any more"},
		record.Canceling:   {refusal: "is being canceled; its priority does not matter any more"},
		record.RollingBack: {refusal: "is undoing its work; its priority does not matter any more"},
		record.Recovering:  {effect: "recorded"},
	},
	actNote:   everywhere(answer{effect: "recorded"}),
	actForget: forgetAnswers(),
}

func everywhere(a answer) map[record.State]answer {
	row := map[record.State]answer{}
	for _, s := range record.States() {
		row[s] = a
	}
	return row
}

func forgetAnswers() map[record.State]answer {
	row := everywhere(answer{refusal: "has not ended", hint: "cancel it first, or wait for its end"})
	for _, s := range record.States() {
		if s.Terminal() {
			row[s] = answer{effect: "removes the record, its log and its files"}
		}
	}
	return row
}

// answerTo looks an action up.
func answerTo(a action, s record.State) answer {
	if got, ok := answers[a][s]; ok {
		return got
	}
	if !s.Terminal() {
		panic(fmt.Sprintf("internal error: no answer to %q in state %s", a, s))
	}
	return answer{refusal: ended}
}

// permit gives nil when the action is allowed in the job's state, else the
// refusal.
func permit(a action, j *record.Job) error {
	got := answerTo(a, j.State)
	if got.effect != "" {
		return nil
	}
	text := got.refusal
	if text == ended {
		text = fmt.Sprintf("%s (%s)", ended, j.State)
	}
	e := record.Errorf(record.WrongState, "job %d %s", j.Number, text)
	switch {
	case got.call != nil:
		call := *got.call
		call.Args = []string{fmt.Sprint(j.Number)}
		e = e.WithHint(got.hint, call)
	case got.hint != "":
		e = e.WithHint("%s", got.hint)
	}
	return e
}

// pauseSet adds or removes a reason; the set is kept sorted.
func pauseSet(reasons []string, reason string, on bool) []string {
	out := slices.DeleteFunc(slices.Clone(reasons), func(r string) bool { return r == reason })
	if on {
		out = append(out, reason)
		slices.Sort(out)
	}
	return out
}
