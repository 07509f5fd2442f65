// Package modeltest tests the supervisor against a model of it: random clients
// use a supervisor whose helpers begin, work, obey and end in every way, while
// the test stops it and kills it at any instruction.
//
// # What the model is
//
// Three kinds of processes take part. The test process is the clients: it draws
// what they do, remembers what was acknowledged, and knows what each job may
// have become. A daemon is a process with a supervisor in it, which carries out
// orders of the test, and may be killed. The helpers which this supervisor starts
// have a behavior that the test drew for them. Daemon and helpers are this
// package's test binary, built without what only the test process needs (the tag
// lean).
//
//	model_test.go     TestModel, a run of it from its begin to its end
//	draw_test.go      what is drawn: steps, requests, behaviors of helpers
//	steps_test.go     a step of the clients, and what its answer means
//	verify_test.go    a job held against what the model knows of it
//	outcomes_test.go  how a job may end, by its helper's behavior and what was done to it
//	daemon_test.go    the daemon, both sides: orders and answers, its start and its death
//	checks_test.go    in the daemon, after each step: locks, order, slots, shares, what people see
//	events_test.go    in the daemon, at each event: numbers, states and percent of each job
//	helper_test.go    a helper that behaves as drawn, and the list of those alive
//
// # What it draws
//
// A run is some hundred steps (drawStep): a request, its repetition or retry, a
// verb on a job (cancel, pause, resume, limit, priority, label, pin, forget,
// wait), other limits, a drain, a pruning of the history, a signal to a helper,
// several of these at once, a restart or a kill of the daemon. A request has
// objects and modes that meet those of others, windows, keys that were used
// before, and a helper that is silent, crashes, lies about its progress, writes
// what is no frame, or ignores what it is told.
//
// # What it checks
//
// After each step: who holds locks together may; who waits waits for those in its
// way and for nobody else; nobody is passed by a later one in its way; slots are
// given in order, all that are free and none beyond the limits; those under a cap
// on rates keep to it together; no process is alive without a record, locks and a
// slot; percent does not fall (checks_test.go). Of the events: none is lost,
// doubled or out of order, and states move as they may (events_test.go). Of the
// answers: what was acknowledged is there, however often the daemon died; a job
// ends once, in a way that its helper and its clients allow (verify_test.go,
// outcomes_test.go). After a run: no process, file, goroutine or descriptor is
// there that should not be.
//
// # How to replay a failure
//
// What the clients do depends on the seed alone; when the helpers run does not.
// A failure names its part and its seed:
//
//	go test ./internal/supervisor/modeltest -run 'TestModel/3' -rapid.seed=N
//
// Without the part (-run TestModel) all of them do the same at once, which shows
// a rare order sooner. A busy machine beside it shows still others.
package modeltest
